"""What stands in robomimic's own files: the names, units and controllers of robosuite, as far as they are certain.

Owns which of their observations become ours and what is said of the rest. Nothing is guessed in silence: every stand-in
is a sentence in the notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from understudy.datasets.convert.incoming import (
    MEASURED,
    NO_OUTCOME,
    ROUNDED,
    Array,
    Bounds,
    are_frames,
    as_observation,
    foreign_keys,
    frames_key,
    inside,
    is_rounded,
    made_stamps,
    made_ticks,
    plain_text,
    require_rate,
)
from understudy.datasets.episode import Episode
from understudy.datasets.hdf5 import array, members, read, subgroup
from understudy.datasets.schema import OTHER, ActionSpec, EpisodeInfo
from understudy.errors import DatasetError

_GUESSED_RATE_HZ = 20.0
"""robosuite's own default."""
_MOST_LISTED = 3
_WORDS: Mapping[str, tuple[str, int | None]] = {
    "robot0_joint_pos": ("joint_position", None),
    "robot0_joint_vel": ("joint_velocity", None),
    "robot0_eef_pos": ("tool_position", 3),
    "robot0_eef_quat": ("tool_quaternion", 4),
}
"""robosuite's name -> our key, and how many numbers it must have. Both write quaternions xyzw."""
_FINGERS = "robot0_gripper_qpos"
_TOOL_STEP = ("x", "y", "z", "rx", "ry", "rz", "gripper")
_READ = frozenset({"actions", "rewards", "dones", "states", "obs", "next_obs"})


@dataclass(frozen=True)
class Meaning:
    """What the demos of one file mean."""

    robot: str
    task: str
    rate_hz: float
    spec: ActionSpec
    keys: Mapping[str, str]
    """Their observation -> our key."""
    fingers: str | None
    """The observation of a Panda's two fingers, which becomes an opening; None where it is kept as it is."""


def meaning_of(
    demos: Mapping[str, h5py.Group],
    environment: Mapping[str, Any],
    rate_hz: float | None,
    robot: str | None,
    renames: Mapping[str, str],
    notes: list[str],
) -> Meaning:
    """Look at every demo once, and write down in `notes` what will stand for what is not there.

    Args:
        demos: name -> group; at least one.
        environment: the file's env_args.
        rate_hz: control rate, or None for the environment's.
        robot: name of the robot, or None for the environment's.
        renames: observations whose meaning the user knows, their name -> ours.
        notes: is appended to.

    Raises:
        DatasetError: the demos differ in layout, or hold what is not read.
    """
    kwargs = environment.get("env_kwargs", {})
    if not isinstance(kwargs, dict):
        raise DatasetError(f"env_args: env_kwargs is a JSON {type(kwargs).__name__}; expected an object.")
    task = plain_text(environment.get("env_name", "unknown"), "env_args: env_name") or "unknown"
    rate_hz = _rate(kwargs, rate_hz, notes)
    spec = _spec(demos, kwargs, notes)
    keys = _keys(demos, _has_pandas_hand(kwargs), renames, notes)
    fingers = _FINGERS if keys.get(_FINGERS) == "gripper_position" and _FINGERS not in renames else None
    if fingers:
        notes.append("The gripper's opening is the distance of the two fingers; their single positions are not kept.")
    _say_what_is_missing(demos, notes)
    return Meaning(robot or _robot(kwargs), task, rate_hz, spec, keys, fingers)


