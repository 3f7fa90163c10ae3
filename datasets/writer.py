"""Writing an episode while it happens, so that a killed process loses at most the step in its hands.

Owns the hand-over from the control thread to a thread of its own, and what may be handed over. The file it writes is
`live_file.py`'s.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.camera_streams import CameraFrame, CameraWriter, frames_file
from understudy.datasets.disk import LiveLock
from understudy.datasets.episode import Stream
from understudy.datasets.live_file import LiveFile, Step, finalise
from understudy.datasets.schema import CHANNELS, EpisodeInfo, is_image, key_unit
from understudy.errors import RecordingError

Array = NDArray[Any]
QUEUE_STEPS = 1000
"""Steps that may wait for the disk (50 s at 20 Hz) before recording is stopped."""
QUEUE_BYTES = 1 << 30
"""Memory that they may take meanwhile, if that is less."""
_LOOK_UP_S = 0.2
_Handed = tuple[int, Array, Array, Array, float, Mapping[str, float], Mapping[str, Array], Array | None, bool | None]
"""The fields of a `Step`, in order: a tuple is made in a tenth of the time."""


@dataclass(frozen=True)
class _Samples:
    """Samples of streams that were handed over."""

    streams: Mapping[str, Stream]
    cameras: Mapping[str, Sequence[CameraFrame]]
    size: int
    """Bytes."""


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
        self._queue: queue.SimpleQueue[_Handed | _Samples | None] = queue.SimpleQueue()
        self._cameras: CameraWriter | None = None
        self._bytes_handed = self._bytes_done = 0
        step_bytes = sum(np.asarray(value).nbytes for value in observation.values())
        self._most_waiting = max(10, min(QUEUE_STEPS, QUEUE_BYTES // max(1, step_bytes)))
        self._shapes = {key: np.shape(value) for key, value in observation.items()}
        self._form: _Form | None = None
        self._finished = False
        self._lock = LiveLock(path)
        try:
            if not self._lock.acquire():
                raise RecordingError(f"{path} is being recorded by another process; choose another id.")
            self._file = LiveFile(path, info, _as_stored(observation))
        except OSError as error:
            self._lock.release()
            raise self._failure(error) from error
        except BaseException:
            self._lock.release()
            raise
        # Not a daemon: one that is torn off inside HDF5 keeps its lock, and the interpreter then never exits.
        self._thread = threading.Thread(target=self._work, name=f"writer-{path.stem}")
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether something could not be written, so that the episode cannot be finished here any more."""
        return self._error is not None

    def add(self, step: Step) -> None:
        """Hand a step over and return at once; its camera frames must not be written to afterwards.

        Deliberately little: a control thread that wakes up with cold caches pays many times over for each kind of
        call, so that checking and converting are left to the writer's thread (`understudy bench store` measures it).

        Raises:
            RecordingError: the step comes out of order or has other observations than the first one, and is left out;
                or an earlier step could not be written, was not finite, or the disk is too far behind, and recording
                has ended. What was written so far is kept.
        """
        if self._error is not None:
            self._raise_failure()
        if self._finished:
            raise RecordingError(f"{self._where()} comes after the episode was finished; begin another one.")
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

    def add_samples(
        self, streams: Mapping[str, Stream], cameras: Mapping[str, Sequence[CameraFrame]] | None = None
    ) -> None:
        """Hand over samples at their own rate, next to the steps, and return at once; nobody may change them after.

        Args:
            streams: name -> the next samples of that stream.
            cameras: camera -> its next frames; they go into a file of their own (see `camera_streams.py`).

        Raises:
            RecordingError: an earlier one could not be written, or the disk is too far behind; recording has ended.
        """
        if self._error is not None:
            self._raise_failure()
        cameras = cameras or {}
        size = sum(stream.values.nbytes for stream in streams.values())
        size += sum(frame.nbytes for frames in cameras.values() for frame in frames)
        waiting = self._bytes_handed - self._bytes_done
        if waiting + size > QUEUE_BYTES:
            raise RecordingError(
                f"{self.path}: {waiting / 1e6:.0f} MB of samples are waiting for the disk, which is "
                "too slow for these streams. What was written so far is kept."
            )
        self._bytes_handed += size
        self._queue.put(_Samples(streams, cameras, size))

    def _own(self, step: Step) -> _Handed:
        """What a step consists of: its numbers copied, so that nobody can change them, its frames if need be."""
        seen = step.next_observation
        try:
            owned = {key: seen[key].copy() for key in self._numbers}
            for key in self._frames:
                owned[key] = seen[key] if seen[key].base is None else _owned(seen[key])
        except KeyError:
            owned = {}
        if len(owned) != len(seen):
            odd = sorted(set(seen) ^ {*self._numbers, *self._frames})
            raise RecordingError(f"{self._where()} has other observations than the first one; these differ: {odd}.")
        return (
            step.tick_ns,
            step.requested.copy(),
            step.sent.copy(),
            step.measured.copy(),
            step.reward,
            step.ages_s,
            owned,
            None if step.state is None else step.state.copy(),
            step.intervention,
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
        except (OSError, RuntimeError, LookupError) as error:
            raise self._failure(error) from error
        return self.path

    def abandon(self) -> None:
        """Stop and delete the file; for a take that nobody wants to see again."""
        self._stop()
        self.path.unlink(missing_ok=True)
        frames_file(self.path.parent.parent, self.path.stem).unlink(missing_ok=True)
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
        self._finished = True
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        """The thread: write what comes, remember the first failure, and keep emptying the queue after it."""
        while (handed := self._next()) is not None:
            if isinstance(handed, _Samples):
                self._bytes_done += handed.size
            if self._error is not None:
                continue
            if isinstance(handed, _Samples):
                self._guarded(self._write_samples, handed)
            else:
                self._guarded(self._write, Step(*handed))
        if self._cameras is not None:
            self._guarded(self._cameras.close)
        self._guarded(self._file.close)

    def _next(self) -> _Handed | _Samples | None:
        """The next step or samples; None at the end.

        That is also when the main thread is gone and nothing is left to write.
        """
        while True:
            try:
                return self._queue.get(timeout=_LOOK_UP_S)
            except queue.Empty:
                if not threading.main_thread().is_alive():
                    return None

    def _write(self, step: Step) -> None:
        """Check a step, as it will be stored, and write it.

        Raises:
            RecordingError: something in it has another shape than in the first step, or is not finite.
        """
        step = dataclasses.replace(step, next_observation=_as_stored(step.next_observation))
        if self._form is None:
            self._form = _Form.of(step, self.info.action_spec.size, self._shapes)
        try:
            self._form.require(step)
        except ValueError as error:
            raise RecordingError(
                f"{self.path}: step {self.written}: {error}; recording has ended. The steps before it are kept."
            ) from error
        self._file.write(step)
        self.written += 1

    def _write_samples(self, samples: _Samples) -> None:
        if samples.streams:
            self._file.append(samples.streams)
        for camera, frames in samples.cameras.items():
            if self._cameras is None:
                self._cameras = CameraWriter(frames_file(self.path.parent.parent, self.path.stem))
            self._cameras.write(camera, frames)

    def _guarded(self, call: Callable[..., None], *arguments: Step | _Samples) -> None:
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


@dataclass(frozen=True)
class _Form:
    """What every step of an episode has in common with its first."""

    width: int
    """Numbers of an action."""
    shapes: Mapping[str, tuple[int, ...]]
    """Observation key -> shape."""
    ages: frozenset[str]
    """Keys whose age is told."""
    state: tuple[int, ...] | None
    """Shape of the simulator's state."""
    takeovers: bool
    """Whether each step tells if it was an intervention."""

    @classmethod
    def of(cls, first: Step, width: int, shapes: Mapping[str, tuple[int, ...]]) -> _Form:
        """The form that the first step of an episode sets."""
        state = None if first.state is None else first.state.shape
        aged = frozenset(first.ages_s) & frozenset(shapes)
        return cls(width, shapes, aged, state, first.intervention is not None)

    def require(self, step: Step) -> None:
        """Refuse what would be filled in, stretched, or make the episode unreadable.

        Raises:
            ValueError: names what differs.
        """
        if set(step.ages_s) != self.ages:
            raise ValueError(f"ages are told of {sorted(step.ages_s)}, and of {sorted(self.ages)} in the first step")
        state = None if step.state is None else step.state.shape
        if state != self.state:
            raise ValueError(f"the state has shape {state}, and {self.state} in the first step")
        if (step.intervention is not None) != self.takeovers:
            raise ValueError("interventions are told of some steps and not of others")
        expected = dict(self.shapes)
        expected.update(dict.fromkeys(CHANNELS, (self.width,)))
        values: dict[str, Array] = {name: getattr(step, name) for name in CHANNELS} | dict(step.next_observation)
        for name, value in values.items():
            if value.shape != expected[name]:
                raise ValueError(f"{name} has shape {value.shape}; expected {expected[name]}")
        with np.errstate(over="ignore"):
            told = {"reward": np.float32(step.reward), **{f"age of {k}": np.float32(v) for k, v in step.ages_s.items()}}
        numbers = {name: value for name, value in values.items() if not is_image(name)} | told
        for name, number in (numbers if step.state is None else {**numbers, "state": step.state}).items():
            if not np.all(np.isfinite(number)):
                raise ValueError(f"{name} has a value that is not finite")


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
