"""Driving over real DDS when things go wrong: readings that cannot be used, a simulator's clock, a recorder's death."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from envs_ros_support import (
    PlainNode,
    SimArmProcess,
    joint_state,
    own_domain,
    positions,
    remove_abandoned,
    shared_memory_of,
    wait_until,
)
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from session_support import Puppet
from terminal_support import Person
from trajectory_msgs.msg import JointTrajectory

from understudy.capture.hardware import ArmStage, HardwareConfig, make_stage
from understudy.capture.session import Session, SessionConfig
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.ros_common import array_to_image, time_ns
from understudy.envs.tasks.free import free_task
from understudy.errors import StaleObservation

pytestmark = pytest.mark.ros

PANDA = load_robot("panda")
TASK = free_task("pour", PANDA)
STANDS_WITHIN_S = 1.0
"""A trajectory ends in its own stop, a period and a deceleration after the last command; the rest is the machine's."""


class Driver:
    """Joints that go where they are told, and joint states that a test may spoil."""

    def __init__(self) -> None:
        self.position = PANDA.home.copy()
        self.spoil: Callable[[JointState], None] = lambda message: None
        self.sim_s: Callable[[], float] | None = None
        self._noise = np.random.default_rng(0)
        self.node = PlainNode("driver")
        self.heard: list[JointTrajectory] = self.node.listen(JointTrajectory, PANDA.ros.command_topic)
        create = self.node.node.create_publisher
        self._joints = create(JointState, PANDA.ros.joint_states.topic, 10)
        self._clock = create(Clock, "/clock", 10)
        self.images = create(Image, PANDA.ros.cameras["front"].topic, qos_profile_sensor_data)
        self.node.node.create_timer(0.01, self._tell)

    def _tell(self) -> None:
        if self.heard:
            self.position = positions(self.heard[-1:])[0]
        now_ns = time.time_ns()
        if self.sim_s is not None:
            now_ns = round(self.sim_s() * 1e9)
            told = Clock()
            told.clock.sec, told.clock.nanosec = divmod(now_ns, 10**9)
            self._clock.publish(told)
        message = joint_state(PANDA, self.position, stamp_ns=now_ns)
        message.velocity = [0.0] * len(message.velocity)
        self.spoil(message)
        self._joints.publish(message)

    def picture(self, height: int, width: int) -> None:  # with noise, as a camera has
        pixels = self._noise.integers(0, 256, (height, width, 3), np.uint8)
        self.images.publish(array_to_image(pixels, time.time_ns(), ""))


@pytest.fixture(scope="module", autouse=True)
def domain() -> Iterator[int]:
    with own_domain() as domain:
        yield domain


@pytest.fixture
def driver() -> Iterator[Driver]:
    made = Driver()
    yield made
    made.node.close()


def driven(stage: ArmStage, folder: Path) -> Session:
    """A session that is recording, of somebody who pushes forward."""
    device = Puppet(stage.control.actions.spec)
    dataset = Dataset.create(folder / "demos", robot="panda", task=TASK.name)
    session = Session(stage, device, dataset, SessionConfig(max_s=30.0))
    session.prepare()
    assert stage.aligned is not None
    device.action = np.zeros(stage.control.actions.spec.size)
    device.action[0] = 0.005
    session.start()
    return session


def tick(session: Session, times: int) -> None:
    for _ in range(times):
        session.tick()


def remark(stage: ArmStage, words: str) -> str:
    said: list[str] = []
    wait_until(lambda: said.extend(stage.remarks()) or any(words in each for each in said), f"{words!r} in {said}")
    return next(each for each in said if words in each)


def test_joints_in_another_order_are_driven_as_they_are_named(driver: Driver, tmp_path: Path) -> None:
    def turn_round(message: JointState) -> None:
        for field in ("name", "position", "velocity", "effort"):
            setattr(message, field, list(getattr(message, field))[::-1])

    driver.spoil = turn_round
    stage = make_stage(PANDA, TASK, HardwareConfig(cameras=(), ready_s=20))
    try:
        session = driven(stage, tmp_path)
        tick(session, 15)
        session.stop()
        episode = session.dataset.read(session.keep())
    finally:
        stage.close()
    assert np.abs(positions(driver.heard[:1])[0] - PANDA.home).max() < 0.05  # the first command is where the arm is
    tool = episode.observations["tool_position"]
    moved = tool[-1] - tool[0]
    assert moved[0] > 0.02
    assert np.abs(moved[1:]).max() < 0.01


def test_a_reading_that_is_not_finite_ends_the_take_and_no_command_follows_from_it(
    driver: Driver, tmp_path: Path
) -> None:
    stage = make_stage(PANDA, TASK, HardwareConfig(cameras=(), ready_s=20))
    try:
        session = driven(stage, tmp_path)
        tick(session, 10)

        def spoil(message: JointState) -> None:
            message.position[3] = float("nan")

        driver.spoil = spoil
        with pytest.raises(StaleObservation, match="'joint_position'"):
            tick(session, 100)
        assert session.state == "review"
        assert "joint_position has a value that is not finite" in remark(stage, "/joint_states could not be used")
        assert len(session.dataset.read(session.keep())) >= 10
        told = positions(driver.heard)
        assert np.all(np.isfinite(told))
        assert np.abs(np.diff(told, axis=0)).max() < 0.2  # no jump
        assert not np.any(driver.heard[-1].points[-1].velocities)  # and the last one ends at rest
    finally:
        stage.close()