def foreign_episode(demo: h5py.Group, meaning: Meaning, provenance: str) -> Episode:
    """One demo as an episode.

    Raises:
        DatasetError: its arrays do not fit together, or hold what is not finite.
    """
    actions = np.asarray(read(demo, "actions", ndim=2), np.float64)
    observations, final = _observations(demo, meaning)
    rewards = read(demo, "rewards", ndim=1) if "rewards" in demo else np.zeros(len(actions))
    return Episode(
        info=EpisodeInfo(
            robot=meaning.robot,
            task=meaning.task,
            action_spec=meaning.spec,
            rate_hz=meaning.rate_hz,
            provenance=provenance,
        ),
        observations=observations,
        final_observation=final,
        requested=actions,
        sent=actions.copy(),
        measured=actions.copy(),
        rewards=np.asarray(rewards, np.float32),
        tick_ns=made_ticks(len(actions), meaning.rate_hz),
        states=np.asarray(read(demo, "states", ndim=2), np.float64) if "states" in demo else np.zeros((0, 0)),
    )


def _robot(kwargs: Mapping[str, Any]) -> str:
    robots = kwargs.get("robots", "unknown")
    if isinstance(robots, list):
        robots = "+".join(plain_text(robot, "env_args: robots") for robot in robots)
    return plain_text(robots, "env_args: robots") or "unknown"


def _has_pandas_hand(kwargs: Mapping[str, Any]) -> bool:
    """Whether the gripper is certainly the Panda's own, whose two fingers mirror each other."""
    return _robot(kwargs) == "Panda" and kwargs.get("gripper_types", "default") in ("default", "PandaGripper", None)


def _rate(kwargs: Mapping[str, Any], given: float | None, notes: list[str]) -> float:
    declared = kwargs.get("control_freq")
    if given is not None:
        rate_hz, origin = given, "the rate that was given"
    elif isinstance(declared, int | float) and not isinstance(declared, bool):
        with inside("env_args: control_freq"):
            require_rate(declared, {})
        rate_hz, origin = float(declared), "the environment's control_freq"
    else:
        rate_hz, origin = _GUESSED_RATE_HZ, "a guess: give --rate-hz if you know it"
    notes.append(made_stamps(rate_hz, origin))
    return rate_hz


def _spec(demos: Mapping[str, h5py.Group], kwargs: Mapping[str, Any], notes: list[str]) -> ActionSpec:
    """robomimic's actions lie in [-1, 1]; what the numbers mean is known for robosuite's tool controller only."""
    width = array(next(iter(demos.values())), "actions", ndim=2).shape[1]
    bounds = Bounds(width, np.full(width, -1.0), np.full(width, 1.0))
    for name, demo in demos.items():
        with inside(f"/data/{name}"):
            bounds.include(read(demo, "actions", ndim=2))
    if bounds.widened:
        notes.append("Some actions lie outside [-1, 1]; the bounds are widened to hold them.")
    controller = kwargs.get("controller_configs")
    controller = controller if isinstance(controller, dict) else {}
    kind = plain_text(controller.get("type", "not named"), "env_args: type of the controller")
    notes.append(f"Actions keep their numbers, in the units of their controller ({kind}). {MEASURED}")
    if kind == "OSC_POSE" and controller.get("control_delta", True) is True and width == len(_TOOL_STEP):
        return bounds.spec("robosuite_osc_pose", _TOOL_STEP, ["as imported"] * width)
    return bounds.spec("other", [f"action_{index}" for index in range(width)], ["as imported"] * width)


def _keys(
    demos: Mapping[str, h5py.Group], pandas_hand: bool, renames: Mapping[str, str], notes: list[str]
) -> dict[str, str]:
    """Names of the first demo's observations, which all must have, as our keys."""
    first, *others = demos
    observed = subgroup(demos[first], "obs")
    names = members(observed)
    found = {name: array(observed, name) for name in names}
    for other in others:
        if members(subgroup(demos[other], "obs")) != names:
            raise DatasetError(f"/data/{other}/obs has other names than /data/{first}/obs ({names}).")
    keys = foreign_keys(names, renames, _known_keys(found, pandas_hand))
    if {"robot0_eef_pos", "robot0_eef_quat"} & {name for name, key in keys.items() if key.startswith("tool_")}:
        notes.append("The tool's pose is in the simulator's world frame, not in the frame of the arm's base.")
    if unknown := sorted(name for name, key in keys.items() if key.startswith(OTHER)):
        notes.append(f"Kept as other_*, their units are not known: {', '.join(unknown)}.")
    if any(is_rounded(stored.dtype) for stored in found.values()):
        notes.append(ROUNDED)
    return keys


