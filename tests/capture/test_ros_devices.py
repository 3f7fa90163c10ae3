"""Joysticks and leaders over a real graph: messages arrive, silence is explained, and a leader is calibrated."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from conformance.device import LIFT, NOW, PERIOD_S, VALUES
from envs_ros_support import PlainNode, own_domain, wait_until
from sensor_msgs.msg import JointState, Joy

from understudy.capture.devices.device import Device, DeviceReading
from understudy.capture.devices.leader_calibration import read_calibration
from understudy.capture.devices.make import DeviceOptions, make_device
from understudy.datasets.align import Aligned
from understudy.envs.arms.actions import make_action_space
from understudy.envs.arms.clock import MonotonicClock
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.ros_common import to_time
from understudy.errors import InputError

pytestmark = pytest.mark.ros

PANDA = load_robot("panda")
AT_ONCE = {"speed": 0.5, "acceleration_s": 0.0}


@pytest.fixture(scope="module", autouse=True)
def domain() -> Iterator[int]:
    with own_domain() as domain:
        yield domain


@pytest.fixture
def node() -> Iterator[PlainNode]:
    made = PlainNode("person")
    yield made
    made.close()


class Repeats:
    """A publisher that says the same thing again and again from a thread, until it is told otherwise."""

    def __init__(self, node: PlainNode, kind: type, topic: str, message: object, rate_hz: float = 50.0) -> None:
        self.message = message
        self._publisher = node.node.create_publisher(kind, topic, 10)
        self._over = threading.Event()
        self._period_s = 1.0 / rate_hz
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(self._period_s):
            self._publisher.publish(self.message)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def joy(x: float = 0.0, *pressed: int) -> Joy:
    return Joy(axes=[0.0, x, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0], buttons=[int(i in pressed) for i in range(11)])


def made(name: str, spec=LIFT, **options):
    return make_device(
        name, spec=spec, robot=PANDA, clock=MonotonicClock(), period_s=PERIOD_S, options=DeviceOptions(**options)
    )


def test_a_joystick_moves_the_arm_is_lost_when_silent_and_comes_back(node: PlainNode) -> None:
    stick = Repeats(node, Joy, "/joy", joy(0.0))
    device = made("joy", **AT_ONCE)
    try:
        device.reset(VALUES)
        stick.message = joy(1.0, 7)
        readings = []
        wait_until(lambda: readings.append(device.read(NOW)) or readings[-1].events, "start")
        assert readings[-1].events == ("start",)
        assert device.read(NOW).action[0] == pytest.approx(0.015)
        stick.stop()
        wait_until(lambda: readings.append(device.read(NOW)) or readings[-1].events, "lost")
        assert readings[-1].events == ("lost",)
        assert not np.any(readings[-1].action[:6])
        stick = Repeats(node, Joy, "/joy", joy(1.0))
        wait_until(lambda: readings.append(device.read(NOW)) or readings[-1].events, "back")
        assert readings[-1].events == ("back",)
        assert not np.any(readings[-1].action[:6])
        device.start_pressed()
        assert device.read(NOW).action[0] == pytest.approx(0.015)
    finally:
        device.close()
        stick.stop()


def test_without_a_joystick_it_is_said_why(node: PlainNode) -> None:
    with pytest.raises(InputError, match=r"No Joy message came within 3 s: nobody publishes /stick .*ros2 run joy"):
        made("joy", topic="/stick")
    wrong = Repeats(node, JointState, "/stick2", JointState())
    try:
        with pytest.raises(
            InputError, match=r"/stick2 carries sensor_msgs/msg/JointState, expected sensor_msgs/msg/Jo"
        ):
            made("joy", topic="/stick2")
    finally:
        wrong.stop()
    with pytest.raises(InputError, match="--topic '/no way' is no ROS 2 name"):
        made("joy", topic="/no way")


def state(names: list[str], positions: np.ndarray) -> JointState:
    return JointState(name=names, position=[float(value) for value in positions])


def test_a_leader_of_the_same_joints_is_followed_without_calibration(node: PlainNode) -> None:
    target = PANDA.home + 0.1
    shuffled = np.random.default_rng(0).permutation(7)
    names = [PANDA.joint_names[i] for i in shuffled]
    leader = Repeats(node, JointState, "/leader/joint_states", state(names, target[shuffled]))
    spec = make_action_space("joint_position", PANDA, Kinematics(PANDA)).spec
    device = made("leader", spec)
    try:
        values = {"joint_position": PANDA.home.astype(np.float32), "gripper_position": np.array([0.06], np.float32)}
        aligned = Aligned(0, values, {})
        device.reset(values)
        device.start_pressed()
        for _ in range(40):
            action = device.read(aligned).action
        assert action[:7] == pytest.approx(target, abs=1e-6)
        leader.stop()
        events: list[str] = []
        wait_until(lambda: events.extend(device.read(aligned).events) or events, "lost")
        assert events == ["lost"]
    finally:
        device.close()
        leader.stop()


class LeaderDriver:
    """A leader's driver: joint states at 50 Hz, each stamped when it is published."""

    def __init__(self, node: PlainNode, pose: np.ndarray) -> None:
        self.pose, self.frozen = pose, False
        self._said = state(list(PANDA.joint_names), pose)
        self._publisher = node.node.create_publisher(JointState, "/leader/joint_states", 10)
        self._timer = node.node.create_timer(0.02, self._say)
        self._node = node

    def _say(self) -> None:
        if not self.frozen:
            self._said = state(list(PANDA.joint_names), self.pose)
            self._said.header.stamp = to_time(time.time_ns())
        self._publisher.publish(self._said)

    def stop(self) -> None:
        self._timer.cancel()


