"""Subscriptions that suit what is offered: reliable where every publisher is, counted losses, and what happened said.

A best-effort subscription reaches every publisher but gives up samples that a reliable one would get; which of the two
suits is known only once the publishers have been found, and may change when they restart.

Whoever wants every message reads them in a thread that looks every 2 ms and takes all that wait: at 500 a second the
usual executor, which builds its set of what to wait for anew for each message, takes several times the processor time
(measured), and rclpy's events executor does not say which message it is.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from understudy.envs.arms.ros_common import Graph

LOOK_PERIOD_S = 0.5
"""How often the graph is asked what is offered."""
READ_PERIOD_S = 0.002
SWITCH_S = 0.001
"""A thread that computes lets others go on after this long; Python's own 5 ms would delay a control tick by as much."""
CLOSE_S = 2.0
Hear = Callable[[Any, Mapping[str, Any]], None]


class _ReadElsewhere(CallbackGroup):
    """Keeps subscriptions from the executor of their node."""

    def can_execute(self, entity: Any) -> bool:
        """No executor ever takes what is in here."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """See `can_execute`."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """Nothing was begun."""


@dataclass
class _Topic:
    kind: Any
    topic: str
    hear: Hear
    depth: int
    raw: bool
    reliable: bool = False
    subscription: Any = None
    publishers: int = 0
    found: bool = False
    """Whether it ever had a publisher."""
    sequence: int | None = None
    source_ns: int = 0
    lost: int = 0
    told_lost: int = 0

    def take(self, message: Any, info: Mapping[str, Any]) -> None:
        """A message came: count those that came before it and did not arrive, and hand it on."""
        number, source_ns = info.get("publication_sequence_number"), int(info["source_timestamp"])
        # Numbers are each publisher's own: of several on one topic they say nothing, and a restarted one begins anew.
        if number is not None and self.publishers <= 1:
            if self.sequence is not None and number > self.sequence + 1 and source_ns >= self.source_ns:
                self.lost += number - self.sequence - 1
            self.sequence = number
        else:
            self.sequence = None
        self.source_ns = source_ns
        self.hear(message, info)


class Subscriptions:
    """Subscribes to topics of a graph that has not been started yet."""

    def __init__(self, graph: Graph, *, match: bool) -> None:
        """With `match`, every message is wanted: subscribe to suit what publishers offer, and read in a thread of its
        own (`start`, `close`); else best effort, heard in the graph's.
        """
        self._graph = graph
        self._topics: dict[str, _Topic] = {}
        self._remarks: list[str] = []
        self._group = _ReadElsewhere() if match else None
        self._closed = threading.Event()
        self.failure = ""
        """Why nothing is read any more, as a clause; empty while all is well."""
        self._thread = threading.Thread(target=self._read, name="ros-reader", daemon=True) if match else None

    def start(self) -> None:
        """Begin to read, once all topics have been added."""
        if self._thread is not None:
            sys.setswitchinterval(min(SWITCH_S, sys.getswitchinterval()))
            atexit.register(self.close)  # an interpreter that ends under a reading thread may abort
            self._thread.start()

    def close(self) -> None:
        """Stop reading; before the graph is left. Safe to call twice."""
        self._closed.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(CLOSE_S)
        atexit.unregister(self.close)

    def add(self, kind: Any, topic: str, hear: Hear, depth: int, *, raw: bool = False) -> None:
        """Subscribe to `topic`; `hear(message, info)` is called in the thread that reads.

        Args:
            kind: the message's class.
            topic: its name.
            hear: called with each message (its bytes as CDR with `raw`) and what rclpy knows of it; by one thread.
            depth: messages that DDS keeps for a callback that comes late.
            raw: leave messages as they came.
        """
        entry = _Topic(kind, topic, hear, depth, raw)
        self._topics[topic] = entry
        self._subscribe(entry)

    def lost(self, topic: str) -> int:
        """Messages of a topic that its publisher numbered and that never came here."""
        return self._topics[topic].lost if topic in self._topics else 0

    def remarks(self) -> list[str]:
        """Sentences on what has happened since the last call: publishers gone or come back, messages lost."""
        said, self._remarks = self._remarks, []
        for entry in list(self._topics.values()):
            if entry.lost > entry.told_lost:
                said.append(
                    f"{entry.lost - entry.told_lost} messages of {entry.topic} were published and did not arrive "
                    f"({entry.lost} so far): the network or this machine is too slow for it."
                )
                entry.told_lost = entry.lost
        return said

    def _subscribe(self, entry: _Topic) -> None:
        reliability = ReliabilityPolicy.RELIABLE if entry.reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=entry.depth, reliability=reliability, durability=DurabilityPolicy.VOLATILE)
        before, entry.sequence = entry.subscription, None
        create, hear = self._graph.node.create_subscription, entry.take
        entry.subscription = create(entry.kind, entry.topic, hear, qos, raw=entry.raw, callback_group=self._group)
        if before is not None:
            self._graph.node.destroy_subscription(before)

    def _read(self) -> None:
        """The thread. What breaks it off is told: streams that end in silence would look like a driver that does."""
        try:
            self._read_on()
        except Exception as error:
            if self._closed.is_set():  # the graph was left under it
                return
            self.failure = f"reading the topics has broken off ({error!r}); start the session anew"
            self._remarks.append(f"Nothing is read any more: {self.failure}.")
            self._graph.node.get_logger().fatal("".join(traceback.format_exception(error)))

    def _read_on(self) -> None:
        """Take what waits, and now and then look at what is offered."""
        look_s = 0.0
        while not self._closed.is_set():
            time.sleep(READ_PERIOD_S)  # cheaper than waiting for the event, five hundred times a second
            for entry in self._topics.values():
                self._take_all(entry)
            if (now_s := time.monotonic()) >= look_s:
                look_s = now_s + LOOK_PERIOD_S
                self._look()

    def _take_all(self, entry: _Topic) -> None:
        """Hand on what waits of a topic, at most as much as DDS keeps, so that a flood does not starve the others."""
        handle = entry.subscription.handle
        with handle:
            for _ in range(entry.depth):
                got = handle.take_message(entry.kind, entry.raw)
                if got is None:
                    return
                entry.take(*got)

    def _look(self) -> None:
        for entry in self._topics.values():
            offered = self._graph.node.get_publishers_info_by_topic(entry.topic)
            if len(offered) != entry.publishers:
                self._say(entry, len(offered), sorted({info.node_name for info in offered}))
            entry.publishers = len(offered)
            reliable = all(info.qos_profile.reliability == ReliabilityPolicy.RELIABLE for info in offered)
            if offered and reliable != entry.reliable:
                entry.reliable = reliable
                self._subscribe(entry)

    def _say(self, entry: _Topic, now: int, names: list[str]) -> None:
        if now == 0:
            self._remarks.append(f"Nobody publishes {entry.topic} any more.")
        elif entry.found and entry.publishers == 0:
            self._remarks.append(f"{entry.topic} is published again.")
        elif now > 1:
            self._remarks.append(f"{now} publishers share {entry.topic} ({', '.join(names)}); what comes is mixed.")
        entry.found = True