def _known_keys(found: Mapping[str, h5py.Dataset], pandas_hand: bool) -> dict[str, str]:
    """What robosuite's names certainly mean: cameras, and the arm where there is only one."""
    known: dict[str, str] = {}
    one_arm = not any(name.startswith("robot1_") for name in found)
    for name, stored in found.items():
        width = stored.shape[1] if stored.ndim == 2 else None
        if name.endswith("_image") and are_frames(stored.dtype, stored.shape):
            known[name] = frames_key(name.removesuffix("_image"))
        elif name in _WORDS and one_arm and width is not None:
            key, wanted = _WORDS[name]
            if wanted in (None, width):
                known[name] = key
        elif name == _FINGERS and one_arm and pandas_hand and width == 2:
            known[name] = "gripper_position"  # two fingers that mirror each other, each in m from the middle
    return known


def _say_what_is_missing(demos: Mapping[str, h5py.Group], notes: list[str]) -> None:
    without: dict[str, list[str]] = {"rewards": [], "next_obs": []}
    extras: set[str] = set()
    early = 0
    for name, demo in demos.items():
        present = set(members(demo))
        extras |= present - _READ
        extras |= {f"attribute {attribute}" for attribute in set(demo.attrs) - {"num_samples"}}
        if "rewards" not in present:
            without["rewards"].append(name)
        following = members(subgroup(demo, "next_obs")) if "next_obs" in present else []
        if set(members(subgroup(demo, "obs"))) - set(following):
            without["next_obs"].append(name)
        early += "dones" in present and bool(np.any(read(demo, "dones", ndim=1)[:-1]))
    if places := without["rewards"]:
        notes.append(f"Rewards were not recorded and stand at 0 in {_listed(places)}.")
    if places := without["next_obs"]:
        notes.append(f"What was seen after the last step is not in {_listed(places)}: the last observation repeats.")
    if early:
        notes.append(f"In {early} demos a done stands before the last row; an episode here ends with its last row.")
    if extras:
        notes.append(f"Left out: {', '.join(sorted(extras))}.")
    notes.append(NO_OUTCOME)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more


def _observations(demo: h5py.Group, meaning: Meaning) -> tuple[dict[str, Array], dict[str, Array]]:
    """Ours by key, (N, ...) and (...): the latter from the last row of next_obs, or the last observation again."""
    observed = subgroup(demo, "obs")
    following = subgroup(demo, "next_obs") if "next_obs" in demo else {}
    rows: dict[str, Array] = {}
    last: dict[str, Array] = {}
    for name, key in meaning.keys.items():
        values = read(observed, name)
        if values.ndim == 0 or len(values) == 0:
            raise DatasetError(f"obs/{name} has shape {values.shape}; expected a row for each step.")
        final = values[-1:]
        if name in following:
            after = array(following, name)
            if after.shape != values.shape:
                raise DatasetError(f"next_obs/{name} has shape {after.shape} and obs/{name} {values.shape}.")
            final = np.asarray(after[-1:])
        if name == meaning.fingers:
            values, final = _opening(values), _opening(final)
        rows[key], last[key] = as_observation(key, values), as_observation(key, final)[-1]
    return rows, last


def _opening(fingers: Array) -> Array:
    """(N, 1) distance of two fingers (N, 2) that mirror each other."""
    if fingers.ndim != 2 or fingers.shape[1] != 2:
        raise DatasetError(f"obs/{_FINGERS} has shape {fingers.shape}; the first demo has two fingers.")
    return fingers[:, :1] - fingers[:, 1:]
