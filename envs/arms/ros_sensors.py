"""Everything a robot's file says can be sensed over ROS 2, as samples: joints, gripper, poses, openings, cameras.

Subscribes, checks and converts; keeping the samples is the owner's (`RosArm` the latest, `RosStreams` all of them).
A message that cannot be used is refused as a whole or in part, counted, and said to the log. Pictures are taken from
the bytes that came, without a copy where their encoding allows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rosbags.serde import SerdeError
from sensor_msgs.msg import CompressedImage, Image, JointState

from understudy.datasets.camera_streams import picture_size
from understudy.datasets.convert.bag_fields import frame_of
from understudy.datasets.convert.bag_file import jazzy
from understudy.envs.arms.joint_bytes import JointBytes, JointStateBytes
from understudy.envs.arms.robot import CameraDescription, RobotDescription, TopicDescription
from understudy.envs.arms.ros_common import Graph, Receipt, finite_array, image_to_array, time_ns
from understudy.envs.arms.ros_subscriptions import Subscriptions
from understudy.envs.arms.ros_time import ArmTime
from understudy.envs.arms.stamp_order import StampOrder
from understudy.errors import InputError, unknown_name

Array = NDArray[Any]

LOG_EVERY_S = 5.0
IMAGES_OF_ALL = 30
"""Images that DDS keeps for whoever wants every one: a second of a camera."""
OLD_S = 3600.0
"""A stamp this old is of another time than ours."""
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
Info = Mapping[str, Any]


@dataclass(frozen=True)
class Sample:
    """One value of one key."""

    key: str
    stamp_ns: int
    """When it was measured, on the arm's clock."""
    receive_ns: int
    """When it came, on the arm's clock."""
    value: Array
    packed: Array | None = None
    """(B,) the bytes of the JPEG or PNG that a picture came as; None for what came otherwise."""


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
        arm_time: ArmTime,
        *,
        cameras: tuple[str, ...] | None = None,
        unpack: tuple[str, ...] | None = None,
        depth: int = 10,
        match: bool = False,
    ) -> None:
        """Args:
        graph: where to subscribe; not yet started.
        robot: names the topics.
        take: called with every sample; stamps of a key never go back, but when its clock was set back.
        arm_time: turns stamps into the arm's time.
        cameras: those to subscribe to; None for all in the robot's file.
        unpack: of compressed cameras, those whose pictures are needed (None for all); of the others only the bytes are.
        depth: messages DDS keeps for a callback that comes late.
        match: subscribe reliably where publishers offer it; for those who want every sample, not only the latest.

        Raises:
            InputError: a camera the robot's file does not have.
        """
        self._graph = graph
        self._robot = robot
        self._take = take
        self._time = arm_time
        self._joint_reader, self._joint_state_bytes = JointReader(robot), JointStateBytes()
        self._orders: dict[str, StampOrder] = {}
        self._remarks: list[str] = []
        self._told_refusals: dict[str, int] = {}
        self._strange: set[str] = set()
        self.refuser = Refuser(graph)
        self.subscriptions = Subscriptions(graph, match=match)
        self._sources: dict[str, tuple[TopicDescription, str]] = {}
        add, ros = self.subscriptions.add, robot.ros
        hear_joints = self._joint_bytes if match else self._joints
        add(JointState, ros.joint_states.topic, hear_joints, depth, raw=match)
        for key in joint_keys(robot):
            self._sources[key] = (ros.joint_states, "sensor_msgs/msg/JointState")
        for name, source in ros.poses.items():
            add(PoseStamped, source.topic, partial(self._pose, name, source), depth)
            for key in (f"{name}_position", f"{name}_quaternion"):
                self._sources[key] = (source, "geometry_msgs/msg/PoseStamped")
        for name, source in ros.openings.items():
            add(JointState, source.topic, partial(self._opening, name, source), depth)
            self._sources[f"{name}_opening"] = (source, "sensor_msgs/msg/JointState")
        wanted = tuple(ros.cameras) if cameras is None else cameras
        for name in wanted:
            if name not in ros.cameras:
                raise unknown_name("camera", name, ros.cameras)
            camera = ros.cameras[name]
            kind, hear = (CompressedImage, self._packed) if camera.is_compressed else (Image, self._image)
            add(kind, camera.topic, partial(hear, name, camera), min(depth, IMAGES_OF_ALL if match else 5), raw=True)
            self._sources[f"image_{name}"] = (camera, COMPRESSED if camera.is_compressed else IMAGE)
        self._messages = jazzy() if wanted else None
        self._unpacked = wanted if unpack is None else unpack

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

    def expected_hz(self, key: str) -> float | None:
        """How often the robot's file says that a key comes; None where it does not."""
        return self._source(key)[0].rate_hz

    def lost(self, key: str) -> int:
        """Messages with a sample of a key that were published and did not arrive."""
        return self.subscriptions.lost(self.topic(key))

    def published(self, key: str) -> bool:
        """Whether anybody publishes the topic that a key comes from, as far as discovery has come.

        Raises:
            InputError: no topic of the robot's file gives this key.
        """
        return bool(self._graph.node.count_publishers(self.topic(key)) > 0)

    def why_missing(self, key: str) -> str:
        """Why no fresh sample of `key` may be there, as a clause."""
        source, message_type = self._source(key)
        if failure := self.subscriptions.failure or self._graph.failure:
            return failure
        refused = self.refuser.last_reason(source.topic)
        return self._graph.why_silent(source.topic, message_type) + (f" (last refused: {refused})" if refused else "")

    def remarks(self) -> list[str]:
        """Sentences on what has happened since the last call: clocks set back, messages refused or lost."""
        said, self._remarks = self._remarks, []
        for topic, refusals in list(self.refuser.refused.items()):
            if (more := refusals.count - self._told_refusals.get(topic, 0)) > 0:
                said.append(f"{more} messages of {topic} could not be used: {refusals.last}.")
                self._told_refusals[topic] = refusals.count
        return [*said, *self.subscriptions.remarks(), *self._time.remarks()]

    def _source(self, key: str) -> tuple[TopicDescription, str]:
        if key not in self._sources:
            raise unknown_name("sensed key", key, self._sources)
        return self._sources[key]

    # callbacks

    def _joints(self, message: JointState, info: Info) -> None:
        receipt = self._time.now()
        self._take_joints(receipt, time_ns(message.header.stamp), message)

    def _joint_bytes(self, data: bytes, info: Info) -> None:
        receipt = self._time.now()
        try:
            message = self._joint_state_bytes.read(data)
        except InputError as error:
            self.refuser.refuse(self._robot.ros.joint_states.topic, str(error))
            return
        self._take_joints(receipt, message.stamp_ns, message)

    def _take_joints(self, receipt: Receipt, wall_ns: int, message: Any) -> None:
        values, reasons = self._joint_reader.read(message)
        for reason in reasons:
            self.refuser.refuse(self._robot.ros.joint_states.topic, reason)
        self._store(self._robot.ros.joint_states, receipt, wall_ns, values)

    def _pose(self, name: str, source: TopicDescription, message: PoseStamped, info: Info) -> None:
        receipt = self._time.now()
        try:
            position, quaternion = read_pose(message)
        except InputError as error:
            self.refuser.refuse(source.topic, str(error))
            return
        values = {f"{name}_position": position, f"{name}_quaternion": quaternion}
        self._store(source, receipt, time_ns(message.header.stamp), values)

    def _opening(self, name: str, source: TopicDescription, message: JointState, info: Info) -> None:
        receipt = self._time.now()
        try:
            opening = finite_array(message.position, 1, "opening")
        except InputError as error:
            self.refuser.refuse(source.topic, str(error))
            return
        self._store(source, receipt, time_ns(message.header.stamp), {f"{name}_opening": opening})

    def _image(self, name: str, camera: CameraDescription, data: bytes, info: Info) -> None:
        receipt = self._time.now()
        message = self._unpack(camera, data, IMAGE)
        if message is None or not self._fits(camera, message.width, message.height):
            return
        try:
            pixels = image_to_array(message)
        except InputError as error:
            self.refuser.refuse(camera.topic, str(error))
            return
        self._store(camera, receipt, time_ns(message.header.stamp), {f"image_{name}": pixels})

    def _packed(self, name: str, camera: CameraDescription, data: bytes, info: Info) -> None:
        receipt = self._time.now()
        message = self._unpack(camera, data, COMPRESSED)
        if message is None:
            return
        try:
            if name in self._unpacked:
                value = frame_of(message, COMPRESSED)
                height, width = value.shape[:2]
            else:
                value, (width, height) = message.data, picture_size(message.data)
        except InputError as error:
            self.refuser.refuse(camera.topic, str(error))
            return
        if self._fits(camera, width, height):
            self._store(camera, receipt, time_ns(message.header.stamp), {f"image_{name}": value}, message.data)

    def _unpack(self, camera: CameraDescription, data: bytes, kind: str) -> Any:
        """The message in `data`; None for one that cannot be read. rclpy's own reading takes several times as long."""
        assert self._messages is not None
        try:
            return self._messages.deserialize_cdr(data, kind)
        except (SerdeError, ValueError, LookupError, AssertionError) as error:
            self.refuser.refuse(camera.topic, f"a message that is no {kind} ({error})")
            return None

    def _fits(self, camera: CameraDescription, width: int, height: int) -> bool:
        if (width, height) == (camera.width, camera.height):
            return True
        told = f"the robot's file says {camera.width}x{camera.height} (width x height)"
        self.refuser.refuse(camera.topic, f"image is {width}x{height}; {told}")
        return False

    def _store(
        self, source: TopicDescription, receipt: Receipt, wall_ns: int, values: Mapping[str, Array], packed: Any = None
    ) -> None:
        """Hand on what one message brought, unless it is older than what came before."""
        if not values:
            return
        topic = source.topic
        stamp_ns = receipt.stamp_ns(wall_ns)
        self._look_at_age(topic, (receipt.monotonic_ns - stamp_ns) * 1e-9)
        for key, value in values.items():
            order = self._orders.setdefault(key, StampOrder())
            verdict = order.judge(stamp_ns)
            if verdict == "late":
                self.refuser.refuse(topic, f"a {key} came that is older than the one before")
                continue
            if verdict == "set back" and key == next(iter(values)):
                self._remarks.append(
                    f"The clock behind the stamps of {topic} was set back by {order.set_back_s:.3g} s; "
                    "check the time of the machine that publishes it."
                )
            assert order.latest_ns is not None
            self._take(Sample(key, order.latest_ns, receipt.monotonic_ns, value, packed))

    def _look_at_age(self, topic: str, age_s: float) -> None:
        """Say once of a topic that its stamps are of another time."""
        if age_s > OLD_S and topic not in self._strange:
            self._strange.add(topic)
            self._remarks.append(
                f"The stamps of {topic} are {age_s:.3g} s old: do both machines' clocks agree, and is it a simulator's "
                "or a bag's time (then use --sim-time)?"
            )


