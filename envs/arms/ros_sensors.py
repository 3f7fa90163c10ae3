"""Everything a robot's file says can be sensed over ROS 2, as samples: joints, gripper, poses, openings, cameras.

Subscribes, checks and converts; keeping the samples is the owner's (`RosArm` the latest, `RosStreams` all of them).
A message that cannot be used is refused as a whole or in part, counted, and said to the log.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from sensor_msgs.msg import Image, JointState

from understudy.envs.arms.robot import CameraDescription, RobotDescription, TopicDescription
from understudy.envs.arms.ros_common import Graph, Receipt, finite_array, image_to_array, sensors, time_ns
from understudy.errors import InputError, unknown_name

Array = NDArray[Any]

LOG_EVERY_S = 5.0
SAME_STAMP_NS = 1_000_000
"""Equal stamps may differ by this much once they are on the monotonic clock."""


@dataclass(frozen=True)
class Sample:
    """One value of one key."""

    key: str
    stamp_ns: int
    """When it was measured, on the monotonic clock."""
    receive_ns: int
    """When it came, on the monotonic clock."""
    value: Array


@dataclass
class Refusals:
    """How often messages of a topic could not be used, and why the last one could not."""

    count: int = 0
    last: str = ""
    said_s: float = -math.inf
    """When the log was told last, monotonic s."""


class Refuser:
    """Counts refused messages by topic and says the reason to the log, now and then."""

    def __init__(self, graph: Graph) -> None:
        self.refused: dict[str, Refusals] = {}
        self._logger = graph.node.get_logger()

    def refuse(self, topic: str, reason: str) -> None:
        """Count a message of `topic` that was not used."""
        refusals = self.refused.setdefault(topic, Refusals())
        refusals.count += 1
        refusals.last = reason
        now_s = time.monotonic()
        # not rclpy's own throttling: that goes by the line of code, and one topic would silence the others
        if now_s - refusals.said_s >= LOG_EVERY_S:
            refusals.said_s = now_s
            self._logger.warning(f"{topic}: {reason}; not used ({refusals.count} so far)")

    def last_reason(self, topic: str) -> str:
        """Why the last refused message of a topic was; empty if none was."""
        return self.refused[topic].last if topic in self.refused else ""


class Sensors:
    """Subscribes to a robot's topics and hands each sample to `take`, in the thread that spins the graph."""

    def __init__(
        self,
        graph: Graph,
        robot: RobotDescription,
        take: Callable[[Sample], None],
        *,
        cameras: tuple[str, ...] | None = None,
        depth: int = 10,
    ) -> None:
        """Args:
        graph: where to subscribe; not yet started.
        robot: names the topics.
        take: called with every sample; stamps of a key never go back.
        cameras: those to subscribe to; None for all in the robot's file.
        depth: messages DDS keeps for a callback that comes late.

        Raises:
            InputError: a camera the robot's file does not have.
        """
        self._graph = graph
        self._robot = robot
        self._take = take
        self._stamps: dict[str, int] = {}
        self.refuser = Refuser(graph)
        self._sources: dict[str, tuple[TopicDescription, str]] = {}
        create, ros = graph.node.create_subscription, robot.ros
        create(JointState, ros.joint_states.topic, self._joints, sensors(depth))
        for key in joint_keys(robot):
            self._sources[key] = (ros.joint_states, "sensor_msgs/msg/JointState")
        for name, source in ros.poses.items():
            create(PoseStamped, source.topic, partial(self._pose, name, source), sensors(depth))
            for key in (f"{name}_position", f"{name}_quaternion"):
                self._sources[key] = (source, "geometry_msgs/msg/PoseStamped")
        for name, source in ros.openings.items():
            create(JointState, source.topic, partial(self._opening, name, source), sensors(depth))
            self._sources[f"{name}_opening"] = (source, "sensor_msgs/msg/JointState")
        for name in ros.cameras if cameras is None else cameras:
            if name not in ros.cameras:
                raise unknown_name("camera", name, ros.cameras)
            camera = ros.cameras[name]
            create(Image, camera.topic, partial(self._image, name, camera), sensors(min(depth, 5)))
            self._sources[f"image_{name}"] = (camera, "sensor_msgs/msg/Image")

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that may come."""
        return tuple(self._sources)

    def topic(self, key: str) -> str:
        """The topic a key comes from.

        Raises:
            InputError: no topic of the robot's file gives this key.
        """
        return self._source(key)[0].topic

    def max_age_s(self, key: str) -> float:
        """How old a key's sample may be, s."""
        return self._source(key)[0].max_age_s

    def why_missing(self, key: str) -> str:
        """Why no fresh sample of `key` may be there, as a clause."""
        source, message_type = self._source(key)
        refused = self.refuser.last_reason(source.topic)
        return self._graph.why_silent(source.topic, message_type) + (f" (last refused: {refused})" if refused else "")

    def _source(self, key: str) -> tuple[TopicDescription, str]:
        if key not in self._sources:
            raise unknown_name("sensed key", key, self._sources)
        return self._sources[key]

    # callbacks

    def _joints(self, message: JointState) -> None:
        receipt, topic = Receipt.now(), self._robot.ros.joint_states.topic
        values, reasons = read_joints(message, self._robot)
        for reason in reasons:
            self.refuser.refuse(topic, reason)
        stamp_ns = receipt.stamp_ns(time_ns(message.header.stamp))
        for key, value in values.items():
            self._store(topic, Sample(key, stamp_ns, receipt.monotonic_ns, value))

    def _pose(self, name: str, source: TopicDescription, message: PoseStamped) -> None:
        receipt = Receipt.now()
        try:
            position, quaternion = read_pose(message)
        except InputError as error:
            self.refuser.refuse(source.topic, str(error))
            return
        stamp_ns = receipt.stamp_ns(time_ns(message.header.stamp))
        self._store(source.topic, Sample(f"{name}_position", stamp_ns, receipt.monotonic_ns, position))
        self._store(source.topic, Sample(f"{name}_quaternion", stamp_ns, receipt.monotonic_ns, quaternion))

    def _opening(self, name: str, source: TopicDescription, message: JointState) -> None:
        receipt = Receipt.now()
        try:
            opening = finite_array(message.position, 1, "opening")
        except InputError as error:
            self.refuser.refuse(source.topic, str(error))
            return
        stamp_ns = receipt.stamp_ns(time_ns(message.header.stamp))
        self._store(source.topic, Sample(f"{name}_opening", stamp_ns, receipt.monotonic_ns, opening))

    def _image(self, name: str, camera: CameraDescription, message: Image) -> None:
        receipt = Receipt.now()
        if (message.width, message.height) != (camera.width, camera.height):
            self.refuser.refuse(
                camera.topic,
                f"image is {message.width}x{message.height}; "
                f"the robot's file says {camera.width}x{camera.height} (width x height)",
            )
            return
        try:
            pixels = image_to_array(message)
        except InputError as error:
            self.refuser.refuse(camera.topic, str(error))
            return
        stamp_ns = receipt.stamp_ns(time_ns(message.header.stamp))
        self._store(camera.topic, Sample(f"image_{name}", stamp_ns, receipt.monotonic_ns, pixels))

    def _store(self, topic: str, sample: Sample) -> None:
        before_ns = self._stamps.get(sample.key, sample.stamp_ns)
        if sample.stamp_ns < before_ns - SAME_STAMP_NS:
            self.refuser.refuse(topic, f"a {sample.key} came that is older than the one before")
            return
        if sample.stamp_ns < before_ns:
            sample = dataclasses.replace(sample, stamp_ns=before_ns)
        self._stamps[sample.key] = sample.stamp_ns
        self._take(sample)


