"""RosArm keeps the laws of arms on a simulated arm in another process, over DDS; plain rclpy sees what it sends."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("pybullet")

from conformance.arm import ArmConformance
from envs_ros_support import PlainNode, SimArmProcess, joint_state, own_domain, positions, wait_until
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.arm import Arm, Command, Start
from understudy.envs.arms.following import Following
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.ros_arm import LEAD_PERIODS, RIVALS_EVERY_S, RosArm, step_trajectory
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.tasks.lift import Lift
from understudy.errors import ArmFault, InputError

pytestmark = pytest.mark.ros

PANDA = load_robot("panda")
FIRST_SEED = 5
RESET = "/sim_arm/reset"


@pytest.fixture(scope="module", autouse=True)
def domain():
    with own_domain() as domain:
        yield domain


@pytest.fixture(scope="module")
def sim_arm(domain: int):
    process = SimArmProcess("--robot", "panda", "--task", "lift", "--seed", str(FIRST_SEED), "--no-camera")
    yield process
    process.close()


@pytest.fixture(scope="module")
def shared(sim_arm: SimArmProcess):
    arm = RosArm(PANDA, reset_service=RESET)
    arm.wait_until_ready(("joint_position", "gripper_position", "object_position"), timeout_s=15.0)
    yield arm
    arm.close()


class Starts:
    """The starts that sim-arm deals, computed here from the same seeds."""

    def __init__(self) -> None:
        simulated = SimArm(PANDA, Lift.objects)
        self._env = ArmEnv(simulated, Lift())
        self._seed = FIRST_SEED

    def next(self) -> Start:
        start: Start = self._env.reset(seed=self._seed)[1]["start"]
        self._seed += 1
        return start


@pytest.fixture(scope="module")
def starts() -> Starts:
    return Starts()


class TestRosArm(ArmConformance):
    tolerance_rad = 0.03

    @pytest.fixture(autouse=True)
    def _starts(self, starts: Starts):
        self._dealt = starts

    @pytest.fixture
    def arm(self, shared: RosArm):
        return shared

    def start(self, arm: Arm) -> Start:
        """Each reset of sim-arm deals the next seed's scene, which training would deal for that seed too."""
        return self._dealt.next()

    def test_closing_twice_is_safe(self):
        super().test_closing_twice_is_safe(RosArm(PANDA))

    def test_a_closed_arm_refuses_commands_and_holds_quietly(self):
        arm = RosArm(PANDA)
        arm.close()
        arm.hold()
        with pytest.raises(ArmFault, match="is closed"):
            arm.send(Command(PANDA.home))

    def test_reset_brings_the_objects_too(self, arm: RosArm):
        start = self.start(arm)
        seen = arm.reset(start)
        assert seen["object_position"] == pytest.approx(start.objects["object"].position, abs=2e-3)
        assert np.abs(seen["object_quaternion"] @ start.objects["object"].quaternion) == pytest.approx(1.0, abs=1e-3)


def test_plain_rclpy_sees_the_commands(shared: RosArm, starts: Starts):
    shared.hold()  # from its first command on it publishes
    plain = PlainNode("plain_controller")
    try:
        trajectories = plain.listen(JointTrajectory, PANDA.ros.command_topic)
        fingers = plain.listen(Float64MultiArray, str(PANDA.ros.gripper_topic))
        wait_until(lambda: shared._commands.get_subscription_count() == 2, "the plain node")
        here = np.asarray(shared.reset(starts.next())["joint_position"])
        velocity = np.linspace(-0.2, 0.2, 7)
        time.sleep(0.5)
        shared.send(Command(here + 0.01, 0.02, velocity))
        shared.send(Command(here))
        shared.hold()
        wait_until(lambda: len(trajectories) >= 3 and fingers, "the commands")
        first, second, hold = trajectories[:3]
        assert first.joint_names == list(PANDA.joint_names)
        assert (first.header.stamp.sec, first.header.stamp.nanosec) == (0, 0)
        assert positions(trajectories[:2]) == pytest.approx(np.array([here + 0.01, here]))
        assert first.points[0].velocities == pytest.approx(velocity)
        assert first.points[0].time_from_start.nanosec == round(0.05 * (1 + LEAD_PERIODS) * 1e9)
        assert len(second.points) == len(hold.points) == 1
        assert not np.any(second.points[0].velocities)
        assert hold.points[0].positions == pytest.approx(here)
        assert fingers[0].data == pytest.approx([0.01, 0.01])
        assert shared.refused == {}
    finally:
        plain.close()


