"""robomimic's HDF5 files: one file with `/data/demo_<i>` for each episode and `/mask/<split>`.

Writing keeps everything: beside what robomimic reads, each demo carries our channels in units, stamps, ages, streams
and metadata, where robomimic 0.3.0 does not look, and reading the file back gives the same episodes. Reading takes such
files and robomimic's own (`robosuite.py` knows what those mean).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from understudy.datasets.convert.formats import Foreign
from understudy.datasets.convert.incoming import inside, parse_json, plain_text, require_rate
from understudy.datasets.convert.outgoing import copy_frames, fresh, one_layout, require_room
from understudy.datasets.convert.robosuite import Meaning, foreign_episode, meaning_of
from understudy.datasets.episode import GROUP, Episode, episode_in, read_info, read_summary
from understudy.datasets.hdf5 import attribute, members, open_hdf5, read_texts, subgroup
from understudy.datasets.index import INDEX, env_args
from understudy.datasets.schema import SCHEMA_VERSION, is_image
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError

_WHAT = "robomimic file"


@dataclass(frozen=True)
class RobomimicExport:
    """How a robomimic file is written."""

    next_obs: bool = True
    """Also write what was seen after each step, as some learners want; images then take twice the room."""


@dataclass(frozen=True)
class RobomimicImport:
    """What a robomimic file does not say itself.

    Raises:
        InputError: on construction, for an impossible rate or an unknown key.
    """

    rate_hz: float | None = None
    """Control rate; None takes the environment's `control_freq`, or 20 Hz where it has none."""
    robot: str | None = None
    """Name of the robot; None takes the environment's."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Observations whose meaning you know: their name -> ours. The numbers must be in our units."""

    def __post_init__(self) -> None:
        require_rate(self.rate_hz, self.keys)


# --- writing -----------------------------------------------------------------------------------------------------


def write(dataset: Dataset, ids: Sequence[str], out: Path, config: RobomimicExport) -> tuple[str, ...]:
    """Write the episodes `ids` as one file that robomimic opens; returns what robomimic will not see.

    Raises:
        DatasetError: there are no episodes, they differ in layout, one is damaged, or `out` exists.
    """
    layout = one_layout(dataset, ids, "robomimic")
    with fresh(out) as draft, h5py.File(draft, "x") as file:
        file.attrs.update({"schema_version": SCHEMA_VERSION, "robot": dataset.robot, "task": dataset.task})
        data = file.create_group("data")
        steps = []
        for number, id in enumerate(ids):
            require_room(draft, dataset.file(id), layout, copies=2 if config.next_obs else 1)
            steps.append(_write_demo(dataset.file(id), data, f"demo_{number}", config))
            file.flush()  # so that the next look at the disk counts all of this episode
        data.attrs["total"] = sum(steps)
        data.attrs["env_args"] = json.dumps(dict(env_args(dataset.path / INDEX)))
        _write_masks(dataset, ids, file)
    losses = [
        "robomimic reads obs, next_obs, actions, rewards, dones and states; the three action channels in units, "
        "stamps, ages, streams and metadata travel in the file, where only Understudy looks.",
        f"robomimic's actions are the channel that trains, mapped to [-1, 1] from the bounds of {layout.spec.name!r}; "
        "what lay outside them is cut off there.",
        "Names of episodes are kept as an attribute; robomimic calls them demo_0, demo_1 and so on.",
        "The seal that finds damaged bytes is left out: robomimic has none.",
    ]
    if not config.next_obs:
        losses.append("next_obs is left out: open the file with load_next_obs=False.")
    return tuple(losses)


def _write_demo(source: Path, data: h5py.Group, name: str, config: RobomimicExport) -> int:
    """Copy one episode file, as it is stored, into `data`; returns its steps."""
    summary = read_summary(source, verify=True)
    with open_hdf5(source, "episode file") as file:
        subgroup(file, GROUP)
        file.copy(GROUP, data, name)
    demo = data[name]
    demo.attrs["id"] = summary.id
    if config.next_obs:
        for key in members(demo["obs"]):
            _write_next(demo, key)
    return summary.steps


def _write_next(demo: h5py.Group, key: str) -> None:
    """Write `next_obs/<key>`: the rows of `obs/<key>` from the second on, then the last observation."""
    observed, final = demo["obs"][key], demo["final_obs"][key][()]
    if not is_image(key):
        demo.create_dataset(f"next_obs/{key}", data=np.concatenate([observed[1:], final[None]]))
        return
    copy_frames(demo, f"next_obs/{key}", observed, range(1, len(observed)), final)


def _write_masks(dataset: Dataset, ids: Sequence[str], file: h5py.File) -> None:
    numbers = {id: number for number, id in enumerate(ids)}
    for split, chosen in dataset.splits().items():
        demos = [f"demo_{numbers[id]}".encode() for id in chosen if id in numbers]
        if demos:
            file.create_dataset(f"mask/{split}", data=np.array(demos))


# --- reading -----------------------------------------------------------------------------------------------------


def read(path: Path, config: RobomimicImport) -> Foreign:
    """Open a robomimic file, ours or its own.

    Raises:
        DatasetError: it is not one, or holds what is not read; names the file and the place.
    """
    notes: list[str] = []
    with open_hdf5(path, _WHAT) as file:
        data = subgroup(file, "data")
        demos = _demo_names(data)
        foreign = {name: demo for name in demos if not _is_ours(demo := subgroup(data, name))}
        meaning = None
        if foreign:
            environment = parse_json(plain_text(attribute(data, "env_args"), "env_args"), "env_args")
            meaning = meaning_of(foreign, environment, config.rate_hz, config.robot, config.keys, notes)
            robot, task = meaning.robot, meaning.task
        else:
            info = read_info(subgroup(data, demos[0]), path)
            robot, task = info.robot, info.task
        splits = _splits(file, demos)
    return Foreign(robot, task, len(demos), _episodes(path, demos, meaning), tuple(notes), splits)


def _episodes(path: Path, demos: Sequence[str], meaning: Meaning | None) -> Iterator[Episode]:
    with open_hdf5(path, _WHAT) as file:
        data = subgroup(file, "data")
        for name in demos:
            demo = subgroup(data, name)
            with inside(f"{path}: /data/{name}"):
                if _is_ours(demo):
                    yield episode_in(demo, read_info(demo, path))
                elif meaning is None:
                    raise DatasetError("the file was changed while it was read.")
                else:
                    yield foreign_episode(demo, meaning, f"robomimic file {path.name}, {name}")


def _demo_names(data: h5py.Group) -> tuple[str, ...]:
    """Names of the demos by number."""
    names = members(data)
    for name in names:
        if not re.fullmatch(r"demo_[0-9]{1,12}", name):
            raise DatasetError(f"/data/{name} is no demo; expected demo_<number>.")
    if not names:
        raise DatasetError("/data holds no demos.")
    return tuple(sorted(names, key=lambda name: int(name.removeprefix("demo_"))))


def _is_ours(demo: h5py.Group) -> bool:
    return "info" in demo.attrs and "schema_version" in demo.attrs


def _splits(file: h5py.File, demos: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Split name -> numbers of its episodes."""
    if "mask" not in file:
        return {}
    masks, numbers = subgroup(file, "mask"), {name: number for number, name in enumerate(demos)}
    return {
        split: tuple(numbers[demo] for demo in read_texts(masks, split) if demo in numbers) for split in members(masks)
    }
