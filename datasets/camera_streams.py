"""Every frame of the cameras of one episode, as they came: `frames/<id>.hdf5`, beside the episode's own file.

Raw frames lie there as raw bytes and JPEG or PNG as they are, so that recording costs no more than writing them. Each
has its CRC-32. The file is written as the frames come and never again: it holds nothing that an episode needs (the
observations have the frames of their ticks), and dropping, restoring and relabelling an episode leave it alone.

    <camera>/stamp, receive  (S,) int64, ns on the recorder's clock, in the order of coming
    <camera>/crc             (S,) uint32
    <camera>/value           (S, H, W, 3) uint8, for raw frames
    <camera>/bytes, end      (B,) uint8 and (S,) int64: frame k is bytes[end[k - 1]:end[k]], for packed ones
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from understudy.datasets.disk import require_space
from understudy.datasets.hdf5 import GROWING, array, members, open_hdf5, put_rows, subgroup
from understudy.errors import DatasetError, unknown_name

Array = NDArray[Any]
FRAMES = "frames"
"""The folder of a dataset that these files are in."""
ROWS = 256
PIECE = 1 << 16
ROOM = 1 << 22
"""Bytes laid out ahead for packed frames."""
NO_STAMP = np.iinfo(np.int64).min


@dataclass(frozen=True)
class CameraFrame:
    """One frame as it came."""

    stamp_ns: int
    receive_ns: int
    pixels: Array
    """(H, W, 3) uint8, red first; read-only. With `packed` it need not be unpacked yet."""
    packed: Array | None = None
    """(B,) uint8, the JPEG or PNG it came as; None for a raw one."""

    @property
    def content(self) -> Array:
        """What is kept of it: the packed bytes where it came packed, else its pixels."""
        return self.pixels if self.packed is None else self.packed

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return int(self.content.nbytes)


def frames_file(dataset: Path, id: str) -> Path:
    """Where the frames of an episode are, if they were kept."""
    return dataset / FRAMES / f"{id}.hdf5"


class CameraWriter:
    """Writes frames as they come; default library version, and stamps last, so that a kill leaves what was flushed."""

    def __init__(self, path: Path) -> None:
        """Make the file `path`, and its folder.

        Raises:
            OSError: it exists, or cannot be made.
        """
        path.parent.mkdir(exist_ok=True)
        self._path = path
        self._file = h5py.File(path, "x", **GROWING)
        self._cameras: dict[str, _Camera] = {}

    def write(self, camera: str, frames: Sequence[CameraFrame]) -> None:
        """Add frames of one camera.

        Raises:
            OSError: the disk is full or fails.
            ValueError: a frame has another size than the first.
        """
        if not frames:
            return
        require_space(self._path.parent, sum(frame.nbytes for frame in frames))
        if camera not in self._cameras:
            self._cameras[camera] = _Camera(self._file.create_group(camera), frames[0])
            self._file.flush()
        self._cameras[camera].put(frames)
        self._file.flush()
        self._cameras[camera].vouch(frames)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Camera:
    """The arrays of one camera."""

    def __init__(self, group: h5py.Group, first: CameraFrame) -> None:
        self.rows = 0
        self.bytes_end = 0
        self.packed = first.packed is not None
        self.columns = {name: _column(group, name, np.int64) for name in ("stamp", "receive")}
        self.columns["crc"] = _column(group, "crc", np.uint32)
        if self.packed:
            self.columns["end"] = _column(group, "end", np.int64)
            self.content = group.create_dataset("bytes", (0,), np.uint8, maxshape=(None,), chunks=(PIECE,))
        else:
            shape = first.pixels.shape
            room = {"maxshape": (None, *shape), "chunks": (1, *shape)}
            self.content = group.create_dataset("value", (0, *shape), np.uint8, **room)

    def put(self, frames: Sequence[CameraFrame]) -> None:
        """Write everything but the stamps."""
        end = self.rows + len(frames)
        if end > len(self.columns["stamp"]):
            for column in self.columns.values():
                column.resize(-(-end // ROWS) * ROWS, axis=0)
        if self.packed:
            self._put_packed(frames)
        else:
            self._put_raw(frames, end)
        self._note("receive", [frame.receive_ns for frame in frames])
        self._note("crc", [isal_zlib.crc32(np.ascontiguousarray(frame.content)) for frame in frames])

    def _put_raw(self, frames: Sequence[CameraFrame], end: int) -> None:
        if end > len(self.content):
            self.content.resize(-(-end // ROWS) * ROWS, axis=0)
        for row, frame in enumerate(frames, self.rows):
            if frame.packed is not None or frame.pixels.shape != self.content.shape[1:]:
                raise ValueError(f"a frame has shape {frame.pixels.shape}; expected {self.content.shape[1:]}")
            self.content.id.write_direct_chunk((row, 0, 0, 0), np.ascontiguousarray(frame.pixels))

    def _put_packed(self, frames: Sequence[CameraFrame]) -> None:
        parts = [frame.packed for frame in frames if frame.packed is not None]
        if len(parts) != len(frames):
            raise ValueError("a raw frame came among packed ones")
        ends = self.bytes_end + np.cumsum([len(part) for part in parts])
        if ends[-1] > len(self.content):
            self.content.resize(-(-int(ends[-1]) // ROOM) * ROOM, axis=0)
        put_rows(self.content, self.bytes_end, np.concatenate(parts))
        self._note("end", ends.tolist())
        self.bytes_end = int(ends[-1])

    def vouch(self, frames: Sequence[CameraFrame]) -> None:
        """Write the stamps of what was put."""
        self._note("stamp", [frame.stamp_ns for frame in frames])
        self.rows += len(frames)

    def _note(self, column: str, values: list[int]) -> None:
        put_rows(self.columns[column], self.rows, np.array(values, np.int64))


def _column(group: h5py.Group, name: str, dtype: Any) -> h5py.Dataset:
    fill = NO_STAMP if dtype is np.int64 else 0
    return group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(ROWS,), fillvalue=fill)


def kept_frames(path: Path) -> dict[str, int]:
    """Camera -> frames that are whole.

    Raises:
        DatasetError: the file is missing or cannot be read.
    """
    with open_hdf5(path, "file of camera frames") as file:
        return {camera: _rows(subgroup(file, camera)) for camera in members(file)}


def read_frames_of(path: Path, camera: str) -> Iterator[CameraFrame]:
    """The frames of one camera in the order they came, one in memory at a time, unpacked.

    Raises:
        DatasetError: the file is missing, cannot be read, or a frame is not what was written; names it.
        InputError: there is no such camera in it.
    """
    with open_hdf5(path, "file of camera frames") as file:
        if camera not in file:
            raise unknown_name("camera", camera, members(file))
        group = subgroup(file, camera)
        rows = _rows(group)
        stamps, receives, crcs = (np.asarray(array(group, name)[:rows]) for name in ("stamp", "receive", "crc"))
        ends = np.asarray(array(group, "end")[:rows]) if "end" in group else None
        for row in range(rows):
            packed = None
            if ends is None:
                content = np.asarray(array(group, "value")[row])
            else:
                content = packed = np.asarray(array(group, "bytes")[ends[row - 1] if row else 0 : ends[row]])
            if isal_zlib.crc32(content) != crcs[row]:
                raise DatasetError(f"{path}: frame {row} of {camera!r} is damaged; its checksum does not match.")
            pixels = content if packed is None else unpack_picture(packed)
            yield CameraFrame(int(stamps[row]), int(receives[row]), pixels, packed)


def unpack_picture(packed: Array) -> Array:
    """(H, W, 3) uint8 of a JPEG or PNG (B,).

    Raises:
        DatasetError: it is neither, or cut.
        MissingExtra: Pillow is not installed.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(packed.tobytes()), formats=("PNG", "JPEG")) as picture:
            return np.asarray(picture.convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise DatasetError(f"A packed frame is no readable JPEG or PNG ({error}).") from error


def picture_size(packed: Array) -> tuple[int, int]:
    """Width and height of a JPEG or PNG (B,), from its header alone.

    Raises:
        DatasetError: it is neither.
        MissingExtra: Pillow is not installed.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(packed.tobytes()), formats=("PNG", "JPEG")) as picture:
            return picture.width, picture.height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"A packed frame is no readable JPEG or PNG ({error}).") from error


def _rows(group: h5py.Group) -> int:
    stamps = np.asarray(array(group, "stamp")[()])
    return int(np.argmax(np.append(stamps, NO_STAMP) == NO_STAMP))
