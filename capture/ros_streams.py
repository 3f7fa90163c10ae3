"""`RosStreams`: everything that passes on a robot's topics, at its own rate, for whoever records it.

Watches and publishes nothing. What is sensed has the keys of observations; what is commanded, by whoever commands,
has `command`, `command_velocity` and `gripper_command`; a deployed policy's requests have `requested_action`.
Episodes are announced on a topic of their own.

Every sample has the stamp of its measurement (or, for messages without one, of its publishing) on the monotonic
clock, and waits in a bounded buffer until it is drained.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from understudy.capture.streams import Came, Expected, StreamHealth, StreamTable
from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.arm import Observation
from understudy.envs.arms.clock import Clock
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.ros_arm import DEPTH_OF_ALL
from understudy.envs.arms.ros_common import Graph, finite_array
from understudy.envs.arms.ros_sensors import Sample, Sensors
from understudy.envs.arms.ros_time import ArmTime, SimTime, WallTime
from understudy.errors import InputError

Array = NDArray[Any]

COMMAND = "command"
"""Key of the joint targets (J,) that were commanded, rad."""
COMMAND_VELOCITY = "command_velocity"
"""Key of the joint velocities (J,) that came with them, rad/s."""
GRIPPER_COMMAND = "gripper_command"
"""Key of the gripper's target opening (1,), m."""
REQUESTED = "requested_action"
"""Key of the actions (A,) that a policy asked for, in the units of the announced action spec."""

