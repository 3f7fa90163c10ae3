"""What everything on the ROS 2 graph shares: joining and leaving it, QoS, stamps, and images as arrays.

Knows messages, not robots; `ros_sensors.py` reads a robot's topics.
"""

from __future__ import annotations

import array
import atexit
import os
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from understudy.errors import InputError

PROFILES = Path(__file__).with_name("fastdds.xml")
PROFILES_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""Where Fast DDS looks: version 2 (ROS 2 Jazzy) takes the first, version 3 (Kilted) the second."""

COMMANDS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
"""Of a commander's publishers: reaches reliable and best-effort subscribers (ros2_control's are best effort)."""
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""The last message is also given to whoever comes later."""

READ_TOGETHER_NS = 100_000
LAST_DOMAIN = 232
"""Above it, DDS has no UDP ports left."""

_CHANNELS = {"rgb8": (3, (0, 1, 2)), "bgr8": (3, (2, 1, 0)), "rgba8": (4, (0, 1, 2)), "bgra8": (4, (2, 1, 0))}
"""Encoding -> (bytes a pixel, where red, green and blue are)."""


def sensors(depth: int = 10) -> QoSProfile:
    """QoS for subscribing to sensors: best effort, which every publisher can serve."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT, durability=DurabilityPolicy.VOLATILE)


def use_shipped_profiles() -> None:
    """Give Fast DDS room for images, unless the user has a profile of his own; must come before the first node."""
    if not any(name in os.environ for name in PROFILES_VARIABLES):
        os.environ.update(dict.fromkeys(PROFILES_VARIABLES, str(PROFILES)))


def require_domain() -> None:
    """Refuse a `ROS_DOMAIN_ID` that the middleware would crash on.

    Raises:
        InputError: it is not a whole number from 0 to 232.
    """
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    if not (domain.isascii() and domain.isdigit() and int(domain) <= LAST_DOMAIN):
        raise InputError(f"ROS_DOMAIN_ID must be a whole number from 0 to {LAST_DOMAIN}, got {domain!r}; set it again.")


class Graph:
    """A node on the ROS 2 graph with a context of its own, spun in a thread of its own or by the owner.

    The context has no signal handlers: with rclpy's, nothing could be published any more once a signal has come.
    """

    def __init__(self, name: str, *, spin: bool = True) -> None:
        """Args:
        name: of the node.
        spin: run callbacks in a thread; otherwise the owner calls `executor.spin_once`. Call `start` when all
            subscriptions are made.
        """
        require_domain()
        use_shipped_profiles()
        self._context = Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node(name, context=self._context)
        self.executor = SingleThreadedExecutor(context=self._context)
        self.executor.add_node(self.node)
        self._stopped = threading.Event()
        self.failure = ""
        """Why no callback is run any more, as a clause; empty while all is well."""
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True) if spin else None
        atexit.register(self.close)  # an interpreter that ends under a spinning thread aborts

    def start(self) -> None:
        """Begin to run callbacks in the thread."""
        if self._thread is not None:
            self._thread.start()

    def _spin(self) -> None:
        while not self._stopped.is_set():
            try:
                self.executor.spin_once(timeout_sec=0.1)
            except (ExternalShutdownException, ShutdownException):
                return
            except Exception as error:  # a callback's: told, because silence would look like that of a driver
                self.failure = f"hearing the graph has broken off ({error!r}); start anew"
                self.node.get_logger().fatal("".join(traceback.format_exception(error)))
                return

    def close(self) -> None:
        """Leave the graph; safe to call twice."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout=2.0)
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)
        atexit.unregister(self.close)

    def why_silent(self, topic: str, message_type: str) -> str:
        """Why nothing may have come on a sensor topic, as a clause: nobody publishes, another type, or QoS.

        Args:
            topic: as in the robot's file.
            message_type: e.g. `sensor_msgs/msg/JointState`.
        """
        if self.failure:
            return self.failure
        publishers = self.node.get_publishers_info_by_topic(topic)
        if not publishers:
            domain = os.environ.get("ROS_DOMAIN_ID", "0")
            return f"nobody publishes {topic} (on ROS_DOMAIN_ID {domain})"
        types = sorted({info.topic_type for info in publishers})
        if message_type not in types:
            return f"{topic} carries {', '.join(types)}, expected {message_type}"
        problems = [_mismatch(info.qos_profile, sensors()) for info in publishers]
        if all(problems):
            return f"the QoS of {topic} cannot match ({problems[0]})"
        return f"{topic} has {len(publishers)} publisher(s), and nothing usable has come from them"