def keep_sending(guard: Guard, place: np.ndarray) -> None:
    """Ask for a place for two seconds, at the robot's rate, of an arm just read: a busy machine may be late."""

    def read_now() -> bool:
        return guard.clock.now_ns() - guard.observe().stamps_ns["joint_position"] < PANDA.period_s * 0.5e9

    for _ in range(40):
        time.sleep(PANDA.period_s)
        wait_until(read_now, "a reading")
        guard.send(Command(place))


def test_a_drive_that_takes_no_notice_is_sent_back_to_where_the_arm_is(domain: int):
    """In a protective stop its controller listens, and its joints are reported as ever."""
    ros = PANDA.ros
    states = ros.joint_states.model_copy(update={"topic": "/stopped/joint_states"})
    told = {"joint_states": states, "command_topic": "/stopped/command", "gripper_topic": None, "poses": {}}
    robot = PANDA.model_copy(update={"ros": ros.model_copy(update=told)})
    plain, arm = PlainNode("stopped_drive"), RosArm(robot, cameras=(), node_name="commander")
    try:
        message = joint_state(robot, PANDA.home)
        message.velocity = [0.0] * len(message.position)
        publisher = plain.node.create_publisher(JointState, "/stopped/joint_states", 10)

        def report() -> None:
            message.header.stamp = plain.node.get_clock().now().to_msg()
            publisher.publish(message)

        plain.node.create_timer(0.01, report)
        heard = plain.listen(JointTrajectory, "/stopped/command", 100)
        arm.wait_until_ready(timeout_s=15.0)
        wait_until(lambda: arm.listened_to, "the drive's controller")
        guard = Guard(arm)
        guard.send(Command(PANDA.home))
        away = PANDA.home + np.array([0.9, 0, 0, 0, 0, 0, 0])
        with pytest.raises(ArmFault, match=r"Joint 0 .* lags .*at most 0\.7\d+ rad is allowed\. .*protective stop"):
            keep_sending(guard, away)
        guard.hold()
        assert guard.at_rest
        wait_until(lambda: np.allclose(heard[-1].points[0].positions, PANDA.home), "the hold")
        ahead = positions(heard)[:, 0] - PANDA.home[0]
        limit = Following(robot, hardware=True).limits_rad[0]
        assert limit < ahead.max() <= limit + PANDA.joints[0].velocity * PANDA.period_s
        assert ahead[-2:] == pytest.approx([0.0, 0.0])
    finally:
        arm.close()
        plain.close()


def test_an_arm_that_only_looks_is_no_commander_and_nothing_is_sent_beside_one(shared: RosArm, starts: Starts):
    shared.reset(starts.next())
    shared.hold()
    looking, plain = RosArm(PANDA), PlainNode("rival")
    try:
        wait_until(lambda: "/understudy_arm publishes" in str(looking.rivals), "the arm that commands, by its name")
        wait_until(lambda: plain.node.count_publishers(PANDA.ros.command_topic) == 1, "the plain node to find it")
        assert shared.rivals == ()
        shared.send(Command(PANDA.home))
        with pytest.raises(ArmFault, match="Another node commands the arm: /understudy_arm publishes"):
            looking.send(Command(PANDA.home))
        rival = plain.node.create_publisher(JointTrajectory, PANDA.ros.command_topic, 10)
        wait_until(lambda: shared.rivals == (f"/rival publishes {PANDA.ros.command_topic}",), "the rival")
        time.sleep(RIVALS_EVERY_S)
        with pytest.raises(ArmFault, match=r"/rival publishes .*stop one of the two"):
            shared.send(Command(PANDA.home))
        heard = plain.listen(JointTrajectory, PANDA.ros.command_topic)
        wait_until(lambda: shared._commands.get_subscription_count() == 2, "the plain node")
        for arm in (shared, looking):
            with pytest.raises(ArmFault, match="Another node commands the arm"):
                arm.hold()
        time.sleep(0.3)
        assert heard == []  # the rival moves the arm; a place to rest at would tear it away
        plain.node.destroy_publisher(rival)
        wait_until(lambda: not shared.rivals, "the rival's end")
        shared.send(Command(PANDA.home))
    finally:
        plain.close()
        looking.close()


def test_a_subscriber_of_another_type_is_no_controller():
    with own_domain():
        plain, controller, arm = PlainNode("recorder"), PlainNode("controller"), RosArm(PANDA)
        try:
            plain.listen(Float64MultiArray, PANDA.ros.command_topic)
            wait_until(lambda: arm._graph.node.count_subscribers(PANDA.ros.command_topic) == 1, "the plain node")
            assert not arm.listened_to
            controller.listen(JointTrajectory, PANDA.ros.command_topic)
            wait_until(lambda: arm.listened_to, "a controller")
        finally:
            plain.close()
            controller.close()
            arm.close()


