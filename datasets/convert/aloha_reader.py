"""Reading ALOHA's files, ours or others; `aloha.py` says what they look like."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from understudy.datasets.convert.aloha_writer import EFFORT, GRIPPER, INFO, QPOS, QVEL, SCHEMA, STEPS, WIDTHS
from understudy.datasets.convert.formats import Foreign
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
    is_rounded,
    made_stamps,
    made_ticks,
    parse_json,
    plain_text,
    require_plain_file,
    require_rate,
)
from understudy.datasets.episode import Episode
from understudy.datasets.frames import read_frames
from understudy.datasets.hdf5 import array, attribute, members, open_hdf5, subgroup
from understudy.datasets.hdf5 import read as read_array
from understudy.datasets.schema import OTHER, SCHEMA_VERSION, ActionSpec, EpisodeInfo
from understudy.errors import DatasetError

_WHAT = "ALOHA file"
_RATE_HZ = 50.0
"""Of ALOHA's hardware and of its simulation."""
_IMAGES = "images/"
_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
_ARMS = ("left", "right")
_WIDTH = len(_ARMS) * (len(_JOINTS) + 1)
_GRIPPERS = (6, 13)
"""Columns of the two grippers' openings, which ALOHA normalises to 0..1."""
_GRIPPERS_OF = "_grippers"


@dataclass(frozen=True)
class AlohaImport:
    """What ALOHA's files do not say themselves.

    Raises:
        InputError: on construction, for an impossible rate or an unknown key.
    """

    rate_hz: float | None = None
    """Control rate; None takes 50 Hz, ALOHA's own, and says so."""
    robot: str = "aloha"
    """Name of the robot."""
    task: str | None = None
    """Name of the task; None takes the folder's name."""
    shift: bool = False
    """Pair observation t with action t - 1 where `sim` is false, as ACT's loader does; the first row then has none and
    is left out."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Observations whose meaning you know: their name -> ours, as in qpos -> joint_position."""

    def __post_init__(self) -> None:
        require_rate(self.rate_hz, self.keys)


@dataclass(frozen=True)
class _Plan:
    """How the files of one folder become episodes."""

    files: tuple[Path, ...]
    keys: Mapping[str, str]
    """Observation of a file that we did not write (after `_split`) -> our key."""
    spec: ActionSpec | None
    task: str
    config: AlohaImport


def read(path: Path, config: AlohaImport) -> Foreign:
    """Open a folder of ALOHA's files, ours or its own.

    Raises:
        DatasetError: it is none, or holds what is not read; names the file and the place.
    """
    files = _files(path)
    foreign = [file for file in files if not _is_ours(file)]
    notes: list[str] = []
    task = config.task or path.resolve().name or "unknown"
    spec, keys = _survey(foreign, config, notes) if foreign else (None, {})
    robot = config.robot
    if not foreign:
        with open_hdf5(files[0], _WHAT) as opened:
            info = _info(opened)
        robot, task = info.robot, info.task
    if len(foreign) < len(files):
        notes.append(
            "From our own files: the channels that ALOHA left out repeat the one it has, stamps are made from "
            "the rate, rewards are 0 and the last observation repeats."
        )
    return Foreign(robot, task, len(files), _episodes(_Plan(files, keys, spec, task, config)), tuple(notes))


def _episodes(plan: _Plan) -> Iterator[Episode]:
    for path in plan.files:
        require_plain_file(path)
        with open_hdf5(path, _WHAT) as file:
            yield _our_episode(file) if INFO in file.attrs else _foreign_episode(file, path, plan)


def _files(path: Path) -> tuple[Path, ...]:
    """The episodes of a folder by number."""
    if not path.is_dir():
        raise DatasetError(f"{path} is no folder; expected one with episode_0.hdf5 and so on.")
    names = [file.name for file in path.iterdir() if re.fullmatch(r"episode_[0-9]{1,12}\.hdf5", file.name)]
    if not names:
        raise DatasetError(f"{path} holds no episode_<number>.hdf5.")
    files = tuple(path / name for name in sorted(names, key=lambda name: int(name[len("episode_") : -len(".hdf5")])))
    for file in files:
        require_plain_file(file)
    return files


def _is_ours(path: Path) -> bool:
    with open_hdf5(path, _WHAT) as file:
        return INFO in file.attrs