REQUESTED_TOPIC = "/understudy/requested_action"
EPISODE_TOPIC = "/understudy/episode"
ANNOUNCEMENTS = QoSProfile(
    depth=20, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
"""For whoever announces episodes: latched, so that a watcher that comes late knows."""


@dataclass(frozen=True)
class EpisodeEvent:
    """An episode was announced to run, or to have ended."""

    state: Literal["running", "ended"]
    details: Mapping[str, Any]
    """What was said of it: episode, success, seed, task, operator, action_spec (as `ActionSpec.as_dict`)."""
    stamp_ns: int
    """When it was announced, on the monotonic clock; one that was latched before we came is old."""
    receive_ns: int
    """When we heard it, on the monotonic clock."""


class RosStreams:
    """Watches a robot's topics. Any thread may ask; close it when done."""

    def __init__(
        self,
        robot: RobotDescription,
        *,
        cameras: tuple[str, ...] | None = None,
        node_name: str = "understudy_streams",
        unpack: tuple[str, ...] | None = None,
        sim_time: bool = False,
        keep: Callable[[str], bool] = lambda key: True,
    ) -> None:
        """Join the graph and begin to listen; returns at once.

        Args:
            robot: names the topics.
            cameras: those to watch; None for all in the robot's file.
            node_name: on the graph.
            unpack: of compressed cameras, those whose pictures are needed; of the others only the bytes are kept.
            sim_time: stamps, and the clock, are those of the topic /clock.
            keep: whether a key's samples wait to be drained.

        Raises:
            InputError: a camera the robot's file does not have.
        """
        self._robot = robot
        self._lock = threading.Lock()
        self.table = StreamTable(keep)
        """Every sample waits here to be drained."""
        self._events: deque[EpisodeEvent] = deque(maxlen=1000)
        self._graph = Graph(node_name)
        self._time: ArmTime = SimTime(self._graph) if sim_time else WallTime()
        self.clock: Clock = self._time.clock
        self._sensors = Sensors(
            self._graph,
            robot,
            self.table.take,
            self._time,
            cameras=cameras,
            unpack=unpack,
            depth=DEPTH_OF_ALL,
            match=True,
        )
        self._listen()
        self._graph.start()
        self._sensors.subscriptions.start()

    def _listen(self) -> None:
        add, ros, depth = self._sensors.subscriptions.add, self._robot.ros, DEPTH_OF_ALL
        if ros.command == "joint_trajectory":
            add(JointTrajectory, ros.command_topic, self._hear_trajectory, depth)
        else:
            add(Float64MultiArray, ros.command_topic, self._hear_position, depth)
        if self._robot.gripper and ros.gripper_topic:
            add(Float64MultiArray, ros.gripper_topic, self._hear_gripper, depth)
        add(Float64MultiArray, REQUESTED_TOPIC, self._hear_request, depth)
        self._graph.node.create_subscription(String, EPISODE_TOPIC, self._hear_episode, ANNOUNCEMENTS)

    # what one may ask

    def drain(self) -> dict[str, list[Sample]]:
        """Every sample since the last drain by key, oldest first; they are forgotten here."""
        return self.table.drain()

    def latest(self) -> Observation:
        """The newest sample of every key that ever came."""
        return self.table.latest()

    def came(self, key: str) -> Came | None:
        """When the newest sample of a key came; None where none ever did."""
        return self.table.came(key)

    def episode_events(self) -> list[EpisodeEvent]:
        """What was announced since the last call, oldest first."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
        return events

    def health(self) -> Mapping[str, StreamHealth]:
        """How every stream that ever came is doing now, by key."""
        return self.table.health(self.clock.now_ns())

    def why_missing(self, key: str) -> str:
        """Why no (new) sample of a sensed key may be there, as a clause.

        Raises:
            InputError: no topic of the robot's file gives this key.
        """
        return self._sensors.why_missing(key)

    def published(self, key: str) -> bool:
        """Whether anybody publishes the topic that a sensed key comes from, as far as discovery has come."""
        return self._sensors.published(key)

    def lost(self, key: str) -> int:
        """Messages with a sample of a sensed key that were published and did not arrive."""
        return self._sensors.lost(key)

    def expected(self, key: str) -> Expected:
        """What is asked of a sensed key's stream."""
        return Expected(key, self._sensors.max_age_s(key), self._sensors.expected_hz(key))

    def remarks(self) -> list[str]:
        """Sentences on what has happened since the last call."""
        return self._sensors.remarks()

    @property
    def refused(self) -> dict[str, tuple[int, str]]:
        """Topic -> (messages that could not be used, why the last one could not)."""
        return {topic: (found.count, found.last) for topic, found in self._sensors.refuser.refused.items()}

    def close(self) -> None:
        """Leave the graph; what was not drained stays to be drained. Safe to call twice."""
        self._sensors.subscriptions.close()
        self._graph.close()

    # callbacks, in the graph's thread

    def _keep_message(self, key: str, value: Array, info: Mapping[str, int]) -> None:
        receipt = self._time.now()
        stamp_ns = self._time.published(receipt, info["source_timestamp"])
        self.table.take(Sample(key, stamp_ns, receipt.monotonic_ns, value))

    def _hear_trajectory(self, message: JointTrajectory, info: Mapping[str, int]) -> None:
        topic, names = self._robot.ros.command_topic, list(message.joint_names)
        if sorted(names) != sorted(self._robot.joint_names) or not message.points:
            self._sensors.refuser.refuse(topic, f"trajectory of joints {names} with {len(message.points)} points")
            return
        order = [names.index(name) for name in self._robot.joint_names]
        point = message.points[0]
        try:
            position = finite_array(point.positions, len(order), "trajectory point")[order]
            velocity = finite_array(point.velocities, len(order), "velocities")[order] if point.velocities else None
        except InputError as error:
            self._sensors.refuser.refuse(topic, str(error))
            return
        self._keep_message(COMMAND, position, info)
        if velocity is not None:
            self._keep_message(COMMAND_VELOCITY, velocity, info)

    def _hear_position(self, message: Float64MultiArray, info: Mapping[str, int]) -> None:
        self._hear_numbers(self._robot.ros.command_topic, COMMAND, message, len(self._robot.joints), info)

    def _hear_request(self, message: Float64MultiArray, info: Mapping[str, int]) -> None:
        self._hear_numbers(REQUESTED_TOPIC, REQUESTED, message, len(message.data), info)

    def _hear_numbers(
        self, topic: str, key: str, message: Float64MultiArray, size: int, info: Mapping[str, int]
    ) -> None:
        try:
            value = finite_array(message.data, size, key)
        except InputError as error:
            self._sensors.refuser.refuse(topic, str(error))
            return
        self._keep_message(key, value, info)

    def _hear_gripper(self, message: Float64MultiArray, info: Mapping[str, int]) -> None:
        gripper = self._robot.require_gripper()
        try:
            fingers = finite_array(message.data, len(gripper.joints), "gripper command")
        except InputError as error:
            self._sensors.refuser.refuse(str(self._robot.ros.gripper_topic), str(error))
            return
        self._keep_message(GRIPPER_COMMAND, np.array([self._robot.gripper_width(fingers)]), info)

    def _hear_episode(self, message: String, info: Mapping[str, int]) -> None:
        receipt = self._time.now()
        stamp_ns = self._time.published(receipt, info["source_timestamp"])
        try:
            event = read_event(message.data, stamp_ns, receipt.monotonic_ns)
        except InputError as error:
            self._sensors.refuser.refuse(EPISODE_TOPIC, str(error))
            return
        with self._lock:
            self._events.append(event)


def read_event(text: str, stamp_ns: int, receive_ns: int) -> EpisodeEvent:
    """An announcement as it is on the episode topic.

    Raises:
        InputError: not a JSON object of that form.
    """
    try:
        details = json.loads(text)
    except ValueError as error:
        raise InputError(f"episode announcement is not JSON ({error}): {text[:200]!r}") from error
    state = details.pop("state", None) if isinstance(details, dict) else None
    if state not in ("running", "ended"):
        raise InputError(f"episode announcement says neither running nor ended: {text[:200]!r}")
    if type(details.get("success")) not in (bool, type(None)) or type(details.get("seed")) not in (int, type(None)):
        raise InputError(f"episode announcement's success or seed is of the wrong type: {text[:200]!r}")
    if details.get("action_spec") is not None:
        ActionSpec.from_dict(details["action_spec"])
    return EpisodeEvent(state, details, stamp_ns, receive_ns)
