"""Camera frames as MP4, through PyAV: written so that every frame can be found by its time, read by time.

Owns codecs and seeking. Files are opened as MP4 and nothing else, from an open file: what a stranger's file says cannot
make the decoder open another one, or a network address.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from understudy.errors import DatasetError

Codec = Literal["h264", "av1"]
_ENCODERS: dict[Codec, tuple[str, dict[str, str]]] = {
    # No frames that refer to later ones: times then begin at 0, as readers that compute an index from a time expect.
    "h264": ("libx264", {"bf": "0", "preset": "veryfast"}),
    "av1": ("libsvtav1", {"preset": "8", "svtav1-params": "pred-struct=1"}),
}
_KEY_FRAME_EVERY = 2
"""A random frame is then at most one frame away from one that stands alone; LeRobot chose the same."""
_FINEST_RATE = 1001


class VideoWriter:
    """One MP4 file that frames are added to, at a constant rate."""

    def __init__(self, path: Path, height: int, width: int, rate_hz: float, codec: Codec, quality: int) -> None:
        """Begin a file.

        Args:
            path: a file that does not exist.
            height: of every frame, pixels, even.
            width: of every frame, pixels, even.
            rate_hz: frames per second.
            codec: h264 opens everywhere; av1 is what LeRobot makes itself.
            quality: constant rate factor, lower is better and larger.

        Raises:
            DatasetError: the size is odd, which these codecs cannot hold.
        """
        import av

        if height % 2 or width % 2:
            raise DatasetError(
                f"Frames of {height}x{width} cannot become a video, which needs an even height and width; "
                "choose --images frames."
            )
        os.environ.setdefault("SVT_LOG", "1")  # else the encoder of AV1 prints a page about itself
        name, options = _ENCODERS[codec]
        rate = Fraction(rate_hz).limit_denominator(_FINEST_RATE)
        self._container = av.open(str(path), "w", format="mp4")
        settings = {**options, "crf": str(quality), "g": str(_KEY_FRAME_EVERY)}
        self._stream = cast(Any, self._container.add_stream(name, rate=rate, options=settings))
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "yuv420p"
        self._stream.codec_context.time_base = 1 / rate
        self.frames = 0
        """How many were added."""
        self.size = 0
        """Bytes of encoded frames so far."""

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Add the next frame (height, width, 3)."""
        import av

        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts = self.frames
        picture.time_base = self._stream.codec_context.time_base
        self._put(picture)
        self.frames += 1

    def _put(self, picture: Any) -> None:
        for packet in self._stream.encode(picture):
            self.size += packet.size
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file."""
        self._put(None)
        self._container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._container.close()


def frames_at(
    path: Path, times_s: Sequence[float], shape: tuple[int, int], tolerance_s: float
) -> Iterator[NDArray[np.uint8]]:
    """The frames (height, width, 3) of a video nearest to some times.

    Args:
        path: an MP4 file.
        times_s: ascending, at least `tolerance_s` apart.
        shape: height and width that its frames must have.
        tolerance_s: how far a frame may be from its time.

    Raises:
        DatasetError: not a readable video, frames of another size, or none near enough; names the file.
    """
    import av

    plain = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, MemoryError, OverflowError)
    wrong = (av.error.FFmpegError, *plain)
    try:
        with path.open("rb") as file, contextlib.closing(av.open(file, "r", format="mp4")) as container:
            if not container.streams.video:
                raise DatasetError(f"{path} has no video stream.")
            yield from _decode(container, path, times_s, shape, tolerance_s)
    except DatasetError:
        raise
    except wrong as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(f"{path}: not a readable video ({reason}).") from error


def _decode(
    container: Any, path: Path, times_s: Sequence[float], shape: tuple[int, int], tolerance_s: float
) -> Iterator[NDArray[np.uint8]]:
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise DatasetError(f"{path} is in a codec that is not read.")
    _require_size(path, (stream.codec_context.height, stream.codec_context.width), shape)
    container.seek(max(0, int((times_s[0] - tolerance_s) / stream.time_base)), stream=stream, backward=True)
    wanted = 0
    for picture in container.decode(stream):
        if picture.pts is None:
            continue
        time_s = float(picture.pts * stream.time_base)
        if time_s > times_s[wanted] + tolerance_s:
            break
        if time_s < times_s[wanted] - tolerance_s:
            continue
        _require_size(path, (picture.height, picture.width), shape)
        yield picture.to_ndarray(format="rgb24")
        wanted += 1
        if wanted == len(times_s):
            return
    raise DatasetError(f"{path} has no frame within {tolerance_s:.4f} s of {times_s[wanted]:.4f} s.")


def _require_size(path: Path, got: tuple[int, int], expected: tuple[int, int]) -> None:
    if got != expected:
        raise DatasetError(f"{path} has frames of {got[0]}x{got[1]}; expected {expected[0]}x{expected[1]}.")