def heard(device: Device, aligned: Aligned, event: str) -> str:
    """The message of the reading that says `event`; it must be the first to say anything."""
    readings: list[DeviceReading] = []
    wait_until(lambda: readings.append(device.read(aligned)) or readings[-1].events, event)
    assert readings[-1].events == (event,)
    return readings[-1].message


def test_a_leader_whose_driver_freezes_or_that_gets_company_is_lost(node: PlainNode) -> None:
    driver = LeaderDriver(node, PANDA.home)
    spec = make_action_space("joint_position", PANDA, Kinematics(PANDA)).spec
    device = made("leader", spec)
    try:
        values = {"joint_position": PANDA.home.astype(np.float32), "gripper_position": np.array([0.06], np.float32)}
        aligned = Aligned(0, values, {})
        device.reset(values)
        device.start_pressed()
        for _ in range(12):  # it rests: the same pose again and again
            reading = device.read(aligned)
            time.sleep(PERIOD_S)
        assert (reading.events, reading.message) == ((), "")
        driver.frozen = True
        assert heard(device, aligned, "lost").startswith("The leader's driver repeats one old message: its stamps have")
        driver.frozen = False
        heard(device, aligned, "back")
        company = LeaderDriver(node, PANDA.home + 1.0)
        message = heard(device, aligned, "lost")
        company.stop()
        assert re.match(r"The leader's joint 'panda_joint\d' jumped by [+-]1\.00 rad in 0\.\d+ s", message)
        assert np.allclose(device.read(aligned).action[:7], PANDA.home, atol=1e-6)
    finally:
        device.close()
        driver.stop()


def test_other_joints_need_a_calibration(node: PlainNode) -> None:
    leader = Repeats(node, JointState, "/leader/joint_states", state(["a", "b"], np.zeros(2)))
    try:
        with pytest.raises(InputError, match=r"lack 'panda_joint1', .*; they have a, b\. Pair and calibrate them with"):
            made("leader")
    finally:
        leader.stop()