def _mismatch(publisher: QoSProfile, subscription: QoSProfile) -> str:
    """Why a publisher cannot serve a subscription; empty if it can."""
    verdict, reason = qos_check_compatible(publisher, subscription)
    return str(reason) or "incompatible" if verdict == QoSCompatibility.ERROR else ""


@dataclass(frozen=True)
class Receipt:
    """When a message was received, on both clocks."""

    monotonic_ns: int
    wall_ns: int

    @classmethod
    def now(cls) -> Receipt:
        """The present; both clocks are read together, again if something came between."""
        while True:
            before_ns, wall_ns, after_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
            if after_ns - before_ns < READ_TOGETHER_NS:
                return cls(after_ns, wall_ns)

    def stamp_ns(self, wall_stamp_ns: int) -> int:
        """A message's wall stamp on the monotonic clock: the time of receipt, less how old the message was by then.

        An unset stamp (0), and one from the future (another machine's clock), count as just now. A message that was
        latched long ago reads as old.
        """
        age_ns = self.wall_ns - wall_stamp_ns
        if wall_stamp_ns == 0 or age_ns < 0:
            return self.monotonic_ns
        return self.monotonic_ns - age_ns


def time_ns(stamp: Time) -> int:
    """A message's stamp in ns; 0 when unset."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def to_time(stamp_ns: int) -> Time:
    """Nanoseconds as a message's stamp."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def image_to_array(message: Image) -> NDArray[np.uint8]:
    """The pixels (height, width, 3), red first, honouring the message's row step and encoding.

    Raises:
        InputError: an encoding that is not 8-bit colour, or data shorter than the message says.
    """
    if message.encoding not in _CHANNELS:
        raise InputError(f"image encoding is {message.encoding!r}; expected one of {', '.join(_CHANNELS)}")
    channels, order = _CHANNELS[message.encoding]
    height, width, step = message.height, message.width, message.step
    data = np.frombuffer(message.data, np.uint8)
    if step < width * channels or len(data) < height * step:
        raise InputError(
            f"image has {len(data)} bytes in rows of {step}; {height} rows of {width} {message.encoding} do not fit"
        )
    pixels = data[: height * step].reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    if message.encoding != "rgb8":
        return pixels[:, :, list(order)]
    # rows without padding are used as they lie, where nobody else can write to them
    return pixels if not pixels.flags.writeable and step == width * channels else pixels.copy()


def array_to_image(pixels: NDArray[np.uint8], stamp_ns: int, frame: str) -> Image:
    """An rgb8 message of pixels (height, width, 3); `array.array`, since assigning an ndarray takes 0.2 s."""
    height, width, _ = pixels.shape
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.header.stamp = to_time(stamp_ns)
    message.header.frame_id = frame
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(pixels, np.uint8).tobytes())
    message.data = data
    return message


def finite_array(values: Sequence[float] | NDArray[Any], size: int, what: str) -> NDArray[np.float64]:
    """`values` as a new array (size,).

    Raises:
        InputError: another size, or a value that is not finite; `what` names them in the sentence.
    """
    numbers = np.array(values, np.float64)
    if numbers.shape != (size,):
        raise InputError(f"{what} has {numbers.size} values; expected {size}")
    if not np.all(np.isfinite(numbers)):
        raise InputError(f"{what} has a value that is not finite: {numbers.tolist()}")
    return numbers
