"""A whole session by each device: start, move, stop, keep; and one that is lost in mid-take, comes back and goes on.

The arm is a fake one inside the Guard. The gamepad is SDL's virtual one, the keyboard a real terminal (pty); puck,
joystick and leader are told through their protocols.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.device import LIFT, PERIOD_S
from device_hands import CALIBRATION, JoyHand, Leader, PadHand, PuckHand, Terminal, Typist
from sdl_pads import plugged_in

from understudy.capture.devices.device import Device
from understudy.capture.devices.leader import LeaderDevice
from understudy.capture.devices.make import make_device
from understudy.capture.devices.replay import Recording, ReplayDevice
from understudy.capture.hardware import ArmStage
from understudy.capture.loop_config import LoopConfig
from understudy.capture.session import Session, SessionConfig
from understudy.capture.session_loop import SessionLoop
from understudy.datasets.store import Dataset
from understudy.envs.arms.clock import VirtualClock
from understudy.envs.arms.fake_arm import FakeArm
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import load_robot
from understudy.envs.tasks.free import free_task

PANDA = load_robot("panda")
BARE = PANDA.model_copy(update={"ros": PANDA.ros.model_copy(update={"poses": {}, "openings": {}})})
TASK = free_task("wave_at_me", BARE)
FORWARD = PANDA.home + np.array([0.0, 0.25, 0.0, 0.15, 0.0, 0.1, 0.0])


class LeaderPerson:
    """A person at a leader arm, whose session is driven from the page: a leader has no buttons."""

    def __init__(self) -> None:
        self.leader = Leader(VirtualClock())
        self.device = LeaderDevice(
            LIFT, PANDA, PERIOD_S, self.leader, CALIBRATION, clock=self.leader.clock, kinematics=Kinematics(PANDA)
        )

    def push(self, label: str, direction: float) -> None:
        self.leader.pose = self.leader.pose + 0.05 * (FORWARD - PANDA.home)

    def let_go(self) -> None:
        """It stays where it is."""

    def lose(self) -> None:
        self.leader.silent_since_ns = self.leader.clock.now_ns()
        self.leader.clock.advance(1.0)

    def come_back(self) -> bool:
        self.leader.silent_since_ns = None
        self.leader.pose = PANDA.home.copy()
        return True


def typist() -> Iterator[Any]:
    terminal = Terminal()
    yield Typist(terminal)
    terminal.close()


def pad() -> Iterator[Any]:
    with plugged_in() as first:
        first.unplug()
        made = PadHand()
        yield made
        made.device.close()
        made.pad.unplug()


def puck() -> Iterator[Any]:
    yield PuckHand("SpaceMouse Enterprise")


def joystick() -> Iterator[Any]:
    yield JoyHand()


def leader() -> Iterator[Any]:
    yield LeaderPerson()


PERSONS: dict[str, Callable[[], Iterator[Any]]] = {
    "keyboard": typist, "gamepad": pad, "spacemouse": puck, "joy": joystick, "leader": leader,
}  # fmt: skip


@pytest.fixture(params=list(PERSONS))
def person(request: pytest.FixtureRequest) -> Iterator[Any]:
    yield from PERSONS[request.param]()


class Take:
    """A session of a device on a fake arm, turned by the test."""

    def __init__(self, device: Device, folder: Path) -> None:
        self.dataset = Dataset.create(folder, robot="panda", task=TASK.name)
        self.stage = ArmStage(FakeArm(BARE), TASK)
        assert self.stage.control.actions.spec == LIFT
        session = Session(self.stage, device, self.dataset, SessionConfig(operator="ada", max_s=10.0))
        self.loop = SessionLoop(session, config=LoopConfig(auto_prepare=True))

    def turn(self, count: int = 1) -> str:
        for _ in range(count):
            self.loop.turn()
        return self.loop.session.state

    def wish(self, person: Any, event: Any) -> str:
        """By the device where it has a button, else from the page."""
        button = getattr(person, "start" if event == "start" else "press", None)
        if button is None:
            self.loop.ask(event)
        else:
            button() if event == "start" else button(event)
        return self.turn()

    def push(self, person: Any, ticks: int) -> None:
        for _ in range(ticks):
            person.push("x", 1.0)
            self.turn()
        person.let_go()


@pytest.fixture
def begun(person: Any, tmp_path: Path) -> Iterator[Take]:
    made = Take(person.device, tmp_path / "demos")
    yield made
    made.loop.close()


def test_a_take_is_started_moved_stopped_and_kept_by_the_device(begun: Take, person: Any) -> None:
    assert begun.turn() == "ready", begun.loop.view()
    assert begun.wish(person, "start") == "recording"
    begun.push(person, 15)
    begun.turn(5)
    assert begun.wish(person, "stop") == "review"
    begun.wish(person, "keep")
    (id,) = begun.dataset.ids
    episode = begun.dataset.read(id)
    assert episode.info.device == person.device.name
    asked, did = episode.requested[:, 0].sum(), episode.measured[:, 0].sum()
    assert asked > 0.05
    assert did == pytest.approx(asked, abs=0.02)
    moved = episode.final_observation["tool_position"] - episode.observations["tool_position"][0]
    assert moved[0] == pytest.approx(did, abs=1e-3)


def test_a_device_that_is_lost_ends_the_take_and_the_next_one_can_be_recorded(begun: Take, person: Any) -> None:
    begun.turn()
    begun.wish(person, "start")
    begun.push(person, 6)
    person.lose()
    assert begun.turn(2) == "review"
    view = begun.loop.view()
    assert view.device_lost is True
    assert re.search(r"Take ended \(device lost\) after \d+ steps\. (?!It fails)\w", view.message)  # and why
    before = begun.stage.control.arm.observe()["joint_position"]
    begun.turn(10)
    begun.loop.ask("keep", "anyway")
    if not person.come_back():
        return
    assert begun.turn(2) == "ready"
    assert begun.loop.view().device_lost is False
    assert np.abs(begun.stage.control.arm.observe()["joint_position"] - before).max() < 0.6  # back at the start
    assert begun.wish(person, "start") == "recording"
    begun.push(person, 10)
    begun.loop.ask("stop")
    begun.loop.ask("keep", "anyway")
    first, second = (begun.dataset.read(id) for id in begun.dataset.ids)
    assert first.requested[:, 0].sum() > 0.0
    assert second.requested[:, 0].sum() > 0.0


def test_replayed_input_starts_and_stops_by_itself(tmp_path: Path) -> None:
    rows = np.zeros((20, 7)) + np.array([0.004, 0.0, -0.003, 0.0, 0.0, 0.02, 0.05])
    made = Take(ReplayDevice(LIFT, [Recording(rows, {}, "a test")]), tmp_path / "demos")
    made.turn(2)
    assert made.loop.session.state == "recording"
    made.turn(25)
    assert made.loop.session.state == "review"
    made.loop.ask("keep", "anyway")
    episode = made.dataset.read(made.dataset.ids[0])
    assert np.array_equal(episode.requested[:20], rows)
    assert len(episode) == 21  # the reading that says stop is a step too
    made.loop.close()


def test_a_keyboard_is_made_by_name_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    import pty

    person, tty = pty.openpty()
    with os.fdopen(tty) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        device = make_device("keyboard", spec=LIFT, robot=PANDA, clock=VirtualClock(), period_s=PERIOD_S)
        device.close()
    os.close(person)
    assert device.name == "keyboard"
