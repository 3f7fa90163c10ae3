"""Writing ALOHA's files from our episodes; `aloha.py` says what they look like."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from understudy.datasets.convert.incoming import Array
from understudy.datasets.convert.outgoing import Layout, copy_frames, fresh, one_layout, require_room
from understudy.datasets.episode import GROUP, Episode
from understudy.datasets.hdf5 import array, open_hdf5, subgroup
from understudy.datasets.schema import SCHEMA_VERSION, ActionSpec, Channel, is_image
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError

INFO, SCHEMA = "understudy_info", "understudy_schema_version"
STEPS, WIDTHS = "understudy_steps", "understudy_widths"
"""How many rows are no padding, and how many numbers of each of our keys went into qpos, qvel and effort."""
QPOS, QVEL, EFFORT, GRIPPER = ARM = ("joint_position", "joint_velocity", "joint_effort", "gripper_position")
"""Our keys that go into ALOHA's three arrays."""


@dataclass(frozen=True)
class AlohaExport:
    """How ALOHA's files are written."""

    pad: bool = False
    """Make all episodes as long as the longest, as ACT's own loader wants them; the end of the shorter ones stands
    still."""
    channel: Channel | None = None
    """Action channel to write; None takes the one that trains."""


def write(dataset: Dataset, ids: Sequence[str], out: Path, config: AlohaExport) -> tuple[str, ...]:
    """Write the episodes `ids` as a folder of ALOHA's files; returns what they cannot hold.

    Raises:
        DatasetError: there are no episodes, they differ in layout or have no joint positions, one is damaged, or `out`
            exists.
    """
    layout = one_layout(dataset, ids, "ACT")
    if QPOS not in layout.keys:
        raise DatasetError(f"{dataset.path}: there is no {QPOS}, which ALOHA calls qpos; it cannot be exported there.")
    for key in ARM:
        if key in layout.keys and len(layout.keys[key][1]) != 1:
            raise DatasetError(f"{dataset.path}: {key} has shape {layout.keys[key][1]}; ALOHA keeps rows of numbers.")
    lengths = {id: dataset.summary(id).steps for id in ids}
    longest = max(lengths.values()) if config.pad else None
    streams: set[str] = set()
    with_states = with_interventions = False
    with fresh(out) as draft:
        draft.mkdir()
        for number, id in enumerate(ids):
            episode = dataset.read(id, images=False)
            streams |= set(episode.streams)
            with_states |= bool(episode.states.size)
            with_interventions |= bool(np.any(episode.intervention))
            more = 0 if longest is None else longest - len(episode)
            require_room(draft, dataset.file(id), layout, more)
            with h5py.File(draft / f"episode_{number}.hdf5", "x") as file:
                _write_episode(file, episode, config.channel or episode.info.actions, more)
                _copy_cameras(file, dataset.file(id), layout.cameras, more)
    losses = _losses(layout, config, len(set(lengths.values())) > 1)
    if with_states:
        losses.append("The simulator's states are left out.")
    if with_interventions:
        losses.append("Which steps a person drove in a policy's place is left out.")
    if streams:
        losses.append(f"Samples at native rate are left out: {', '.join(sorted(streams))}.")
    if splits := dataset.splits():
        losses.append(f"Splits are left out: {', '.join(sorted(splits))}.")
    return tuple(losses)


def _write_episode(file: h5py.File, episode: Episode, channel: Channel, more: int) -> None:
    """Write the numbers of one episode, and the last row `more` times again."""
    file.attrs["sim"] = True
    file.attrs.update({SCHEMA: SCHEMA_VERSION, INFO: episode.info.to_json(), STEPS: len(episode)})
    observed = file.create_group("observations")
    seen = episode.observations
    widths = {key: int(seen[key].shape[1]) for key in ARM if key in seen}
    file.attrs[WIDTHS] = json.dumps(widths)
    gripper = [seen[GRIPPER]] if GRIPPER in seen else []
    still = [np.zeros_like(values) for values in gripper]
    observed.create_dataset("qpos", data=_repeated(np.hstack([seen[QPOS], *gripper]), more))
    speed = seen.get(QVEL, np.zeros_like(seen[QPOS]))
    observed.create_dataset("qvel", data=_repeated(np.hstack([speed, *still]), more))
    if EFFORT in seen:
        observed.create_dataset("effort", data=_repeated(np.hstack([seen[EFFORT], *still]), more))
    for key, values in seen.items():
        if key not in ARM:
            observed.create_dataset(key, data=_repeated(values, more))
    actions = np.asarray(episode.channel(channel), np.float32)
    rest = np.where(_stand_still(episode.info.action_spec), 0.0, actions[-1]).astype(np.float32)
    file.create_dataset("action", data=np.concatenate([actions, np.tile(rest, (more, 1))]))


def _copy_cameras(file: h5py.File, source: Path, cameras: Sequence[str], more: int) -> None:
    """Copy the frames of an episode file, the last one `more` times again."""
    images = file.create_group("observations/images")
    with open_hdf5(source, "episode file") as opened:
        for key in cameras:
            stored = array(subgroup(opened, GROUP), f"obs/{key}")
            rows = [*range(len(stored)), *[len(stored) - 1] * more]
            copy_frames(images, key.removeprefix("image_"), stored, rows)


def _repeated(values: Array, more: int) -> Array:
    """Values (N, ...) with the last row `more` times again."""
    return np.concatenate([values, np.repeat(values[-1:], more, axis=0)]) if more else values


def _stand_still(spec: ActionSpec) -> Array:
    """(A,) which numbers must be 0 for the arm to stand still: steps and velocities; others keep their value."""
    moves = spec.name.endswith(("_delta", "_velocity"))
    return np.array([moves and "gripper" not in label for label in spec.labels])


def _losses(layout: Layout, config: AlohaExport, lengths_differ: bool) -> list[str]:
    spec, keys = layout.spec, layout.keys
    losses = [
        f"Of the three action channels only {config.channel or 'the one that trains'} is kept, as float32.",
        "Stamps and ages are left out: ALOHA's rows stand for an even rate.",
        "Rewards are left out.",
        "What was seen after the last action is left out.",
        "sim is written as true on every robot: ACT's loader then pairs each action with the observation it was "
        "decided on, as here, instead of the one after it.",
        "Metadata stands in an attribute that ACT does not read.",
        "Names and checksums of episodes are left out: ALOHA has none.",
    ]
    if spec.name != "joint_position":
        losses.append(f"action holds {spec.name} in units; ALOHA's own are positions of the joints to go to.")
    if QVEL not in keys:
        losses.append("qvel was not recorded and is zero.")
    elif GRIPPER in keys:
        losses.append("The gripper's speed was not recorded and is zero in qvel.")
    if EFFORT not in keys:
        losses.append("effort was not recorded and is left out.")
    elif GRIPPER in keys:
        losses.append("The gripper's effort was not recorded and is zero in effort.")
    others = sorted(key for key in keys if not is_image(key) and key not in ARM)
    if others:
        losses.append(f"ACT does not read these observations, which lie beside qpos: {', '.join(others)}.")
    if not layout.cameras:
        losses.append("There is no camera, and ACT learns from images: its loader needs at least one.")
    if lengths_differ and config.pad:
        losses.append(
            "Shorter episodes are as long as the longest: their last row repeats, with an action that stands still."
        )
    elif lengths_differ:
        losses.append("Episodes differ in length, and ACT's own loader wants one length: export with --pad.")
    return losses
