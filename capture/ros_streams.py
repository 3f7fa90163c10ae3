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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from understudy.datasets.schema import ActionSpec, is_image
from understudy.envs.arms.arm import Observation
from understudy.envs.arms.clock import Clock, MonotonicClock
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.ros_common import Graph, Receipt, finite_array, sensors
from understudy.envs.arms.ros_sensors import Sample, Sensors
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
BUFFERED = 20_000
"""Samples of a key that wait to be drained: 40 s at 500 Hz."""
BUFFERED_IMAGES = 90
RATE_WINDOW = 100
"""The rate of a stream is told over its last intervals, this many."""
DEPTH = 100
"""Messages that DDS keeps while callbacks are late: 0.2 s at 500 Hz."""

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


@dataclass(frozen=True)
class StreamHealth:
    """How a stream is doing."""

    count: int
    rate_hz: float
    """Over the latest intervals; 0 before two samples have come."""
    longest_gap_s: float
    """Between the stamps of two samples in a row."""
    age_s: float
    """Of the latest sample, now."""
    lost: int
    """Samples that were pushed out of a full buffer before they were drained."""


class _Stream:
    """The samples of one key that were not drained yet, and what is known of all."""

    def __init__(self, key: str) -> None:
        self.waiting: deque[Sample] = deque(maxlen=BUFFERED_IMAGES if is_image(key) else BUFFERED)
        self.latest: Sample | None = None
        self.count = 0
        self.lost = 0
        self.longest_gap_ns = 0
        self._recent: deque[int] = deque(maxlen=RATE_WINDOW + 1)

    def add(self, sample: Sample) -> None:
        if self.latest is not None:
            self.longest_gap_ns = max(self.longest_gap_ns, sample.stamp_ns - self.latest.stamp_ns)
        self.lost += len(self.waiting) == self.waiting.maxlen
        self.waiting.append(sample)
        self._recent.append(sample.stamp_ns)
        self.latest = sample
        self.count += 1

    def health(self, now_ns: int) -> StreamHealth:
        assert self.latest is not None  # a stream is made with its first sample
        span_ns = self._recent[-1] - self._recent[0]
        return StreamHealth(
            count=self.count,
            rate_hz=(len(self._recent) - 1) / (span_ns * 1e-9) if span_ns > 0 else 0.0,
            longest_gap_s=self.longest_gap_ns * 1e-9,
            age_s=max(0, now_ns - self.latest.stamp_ns) * 1e-9,
            lost=self.lost,
        )


class RosStreams:
    """Watches a robot's topics. Any thread may ask; close it when done."""

    def __init__(
        self, robot: RobotDescription, *, cameras: tuple[str, ...] | None = None, node_name: str = "understudy_streams"
    ) -> None:
        """Join the graph and begin to listen; returns at once.

        Args:
            robot: names the topics.
            cameras: those to watch; None for all in the robot's file.
            node_name: on the graph.

        Raises:
            InputError: a camera the robot's file does not have.
        """
        self.clock: Clock = MonotonicClock()
        self._robot = robot
        self._lock = threading.Lock()
        self._streams: dict[str, _Stream] = {}
        self._events: deque[EpisodeEvent] = deque(maxlen=1000)
        self._graph = Graph(node_name)
        self._sensors = Sensors(self._graph, robot, self._keep, cameras=cameras, depth=DEPTH)
        self._listen()
        self._graph.start()

    def _listen(self) -> None:
        create, ros, qos = self._graph.node.create_subscription, self._robot.ros, sensors(DEPTH)
        if ros.command == "joint_trajectory":
            create(JointTrajectory, ros.command_topic, self._hear_trajectory, qos)
        else:
            create(Float64MultiArray, ros.command_topic, self._hear_position, qos)
        if self._robot.gripper and ros.gripper_topic:
            create(Float64MultiArray, ros.gripper_topic, self._hear_gripper, qos)
        create(Float64MultiArray, REQUESTED_TOPIC, self._hear_request, qos)
        create(String, EPISODE_TOPIC, self._hear_episode, ANNOUNCEMENTS)

    # what one may ask

    def drain(self) -> dict[str, list[Sample]]:
        """Every sample since the last drain by key, oldest first; they are forgotten here."""
        with self._lock:
            drained = {key: list(stream.waiting) for key, stream in self._streams.items() if stream.waiting}
            for stream in self._streams.values():
                stream.waiting.clear()
        return drained

    def latest(self) -> Observation:
        """The newest sample of every key that ever came."""
        with self._lock:
            samples = [stream.latest for stream in self._streams.values() if stream.latest is not None]
        return Observation(
            {sample.key: sample.value.copy() for sample in samples},
            {sample.key: sample.stamp_ns for sample in samples},
        )

    def episode_events(self) -> list[EpisodeEvent]:
        """What was announced since the last call, oldest first."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
        return events

    def health(self) -> Mapping[str, StreamHealth]:
        """How every stream that ever came is doing now, by key."""
        now_ns = self.clock.now_ns()
        with self._lock:
            return {key: stream.health(now_ns) for key, stream in self._streams.items()}

    def why_missing(self, key: str) -> str:
        """Why no sample of a sensed key may be there, as a clause.

        Raises:
            InputError: no topic of the robot's file gives this key.
        """
        return self._sensors.why_missing(key)

    @property
    def refused(self) -> dict[str, tuple[int, str]]:
        """Topic -> (messages that could not be used, why the last one could not)."""
        return {topic: (found.count, found.last) for topic, found in self._sensors.refuser.refused.items()}

    def close(self) -> None:
        """Leave the graph; what was not drained stays to be drained. Safe to call twice."""
        self._graph.close()

    # callbacks, in the graph's thread

    def _keep(self, sample: Sample) -> None:
        with self._lock:
            self._streams.setdefault(sample.key, _Stream(sample.key)).add(sample)

    def _keep_message(self, key: str, value: Array, info: Mapping[str, int]) -> None:
        receipt = Receipt.now()
        stamp_ns = receipt.stamp_ns(info["source_timestamp"])
        self._keep(Sample(key, stamp_ns, receipt.monotonic_ns, value))

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
        receipt = Receipt.now()
        try:
            event = read_event(message.data, receipt.stamp_ns(info["source_timestamp"]), receipt.monotonic_ns)
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
