"""The file of an episode in progress (`recording/<id>.hdf5`), and how it becomes a finished take.

The file has the layout of `episode.py` with two differences: arrays are longer than the episode (blocks are laid out
ahead, so that a step only fills rows), and observations are one row ahead of the actions, because a step is complete
when its outcome has been seen. `stamps/tick` is written last in every step, so the rows that have a tick are whole.

`finalise` reads such a file and writes the compact, sealed take beside it, then renames it into place. It serves the
normal end of an episode and the recovery after a crash alike.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from understudy.datasets.disk import require_space, sync
from understudy.datasets.episode import (
    GROUP,
    Stream,
    create_episode_file,
    seal_episode,
    write_derived,
    write_streams,
)
from understudy.datasets.frames import frame_storage, get_chunk, pack_frame, put_frame
from understudy.datasets.hdf5 import GROWING, array, attribute, members, put_rows, read, subgroup
from understudy.datasets.live_stream import LiveStream, copy_streams
from understudy.datasets.schema import CHANNELS, SCHEMA_VERSION, EpisodeInfo, is_image
from understudy.errors import DatasetError

Array = NDArray[Any]
BLOCK = 64
"""Rows laid out ahead. Within a block a flush writes numbers only and leaves the file's structure alone."""
_NO_TICK = -1


class EmptyRecording(DatasetError):
    """A recording that ended before its first step."""


@dataclass(frozen=True)
class Step:
    """One control period: an action, what came of it, and what was seen afterwards."""

    tick_ns: int
    """When the action was decided, monotonic clock, at least 0."""
    requested: Array
    """(A,) in units."""
    sent: Array
    """(A,) in units."""
    measured: Array
    """(A,) in units."""
    reward: float
    ages_s: Mapping[str, float]
    """Key -> how old the observation was that the action was decided on, s."""
    next_observation: Mapping[str, Array]
    """Key -> what was seen one tick later."""
    state: Array | None = None
    """(D,) simulator state at the tick, or None where there is no simulator."""
    intervention: bool | None = None
    """Whether a person acted here in a policy's place; None where that is not told."""


