"""What a key or a button answers to: the state that is shown, and not one that came after it was pressed."""

from __future__ import annotations

import dataclasses
import os
import pty
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_hands import CALIBRATION, Leader
from session_support import fake_stage, inner_arm, new_session

from understudy.capture.devices.device import DeviceReading
from understudy.capture.devices.hand import HandDevice
from understudy.capture.devices.leader import LeaderDevice
from understudy.capture.hand_guided import HandGuided
from understudy.capture.hardware import ArmStage
from understudy.capture.movers import when_gone
from understudy.capture.session import Session, SessionConfig
from understudy.capture.session_loop import LoopConfig, SessionLoop
from understudy.capture.session_states import meant
from understudy.capture.session_view import SessionView
from understudy.capture.takeover import TakeoverDevice
from understudy.cli.session_terminal import SessionTerminal
from understudy.datasets.store import Dataset
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.clock import VirtualClock
from understudy.envs.arms.fake_arm import FakeArm
from understudy.envs.arms.robot import load_robot
from understudy.envs.tasks.free import free_task

PANDA = load_robot("panda")
BARE = PANDA.model_copy(update={"ros": PANDA.ros.model_copy(update={"poses": {}, "openings": {}, "cameras": {}})})


@pytest.fixture(scope="module")
def stage() -> ArmEnv:
    return fake_stage()


class Hand:
    """A loop on virtual time, and what is pressed on its device."""

    def __init__(self, stage: ArmEnv, folder: Path, config: LoopConfig | None = None) -> None:
        stage.aligned = None
        self.clock = VirtualClock()
        self.session, self.puppet = new_session(stage, folder, max_s=1.0)
        self.puppet.action = np.array([0.004, 0.0, 0.0])
        self.loop = SessionLoop(self.session, config=config, clock=self.clock)

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.clock.advance(0.05)
            self.loop.turn()

    def press(self, *events: Any) -> SessionView:
        self.puppet.pressed = list(events)
        self.turn()
        return self.view

    @property
    def view(self) -> SessionView:
        return self.loop.view()


@pytest.fixture
def hand(stage: ArmEnv, tmp_path: Path) -> Iterator[Hand]:
    made = Hand(stage, tmp_path)
    made.turn()
    yield made
    made.loop.close()


# start prepares where nothing is prepared


def test_start_means_prepare_only_where_it_must() -> None:
    assert meant("start", ("prepare", "undo")) == "prepare"
    assert meant("start", ("start", "prepare")) == "start"
    assert meant("start", ("keep", "drop")) == "start"
    assert meant("keep", ("prepare",)) == "keep"


def test_the_start_button_of_a_device_prepares_first(stage: ArmEnv, tmp_path: Path) -> None:
    """A robot with a reset service prepares nothing by itself; a pad could not ask for it."""
    hand = Hand(stage, tmp_path, LoopConfig(auto_prepare=False))
    stage.reset(seed=0)  # a real arm is seen all the time
    hand.turn(3)
    assert hand.view.state == "idle"
    assert hand.press("start").state == "ready"
    assert hand.press("start").state == "recording"
    hand.loop.close()


# what was typed ahead


def test_what_is_pressed_together_answers_only_to_what_was_there(hand: Hand) -> None:
    hand.press("start")
    hand.turn(8)
    view = hand.press("stop", "drop")
    assert (view.state, view.steps) == ("review", 9)
    assert hand.press("drop", "start").state in ("idle", "ready")
    hand.turn()
    assert hand.view.state == "ready"  # and nothing records


