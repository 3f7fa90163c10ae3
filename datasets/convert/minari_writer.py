"""Writing Minari datasets: `<root>/<namespace>/<name>-v<k>/data/` with `metadata.json` and `main_data.hdf5`.

The result is what Minari 0.5.4 writes itself, with frames stored without loss. What an environment's `info` would say
(the action channels in units, stamps, ages, simulator states) stands in `infos`, and the metadata of an episode in its
attributes, so that reading it back gives the same episodes but for what `write` lists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from understudy.datasets.convert.minari_spaces import space_of, space_of_actions
from understudy.datasets.convert.outgoing import Layout, copy_frames, fresh, one_layout, require_room
from understudy.datasets.episode import GROUP, Episode
from understudy.datasets.hdf5 import array, open_hdf5, subgroup
from understudy.datasets.hdf5 import read as read_array
from understudy.datasets.schema import CHANNELS, SCHEMA_VERSION
from understudy.datasets.store import Dataset
from understudy.errors import InputError

INFO, SCHEMA = "understudy_info", "understudy_schema_version"
"""Attributes of an episode that we wrote."""
_WRITTEN_AS = "0.5.4"
"""The Minari release whose layout is written; the first that may store frames without JPEG."""
_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_-]*/)*[A-Za-z0-9_][A-Za-z0-9_-]*-v[0-9]{1,6}")
_ENDINGS = ("terminations", "truncations")


@dataclass(frozen=True)
class MinariExport:
    """How a Minari dataset is written.

    Raises:
        InputError: on construction, for a name that Minari would not read.
    """

    dataset_id: str | None = None
    """Minari's name for it, as in "lab/lift-v0"; None makes understudy/<task>-v0."""

    def __post_init__(self) -> None:
        if self.dataset_id is not None and not _NAME.fullmatch(self.dataset_id):
            raise InputError(
                f"dataset_id is {self.dataset_id!r}; expected letters, digits, - and _, then -v and a number, as in "
                "lab/lift-v0."
            )


def write(dataset: Dataset, ids: Sequence[str], out: Path, config: MinariExport) -> tuple[str, ...]:
    """Write the episodes `ids` as a Minari dataset below the folder `out` (Minari's MINARI_DATASETS_PATH).

    Returns what Minari cannot hold.

    Raises:
        DatasetError: there are no episodes, they differ in layout, one is damaged, or the dataset exists.
    """
    layout = one_layout(dataset, ids, "Minari")
    name = config.dataset_id or f"understudy/{re.sub(r'[^0-9A-Za-z_-]+', '_', dataset.task) or 'task'}-v0"
    streams: set[str] = set()
    steps, operators = 0, set()
    with fresh(out / name) as draft:
        folder = draft / "data"
        folder.mkdir(parents=True)
        with h5py.File(folder / "main_data.hdf5", "x", track_order=True) as file:
            for number, id in enumerate(ids):
                require_room(folder / "main_data.hdf5", dataset.file(id), layout)
                episode = dataset.read(id, images=False)
                group = file.create_group(f"episode_{number}")
                _write_episode(group, number, id, episode)
                _copy_cameras(group, dataset.file(id), layout.cameras)
                file.flush()  # so that the next look at the disk counts all of this episode
                streams |= set(episode.streams)
                operators.add(episode.info.operator)
                steps += len(episode)
        metadata = _metadata(name, layout, dataset, len(ids), steps, operators)
        metadata["dataset_size"] = round((folder / "main_data.hdf5").stat().st_size / 1e6, 1)
        (folder / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    _write_namespaces(out, name)
    return _losses(dataset, layout, streams)


def _write_episode(group: h5py.Group, number: int, id: str, episode: Episode) -> None:
    info = episode.info
    group.attrs.update({"id": number, "total_steps": len(episode)})
    if info.seed is not None:
        group.attrs["seed"] = info.seed
    group.attrs.update({SCHEMA: SCHEMA_VERSION, INFO: info.to_json(), "understudy_id": id})
    observed = group.create_group("observations")
    for key, values in episode.observations.items():
        final = np.asarray(episode.final_observation[key])
        observed.create_dataset(key, data=np.concatenate([values, final[None]]))
    group.create_dataset("actions", data=episode.actions)
    group.create_dataset("rewards", data=episode.rewards)
    for name, ends in zip(_ENDINGS, (info.success is True, info.success is not True), strict=True):
        flags = np.zeros(len(episode), np.bool_)
        flags[-1] = ends
        group.create_dataset(name, data=flags)
    infos = {f"action/{channel}": episode.channel(channel) for channel in CHANNELS}
    infos.update({f"age/{key}": ages for key, ages in episode.ages_s.items()})
    infos["tick_ns"] = episode.tick_ns
    if episode.states.size:
        infos["states"] = episode.states
    if episode.intervention.size:
        infos["intervention"] = episode.intervention
    for name, values in infos.items():
        _write_info(group, name, values)


def _copy_cameras(group: h5py.Group, source: Path, cameras: Sequence[str]) -> None:
    """Copy the frames of an episode file, and how old they were."""
    with open_hdf5(source, "episode file") as file:
        episode = subgroup(file, GROUP)
        for key in cameras:
            stored = array(episode, f"obs/{key}")
            final = read_array(episode, f"final_obs/{key}")
            copy_frames(group, f"observations/{key}", stored, range(len(stored)), final)
            if f"age/{key}" in episode:
                _write_info(group, f"age/{key}", read_array(episode, f"age/{key}"))


def _write_info(group: h5py.Group, name: str, values: NDArray[Any]) -> None:
    """Store values (T, ...) as Minari's infos, which have one row more."""
    group.create_dataset(f"infos/{name}", data=np.concatenate([values, values[-1:]]))


def _metadata(
    name: str, layout: Layout, dataset: Dataset, episodes: int, steps: int, operators: set[str]
) -> dict[str, Any]:
    return {
        "total_episodes": episodes,
        "total_steps": steps,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "observation_space": json.dumps(space_of(layout.keys)),
        "action_space": json.dumps(space_of_actions(layout.spec.size)),
        "dataset_id": name,
        "minari_version": _WRITTEN_AS,
        "author": sorted(operators),
        "description": f"Demonstrations of {dataset.task} on {dataset.robot}. Actions are {layout.spec.name}, mapped "
        "to [-1, 1]; infos/action holds them in units.",
    }


def _write_namespaces(root: Path, name: str) -> None:
    """Minari lists a folder as a namespace when it has this file."""
    parts = name.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        file = root.joinpath(*parts[:depth], "namespace_metadata.json")
        if not file.exists():
            file.write_text("{}", encoding="utf-8")


def _losses(dataset: Dataset, layout: Layout, streams: set[str]) -> tuple[str, ...]:
    losses = [
        f"Minari's actions are the channel that trains, mapped to [-1, 1] from the bounds of {layout.spec.name!r}; "
        "what lay outside them is cut off there, and whole in infos/action.",
        "Minari asks how an episode ended: a success is written as terminated, every other one as truncated.",
        "infos have one row more than there are steps; the last repeats the one before it.",
        "There is no gymnasium environment to make again: recover_environment does not work.",
        "Checksums are left out: Minari has none.",
    ]
    if layout.cameras:
        losses.append("Frames are stored without loss, which needs Minari 0.5.4 or newer to read.")
    if streams:
        losses.append(f"Samples at native rate are left out: {', '.join(sorted(streams))}.")
    if splits := dataset.splits():
        losses.append(f"Splits are left out: {', '.join(sorted(splits))}.")
    return tuple(losses)