def test_pictures_of_another_size_end_the_take(driver: Driver, tmp_path: Path) -> None:
    size = [120, 160]
    driver.node.node.create_timer(0.05, lambda: driver.picture(*size))
    patient = PANDA.ros.joint_states.model_copy(update={"max_age_s": 5.0})  # than a machine that is busy with others
    robot = PANDA.model_copy(update={"ros": PANDA.ros.model_copy(update={"joint_states": patient})})
    stage = make_stage(robot, TASK, HardwareConfig(cameras=("front",), ready_s=20))
    try:
        session = driven(stage, tmp_path)
        tick(session, 10)
        size[:] = [60, 80]
        with pytest.raises(StaleObservation, match="'image_front'"):
            tick(session, 200)
        told = remark(stage, "could not be used: image is")
        assert "image is 80x60; the robot's file says 160x120" in told
        assert not np.any(driver.heard[-1].points[-1].velocities)
        assert session.dataset.read(session.keep()).observations["image_front"].shape[1:] == (120, 160, 3)
    finally:
        stage.close()


def test_an_arm_is_driven_on_a_simulators_time(driver: Driver, tmp_path: Path) -> None:
    began_s = time.monotonic()
    driver.sim_s = lambda: 100.0 + 0.5 * (time.monotonic() - began_s)  # at half speed
    stage = make_stage(PANDA, TASK, HardwareConfig(cameras=(), sim_time=True, ready_s=20))
    try:
        session = driven(stage, tmp_path)
        took_s = time.monotonic()
        tick(session, 20)
        took_s = time.monotonic() - took_s
        session.stop()
        episode = session.dataset.read(session.keep())
    finally:
        stage.close()
    assert took_s > 1.7  # 20 periods of 50 ms at half speed
    assert 99 < episode.tick_ns[0] * 1e-9 < 150
    assert np.median(np.diff(episode.tick_ns)) == pytest.approx(50e6, rel=0.05)
    assert len(driver.heard) >= 19
    assert episode.observations["tool_position"][-1][0] - episode.observations["tool_position"][0][0] > 0.02


def test_the_arm_of_a_recorder_that_is_killed_stands_and_the_take_is_resumed(domain: int, tmp_path: Path) -> None:
    pytest.importorskip("pybullet")
    arm, node, out = (
        SimArmProcess("--task", "lift", "--seed", "3", "--no-camera"),
        PlainNode("listener"),
        tmp_path / "demos",
    )
    states: list[JointState] = node.listen(JointState, PANDA.ros.joint_states.topic, 1000)
    commands: list[JointTrajectory] = node.listen(JointTrajectory, PANDA.ros.command_topic, 1000)
    options = ("--arm", "ros", "--countdown", "0", "--cameras", "--episodes", "1", "--out", out)
    person = Person("record", "pour", "--device", "keyboard", *options)
    try:
        press_until(person, "\r", lambda: "RECORDING" in person.seen)
        person.type("w", times=10)
        wait_until(lambda: person.type("w") or fastest(commands[-1:]) > 0.05, "the arm to be moving")
        files = shared_memory_of(Path(f"/proc/{person.process.pid}"))
        os.kill(person.process.pid, signal.SIGKILL)
        killed_ns = time.time_ns()
        person.wait()
        remove_abandoned(files)
        time.sleep(STANDS_WITHIN_S + 1.0)
        after = [s.position for s in states if time_ns(s.header.stamp) > killed_ns + STANDS_WITHIN_S * 1e9]
        assert len(after) > 10
        assert np.ptp(np.array(after), axis=0).max() < 0.01  # it stands
        person.close()
        person = Person("record", "pour", "--device", "hand", *options)
        person.wait_for("REVIEW")  # begins with the take that was in hand
        press_until(person, "y", lambda: person.process.poll() is not None)
        assert person.wait() == 0, person.seen
    finally:
        person.close()
        node.close()
        arm.close()
    (episode,) = Dataset.open(out).episodes()
    assert len(episode) >= 5
    assert np.count_nonzero(episode.requested[:, 0] > 0) >= 3


def fastest(commands: list[JointTrajectory]) -> float:
    return max((abs(speed) for command in commands for speed in command.points[0].velocities), default=0.0)


def press_until(person: Person, key: str, done: Callable[[], bool]) -> None:
    """Press again as a person would who is told of a source that is slow just now."""
    deadline = time.monotonic() + 40.0
    while not done() and time.monotonic() < deadline:
        person.type(key, every_s=0.7)