def _info(file: h5py.File) -> EpisodeInfo:
    version = attribute(file, SCHEMA)
    if version != SCHEMA_VERSION:
        raise DatasetError(f"schema version {version} is not readable; this reads {SCHEMA_VERSION}.")
    return EpisodeInfo.from_json(plain_text(attribute(file, INFO), INFO))


def _our_episode(file: h5py.File) -> Episode:
    """What `write` wrote, without the rows that only fill it up."""
    info = _info(file)
    steps = int(attribute(file, STEPS))
    widths = parse_json(plain_text(attribute(file, WIDTHS), WIDTHS), WIDTHS)
    found = {name: values[:steps] for name, values in _arrays(file).items()}
    qpos, qvel, effort = (found.pop(name, None) for name in ("qpos", "qvel", "effort"))
    if qpos is None or qpos.ndim != 2 or qvel is None or QPOS not in widths:
        raise DatasetError("/observations has no qpos and qvel as they were written.")
    joints = int(widths[QPOS])
    for key, whole in ((QPOS, qpos), (QVEL, qvel), (EFFORT, effort)):
        if key in widths and whole is not None:
            found[key] = whole[:, :joints]
    if GRIPPER in widths:
        found[GRIPPER] = qpos[:, joints:]
    return _episode(info, {_our_key(name): values for name, values in found.items()}, _action(file)[:steps])


def _our_key(name: str) -> str:
    return frames_key(name.removeprefix(_IMAGES)) if name.startswith(_IMAGES) else name


def _survey(files: Sequence[Path], config: AlohaImport, notes: list[str]) -> tuple[ActionSpec, dict[str, str]]:
    """Look at every file once, and write down in `notes` what will stand for what is not there."""
    with open_hdf5(files[0], _WHAT) as file:
        bounds, layout = Bounds(_action(file).shape[1]), _layout(file)
    sims: set[bool | None] = set()
    left_out: set[str] = set()
    for path in files:
        with open_hdf5(path, _WHAT) as file:
            _refuse_packed(file)
            found = _layout(file)
            if found != layout:
                odd = sorted({name for name, _ in set(found.items()) ^ set(layout.items())})
                raise DatasetError(f"/observations differs from that of {files[0].name} in {odd}.")
            bounds.include(_action(file))
            sims.add(_sim(file))
            left_out |= set(members(file)) - {"observations", "action"}
            left_out |= {f"attribute {name}" for name in set(file.attrs) - {"sim"}}
    keys = _keys(layout, config, notes)
    notes.append(
        made_stamps(config.rate_hz or _RATE_HZ, "the rate that was given" if config.rate_hz else "ALOHA's own")
    )
    notes.append(f"Actions keep their numbers; their bounds are the range of the data. {MEASURED}")
    if False in sims:
        rows = (
            "observation t has action t - 1, as in ACT's loader" if config.shift else "rows are as they were recorded"
        )
        notes.append(f"Recorded on hardware (sim is false), where ACT's loader shifts actions by one: here {rows}.")
    if None in sims:
        notes.append("Whether it is simulated (sim) is not said: rows are as they were recorded.")
    notes.append(
        "ALOHA has no rewards, which stand at 0, and nothing after the last action: the last observation repeats."
    )
    if left_out:
        notes.append(f"Left out: {', '.join(sorted(left_out))}.")
    notes.append(NO_OUTCOME)
    return _spec(bounds), keys


def _spec(bounds: Bounds) -> ActionSpec:
    """Of ALOHA's own fourteen numbers the names and units are known."""
    if bounds.size != _WIDTH:
        return bounds.spec("other", [f"action_{index}" for index in range(bounds.size)], ["as imported"] * bounds.size)
    labels = [f"{arm}_{joint}" for arm in _ARMS for joint in (*_JOINTS, "gripper")]
    return bounds.spec("other", labels, ["share of opening" if "gripper" in label else "rad" for label in labels])