def joint_keys(robot: RobotDescription) -> tuple[str, ...]:
    """What joint states give."""
    keys = ("joint_position", "joint_velocity", "joint_effort")
    return (*keys, "gripper_position") if robot.gripper else keys


def read_joints(message: JointState, robot: RobotDescription) -> tuple[dict[str, Array], list[str]]:
    """The values of a joint state by key, in the robot's joint order, and why others were refused.

    Joints of somebody else are passed over, and so is a message without any of ours: several drivers may share the
    topic. Velocities and efforts may be left out, as ROS allows.
    """
    index = {name: place for place, name in enumerate(message.name)}
    if len(index) != len(message.name):
        return {}, [f"joint state names a joint twice: {list(message.name)}"]
    values: dict[str, Array] = {}
    reasons: list[str] = []
    fields = {"joint_position": message.position, "joint_velocity": message.velocity, "joint_effort": message.effort}
    for key, numbers in fields.items():
        optional = key != "joint_position"
        if not (optional and len(numbers) == 0):
            _pick(key, robot.joint_names, index, numbers, values, reasons)
    if robot.gripper is not None:
        fingers: dict[str, Array] = {}
        _pick("finger positions", tuple(robot.gripper.joints), index, message.position, fingers, reasons)
        for positions in fingers.values():
            values["gripper_position"] = np.array([robot.gripper_width(positions)])
    return values, list(dict.fromkeys(reasons))


def _pick(
    key: str,
    names: tuple[str, ...],
    index: dict[str, int],
    numbers: Any,
    values: dict[str, Array],
    reasons: list[str],
) -> None:
    """Put the numbers of `names` into `values[key]`, or say in `reasons` why not."""
    missing = [name for name in names if name not in index]
    if len(missing) == len(names):
        return
    if missing:
        reasons.append(f"joint state lacks {', '.join(missing)}")
        return
    if len(numbers) != len(index):
        reasons.append(f"joint state has {len(index)} names and {len(numbers)} values of {key}")
        return
    try:
        values[key] = finite_array([numbers[index[name]] for name in names], len(names), key)
    except InputError as error:
        reasons.append(str(error))


def read_pose(message: PoseStamped) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Position (3,) in m and unit quaternion (4,) xyzw of a pose.

    Raises:
        InputError: not finite, or a quaternion of length zero.
    """
    place, turn = message.pose.position, message.pose.orientation
    position = finite_array([place.x, place.y, place.z], 3, "pose position")
    quaternion = finite_array([turn.x, turn.y, turn.z, turn.w], 4, "pose quaternion")
    length = float(np.linalg.norm(quaternion))
    if length < 1e-6:
        raise InputError("pose quaternion has length zero")
    return position, quaternion / length
