"""Driving over real DDS: a session on `understudy sim-arm` as on hardware, and what is said where it cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("pybullet")

from envs_ros_support import PlainNode, SimArmProcess, joint_state, own_domain
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState
from terminal_support import Person
from trajectory_msgs.msg import JointTrajectory

from understudy.capture.devices.scripted import ScriptedDevice
from understudy.capture.hardware import HardwareConfig, make_stage
from understudy.capture.session import Session, SessionConfig
from understudy.datasets.camera_streams import frames_file, kept_frames
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import load_robot
from understudy.envs.tasks.free import task_on
from understudy.envs.tasks.task import make_task
from understudy.errors import ArmFault, InputError

pytestmark = pytest.mark.ros

PANDA = load_robot("panda")
LIFT = make_task("lift")
SIM_ARM = HardwareConfig(reset_service="/sim_arm/reset", cameras=(), ready_s=20)


@pytest.fixture(scope="module", autouse=True)
def domain():
    with own_domain() as domain:
        yield domain


@pytest.fixture(scope="module")
def sim_arm(domain: int):
    process = SimArmProcess("--task", "lift", "--seed", "3")
    yield process
    process.close()


def test_a_session_on_the_graph_is_recorded_as_in_simulation(sim_arm: SimArmProcess, tmp_path: Path):
    stage = make_stage(PANDA, LIFT, SIM_ARM)
    try:
        dataset = Dataset.create(tmp_path / "demos", robot="panda", task="lift")
        device = ScriptedDevice("lift", PANDA, stage.control.actions.spec, np.random.default_rng(0))
        session = Session(stage, device, dataset, SessionConfig(max_s=12))
        session.prepare(seed=0)
        session.start()
        while session.state == "recording":
            session.tick()
        assert session.success, session.take_info
        time.sleep(1.0)  # a person looks at it
        episode = dataset.read(session.keep())
        assert {light.state for light in stage.lights()} == {"alive"}
    finally:
        stage.close()
    joints = episode.streams["joint_position"]
    seconds = (episode.tick_ns[-1] - episode.tick_ns[0]) * 1e-9
    assert len(joints.stamps_ns) > 60 * seconds  # sim-arm publishes at 100 Hz; nothing of the second of looking
    assert joints.stamps_ns[-1] <= episode.tick_ns[-1] + 60_000_000
    assert joints.receives_ns is not None
    assert np.all(joints.receives_ns >= joints.stamps_ns)
    # what a step saw is the latest that had come by its tick
    tick = len(episode) // 2
    came = np.searchsorted(joints.receives_ns, episode.tick_ns[tick], side="right") - 1
    assert np.abs(joints.values[came - 1 : came + 2] - episode.observations["joint_position"][tick]).max(1).min() < 1e-5
    assert np.median(np.diff(episode.tick_ns)) == pytest.approx(50e6, rel=0.02)


def test_a_task_of_ones_own_keeps_every_camera_frame(sim_arm: SimArmProcess, tmp_path: Path):
    robot = PANDA.model_copy(update={"ros": PANDA.ros.model_copy(update={"poses": {}, "openings": {}})})
    task = task_on("fold_towel", robot)
    stage = make_stage(robot, task, HardwareConfig(every_frame=("front",), ready_s=20))
    try:
        dataset = Dataset.create(tmp_path / "demos", robot="panda", task="fold_towel")
        device = ScriptedDevice("lift", PANDA, stage.control.actions.spec, np.random.default_rng(0))
        device.read = lambda aligned: still(stage)  # type: ignore[method-assign]
        device.reset = lambda observation: None  # type: ignore[method-assign]
        session = Session(stage, device, dataset, SessionConfig(max_s=1.5))
        session.prepare()
        session.start()
        while session.state == "recording":
            session.tick()
        id = session.keep()
    finally:
        stage.close()
    episode = dataset.read(id)
    assert episode.info.success is False
    assert episode.observations["image_front"].shape == (30, 120, 160, 3)
    assert 5 <= kept_frames(frames_file(dataset.path, id))["front"] <= 20  # at 10 Hz


def test_the_shipped_robot_rehearses_a_task_of_ones_own(sim_arm: SimArmProcess, tmp_path: Path):
    """It named the poses of all tasks, and refused to begin without any of them."""
    out = tmp_path / "demos"
    command = ("record", "fold_towel", "--arm", "ros", "--robot", "panda", "--device", "hand", "--countdown", "0")
    person = Person(*command, "--cameras", "--episodes", "1", "--out", out)
    try:
        person.wait_for("Not observed, because nobody publishes /object_base_pose, /object_hole_pose")
        press_until(person, "\r", lambda: "RECORDING" in person.seen)
        time.sleep(1.0)
        press_until(person, ".", lambda: "REVIEW" in person.seen)
        press_until(person, "y", lambda: person.process.poll() is not None)
        assert person.wait() == 0, person.seen
    finally:
        person.close()
    (episode,) = Dataset.open(out).episodes()
    assert {"object_position", "object_quaternion"} <= set(episode.observations)
    assert not [key for key in episode.observations if key.startswith(("object_base", "object_hole", "goal"))]


def press_until(person: Person, key: str, done: Callable[[], bool]) -> None:
    """Press again as a person would who is told of a source that is slow just now."""
    deadline = time.monotonic() + 20.0
    while not done() and time.monotonic() < deadline:
        person.type(key, every_s=0.7)


def test_what_earlier_takes_observed_must_be_there(sim_arm: SimArmProcess):
    task = task_on("fold_towel", PANDA)
    config = HardwareConfig(cameras=(), ready_s=2.0, observes=("object_position", "object_base_position"))
    with pytest.raises(ArmFault, match=r"No fresh object_base_position.*nobody publishes /object_base_pose"):
        make_stage(PANDA, task, config)


def still(stage):
    from understudy.capture.devices.device import DeviceReading, neutral

    return DeviceReading(neutral(stage.control.actions.spec, stage.aligned))


def test_the_command_records_an_arm_on_the_graph(sim_arm: SimArmProcess, tmp_path: Path):
    out = tmp_path / "demos"
    command = [sys.executable, "-m", "understudy", "record", "lift", "--arm", "ros", "--device", "scripted"]
    options = ["--reset-service", "/sim_arm/reset", "--cameras", "front", "--every-frame", "front", "--json"]
    finished = subprocess.run(
        [*command, *options, "--episodes", "1", "--out", str(out)], capture_output=True, text=True, timeout=100
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout.splitlines()[-1])["recorded"] == 1
    dataset = Dataset.open(out)
    (episode,) = dataset.episodes()
    assert (episode.info.device, episode.info.success) == ("scripted", True)
    assert {"image_front", "object_position"} <= set(episode.observations)
    assert {"joint_position", "object_position"} <= set(episode.streams)
    assert kept_frames(frames_file(out, dataset.ids[0]))["front"] > 5


def test_what_is_not_there_is_named_before_anything_moves(domain: int):
    robot = PANDA.model_copy(
        update={"ros": PANDA.ros.model_copy(update={"joint_states": PANDA.ros.joint_states.model_copy(
            update={"topic": "/nobody/joint_states"})})}
    )  # fmt: skip
    with pytest.raises(ArmFault, match=r"No fresh joint_position.*nobody publishes /nobody/joint_states"):
        make_stage(robot, LIFT, HardwareConfig(cameras=(), ready_s=0.5))
    with pytest.raises(InputError, match=r"observes image_wrist, and robot 'panda' names no topic"):
        make_stage(PANDA, LIFT, HardwareConfig(cameras=("wrist",)))


def test_a_second_commander_and_an_absent_controller_are_named(domain: int):
    ros = PANDA.ros
    robot = PANDA.model_copy(update={"ros": ros.model_copy(update={
        "joint_states": ros.joint_states.model_copy(update={"topic": "/other/joint_states"}),
        "command_topic": "/other/command", "gripper_topic": None, "poses": {}, "openings": {},
    })})  # fmt: skip
    node = PlainNode("moveit_servo")
    states = node.node.create_publisher(JointState, "/other/joint_states", qos_profile_sensor_data)
    commands = node.node.create_publisher(JointTrajectory, "/other/command", 10)
    node.node.create_timer(0.02, lambda: states.publish(joint_state(PANDA, PANDA.home)))
    try:
        task, config = task_on("fold_towel", robot), HardwareConfig(cameras=(), ready_s=20)
        with pytest.raises(ArmFault, match=r"/moveit_servo publishes /other/command\. Stop it, or .*--arm watched"):
            make_stage(robot, task, config)
        node.node.destroy_publisher(commands)
        with pytest.raises(ArmFault, match=r"Nobody listens on /other/command"):
            make_stage(robot, task, config)
    finally:
        node.close()
