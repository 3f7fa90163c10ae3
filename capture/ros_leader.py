"""The ROS 2 side of `--device leader`: joint states of another arm, by name, the latest of them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from sensor_msgs.msg import JointState

from understudy.capture.devices.leader_calibration import LeaderCalibration
from understudy.capture.devices.leader_states import LeaderSample
from understudy.capture.ros_joy import wait_for
from understudy.envs.arms.robot import require_ros_name
from understudy.envs.arms.ros_common import Graph, Receipt, sensors, time_ns
from understudy.errors import InputError

TOPIC = "/leader/joint_states"
READY_S = 3.0
"""How long the first message may take."""
MOST_UNREAD = 2000
"""Messages that are kept for who reads them, the newest: those of 2 s from the quickest drivers."""


class RosLeader:
    """A `LeaderSource` of a topic that carries all joints of the leader in one message."""

    def __init__(
        self, topic: str = TOPIC, ready_s: float = READY_S, whose: str = "leader", beside: RosLeader | None = None
    ) -> None:
        """Subscribe, and wait for the first message.

        Args:
            topic: of `sensor_msgs/JointState`.
            ready_s: how long the first message may take, s.
            whose: joints these are, for messages.
            beside: another one whose place on the graph is shared; it knows already who publishes.

        Raises:
            InputError: no such name of a topic, or nothing came within `ready_s`; says why.
        """
        require_ros_name(topic, "--topic")
        self._topic = topic
        self._lock = threading.Lock()
        self._sample: LeaderSample | None = None
        self._unread: deque[LeaderSample] = deque(maxlen=MOST_UNREAD)
        self._graph: Graph = Graph("understudy_leader") if beside is None else beside._graph
        self._graph.node.create_subscription(JointState, topic, self._hear, sensors())
        if beside is None:
            self._graph.start()
        if wait_for(self.latest, ready_s) is None:
            why = self.why_silent()
            if beside is None:
                self.close()
            raise InputError(f"No joint states of the {whose} came within {ready_s:g} s: {why}. Start its driver.")

    def latest(self) -> LeaderSample | None:
        """The newest; None before the first. Never waits."""
        with self._lock:
            return self._sample

    def heard(self) -> Sequence[LeaderSample]:
        """See `LeaderSource`."""
        with self._lock:
            unread = tuple(self._unread)
            self._unread.clear()
        return unread

    def require(self, calibration: LeaderCalibration) -> None:
        """Refuse a calibration for other joints than the ones that come.

        Raises:
            InputError: the joint states lack some of them; lists what they have.
        """
        sample = self.latest()
        present = () if sample is None else tuple(sample.positions)
        if absent := [name for name in calibration.leader_joints if name not in present]:
            raise InputError(
                f"The leader's joint states on {self._topic} lack {', '.join(map(repr, absent))}; they have "
                f"{', '.join(present)}. Pair and calibrate them with `understudy calibrate-leader`, and give the file "
                "as --calibration."
            )

    def why_silent(self) -> str:
        """See `LeaderSource`."""
        return self._graph.why_silent(self._topic, "sensor_msgs/msg/JointState")

    def close(self) -> None:
        """See `LeaderSource`."""
        self._graph.close()

    def _hear(self, message: JointState) -> None:
        positions = dict(zip(message.name, map(float, message.position), strict=False))
        with self._lock:
            self._sample = LeaderSample(Receipt.now().monotonic_ns, positions, time_ns(message.header.stamp))
            self._unread.append(self._sample)
