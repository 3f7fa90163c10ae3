"""Videos of environments: frames into an MP4 (H.264) or an animated GIF, one after the other, as they come.

`gymnasium.wrappers.RecordVideo` does the same with moviepy, for whoever has it; this needs the packages that read and
write our datasets' pictures anyway, and writes what is no environment too: recorded episodes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.errors import InputError

FORMATS = (".mp4", ".gif")
QUALITY = "18"
"""H.264's constant rate factor: 18 looks like the original."""
Frame = NDArray[np.uint8]


def require_video(path: Path) -> None:
    """Refuse a place where no video can be written, before work begins.

    Raises:
        InputError: another suffix than `FORMATS`, or a folder that does not exist.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: a video's name must end in {' or '.join(FORMATS)}.")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it, or give another.")


class VideoWriter:
    """A video file being written; a context manager. A file that got no frame is not made."""

    def __init__(self, path: Path, fps: float) -> None:
        """Args:
        path: .mp4 or .gif; overwritten.
        fps: frames a second.

        Raises:
            InputError: the place or the rate is no good.
        """
        require_video(path)
        if not (np.isfinite(fps) and fps > 0):
            raise InputError(f"A video's frames a second must be above 0, got {fps}.")
        self.frames = 0
        """How many were added."""
        self._sink: _Mp4 | _Gif = (_Mp4 if path.suffix.lower() == ".mp4" else _Gif)(path, fps)
        self._shape: tuple[int, ...] | None = None

    def add(self, frame: Frame) -> None:
        """Append a frame (height, width, 3).

        Raises:
            InputError: it is no picture, or of another size than those before.
        """
        frame = np.asarray(frame)
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise InputError(f"A frame must be (height, width, 3) of uint8, got {frame.shape} of {frame.dtype}.")
        if self._shape is not None and frame.shape != self._shape:
            raise InputError(f"Frame {self.frames} is {frame.shape}, and those before it are {self._shape}.")
        self._shape = frame.shape
        self._sink.add(frame)
        self.frames += 1

    def close(self) -> None:
        """Finish the file; safe to call twice."""
        self._sink.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_video(path: Path, frames: Iterable[Frame], fps: float) -> int:
    """Write frames (height, width, 3) at `fps` into an .mp4 or .gif; returns how many there were.

    Raises:
        InputError: see `VideoWriter`.
    """
    with VideoWriter(path, fps) as video:
        for frame in frames:
            video.add(frame)
    return video.frames


class _Mp4:
    def __init__(self, path: Path, fps: float) -> None:
        self._av: Any = _package("av")
        self._path, self._rate = path, Fraction(fps).limit_denominator(1000)
        self._container: Any = None

    def add(self, frame: Frame) -> None:
        height, width = frame.shape[:2]
        if self._container is None:
            self._container = self._av.open(str(self._path), "w")
            self._stream = self._container.add_stream("libx264", self._rate, options={"crf": QUALITY})
            self._stream.width, self._stream.height = width + width % 2, height + height % 2
            self._stream.pix_fmt = "yuv420p"  # what every player shows; it needs even sizes
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = self._av.VideoFrame.from_ndarray(even, format="rgb24")
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        if self._container is not None:
            self._container.mux(self._stream.encode())
            self._container.close()
            self._container = None


class _Gif:
    def __init__(self, path: Path, fps: float) -> None:
        self._image: Any = _package("PIL.Image")
        self._path, self._fps = path, fps
        self._frames: list[Any] = []

    def add(self, frame: Frame) -> None:
        self._frames.append(self._image.fromarray(frame))

    def close(self) -> None:
        if self._frames:
            first, *others = self._frames
            # GIF counts in hundredths of a second; players slow down what is below two of them
            duration_ms = max(20, round(100 / self._fps) * 10)
            first.save(self._path, save_all=True, append_images=others, duration=duration_ms, loop=0)
            self._frames = []


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"Videos are written by {name.split('.')[0]}, which is not installed: "
            "pip install 'understudy[sim]' brings it."
        ) from error
