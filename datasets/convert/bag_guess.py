"""The mapping that is meant when a bag comes without one, and the skeleton of a mapping file to start from.

Owns the guesses: usual topic names and types, and the topics that our own exports and deployments have.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from understudy.datasets.convert.bag_fields import DEFAULT_FIELDS, IMAGE_TYPES
from understudy.datasets.convert.bag_file import Bag, Topic, bag_paths, open_bag
from understudy.datasets.convert.bag_mapping import (
    DEFAULT_MAX_AGE_S,
    Action,
    BagMapping,
    Source,
    Split,
    as_text,
    camera_name,
)
from understudy.errors import DatasetError

MARKS = "/understudy/episode"
"""Says when an episode runs and ends, here and in deployments."""
OWN_ACTIONS = {name: f"/understudy/{name}_action" for name in ("requested", "sent", "measured")}
OWN_OBSERVATION = "/understudy/observation/"
OWN_REWARD = "/understudy/reward"
JOINTS, GRIPPER = "/joint_states", "/gripper_state"
_RECORDED_MAX_AGE_S = 60.0
"""Our own recordings were checked for age when they were made."""
_PERIODS = 3.0
"""A slow topic may be this many of its periods old."""
_COMMANDS = re.compile(r"command|cmd|target|joint_trajectory$|goal_position")
_TOOL_WORDS = ("tool", "tcp", "ee", "eef", "end")


def guess_mapping(bag: Bag) -> BagMapping:
    """The mapping that a bag's topics suggest.

    Raises:
        DatasetError: nothing in it is usual.
    """
    topics = [topic for _, topic in sorted(bag.topics.items()) if topic.known and topic.count]
    observations: dict[str, Source] = {}
    for topic in topics:
        for key, source in _observations(bag, topic):
            observations.setdefault(key, source)
    if not observations:
        listed = ", ".join(f"{topic.name} ({topic.type})" for topic in bag.topics.values()) or "none"
        raise DatasetError(
            f"{bag.path}: none of its topics is one of the usual ones; say in a mapping file which is what. "
            f"It has: {listed}."
        )
    names = {topic.name for topic in topics}
    own = OWN_ACTIONS["requested"] in names
    marks = MARKS in names
    reward = Source(OWN_REWARD) if OWN_REWARD in names else None
    return BagMapping(
        observations=observations,
        action=_action(topics, names),
        ticks=OWN_ACTIONS["requested"] if own else "",
        max_age_s=_RECORDED_MAX_AGE_S if own else DEFAULT_MAX_AGE_S,
        episodes=Split("marks", MARKS) if marks else Split(),
        reward=reward,
    )


def _observations(bag: Bag, topic: Topic) -> list[tuple[str, Source]]:
    if topic.name.startswith(OWN_OBSERVATION):
        return [(topic.name.removeprefix(OWN_OBSERVATION), Source(topic.name))]
    if topic.name.startswith("/understudy/") or _COMMANDS.search(topic.name):
        return []
    age = _age_limit(bag, topic)
    if topic.type in IMAGE_TYPES:
        return [(f"image_{camera_name(topic.name)}", Source(topic.name, max_age_s=age))]
    if topic.type == "sensor_msgs/msg/JointState":
        return _joint_observations(bag, topic, age)
    name = _pose_name(topic.name)
    if topic.type == "geometry_msgs/msg/PoseStamped":
        return [
            (f"{name}_position", Source(topic.name, ("pose.position",), max_age_s=age)),
            (f"{name}_quaternion", Source(topic.name, ("pose.orientation",), max_age_s=age)),
        ]
    if topic.type == "geometry_msgs/msg/PointStamped":
        return [(f"{name}_position", Source(topic.name, max_age_s=age))]
    if topic.type == "geometry_msgs/msg/QuaternionStamped":
        return [(f"{name}_quaternion", Source(topic.name, max_age_s=age))]
    return []


def _joint_observations(bag: Bag, topic: Topic, age: float | None) -> list[tuple[str, Source]]:
    """Positions, and velocities and efforts where the first message has any."""
    if "gripper" in topic.name:
        return [("gripper_position", Source(topic.name, max_age_s=age))]
    first = next(bag.messages([topic.name]), None)
    message = bag.decode(first) if first is not None else None
    fields = {"joint_position": "position", "joint_velocity": "velocity", "joint_effort": "effort"}
    return [
        (key, Source(topic.name, (field,), max_age_s=age))
        for key, field in fields.items()
        if message is not None and len(getattr(message, field))
    ]


def _age_limit(bag: Bag, topic: Topic) -> float | None:
    """Room for a topic that is slower than the usual limit allows."""
    period_s = bag.duration_s / topic.count
    return round(_PERIODS * period_s, 3) if _PERIODS * period_s > DEFAULT_MAX_AGE_S and topic.count > 1 else None


def _pose_name(topic: str) -> str:
    words = [word.lower() for word in re.split(r"[^0-9A-Za-z]+", topic) if word]
    words = words[:-1] if len(words) > 1 and words[-1] in ("pose", "point", "position", "quaternion") else words
    if words[0] in ("object", "goal"):
        return "_".join(words)
    return "tool" if any(word in _TOOL_WORDS for word in words) else "object_" + "_".join(words)


def _action(topics: list[Topic], names: set[str]) -> Action | None:
    if OWN_ACTIONS["requested"] in names:
        sent, measured = (Source(OWN_ACTIONS[name]) for name in ("sent", "measured"))
        return Action(
            requested=Source(OWN_ACTIONS["requested"]),
            sent=sent if sent.topic in names else None,
            measured=measured if measured.topic in names else None,
        )
    for topic in topics:
        if topic.type == "trajectory_msgs/msg/JointTrajectory" and "gripper" not in topic.name:
            return Action(Source(topic.name), name="joint_position")
    for topic in topics:
        numbers = topic.type in DEFAULT_FIELDS or topic.type.endswith("MultiArray")
        if numbers and _COMMANDS.search(topic.name) and "gripper" not in topic.name:
            return Action(Source(topic.name))
    return None


def describe_bag(path: Path | str) -> str:
    """A mapping file to start from: what would be done without one, and every topic as a comment.

    Raises:
        DatasetError: no readable bag, or nothing in it is usual.
    """
    first = bag_paths(Path(path))[0]
    with open_bag(first) as bag:
        lines = [
            f"# What {first.name} holds ({bag.duration_s:.1f} s). Change what is not meant; unknown keys are errors."
        ]
        for name, topic in sorted(bag.topics.items()):
            rate = max(0, topic.count - 1) / bag.duration_s if bag.duration_s > 0 else 0.0
            kind = topic.type if topic.known else f"{topic.type}, which is not read"
            stamp = "header stamps" if topic.headed else "receive stamps"
            lines.append(f"#   {name}: {kind}, {topic.count} messages, {rate:.1f} Hz, {stamp}")
        lines.append("# Keys of a source: topic, field, joints, units, scale, offset, max_age_s.")
        lines.append(
            "# episodes: {by: bag | flag | gaps | marks, topic: ..., longer_than_s: ...}; on_gap: refuse | split"
        )
        text = as_text(guess_mapping(bag))
    assert isinstance(yaml.safe_load(text), dict)
    return "\n".join([*lines, text])