def test_an_arm_that_was_moved_is_held_where_it_is_and_one_unknown_is_not_held():
    with own_domain():
        plain, arm = PlainNode("driver"), RosArm(PANDA)
        try:
            states = plain.node.create_publisher(JointState, PANDA.ros.joint_states.topic, 10)
            heard = plain.listen(JointTrajectory, PANDA.ros.command_topic)
            wait_until(lambda: states.get_subscription_count() and arm.listened_to, "each other")
            arm.hold()  # nothing is known yet
            place = [PANDA.home]
            plain.node.create_timer(0.01, lambda: states.publish(joint_state(PANDA, place[0])))
            for count, moved in enumerate((0.0, 0.1, 0.3), 1):
                place[0] = PANDA.home + moved
                wait_until(lambda at=moved: _stands(arm, PANDA.home + at), "the reading")
                arm.hold()
                wait_until(lambda many=count: len(heard) == many, "a place to rest at")
            rests = [PANDA.home, PANDA.home, PANDA.home + 0.3]
            assert positions(heard) == pytest.approx(np.array(rests), abs=1e-6)
        finally:
            plain.close()
            arm.close()


def test_an_arm_rests_at_what_it_was_sent_where_its_readings_are_old():
    """Joint states that stall 0.3 s: the arm has followed since, and a place of then would tear it back."""
    with own_domain():
        plain, arm = PlainNode("driver"), RosArm(PANDA)
        try:
            states = plain.node.create_publisher(JointState, PANDA.ros.joint_states.topic, 10)
            heard = plain.listen(JointTrajectory, PANDA.ros.command_topic)
            wait_until(lambda: states.get_subscription_count() and arm.listened_to, "each other")
            states.publish(joint_state(PANDA, PANDA.home))
            wait_until(lambda: _stands(arm, PANDA.home), "the reading")
            arm.send(Command(PANDA.home + 0.3))
            old_ns = arm._latest["joint_position"].stamp_ns + 300_000_000
            wait_until(lambda: arm.clock.now_ns() > old_ns, "the reading to be old")
            arm.hold()
            wait_until(lambda: len(heard) == 2, "a place to rest at")
            assert positions(heard) == pytest.approx(np.tile(PANDA.home + 0.3, (2, 1)), abs=1e-6)
        finally:
            plain.close()
            arm.close()


def _stands(arm: RosArm, joints: np.ndarray) -> bool:
    seen = arm.observe()
    return "joint_position" in seen and np.allclose(seen["joint_position"], joints)


@given(
    st.lists(st.floats(-1, 1), min_size=7, max_size=7),
    st.lists(st.floats(-1, 1), min_size=7, max_size=7),
)
def test_a_step_ends_in_a_stop_inside_the_limits(where: list[float], how_fast: list[float]):
    lower, upper = PANDA.joint_array("lower"), PANDA.joint_array("upper")
    position = (lower + upper) / 2 + np.array(where) * (upper - lower) / 2
    velocity = np.array(how_fast) * PANDA.joint_array("velocity")
    message = step_trajectory(PANDA, position, velocity)
    times = [point.time_from_start.sec + point.time_from_start.nanosec * 1e-9 for point in message.points]
    assert message.points[0].positions == pytest.approx(position)
    assert not np.any(message.points[-1].velocities)  # a controller may refuse one that ends in motion
    if len(message.points) == 1:
        assert np.max(np.abs(velocity)) < 1e-6
        return
    stop_s = times[1] - times[0]
    assert stop_s >= PANDA.period_s - 1e-9
    assert np.all(np.abs(velocity) / stop_s <= PANDA.joint_array("acceleration") * (1 + 1e-6))
    rest = np.array(message.points[1].positions)
    assert np.all((rest >= lower - 1e-12) & (rest <= upper + 1e-12))
    assert np.all(np.abs(rest - position) <= 0.5 * np.abs(velocity) * stop_s + 1e-9)


def test_a_place_to_rest_at_is_one_point():
    message = step_trajectory(PANDA, PANDA.home, None)
    assert [list(point.velocities) for point in message.points] == [[0.0] * 7]


def test_a_camera_that_is_not_in_the_file_is_refused():
    with pytest.raises(InputError, match="Unknown camera 'wrist'"):
        RosArm(PANDA, cameras=("wrist",))
