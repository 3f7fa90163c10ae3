"""Guiding by hand over real DDS: an arm that moves without us is recorded, and nothing of ours is on its topics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("pybullet")

from envs_ros_support import PlainNode, SimArmProcess, own_domain
from trajectory_msgs.msg import JointTrajectory

from understudy.capture.devices.make import make_device
from understudy.capture.hardware import HardwareConfig, make_stage
from understudy.capture.session import Session, SessionConfig
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.ros_arm import step_trajectory
from understudy.envs.tasks.free import free_task

pytestmark = pytest.mark.ros

PANDA = load_robot("panda")
BARE = PANDA.model_copy(update={"ros": PANDA.ros.model_copy(update={"poses": {}, "openings": {}, "cameras": {}})})


@pytest.fixture(scope="module", autouse=True)
def domain() -> Iterator[int]:
    with own_domain() as domain:
        yield domain


@pytest.fixture(scope="module")
def sim_arm(domain: int) -> Iterator[SimArmProcess]:
    process = SimArmProcess("--task", "reach", "--no-camera")
    yield process
    process.close()


@pytest.fixture
def person() -> Iterator[PlainNode]:
    """Moves the simulated arm by its controller's topic, as a hand would move a real one by its links."""
    node = PlainNode("hand")
    yield node
    node.close()


def test_what_the_hand_did_is_recorded_and_nothing_is_commanded(
    sim_arm: SimArmProcess, person: PlainNode, tmp_path: Path
) -> None:
    topic = BARE.ros.command_topic
    push = person.node.create_publisher(JointTrajectory, topic, 10)
    stage = make_stage(BARE, free_task("wave_at_me", BARE), HardwareConfig(ready_s=20), by_hand=True)
    try:
        control = stage.control
        device = make_device(
            "hand", spec=control.actions.spec, robot=BARE, clock=control.arm.clock, period_s=BARE.period_s
        )
        dataset = Dataset.create(tmp_path / "demos", robot="panda", task="wave_at_me")
        session = Session(stage, device, dataset, SessionConfig(operator="ada"))
        session.prepare()
        session.start()
        here = np.asarray(control.arm.observe()["joint_position"], np.float64)
        for tick in range(40):
            target = here + 0.3 * np.sin(np.pi * tick / 40) * np.array([1, 0, 0, 0.5, 0, 0, 0])
            push.publish(step_trajectory(BARE, target, None))
            session.tick()
        session.hold()
        commanders = {info.node_name for info in person.node.get_publishers_info_by_topic(topic)}
        session.mark(True)
        episode = dataset.read(session.keep())
    finally:
        stage.close()
    assert commanders == {"hand"}
    assert np.array_equal(episode.requested, episode.measured)
    tool = np.vstack([episode.observations["tool_position"], episode.final_observation["tool_position"][None]])
    assert np.ptp(tool, axis=0).max() > 0.05
    assert episode.requested[:, :3] == pytest.approx(np.diff(tool, axis=0), abs=1e-4)
    assert len(episode.streams["joint_position"].stamps_ns) > len(episode)
