"""ROS 2 messages made from arrays, through `rosbags`, with the definitions of ROS 2 Jazzy.

Owns how each is filled in. Stamps are ns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.convert.bag_file import jazzy

Array = NDArray[Any]
_DEPTH = 10


class Messages:
    """Makes messages and their bytes."""

    JOINTS = "sensor_msgs/msg/JointState"
    IMAGE = "sensor_msgs/msg/Image"
    POSE = "geometry_msgs/msg/PoseStamped"
    POINT = "geometry_msgs/msg/PointStamped"
    TURN = "geometry_msgs/msg/QuaternionStamped"
    NUMBERS = "std_msgs/msg/Float64MultiArray"
    NUMBER = "std_msgs/msg/Float64"
    FLAG = "std_msgs/msg/Bool"
    TEXT = "std_msgs/msg/String"

    def __init__(self, frame: str, joint_names: tuple[str, ...]) -> None:
        """Name the frame of poses and the arm's joints.

        Raises:
            ModuleNotFoundError: rosbags is not installed.
        """
        self._store = jazzy()
        self._types: Any = self._store.types
        self._frame = frame
        self._joint_names = list(joint_names)

    def connect(self, writer: Any, topic: str, kind: str, *, latched: bool) -> Any:
        """A topic of an open bag, with the quality of service that its publisher would offer."""
        from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

        forever = QosTime(9223372036, 854775807)
        offered = Qos(
            QosHistory.KEEP_LAST,
            1 if latched else _DEPTH,
            QosReliability.RELIABLE,
            QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
            forever,
            forever,
            QosLiveliness.AUTOMATIC,
            forever,
            False,
        )
        return writer.add_connection(topic, kind, typestore=self._store, offered_qos_profiles=[offered])

    def packed(self, message: Any, kind: str) -> Any:
        """A message as CDR."""
        return self._store.serialize_cdr(message, kind)

    def _make(self, kind: str, *values: Any) -> Any:
        return self._types[kind](*values)

    def _header(self, stamp_ns: int, frame: str) -> Any:
        seconds, nanoseconds = divmod(int(stamp_ns), 1_000_000_000)
        return self._make("std_msgs/msg/Header", self._make("builtin_interfaces/msg/Time", seconds, nanoseconds), frame)

    def joints(
        self, stamp_ns: int, position: Array | None = None, velocity: Array | None = None, effort: Array | None = None
    ) -> Any:
        """The arm's joints, those of the three that are known."""
        parts = [np.zeros(0) if each is None else np.asarray(each, np.float64) for each in (position, velocity, effort)]
        names = list(self._joint_names)
        width = max(map(len, parts))
        if len(names) != width:
            names = [f"joint_{number + 1}" for number in range(width)]
        return self._make(self.JOINTS, self._header(stamp_ns, ""), names, *parts)

    def gripper(self, stamp_ns: int, width_m: float) -> Any:
        """The gripper's opening as a joint of its own."""
        return self._make(
            self.JOINTS,
            self._header(stamp_ns, ""),
            ["gripper_opening"],
            np.array([width_m], np.float64),
            np.zeros(0),
            np.zeros(0),
        )

    def image(self, stamp_ns: int, camera: str, frame: NDArray[np.uint8]) -> Any:
        """A frame (height, width, 3) as rgb8."""
        height, width = frame.shape[:2]
        pixels = np.ascontiguousarray(frame).reshape(-1)
        return self._make(self.IMAGE, self._header(stamp_ns, camera), height, width, "rgb8", 0, 3 * width, pixels)

    def _point(self, position: Array) -> Any:
        return self._make("geometry_msgs/msg/Point", *(float(number) for number in position))

    def _turn(self, quaternion: Array) -> Any:
        return self._make("geometry_msgs/msg/Quaternion", *(float(number) for number in quaternion))

    def pose(self, stamp_ns: int, position: Array, quaternion: Array) -> Any:
        """A pose: position in m, quaternion xyzw."""
        pose = self._make("geometry_msgs/msg/Pose", self._point(position), self._turn(quaternion))
        return self._make(self.POSE, self._header(stamp_ns, self._frame), pose)

    def point(self, stamp_ns: int, position: Array) -> Any:
        """A position in m."""
        return self._make(self.POINT, self._header(stamp_ns, self._frame), self._point(position))

    def turn(self, stamp_ns: int, quaternion: Array) -> Any:
        """A quaternion xyzw."""
        return self._make(self.TURN, self._header(stamp_ns, self._frame), self._turn(quaternion))

    def numbers(self, values: Array, label: str) -> Any:
        """Numbers with a word on what they are."""
        flat = np.asarray(values, np.float64).reshape(-1)
        dimension = self._make("std_msgs/msg/MultiArrayDimension", label, len(flat), len(flat))
        return self._make(self.NUMBERS, self._make("std_msgs/msg/MultiArrayLayout", [dimension], 0), flat)

    def number(self, value: float) -> Any:
        """One number."""
        return self._make(self.NUMBER, value)

    def flag(self, value: bool) -> Any:
        """Yes or no."""
        return self._make(self.FLAG, value)

    def text(self, value: str) -> Any:
        """A text."""
        return self._make(self.TEXT, value)
