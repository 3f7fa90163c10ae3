"""Every sample on a robot's topics is kept until drained, with when it was measured and when it came."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from envs_ros_support import PlainNode, joint_state, own_domain, wait_until
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from understudy.capture import streams as stream_tables
from understudy.capture.ros_streams import EPISODE_TOPIC, REQUESTED_TOPIC, RosStreams, read_event
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.ros_arm import step_trajectory
from understudy.envs.arms.ros_common import array_to_image
from understudy.errors import InputError

pytestmark = pytest.mark.ros

PANDA = load_robot("panda")
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SPEC = {"name": "joint_delta", "labels": ["a"], "units": ["rad"], "low": [-1.0], "high": [1.0]}


@pytest.fixture(scope="module", autouse=True)
def domain():
    with own_domain() as domain:
        yield domain


@pytest.fixture(scope="module")
def driver(domain: int):
    node = PlainNode("plain_driver")
    yield node
    node.close()


@pytest.fixture
def streams(driver: PlainNode):
    made = RosStreams(PANDA)
    yield made
    made.close()


def connect(driver: PlainNode, streams: RosStreams, kind, topic: str, message, key: str, qos=qos_profile_sensor_data):
    """A publisher whose messages are known to arrive; what came while finding out is drained."""
    publisher = driver.node.create_publisher(kind, topic, qos)
    end = time.monotonic() + 10.0
    while key not in streams.latest():
        assert time.monotonic() < end, f"nothing published on {topic} arrives"
        publisher.publish(message)
        time.sleep(0.02)
    time.sleep(0.1)
    streams.drain()
    return publisher


def test_every_joint_state_is_kept_in_order_with_its_stamp(driver: PlainNode, streams: RosStreams):
    publisher = connect(driver, streams, JointState, "/joint_states", joint_state(PANDA, PANDA.home), "joint_position")
    offset_ns = time.time_ns() - time.monotonic_ns()
    stamps = []
    for index in range(100):
        stamps.append(time.time_ns() - 3_000_000)  # the driver needed 3 ms
        publisher.publish(joint_state(PANDA, PANDA.home + 0.01 * index, stamp_ns=stamps[-1]))
        time.sleep(0.004)
    received = []

    def drained() -> bool:
        received.extend(streams.drain().get("joint_position", []))
        return len(received) >= 100

    wait_until(drained, "all joint states")
    assert [sample.value[0] - PANDA.home[0] for sample in received] == pytest.approx(0.01 * np.arange(100))
    assert np.array([sample.stamp_ns + offset_ns for sample in received]) == pytest.approx(np.array(stamps), abs=1e6)
    assert all(sample.receive_ns - sample.stamp_ns >= 2_500_000 for sample in received)
    assert streams.drain() == {}
    health = streams.health()["joint_position"]
    assert health.count >= 100
    assert health.lost == 0
    assert 100 < health.rate_hz < 250
    assert health.longest_gap_s > 0.003
    assert 0.0 <= health.age_s < 10.0
    assert streams.latest()["joint_position"] == pytest.approx(PANDA.home + 0.99)


def test_commands_and_requests_are_seen_whoever_sends_them(driver: PlainNode, streams: RosStreams):
    message = step_trajectory(PANDA, PANDA.home, np.full(7, 0.2))
    message.joint_names = message.joint_names[::-1]
    for point in message.points:
        point.positions, point.velocities = point.positions[::-1], point.velocities[::-1]
    commands = connect(driver, streams, JointTrajectory, PANDA.ros.command_topic, message, "command", 10)
    fingers = Float64MultiArray(data=[0.03, 0.03])
    gripper = connect(driver, streams, Float64MultiArray, str(PANDA.ros.gripper_topic), fingers, "gripper_command", 10)
    asked = Float64MultiArray(data=[0.1, -0.2])
    request = connect(driver, streams, Float64MultiArray, REQUESTED_TOPIC, asked, "requested_action", 10)
    before = time.monotonic_ns()
    for publisher, sent in ((commands, message), (gripper, fingers), (request, asked)):
        publisher.publish(sent)
    received: dict[str, list] = {}

    def drained() -> bool:
        for key, samples in streams.drain().items():
            received.setdefault(key, []).extend(samples)
        return {"command", "command_velocity", "gripper_command", "requested_action"} <= set(received)

    wait_until(drained, "the commands")
    assert received["command"][0].value == pytest.approx(PANDA.home)
    assert received["command_velocity"][0].value == pytest.approx(np.full(7, 0.2))
    assert received["gripper_command"][0].value == pytest.approx([0.06])
    assert received["requested_action"][0].value == pytest.approx([0.1, -0.2])
    for samples in received.values():  # stamped when it was published
        assert before - 2_000_000 < samples[0].stamp_ns <= samples[0].receive_ns < time.monotonic_ns()


def test_what_cannot_be_used_is_counted_with_the_reason(driver: PlainNode, streams: RosStreams):
    bad = {
        "/joint_states": (JointState, joint_state(PANDA, np.full(7, np.nan))),
        PANDA.ros.command_topic: (JointTrajectory, JointTrajectory(joint_names=["wheel"])),
        str(PANDA.ros.gripper_topic): (Float64MultiArray, Float64MultiArray(data=[0.1])),
        REQUESTED_TOPIC: (Float64MultiArray, Float64MultiArray(data=[float("inf")])),
        EPISODE_TOPIC: (String, String(data="running")),
        PANDA.ros.cameras["front"].topic: (Image, array_to_image(np.zeros((2, 2, 3), np.uint8), 0, "")),
    }
    qualities = {EPISODE_TOPIC: LATCHED}
    publishers = {
        topic: driver.node.create_publisher(kind, topic, qualities.get(topic, 10)) for topic, (kind, _) in bad.items()
    }
    end = time.monotonic() + 10.0
    while set(streams.refused) < set(bad):
        assert time.monotonic() < end, f"only {set(streams.refused)} were refused"
        for topic, (_, message) in bad.items():
            publishers[topic].publish(message)
        time.sleep(0.05)
    reasons = {topic: reason for topic, (_, reason) in streams.refused.items()}
    assert "not finite" in reasons["/joint_states"]
    assert "['wheel']" in reasons[PANDA.ros.command_topic]
    assert "1 values; expected 2" in reasons[str(PANDA.ros.gripper_topic)]
    assert "not finite" in reasons[REQUESTED_TOPIC]
    assert "not JSON" in reasons[EPISODE_TOPIC]
    assert "2x2" in reasons[PANDA.ros.cameras["front"].topic]
    assert not {"joint_position", "command", "gripper_command", "requested_action", "image_front"} & set(
        streams.latest().values
    )
    for publisher in publishers.values():
        driver.node.destroy_publisher(publisher)


def test_episodes_announced_before_we_came_are_old(driver: PlainNode):
    publisher = driver.node.create_publisher(String, EPISODE_TOPIC, LATCHED)
    announced = {"state": "running", "episode": 0, "success": None, "seed": 4, "action_spec": SPEC, "task": "lift"}
    publisher.publish(String(data=json.dumps(announced)))
    time.sleep(0.5)
    streams = RosStreams(PANDA)
    try:
        began = time.monotonic_ns()
        heard = []
        wait_until(lambda: heard.extend(streams.episode_events()) or heard, "the latched announcement")
        assert heard[0].state == "running"
        assert heard[0].details == {key: value for key, value in announced.items() if key != "state"}
        assert began - heard[0].stamp_ns > 300_000_000
        assert heard[0].receive_ns - heard[0].stamp_ns > 300_000_000
        publisher.publish(String(data=json.dumps({**announced, "state": "ended", "success": True})))
        wait_until(lambda: heard.extend(streams.episode_events()) or len(heard) > 1, "the end")
        assert (heard[1].state, heard[1].details["success"]) == ("ended", True)
        assert heard[1].receive_ns - heard[1].stamp_ns < 300_000_000
        assert streams.episode_events() == []
    finally:
        streams.close()
        streams.close()


def test_a_full_buffer_loses_the_oldest_and_says_so(driver: PlainNode, domain: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream_tables, "BUFFERED", 10)
    streams = RosStreams(PANDA)
    try:
        publisher = connect(
            driver, streams, JointState, "/joint_states", joint_state(PANDA, PANDA.home), "joint_position"
        )
        before = streams.health()["joint_position"].count
        for index in range(30):
            publisher.publish(joint_state(PANDA, PANDA.home + 0.01 * index))
            time.sleep(0.005)
        wait_until(lambda: streams.health()["joint_position"].count == before + 30, "all joint states")
        kept = streams.drain()["joint_position"]
        assert [sample.value[0] for sample in kept] == pytest.approx(PANDA.home[0] + 0.01 * np.arange(20, 30))
        assert streams.health()["joint_position"].lost >= 20
    finally:
        streams.close()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("[1]", "neither running nor ended"),
        ('{"state": "paused"}', "neither running nor ended"),
        ('{"state": "ended", "success": "yes"}', "of the wrong type"),
        ('{"state": "running", "seed": 1.5}', "of the wrong type"),
        ('{"state": "running", "action_spec": {"name": "joint_delta"}}', "Action spec cannot be read"),
    ],
)
def test_announcements_that_cannot_be_used_are_refused(text: str, why: str):
    with pytest.raises(InputError, match=why):
        read_event(text, 0, 0)
