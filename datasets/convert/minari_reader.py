"""Reading Minari datasets, ours or others (`minari_spaces.py` knows their spaces).

Minari's observations have one row more than its actions: the last is what was seen after the last action. What it does
not hold (a rate, units, what the arm did) is made up as little as possible, and said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from understudy.datasets.convert.formats import Foreign
from understudy.datasets.convert.incoming import (
    MEASURED,
    NO_OUTCOME,
    ROUNDED,
    Array,
    Bounds,
    as_observation,
    foreign_keys,
    frames_key,
    inside,
    is_rounded,
    made_stamps,
    made_ticks,
    plain_text,
    read_json,
    require_plain_file,
    require_rate,
)
from understudy.datasets.convert.minari_spaces import Leaf, action_leaf, leaves, read_leaf
from understudy.datasets.convert.minari_writer import INFO, SCHEMA
from understudy.datasets.episode import Episode
from understudy.datasets.hdf5 import attribute, members, open_hdf5, subgroup
from understudy.datasets.hdf5 import read as read_array
from understudy.datasets.schema import SCHEMA_VERSION, ActionSpec, EpisodeInfo
from understudy.errors import DatasetError

_WHAT = "Minari file"
_GUESSED_RATE_HZ = 20.0


@dataclass(frozen=True)
class MinariImport:
    """What a Minari dataset does not say itself.

    Raises:
        InputError: on construction, for an impossible rate or an unknown key.
    """

    rate_hz: float | None = None
    """Control rate; None takes 20 Hz and says so."""
    robot: str = "unknown"
    """Name of the robot."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Observations whose meaning you know: their name -> ours. The numbers must be in our units."""

    def __post_init__(self) -> None:
        require_rate(self.rate_hz, self.keys)


@dataclass(frozen=True)
class _Plan:
    """How the episodes of one dataset become ours."""

    file: Path
    name: str
    groups: tuple[str, ...]
    observed: Mapping[str, Leaf]
    """Observation -> how it is stored."""
    action: Leaf
    jpeg: bool
    keys: Mapping[str, str]
    """Observation -> our key."""
    spec: ActionSpec | None
    """Of episodes that we did not write; None where there are none."""
    config: MinariImport

    @property
    def rate_hz(self) -> float:
        return self.config.rate_hz or _GUESSED_RATE_HZ


def read(path: Path, config: MinariImport) -> Foreign:
    """Open a Minari dataset, ours or another.

    Args:
        path: the dataset's folder (.../<name>-v0), or the `data` folder in it.
        config: what it does not say.

    Raises:
        DatasetError: it is none, or holds what is not read; names the file and the place.
    """
    folder = path if (path / "metadata.json").exists() else path / "data"
    metadata = read_json(folder / "metadata.json")
    file = folder / "main_data.hdf5"
    with inside(str(folder / "metadata.json")):
        name, observed, action, jpeg = _described(metadata)
    require_plain_file(file)
    notes: list[str] = []
    with open_hdf5(file, _WHAT) as opened:
        groups = _episode_names(opened, metadata)
        foreign = [group for group in groups if INFO not in subgroup(opened, group).attrs]
        spec = _spec(opened, foreign, action, notes) if foreign else None
        keys = _keys(observed, jpeg, config, notes) if foreign else {key: key for key in observed}
        robot, task = config.robot, name
        if foreign:
            _say_what_is_missing(opened, foreign, config, notes)
        else:
            info = _info(subgroup(opened, groups[0]))
            robot, task = info.robot, info.task
    plan = _Plan(file, name, groups, observed, action, jpeg, keys, spec, config)
    return Foreign(robot, task, len(groups), _episodes(plan), tuple(notes))


def _episodes(plan: _Plan) -> Iterator[Episode]:
    with open_hdf5(plan.file, _WHAT) as file:
        for name in plan.groups:
            group = subgroup(file, name)
            with inside(f"{plan.file}: /{name}"):
                yield _our_episode(group) if INFO in group.attrs else _foreign_episode(group, name, plan)


def _described(metadata: Mapping[str, Any]) -> tuple[str, dict[str, Leaf], Leaf, bool]:
    """Name, observations, action and whether frames are JPEG, as the metadata says."""
    form = metadata.get("data_format", "hdf5")
    if form != "hdf5":
        raise DatasetError(f"data_format is {form!r}; only hdf5 is read. Minari can write the dataset again as that.")
    for wanted in ("observation_space", "action_space", "dataset_id"):
        if wanted not in metadata:
            raise DatasetError(f"{wanted} is missing, and no environment is made to find out.")
    name = plain_text(metadata["dataset_id"], "dataset_id")
    if not 0 < len(name) < 200:
        raise DatasetError(f"dataset_id has {len(name)} characters; expected 1 to 200.")
    observed = leaves(metadata["observation_space"], "observation_space")
    return name, observed, action_leaf(metadata["action_space"]), bool(metadata.get("jpeg_encoding", True))


