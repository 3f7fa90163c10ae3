"""Episodes from ROS 2 bags: streams aligned at ticks by their header stamps, as a mapping says.

Owns the way from samples to `Episode`, and the sentences about what was not there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.convert.bag_clock import gap_notes, segments
from understudy.datasets.convert.bag_episodes import Cut, cut_episodes
from understudy.datasets.convert.bag_fields import frame_of
from understudy.datasets.convert.bag_file import Bag, bag_paths, left_out, open_bag
from understudy.datasets.convert.bag_guess import guess_mapping
from understudy.datasets.convert.bag_mapping import Action, BagMapping, load_mapping
from understudy.datasets.convert.bag_samples import SPLIT, TICKS, Samples, take_samples
from understudy.datasets.convert.formats import Foreign
from understudy.datasets.convert.incoming import (
    MEASURED,
    NO_OUTCOME,
    ROUNDED,
    Bounds,
    as_observation,
    inside,
    plain_text,
    require_rate,
)
from understudy.datasets.episode import Episode
from understudy.datasets.schema import ActionSpec, EpisodeInfo, is_image
from understudy.errors import DatasetError, InputError

Array = NDArray[Any]
MOST_FRAME_BYTES = 16 << 30
"""Frames of one episode that are taken into memory."""


@dataclass(frozen=True)
class Rosbag2Import:
    """How a bag becomes a dataset."""

    mapping: Path | None = None
    """YAML: which topic is what. None: the usual topics; print them with `describe_bag`."""
    robot: str = ""
    """Name of the robot; empty: the mapping's, or what the bag says."""
    task: str = ""
    """Name of the task; empty: the mapping's, or what the bag says."""
    rate_hz: float | None = None
    """Ticks a second, in place of the mapping's."""

    def __post_init__(self) -> None:
        require_rate(self.rate_hz, {})


@dataclass(frozen=True)
class _Recording:
    """One bag, read but for its frames."""

    samples: Samples
    cuts: tuple[Cut, ...]


def read(path: Path, config: Rosbag2Import) -> Foreign:
    """Open a bag, or a folder of bags, for import.

    Raises:
        DatasetError: it cannot be read, or does not have what the mapping names; names the bag.
        InputError: the mapping file is wrong.
        MissingExtra: rosbags is not installed.
    """
    mapping = load_mapping(config.mapping) if config.mapping is not None else None
    recordings: list[_Recording] = []
    notes = [
        f"{folder} was left out. It is {what}; `ros2 bag reindex {folder}` makes it a bag, if it is one."
        for folder, what in left_out(Path(path))
    ]
    for bag_path in bag_paths(Path(path)):
        with open_bag(bag_path) as bag:
            if mapping is None:
                mapping = guess_mapping(bag)
                notes.append(
                    f"No mapping was given: {', '.join(mapping.observations)} are taken from the usual topics."
                )
            if config.rate_hz is not None:
                mapping = dataclasses.replace(mapping, rate_hz=config.rate_hz, ticks="")
            recording, said = _record(bag, mapping)
        recordings.append(recording)
        notes += said
    assert mapping is not None
    mapping = _with_bag_words(mapping, recordings, config)
    spec = _spec(mapping, recordings)
    notes += _notes(mapping, recordings)
    episodes = _episodes(mapping, spec, recordings)
    count = sum(len(recording.cuts) for recording in recordings)
    if all("info" in cut.window.details for recording in recordings for cut in recording.cuts):
        # Our own export stamps by receipt what has no header, and no time is lost between the two.
        notes = [note for note in notes if not note.startswith("/understudy/")]
    return Foreign(mapping.robot, mapping.task, count, episodes, tuple(dict.fromkeys(notes)))


def _record(bag: Bag, mapping: BagMapping) -> tuple[_Recording, list[str]]:
    samples = take_samples(bag, mapping)
    found, notes = segments(list(samples.tracks.values()))
    for name, track in samples.tracks.items():
        if name not in (TICKS, SPLIT, "success"):
            notes += gap_notes(track, found)
    cuts, said = cut_episodes(samples, found, mapping)
    return _Recording(samples, tuple(cuts)), [*samples.notes, *dict.fromkeys(notes), *said]


def _with_bag_words(mapping: BagMapping, recordings: list[_Recording], config: Rosbag2Import) -> BagMapping:
    """Names of robot and task: the user's, the mapping's, or what marks in the bag say."""
    told: dict[str, str] = {}
    for recording in recordings:
        for cut in recording.cuts:
            details = cut.window.details
            full = details.get("info") if isinstance(details.get("info"), dict) else {}
            for word in ("robot", "task"):
                value = details.get(word) or (full or {}).get(word)
                if value:
                    told.setdefault(word, plain_text(value, f"{recording.samples.path}: {word}"))
    words: dict[str, str] = {}
    for word, asked in (("robot", config.robot), ("task", config.task)):
        mapped = getattr(mapping, word)
        words[word] = asked or (mapped if mapped != "unknown" else told.get(word, mapped))
    return dataclasses.replace(mapping, robot=words["robot"], task=words["task"])


