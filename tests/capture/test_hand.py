"""Guiding by hand: nothing reaches the arm, and the actions are what it did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conformance.device import LIFT, DeviceConformance

from understudy.capture.devices.hand import HandDevice
from understudy.capture.hand_guided import HandGuided
from understudy.capture.session import Session, SessionConfig
from understudy.datasets.store import Dataset
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.arm import Command, Observation, Start
from understudy.envs.arms.fake_arm import FakeArm
from understudy.envs.arms.robot import load_robot
from understudy.envs.control import Control
from understudy.envs.tasks.task import make_task
from understudy.errors import StaleObservation

PANDA = load_robot("panda")


class TestHand(DeviceConformance):
    @pytest.fixture
    def device(self) -> HandDevice:
        return HandDevice(LIFT)


class Witness(FakeArm):
    """Counts what it was told."""

    told = 0

    def send(self, command: Command) -> Command:
        self.told += 1
        return super().send(command)

    def hold(self) -> None:
        self.told += 1
        super().hold()

    def reset(self, start: Start) -> Observation:
        self.told += 1
        return super().reset(start)


def test_no_command_reaches_the_arm_and_what_it_does_is_returned() -> None:
    arm = Witness(PANDA)
    guided = HandGuided(arm)
    before = arm.observe()["joint_position"].copy()
    sent = guided.send(Command(PANDA.home + 0.3, 0.0))
    guided.hold()
    guided.reset(Start(PANDA.home - 0.3))
    arm.clock.sleep_until(arm.clock.now_ns() + 10**9)
    assert arm.told == 0
    assert np.array_equal(guided.observe()["joint_position"], before)
    assert sent.joint_position == pytest.approx(before)
    assert sent.gripper_position == pytest.approx(float(arm.observe()["gripper_position"][0]))


def test_an_arm_that_reports_nothing_is_refused() -> None:
    class Silent(FakeArm):
        def observe(self) -> Observation:
            return Observation({}, {})

    with pytest.raises(StaleObservation, match="has not reported its joints"):
        HandGuided(Silent(PANDA)).send(Command(PANDA.home))


class Guide:
    """A person's hand on a fake arm: it follows a wave through the joints, whatever anybody commands."""

    def __init__(self, arm: FakeArm) -> None:
        self.arm = arm
        self.way = PANDA.home + 0.2 * np.sin(np.linspace(0.0, 2.0, 60))[:, None] * np.linspace(1.0, 0.2, 7)
        self.tick = 0

    def push(self) -> None:
        self.tick += 1
        self.arm.send(Command(self.way[self.tick], 0.08 if self.tick < 20 else 0.02))


class GuidedStage:
    """The arm in a person's hand, as a session's stage; reach needs no scene."""

    def __init__(self, arm: FakeArm) -> None:
        self.guide = Guide(arm)
        self.inner = ArmEnv(HandGuided(arm), make_task("reach"))
        self.task, self.control = self.inner.task, self.inner.control
        arm.reset(self.task.start(PANDA, np.random.default_rng(1)))  # somebody has put up the goal

    @property
    def aligned(self):
        return self.inner.aligned

    @aligned.setter
    def aligned(self, value) -> None:
        self.inner.aligned = value

    def reset(self, **keywords):
        return self.inner.reset(**keywords)

    def step_units(self, requested):
        self.guide.push()
        return self.inner.step_units(requested)


@pytest.mark.parametrize("space", ["tool_delta", "joint_delta", "joint_position", "joint_velocity"])
def test_the_actions_of_a_motion_lead_along_it(space: str) -> None:
    """Law of `encode` on a guided arm: decoding what was derived gives the joints' next place again."""
    arm = FakeArm(PANDA)
    control, guide = Control(HandGuided(arm), space, ("joint_position",)), Guide(arm)
    control.begin()
    for _ in range(30):
        before = control.state()
        guide.push()
        control.apply(np.zeros(control.actions.spec.size))
        control.wait()
        action = control.actions.encode(before, control.state())
        reached = control.actions.decode(action, before, before.joint_position)
        wanted, got = (control.kinematics.tool_pose(c.joint_position) for c in (control.state(), reached))
        assert got.position == pytest.approx(wanted.position, abs=1e-3)
        assert abs(float(got.quaternion @ wanted.quaternion)) == pytest.approx(1.0, abs=1e-4)


def test_a_take_by_hand_has_its_actions_from_the_motion_in_all_channels(tmp_path: Path) -> None:
    stage = GuidedStage(FakeArm(PANDA))
    spec = stage.control.actions.spec
    dataset = Dataset.create(tmp_path / "demos", robot="panda", task="reach")
    session = Session(stage, HandDevice(spec), dataset, SessionConfig(operator="ada", stop_on_success=False))
    session.prepare(seed=1)
    session.start()
    for _ in range(40):
        session.tick()
    session.stop()
    episode = dataset.read(session.keep())
    assert episode.info.device == "hand"
    assert np.array_equal(episode.requested, episode.measured)
    assert np.array_equal(episode.sent, episode.measured)
    tools = np.vstack([episode.observations["tool_position"], episode.final_observation["tool_position"][None]])
    assert episode.requested[:, :3] == pytest.approx(np.diff(tools, axis=0), abs=1e-5)
    assert np.abs(episode.requested[:, :3]).sum() > 0.05
