"""Episodes written as ROS 2 bags, one bag an episode, to be played with `ros2 bag play`.

One bag an episode, because that is what a person plays, and because the stamps of two episodes may come from clocks
that have nothing to do with each other: in one bag they would have to be made up. Every observation is one message for
each sample, stamped in its header with when the sample was made; a sample that several ticks saw is written once.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.convert.bag_guess import GRIPPER, JOINTS, MARKS, OWN_ACTIONS, OWN_OBSERVATION, OWN_REWARD
from understudy.datasets.convert.bag_messages import Messages
from understudy.datasets.convert.outgoing import fresh, one_layout
from understudy.datasets.episode import Episode
from understudy.datasets.schema import CHANNELS, is_image
from understudy.datasets.store import Dataset
from understudy.errors import InputError

Array = NDArray[Any]
SUCCESS, STREAMS = "/understudy/success", "/understudy/streams/"
JOINT_KEYS = ("joint_position", "joint_velocity", "joint_effort")
_EARLIEST_NS = 1_000_000_000
"""ROS reads a stamp of 0 as "not set"; episodes that begin there are moved by this."""
_TOLD_NS = 1_000_000
_MADE_NAMES = "Joints are called joint_1 and so on in /joint_states; give --joint-names to call them as the robot does."


@dataclass(frozen=True)
class Rosbag2Export:
    """How episodes become bags."""

    storage: Literal["mcap", "sqlite3"] = "mcap"
    """mcap is ROS 2 Jazzy's own; sqlite3 is what older ones read."""
    joint_names: tuple[str, ...] = ()
    """Names of the arm's joints in /joint_states, so that other tools know them; empty: joint_1 and so on."""
    frame: str = "base"
    """Name of the frame that poses are in."""

    def __post_init__(self) -> None:
        if self.storage not in ("mcap", "sqlite3"):
            raise InputError(f"storage is {self.storage!r}; expected 'mcap' or 'sqlite3'.")


@dataclass(frozen=True)
class _Line:
    """The messages of one topic: when, and what in each."""

    topic: str
    type: str
    stamps_ns: NDArray[np.int64]
    make: Callable[[int, int], Any]
    """(row, stamp) -> message"""
    latched: bool = False


def write(dataset: Dataset, ids: Sequence[str], out: Path, config: Rosbag2Export) -> tuple[str, ...]:
    """Write episodes as bags into the folder `out`, which must not exist; whole or not at all.

    Returns:
        a sentence for each thing that the bags do not hold as it was.

    Raises:
        DatasetError: there are no episodes, or they differ in what they hold.
        MissingExtra: rosbags is not installed.
    """
    from rosbags.rosbag2 import StoragePlugin, Writer

    layout = one_layout(dataset, ids, "a folder of bags")
    shapes = {key: shape for key, (_, shape) in layout.keys.items()}
    joints = _joint_names(config, shapes)
    plugin = StoragePlugin.MCAP if config.storage == "mcap" else StoragePlugin.SQLITE3
    losses: dict[str, None] = {}
    if not config.joint_names and "joint_position" in shapes:
        losses[
            "Joints are called joint_1 and so on in /joint_states; give --joint-names to call them as the robot does."
        ] = None
    with fresh(Path(out)) as draft:
        draft.mkdir()
        for number, id in enumerate(ids):
            episode = dataset.read(id)
            messages = Messages(config.frame, joints)
            lines, said = _lines(episode, messages)
            losses |= dict.fromkeys(said)
            with Writer(draft / f"{number:04d}_{id}", version=9, storage_plugin=plugin) as writer:
                _write_lines(writer, messages, lines)
    return tuple(losses)


def _joint_names(config: Rosbag2Export, shapes: dict[str, tuple[int, ...]]) -> tuple[str, ...]:
    count = int(np.prod(shapes.get("joint_position", (0,))))
    if config.joint_names and len(config.joint_names) != count:
        raise InputError(f"{len(config.joint_names)} joint_names for {count} joints; give one for each.")
    return config.joint_names or tuple(f"joint_{number + 1}" for number in range(count))


def _write_lines(writer: Any, messages: Messages, lines: list[_Line]) -> None:
    """Write the messages of all topics in the order of their stamps."""
    links = {line.topic: messages.connect(writer, line.topic, line.type, latched=line.latched) for line in lines}
    order = sorted(
        (int(stamp), number, row) for number, line in enumerate(lines) for row, stamp in enumerate(line.stamps_ns)
    )
    for stamp, number, row in order:
        line = lines[number]
        writer.write(links[line.topic], stamp, messages.packed(line.make(row, stamp), line.type))


