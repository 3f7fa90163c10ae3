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
import math
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.capture.devices.device import Device, DeviceReading, Event
from understudy.capture.kept_takes import KeptTakes
from understudy.capture.left_take import LeftTake
from understudy.capture.movers import Mover
from understudy.capture.recorder import Motion, new_info
from understudy.capture.session_states import GRANTED, POSSIBLE, State, Wish
from understudy.capture.take import Take
from understudy.capture.unconfirmed import took_place
from understudy.datasets.align import Aligned
from understudy.datasets.episode import Episode
from understudy.datasets.live_file import EmptyRecording
from understudy.datasets.schema import EpisodeInfo
from understudy.datasets.store import Dataset
from understudy.envs.arms.arm import Start
from understudy.envs.control import Control
from understudy.envs.tasks.task import Task
from understudy.errors import InputError, RecordingError, UnderstudyError

__all__ = ["POSSIBLE", "Session", "SessionConfig", "Stage", "State", "Tick"]

BRAKE_S = 2.0
"""No arm brakes for longer within its limits."""


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
        self.stage = stage
        self.device = device
        self.dataset = dataset
        self.config = config
        self._max_steps = max(1, round(config.max_s * stage.control.robot.rate_hz))
        self.intervening = False
        """Whether steps are recorded as interventions."""
        self.wanted: Start | None = None
        """Where the episode that was prepared last is meant to start."""
        self.device_says = ""
        """What the device would like the operator to know, as of its latest reading; empty for nothing."""
        self.unfinished: list[str] = []
        """Ids of takes of this session that nobody has decided on; they wait in `recording/`, for `resume`."""
        self.warning = ""
        """What is to be said of the latest keep, drop, undo or redo: it is done, and the disk did not confirm it."""
        self._history = KeptTakes(dataset)
        self._take: Take | None = None
        self._asked: NDArray[np.float64] | None = None

    @property
    def simulated(self) -> bool:
        """Whether the scene is one that stands still while nobody steps it."""
        return self._simulator_state() is not None

    @property
    def moved_by(self) -> Mover:
        """Who moves the arm."""
        mover: Mover = getattr(self.stage.control.arm, "moved_by", "session")
        return mover

    @property
    def wishes(self) -> tuple[Wish, ...]:
        """What an operator may wish now; each of these will be granted, and nothing else."""
        absent = {
            "undo": not self._history.ids,
            "redo": not self._history.undone,
            "unmark": self.marked is None,
            "intervene": self.intervening,
            "release": not self.intervening,
            "keep": self.steps == 0,
        }
        return tuple(wish for wish in GRANTED[self.state] if not absent.get(wish, False))

    @property
    def kept(self) -> tuple[str, ...]:
        """Ids kept in this session, the latest last."""
        return tuple(self._history.ids)

    @property
    def take_info(self) -> EpisodeInfo | None:
        """What is known of the take in hand, or of the one that is prepared."""
        return None if self._take is None else self._take.info

    @property
    def take_path(self) -> Path | None:
        """The file of the take in hand."""
        return None if self._take is None else self._take.path

    @property
    def steps(self) -> int:
        """Steps of the take in hand."""
        return 0 if self._take is None else self._take.steps

    @property
    def success(self) -> bool | None:
        """The verdict on the take in hand so far."""
        return None if self._take is None else self._take.info.success

    @property
    def marked(self) -> bool | None:
        """The operator's own verdict on the take in hand; None while there is none."""
        return None if self._take is None else self._take.marked

    @property
    def gripper_asked_m(self) -> float | None:
        """Opening that was asked for at the latest step, by whoever drove, m; None while nothing is recorded."""
        labels = self.stage.control.actions.spec.labels
        if self.state != "recording" or self._asked is None or "gripper" not in labels:
            return None
        return float(self._asked[labels.index("gripper")])

    def take(self) -> Episode | None:
        """The take in hand as it would be kept now; None while it has no steps. See `Take.episode`.

        Raises:
            DatasetError: the file of a resumed take cannot be read.
        """
        return None if self._take is None else self._take.episode()

    def prepare(self, seed: int | None = None, start: Start | None = None) -> Aligned:
        """Bring the arm to the start of an episode; returns what is seen there. Then `ready`."""
        self._require("prepare")
        options = None if start is None else {"start": start}
        _, details = self.stage.reset(seed=seed, options=options)
        aligned = self._aligned()
        self.device.reset(aligned.values)
        control, began = self.stage.control, details["start"]
        info = new_info(
            robot=control.robot.name,
            task=self.stage.task.name,
            spec=control.actions.spec,
            rate_hz=control.robot.rate_hz,
            operator=self.config.operator,
            device=self.device.name,
            seed=seed,
            randomization=began.physics,
            start=None if self._simulator_state() is None else began.numbers(),
        )
        self._take = Take(info)
        self.wanted = began
        self.state = "ready"
        return aligned

    def poll(self) -> tuple[Event, ...]:
        """What the operator pressed, without moving the arm; for every state but `recording`."""
        read = getattr(self.device, "poll", self.device.read)
        self.device_says = (reading := read(self._aligned())).message
        return reading.events

    def start(self) -> None:
        """Begin to record. Then `recording`."""
        self._require("start")
        # Looked at anew: the operator may have taken a minute to press start.
        self.stage.aligned = self.stage.control.begin()
        native = getattr(self.stage, "streams", None)  # what an arm's topics bring at their own rate
        self._in_hand().begin(self.dataset, self._aligned(), native)
        self._asked = None
        self.state = "recording"
        pressed = getattr(self.device, "start_pressed", None)
        if pressed is not None:
            pressed()

    def resume(self, id: str) -> None:
        """Take up a take that was left in `recording/` by a crash or by closing. Then `review`.

        Raises:
            DatasetError: there is no such take, it cannot be read, or another recorder has it.
            RecordingError: it was not written to its end, and that cannot be done now; it waits.
            OSError: the disk fails.
        """
        self._require("resume")
        if id in self.unfinished:
            self._finish(id)
        left = LeftTake(self.dataset, id)
        self._take = Take(left.info, left)
        self.state = "review"

    def tick(self) -> Tick:
        """One control period: ask the device, move the arm, record. Stops by itself on success or time.

        Raises:
            StaleObservation, ArmFault: the arm cannot go on; it holds, and the take so far is in review.
            RecordingError: the disk failed; what it has is `unfinished`, and recovered by `resume`, or when the dataset
                is opened next. Then `idle`.
        """
        self._require("tick")
        try:
            return self._tick()
        except RecordingError:
            self._hold_after_fault()
            self._let_go()
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
        self._in_hand().mark(success)

    def note(self, text: str) -> None:
        """Add words to the take."""
        self._require("note")
        self._in_hand().note(text)

    def intervene(self) -> None:
        """The operator takes over: steps from now on are recorded as interventions."""
        self._require("intervene")
        self.intervening = True
        if hasattr(self.device, "take_over"):
            self.device.take_over()

    def release(self) -> None:
        """The operator hands back; see `intervene`."""
        self._require("release")
        self.intervening = False
        if hasattr(self.device, "hand_back"):
            self.device.hand_back()

    def keep(self) -> str:
        """Commit the take; returns its id. Then `idle`.

        Raises:
            RecordingError, DatasetError, OSError: it could not be committed. It is still in `review`, to be tried again
                or dropped; one that cannot be written to its end is `unfinished`, and the session `idle`.
        """
        self._require("keep")
        self.state = "saving"
        take = self._in_hand()
        assert take.path is not None  # only what was recorded is in review
        self._settle(take.keep, lambda: self.dataset.ids)
        self._history.add(take.path.stem)
        return take.path.stem

    def drop(self) -> None:
        """Put the take in the trash (from `ready`: do not record it at all). Then `idle`.

        Raises:
            RecordingError, OSError: it could not be moved; as with `keep`.
        """
        self._require("drop")
        try:
            if self.state == "recording":
                self._hold()  # before anything that takes time
        finally:
            self._settle(self._in_hand().drop, lambda: self.dataset.dropped)

    def undo(self) -> str:
        """Move the take kept last to the trash; returns its id. One that is gone from the dataset is passed over.

        Raises:
            InputError: nothing that was kept in this session is there any more, or not in `idle` or `ready`.
            DatasetError, OSError: it could not be moved; it is kept still.
        """
        self._require("undo")
        id = self._history.undo()
        self.warning = self._history.warning
        return id

    def redo(self) -> str:
        """Bring back the take that `undo` took back last; returns its id.

        Raises:
            InputError: there is none in the trash any more, or not in `idle` or `ready`.
            DatasetError, OSError: it could not be moved; it can be brought back still.
        """
        self._require("redo")
        id = self._history.redo()
        self.warning = self._history.warning
        return id

    def close(self) -> None:
        """Leave the session: the arm holds, the device is released, a take in hand stays recoverable."""
        try:
            if self.state == "recording":
                self._hold()
        finally:
            try:
                if self._take is not None:
                    self._let_go()
            finally:
                self.device.close()

    def _tick(self) -> Tick:
        before = self._aligned()
        state = self._simulator_state()
        reading = self.device.read(before)
        self.device_says, self._asked = reading.message, reading.action
        self.intervening = bool(getattr(self.device, "intervening", self.intervening))
        _, reward, _, _, details = self.stage.step_units(reading.action)
        if getattr(self.device, "derived", False):  # moved by hand: what the arm did is all there is
            reading = dataclasses.replace(reading, action=details["measured"])
            details = {**details, "sent": details["measured"], "requested": details["measured"]}
        # on an arm that somebody else drives, what was asked for is only known afterwards
        motion = Motion(details.get("requested", reading.action), details["sent"], details["measured"])
        take = self._in_hand()
        drives = self.intervening and bool(getattr(self.device, "drives", True))
        take.record(before, motion, reward, self._aligned(), state, intervention=drives)
        success = bool(details["success"])
        for event in reading.events:
            if event in ("success", "failure"):
                take.mark(event == "success")
        take.judge(success)
        stopped = self._why_stop(reading, success)
        if stopped:
            self.stop()
        return Tick(reading, reward, success, stopped)

    def _why_stop(self, reading: DeviceReading, success: bool) -> str:
        if success and self.config.stop_on_success:
            return "success"
        if "lost" in reading.events:
            return "device lost"
        if {"stop", "success", "failure", "quit"} & set(reading.events):
            return "operator"
        return "time" if self.steps >= self._max_steps else ""

    def _simulator_state(self) -> NDArray[np.float64] | None:
        arm: Any = self.stage.control.arm
        read = getattr(getattr(arm, "inner", arm), "simulator_state", None)
        return None if read is None else np.asarray(read(), np.float64)

    def _aligned(self) -> Aligned:
        if self.stage.aligned is None:
            raise InputError("The session has no observation yet; call prepare first.")
        return self.stage.aligned

    def _in_hand(self) -> Take:
        assert self._take is not None  # the states that lead here have one
        return self._take

    def _hold(self) -> None:
        """Bring the arm to rest within its limits, before anything that takes time: a Guard brakes period by period."""
        control = self.stage.control
        period_ns = round(control.robot.period_s * 1e9)
        for _ in range(math.ceil(BRAKE_S / control.robot.period_s)):
            control.arm.hold()
            if getattr(control.arm, "at_rest", True):
                return
            control.arm.clock.sleep_until(control.arm.clock.now_ns() + period_ns)

    def _hold_after_fault(self) -> None:
        """Hold, if the arm can be told anything at all: the fault that came first is the one to be reported."""
        try:
            self._hold()
        except UnderstudyError as error:
            self._in_hand().note(f"the arm could not be told to hold: {error}")

    def _settle(self, act: Callable[[], object], settled: Callable[[], Container[str]]) -> None:
        """Keep or drop the take in hand; where that fails it stays in hand, as long as anything can be done with it.

        Args:
            act: does it.
            settled: the ids among which the take is when it is done, whatever failed after that.
        """
        take = self._in_hand()
        try:
            self.warning = took_place(act, partial(_is_among, take, settled))
        except (UnderstudyError, OSError) as error:
            if take.broken or isinstance(error, EmptyRecording):
                self._let_go()
            else:
                self.state = "review"
            raise
        self._forget().leave()

    def _let_go(self) -> None:
        """No take is in hand any more; what there is of it on disk waits there."""
        take = self._forget()
        if take.steps and take.path is not None and take.path.exists():
            self.unfinished.append(take.path.stem)
        take.leave()

    def _finish(self, id: str) -> None:
        """Write a take that could not be finished to its end, as after a crash."""
        if id not in self.dataset.takes():
            why = self.dataset.recover().unreadable.get(id, "")
            if why:
                raise RecordingError(f"Take {id} cannot be finished now, and waits in recording/: {why}")
        self.unfinished.remove(id)

    def _forget(self) -> Take:
        """No take is in hand any more; returns the one that was."""
        take, self._take = self._in_hand(), None
        self.intervening, self.state = False, "idle"
        return take

    def _require(self, wish: str) -> None:
        possible = POSSIBLE[self.state]
        if wish not in possible:
            raise InputError(
                f"Cannot {wish} while the session is {self.state}; possible now: {', '.join(possible) or 'nothing'}."
            )


def _is_among(take: Take, settled: Callable[[], Container[str]]) -> bool:
    """Whether a take lies in `recording/` no more, and is one of these."""
    return take.path is not None and not take.path.exists() and take.path.stem in settled()
