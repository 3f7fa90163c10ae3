"""Everything of a bag but its frames, in memory: the samples of each source of a mapping, with both their stamps.

Owns the one pass over the messages. Frames stay in the bag until an episode needs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.convert.bag_clock import Track
from understudy.datasets.convert.bag_fields import IMAGE_TYPES, default_field, joint_names, numbers_at, unit_factor
from understudy.datasets.convert.bag_file import Bag, Message
from understudy.datasets.convert.bag_mapping import BagMapping, Source
from understudy.datasets.convert.incoming import parse_json
from understudy.datasets.schema import is_image
from understudy.errors import DatasetError, unknown_name

TICKS, SPLIT = "ticks", "split"
"""Names of the tracks that carry no numbers of the mapping."""
MOST_BYTES = 4 << 30
"""Numbers of one bag that are taken into memory."""


@dataclass(frozen=True)
class Samples:
    """What one bag holds of what the mapping names."""

    path: Path
    tracks: Mapping[str, Track]
    """Observation key, action/<channel>, reward, success, ticks or split -> its samples, in the order of receipt."""
    values: Mapping[str, NDArray[np.float64]]
    """Name -> (S, width) in our units; frames and marks have none."""
    joints: Mapping[str, tuple[str, ...]]
    """Name -> the joints its numbers belong to, where messages name them."""
    marks: tuple[Mapping[str, Any], ...]
    """What each message of the split's topic says, if it is text."""
    notes: tuple[str, ...]


class _Collector:
    """Gathers the samples of one source."""

    def __init__(self, name: str, source: Source, kind: str) -> None:
        self.name, self.source, self.kind = name, source, kind
        self.receive: list[int] = []
        self.stamps: list[int] = []
        self.values: list[NDArray[np.float64]] = []
        self.by_receipt = 0
        self.joints = source.joints
        self.not_finite = 0
        self.joints_seen: set[str] = set()
        """Joints of messages that did not have all that are wanted."""
        self._field = source.field or (default_field(kind, name),)
        self._factor = unit_factor(source.units) * source.scale

    def stamp(self, message: Message) -> None:
        """Keep when it was."""
        self.receive.append(message.receive_ns)
        self.stamps.append(message.stamp_ns)
        self.by_receipt += message.header_ns == 0

    def add(self, message: Message, decoded: Any) -> None:
        """Keep the numbers of a message, unless it has none for this source.

        Raises:
            DatasetError: no such field, or another number of values than before.
        """
        if not self.joints:
            self.joints = joint_names(decoded)
        found = numbers_at(decoded, self._field, self.joints)
        if found is None:
            self.joints_seen.update(joint_names(decoded))
            return
        if self.values and len(found) != len(self.values[0]):
            raise DatasetError(
                f"{self.source.topic}: a message has {len(found)} values for {self.name!r} and the first had "
                f"{len(self.values[0])}; name the joints to take."
            )
        if not np.all(np.isfinite(found)):
            self.not_finite += 1
            return
        self.stamp(message)
        self.values.append(found * self._factor + self.source.offset)

    @property
    def track(self) -> Track:
        """Its stamps."""
        receive, stamps = np.asarray(self.receive, np.int64), np.asarray(self.stamps, np.int64)
        order = np.argsort(receive, kind="stable")
        return Track(self.name, self.source.topic, receive[order], stamps[order], self.by_receipt)

    def stacked(self) -> NDArray[np.float64]:
        """(S, width) in the order of receipt."""
        values = np.stack(self.values)
        return values[np.argsort(np.asarray(self.receive, np.int64), kind="stable")]


def take_samples(bag: Bag, mapping: BagMapping) -> Samples:
    """Read a bag once.

    Raises:
        DatasetError: a topic that the mapping names is not there or cannot be read, or has nothing of what it should.
    """
    sources = dict(mapping.sources)
    if mapping.ticks:
        sources[TICKS] = Source(mapping.ticks)
    if mapping.episodes.topic:
        sources[SPLIT] = Source(mapping.episodes.topic)
    for name, source in sources.items():
        _require_topic(bag, name, source)
    collectors = {name: _Collector(name, source, bag.topics[source.topic].type) for name, source in sources.items()}
    by_topic: dict[str, list[_Collector]] = {}
    for collector in collectors.values():
        by_topic.setdefault(collector.source.topic, []).append(collector)
    marks: list[Mapping[str, Any]] = []
    size = 0
    for message in bag.messages(by_topic.keys()):
        decoded: Any = None
        for collector in by_topic[message.topic]:
            if collector.name == TICKS or is_image(collector.name):
                collector.stamp(message)
                continue
            decoded = bag.decode(message) if decoded is None else decoded
            if collector.name == SPLIT and mapping.episodes.by == "marks":
                collector.stamp(message)
                marks.append(parse_json(str(decoded.data), f"a mark on {message.topic}"))
                continue
            collector.add(message, decoded)
            size += collector.values[-1].nbytes if collector.values else 0
        if size > MOST_BYTES:
            raise DatasetError(f"more than {MOST_BYTES} bytes of numbers; split the bag with `ros2 bag convert`.")
    return _samples(bag, collectors, tuple(marks))


def _require_topic(bag: Bag, name: str, source: Source) -> None:
    topic = bag.topics.get(source.topic)
    if topic is None:
        raise DatasetError(f"{name!r}: {unknown_name('topic', source.topic, bag.topics)}")
    if not topic.known:
        raise DatasetError(
            f"{name!r}: messages of {source.topic} are {topic.type}, which is none of ROS 2 Jazzy's common interfaces; "
            "leave it out, or republish it as one of those."
        )
    if is_image(name) != (topic.type in IMAGE_TYPES) and name != TICKS:
        raise DatasetError(f"{name!r}: messages of {source.topic} are {topic.type}, which does not fit that name.")


def _nothing_for(collector: _Collector) -> DatasetError:
    """Why no message of a topic had what was asked of it."""
    topic, wanted, seen = collector.source.topic, collector.source.joints, collector.joints_seen
    if wanted and seen:
        for joint in wanted:
            if joint not in seen:
                return DatasetError(f"{topic}, for {collector.name!r}: {unknown_name('joint', joint, sorted(seen))}")
        return DatasetError(
            f"{topic} has no message with all of the joints {', '.join(wanted)} of {collector.name!r}: they come in "
            "several messages; name one source for each."
        )
    return DatasetError(f"{topic} has no message with a value for {collector.name!r}.")


def _samples(bag: Bag, collectors: Mapping[str, _Collector], marks: tuple[Mapping[str, Any], ...]) -> Samples:
    notes = []
    for collector in collectors.values():
        if not collector.receive and collector.name not in ("success", SPLIT):
            raise _nothing_for(collector)
        if collector.not_finite:
            count = collector.not_finite
            notes.append(f"{collector.source.topic}: {count} messages with values that are not finite were left out.")
        if collector.joints and not collector.source.joints and collector.values:
            notes.append(
                f"{collector.source.topic}: joints of {collector.name!r} are in the order of its first message: "
                f"{', '.join(collector.joints)}."
            )
    if SPLIT in collectors and marks:
        order = np.argsort(np.asarray(collectors[SPLIT].receive, np.int64), kind="stable")
        marks = tuple(marks[row] for row in order)
    return Samples(
        path=bag.path,
        tracks={name: collector.track for name, collector in collectors.items()},
        values={name: collector.stacked() for name, collector in collectors.items() if collector.values},
        joints={name: collector.joints for name, collector in collectors.items() if collector.joints},
        marks=marks,
        notes=tuple(notes),
    )
