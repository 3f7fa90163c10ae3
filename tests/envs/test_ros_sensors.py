"""A robot's topics become samples: joints by name, images by size, and nothing that is not finite."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from envs_ros_support import PlainNode, joint_state, own_domain, wait_until
from geometry_msgs.msg import PoseStamped
from hypothesis import given
from hypothesis import strategies as st
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from understudy.datasets.align import Assembler
from understudy.envs.arms.arm import Command, Start
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.ros_arm import UNHEARD_S, RosArm
from understudy.envs.arms.ros_common import array_to_image
from understudy.envs.arms.ros_sensors import read_joints, read_pose
from understudy.errors import ArmFault, InputError, StaleObservation

pytestmark = pytest.mark.ros

PANDA = load_robot("panda")
POSITION = np.linspace(-1.0, 1.0, 7)


# -- reading messages


@given(st.permutations(range(12)))
def test_joints_are_found_by_name_in_any_order_among_others(order: list[int]):
    message = joint_state(PANDA, POSITION)
    names = [*message.name, "rail", "camera_pan", "wheel"]
    columns = {
        field: [*getattr(message, field), 7.0, float("nan"), 9.0] for field in ("position", "velocity", "effort")
    }
    shuffled = JointState(name=[names[index] for index in order])
    for field, numbers in columns.items():
        setattr(shuffled, field, [numbers[index] for index in order])
    values, reasons = read_joints(shuffled, PANDA)
    assert reasons == []
    assert values["joint_position"] == pytest.approx(POSITION)
    assert values["joint_velocity"] == pytest.approx(0.1 * np.arange(7))
    assert values["gripper_position"] == pytest.approx([0.04])


def test_a_missing_joint_is_named_and_the_gripper_still_read():
    message = joint_state(PANDA, POSITION)
    for field in ("name", "position", "velocity", "effort"):
        setattr(message, field, [value for i, value in enumerate(getattr(message, field)) if i != 3])
    values, reasons = read_joints(message, PANDA)
    assert set(values) == {"gripper_position"}
    assert reasons == ["joint state lacks panda_joint4"]


@pytest.mark.parametrize(
    ("field", "lost"),
    [("position", {"joint_position"}), ("velocity", {"joint_velocity"}), ("effort", {"joint_effort"})],
)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_and_the_rest_kept(field: str, lost: set[str], bad: float):
    message = joint_state(PANDA, POSITION)
    getattr(message, field)[2] = bad
    values, reasons = read_joints(message, PANDA)
    assert {"joint_position", "joint_velocity", "joint_effort", "gripper_position"} - set(values) == lost
    assert len(reasons) == 1
    assert "not finite" in reasons[0]


def test_other_shapes_of_joint_states():
    message = joint_state(PANDA, POSITION)
    message.velocity, message.effort = [], []
    assert set(read_joints(message, PANDA)[0]) == {"joint_position", "gripper_position"}
    message.position = message.position[:-1]
    values, reasons = read_joints(message, PANDA)
    assert values == {}
    assert "9 names and 8 values" in reasons[0]
    assert read_joints(JointState(name=["other"], position=[1.0]), PANDA) == ({}, [])
    twice = JointState(name=["panda_joint1"] * 2, position=[1.0, 2.0])
    assert "twice" in read_joints(twice, PANDA)[1][0]


def test_poses_are_made_unit_and_checked():
    message = PoseStamped()
    message.pose.orientation.w = 2.0
    assert read_pose(message)[1] == pytest.approx([0, 0, 0, 1])
    message.pose.orientation.w = 0.0
    with pytest.raises(InputError, match="length zero"):
        read_pose(message)
    message.pose.position.y = float("nan")
    with pytest.raises(InputError, match="not finite"):
        read_pose(message)


# -- over DDS, from a driver without any code of ours


@pytest.fixture(scope="module", autouse=True)
def domain():
    with own_domain() as domain:
        yield domain


@pytest.fixture(scope="module")
def driver(domain: int):
    node = PlainNode("plain_driver")
    yield node
    node.close()


_numbers = itertools.count()


@pytest.fixture
def robot():
    """A panda whose topics no other test has used."""
    name = f"/t{next(_numbers)}"
    ros = PANDA.ros
    update = {
        "joint_states": ros.joint_states.model_copy(update={"topic": f"{name}/joint_states"}),
        "command_topic": f"{name}/command",
        "gripper_topic": f"{name}/gripper",
        "poses": {"object": ros.poses["object"].model_copy(update={"topic": f"{name}/object"})},
        "cameras": {"front": ros.cameras["front"].model_copy(update={"topic": f"{name}/image"})},
    }
    return PANDA.model_copy(update={"ros": ros.model_copy(update=update)})


@pytest.fixture
def arm(robot):
    made = RosArm(robot)
    yield made
    made.close()


def publish_until(publisher, message, condition) -> None:
    """Publish until something has come of it: the first messages to a new subscriber may be lost."""
    end = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < end, "nothing came of what was published"
        publisher.publish(message)
        time.sleep(0.02)


def test_bad_messages_are_counted_and_leave_the_last_good_sample_to_age(driver: PlainNode, robot, arm: RosArm):
    topic = robot.ros.joint_states.topic
    publisher = driver.node.create_publisher(JointState, topic, qos_profile_sensor_data)
    publish_until(publisher, joint_state(robot, POSITION), lambda: "joint_position" in arm.observe())
    time.sleep(0.1)
    first = arm.observe()
    broken = joint_state(robot, POSITION + 1.0)
    broken.position[0] = float("nan")
    for count in range(1, 4):
        publisher.publish(broken)
        wait_until(lambda count=count: arm.refused.get(topic, 0) == count, "a refusal")
    later = arm.observe()
    assert later["joint_position"] == pytest.approx(POSITION)
    assert later.stamps_ns["joint_position"] == first.stamps_ns["joint_position"]
    assembler = Assembler(("joint_position",), {"joint_position": 0.2})
    arm.clock.sleep_until(first.stamps_ns["joint_position"] + 600_000_000)
    with pytest.raises(StaleObservation, match=r"'joint_position' is \d\.\d+ s old at the tick; at most 0\.200 s"):
        assembler.assemble(later.values, later.stamps_ns, arm.clock.now_ns())
    with pytest.raises(ArmFault, match=rf"{topic} was last received .* s ago"):
        arm.wait_until_ready(timeout_s=0.05)


def test_images_of_another_size_are_refused_and_told(driver: PlainNode, robot, arm: RosArm):
    topic = robot.ros.cameras["front"].topic
    publisher = driver.node.create_publisher(Image, topic, qos_profile_sensor_data)
    small = array_to_image(np.zeros((60, 80, 3), np.uint8), 0, "")
    publish_until(publisher, small, lambda: arm.refused.get(topic, 0) > 0)
    with pytest.raises(ArmFault, match=r"nothing usable .* image is 80x60; the robot's file says 160x120"):
        arm.wait_until_ready(("image_front",), 0.05)
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    publish_until(publisher, array_to_image(pixels, time.time_ns(), ""), lambda: "image_front" in arm.observe())
    arm.wait_until_ready(("image_front",), 5.0)
    assert np.array_equal(arm.observe()["image_front"], pixels)


def test_a_latched_old_joint_state_reads_as_old(driver: PlainNode, robot):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = driver.node.create_publisher(JointState, robot.ros.joint_states.topic, latched)
    arm = RosArm(robot)
    try:
        asked_s = time.monotonic()
        old = joint_state(robot, POSITION, stamp_ns=time.time_ns() - 60 * 10**9)
        publish_until(publisher, old, lambda: "joint_position" in arm.observe())
        age_s = (arm.clock.now_ns() - arm.observe().stamps_ns["joint_position"]) * 1e-9
        assert age_s == pytest.approx(60.0 + time.monotonic() - asked_s, abs=0.1)
        with pytest.raises(ArmFault, match=r"received 0\.\d s ago, stamped 6\d\.\d s ago \(do both machines' clocks"):
            arm.wait_until_ready(timeout_s=0.05)
        publisher.publish(joint_state(robot, POSITION))
        arm.wait_until_ready()
        publisher.publish(joint_state(robot, POSITION + 1.0, stamp_ns=time.time_ns() - 10**10))
        wait_until(lambda: arm.refused.get(robot.ros.joint_states.topic, 0) > 0, "a refusal")
        assert arm.observe()["joint_position"] == pytest.approx(POSITION)  # time does not go back
    finally:
        arm.close()


def test_waiting_in_vain_says_what_is_the_matter(domain: int, driver: PlainNode, robot, arm: RosArm):
    with pytest.raises(
        ArmFault, match=rf"nobody publishes {robot.ros.joint_states.topic} \(on ROS_DOMAIN_ID {domain}\)"
    ):
        arm.wait_until_ready(timeout_s=0.05)
    driver.node.create_publisher(String, robot.ros.poses["object"].topic, 1)
    wait_until(lambda: arm._graph.node.count_publishers(robot.ros.poses["object"].topic), "discovery")
    with pytest.raises(ArmFault, match="carries std_msgs/msg/String, expected geometry_msgs/msg/PoseStamped"):
        arm.wait_until_ready(("object_position",), 0.05)
    with pytest.raises(InputError, match="Unknown sensed key 'image_wrist'"):
        arm.wait_until_ready(("image_wrist",))
    with pytest.raises(InputError, match="Unknown camera 'wrist'"):
        RosArm(robot, cameras=("wrist",))


def test_an_arm_that_nobody_drives_cannot_be_commanded(arm: RosArm, robot):
    arm.hold()  # safe, and nothing happens
    arm.send(Command(PANDA.home))  # discovery may be under way
    time.sleep(UNHEARD_S + 0.05)
    with pytest.raises(ArmFault, match=rf"Nobody listens on {robot.ros.command_topic}"):
        arm.send(Command(PANDA.home))


def test_without_a_reset_service_a_person_is_asked(arm: RosArm):
    with pytest.raises(ArmFault, match=r"bring it to the start by hand .* or name a std_srvs/Trigger service"):
        arm.reset(Start(PANDA.home))