def test_what_was_pressed_before_the_review_appeared_is_no_answer_to_it(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a long take is judged, an impatient thumb presses on."""
    hand.press("start")
    hand.turn(8)
    after = hand.loop._gate.after

    def judge() -> Any:
        hand.puppet.pressed = ["drop"]
        return after()

    monkeypatch.setattr(hand.loop._gate, "after", judge)
    assert hand.press("stop").state == "review"
    hand.turn(3)
    assert (hand.view.state, hand.loop.dropped) == ("review", 0)
    assert hand.press("drop").state in ("idle", "ready")


def test_hold_and_quit_count_whenever_they_were_pressed(hand: Hand) -> None:
    hand.press("start")
    hand.turn(8)
    assert hand.press("stop", "hold").message == "The arm holds."
    assert hand.press("drop", "quit")
    assert hand.loop.finished


BECOMES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "prepare": ("ready", ("keep", "drop", "hold")),
    "start": ("recording", ("stop", "hold")),
    "stop": ("review", ("keep", "drop", "hold")),
}


class Slow:
    """A session that is long at what it is asked for."""

    def __init__(self, view: SessionView) -> None:
        self.latest = view
        self.asked: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.ended = False

    def ask(self, wish: Any, text: str = "", *, timeout_s: float = 5.0) -> str:
        self.asked.append(wish)
        if wish in BECOMES:
            self.meanwhile()
            self.meanwhile = lambda: None
            self.become(*BECOMES[wish])
        return "done"

    def become(self, state: Any, possible: tuple[Any, ...]) -> None:
        self.latest = dataclasses.replace(
            self.latest, state=state, possible=possible, revision=self.latest.revision + 1
        )

    def wait_latest(self, revision: int, timeout_s: float) -> SessionView:
        end = time.monotonic() + timeout_s
        while self.latest.revision == revision and time.monotonic() < end:
            time.sleep(0.005)
        return self.latest


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, hand: Hand) -> Iterator[tuple[Slow, Callable[[str], None]]]:
    """A terminal beside a session, and what is typed into it."""
    person, terminal = pty.openpty()
    monkeypatch.setattr("sys.stdin", os.fdopen(terminal, "r"))
    front = Slow(hand.view)
    made = SessionTerminal(front, keys=True, stream=open(os.devnull, "w"))  # type: ignore[arg-type]  # noqa: SIM115
    with made:
        yield front, lambda keys: os.write(person, keys.encode()) and None
    os.close(person)


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10.0
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_keys_typed_while_the_terminal_waits_do_not_answer_what_it_shows_then(
    typed: tuple[Slow, Callable[[str], None]],
) -> None:
    front, write = typed
    front.become("recording", ("stop", "hold"))
    time.sleep(0.3)  # it is shown
    front.meanwhile = lambda: write("nn")
    write(".n")
    wait_for(lambda: front.latest.state == "review")
    time.sleep(0.5)
    assert front.asked == ["stop"]
    write("y")
    wait_for(lambda: front.asked == ["stop", "keep"])


@pytest.mark.parametrize(("key", "wish"), [("h", "hold"), (".", "stop")])
def test_what_ends_motion_counts_though_it_was_typed_while_the_terminal_was_busy(
    typed: tuple[Slow, Callable[[str], None]], key: str, wish: str
) -> None:
    """The arm goes wrong while the disk still takes the beginning of the take."""
    front, write = typed
    front.become("ready", ("start", "hold"))
    time.sleep(0.3)
    front.meanwhile = lambda: write(key + "y")
    write("\r")
    wait_for(lambda: len(front.asked) == 2)
    assert front.asked == ["start", wish]


def test_the_terminals_start_key_prepares_where_nothing_is_prepared(
    typed: tuple[Slow, Callable[[str], None]],
) -> None:
    front, write = typed
    front.become("idle", ("prepare", "hold"))
    time.sleep(0.3)
    write("\r")
    wait_for(lambda: front.asked == ["prepare"])


# what the gate says of devices and of starts


def test_a_device_that_does_not_answer_is_a_finding_before_a_take(hand: Hand) -> None:
    hand.puppet.lost, hand.puppet.message = True, "The pad was unplugged; plug it in."
    hand.turn()
    told = hand.loop.ask("start")
    assert told.startswith("Not started: the puppet does not answer: The pad was unplugged; plug it in.")
    hand.puppet.lost, hand.puppet.message = False, ""
    hand.turn()
    assert hand.loop.ask("start") == "Recording."


def test_a_task_of_ones_own_starts_wherever_one_means_it_to_and_that_is_said(tmp_path: Path) -> None:
    task = free_task("pour", BARE)
    arm_stage = ArmStage(FakeArm(BARE), task)
    dataset = Dataset.create(tmp_path / "d", robot="panda", task="pour")
    session = Session(arm_stage, HandDevice(arm_stage.control.actions.spec), dataset, SessionConfig())
    loop = SessionLoop(session, clock=VirtualClock())
    loop.turn()
    wanted = session.wanted
    assert wanted is not None
    inner: Any = arm_stage.control.arm
    inner.inner.reset(dataclasses.replace(wanted, joint_position=wanted.joint_position + 0.4 * np.eye(7)[1]))
    loop.turn()
    found = loop._gate.before()
    assert [finding.severity for finding in found] == ["warning"], found
    assert "starts away from home: joint 1 ('panda_joint2') is 0.40 rad off; the task 'pour' says" in found[0].text
    assert loop.ask("start") == "Recording."  # at the first word
    loop.close()


# who moves the arm


def test_an_arm_in_somebodys_hand_is_not_said_to_hold(tmp_path: Path) -> None:
    task = free_task("pour", BARE)
    arm_stage = ArmStage(HandGuided(FakeArm(BARE)), task, guard=False)
    dataset = Dataset.create(tmp_path / "d", robot="panda", task="pour")
    session = Session(arm_stage, HandDevice(arm_stage.control.actions.spec), dataset, SessionConfig())
    loop = SessionLoop(session, clock=VirtualClock())
    loop.turn()
    ours = "We only record: whoever has the arm in hand still moves it."
    assert loop.ask("hold") == ours
    assert (loop.view().moved_by, loop.view().holding, loop.view().when_gone) == ("person", False, ours)
    loop.close()


def test_what_a_page_may_say_of_an_arm_that_it_hears_nothing_of(hand: Hand) -> None:
    assert hand.view.moved_by == "session"
    assert when_gone("session", "browser").startswith("The arm holds: ")
    assert when_gone("session", "policy and browser") == when_gone("session", "browser")
    assert "the gamepad still moves the arm" in when_gone("session", "policy and gamepad")
    assert "holds" not in when_gone("driver", "watched")


# interventions of a leader


class Idle:
    """A policy that asks for nothing."""

    def reset(self) -> None:
        """See `Policy`."""

    def act(self, observation: Any) -> np.ndarray:
        return np.zeros(7, np.float32)


def test_steps_in_which_a_leader_does_not_follow_yet_are_no_interventions(tmp_path: Path) -> None:
    """The operator takes over, and the leader is still far from the arm: nobody drives before it is near."""
    lift = fake_stage("lift")
    spec, arm = lift.control.actions.spec, inner_arm(lift)
    leader = Leader(arm.clock)
    device = LeaderDevice(spec, PANDA, PANDA.period_s, leader, CALIBRATION, clock=arm.clock)
    dataset = Dataset.create(tmp_path / "d", robot="panda", task="lift")
    session = Session(lift, TakeoverDevice(Idle(), device, spec), dataset, SessionConfig())
    session.prepare(seed=0)
    assert lift.aligned is not None
    there = np.asarray(lift.aligned.values["joint_position"], np.float64)
    leader.pose = there + 0.5 * np.eye(7)[0]
    session.start()
    readings: list[DeviceReading] = []
    for step in range(20):
        if step == 4:
            session.intervene()
        if step >= 10:
            leader.pose = there + max(0.0, 0.5 - 0.1 * (step - 9)) * np.eye(7)[0]
        readings.append(session.tick().reading)
        assert session.intervening == (step >= 4)  # the operator may hand back at any time
    session.stop()
    marks = dataset.read(session.keep()).intervention
    first = int(np.argmax(marks))
    assert marks.tolist() == [step >= first for step in range(20)]
    assert "The leader is not near the arm" in readings[first - 1].message
    assert "The leader is not near the arm" not in readings[first].message
    assert first == 12
