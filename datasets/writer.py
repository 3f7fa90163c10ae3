"""Writing an episode while it happens, so that a killed process loses at most the step in its hands.

Owns the file of an episode in progress (`recording/<id>.hdf5`) and how it becomes a finished take. The file has the
layout of `episode.py` with two differences: arrays are longer than the episode (blocks are laid out ahead, so that a
step only fills rows), and observations are one row ahead of the actions, because a step is complete when its outcome
has been seen. `stamps/tick` is written last in every step, so the rows that have a tick are whole.

`finalise` reads such a file and writes the compact take beside it, then renames it into place. It serves the normal end
of an episode and the recovery after a crash alike.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from understudy.datasets.episode import (
    GROUP,
    Stream,
    create_episode_file,
    seal_episode,
    write_derived,
    write_streams,
)
from understudy.datasets.frames import frame_storage, get_chunk, pack_frame, put_frame
from understudy.datasets.hdf5 import array, attribute, members, read, subgroup
from understudy.datasets.schema import CHANNELS, SCHEMA_VERSION, EpisodeInfo, is_image, key_unit
from understudy.datasets.seal import sync
from understudy.errors import DatasetError, RecordingError

Array = NDArray[Any]


class EmptyRecording(DatasetError):
    """A recording that ended before its first step."""


BLOCK = 64
"""Rows laid out ahead. Within a block a flush writes numbers only and leaves the file's structure alone."""
RESERVE_BYTES = 2 << 20
"""Left free on the disk beside what is asked for: HDF5 crashes the process when a full disk keeps it from closing a
file (measured with h5py 3.16), so it must never meet one."""
QUEUE_STEPS = 1000
"""Steps that may wait for the disk (50 s at 20 Hz) before recording is stopped."""
QUEUE_BYTES = 1 << 30
"""Memory that they may take meanwhile, if that is less."""
_NO_TICK = -1
_LOOK_UP_S = 0.2


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


_Handed = tuple[int, Array, Array, Array, float, Mapping[str, float], Mapping[str, Array], Array | None]
"""The fields of a `Step`, in order: a tuple is made in a tenth of the time."""


