"""A signal in the middle of a person's take on an arm on the graph: the arm is braked, and the take can be resumed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("pybullet")

from envs_ros_support import PlainNode, SimArmProcess, own_domain, positions
from terminal_support import Person
from trajectory_msgs.msg import JointTrajectory

from understudy.capture.left_take import LeftTake
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import load_robot

pytestmark = pytest.mark.ros

PANDA = load_robot("panda")
MOVING_RAD_S = 0.02


def speed_of(heard: list[JointTrajectory]) -> float:
    """How fast the fastest joint was told to go last, rad/s."""
    return 0.0 if not heard else max(map(abs, heard[-1].points[0].velocities))


@pytest.fixture(scope="module", autouse=True)
def domain() -> Iterator[int]:
    with own_domain() as domain:
        yield domain


@pytest.fixture(scope="module")
def sim_arm(domain: int) -> Iterator[SimArmProcess]:
    process = SimArmProcess("--task", "lift", "--seed", "3", "--no-camera")
    yield process
    process.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_moving_arm_is_braked_to_rest_within_its_limits(
    sim_arm: SimArmProcess, tmp_path: Path, number: signal.Signals
) -> None:
    node = PlainNode("listener")
    heard: list[JointTrajectory] = node.listen(JointTrajectory, PANDA.ros.command_topic, 1000)
    out = tmp_path / "demos"
    person = Person(
        "record", "lift", "--arm", "ros", "--device", "keyboard", "--countdown", "0", "--cameras",
        "--reset-service", "/sim_arm/reset", "--episodes", "3", "--out", out,
    )  # fmt: skip
    try:
        person.wait_for("IDLE")
        person.type("\r")  # prepares: nothing does so by itself where a service moves the arm
        person.wait_for("enter starts")
        person.type("\r")
        person.wait_for("RECORDING")
        person.type("w", times=30)
        deadline = time.monotonic() + 10.0
        while speed_of(heard) < MOVING_RAD_S and time.monotonic() < deadline:  # on a busy machine it takes longer
            person.type("w")
        assert speed_of(heard) >= MOVING_RAD_S
        before = len(heard)
        if number == signal.SIGHUP:
            person.hang_up()
        else:
            person.process.send_signal(number)
        assert person.wait() == 1, person.seen  # fewer than asked for, and not killed
        time.sleep(0.3)
    finally:
        person.close()
        node.close()
    places = positions(heard)
    assert len(places) > before
    assert not np.any(heard[-1].points[-1].velocities)  # the last command ends at rest
    braking = np.vstack([places[before - 3 :], places[-1:]])
    speed = np.diff(braking, axis=0) / PANDA.period_s
    assert np.all(np.abs(speed) <= PANDA.joint_array("velocity") * (1 + 1e-6))
    assert np.all(np.abs(np.diff(speed, axis=0)) <= PANDA.joint_array("acceleration") * PANDA.period_s * (1 + 1e-6))
    dataset = Dataset.open(out)
    (id,) = dataset.takes()
    left = LeftTake(dataset, id)
    episode = left.episode()
    assert len(episode) >= 15
    assert np.count_nonzero(episode.requested[:, 0] > 0) >= 10
    left.keep(left.info)
    assert dataset.ids == (id,)
