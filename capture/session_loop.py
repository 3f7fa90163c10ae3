"""The one thread that drives a session: it owns the stage, the device and the simulator, and everybody else asks it.

Page, terminal, pedal and ROS 2 only use `ask`, `view`, `wait_view` and `picture`, from any thread. Ticks are paced by
the arm's clock while a take is recorded; in between, the thread waits for wishes, and a simulated scene stands still.

Owns threads and pacing; what may happen when is `session.py`'s, what a wish does is `session_wishes.py`'s, and whether
a take is any good is `gate.py`'s.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from understudy.capture.devices.device import Event
from understudy.capture.devices.make import AUTOMATIC
from understudy.capture.gate import Gate
from understudy.capture.loop_config import LoopConfig
from understudy.capture.movers import HELD
from understudy.capture.session import Session
from understudy.capture.session_look import look
from understudy.capture.session_mailbox import Mailbox
from understudy.capture.session_pictures import SessionPictures
from understudy.capture.session_prompt import prompt
from understudy.capture.session_states import State, meant
from understudy.capture.session_view import WISHES, SessionView, StreamLight, Wish
from understudy.capture.session_wishes import SessionWishes, fresh_seeds
from understudy.capture.stream_lights import ObservationLights
from understudy.datasets.schema import is_image
from understudy.envs.arms.clock import Clock, MonotonicClock
from understudy.errors import StaleObservation, UnderstudyError, unknown_name

__all__ = ["LoopConfig", "SessionLoop", "fresh_seeds"]

LOOKED_AT_S = 1.0
"""A picture that nobody asked for within this time is not drawn."""
NEVER_NS = -(10**18)
ALWAYS: tuple[Event, ...] = ("hold", "quit")
"""What counts whenever it was pressed."""


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
        """
        self.session = session
        self.config = config or LoopConfig()
        self._clock = clock or MonotonicClock()
        self._changed = threading.Condition()
        self._mail = Mailbox(self._changed)
        self._owner = threading.get_ident()
        self._thread: threading.Thread | None = None
        self._closing = self._closed = self._ended = False
        stage: Any = session.stage
        control = session.stage.control
        self._told_lights: Callable[[], tuple[StreamLight, ...]] | None = getattr(stage, "lights", None)
        self._simulated, self._hardware = session.simulated, self._told_lights is not None
        keys = control.assembler.keys
        self._lights = ObservationLights(
            keys, control.assembler.max_age_s, None if self._hardware else control.robot.rate_hz
        )
        self._gate = Gate(session, self.lights, self.config.gate)
        self._pictures = SessionPictures(
            control.robot,
            session.stage.task,
            tuple(key.removeprefix("image_") for key in keys if is_image(key)),
            simulated=self._simulated,
            hardware=self._hardware,
        )
        self._wishes = SessionWishes(session, self._gate, self.config, seeds, self._clock)
        self._wishes.on_saving, self._wishes.on_prepared = self._show_saving, self._prepared
        self._shown: dict[str, NDArray[np.uint8]] = {}
        self._looked_ns: dict[str, int] = {}
        self._left = deque(session.dataset.takes() if self.config.resume_takes else ())
        self._tried: set[str] = set()
        """Unfinished takes that need not be tried again before the disk has taken something."""
        self._quit = self._device_lost = self._waiting_for_word = False
        self._device_says = self._unseen = ""
        self._drawn_ns = self._published_ns = NEVER_NS
        self._attended_ns = self._clock.now_ns()
        self._view = self._look()

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
        if wish == "hold" and self._view.state == "saving" and self._at_rest:
            return f"{HELD[self._view.moved_by]} The take is being saved."  # nobody waits for the disk to hear that
        if threading.get_ident() == self._owner and not self._closed:
            try:
                return self._wish(wish, text)
            finally:
                self._publish()
        return self._mail.ask(wish, text, timeout_s)

    def view(self) -> SessionView:
        """The session at the latest moment."""
        self._attended_ns = self._clock.now_ns()
        return self._view

    def wait_view(self, after_revision: int, timeout_s: float) -> SessionView:
        """The first view with a revision above `after_revision`, or the latest when none has come in time."""
        self._attended_ns = self._clock.now_ns()
        return self.wait_latest(after_revision, timeout_s)

    def wait_latest(self, after_revision: int, timeout_s: float) -> SessionView:
        """As `wait_view`, for who only shows it: does not count as somebody who attends."""
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
        return self._lights.lights() if self._told_lights is None else self._told_lights()

    @property
    def latest(self) -> SessionView:
        """As `view`, for who only shows it: does not count as somebody who attends."""
        return self._view

    @property
    def dropped(self) -> int:
        """Takes that were dropped."""
        return self._wishes.dropped

    @property
    def ended(self) -> bool:
        """Whether the loop has ended; its view changes no more."""
        return self._ended

    @property
    def finished(self) -> bool:
        """Whether the operator has quit, or the dataset holds what was aimed at and no take is in hand, or waits."""
        return self._quit or (self.session.state == "idle" and self._wishes.aim_reached and not self._left)

    @property
    def failure(self) -> UnderstudyError | None:
        """What went wrong last, for a script; None once something has gone right since."""
        return self._wishes.failure

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
            self._wishes.error = f"The session has broken off: {error!r}. The take in hand, if any, stays recoverable."
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
        for request in self._mail.take():
            try:
                request.answer_by(self._wish)
            finally:
                self._publish()  # before the answer is given: who asked looks at the view next
                request.give()
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
            if self._mail.empty and not self._closing:
                self._changed.wait(period_s)

    def _end(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = self._wishes.closed = True
            self._changed.notify_all()
        try:
            self.session.close()  # the arm holds before anything that may take time or fail
        finally:
            self._ended = True
            self._mail.close()
            self._pictures.close()
            self._publish()

    # turns

    def _wish(self, wish: Wish, text: str = "") -> str:
        """Do what somebody asks for."""
        self._waiting_for_word = False
        if wish == "start":
            self._see()
        told = self._wishes.do(wish, text)
        if wish == "keep" and self.session.state == "idle":
            self._tried.clear()  # the disk takes again what it is given
        return told

    def _prepared(self) -> None:
        """An episode begins anew: what was seen before says nothing of it."""
        self._lights.begin()
        self._note_seen()
        if self.session.wanted is not None:
            self._pictures.want(self.session.wanted)

    def _tick(self) -> None:
        if self._unattended():
            self.session.note("nobody attended")
            self._of_itself(lambda: self._wishes.do("hold"))
            return
        try:
            tick = self.session.tick()
        except UnderstudyError as error:
            fault = error
            self._of_itself(lambda: self._broken(fault))
            return
        self._note_seen()
        self._hear(tick.reading.events)
        if tick.stopped:
            self._of_itself(lambda: self._wishes.guarded(lambda: self._wishes.ended(tick.stopped)))
        events = tuple(event for event in tick.reading.events if event != "quit")  # that has ended the take
        self._press(events, "recording")

    def _broken(self, fault: UnderstudyError) -> str:
        """A take that the arm or the disk ended is judged like any other; then the fault is told."""
        if self.session.state == "review":
            self._wishes.broke(fault)
        raise fault

    def _unattended(self) -> bool:
        attend_s = self.config.attend_s
        return attend_s is not None and (self._clock.now_ns() - self._attended_ns) * 1e-9 > attend_s

    def _between(self) -> None:
        """Between takes: brake the arm to rest, look at the device, count down, prepare what comes next."""
        self._brake()
        self._see()
        if self.session.stage.aligned is not None:
            events = self.session.poll()
            self._hear(events)
            self._press(events, self.session.state)
        if self._wishes.countdown_ns is not None and self._device_lost:
            self._of_itself(functools.partial(self._wish, "drop"))
            self._wishes.message = "The device is lost, so the countdown is cancelled."
        elif self._wishes.countdown_ns is not None:
            self._of_itself(self._wishes.count_down)
        if self.session.state == "idle" and self._wants_more():
            self._of_itself(self._next)

    def _next(self) -> None:
        """Take up the next take that was left, or prepare a new one; what was said last stays said."""
        said = self._wishes.message
        if self._left:
            if self.session.stage.aligned is None and not self._hardware:
                self.session.stage.reset()  # a device is read beside an observation, and there is none yet
            self._wish("prepare", self._left.popleft())
        else:
            self._wish("prepare")
            self._wishes.message = said or self._wishes.message

    def _wants_more(self) -> bool:
        if self.config.resume_takes and (fresh := set(self.session.unfinished) - self._tried):
            self._tried |= fresh
            self._left.extend(sorted(fresh))
            self._waiting_for_word = False
        if self._quit or self._closing or self._waiting_for_word:
            return False
        return bool(self._left) or (self.config.auto_prepare and not self._wishes.aim_reached)

    def _of_itself(self, act: Callable[[], object]) -> None:
        """Do what nobody asked for just now; what goes wrong is told in the view, and not tried again by itself."""
        try:
            act()
        except UnderstudyError as error:
            self._wishes.error, self._wishes.failure = str(error), error
            self._waiting_for_word = not self._left
        self._publish()

    def _hear(self, events: tuple[Event, ...]) -> None:
        """How the device is, as it says itself or in its events."""
        told: bool | None = getattr(self.session.device, "lost", None)
        if told is None:
            told = "lost" in events or (self._device_lost and "back" not in events)
        self._device_lost, self._device_says = bool(told), self.session.device_says

    def _pressed_before(self) -> tuple[Event, ...]:
        """What was pressed before there was this state to answer to, and counts all the same; the rest is forgotten."""
        if self.session.state in (self._view.state, "recording", "saving") or self.session.stage.aligned is None:
            return ()
        if self.session.device.name in AUTOMATIC:  # it presses nothing too early
            return ()
        events = self.session.poll()
        self._hear(events)
        return tuple(event for event in events if event in ALWAYS)

    def _press(self, events: tuple[Event, ...], state: State) -> None:
        """What was pressed on the device in `state`; what cannot be now is said, and nothing more."""
        for event in events:
            if event in ("lost", "back") or (self.session.state != state and event not in ALWAYS):
                continue
            possible = self._wishes.possible()
            if event == "quit":
                self._quit, self._wishes.message = True, "The operator has quit."
            elif (wish := meant(cast("Wish", event), possible)) in possible:
                self._of_itself(functools.partial(self._wish, wish))
            elif event not in ("stop", "success", "failure"):  # these the tick has taken in, when they counted
                allowed = ", ".join(self._wishes.possible()) or "nothing"
                self._wishes.message = f"Cannot {event} now; possible: {allowed}."
            self._publish()

    @property
    def _at_rest(self) -> bool:
        return bool(getattr(self.session.stage.control.arm, "at_rest", True))

    def _brake(self) -> None:
        """An arm whose braking a fault broke off is braked further, a period at a time."""
        if self._at_rest:
            return
        arm = self.session.stage.control.arm
        try:
            arm.hold()
            arm.clock.sleep_until(arm.clock.now_ns() + round(self.session.stage.control.robot.period_s * 1e9))
        except UnderstudyError as error:
            self._wishes.error = str(error)

    def _see(self) -> None:
        """Look at an arm that may move while nobody drives it; a simulated one stands still."""
        if self._simulated:
            return
        control, unseen = self.session.stage.control, self._unseen
        try:
            self.session.stage.aligned = control.observe(control.arm.clock.now_ns())
            self._unseen = ""
        except StaleObservation as error:
            self._unseen = str(error) if self.session.state == "ready" else ""
        if self._unseen or self._wishes.error == unseen:
            self._wishes.error = self._unseen
        self._note_seen()

    def _note_seen(self) -> None:
        if self.session.stage.aligned is not None:
            self._lights.note(self.session.stage.aligned)

    def _draw(self) -> None:
        self._shown.update(self._pictures.drawn_since())
        now_ns = self._clock.now_ns()
        if (now_ns - self._drawn_ns) * self.config.picture_hz < 1e9:
            return
        looked = tuple(name for name, at_ns in self._looked_ns.items() if (now_ns - at_ns) * 1e-9 <= LOOKED_AT_S)
        if looked:
            self._drawn_ns = now_ns
            self._shown.update(self._pictures.turn(looked, self.session.stage.aligned, now_ns))
        if self._pictures.failure:
            self._wishes.message, self._pictures.failure = self._pictures.failure, ""

    # the view

    def _publish(self) -> None:
        """Renew the view if anything has changed."""
        self._published_ns = self._clock.now_ns()
        if self.session.state == "recording":
            self._wishes.findings = self._gate.during()
        pressed = () if self._closed else self._pressed_before()
        self._put(self._look())
        if pressed:
            self._press(pressed, self.session.state)

    def _show_saving(self) -> None:
        saving = prompt("saving")
        self._put(dataclasses.replace(self._look(), state="saving", possible=(), prompt=saving))

    def _put(self, view: SessionView) -> None:
        if view == self._view:
            return
        with self._changed:
            self._view = dataclasses.replace(view, revision=self._view.revision + 1)
            self._changed.notify_all()

    def _look(self) -> SessionView:
        before: SessionView | None = getattr(self, "_view", None)
        return look(
            self.session,
            self._wishes,
            self.config,
            now_ns=self._clock.now_ns(),
            revision=0 if before is None else before.revision,
            lights=self.lights(),
            cameras=self._pictures.cameras,
            device_lost=self._device_lost,
            device_says=self._device_says,
            hardware=self._hardware,
            finished=self.finished,
        )
