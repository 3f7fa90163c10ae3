"""What lies in our bags is what ROS 2's own libraries read, and what they write we read."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import yaml
from rclpy.serialization import deserialize_message, serialize_message
from rosbag2_sample import write_rosbag2_sample
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from understudy.datasets.convert.bag_file import jazzy
from understudy.datasets.convert.rosbag2 import Rosbag2Import, read
from understudy.datasets.store import Dataset

pytestmark = pytest.mark.ros
MS = 1_000_000


def test_ros_reads_every_message_we_write(tmp_path):
    bag = sorted(write_rosbag2_sample(tmp_path).iterdir())[0]
    source = Dataset.open(tmp_path / "source")
    episode = source.read(source.ids[0])
    heard = {}
    with Reader(bag) as reader:
        for link, _, raw in reader.messages():
            package, _, name = link.msgtype.split("/")
            kind = getattr(importlib.import_module(f"{package}.msg"), name)
            heard.setdefault(link.topic, []).append(deserialize_message(bytes(raw), kind))
    assert np.array_equal([m.position for m in heard["/joint_states"]][:-1], episode.observations["joint_position"])
    assert np.array_equal([m.data for m in heard["/understudy/sent_action"]], episode.sent)
    first = heard["/camera/front/image_raw"][0]
    assert (first.height, first.width, first.encoding, first.step) == (12, 16, "rgb8", 48)
    assert np.array_equal(np.asarray(first.data).reshape(12, 16, 3), episode.observations["image_front"][0])
    goal = heard["/goal_point"][0].point
    assert np.allclose([goal.x, goal.y, goal.z], episode.observations["goal_position"][0])


def test_what_ros_serialized_is_read(tmp_path):
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        states = writer.add_connection("/joint_states", "sensor_msgs/msg/JointState", typestore=jazzy())
        commands = writer.add_connection(
            "/jtc/joint_trajectory", "trajectory_msgs/msg/JointTrajectory", typestore=jazzy()
        )
        for number in range(60):
            stamp = 10**9 + number * 20 * MS
            state = JointState(name=["b", "gripper", "a"], position=[2.0, 9.0, number * 0.02])
            state.header.stamp.sec, state.header.stamp.nanosec = divmod(stamp, 10**9)
            writer.write(states, stamp + MS, serialize_message(state))
            point = JointTrajectoryPoint(positions=[3.0, number * 0.02 + 1])
            command = JointTrajectory(joint_names=["b", "a"], points=[point])
            writer.write(commands, stamp, serialize_message(command))
    mapping = tmp_path / "mapping.yaml"
    joints = ["a", "b"]
    told = {
        "rate_hz": 10,
        "observations": {"joint_position": {"topic": "/joint_states", "joints": joints}},
        "action": {"name": "joint_position", "requested": {"topic": "/jtc/joint_trajectory", "joints": joints}},
    }
    mapping.write_text(yaml.safe_dump(told))
    foreign = read(tmp_path / "bag", Rosbag2Import(mapping=mapping))
    assert any("/jtc/joint_trajectory goes by the recorder's stamps" in note for note in foreign.notes)
    (episode,) = foreign.episodes
    assert np.allclose(episode.observations["joint_position"][:, 0], np.arange(len(episode)) * 0.1)
    assert np.allclose(episode.requested, episode.observations["joint_position"] + [[1.0, 1.0]])
    assert np.allclose(episode.measured[:-1], episode.observations["joint_position"][1:])
    assert episode.info.action_spec.labels == ("a", "b")