class LiveLock:
    """A lock file beside an episode in progress: held while its recorder lives, free once that is gone."""

    def __init__(self, recording: Path) -> None:
        self.path = recording.with_suffix(".lock")
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Take the lock; False when another recorder holds it."""
        file = self.path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Let go of the lock and remove its file; safe to call twice."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


class EpisodeWriter:
    """Writes one episode, a step at a time, on a thread of its own.

    `add` copies a step's numbers, takes over its camera frames, and returns: it never waits for the disk. A frame that
    has been handed over becomes read-only, because copying three cameras takes longer than a control thread may wait;
    one that is a view of somebody else's buffer is copied. What goes wrong on the thread is raised by the next
    call, with its cause. The order of calls is `add`..., then `finish` or `abandon`; `release` once the take has been
    committed or dropped.
    """

    def __init__(self, path: Path, info: EpisodeInfo, observation: Mapping[str, Array]) -> None:
        """Begin the file `path` (which must not exist) with the first observation (key -> array).

        Raises:
            RecordingError: the file cannot be made.
            InputError: an observation key is none of the known words.
        """
        for key in observation:
            key_unit(key)
        self.path = path
        self.info = info
        self.steps = 0
        """Steps handed over."""
        self.written = 0
        """Steps on disk: what a kill at this instant would leave."""
        self._last_ns = -1
        self._numbers = tuple(key for key in observation if not is_image(key))
        self._frames = tuple(key for key in observation if is_image(key))
        self._error: BaseException | None = None
        self._queue: queue.SimpleQueue[_Handed | None] = queue.SimpleQueue()
        step_bytes = sum(np.asarray(value).nbytes for value in observation.values())
        self._most_waiting = max(10, min(QUEUE_STEPS, QUEUE_BYTES // max(1, step_bytes)))
        self._lock = LiveLock(path)
        try:
            if not self._lock.acquire():
                raise RecordingError(f"{path} is being recorded by another process; choose another id.")
            self._file = _LiveFile(path, info, _as_stored(observation))
        except OSError as error:
            self._lock.release()
            raise self._failure(error) from error
        # Not a daemon: one that is torn off inside HDF5 keeps its lock, and the interpreter then never exits.
        self._thread = threading.Thread(target=self._work, name=f"writer-{path.stem}")
        self._thread.start()

    def add(self, step: Step) -> None:
        """Hand a step over and return at once; its camera frames must not be written to afterwards.

        Deliberately little: a control thread that wakes up with cold caches pays 10 to 40 us for each kind of call
        (measured), so that checking and converting are left to the writer's thread.

        Raises:
            RecordingError: the step comes out of order or has other observations than the first one, and is left out;
                or an earlier step could not be written, was not finite, or the disk is too far behind, and recording
                has ended. What was written so far is kept.
        """
        if self._error is not None:
            self._raise_failure()
        if step.tick_ns <= self._last_ns:
            raise RecordingError(f"{self._where()} is stamped {step.tick_ns} ns, not after the one before it.")
        if self.steps - self.written >= self._most_waiting:
            raise RecordingError(
                f"{self.path}: {self._most_waiting} steps are waiting for the disk, which is too slow for these "
                "cameras and this rate. What was written so far is kept."
            )
        self._queue.put(self._own(step))
        self.steps += 1
        self._last_ns = step.tick_ns

    def _own(self, step: Step) -> _Handed:
        """What a step consists of: its numbers copied, so that nobody can change them, its frames if need be."""
        seen = step.next_observation
        try:
            observed = {key: seen[key].copy() for key in self._numbers}
            frames = {key: seen[key] if seen[key].base is None else _owned(seen[key]) for key in self._frames}
        except KeyError:
            observed = frames = {}
        if len(observed) + len(frames) != len(seen):
            odd = sorted(set(seen) ^ {*self._numbers, *self._frames})
            raise RecordingError(f"{self._where()} has other observations than the first one; these differ: {odd}.")
        return (
            step.tick_ns,
            step.requested.copy(),
            step.sent.copy(),
            step.measured.copy(),
            step.reward,
            step.ages_s,
            {**observed, **frames},
            None if step.state is None else step.state.copy(),
        )

    def finish(self, info: EpisodeInfo | None = None, streams: Mapping[str, Stream] | None = None) -> Path:
        """End the episode and return its file, now a complete take that can be committed.

        Args:
            info: the metadata as known at the end (success, note); None keeps that of the beginning.
            streams: native-rate samples to keep beside it, by name.

        Raises:
            RecordingError: something could not be written; the steps written so far stay recoverable.
            EmptyRecording: the episode has no steps.
        """
        self._stop()
        self._raise_failure()
        try:
            finalise(self.path, info or self.info, streams, self._file.digests)
        except (OSError, RuntimeError) as error:
            raise self._failure(error) from error
        return self.path

    def abandon(self) -> None:
        """Stop and delete the file; for a take that nobody wants to see again."""
        self._stop()
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let others (a recovery, another recorder) touch the take; stops the thread if it still runs."""
        self._stop()
        self._lock.release()

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _where(self) -> str:
        return f"{self.path}: step {self.steps}"

    def _stop(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        """The thread: write what comes, remember the first failure, and keep emptying the queue after it."""
        while (handed := self._next()) is not None:
            if self._error is None:
                self._guarded(self._write, Step(*handed))
        self._guarded(self._file.close)

    def _next(self) -> _Handed | None:
        """The next step; None at the end, which is also when the main thread is gone and nothing is left to write."""
        while True:
            try:
                return self._queue.get(timeout=_LOOK_UP_S)
            except queue.Empty:
                if not threading.main_thread().is_alive():
                    return None

    def _write(self, step: Step) -> None:
        """Check a step, as it will be stored, and write it.

        Raises:
            RecordingError: a value is not finite.
        """
        seen = _as_stored(step.next_observation)
        numbers = {name: getattr(step, name) for name in CHANNELS} | {key: seen[key] for key in self._numbers}
        for name, value in numbers.items():
            if not np.all(np.isfinite(value)):
                raise RecordingError(
                    f"{self.path}: step {self.written}: {name} has a value that is not finite; recording has ended. "
                    "The steps before it are kept."
                )
        self._file.write(dataclasses.replace(step, next_observation=seen))
        self.written += 1

    def _guarded(self, call: Callable[..., None], *arguments: Step) -> None:
        try:
            call(*arguments)
        except (OSError, RuntimeError, ValueError, TypeError, KeyError, RecordingError) as error:
            self._error = self._error or error

    def _raise_failure(self) -> None:
        if isinstance(self._error, RecordingError):
            raise self._error
        if self._error is not None:
            raise self._failure(self._error) from self._error

    def _failure(self, error: BaseException) -> RecordingError:
        return RecordingError(
            f"{self.path} could not be written: {error}. Free some space or check the disk, then record again; "
            "committed episodes and the steps written so far are kept."
        )


def _as_stored(observation: Mapping[str, Array]) -> dict[str, Array]:
    """An observation as it is stored: numbers float32, what is too large infinite; frames uint8 and read-only."""
    with np.errstate(over="ignore"):
        return {
            key: _owned(value) if is_image(key) else np.array(value, np.float32) for key, value in observation.items()
        }


def _owned(frame: Array) -> Array:
    """The frame itself, made read-only, where nothing else can write to its memory; else a copy.

    Whoever writes into a frame after handing it over is told by numpy, instead of spoiling a recording.
    """
    if frame.dtype != np.uint8 or not _alone(frame):
        frame = np.array(frame, np.uint8)
    frame.flags.writeable = False
    return frame


def _alone(frame: Array) -> bool:
    """Whether the memory is the array's own, or an immutable `bytes`."""
    base = frame
    while isinstance(base.base, np.ndarray):
        if base.base.flags.writeable:
            return False
        base = base.base
    return base.base is None or isinstance(base.base, bytes)


class _LiveFile:
    """The HDF5 file behind a writer. Default library version on purpose: with "latest" a killed process leaves a file
    that does not open (measured with h5py 3.16).
    """

    def __init__(self, path: Path, info: EpisodeInfo, observation: Mapping[str, Array]) -> None:
        # Begun under another name: a kill before the first flush must not leave a recording that does not open.
        begun = path.with_name(f".{path.stem}.begin")
        self._folder = path.parent
        self._seen: dict[str, Array] = {}
        self._digests = {key: hashlib.sha256() for key in observation if is_image(key)}
        """Of the frames that steps were decided on, so that finishing need not unpack them all again."""
        require_space(self._folder, 0)
        self._file = h5py.File(begun, "x")
        self._rows = 0
        self._capacity = 0
        self._images: dict[str, h5py.Dataset] = {}
        self._arrays: dict[str, h5py.Dataset] = {}
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

    def write(self, step: Step) -> None:
        """Put one step into the next row and flush it: numbers first, the tick that vouches for them last."""
        row = self._rows
        if row == 0:
            self._lay_out_optional(step)
        if row + 1 >= self._capacity:
            self._extend()
        for channel in CHANNELS:
            self._arrays[f"action/{channel}"][row] = getattr(step, channel)
        self._arrays["rewards"][row] = step.reward
        for key, age in step.ages_s.items():
            self._arrays[f"age/{key}"][row] = age
        if step.state is not None:
            self._arrays["states"][row] = step.state
        self._put_observation(row + 1, step.next_observation)
        self._file.flush()
        self._ticks[row] = step.tick_ns
        self._file.flush()
        for key, digest in self._digests.items():
            digest.update(np.ascontiguousarray(self._seen[key]).data)
            self._seen[key] = step.next_observation[key]
        self._rows += 1

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
        """What only a step knows: which keys have ages, and whether there is a simulator state."""
        for key in step.ages_s:
            self._lay_out(f"age/{key}", (), np.float32)
        if step.state is not None:
            self._lay_out("states", step.state.shape, np.float64)

    def _extend(self) -> None:
        """Lay out the next block in every array, and have that on disk before any of its rows is used."""
        arrays = (*self._arrays.values(), *self._images.values())
        row_bytes = sum(array.dtype.itemsize * int(np.prod(array.shape[1:])) for array in arrays)
        require_space(self._folder, BLOCK * row_bytes)
        self._capacity += BLOCK
        for dataset in (*arrays, self._ticks):
            dataset.resize(self._capacity, axis=0)
        self._file.flush()

    def _put_observation(self, row: int, observation: Mapping[str, Array]) -> None:
        for key, value in observation.items():
            name = f"obs/{key}"
            if name not in self._images:
                self._arrays[name][row] = value
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
        OSError: the disk is full or fails; `path` is as it was.
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
    observed = subgroup(source, "obs")
    for key in members(observed):
        _copy_observation(key, array(observed, key), target, steps)
    ages = subgroup(source, "age") if "age" in source else {}
    for key in ages:
        target.create_dataset(f"age/{key}", data=array(ages, key)[:steps])
    write_streams(target, streams)
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


def require_space(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk has no room for.

    Raises:
        OSError: (ENOSPC) fewer than `needed` bytes, and some to spare, are free where `folder` is.
    """
    if shutil.disk_usage(folder).free < needed + RESERVE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
