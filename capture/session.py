"""A recording session: the one state machine between an operator, an arm and a dataset.

      prepare          start             stop, success, time        keep
    idle ----> ready ---------> recording --------------> review --------> saving --> idle
     ^ |         |                  |                      ^ |                         ^
     | +---------|------------- resume --------------------+ |                         |
     +-----------+------- drop -----+-------- drop ----------+-------------------------+

`undo` and `redo` (idle, ready) take back the last kept take and bring it back. Whoever drives (a script, a keyboard, a
page) calls the same methods, and a scripted episode takes the same path as a person's. What the operator asked is
recorded as it was, pauses included.

Owns the order of things; writing is `recorder.py`'s, moving the arm is `envs/control.py`'s, time and threads are
`session_loop.py`'s, and whether a take is any good is `gate.py`'s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.capture.devices.device import Device, DeviceReading, Event
from understudy.capture.left_take import LeftTake
from understudy.capture.recorder import EpisodeRecorder, Motion, new_info
from understudy.capture.take_memory import TakeMemory
from understudy.datasets.align import Aligned
from understudy.datasets.episode import Episode
from understudy.datasets.schema import EpisodeInfo
from understudy.datasets.store import Dataset
from understudy.envs.arms.arm import Start
from understudy.envs.control import Control
from understudy.envs.tasks.task import Task
from understudy.errors import InputError, RecordingError, UnderstudyError

if TYPE_CHECKING:
    from understudy.capture.session_view import Wish

State = Literal["idle", "ready", "recording", "review", "saving"]

POSSIBLE: Mapping[State, tuple[str, ...]] = {
    "idle": ("prepare", "undo", "redo", "resume", "hold"),
    "ready": ("start", "drop", "prepare", "undo", "redo", "hold"),
    "recording": ("tick", "stop", "drop", "mark", "note", "intervene", "release", "hold"),
    "review": ("keep", "drop", "mark", "note", "hold"),
    "saving": (),
}
"""State -> the methods of a session that may be called in it."""

_WISHES: Mapping[State, tuple[Wish, ...]] = {
    "idle": ("prepare", "undo", "redo", "hold"),
    "ready": ("start", "drop", "prepare", "undo", "redo", "hold"),
    "recording": ("stop", "drop", "success", "failure", "unmark", "note", "intervene", "release", "hold"),
    "review": ("keep", "drop", "success", "failure", "unmark", "note", "hold"),
    "saving": (),
}
"""State -> what an operator may wish in it, where there is something to undo, to unmark and so on."""


class Stage(Protocol):
    """Where an episode plays: an arm under control with a task to judge it (an `ArmEnv` is one)."""

    task: Task
    control: Control
    aligned: Aligned | None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the second result holds its `start`."""

    def step_units(self, requested: NDArray[np.float64]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One control period with an action in units; the last result holds sent, measured and success."""


@dataclass(frozen=True)
class SessionConfig:
    """How episodes are recorded."""

    operator: str = "unknown"
    max_s: float = 60.0
    """A take stops by itself after this long, s."""
    stop_on_success: bool = True

    def __post_init__(self) -> None:
        if not (np.isfinite(self.max_s) and self.max_s > 0):
            raise InputError(f"The longest take must be a positive number of seconds, got {self.max_s}.")


@dataclass(frozen=True)
class Tick:
    """What one control period of a session brought."""

    reading: DeviceReading
    reward: float
    success: bool
    stopped: str = ""
    """Why the take ended with this tick: "success", "time", "operator", "device lost"; empty while it goes on."""


class Session:
    """Records takes of one task into one dataset. Use one thread."""

    def __init__(self, stage: Stage, device: Device, dataset: Dataset, config: SessionConfig) -> None:
        """Args:
        stage: the environment to act in.
        device: what the operator holds.
        dataset: where kept takes go.
        config: operator, limits.

        Raises:
            DatasetError: the dataset is of another robot or task.
        """
        dataset.require(stage.control.robot.name, stage.task.name)
        self.state: State = "idle"
        self.kept: list[str] = []
        """Ids kept in this session, the latest last."""
        self._stage = stage
        self._device = device
        self._dataset = dataset
        self._config = config
        self._max_steps = max(1, round(config.max_s * stage.control.robot.rate_hz))
        self.marked: bool | None = None
        """The operator's own verdict on the take in hand; None while there is none."""
        self.intervening = False
        """Whether steps are recorded as interventions."""
        self.wanted: Start | None = None
        """Where the episode that was prepared last is meant to start."""
        self.device_says = ""
        """What the device would like the operator to know, as of its latest reading; empty for nothing."""
        self._undone: list[str] = []
        self._recorder: EpisodeRecorder | LeftTake | None = None
        self._memory: TakeMemory | None = None
        self._info: EpisodeInfo | None = None
        self._judged: bool | None = None

    @property
    def stage(self) -> Stage:
        """Where episodes play."""
        return self._stage

    @property
    def device(self) -> Device:
        """What the operator holds."""
        return self._device

    @property
    def dataset(self) -> Dataset:
        """Where kept takes go."""
        return self._dataset

    @property
    def config(self) -> SessionConfig:
        """Operator and limits."""
        return self._config

    @property
    def simulated(self) -> bool:
        """Whether the scene is one that stands still while nobody steps it."""
        return self._simulator_state() is not None

    @property
    def wishes(self) -> tuple[Wish, ...]:
        """What an operator may wish now; each of these will be granted, and nothing else."""
        absent = {
            "undo": not self.kept,
            "redo": not self._undone,
            "unmark": self.marked is None,
            "intervene": self.intervening,
            "release": not self.intervening,
            "keep": self.steps == 0,
        }
        return tuple(wish for wish in _WISHES[self.state] if not absent.get(wish, False))

    @property
    def take_info(self) -> EpisodeInfo | None:
        """What is known of the take in hand, or of the one that is prepared."""
        return self._info

    @property
    def take_path(self) -> Path | None:
        """The file of the take in hand."""
        return None if self._recorder is None else self._recorder.path

    @property
    def steps(self) -> int:
        """Steps of the take in hand."""
        return 0 if self._recorder is None else self._recorder.steps

    def take(self) -> Episode | None:
        """The take in hand as it would be kept now; None while it has no steps.

        Camera frames are stood in for by prints of them (see `take_memory.py`), but for a take that was resumed.

        Raises:
            DatasetError: the file of a resumed take cannot be read.
        """
        if isinstance(self._recorder, LeftTake):
            return self._recorder.episode()
        return None if self._memory is None or self._info is None else self._memory.episode(self._info)

    @property
    def success(self) -> bool | None:
        """The verdict on the take in hand so far."""
        return None if self._info is None else self._info.success

    def prepare(self, seed: int | None = None, start: Start | None = None) -> Aligned:
        """Bring the arm to the start of an episode; returns what is seen there. Then `ready`."""
        self._require("prepare")
        options = None if start is None else {"start": start}
        _, details = self._stage.reset(seed=seed, options=options)
        aligned = self._aligned()
        self._device.reset(aligned.values)
        control, began = self._stage.control, details["start"]
        self._info = new_info(
            robot=control.robot.name,
            task=self._stage.task.name,
            spec=control.actions.spec,
            rate_hz=control.robot.rate_hz,
            operator=self._config.operator,
            device=self._device.name,
            seed=seed,
            randomization=began.physics,
            start=None if self._simulator_state() is None else began.numbers(),
        )
        self.marked = self._judged = None
        self.wanted = began
        self.state = "ready"
        return aligned

    def poll(self) -> tuple[Event, ...]:
        """What the operator pressed, without moving the arm; for every state but `recording`."""
        read = getattr(self._device, "poll", self._device.read)
        self.device_says = (reading := read(self._aligned())).message
        return reading.events

    def start(self) -> None:
        """Begin to record. Then `recording`."""
        self._require("start")
        # Looked at anew: the operator may have taken a minute to press start.
        self._stage.aligned = self._stage.control.begin()
        native = getattr(self._stage, "streams", None)  # what an arm's topics bring at their own rate
        self._recorder = EpisodeRecorder(self._dataset, self._known_info(), self._aligned(), native)
        self._memory = TakeMemory(self._aligned())
        self.state = "recording"
        pressed = getattr(self._device, "start_pressed", None)
        if pressed is not None:
            pressed()

    def resume(self, id: str) -> None:
        """Take up a take that was left in `recording/` by a crash or by closing. Then `review`.

        Raises:
            DatasetError: there is no such take, it cannot be read, or another recorder has it.
        """
        self._require("resume")
        self._recorder = LeftTake(self._dataset, id)
        self._info = self._recorder.info
        self._judged = self._info.success
        self.state = "review"

    def tick(self) -> Tick:
        """One control period: ask the device, move the arm, record. Stops by itself on success or time.

        Raises:
            StaleObservation, ArmFault: the arm cannot go on; it holds, and the take so far is in review.
            RecordingError: the disk failed; what it has is recovered when the dataset is opened next. Then `idle`.
        """
        self._require("tick")
        try:
            return self._tick()
        except RecordingError:
            self._forget(leave=True)
            self._hold_after_fault()
            raise
        except UnderstudyError as error:
            self.state = "review"
            self.note(f"stopped: {error}")
            self._hold_after_fault()
            raise

    def stop(self) -> None:
        """End the take; the arm holds. Then `review`."""
        self._require("stop")
        self.state = "review"
        self._hold()

    def hold(self) -> None:
        """Stop the arm; a take that is being recorded ends, and is in `review`."""
        self._require("hold")
        if self.state == "recording":
            self.note("held by the operator")
            self.state = "review"
        self._hold()

    def mark(self, success: bool | None) -> None:
        """Judge the take; the operator's word stands above the task's, which counts again after None."""
        self._require("mark")
        self.marked = success
        self._info = dataclasses.replace(self._known_info(), success=self._judged if success is None else success)

    def note(self, text: str) -> None:
        """Add words to the take."""
        self._require("note")
        info = self._known_info()
        self._info = dataclasses.replace(info, note="; ".join(part for part in (info.note, text) if part))

    def intervene(self) -> None:
        """The operator takes over: steps from now on are recorded as interventions."""
        self._require("intervene")
        self.intervening = True
        if hasattr(self._device, "take_over"):
            self._device.take_over()

    def release(self) -> None:
        """The operator hands back; see `intervene`."""
        self._require("release")
        self.intervening = False
        if hasattr(self._device, "hand_back"):
            self._device.hand_back()

    def keep(self) -> str:
        """Commit the take; returns its id. Then `idle`.

        Raises:
            RecordingError: it could not be written; what is on disk stays recoverable.
        """
        self._require("keep")
        self.state = "saving"
        try:
            id = self._recording().keep(self._known_info())
        finally:
            self._forget()
        self.kept.append(id)
        self._undone.clear()
        return id

    def drop(self) -> None:
        """Put the take in the trash (from `ready`: do not record it at all). Then `idle`."""
        self._require("drop")
        moving = self.state == "recording"
        try:
            if self._recorder is not None:
                self._recorder.drop(self._known_info())
        finally:
            self._forget()
            if moving:
                self._hold()

    def undo(self) -> str:
        """Move the take kept last to the trash; returns its id. One that is gone from the dataset is passed over.

        Raises:
            InputError: nothing that was kept in this session is there any more, or not in `idle` or `ready`.
        """
        self._require("undo")
        while self.kept:
            id = self.kept.pop()
            if id in self._dataset.ids:
                self._dataset.drop(id)
                self._undone.append(id)
                return id
        raise InputError("There is nothing to undo: this session has kept no take yet, or they were dropped since.")

    def redo(self) -> str:
        """Bring back the take that `undo` took back last; returns its id.

        Raises:
            InputError: there is none in the trash any more, or not in `idle` or `ready`.
        """
        self._require("redo")
        while self._undone:
            id = self._undone.pop()
            if id in self._dataset.dropped:
                self._dataset.restore(id)
                self.kept.append(id)
                return id
        raise InputError("There is nothing to redo: no take was taken back since the last one was kept.")

    def close(self) -> None:
        """Leave the session: the arm holds, the device is released, a take in hand stays recoverable."""
        moving = self.state == "recording"
        self._forget(leave=True)
        try:
            if moving:
                self._hold()
        finally:
            self._device.close()

    def _tick(self) -> Tick:
        before = self._aligned()
        state = self._simulator_state()
        reading = self._device.read(before)
        self.device_says = reading.message
        self.intervening = bool(getattr(self._device, "intervening", self.intervening))
        _, reward, _, _, details = self._stage.step_units(reading.action)
        if getattr(self._device, "derived", False):  # moved by hand: what the arm did is all there is
            reading = dataclasses.replace(reading, action=details["measured"])
            details = {**details, "sent": details["measured"], "requested": details["measured"]}
        # on an arm that somebody else drives, what was asked for is only known afterwards
        motion = Motion(details.get("requested", reading.action), details["sent"], details["measured"])
        recorder, memory = self._recording(), self._memory
        assert isinstance(recorder, EpisodeRecorder)  # what was left is never recorded on
        assert memory is not None
        recorder.tick(motion, reward, self._aligned(), state, intervention=self.intervening)
        memory.add(before, motion, reward, self._aligned())
        success = bool(details["success"])
        self._judge(reading, success)
        stopped = self._why_stop(reading, success)
        if stopped:
            self.stop()
        return Tick(reading, reward, success, stopped)

    def _judge(self, reading: DeviceReading, success: bool) -> None:
        """The task judges every tick; what the operator pressed stands above it."""
        for event in reading.events:
            if event in ("success", "failure"):
                self.marked = event == "success"
        self._judged = success
        verdict = success if self.marked is None else self.marked
        self._info = dataclasses.replace(self._known_info(), success=verdict)

    def _why_stop(self, reading: DeviceReading, success: bool) -> str:
        if success and self._config.stop_on_success:
            return "success"
        if "lost" in reading.events:
            return "device lost"
        if {"stop", "success", "failure", "quit"} & set(reading.events):
            return "operator"
        return "time" if self.steps >= self._max_steps else ""

    def _simulator_state(self) -> NDArray[np.float64] | None:
        arm: Any = self._stage.control.arm
        read = getattr(getattr(arm, "inner", arm), "simulator_state", None)
        return None if read is None else np.asarray(read(), np.float64)

    def _aligned(self) -> Aligned:
        if self._stage.aligned is None:
            raise InputError("The session has no observation yet; call prepare first.")
        return self._stage.aligned

    def _recording(self) -> EpisodeRecorder | LeftTake:
        assert self._recorder is not None  # the states that lead here have one
        return self._recorder

    def _known_info(self) -> EpisodeInfo:
        assert self._info is not None  # likewise
        return self._info

    def _hold(self) -> None:
        self._stage.control.arm.hold()

    def _hold_after_fault(self) -> None:
        """Hold, if the arm can be told anything at all: the fault that came first is the one to be reported."""
        try:
            self._hold()
        except UnderstudyError as error:
            if self._info is not None:
                self.note(f"the arm could not be told to hold: {error}")

    def _forget(self, *, leave: bool = False) -> None:
        """No take is in hand any more; with `leave` it stays where it is, to be recovered."""
        recorder, self._recorder = self._recorder, None
        self._memory = self._info = self.marked = self._judged = None
        self.intervening, self.state = False, "idle"
        if leave and recorder is not None:
            recorder.leave()

    def _require(self, wish: str) -> None:
        possible = POSSIBLE[self.state]
        if wish not in possible:
            raise InputError(
                f"Cannot {wish} while the session is {self.state}; possible now: {', '.join(possible) or 'nothing'}."
            )