# --- actions ---------------------------------------------------------------------------------------------------------


def _actions(mapping: BagMapping, samples: Samples, cut: Cut) -> tuple[Array, Array, Array]:
    """Requested, sent and measured (N, A)."""

    def taken(name: str) -> Array:
        return samples.values[name][cut.rows[name]]

    action = mapping.action
    moved = taken("joint_position") if "joint_position" in mapping.observations else None
    if action is None:
        if moved is None:
            raise DatasetError("there is no action: the mapping names none, and no joint_position to make one of.")
        return moved[1:], moved[1:], moved[1:]
    requested = taken("action/requested")[:-1]
    sent = taken("action/sent")[:-1] if action.sent is not None else requested
    if action.measured is not None:
        measured = taken("action/measured")[:-1]
    elif _measurable(action, samples):
        assert moved is not None
        measured = moved[1:]
    else:
        measured = sent
    for name, channel in (("sent", sent), ("measured", measured)):
        if channel.shape != requested.shape:
            raise DatasetError(
                f"the {name} action has {channel.shape[1]} numbers and the requested one {requested.shape[1]}."
            )
    return requested, sent, measured


def _measurable(action: Action, samples: Samples) -> bool:
    """Whether the next joint positions are what an action asks for."""
    if action.name != "joint_position" or "joint_position" not in samples.values:
        return False
    return bool(samples.values["joint_position"].shape[1] == samples.values["action/requested"].shape[1])


def _spec(mapping: BagMapping, recordings: list[_Recording]) -> ActionSpec:
    """What the marks in the bag say of actions, or what the mapping says, with bounds that hold the data."""
    first = recordings[0]
    with inside(str(first.samples.path)):
        for cut in first.cuts:
            told = cut.window.details.get("action_spec")
            if isinstance(told, dict):
                return ActionSpec.from_dict(told)
        action = mapping.action
        name = "action/requested" if action is not None else "joint_position"
        if name not in first.samples.values:
            raise DatasetError("there is no action: the mapping names none, and no joint_position to make one of.")
        size = first.samples.values[name].shape[1]
        joints = first.samples.joints.get(name, ())
        labels = (action.labels if action else ()) or (joints if len(joints) == size else ())
        labels = labels or tuple(f"action_{number}" for number in range(size))
        usual = "rad" if action is None or action.name == "joint_position" else "as imported"
        units = (action.units if action else ()) or (usual,) * size
        declared = [np.asarray(bound, float) for bound in (action.low, action.high) if bound] if action else []
        if any(len(each) != size for each in (labels, units, *declared)):
            raise InputError(f"The action has {size} numbers; labels, units, low and high must be as many.")
    bounds = Bounds(size, *declared) if len(declared) == 2 else Bounds(size)
    for recording in recordings:
        for cut in recording.cuts:
            with inside(str(recording.samples.path)):
                for channel in _actions(mapping, recording.samples, cut)[:2]:
                    bounds.include(channel)
    return bounds.spec(action.name if action else "joint_position", labels, units)


# --- episodes --------------------------------------------------------------------------------------------------------


def _episodes(mapping: BagMapping, spec: ActionSpec, recordings: list[_Recording]) -> Iterator[Episode]:
    for recording in recordings:
        path = recording.samples.path
        for number, cut in enumerate(recording.cuts):
            with inside(str(path)):
                yield _episode(mapping, spec, recording.samples, cut, f"bag {path.name}, episode {number}")


def _episode(mapping: BagMapping, spec: ActionSpec, samples: Samples, cut: Cut, provenance: str) -> Episode:
    frames = _frames(mapping, samples, cut)
    observed = {
        key: frames[key] if is_image(key) else _as_told(key, samples.values[key][cut.rows[key]], cut)
        for key in mapping.observations
    }
    requested, sent, measured = _actions(mapping, samples, cut)
    steps = len(cut.ticks_ns) - 1
    rewards = np.zeros(steps, np.float32)
    if "reward" in cut.rows:
        rows = cut.rows["reward"][:-1]
        rewards = np.where(rows < 0, 0.0, samples.values["reward"][rows, 0]).astype(np.float32)
    return Episode(
        info=_info(mapping, spec, cut, provenance),
        observations={key: values[:-1] for key, values in observed.items()},
        final_observation={key: values[-1] for key, values in observed.items()},
        requested=requested,
        sent=sent,
        measured=measured,
        rewards=rewards,
        tick_ns=cut.ticks_ns[:-1],
        ages_s={key: cut.ages_s[key][:-1].astype(np.float32) for key in mapping.observations},
    )