class Conversation:
    """`understudy calibrate-leader` as a person runs it."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "understudy", "calibrate-leader", "--robot", "panda", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ,
        )  # fmt: skip
        self.said: list[str] = []
        self._answered = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)

    def when(self, words: str) -> None:
        """Wait until something was said with these words since the last answer."""
        end = time.monotonic() + 20.0
        while not any(words in line for line in self.said[self._answered :]):
            waiting = time.monotonic() < end and self.process.poll() is None
            assert waiting, f"waited for {words!r}, heard {self.said}"
            time.sleep(0.005)

    def enter(self) -> None:
        assert self.process.stdin is not None
        self._answered = len(self.said)
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str]:
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        code = self.process.wait(20)
        self._reader.join()
        return code, out

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


NAMES = [*(f"servo_{i}" for i in range(7)), "handle"]
SIGNS = np.array([1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0])
OFFSETS = np.array([0.3, -0.2, 1.57, 0.0, -3.1, 0.4, 0.0])


def leader_at(pose: np.ndarray, handle: float = 0.0) -> JointState:
    return state(NAMES, np.append(SIGNS * (pose - OFFSETS), handle))


def test_a_leader_is_calibrated_beside_its_follower(node: PlainNode, tmp_path: Path) -> None:
    poses = [PANDA.home + swing for swing in (0.3, -0.3)]
    leader = Repeats(node, JointState, "/leader/joint_states", leader_at(poses[0]))
    follower = Repeats(node, JointState, PANDA.ros.joint_states.topic, state(list(PANDA.joint_names), poses[0]))
    path = tmp_path / "leader.yaml"
    talk = Conversation("--out", str(path), "--poses", "2")
    try:
        for number, pose in enumerate(poses):
            talk.when(f"Pose {number + 1} of 2: bring panda and the leader to")
            leader.message, follower.message = leader_at(pose), state(list(PANDA.joint_names), pose)
            time.sleep(0.1)
            talk.enter()
        talk.when("Close the leader's gripper (handle)")
        leader.message = leader_at(poses[1], 0.2)
        time.sleep(0.1)
        talk.enter()
        talk.when("Open the leader's gripper (handle)")
        leader.message = leader_at(poses[1], 1.4)
        time.sleep(0.1)
        talk.enter()
        code, out = talk.end()
    finally:
        talk.kill()
        leader.stop()
        follower.stop()
    assert code == 0, talk.said
    assert "largest residual 0.000 rad over 2 poses" in out
    found = read_calibration(path, PANDA)
    assert [link.sign for link in found.joints.values()] == SIGNS.tolist()
    assert [link.offset_rad for link in found.joints.values()] == pytest.approx(OFFSETS, abs=1e-5)
    assert found.gripper is not None
    assert (found.gripper.closed_rad, found.gripper.open_rad) == (pytest.approx(0.2), pytest.approx(1.4))


@pytest.mark.slow
def test_poses_are_listed_where_the_follower_is_silent_and_a_moving_leader_is_asked_again(
    node: PlainNode, tmp_path: Path
) -> None:
    from understudy.cli.calibrate_leader import listed_poses

    poses = listed_poses(PANDA, 2)
    leader = Repeats(node, JointState, "/leader/joint_states", leader_at(poses[0]))
    path = tmp_path / "leader.yaml"
    talk = Conversation("--out", str(path), "--poses", "2", "--no-gripper")
    try:
        talk.when("Pose 1 of 2: bring the leader to where panda has (degrees) panda_joint1 +23")
        wobbling = threading.Event()

        def wobble() -> None:
            while not wobbling.wait(0.02):
                leader.message = leader_at(poses[0] + 0.2 * np.sin(10 * time.monotonic()))

        thread = threading.Thread(target=wobble)
        thread.start()
        time.sleep(0.1)
        talk.enter()
        talk.when("Hold it still, and try again.")
        wobbling.set()
        thread.join()
        leader.message = leader_at(poses[0])
        time.sleep(0.1)
        talk.when("Pose 1 of 2")
        talk.enter()
        talk.when("Pose 2 of 2")
        leader.message = leader_at(poses[1])
        time.sleep(0.1)
        talk.enter()
        code, _ = talk.end()
    finally:
        talk.kill()
        leader.stop()
    assert code == 0, talk.said
    assert any("nobody publishes" in line and "Poses are listed instead" in line for line in talk.said)
    found = read_calibration(path, PANDA)
    assert found.gripper is None
    assert [link.offset_rad for link in found.joints.values()] == pytest.approx(OFFSETS, abs=1e-5)


def test_a_conversation_that_ends_early_writes_nothing(node: PlainNode, tmp_path: Path) -> None:
    leader = Repeats(node, JointState, "/leader/joint_states", leader_at(PANDA.home))
    path = tmp_path / "leader.yaml"
    talk = Conversation("--out", str(path))
    try:
        talk.when("Pose 1 of 3")
        assert talk.process.stdin is not None
        talk.process.stdin.close()
        code, _ = talk.end()
    finally:
        talk.kill()
        leader.stop()
    assert code == 2
    assert "Standard input ended before all poses were taken" in talk.said[-1]
    assert not path.exists()