class LiveFile:
    """The HDF5 file behind a writer. Default library version on purpose: with "latest" a killed process leaves a file
    that does not open (measured with h5py 3.16).
    """

    def __init__(self, path: Path, info: EpisodeInfo, observation: Mapping[str, Array]) -> None:
        # Begun under another name: a kill before the first flush must not leave a recording that does not open.
        begun = path.with_name(f".{path.stem}.begin")
        self._folder = path.parent
        self._path = begun
        self._seen: dict[str, Array] = {}
        self._digests = {key: hashlib.sha256() for key in observation if is_image(key)}
        """Of the frames that steps were decided on, so that finishing need not unpack them all again."""
        require_space(self._folder, 0)
        self._file = h5py.File(begun, "x", **GROWING)
        self._rows = 0
        self._capacity = 0
        self._images: dict[str, h5py.Dataset] = {}
        self._arrays: dict[str, h5py.Dataset] = {}
        self._streams: dict[str, LiveStream] = {}
        self._group = self._file.create_group(GROUP)
        self._group.attrs["schema_version"] = SCHEMA_VERSION
        self._group.attrs["info"] = info.to_json()
        for channel in CHANNELS:
            self._lay_out(f"action/{channel}", (info.action_spec.size,), np.float64)
        self._lay_out("rewards", (), np.float32)
        self._ticks = self._group.create_dataset(
            "stamps/tick", (0,), np.int64, maxshape=(None,), chunks=(BLOCK,), fillvalue=_NO_TICK
        )
        for key, value in observation.items():
            self._lay_out(f"obs/{key}", value.shape, value.dtype)
        self._extend()
        self._put_observation(0, observation)
        self._seen = {key: observation[key] for key in self._digests}
        self._file.flush()
        os.rename(begun, path)
        self._path = path

    def write(self, step: Step) -> None:
        """Put one step into the next row and flush it: numbers first, the tick that vouches for them last."""
        row = self._rows
        if row == 0:
            self._lay_out_optional(step)
        if row + 1 >= self._capacity:
            self._extend()
        for channel in CHANNELS:
            self._put(f"action/{channel}", row, getattr(step, channel))
        self._put("rewards", row, step.reward)
        for key, age in step.ages_s.items():
            self._put(f"age/{key}", row, age)
        if step.state is not None:
            self._put("states", row, step.state)
        if step.intervention is not None:
            self._put("intervention", row, step.intervention)
        self._put_observation(row + 1, step.next_observation)
        self._file.flush()
        put_rows(self._ticks, row, np.array([step.tick_ns]))
        self._file.flush()
        for key, digest in self._digests.items():
            digest.update(np.ascontiguousarray(self._seen[key]).data)
            self._seen[key] = step.next_observation[key]
        self._rows += 1

    def append(self, samples: Mapping[str, Stream]) -> None:
        """Add samples of streams at their own rate and flush them: values first, the stamps that vouch for them last.

        Raises:
            ValueError: samples have another shape than the first ones of their stream.
        """
        require_space(self._folder, sum(stream.values.nbytes for stream in samples.values()))
        for name, stream in samples.items():
            if name not in self._streams:
                self._streams[name] = LiveStream(self._group, name, stream)
            self._streams[name].put(stream)
        self._file.flush()
        for name in samples:
            self._streams[name].vouch()
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def digests(self) -> dict[str, str]:
        """Array name -> SHA-256 of the camera frames of all steps."""
        return {f"obs/{key}": digest.hexdigest() for key, digest in self._digests.items()}

    def _lay_out(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        key = name.removeprefix("obs/")
        image = name.startswith("obs/") and is_image(key)
        storage = frame_storage(shape) if image else {"chunks": (BLOCK, *shape)}
        dataset = self._group.create_dataset(name, (self._capacity, *shape), dtype, maxshape=(None, *shape), **storage)
        (self._images if image else self._arrays)[name] = dataset

    def _lay_out_optional(self, step: Step) -> None:
        """What only a step knows: which keys have ages, whether there is a simulator state, or takeovers are told."""
        for key in step.ages_s:
            self._lay_out(f"age/{key}", (), np.float32)
        if step.state is not None:
            self._lay_out("states", step.state.shape, np.float64)
        if step.intervention is not None:
            self._lay_out("intervention", (), np.bool_)

    def _extend(self) -> None:
        """Lay out the next block in every array, and have that on disk before any of its rows is used."""
        arrays = (*self._arrays.values(), *self._images.values())
        row_bytes = sum(array.dtype.itemsize * int(np.prod(array.shape[1:])) for array in arrays)
        require_space(self._folder, BLOCK * row_bytes, written=self._path.stat().st_size)
        self._capacity += BLOCK
        for dataset in (*arrays, self._ticks):
            dataset.resize(self._capacity, axis=0)
        self._file.flush()

    def _put(self, name: str, row: int, value: Any) -> None:
        """Write one row of an array; it must be of the array's shape."""
        put_rows(self._arrays[name], row, np.asarray(value)[np.newaxis])

    def _put_observation(self, row: int, observation: Mapping[str, Array]) -> None:
        for key, value in observation.items():
            name = f"obs/{key}"
            if name not in self._images:
                self._put(name, row, value)
                continue
            if value.shape != self._images[name].shape[1:]:
                raise ValueError(f"{key} has shape {value.shape}; expected {self._images[name].shape[1:]}")
            put_frame(self._images[name], row, pack_frame(value))


def finalise(
    path: Path,
    info: EpisodeInfo | None = None,
    streams: Mapping[str, Stream] | None = None,
    digests: Mapping[str, str] | None = None,
) -> int:
    """Turn the episode in progress at `path` into a complete take, in place and atomically; returns its steps.

    Args:
        path: what a writer left, closed; nobody may be writing to it.
        info: the metadata at the end; None keeps that of the beginning.
        streams: native-rate samples to store with it.
        digests: array name -> SHA-256 of its bytes, where the writer has seen them all go by.

    Raises:
        EmptyRecording: it holds no whole step.
        DatasetError: the file cannot be read.
        OSError: the disk is full or fails; `path` is as it was, unless `is_complete`: then it is the complete take, and
            only that it took the other's place was not confirmed.
    """
    fresh = path.with_name(f".{path.stem}.new")
    fresh.unlink(missing_ok=True)
    require_space(path.parent, path.stat().st_size + sum(stream.values.nbytes for stream in (streams or {}).values()))
    try:
        with _open_live(path) as live:
            final = info or EpisodeInfo.from_json(str(attribute(live, "info")))
            with create_episode_file(fresh, final) as target:
                steps = _copy_take(live, target.create_group(GROUP), final, streams or {}, digests or {})
        seal_episode(fresh)
        sync(fresh)
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    sync(path.parent)
    return steps


def is_complete(path: Path) -> bool:
    """Whether a file under `recording/` is a finished take (False: in progress, or left by a crash).

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return not file.read(len(_HDF5)).startswith(_HDF5)


_HDF5 = b"\x89HDF\r\n\x1a\n"
"""A recording in progress begins with HDF5's own signature, a finished take with a seal."""


@contextlib.contextmanager
def _open_live(path: Path) -> Iterator[h5py.Group]:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path}: not a readable recording ({error}).") from error
    with file:
        if GROUP not in file or "info" not in file[GROUP].attrs:
            raise DatasetError(f"{path}: not a readable recording (it has no episode in it).")
        yield subgroup(file, GROUP)