# --- what is published where -----------------------------------------------------------------------------------------


def _lines(episode: Episode, messages: Messages) -> tuple[list[_Line], list[str]]:
    """The topics of an episode, and what they do not hold as it was."""
    times = _Times(episode)
    losses: list[str] = []
    lines = [_marks(episode, messages, times)]
    left = list(episode.observations)
    for keys in _groups(episode):
        lines.append(_observation(episode, messages, times, keys))
        left = [key for key in left if key not in keys]
    lines += [_observation(episode, messages, times, (key,)) for key in left]
    for channel in CHANNELS:
        values, topic = episode.channel(channel), OWN_ACTIONS[channel]
        label = f"{episode.info.action_spec.name}: {', '.join(episode.info.action_spec.labels)}"
        lines.append(_numbers(topic, values, times.ticks_ns[:-1], messages, label))
    rewards = np.asarray(episode.rewards)
    lines.append(
        _Line(OWN_REWARD, messages.NUMBER, times.ticks_ns[:-1], lambda row, stamp: messages.number(float(rewards[row])))
    )
    if episode.info.success is not None:
        verdict = bool(episode.info.success)
        lines.append(
            _Line(SUCCESS, messages.FLAG, times.ticks_ns[-1:], lambda row, stamp: messages.flag(verdict), True)
        )
    for name, stream in episode.streams.items():
        if len(stream.stamps_ns):
            lines.append(_stream(name, np.asarray(stream.values), stream.stamps_ns + times.shift_ns, messages))
    if times.shift_ns:
        losses.append("Stamps were moved by 1 s: ROS reads a stamp of 0 as one that is not set.")
    if times.moved:
        losses.append("Stamps of samples that lay behind each other's were moved so that they keep their order.")
    if episode.states.size:
        losses.append("Simulator states are left out.")
    if np.any(episode.intervention):
        losses.append("Which steps a person drove in a policy's place is left out.")
    return [line for line in lines if len(line.stamps_ns)], losses


