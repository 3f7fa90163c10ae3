"""The one thread that drives a session: it owns the stage, the device and the simulator, and everybody else asks it.

Page, terminal, pedal and ROS 2 only use `ask`, `view`, `wait_view` and `picture`, from any thread. Ticks are paced by
the arm's clock while a take is recorded; in between, the thread waits for wishes, and a simulated scene stands still.

Owns threads, pacing, the countdown and the operator's second word; what may happen when is `session.py`'s, whether a
take is any good is `gate.py`'s.
"""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.capture.devices.device import Event
from understudy.capture.gate import Gate, GateConfig, failures
from understudy.capture.session import Session
from understudy.capture.session_pictures import SessionPictures
from understudy.capture.session_prompt import prompt
from understudy.capture.session_view import WISHES, Finding, SessionView, StreamLight, Wish
from understudy.capture.stream_lights import ObservationLights
from understudy.datasets.index import INDEX
from understudy.datasets.schema import is_image
from understudy.datasets.store import Dataset
from understudy.envs.arms.clock import Clock, MonotonicClock
from understudy.errors import InputError, RecordingError, StaleObservation, UnderstudyError, unknown_name

LOOKED_AT_S = 1.0
"""A picture that nobody asked for within this time is not drawn."""
ANYWAY = "anyway"
"""The word with which `keep` and `start` go through at once, whatever the gate found."""


@dataclass(frozen=True)
class LoopConfig:
    """How a session is driven."""

    aim: int | None = None
    """Episodes that the dataset shall hold at the end; None: as many as there come."""
    countdown_s: float = 0.0
    """From the wish to start until recording begins, s."""
    auto_prepare: bool = True
    """Prepare the next take as soon as one was kept or dropped."""
    resume_takes: bool = False
    """Begin with the takes that were left in `recording/`, one after the other, in review."""
    attend_s: float | None = None
    """While recording, the arm holds when no front has asked anything for this long, s; None: nobody needs to."""
    picture_hz: float = 10.0
    """Pictures of a camera are renewed at most this often."""
    view_hz: float = 20.0
    """The view is renewed at most this often while nothing but numbers change."""
    gate: GateConfig = dataclasses.field(default_factory=GateConfig)

    def __post_init__(self) -> None:
        if self.aim is not None and self.aim < 1:
            raise InputError(f"A session's aim must be at least one episode, got {self.aim}.")
        if not (math.isfinite(self.countdown_s) and self.countdown_s >= 0.0):
            raise InputError(f"The countdown must be a number of seconds, at least 0, got {self.countdown_s}.")
        if self.attend_s is not None and not (math.isfinite(self.attend_s) and self.attend_s > 0.0):
            raise InputError(f"The time to attend must be a positive number of seconds or None, got {self.attend_s}.")
        for name in ("picture_hz", "view_hz"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0.0):
                raise InputError(f"A session's {name} must be a positive number of Hz, got {getattr(self, name)}.")


class _Request:
    """A wish that somebody waits for."""

    def __init__(self, wish: Wish, text: str) -> None:
        self.wish, self.text = wish, text
        self.answered = threading.Event()
        self.answer = ""
        self.error: UnderstudyError | None = None
        self.taken_up = False
        self.given_up = False


