"""The simulated driver: real topics at real rates, commands checked before they are followed, honest about success."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("pybullet")

from builtin_interfaces.msg import Duration
from envs_ros_support import LIMIT_S, PlainNode, SimArmProcess, own_domain, wait_until
from geometry_msgs.msg import PoseStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from understudy.envs.arms.arm import Command, Pose, Start
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import ROBOTS, load_robot
from understudy.envs.arms.ros_arm import RosArm, step_trajectory
from understudy.envs.arms.ros_common import to_time
from understudy.envs.arms.ros_sim_arm import (
    RESET_SERVICE,
    SUCCESS_TOPIC,
    Due,
    Follower,
    SimDriver,
    SimDriverConfig,
    WayPoint,
    read_trajectory,
)
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.control import Control
from understudy.envs.tasks.lift import Lift
from understudy.envs.tasks.task import make_task
from understudy.errors import ArmFault, InputError, StaleObservation

pytestmark = pytest.mark.ros

PANDA = load_robot("panda")
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
WALL_NS = 1_800_000_000 * 10**9


@pytest.fixture
def domain():
    with own_domain() as domain:
        yield domain


# -- reading and playing trajectories


def trajectory(*points: tuple[float, float]) -> JointTrajectory:
    """Points (after seconds, offset from home of every joint)."""
    message = JointTrajectory(joint_names=list(PANDA.joint_names))
    for after_s, offset in points:
        after = Duration(sec=int(after_s), nanosec=round((after_s % 1) * 1e9))
        message.points.append(JointTrajectoryPoint(positions=(PANDA.home + offset).tolist(), time_from_start=after))
    return message


def test_joints_come_back_in_the_robots_order():
    message = step_trajectory(PANDA, PANDA.home, np.linspace(-0.3, 0.3, 7))
    message.joint_names = message.joint_names[::-1]
    for point in message.points:
        point.positions, point.velocities = point.positions[::-1], point.velocities[::-1]
    way = read_trajectory(message, PANDA, WALL_NS)
    assert [point.after_s for point in way] == pytest.approx([0.0625, 0.1125])
    assert way[0].position == pytest.approx(PANDA.home)
    assert way[0].velocity == pytest.approx(np.linspace(-0.3, 0.3, 7))


def test_a_stamp_moves_the_beginning():
    message = trajectory((0.1, 0.0), (0.5, 0.1))
    message.header.stamp = to_time(WALL_NS - 200_000_000)
    assert [point.after_s for point in read_trajectory(message, PANDA, WALL_NS)] == pytest.approx([0.3])
    message.header.stamp = to_time(WALL_NS - 10**9)
    with pytest.raises(InputError, match=r"ended 0\.500 s ago"):
        read_trajectory(message, PANDA, WALL_NS)


def broken(case: str) -> JointTrajectory:
    message = trajectory((0.1, 0.0), (0.2, 0.1))
    if case == "missing":
        message.joint_names = message.joint_names[:-1]
    elif case == "foreign":
        message.joint_names[0] = "wheel"
    elif case == "twice":
        message.joint_names[0] = message.joint_names[1]
    elif case == "empty":
        message.points = []
    elif case == "short":
        message.points[1].positions = message.points[1].positions[:-1]
    elif case == "nan":
        message.points[0].positions[3] = float("nan")
    elif case == "velocities":
        message.points[0].velocities = [0.0]
    elif case == "times":
        message.points[1].time_from_start = message.points[0].time_from_start
    return message


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("missing", "expected all of"),
        ("foreign", "expected all of"),
        ("twice", "expected all of"),
        ("empty", "no points"),
        ("short", "has 6 values; expected 7"),
        ("nan", "not finite"),
        ("velocities", "velocities has 1 values; expected 7"),
        ("times", "times must increase"),
    ],
)
def test_trajectories_that_cannot_be_followed_are_refused(case: str, why: str):
    with pytest.raises(InputError, match=why):
        read_trajectory(broken(case), PANDA, WALL_NS)


class Sent:
    """Stands in for an arm only in keeping what it is sent."""

    def __init__(self) -> None:
        self.commands: list[Command] = []

    def describe(self):
        return PANDA

    def send(self, command: Command) -> Command:
        self.commands.append(command)
        return command


def test_a_long_way_is_gone_in_steps_of_a_period_and_a_new_one_replaces_it():
    arm = Sent()
    follower = Follower(arm)  # type: ignore[arg-type]
    follower.take(0, [WayPoint(1.0, PANDA.home + 1.0, None)], 0.03)
    for now_ms in range(0, 500, 5):
        follower.advance(now_ms * 1_000_000)
    offsets = [command.joint_position[0] - PANDA.home[0] for command in arm.commands]
    assert offsets == pytest.approx(np.arange(1, 11) * 0.05)
    assert [command.gripper_position for command in arm.commands] == [0.03] + [None] * 9
    assert arm.commands[4].joint_velocity == pytest.approx(np.ones(7))
    follower.take(500_000_000, [WayPoint(0.0625, PANDA.home, None)], None)
    follower.advance(10**10)
    assert len(arm.commands) == 11
    assert follower.set_point == pytest.approx(PANDA.home)


def test_a_rate_is_kept_on_average_and_made_up_for_never():
    due = Due(0, 100.0)
    assert sum(due.at(step * 1_000_000_000 // 240) for step in range(240)) == 100
    assert due.at(5_000_000_000)
    assert not due.at(5_000_000_001)


# -- the driver in this process, as fast as it goes


def test_success_is_said_once_it_has_lasted_and_taken_back_by_a_reset(domain: int):
    table, air = (Pose(np.array([0.5, 0.1, height])) for height in (0.02, 1.0))
    scenes = {3: table, 4: air, 5: table}
    arm = SimArm(PANDA, Lift.objects, realtime=True)
    driver = SimDriver(
        arm, Lift(), lambda seed: Start(PANDA.home, 0.08, {"object": scenes[seed]}), SimDriverConfig(seed=3)
    )
    stop = threading.Event()
    loop = threading.Thread(target=driver.run, args=(stop.is_set,))
    loop.start()
    plain = PlainNode("plain_judge")
    try:
        said = plain.listen(Bool, SUCCESS_TOPIC, LATCHED)
        client = plain.node.create_client(Trigger, RESET_SERVICE)
        assert client.wait_for_service(timeout_sec=10.0)
        wait_until(lambda: said, "the latched verdict")
        seeds = []
        for _ in range(3):
            answer = client.call_async(Trigger.Request())
            wait_until(answer.done, "the reset")
            assert answer.result().success
            seeds.append(json.loads(answer.result().message)["seed"])
            time.sleep(0.5)  # the cube that starts at 1 m passes 12 cm after 0.42 s
        assert seeds == [3, 4, 5]
        wait_until(lambda: len(said) >= 5, "five verdicts")
        assert [message.data for message in said] == [False, False, False, True, False]
    finally:
        stop.set()
        loop.join()
        plain.close()
        driver.close()
        arm.close()


@pytest.mark.parametrize(("field", "value"), [("rate_hz", 0.0), ("pose_rate_hz", 500.0), ("rate_hz", float("nan"))])
def test_rates_that_cannot_be_kept_are_refused(field: str, value: float):
    with pytest.raises(InputError, match=f"{field} must be above 0 and at most 240"):
        SimDriverConfig(**{field: value})


# -- the command, in a process of its own


def test_plain_rclpy_sees_and_drives_it(domain: int):
    process = SimArmProcess("--task", "lift", "--seed", "1")
    plain = PlainNode("plain_user")
    try:
        states = plain.listen(JointState, "/joint_states", qos_profile_sensor_data)
        poses = plain.listen(PoseStamped, "/object_pose", qos_profile_sensor_data)
        images = plain.listen(Image, "/camera/front/image_raw", qos_profile_sensor_data)
        wait_until(lambda: len(images) >= 3 and poses and states, "everything")
        _check_state(states[-1])
        assert poses[-1].pose.position.z == pytest.approx(0.02, abs=0.01)
        assert (images[-1].width, images[-1].height, images[-1].encoding) == (160, 120, "rgb8")
        assert np.std(np.frombuffer(images[-1].data, np.uint8)) > 10.0
        commands = plain.node.create_publisher(JointTrajectory, PANDA.ros.command_topic, 10)
        gripper = plain.node.create_publisher(Float64MultiArray, str(PANDA.ros.gripper_topic), 10)
        wait_until(lambda: commands.get_subscription_count() and gripper.get_subscription_count(), "its subscriptions")
        time.sleep(0.3)
        here = np.array(states[-1].position[:7])
        for bad in ("nan", "missing", "short"):
            commands.publish(broken(bad))
        gripper.publish(Float64MultiArray(data=[0.01]))
        time.sleep(0.2)
        assert states[-1].position[:7] == pytest.approx(here, abs=2e-3)
        gripper.publish(Float64MultiArray(data=[0.01, 0.01]))  # alone, without a joint command
        goal = trajectory((0.5, 0.0))
        goal.points[0].positions = (here + 0.1).tolist()
        begun, count = time.monotonic(), len(states)
        commands.publish(goal)
        wait_until(lambda: np.max(np.abs(np.array(states[-1].position[:7]) - here - 0.1)) < 5e-3, "the goal", 5.0)
        assert time.monotonic() - begun > 0.4  # as slowly as was asked
        wait_until(lambda: max(states[-1].position[7:]) < 0.012, "the fingers", 5.0)
        assert 60 < (len(states) - count) / (time.monotonic() - begun) <= 110
        code, printed = process.stop(signal.SIGINT)
    finally:
        plain.close()
        process.close()
    assert code == 0
    assert "sim-arm stopped: 0 resets, 4 commands refused" in printed
    assert "not finite" in printed


@pytest.mark.parametrize("name", ["stack", "insert", "drawer", "push"])
def test_everything_that_a_task_observes_arrives(domain: int, name: str):
    """So that a skill of each task can run; base, hole and opening were not read once."""
    task, robot = make_task(name), load_robot("kuka_iiwa" if name == "push" else "panda")
    simulated = SimArm(robot, task.objects, realtime=True)
    start = task.start(robot, np.random.default_rng(3))
    driver = SimDriver(simulated, task, lambda seed: start, SimDriverConfig())
    stopped = threading.Event()
    serving = threading.Thread(target=driver.run, args=(stopped.is_set,))
    arm = RosArm(robot, cameras=())
    try:
        serving.start()
        needed = tuple(key for key in task.observation_keys if not key.startswith("tool_"))
        arm.wait_until_ready(needed, LIMIT_S)
        seen = Control(arm, task.action_space, task.observation_keys, action_labels=task.action_labels).begin().values
    finally:
        stopped.set()
        serving.join()
        arm.close()
        driver.close()
        simulated.close()
    assert set(seen) == set(task.observation_keys)
    told = start.numbers()
    for key in needed:
        if key.startswith(("object", "goal")):
            assert np.abs(seen[key]) == pytest.approx(np.abs(told[key]), abs=5e-3), key


def _check_state(state: JointState) -> None:
    assert list(state.name) == [*PANDA.joint_names, "panda_finger_joint1", "panda_finger_joint2"]
    assert len(state.position) == len(state.velocity) == len(state.effort) == 9
    assert np.all(np.isfinite(state.effort[:7]))
    assert np.all(np.isnan(state.effort[7:]))
    stamp_ns = state.header.stamp.sec * 10**9 + state.header.stamp.nanosec
    assert 0 < time.time_ns() - stamp_ns < 2 * 10**9


def test_a_robot_commanded_by_positions(domain: int, tmp_path: Path):
    data = yaml.safe_load((ROBOTS / "panda.yaml").read_text())
    data["ros"] |= {"command": "position", "command_topic": "/forward_position_controller/commands"}
    data["ros"]["reset_service"] = RESET_SERVICE
    shutil.copy(ROBOTS / "panda.urdf", tmp_path)
    (tmp_path / "panda.yaml").write_text(yaml.safe_dump(data))
    robot = load_robot(tmp_path / "panda.yaml")
    process = SimArmProcess("--robot", str(tmp_path / "panda.yaml"), "--no-camera", "--seed", "2")
    arm = RosArm(robot)
    try:
        arm.wait_until_ready(timeout_s=15.0)
        goal = arm.reset(Start(robot.home))["joint_position"] + 0.1
        for _ in range(10):
            arm.send(Command(goal, 0.0, np.full(7, 0.1)))
            arm.clock.sleep_until(arm.clock.now_ns() + 50_000_000)
        # a simulator on a busy machine is behind
        wait_until(lambda: arm.observe()["joint_position"] == pytest.approx(goal, abs=0.02), "the joints")
        wait_until(lambda: arm.observe()["gripper_position"] == pytest.approx([0.0], abs=0.01), "the gripper")
        arm.close()
        code, printed = process.stop(signal.SIGINT)
    finally:
        arm.close()
        process.close()
    assert code == 0
    assert "sim-arm stopped: 1 resets, 0 commands refused" in printed


def test_it_leaves_with_0_on_sigterm(domain: int):
    process = SimArmProcess("--robot", "kuka_iiwa", "--task", "reach", "--no-camera")
    try:
        code, printed = process.stop(signal.SIGTERM)
    finally:
        process.close()
    assert code == 0
    assert "sim-arm stopped: 0 resets, 0 commands refused" in printed


def test_a_dead_arm_ages_and_stops_observation_and_guarded_commands(domain: int):
    process = SimArmProcess("--no-camera", "--task", "lift")
    arm = RosArm(PANDA, reset_service=RESET_SERVICE)
    try:
        arm.wait_until_ready(timeout_s=15.0)
        control = Control(Guard(arm), "joint_delta", ("joint_position", "object_position"))
        arm.wait_until_ready(("object_position",))
        control.begin()
        process.process.send_signal(signal.SIGKILL)
        process.process.wait()
        control.apply(np.zeros(control.actions.spec.size))
        with pytest.raises(StaleObservation, match="Its source has stopped"):  # noqa: PT012 - within two seconds
            for _ in range(40):
                control.wait()
        stamp = arm.observe().stamps_ns["joint_position"]
        assert 0.2 < (arm.clock.now_ns() - stamp) * 1e-9 < 2.0
        arm.hold()  # still safe
        with pytest.raises(ArmFault, match=r"No fresh joint_position .*/joint_states was last received [01]\.\d s ago"):
            arm.wait_until_ready(timeout_s=0.1)
    finally:
        arm.close()
        process.close()