def _as_told(key: str, values: Array, cut: Cut) -> Array:
    """Observations (N + 1, ...) as float32, or of the type and shape that our own export says."""
    told = cut.window.details.get("observations")
    if not isinstance(told, dict) or key not in told:
        return as_observation(key, values)
    try:
        dtype, shape = np.dtype(str(told[key][0])), tuple(int(size) for size in told[key][1])
        if dtype.kind not in "biuf":
            raise DatasetError(f"{key!r} is said to be {dtype}; expected numbers.")
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinite, and is refused
            return values.astype(dtype).reshape(len(values), *shape)
    except (TypeError, ValueError, LookupError) as error:
        raise DatasetError(f"{key!r} is not what the episode's mark says of it ({error}).") from error


def _info(mapping: BagMapping, spec: ActionSpec, cut: Cut, provenance: str) -> EpisodeInfo:
    details = cut.window.details
    words: dict[str, Any] = {"robot": mapping.robot, "task": mapping.task, "provenance": provenance}
    if isinstance(details.get("info"), dict):
        full = EpisodeInfo.from_dict(details["info"])
        return dataclasses.replace(full, action_spec=spec, **words)
    success = details.get("success") if cut.success is None else cut.success
    return EpisodeInfo(
        action_spec=spec,
        rate_hz=mapping.rate_hz,
        operator=str(details.get("operator") or "unknown"),
        success=success if isinstance(success, bool) else None,
        seed=details["seed"] if isinstance(details.get("seed"), int) else None,
        **words,
    )


def _frames(mapping: BagMapping, samples: Samples, cut: Cut) -> dict[str, NDArray[np.uint8]]:
    """Key -> (N + 1, height, width, 3), read from the bag in one pass over the episode."""
    cameras = [key for key in mapping.observations if is_image(key)]
    if not cameras:
        return {}
    wanted: dict[tuple[str, int, int], list[tuple[str, NDArray[np.int64]]]] = {}
    for key in cameras:
        track, rows = samples.tracks[key], cut.rows[key]
        for row in np.unique(rows):
            mark = (track.topic, int(track.receive_ns[row]), int(track.stamps_ns[row]))
            wanted.setdefault(mark, []).append((key, np.flatnonzero(rows == row)))
    receives = [mark[1] for mark in wanted]
    frames: dict[str, NDArray[np.uint8]] = {}
    with open_bag(samples.path) as bag:
        topics = {samples.tracks[key].topic for key in cameras}
        for message in bag.messages(topics, min(receives), max(receives) + 1):
            places = wanted.pop((message.topic, message.receive_ns, message.stamp_ns), [])
            if not places:
                continue
            frame = frame_of(bag.decode(message), bag.topics[message.topic].type)
            for key, ticks in places:
                _put(frames, key, ticks, frame, len(cut.ticks_ns))
        if wanted:
            raise DatasetError(f"{len(wanted)} frames are not there any more; did the bag change?")
    return frames


def _put(
    frames: dict[str, NDArray[np.uint8]], key: str, ticks: NDArray[np.int64], frame: NDArray[np.uint8], count: int
) -> None:
    if key not in frames:
        if count * frame.nbytes > MOST_FRAME_BYTES:
            raise DatasetError(f"{count} frames of {key} take more than {MOST_FRAME_BYTES} bytes; split the bag.")
        frames[key] = np.empty((count, *frame.shape), np.uint8)
    if frame.shape != frames[key].shape[1:]:
        raise DatasetError(f"frames of {key} change their size from {frames[key].shape[1:]} to {frame.shape}.")
    frames[key][ticks] = frame


def _notes(mapping: BagMapping, recordings: list[_Recording]) -> list[str]:
    notes = []
    judged = mapping.success is not None or any("success" in c.window.details for r in recordings for c in r.cuts)
    if not judged:
        notes.append(NO_OUTCOME)
    if mapping.reward is None:
        notes.append("There are no rewards: they are 0.")
    action = mapping.action
    if action is None:
        notes.append("No topic of actions is named: the action is the joint position one tick later, in all channels.")
    else:
        if action.sent is None:
            notes.append("What was sent to the arm is not named: it is taken to be what was requested.")
        if action.measured is None and not _measurable(action, recordings[0].samples):
            notes.append(MEASURED)
    marked = any("action_spec" in c.window.details for r in recordings for c in r.cuts)
    if not marked and not (action and action.low and action.high):
        notes.append("Bounds of actions are the least and the largest in the data.")
    if not mapping.ticks:
        notes.append(f"Ticks are made at {mapping.rate_hz:g} Hz; each takes the latest samples at or before it.")
    if not any("info" in c.window.details for r in recordings for c in r.cuts):
        notes.append(ROUNDED)
    return notes