def _copy_take(
    source: h5py.Group, target: h5py.Group, info: EpisodeInfo, streams: Mapping[str, Stream], digests: Mapping[str, str]
) -> int:
    """Copy the whole steps of `source` into `target` in the layout of `episode.py`; returns how many there are."""
    steps = _whole_steps(source)
    if steps == 0:
        raise EmptyRecording(
            f"{source.file.filename}: the recording ended before its first step; there is nothing to keep."
        )
    channels = {channel: np.asarray(array(source, f"action/{channel}")[:steps]) for channel in CHANNELS}
    for channel, values in channels.items():
        target.create_dataset(f"action/{channel}", data=values)
    target.create_dataset("rewards", data=array(source, "rewards")[:steps])
    target.create_dataset("stamps/tick", data=array(source, "stamps/tick")[:steps])
    states = array(source, "states")[:steps] if "states" in source else np.zeros((steps, 0))
    target.create_dataset("states", data=states)
    if "intervention" in source:
        target.create_dataset("intervention", data=array(source, "intervention")[:steps])
    observed = subgroup(source, "obs")
    for key in members(observed):
        _copy_observation(key, array(observed, key, rows=steps + 1), target, steps)
    ages = subgroup(source, "age") if "age" in source else {}
    for key in ages:
        target.create_dataset(f"age/{key}", data=array(ages, key)[:steps])
    write_streams(target, streams)
    copy_streams(source, target)
    write_derived(target, info, channels, digests)
    return steps


def _whole_steps(source: h5py.Group) -> int:
    """Steps from the beginning that have a tick, which was written when everything else of them was on disk."""
    present = read(source, "stamps/tick") != _NO_TICK
    return int(np.argmin(np.append(present, False)))


def _copy_observation(key: str, values: h5py.Dataset, target: h5py.Group, steps: int) -> None:
    target.create_dataset(f"final_obs/{key}", data=values[steps])
    if not is_image(key):
        target.create_dataset(f"obs/{key}", data=values[:steps])
        return
    frame = values.shape[1:]
    copy = target.create_dataset(f"obs/{key}", (steps, *frame), values.dtype, **frame_storage(frame))
    for row in range(steps):
        put_frame(copy, row, get_chunk(values, row))
