"""The samples of one stream while they are recorded: numbers at their own rate, in the file of the episode in progress.

Blocks are laid out ahead and stamps are written last, as for steps: a sample whose stamp is there is whole.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from understudy.datasets.episode import Stream
from understudy.datasets.hdf5 import array, members, put_rows, subgroup

STREAMS = "streams"
ROWS = 512
"""Laid out ahead, and kept in one piece: about a second at 500 Hz."""
NO_STAMP = np.iinfo(np.int64).min


class LiveStream:
    """Grows as samples come."""

    def __init__(self, episode: h5py.Group, name: str, first: Stream) -> None:
        """Make the stream's arrays in the group of an episode, of the form that `first` has."""
        group = episode.create_group(f"{STREAMS}/{name}")
        shape, dtype = first.values.shape[1:], first.values.dtype
        self._values = group.create_dataset("value", (0, *shape), dtype, maxshape=(None, *shape), chunks=(ROWS, *shape))
        self._receives = _stamps(group, "receive")
        self._stamps = _stamps(group, "stamp")
        self._rows = 0
        self._waiting: Stream | None = None

    def put(self, samples: Stream) -> None:
        """Write values and receive stamps of the next samples; `vouch` once they are on disk.

        Raises:
            ValueError: they have another shape than the first ones.
        """
        if samples.values.shape[1:] != self._values.shape[1:]:
            raise ValueError(f"a stream's samples have shape {samples.values.shape[1:]}; the first had another")
        end = self._rows + len(samples.stamps_ns)
        if end > len(self._stamps):
            room = -(-end // ROWS) * ROWS
            for column in (self._values, self._receives, self._stamps):
                column.resize(room, axis=0)
        put_rows(self._values, self._rows, samples.values)
        if samples.receives_ns is not None:
            put_rows(self._receives, self._rows, samples.receives_ns)
        self._waiting = samples

    def vouch(self) -> None:
        """Write the stamps of what was put last."""
        assert self._waiting is not None
        put_rows(self._stamps, self._rows, self._waiting.stamps_ns)
        self._rows, self._waiting = self._rows + len(self._waiting.stamps_ns), None


def _stamps(group: h5py.Group, name: str) -> h5py.Dataset:
    return group.create_dataset(name, (0,), np.int64, maxshape=(None,), chunks=(ROWS,), fillvalue=NO_STAMP)


def copy_streams(source: h5py.Group, target: h5py.Group) -> None:
    """Copy the whole samples of every stream of an episode in progress into a finished one."""
    if STREAMS not in source:
        return
    found = subgroup(source, STREAMS)
    for name in members(found):
        stamps: NDArray[Any] = np.asarray(array(found, f"{name}/stamp")[()])
        rows = int(np.argmax(np.append(stamps, NO_STAMP) == NO_STAMP))
        if rows == 0:
            continue
        target.create_dataset(f"{STREAMS}/{name}/stamp", data=stamps[:rows])
        receives = np.asarray(array(found, f"{name}/receive")[:rows])
        if not np.any(receives == NO_STAMP):
            target.create_dataset(f"{STREAMS}/{name}/receive", data=receives)
        target.create_dataset(f"{STREAMS}/{name}/value", data=array(found, f"{name}/value")[:rows])
