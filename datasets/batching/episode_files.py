"""Where the rows of episodes lie in their files, and bounded access to them without HDF5.

A committed episode keeps numbers uncompressed in one piece and camera frames in one chunk each, so that any row is one
positioned read. HDF5 is asked once an episode where things lie. Open files and tables are bounded, because ten thousand
episodes exceed what a process may open; and files are read rather than mapped, because mapped files count against a
limit of the address space.
"""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from understudy.datasets.episode import GROUP
from understudy.datasets.frames import holds_packed_frames, unpack_frame
from understudy.datasets.hdf5 import array, open_hdf5, subgroup
from understudy.datasets.schema import is_image
from understudy.datasets.seal import verify_seal
from understudy.errors import DatasetError, InputError

Array = NDArray[Any]


@dataclass(frozen=True)
class FileLimits:
    """What may be held at a time."""

    open_files: int = 256
    table_bytes: int = 64 << 20
    """Of the tables that say where rows lie, beside those of open files; a camera frame takes 16 bytes, an episode
    about 3 kB."""
    kept_bytes: int = 64 << 20
    """Of numbers that are kept while their file is open and used again, an equal share for each open file; an episode
    that has more is read row by row. 0: nothing is kept."""

    def __post_init__(self) -> None:
        for name, least in (("open_files", 1), ("table_bytes", 1), ("kept_bytes", 0)):
            if getattr(self, name) < least:
                raise InputError(f"Limits of files: {name} must be at least {least}, got {getattr(self, name)}.")


@dataclass(frozen=True)
class Place:
    """Where an array of an episode lies in its file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    """Of one row."""
    offset: int = 0
    """Of the first row, where rows lie in one piece."""
    chunks: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    """(N, 2) offset and bytes of each packed row; empty where rows lie in one piece."""

    row_bytes: int = field(init=False)
    """Bytes of one unpacked row."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "row_bytes", self.dtype.itemsize * math.prod(self.shape))


@dataclass(frozen=True)
class EpisodeReader:
    """Rows of one episode's arrays, while its file is open."""

    number: int
    path: Path
    handle: int
    steps: int
    places: Mapping[str, Place]
    kept: Mapping[str, Array] | None = None
    """All rows of the unpacked arrays, where they are kept."""

    def read_all(self) -> dict[str, Array]:
        """All rows of every unpacked array."""
        return {name: self.rows(name, 0, self.steps) for name, place in self.places.items() if not len(place.chunks)}

    def rows(self, name: str, start: int, stop: int) -> Array:
        """The rows [start, stop) of an unpacked array, in its stored type."""
        if self.kept is not None:
            return self.kept[name][start:stop]
        place = self.places[name]
        found = np.empty((stop - start, *place.shape), place.dtype)
        self.read_rows(name, start, found.reshape(-1).view(np.uint8).data)
        return found

    def read_rows(self, name: str, start: int, into: memoryview) -> None:
        """Fill `into` (bytes, whole rows of the stored type) with the rows from `start` on of an unpacked array.

        Raises:
            DatasetError: the file ends before them.
        """
        place = self.places[name]
        if os.preadv(self.handle, (into,), place.offset + start * place.row_bytes) != len(into):
            raise self.cut(name)

    def read_frame(self, name: str, row: int) -> NDArray[np.uint8]:
        """One camera frame; read-only.

        Raises:
            DatasetError: the file ends before it, or it cannot be unpacked.
        """
        place = self.places[name]
        offset, size = map(int, place.chunks[row])
        packed = os.pread(self.handle, size, offset)
        if len(packed) != size:
            raise self.cut(name)
        try:
            return unpack_frame(packed, place.shape)
        except DatasetError as error:
            raise DatasetError(f"{self.path}: {name}, row {row}: {error}") from error

    def cut(self, name: str) -> DatasetError:
        """The error of a file that ends too early."""
        return DatasetError(f"{self.path} ends before {name} does: it was cut. Restore it from a copy, or drop it.")


@dataclass
class _Open:
    reader: EpisodeReader
    users: int = 0