def _keys(
    layout: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], config: AlohaImport, notes: list[str]
) -> dict[str, str]:
    names = list(layout)
    known = {
        name: frames_key(name.removeprefix(_IMAGES))
        for name, (dtype, shape) in layout.items()
        if name.startswith(_IMAGES) and are_frames(dtype, (1, *shape))
    }
    for name, key in (("qpos", QPOS), ("qvel", QVEL)):
        if layout.get(name, (None, ()))[1] == (_WIDTH,):
            known[name] = key
            names.append(name + _GRIPPERS_OF)
    keys = foreign_keys(names, config.keys, known)
    if len(names) > len(layout):
        notes.append(
            "Of ALOHA's 14 numbers the twelve joints (left, then right, rad) and the two grippers are kept apart; "
            "the grippers are shares of their opening, not m."
        )
    if unknown := sorted(name for name, key in keys.items() if key.startswith(OTHER)):
        notes.append(f"Kept as other_*, their units are not known: {', '.join(unknown)}.")
    if any(is_rounded(dtype) for dtype, _ in layout.values()):
        notes.append(ROUNDED)
    return keys


def _foreign_episode(file: h5py.File, path: Path, plan: _Plan) -> Episode:
    if plan.spec is None:
        raise DatasetError("the file was changed while it was read.")
    _refuse_packed(file)
    found = _arrays(file)
    for name in ("qpos", "qvel"):
        if name + _GRIPPERS_OF in plan.keys:
            both = found[name]
            found[name] = np.delete(both, _GRIPPERS, axis=1)
            found[name + _GRIPPERS_OF] = both[:, _GRIPPERS]
    actions = _action(file)
    if plan.config.shift and _sim(file) is False:
        actions, found = actions[:-1], {name: values[1:] for name, values in found.items()}
    info = EpisodeInfo(
        robot=plan.config.robot,
        task=plan.task,
        action_spec=plan.spec,
        rate_hz=plan.config.rate_hz or _RATE_HZ,
        provenance=f"ALOHA file {path.parent.name}/{path.name}",
    )
    return _episode(info, {key: as_observation(key, found[name]) for name, key in plan.keys.items()}, actions)


def _episode(info: EpisodeInfo, observations: Mapping[str, Array], actions: Array) -> Episode:
    """An episode of what ALOHA holds, with the stand-ins that the notes name."""
    if len(actions) == 0 or any(len(values) == 0 for values in observations.values()):
        raise DatasetError("there are no rows.")
    return Episode(
        info=info,
        observations=observations,
        final_observation={key: values[-1] for key, values in observations.items()},
        requested=actions,
        sent=actions.copy(),
        measured=actions.copy(),
        rewards=np.zeros(len(actions), np.float32),
        tick_ns=made_ticks(len(actions), info.rate_hz),
    )


def _action(file: h5py.File) -> Array:
    return np.asarray(read_array(file, "action", ndim=2), np.float64)


def _sim(file: h5py.File) -> bool | None:
    if "sim" not in file.attrs:
        return None
    sim = np.asarray(attribute(file, "sim"))
    if sim.shape != () or sim.dtype.kind not in "biu":
        raise DatasetError(f"Attribute 'sim' is {sim.tolist()!r}; expected true or false.")
    return bool(sim)


def _refuse_packed(file: h5py.File) -> None:
    if "compress" in file.attrs and bool(np.any(attribute(file, "compress"))):
        raise DatasetError(
            "its frames are packed as JPEG (attribute compress), whose order of colours is not said; "
            "unpack them with the tool that packed them."
        )


def _stored(file: h5py.File) -> dict[str, h5py.Dataset]:
    """The observations of a file: name below /observations -> array, not yet read."""
    observed = subgroup(file, "observations")
    names = [name for name in members(observed) if name != "images"]
    if "images" in observed:
        names += [_IMAGES + name for name in members(subgroup(observed, "images"))]
    found = {name: array(observed, name) for name in names}
    for name, stored in found.items():
        if stored.ndim < 2:
            raise DatasetError(f"/observations/{name} has shape {stored.shape}; expected a row of numbers a step.")
    if "qpos" not in found:
        raise DatasetError("/observations/qpos is not in the file.")
    return found


def _layout(file: h5py.File) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Name -> type and shape of one observation."""
    return {name: (stored.dtype, stored.shape[1:]) for name, stored in _stored(file).items()}


def _arrays(file: h5py.File) -> dict[str, Array]:
    return {
        name: read_frames(stored) if name.startswith(_IMAGES) else np.asarray(stored[()])
        for name, stored in _stored(file).items()
    }