def joint_keys(robot: RobotDescription) -> tuple[str, ...]:
    """What joint states give."""
    keys = ("joint_position", "joint_velocity", "joint_effort")
    return (*keys, "gripper_position") if robot.gripper else keys


def read_joints(message: JointState, robot: RobotDescription) -> tuple[dict[str, Array], list[str]]:
    """See `JointReader.read`."""
    return JointReader(robot).read(message)


@dataclass(frozen=True)
class _Places:
    """Where a robot's joints stand among the names of a message."""

    count: int
    joints: tuple[int, ...]
    """Empty where none of them is there."""
    fingers: tuple[int, ...]
    reasons: tuple[str, ...]
    """Why some are not used."""


class JointReader:
    """Reads a robot's joint states. Names are looked up once, for a driver says them in the same order every time."""

    def __init__(self, robot: RobotDescription) -> None:
        self._joints = robot.joint_names
        self._fingers = () if robot.gripper is None else tuple(robot.gripper.joints)
        self._width = robot.gripper_width
        self._names: list[str] = []
        self._places = _Places(0, (), (), ())

    def read(self, message: JointState | JointBytes) -> tuple[dict[str, Array], list[str]]:
        """The values of a joint state by key, in the robot's joint order, and why others were refused.

        Joints of somebody else are passed over, and so is a message without any of ours: several drivers may share the
        topic. Velocities and efforts may be left out, as ROS allows.
        """
        if message.name is not self._names and message.name != self._names:
            self._names, self._places = message.name, self._look_up(message.name)
        places, values = self._places, {}
        reasons = dict.fromkeys(places.reasons)
        for key, numbers, wanted in (
            ("joint_position", message.position, places.joints),
            ("joint_velocity", message.velocity, places.joints),
            ("joint_effort", message.effort, places.joints),
            ("finger positions", message.position, places.fingers),
        ):
            optional = key in ("joint_velocity", "joint_effort")
            if not wanted or (optional and len(numbers) == 0):
                continue
            if len(numbers) != places.count:
                reasons[f"joint state has {places.count} names and {len(numbers)} values of {key}"] = None
                continue
            picked = [numbers[place] for place in wanted]
            if all(map(math.isfinite, picked)):  # of so few, several times faster than numpy
                values[key] = np.array(picked)
            else:
                reasons[f"{key} has a value that is not finite: {picked}"] = None
        if "finger positions" in values:
            values["gripper_position"] = np.array([self._width(values.pop("finger positions"))])
        return values, list(reasons)

    def _look_up(self, names: list[str]) -> _Places:
        index = {name: place for place, name in enumerate(names)}
        if len(index) != len(names):
            return _Places(len(names), (), (), (f"joint state names a joint twice: {names}",))
        found, reasons = [], []
        for wanted in (self._joints, self._fingers):
            missing = [name for name in wanted if name not in index]
            if missing and len(missing) < len(wanted):
                reasons.append(f"joint state lacks {', '.join(missing)}")
            found.append(() if missing else tuple(index[name] for name in wanted))
        return _Places(len(names), found[0], found[1], tuple(reasons))


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