def _episode_names(file: h5py.File, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    names = members(file)
    for name in names:
        if not re.fullmatch(r"episode_[0-9]{1,12}", name):
            raise DatasetError(f"/{name} is no episode; expected episode_<number>.")
    if not names:
        raise DatasetError("it holds no episodes.")
    if metadata.get("total_episodes") != len(names):
        raise DatasetError(f"it holds {len(names)} episodes and metadata.json says {metadata.get('total_episodes')!r}.")
    return tuple(sorted(names, key=lambda name: int(name.removeprefix("episode_"))))


def _info(group: h5py.Group) -> EpisodeInfo:
    version = attribute(group, SCHEMA)
    if version != SCHEMA_VERSION:
        raise DatasetError(f"{group.name}: schema version {version} is not readable; this reads {SCHEMA_VERSION}.")
    return EpisodeInfo.from_json(plain_text(attribute(group, INFO), INFO))


def _our_episode(group: h5py.Group) -> Episode:
    """What `write` wrote."""
    observed, infos = subgroup(group, "observations"), subgroup(group, "infos")
    whole = {key: read_leaf(observed, key, Leaf("Box"), jpeg=False) for key in members(observed)}
    ages = subgroup(infos, "age") if "age" in infos else {}
    return Episode(
        info=_info(group),
        observations={key: values[:-1] for key, values in whole.items()},
        final_observation={key: _last(values, key) for key, values in whole.items()},
        requested=_rows(infos, "action/requested"),
        sent=_rows(infos, "action/sent"),
        measured=_rows(infos, "action/measured"),
        rewards=read_array(group, "rewards"),
        tick_ns=_rows(infos, "tick_ns"),
        ages_s={key: _rows(ages, key) for key in ages},
        states=_rows(infos, "states") if "states" in infos else np.zeros((0, 0)),
        intervention=_rows(infos, "intervention") if "intervention" in infos else np.zeros(0, np.bool_),
    )


def _rows(infos: h5py.Group, name: str) -> Array:
    values = read_array(infos, name)
    if values.ndim == 0:
        raise DatasetError(f"infos/{name} is a single number; expected a row for each step.")
    return values[:-1]


def _last(values: Array, key: str) -> Array:
    if len(values) == 0:
        raise DatasetError(f"observations/{key} has no rows.")
    return np.asarray(values[-1])


def _spec(file: h5py.File, foreign: Sequence[str], action: Leaf, notes: list[str]) -> ActionSpec:
    width = action.size
    bounds = Bounds(width, action.low, action.high)
    for name in foreign:
        with inside(f"/{name}"):
            bounds.include(_actions(subgroup(file, name), action))
    if bounds.widened:
        notes.append("Some actions lie outside the action space; the bounds are widened to hold them.")
    notes.append(f"Actions keep their numbers, in units that Minari does not name. {MEASURED}")
    return bounds.spec("other", [f"action_{index}" for index in range(width)], ["as imported"] * width)


def _actions(group: h5py.Group, action: Leaf) -> Array:
    values = read_leaf(group, "actions", action, jpeg=False)
    return np.asarray(values.reshape(len(values), action.size), np.float64)


def _keys(observed: Mapping[str, Leaf], jpeg: bool, config: MinariImport, notes: list[str]) -> dict[str, str]:
    known = {name: frames_key(name) for name, leaf in observed.items() if leaf.holds_frames}
    keys = foreign_keys(list(observed), config.keys, known)
    if others := sorted(name for name, key in keys.items() if key.startswith("other_")):
        notes.append(f"Kept as other_*, their units are not known: {', '.join(others)}.")
    if any(is_rounded(leaf.dtype) for leaf in observed.values()):
        notes.append(ROUNDED)
    if jpeg and any(leaf.is_jpeg for leaf in observed.values()):
        notes.append("Minari stored the frames as JPEG, which is not what the camera saw to the last bit.")
    return keys


def _say_what_is_missing(file: h5py.File, foreign: Sequence[str], config: MinariImport, notes: list[str]) -> None:
    origin = "a guess: give --rate-hz if you know it" if config.rate_hz is None else "the rate that was given"
    notes.append(made_stamps(config.rate_hz or _GUESSED_RATE_HZ, origin))
    left_out: set[str] = set()
    for name in foreign:
        group = subgroup(file, name)
        left_out |= {item for item in members(group) if item not in ("observations", "actions", "rewards")}
        left_out |= {f"attribute {item}" for item in group.attrs if item not in ("id", "total_steps", "seed")}
    if left_out:
        notes.append(f"Left out: {', '.join(sorted(left_out))}. An episode here ends with its last row.")
    notes.append(NO_OUTCOME)


def _foreign_episode(group: h5py.Group, name: str, plan: _Plan) -> Episode:
    if plan.spec is None:
        raise DatasetError("its metadata has gone while the file was read.")
    actions = _actions(group, plan.action)
    whole = {
        plan.keys[place]: as_observation(plan.keys[place], read_leaf(group, _place(place, plan), leaf, jpeg=plan.jpeg))
        for place, leaf in plan.observed.items()
    }
    return Episode(
        info=EpisodeInfo(
            robot=plan.config.robot,
            task=plan.name,
            action_spec=plan.spec,
            rate_hz=plan.rate_hz,
            seed=_seed(group),
            provenance=f"Minari dataset {plan.name}, {name}",
        ),
        observations={key: values[:-1] for key, values in whole.items()},
        final_observation={key: _last(values, key) for key, values in whole.items()},
        requested=actions,
        sent=actions.copy(),
        measured=actions.copy(),
        rewards=np.asarray(read_array(group, "rewards", ndim=1), np.float32),
        tick_ns=made_ticks(len(actions), plan.rate_hz),
    )


def _place(name: str, plan: _Plan) -> str:
    """Where an observation lies in an episode: a space that is no Dict has no name of its own."""
    return "observations" if plan.observed[name].is_whole else f"observations/{name}"


def _seed(group: h5py.Group) -> int | None:
    if "seed" not in group.attrs:
        return None
    seed = np.asarray(attribute(group, "seed"))
    if seed.shape != () or seed.dtype.kind not in "iu":
        raise DatasetError(f"seed is {seed.tolist()!r}; expected one whole number.")
    return int(seed)