class _Times:
    """When the samples of an episode were made."""

    def __init__(self, episode: Episode) -> None:
        ticks = np.asarray(episode.tick_ns, np.int64)
        usual = float(np.median(np.diff(ticks))) if len(ticks) > 1 else 1e9 / episode.info.rate_hz
        self._ages_ns = {key: np.rint(np.asarray(ages, float) * 1e9) for key, ages in episode.ages_s.items()}
        oldest = max((int(np.max(ages)) for ages in self._ages_ns.values() if len(ages)), default=0)
        streams = [int(np.min(stream.stamps_ns)) for stream in episode.streams.values() if len(stream.stamps_ns)]
        first = min([int(ticks[0]) - oldest, *streams])
        self.shift_ns = _EARLIEST_NS - min(0, first) if first <= 0 else 0
        self.ticks_ns = np.append(ticks, ticks[-1] + round(usual)) + self.shift_ns
        self.moved = False

    def of(self, keys: Sequence[str], values: Sequence[Array]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Stamps of the distinct samples of some observations (N + 1, ...), and the rows they are in."""
        ages = self._ages_ns.get(keys[0], np.zeros(len(self.ticks_ns) - 1))
        stamps = self.ticks_ns - np.append(ages, 0).astype(np.int64)
        rows, kept = [0], [int(stamps[0])]
        for row in range(1, len(stamps)):
            same = all(np.array_equal(each[row], each[row - 1]) for each in values)
            # Ages are float32: one sample seen twice differs by some nanoseconds.
            if same and abs(int(stamps[row]) - kept[-1]) < _TOLD_NS:
                continue
            stamp = max(int(stamps[row]), kept[-1] + 1)
            self.moved |= stamp - int(stamps[row]) > _TOLD_NS
            rows.append(row)
            kept.append(stamp)
        return np.asarray(kept, np.int64), np.asarray(rows, np.int64)


def _groups(episode: Episode) -> Iterator[tuple[str, ...]]:
    """Observations that share a message because they were taken together."""
    keys = episode.observations
    flat = [key for key in JOINT_KEYS if key in keys and np.ndim(episode.final_observation[key]) == 1]
    if flat and flat[0] == "joint_position":
        width = len(episode.final_observation["joint_position"])
        yield tuple(
            key for key in flat if len(episode.final_observation[key]) == width and _together(episode, flat[0], key)
        )
    for key in keys:
        if key.endswith("_position") and not key.startswith(("joint", "gripper")):
            turn = key.removesuffix("_position") + "_quaternion"
            if turn in keys and _is_pose(episode, key, turn) and _together(episode, key, turn):
                yield key, turn


def _is_pose(episode: Episode, position: str, turn: str) -> bool:
    final = episode.final_observation
    return np.shape(final[position]) == (3,) and np.shape(final[turn]) == (4,)


def _together(episode: Episode, first: str, second: str) -> bool:
    ages = episode.ages_s
    if (first in ages) != (second in ages):
        return False
    return first not in ages or bool(np.allclose(ages[first], ages[second], atol=1e-6))


def _observation(episode: Episode, messages: Messages, times: _Times, keys: tuple[str, ...]) -> _Line:
    values = [
        np.concatenate([episode.observations[key], np.asarray(episode.final_observation[key])[None]]) for key in keys
    ]
    stamps, rows = times.of(keys, values)
    topic, kind, make = _form(keys, values[0].shape[1:], messages)
    return _Line(topic, kind, stamps, lambda row, stamp: make(stamp, *(each[rows[row]] for each in values)))


def _form(keys: tuple[str, ...], shape: tuple[int, ...], messages: Messages) -> tuple[str, str, Callable[..., Any]]:
    """Topic, type and maker (stamp, *values) -> message of observations that share one."""
    key = keys[0]
    stem = re.sub(r"_(position|quaternion)$", "", key)
    if is_image(key):
        camera = key.removeprefix("image_")
        return f"/camera/{camera}/image_raw", messages.IMAGE, lambda stamp, frame: messages.image(stamp, camera, frame)
    if key == "joint_position" and len(shape) == 1:
        return (
            JOINTS,
            messages.JOINTS,
            lambda stamp, *parts: messages.joints(
                stamp, **dict(zip((name.removeprefix("joint_") for name in keys), parts, strict=True))
            ),
        )
    if key == "gripper_position" and shape in ((), (1,)):
        return GRIPPER, messages.JOINTS, lambda stamp, width: messages.gripper(stamp, float(np.reshape(width, ())))
    if len(keys) == 2:
        return f"/{stem}_pose", messages.POSE, messages.pose
    if key.endswith("_position") and shape == (3,):
        return f"/{stem}_point", messages.POINT, messages.point
    if key.endswith("_quaternion") and shape == (4,):
        return f"/{stem}_quaternion", messages.TURN, messages.turn
    return f"{OWN_OBSERVATION}{key}", messages.NUMBERS, lambda stamp, value: messages.numbers(value, key)


def _numbers(topic: str, values: Array, stamps: NDArray[np.int64], messages: Messages, label: str) -> _Line:
    return _Line(topic, messages.NUMBERS, stamps, lambda row, stamp: messages.numbers(values[row], label))


def _stream(name: str, values: Array, stamps: NDArray[np.int64], messages: Messages) -> _Line:
    """Samples at their native rate; those of joints and cameras carry their stamp in a header too."""
    topic = f"{STREAMS}{name}"
    if is_image(name) and values.dtype == np.uint8 and values.ndim == 4:
        camera = name.removeprefix("image_")
        return _Line(topic, messages.IMAGE, stamps, lambda row, stamp: messages.image(stamp, camera, values[row]))
    if name in JOINT_KEYS and values.ndim == 2:
        part = name.removeprefix("joint_")
        return _Line(topic, messages.JOINTS, stamps, lambda row, stamp: messages.joints(stamp, **{part: values[row]}))
    return _numbers(topic, values, stamps, messages, name)


def _marks(episode: Episode, messages: Messages, times: _Times) -> _Line:
    """Begin and end of the episode, as deployments announce them, with all its metadata."""
    told = {
        "episode": 0,
        "success": episode.info.success,
        "seed": episode.info.seed,
        "task": episode.info.task,
        "robot": episode.info.robot,
        "operator": episode.info.operator,
        "action_spec": episode.info.action_spec.as_dict(),
        "info": dataclasses.asdict(episode.info),
        "observations": {
            key: [np.asarray(value).dtype.str, list(np.shape(value))]
            for key, value in episode.final_observation.items()
        },
    }
    texts = [json.dumps({"state": state, **told}) for state in ("running", "ended")]
    return _Line(MARKS, messages.TEXT, times.ticks_ns[[0, -1]], lambda row, stamp: messages.text(texts[row]), True)
