"""Episodes of a LeRobot dataset v3.0, as far as other people's say what they hold; our own go to `lerobot_own`.

Owns what a feature becomes, and the sentences about what was not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.convert.formats import Foreign
from understudy.datasets.convert.incoming import (
    MEASURED,
    NO_OUTCOME,
    ROUNDED,
    Bounds,
    as_observation,
    foreign_keys,
    frames_key,
    inside,
    is_rounded,
    made_stamps,
    made_ticks,
)
from understudy.datasets.convert.lerobot_layout import (
    ACTION,
    COUNTERS,
    DONE,
    EXTRAS,
    IMAGES,
    OBSERVATION,
    OWN,
    REWARD,
    SUCCESS,
    LeRobotImport,
)
from understudy.datasets.convert.lerobot_meta import Entry, Meta, read_meta
from understudy.datasets.convert.lerobot_own import read_own
from understudy.datasets.convert.lerobot_steps import column_of, episode_tables, frames_of, provenance_of
from understudy.datasets.episode import Episode
from understudy.datasets.schema import ActionSpec, EpisodeInfo, is_image
from understudy.errors import DatasetError

Array = NDArray[Any]


def read(path: Path, config: LeRobotImport) -> Foreign:
    """Open a LeRobot dataset v3.0 for import.

    Raises:
        DatasetError: it is not one, is of another version, or is damaged; names the file.
        MissingExtra: pyarrow or av is not installed.
    """
    meta = read_meta(Path(path))
    _require_room(meta, config.max_episode_bytes)
    if meta.mark is not None and (meta.root / EXTRAS).exists():
        return read_own(meta, config)
    return _read_foreign(meta, config)


def _require_room(meta: Meta, limit: int) -> None:
    row = sum(feature.width * (1 if feature.dtype in ("image", "video") else 8) for feature in meta.features.values())
    longest = max(meta.entries, key=lambda entry: entry.length)
    if longest.length * row > limit:
        raise DatasetError(
            f"{meta.root}: episode {longest.index} would take {longest.length * row} bytes of memory and at most "
            f"{limit} are allowed; raise max_episode_bytes if that is right."
        )


@dataclass(frozen=True)
class _Reading:
    """What is taken from a foreign dataset, under which names."""

    keys: Mapping[str, str]
    """Feature -> our key, of numbers."""
    cameras: Mapping[str, str]
    """Feature -> our key, of frames."""
    spec: ActionSpec
    robot: str
    task: str

    def columns(self, meta: Meta) -> list[str]:
        """Columns to read, each once."""
        wanted = [ACTION, *self.keys, *(name for name in self.cameras if meta.features[name].dtype == "image")]
        wanted += [name for name in (REWARD, SUCCESS, "task_index") if name in meta.features]
        return wanted


def _read_foreign(meta: Meta, config: LeRobotImport) -> Foreign:
    taken, left = _sort_features(meta)
    frames = {name for name in taken if meta.features[name].dtype in ("image", "video")}
    known = {name: frames_key(name.removeprefix(IMAGES).removeprefix(OBSERVATION)) for name in frames}
    known |= {
        name: f"other_{name.removeprefix(OBSERVATION).replace('.', '_')}"
        for name in taken
        if name.startswith(OBSERVATION) and name not in frames
    }
    with inside(str(meta.root)):
        keys = foreign_keys(taken, config.keys, known)
        for name, key in keys.items():
            if is_image(key) != (name in frames):
                raise DatasetError(f"keys calls {name!r} {key!r}; frames and numbers cannot stand for each other.")
        bounds = Bounds(meta.features[ACTION].width)
        for _, table in episode_tables(meta, [ACTION]):
            bounds.include(column_of(meta, table, ACTION))
        size = meta.features[ACTION].width
        labels = meta.features[ACTION].names or tuple(f"action_{number}" for number in range(size))
        spec = bounds.spec("imported", labels, ["as imported"] * size)
    task = config.task or (next(iter(meta.tasks.values())) if len(meta.tasks) == 1 else "several tasks")
    reading = _Reading(
        {name: key for name, key in keys.items() if name not in frames},
        {name: key for name, key in keys.items() if name in frames},
        spec,
        config.robot or meta.robot,
        task,
    )
    notes = _notes(meta, reading, config, left)
    return Foreign(reading.robot, reading.task, len(meta.entries), _foreign_episodes(meta, reading), notes)


def _sort_features(meta: Meta) -> tuple[list[str], list[str]]:
    """Features that are read as observations, and those that are left out."""
    taken: list[str] = []
    left: list[str] = []
    for name, feature in meta.features.items():
        if name in (*COUNTERS, ACTION, REWARD, DONE, SUCCESS):
            continue
        readable = feature.dtype in ("image", "video", "bool") or feature.dtype.startswith(("float", "int", "uint"))
        (taken if readable and not name.startswith(OWN) else left).append(name)
    return taken, left


def _notes(meta: Meta, reading: _Reading, config: LeRobotImport, left: list[str]) -> tuple[str, ...]:
    notes = [
        made_stamps(meta.rate_hz, "the dataset's fps"),
        MEASURED,
        "The observation after the last action was not recorded: the last one stands in for it.",
        "Bounds of actions are the least and the largest in the data; their units are not known.",
    ]
    if others := [name for name in reading.keys if name not in config.keys]:
        notes.append(
            f"Units of {', '.join(others)} are not known: kept as other_...; name them with --keys if you know them."
        )
    if REWARD not in meta.features:
        notes.append("There are no rewards: they are 0.")
    if SUCCESS not in meta.features:
        notes.append(NO_OUTCOME)
    if any(meta.features[name].dtype == "video" for name in reading.cameras):
        notes.append("Camera frames come from lossy video.")
    if any(is_rounded(_dtype(meta, name)) for name in reading.keys):
        notes.append(ROUNDED)
    if left:
        notes.append(f"Left out, because they are not numbers or frames that are read: {', '.join(left)}.")
    if len(meta.tasks) > 1 and not config.task:
        notes.append("There are several tasks: each episode's own stands in its note.")
    return tuple(notes)


def _dtype(meta: Meta, name: str) -> np.dtype[Any]:
    try:
        return np.dtype(meta.features[name].dtype)
    except TypeError as error:
        raise DatasetError(f"{meta.root}: {name!r} is of the unknown type {meta.features[name].dtype!r}.") from error


def _foreign_episodes(meta: Meta, reading: _Reading) -> Iterator[Episode]:
    for entry, table in episode_tables(meta, reading.columns(meta)):
        with inside(f"{meta.root}: episode {entry.index}"):
            yield _foreign_episode(meta, reading, entry, table)


def _foreign_episode(meta: Meta, reading: _Reading, entry: Entry, table: Any) -> Episode:
    steps = entry.length
    actions = np.asarray(column_of(meta, table, ACTION), np.float64)
    observed = {key: as_observation(key, column_of(meta, table, name)) for name, key in reading.keys.items()}
    observed |= {key: frames_of(meta, entry, table, name) for name, key in reading.cameras.items()}
    success = bool(column_of(meta, table, SUCCESS)[-1, 0]) if SUCCESS in meta.features else None
    told = ""
    if "task_index" in meta.features:
        told = meta.tasks.get(int(column_of(meta, table, "task_index")[0, 0]), "")
    info = EpisodeInfo(
        robot=reading.robot,
        task=reading.task,
        action_spec=reading.spec,
        rate_hz=meta.rate_hz,
        success=success,
        note=told if told != reading.task else "",
        provenance=provenance_of(meta, entry),
    )
    rewards = np.zeros(steps, np.float32)
    if REWARD in meta.features:
        rewards = np.asarray(column_of(meta, table, REWARD)[:, 0], np.float32)
    return Episode(
        info=info,
        observations=observed,
        final_observation={key: values[-1] for key, values in observed.items()},
        requested=actions,
        sent=actions,
        measured=actions,
        rewards=rewards,
        tick_ns=made_ticks(steps, meta.rate_hz),
    )
