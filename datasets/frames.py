"""Camera frames on disk: one HDF5 chunk each, DEFLATE at ISA-L's level 1.

Owns the packing. Any HDF5 library reads the result, because the stream is the one of HDF5's gzip filter; it is written
by ISA-L, which does at level 1 what zlib does several times slower (`understudy bench store` measures it, and
docs/reference/benchmarks.md has the table). Frames are packed and unpacked here rather than by HDF5's filter, which
holds a lock that keeps every other thread of the process from HDF5 meanwhile.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from isal import igzip_lib, isal_zlib
from numpy.typing import NDArray

from understudy.errors import DatasetError

LEVEL = 1
_UNPACKING_FAILED: Any = igzip_lib.IsalError  # which its own types call an instance
Frames = NDArray[np.uint8]


def frame_storage(frame: tuple[int, ...]) -> dict[str, Any]:
    """Options of `create_dataset` for frames of this shape: one chunk each."""
    return {"chunks": (1, *frame), "compression": "gzip", "compression_opts": LEVEL, "shuffle": False}


def pack_frame(frame: Frames) -> bytes:
    """One frame as the bytes of its chunk."""
    return isal_zlib.compress(np.ascontiguousarray(frame).data, LEVEL)


def unpack_frame(chunk: bytes, shape: tuple[int, ...]) -> Frames:
    """The frame of a chunk; read-only.

    Raises:
        DatasetError: the chunk does not hold exactly one frame of this shape.
    """
    size = int(np.prod(shape))
    try:
        values = isal_zlib.decompressobj().decompress(chunk, size + 1)
    except _UNPACKING_FAILED as error:
        raise DatasetError(f"A camera frame cannot be unpacked ({error}).") from error
    if len(values) != size:
        found = "more" if len(values) > size else f"{len(values)} bytes"
        raise DatasetError(f"A camera frame holds {found}; expected {size} bytes for {shape}.")
    return np.frombuffer(values, np.uint8).reshape(shape)


def put_frame(dataset: h5py.Dataset, row: int, chunk: bytes) -> None:
    """Store a packed frame as row `row` of a dataset made with `frame_storage`."""
    dataset.id.write_direct_chunk((row, *[0] * (dataset.ndim - 1)), chunk)


def get_chunk(dataset: h5py.Dataset, row: int) -> bytes:
    """The packed frame of a row; of a dataset for which `holds_packed_frames` says yes."""
    _, chunk = dataset.id.read_direct_chunk((row, *[0] * (dataset.ndim - 1)))
    return bytes(chunk)


def holds_packed_frames(dataset: h5py.Dataset) -> bool:
    """Whether a dataset is stored as `frame_storage` says, so that its chunks may be read as they are."""
    plan = dataset.id.get_create_plist()
    return bool(
        dataset.dtype == np.uint8
        and dataset.chunks == (1, *dataset.shape[1:])
        and plan.get_nfilters() == 1
        and plan.get_filter(0)[0] == h5py.h5z.FILTER_DEFLATE
    )


def read_frames(dataset: h5py.Dataset, start: int = 0, stop: int | None = None) -> Frames:
    """Rows [start, stop) of a dataset of frames: (stop - start, ...)."""
    stop = len(dataset) if stop is None else min(stop, len(dataset))
    if not holds_packed_frames(dataset):
        return np.asarray(dataset[start:stop])
    frames = np.empty((max(stop - start, 0), *dataset.shape[1:]), np.uint8)
    for row in range(start, stop):
        frames[row - start] = unpack_frame(get_chunk(dataset, row), dataset.shape[1:])
    return frames
