"""The ROS 2 side of `--device joy`: Joy messages from a topic, as they come."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from sensor_msgs.msg import Joy

from understudy.capture.devices.joy import JoySample
from understudy.envs.arms.robot import require_ros_name
from understudy.envs.arms.ros_common import Graph, Receipt, sensors
from understudy.errors import InputError

TOPIC = "/joy"
READY_S = 3.0
"""How long the first message may take."""
MOST_WAITING = 1000

Found = TypeVar("Found")


class RosJoy:
    """A `JoySource` of a topic."""

    def __init__(self, topic: str = TOPIC, ready_s: float = READY_S) -> None:
        """Subscribe, and wait for the first message.

        Raises:
            InputError: no such name of a topic, or nothing came within `ready_s`; says why.
        """
        require_ros_name(topic, "--topic")
        self._topic = topic
        self._lock = threading.Lock()
        self._samples: deque[JoySample] = deque(maxlen=MOST_WAITING)
        self._graph = Graph("understudy_joy")
        self._graph.node.create_subscription(Joy, topic, self._hear, sensors())
        self._graph.start()
        if not wait_for(lambda: self._samples or None, ready_s):
            why = self.why_silent()
            self.close()
            raise InputError(f"No Joy message came within {ready_s:g} s: {why}. Start one: ros2 run joy joy_node.")

    def drain(self) -> list[JoySample]:
        """See `JoySource`."""
        with self._lock:
            samples = list(self._samples)
            self._samples.clear()
        return samples

    def why_silent(self) -> str:
        """See `JoySource`."""
        return self._graph.why_silent(self._topic, "sensor_msgs/msg/Joy")

    def close(self) -> None:
        """See `JoySource`."""
        self._graph.close()

    def _hear(self, message: Joy) -> None:
        sample = JoySample(Receipt.now().monotonic_ns, tuple(message.axes), tuple(message.buttons))
        with self._lock:
            self._samples.append(sample)


def wait_for(look: Callable[[], Found | None], limit_s: float) -> Found | None:
    """What `look` finds, looked for until the limit; None when that has passed."""
    until = time.monotonic() + limit_s
    while (found := look()) is None and time.monotonic() < until:
        time.sleep(0.01)
    return found