class EpisodeFiles:
    """Positioned reads from the arrays of many episode files; safe to share between threads and with forked children.

    Arrays are named as below `/episode`: `actions`, `obs/<key>`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        steps: Sequence[int],
        arrays: Sequence[str],
        *,
        limits: FileLimits = FileLimits(),
        verify: bool = False,
    ) -> None:
        """Nothing is opened yet.

        Args:
            paths: the files of the episodes.
            steps: how long each is.
            arrays: the arrays that will be read.
            limits: what may be held.
            verify: check every byte of a file against its seal before anything of it is used, once.
        """
        self._paths, self._steps, self._arrays = tuple(paths), tuple(steps), tuple(arrays)
        self._limits = limits
        self._verify = verify
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._tables: OrderedDict[int, tuple[tuple[int, ...], Mapping[str, Place], int]] = OrderedDict()
        self._table_bytes = 0
        self._verified: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("_paths", "_steps", "_arrays", "_limits", "_verify")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __del__(self) -> None:
        if self.__dict__.get("_pid") == os.getpid():
            self.close()

    def close(self) -> None:
        """Close what nobody is using; it is opened again when needed."""
        with self._lock:
            for number in [number for number, entry in self._open.items() if not entry.users]:
                os.close(self._open.pop(number).reader.handle)

    def acquire(self, number: int) -> EpisodeReader:
        """A reader of one episode; to be handed back with `release`.

        Raises:
            DatasetError: the file is gone, damaged, or not stored as this software stores episodes; names it.
        """
        if self._pid != os.getpid():  # the parent's lock may have been held by a thread that this child has not
            self._reset()
        with self._lock:
            entry = self._open.get(number)
            if entry is None:
                self._make_room()
                entry = self._open[number] = _Open(self._reader(number))
            else:
                self._open.move_to_end(number)
                if entry.reader.kept is None and self._may_keep(entry.reader):
                    entry.reader = dataclasses.replace(entry.reader, kept=entry.reader.read_all())
            entry.users += 1
            return entry.reader

    def release(self, reader: EpisodeReader) -> None:
        """Hand back what `acquire` gave."""
        with self._lock:
            self._open[reader.number].users -= 1

    def _may_keep(self, reader: EpisodeReader) -> bool:
        size = reader.steps * sum(place.row_bytes for place in reader.places.values() if not len(place.chunks))
        return size <= self._limits.kept_bytes // self._limits.open_files

    def _make_room(self) -> None:
        """Close the files that were longest not used; more may be open while more threads than that are reading."""
        while len(self._open) >= self._limits.open_files:
            oldest = next((number for number, entry in self._open.items() if not entry.users), None)
            if oldest is None:
                return
            os.close(self._open.pop(oldest).reader.handle)

    def _reader(self, number: int) -> EpisodeReader:
        path = self._paths[number]
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DatasetError(
                f"Episode file {path} cannot be opened ({error.strerror}); if it was dropped meanwhile, start anew."
            ) from error
        try:
            return EpisodeReader(number, path, handle, self._steps[number], self._places(number, handle))
        except BaseException:
            os.close(handle)
            raise

    def _places(self, number: int, handle: int) -> Mapping[str, Place]:
        """Where the arrays lie; looked up again when the file is another one than it was (a new label replaces it)."""
        status = os.fstat(handle)
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._tables.get(number)
        if known is not None:
            if known[0] == stamp:
                self._tables.move_to_end(number)
                return known[1]
            self._table_bytes -= self._tables.pop(number)[2]
        path = self._paths[number]
        if self._verify and number not in self._verified:
            verify_seal(path)
            self._verified.add(number)
        places = find_places(path, self._arrays, self._steps[number])
        size = sum(400 + place.chunks.nbytes for place in places.values())
        self._tables[number] = stamp, places, size
        self._table_bytes += size
        while self._table_bytes > self._limits.table_bytes and len(self._tables) > 1:
            self._table_bytes -= self._tables.popitem(last=False)[1][2]
        return places


def find_places(path: Path, arrays: Sequence[str], steps: int) -> dict[str, Place]:
    """Where arrays of an episode file lie.

    Raises:
        DatasetError: one is missing, has another length, or is not stored as this software stores it.
    """
    with open_hdf5(path, "episode file") as file:
        group = subgroup(file, GROUP)
        observed = subgroup(group, "obs") if any(name.startswith("obs/") for name in arrays) else group
        return {
            name: _place(array(observed, name[4:]) if name.startswith("obs/") else array(group, name), name, steps)
            for name in arrays
        }


def _place(stored: h5py.Dataset, name: str, steps: int) -> Place:
    if stored.ndim < 1 or len(stored) != steps:
        raise DatasetError(f"{name} has shape {stored.shape}; expected {steps} rows.")
    shape = tuple(map(int, stored.shape[1:]))
    if not is_image(name.removeprefix("obs/")):
        offset = stored.id.get_offset()
        if offset is None:
            raise DatasetError(f"{name} is not stored in one piece; it can only be loaded into memory.")
        return Place(stored.dtype, shape, int(offset))
    if not holds_packed_frames(stored):
        raise DatasetError(f"{name} is not stored one frame a chunk; it can only be loaded into memory.")
    chunks = np.zeros((steps, 2), np.int64)
    odd: list[int] = []

    def note(chunk: Any) -> None:
        chunks[chunk.chunk_offset[0]] = chunk.byte_offset, chunk.size
        if chunk.filter_mask:
            odd.append(chunk.chunk_offset[0])

    stored.id.chunk_iter(note)
    if odd or not np.all(chunks[:, 1] > 0):
        raise DatasetError(f"{name} has frames that are missing or not packed, it can only be loaded into memory.")
    return Place(stored.dtype, shape, 0, chunks)
