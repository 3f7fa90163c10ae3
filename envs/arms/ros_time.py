"""What time it is for an arm on the graph: the machine's, or that of the topic /clock (a simulator, a bag).

`ArmTime` joins the arm's clock with the stamps of messages. Safety and timeouts of services stay on the machine's
monotonic clock, whatever /clock says.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock as ClockMessage

from understudy.envs.arms.clock import Clock, MonotonicClock
from understudy.envs.arms.ros_common import Graph, Receipt, time_ns

CLOCK_TOPIC = "/clock"
FORWARD_S = 0.2
"""Between two messages of /clock time goes on by itself, for this long at most; then it stands still."""
LOOK_S = 0.001
SILENT_S = 5.0


class ArmTime(Protocol):
    """The arm's clock, and messages' stamps on it."""

    @property
    def clock(self) -> Clock:
        """What the arm's loops wait on."""

    def now(self) -> Receipt:
        """The present; `Receipt.stamp_ns` turns a header's stamp into the arm's time."""

    def published(self, receipt: Receipt, source_ns: int) -> int:
        """When a message without a header was published, on the arm's clock; `source_ns` is DDS's wall stamp."""

    def remarks(self) -> list[str]:
        """What has happened to time since the last call."""


class WallTime:
    """Stamps are wall time, and the arm's clock is the machine's monotonic one."""

    def __init__(self) -> None:
        self.clock: Clock = MonotonicClock()

    def now(self) -> Receipt:
        """See `ArmTime`."""
        return Receipt.now()

    def published(self, receipt: Receipt, source_ns: int) -> int:
        """See `ArmTime`."""
        return receipt.stamp_ns(source_ns)

    def remarks(self) -> list[str]:
        """See `ArmTime`."""
        return []


class SimClock:
    """The time of /clock; never goes back: when /clock does, it goes on from where it was."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told_ns: int | None = None
        self._heard_ns = 0
        self._offset_ns = 0
        self._latest_ns = 0
        self.resets = 0
        self.set_back_s = 0.0

    def hear(self, sim_ns: int) -> None:
        """/clock says that it is `sim_ns`."""
        with self._lock:
            if self._told_ns is not None and sim_ns < self._told_ns:
                self.resets += 1
                self.set_back_s = (self._told_ns - sim_ns) * 1e-9
                self._offset_ns = self._latest_ns - sim_ns
            self._told_ns, self._heard_ns = sim_ns, time.monotonic_ns()
            self._latest_ns = max(self._latest_ns, sim_ns + self._offset_ns)

    @property
    def heard(self) -> bool:
        """Whether /clock ever said anything."""
        return self._told_ns is not None

    def on_this(self, sim_ns: int) -> int:
        """A simulated stamp on this clock."""
        return sim_ns + self._offset_ns

    def now_ns(self) -> int:
        """See `Clock`. Goes on smoothly between two messages, and stands still while /clock does."""
        with self._lock:
            if self._told_ns is None:
                return 0
            on_ns = min(time.monotonic_ns() - self._heard_ns, round(FORWARD_S * 1e9))
            self._latest_ns = max(self._latest_ns, self._told_ns + self._offset_ns + on_ns)
            return self._latest_ns

    def sleep_until(self, stamp_ns: int) -> None:
        """See `Clock`; returns early when /clock has been silent for some seconds, so that nobody waits for ever."""
        while (left_ns := stamp_ns - self.now_ns()) > 0:
            if time.monotonic_ns() - self._heard_ns > SILENT_S * 1e9:
                return
            time.sleep(min(LOOK_S, left_ns * 1e-9))


class SimTime:
    """Stamps and the arm's clock are those of /clock."""

    def __init__(self, graph: Graph) -> None:
        self.clock: SimClock = SimClock()
        self._told = 0
        reliability = ReliabilityPolicy.BEST_EFFORT  # as rclpy itself subscribes to it
        qos = QoSProfile(depth=1, reliability=reliability, durability=DurabilityPolicy.VOLATILE)
        graph.node.create_subscription(
            ClockMessage, CLOCK_TOPIC, lambda message: self.clock.hear(time_ns(message.clock)), qos
        )

    def now(self) -> Receipt:
        """See `ArmTime`; the wall of the receipt is /clock, less what this clock has been put on by resets."""
        now_ns = self.clock.now_ns()
        return Receipt(now_ns, now_ns - self.clock.on_this(0))

    def published(self, receipt: Receipt, source_ns: int) -> int:
        """See `ArmTime`; the publisher's wall clock says nothing of simulated time, so that it counts as now."""
        return receipt.monotonic_ns

    def remarks(self) -> list[str]:
        """See `ArmTime`."""
        if self.clock.resets == self._told:
            return []
        self._told = self.clock.resets
        return [
            f"{CLOCK_TOPIC} was set back by {self.clock.set_back_s:.3g} s: "
            "the simulation was reset, or the bag begun anew."
        ]