class SessionLoop:
    """Drives one session. `run` in a thread, or `start` one; without either, whoever made it calls `turn`."""

    def __init__(
        self,
        session: Session,
        *,
        config: LoopConfig | None = None,
        seeds: Iterator[int] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Args:
        session: what is driven; it is closed with the loop.
        config: countdown, aim, gate.
        seeds: of the episodes to come; None: the next that nobody has claimed.
        clock: measures countdowns and silences, a person's time; None is the machine's. The arm has its own.

        Raises:
            InputError: as `Session.prepare`, where a robot has no such observation.
        """
        self.session = session
        self.config = config or LoopConfig()
        self.failure: UnderstudyError | None = None
        """What went wrong last, for a script; None once something has gone right since."""
        self._seeds = seeds or fresh_seeds(session.dataset, 0)
        self._clock = clock or MonotonicClock()
        self._changed = threading.Condition()
        self._requests: deque[_Request] = deque()
        self._owner = threading.get_ident()
        self._thread: threading.Thread | None = None
        self._closing = self._closed = False
        self._stage: Any = session.stage
        control = session.stage.control
        self._simulated = session.simulated
        self._hardware = hasattr(self._stage, "lights")
        expected_hz = None if self._hardware else control.robot.rate_hz
        self._lights = ObservationLights(control.assembler.keys, control.assembler.max_age_s, expected_hz)
        self._gate = Gate(session, self.lights, self.config.gate)
        observed = tuple(key.removeprefix("image_") for key in control.assembler.keys if is_image(key))
        self._pictures = SessionPictures(
            control.robot, session.stage.task, observed, simulated=self._simulated, hardware=self._hardware
        )
        self._shown: dict[str, NDArray[np.uint8]] = {}
        self._looked_ns: dict[str, int] = {}
        self._drawn_ns = -(10**18)
        self._left = deque(session.dataset.takes()) if self.config.resume_takes else deque()
        self._countdown_ns: int | None = None
        self._findings: tuple[Finding, ...] = ()
        self._insisting: Wish | None = None
        """What was refused for a failure, and goes through when it is asked for once more."""
        self._message = self._error = ""
        self._quit = self._was_recording = self._device_lost = False
        self._idle_by_fault = False
        self._counted: tuple[int, int] = (-1, 0)
        self._attended_ns = self._clock.now_ns()
        self._published_ns = -(10**18)
        self._view = self._look(0)

    # what anybody may ask, from any thread

    def ask(self, wish: Wish, text: str = "", *, timeout_s: float = 5.0) -> str:
        """Ask for something and wait until it is done; returns what happened, in a sentence.

        Args:
            wish: what.
            text: the words of a note; "anyway" with `start` or `keep`, in spite of what the gate found; the id of a
                take left in `recording/` with `prepare`, to review that.
            timeout_s: how long to wait.

        Raises:
            InputError: it cannot be now; says what can.
            RecordingError: the session did not answer, or has ended.
            UnderstudyError: it was tried and failed, as the arm or the disk says.
        """
        if wish not in WISHES:
            raise unknown_name("wish", wish, WISHES)
        self._attended_ns = self._clock.now_ns()
        if threading.get_ident() == self._owner and not self._closed:
            try:
                return self._do(wish, text)
            finally:
                self._publish()
        request = _Request(wish, text)
        with self._changed:
            if self._closed:
                raise RecordingError("The session has ended; start another one.")
            self._requests.append(request)
            self._changed.notify_all()
        if not request.answered.wait(timeout_s):
            with self._changed:
                request.given_up = not request.taken_up
            still = "it is still at it" if request.taken_up else "it was not done"
            raise RecordingError(f"The session did not answer to {wish!r} within {timeout_s:g} s; {still}.")
        if request.error is not None:
            raise request.error
        return request.answer

    def view(self) -> SessionView:
        """The session at the latest moment."""
        self._attended_ns = self._clock.now_ns()
        return self._view

    def wait_view(self, after_revision: int, timeout_s: float) -> SessionView:
        """The first view with a revision above `after_revision`, or the latest when none has come in time."""
        self._attended_ns = self._clock.now_ns()
        with self._changed:
            self._changed.wait_for(lambda: self._view.revision > after_revision or self._closed, timeout_s)
            return self._view

    def picture(self, camera: str) -> NDArray[np.uint8] | None:
        """The latest picture (H, W, 3) of a camera of the view; None until there is one.

        Raises:
            InputError: there is no such camera.
        """
        if camera not in self._pictures.cameras:
            raise unknown_name("camera", camera, self._pictures.cameras)
        self._attended_ns = self._looked_ns[camera] = self._clock.now_ns()
        return self._shown.get(camera)

    def lights(self) -> tuple[StreamLight, ...]:
        """How every source of the session is doing; for the loop's own thread."""
        told: tuple[StreamLight, ...] = self._stage.lights() if self._hardware else self._lights.lights()
        return told

    # the thread

    def start(self) -> None:
        """Run in a thread of its own."""
        ready, main = threading.Event(), threading.main_thread()

        def work() -> None:
            self._owner = threading.get_ident()
            ready.set()
            self.run(lambda: not main.is_alive())  # a program that ends without closing is not kept from ending

        self._thread = threading.Thread(target=work, name="session")
        self._thread.start()
        ready.wait()

    def run(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Drive the session in the calling thread until `close`, or until `stop` says so (asked once a tick)."""
        self._owner = threading.get_ident()
        try:
            while not self._closing and not stop():
                self.turn()
                if self.session.state != "recording":
                    self._rest()
        except BaseException as error:
            self._error = f"The session has broken off: {error!r}. The take in hand, if any, stays recoverable."
            raise
        finally:
            self._end()

    def close(self) -> None:
        """End the session: the arm holds, a take in hand stays recoverable. Safe to call twice, from any thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None and threading.get_ident() != self._thread.ident:
            self._thread.join()
        if threading.get_ident() == self._owner:
            self._end()

    def turn(self) -> None:
        """One turn: answer wishes, then one control period of the take, or a look at the device."""
        for request in self._taken_up():
            self._answer(request)
        if self.session.state == "recording":
            self._tick()
        else:
            self._between()
        self._draw()
        if (self._clock.now_ns() - self._published_ns) * self.config.view_hz >= 1e9:
            self._publish()

    def _rest(self) -> None:
        """Wait for a wish, no longer than a control period: the device is looked at that often."""
        period_s = self.session.stage.control.robot.period_s
        with self._changed:
            if not self._requests and not self._closing:
                self._changed.wait(period_s)

    def _end(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            waiting = list(self._requests)
            self._requests.clear()
            self._changed.notify_all()
        for request in waiting:
            request.error = RecordingError(f"The session ended before it came to {request.wish!r}.")
            request.answered.set()
        self._pictures.close()
        self.session.close()
        self._publish()

    def _taken_up(self) -> list[_Request]:
        with self._changed:
            taken = [request for request in self._requests if not request.given_up]
            self._requests.clear()
            for request in taken:
                request.taken_up = True
        return taken

    def _answer(self, request: _Request) -> None:
        try:
            request.answer = self._do(request.wish, request.text)
        except UnderstudyError as error:
            request.error = error
        finally:
            self._publish()  # before the answer: who asked looks at the view next
            request.answered.set()

    # wishes

    def _do(self, wish: Wish, text: str = "") -> str:
        """Do what is asked for, and say what happened."""
        if wish not in self.possible():
            counting = " and counts down" if self._countdown_ns is not None else ""
            raise InputError(
                f"Cannot {wish} while the session is {self.session.state}{counting}; possible now: "
                f"{', '.join(self.possible()) or 'nothing'}."
            )
        if wish != self._insisting:
            self._insisting = None
        try:
            self._message = getattr(self, f"_do_{wish}")(text)
        except UnderstudyError as error:
            self._fault(error)
            raise
        self._error, self.failure = "", None
        return self._message

    def possible(self) -> tuple[Wish, ...]:
        """What may be asked now."""
        if self._closed:
            return ()
        if self._countdown_ns is not None:
            return ("drop", "hold")
        return self.session.wishes

    def _do_prepare(self, text: str) -> str:
        if text:
            self.session.resume(text)
            return self._resumed(text)
        seed = next(self._seeds)
        reseed = getattr(self.session.device, "reseed", None)
        if reseed is not None:
            reseed(np.random.default_rng([seed, 1]))  # another imagined person for every episode
        aligned = self.session.prepare(seed=seed)
        self._idle_by_fault = False
        self._lights.begin()
        self._lights.note(aligned)
        if self.session.wanted is not None:
            self._pictures.want(self.session.wanted)
        self._findings = self._gate.before()
        return "The next take is prepared."

    def _do_start(self, text: str) -> str:
        self._see()
        self._findings = self._gate.before()
        if refused := self._refused("start", "Not started", "start", text):
            return refused
        if self.config.countdown_s > 0:
            self._countdown_ns = self._clock.now_ns() + round(self.config.countdown_s * 1e9)
            return f"Recording begins in {self.config.countdown_s:g} s."
        return self._begin()

    def _begin(self) -> str:
        self._countdown_ns = None
        self.session.start()
        pressed = getattr(self.session.device, "start_pressed", None)
        if pressed is not None:
            pressed()
        self._gate.begin()
        self._findings = ()
        return "Recording."

    def _do_stop(self, text: str) -> str:
        self.session.stop()
        return self._ended("stopped by the operator")

    def _do_hold(self, text: str) -> str:
        recording = self.session.state == "recording"
        self._countdown_ns = None
        self.session.hold()
        return self._ended("the arm holds") if recording else "The arm holds."

    def _do_keep(self, text: str) -> str:
        failing = self._why_failing()
        if refused := self._refused("keep", "Not kept yet", "keep", text):
            return refused
        if failing:
            self.session.note(f"kept in spite of: {failing}")
        self._publish(state="saving")
        id = self.session.keep()
        self._gate.kept(id)
        self._findings = ()
        return f"Kept {id}; the dataset holds {self._episodes()}."

    def _do_drop(self, text: str) -> str:
        if self._countdown_ns is not None:
            self._countdown_ns = None
            return "The countdown is cancelled."
        had_steps = self.session.steps > 0
        self.session.drop()
        self._findings = ()
        return "The take was dropped; it is in the trash." if had_steps else "Nothing was recorded."

    def _do_undo(self, text: str) -> str:
        return f"Took back {self.session.undo()}; redo brings it back."

    def _do_redo(self, text: str) -> str:
        return f"Brought back {self.session.redo()}."

    def _do_success(self, text: str) -> str:
        return self._marked(True)

    def _do_failure(self, text: str) -> str:
        return self._marked(False)

    def _do_unmark(self, text: str) -> str:
        self.session.mark(None)
        return "The mark is taken back; the task judges."

    def _do_note(self, text: str) -> str:
        if not text.strip():
            raise InputError("A note needs words: ask for 'note' with a text.")
        self.session.note(text.strip())
        return f"Noted: {text.strip()}"

    def _do_intervene(self, text: str) -> str:
        self.session.intervene()
        return "You have taken over; steps are marked as interventions."

    def _do_release(self, text: str) -> str:
        self.session.release()
        return "Handed back; steps are no longer marked."

    def _marked(self, success: bool) -> str:
        """A verdict; one that is given while a take is recorded also ends it, as it does from any device."""
        self.session.mark(success)
        word = "success" if success else "failure"
        if self.session.state == "recording":
            self.session.stop()
            return self._ended(f"marked as {word}")
        return f"Marked as {word}."

    def _refused(self, wish: Wish, what: str, again: str, text: str) -> str:
        """Why a failing take is not started or kept at once; empty when it is, or when the operator insists."""
        failing = self._why_failing()
        insisted = self._insisting == wish or text.strip().lower() == ANYWAY
        self._insisting = None
        if not failing or insisted:
            return ""
        self._insisting = wish
        return f"{what}: {failing}. Ask for {again} once more to do it anyway."

    def _why_failing(self) -> str:
        return "; ".join(failures(self._findings))

    def _ended(self, why: str) -> str:
        """A take has come to its end: judge it."""
        self._findings = self._gate.after()
        steps = self.session.steps
        failing = f" It fails: {self._why_failing()}." if self._why_failing() else ""
        return f"Take ended ({why}) after {steps} steps.{failing}"

    def _resumed(self, id: str) -> str:
        self._findings = self._gate.after()
        return f"Take {id} was left by an interruption, with {self.session.steps} steps: keep it or drop it."

    # turns

    def _tick(self) -> None:
        if self._unattended():
            self.session.note("nobody attended")
            self._message = self._do_hold("")
            self._publish()
            return
        try:
            tick = self.session.tick()
        except UnderstudyError as error:
            self._fault(error)
            if self.session.state == "review":
                self._message = self._ended("fault")
            self._publish()
            return
        if self.session.stage.aligned is not None:
            self._lights.note(self.session.stage.aligned)
        self._device_lost = _is_lost(self.session.device, tick.reading.events)
        if tick.stopped:
            self._message = self._ended(tick.stopped)
            self._publish()
        for event in tick.reading.events:
            if event not in ("start", "stop", "success", "failure", "lost"):
                self._heard(event)

    def _unattended(self) -> bool:
        attend_s = self.config.attend_s
        return attend_s is not None and (self._clock.now_ns() - self._attended_ns) * 1e-9 > attend_s

    def _between(self) -> None:
        """Between takes: brake the arm to rest, look at the device, count down, prepare what comes next."""
        self._brake()
        self._see()
        if self.session.stage.aligned is not None:
            events = self.session.poll()
            self._device_lost = _is_lost(self.session.device, events, self._device_lost)
            for event in events:
                self._heard(event)
        if self._countdown_ns is not None and self._clock.now_ns() >= self._countdown_ns:
            self._guarded(self._begin)
        if self.session.state == "idle" and self._wants_more():
            left = self._left.popleft() if self._left else ""
            self._guarded(lambda: self._do_prepare(left))

    def _wants_more(self) -> bool:
        if self._quit or self._closing or self._idle_by_fault:
            return False
        return bool(self._left) or (self.config.auto_prepare and not self._aim_reached())

    def _aim_reached(self) -> bool:
        return self.config.aim is not None and self._episodes() >= self.config.aim

    def _guarded(self, act: Callable[[], str]) -> None:
        """Do what nobody asked for just now; what goes wrong is told in the view."""
        try:
            self._message = act()
        except UnderstudyError as error:
            self._fault(error)
        self._publish()

    def _heard(self, event: Event) -> None:
        """Something was pressed on the device; what cannot be now is said, and nothing more."""
        if event == "quit":
            self._quit = True
            self._message = "The operator has quit."
        elif event in WISHES and event in self.possible():
            self._guarded(lambda: self._do(event))
        elif event in WISHES:
            self._message = f"Cannot {event} now; possible: {', '.join(self.possible()) or 'nothing'}."
        self._publish()

    def _fault(self, error: UnderstudyError) -> None:
        """Something failed: said in the view; nothing is prepared by itself until somebody asks."""
        self._error, self.failure = str(error), error
        self._idle_by_fault = self.session.state == "idle" and not isinstance(error, InputError)

    def _brake(self) -> None:
        """A Guard brakes within its limits, a period at a time; physics must go on for that long."""
        arm: Any = self.session.stage.control.arm
        if getattr(arm, "at_rest", True):
            return
        try:
            arm.hold()
            arm.clock.sleep_until(arm.clock.now_ns() + round(self.session.stage.control.robot.period_s * 1e9))
        except UnderstudyError as error:
            self._error = str(error)

    def _see(self) -> None:
        """Look at an arm that may move while nobody drives it; a simulated one stands still."""
        if self._simulated:
            return
        control = self.session.stage.control
        try:
            self.session.stage.aligned = control.observe(control.arm.clock.now_ns())
            self._lights.note(self.session.stage.aligned)
        except StaleObservation as error:
            self._error = str(error)

    def _draw(self) -> None:
        now_ns = self._clock.now_ns()
        if (now_ns - self._drawn_ns) * self.config.picture_hz < 1e9:
            return
        looked = tuple(name for name, at_ns in self._looked_ns.items() if (now_ns - at_ns) * 1e-9 <= LOOKED_AT_S)
        if looked:
            self._drawn_ns = now_ns
            self._shown.update(self._pictures.turn(looked, self.session.stage.aligned, now_ns))

    # the view

    def _publish(self, **changes: Any) -> None:
        """Renew the view if anything has changed."""
        self._published_ns = self._clock.now_ns()
        if self.session.state == "recording":
            self._findings = self._gate.during()
        view = dataclasses.replace(self._look(self._view.revision), **changes)
        if changes.get("state") == "saving":
            view = dataclasses.replace(view, possible=(), prompt="The take is being saved.")
        if view == self._view:
            return
        with self._changed:
            self._view = dataclasses.replace(view, revision=self._view.revision + 1)
            self._changed.notify_all()

    def _episodes(self) -> int:
        """How many episodes the dataset holds; anybody may change that, and counting them is slow."""
        stamp = os.stat(self.session.dataset.path / INDEX).st_mtime_ns
        if stamp != self._counted[0]:
            self._counted = (stamp, len(self.session.dataset))
        return self._counted[1]

    def _look(self, revision: int) -> SessionView:
        session, control = self.session, self.session.stage.control
        robot, info = control.robot, session.take_info
        seen = {} if session.stage.aligned is None else session.stage.aligned.values
        left_ns = 0 if self._countdown_ns is None else max(0, self._countdown_ns - self._clock.now_ns())
        finished = self._quit or (session.state == "idle" and self._aim_reached())
        return SessionView(
            revision=revision,
            state=session.state,
            possible=self.possible(),
            task=session.stage.task.name,
            robot=robot.name,
            device=session.device.name,
            operator=session.config.operator,
            device_lost=self._device_lost,
            holding=session.state != "recording",
            dataset=str(session.dataset.path),
            episodes=self._episodes(),
            aim=self.config.aim,
            kept=tuple(session.kept),
            steps=session.steps,
            elapsed_s=session.steps * robot.period_s,
            max_s=session.config.max_s,
            countdown_s=math.ceil(left_ns / 1e8) / 10,
            success=session.success,
            marked=session.marked,
            intervening=session.intervening,
            note="" if info is None else info.note,
            prompt=self._prompt(left_ns, finished),
            message=self._message,
            lights=self.lights(),
            findings=self._findings,
            cameras=self._pictures.cameras,
            joint_position=_numbers(seen.get("joint_position")),
            joint_names=robot.joint_names,
            joint_lower=_numbers(robot.joint_array("lower")),
            joint_upper=_numbers(robot.joint_array("upper")),
            gripper_m=next(iter(_numbers(seen.get("gripper_position"))), None),
            gripper_max_m=None if robot.gripper is None else robot.gripper.width,
            tool_position=_numbers(seen.get("tool_position"))[:3] or None,  # type: ignore[arg-type]
            finished=finished,
            error=self._error,
        )

    def _prompt(self, left_ns: int, finished: bool) -> str:
        return prompt(
            self.session.state,
            countdown_s=left_ns * 1e-9,
            hardware=self._hardware,
            wanted=self.session.wanted,
            success=self.session.success,
            failing=bool(self._why_failing()),
            device_lost=self._device_lost,
            finished=finished,
            steps=self.session.steps,
        )


def fresh_seeds(dataset: Dataset, first: int) -> Iterator[int]:
    """Seeds that no episode of the dataset used and no other recorder has claimed, from `first` on."""
    used = {dataset.summary(id).info.seed for id in dataset.select(unreadable={})}
    seed = max([first, *(known + 1 for known in used if known is not None and known >= first)])
    while True:
        seed = dataset.claim_seed(seed)
        yield seed
        seed += 1


def _is_lost(device: object, events: tuple[Event, ...], before: bool = False) -> bool:
    """Whether the device is gone: as it says itself, or since it said so in an event."""
    told: bool | None = getattr(device, "lost", None)
    return "lost" in events or before if told is None else bool(told)


def _numbers(values: Any) -> tuple[float, ...]:
    """An array as plain numbers, rounded as people read them; empty for None."""
    return () if values is None else tuple(round(float(value), 5) for value in np.ravel(values))
