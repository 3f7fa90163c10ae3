"""One episode in memory, validated on construction, and its HDF5 form (group `/episode` of a file).

An episode has N steps. Row k of every array belongs to tick k: the observation then, the action decided on it, the
reward it earned. `final_observation` is what was seen one tick after the last action.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from understudy.datasets.schema import CHANNELS, SCHEMA_VERSION, Channel, EpisodeInfo, is_image, key_unit
from understudy.errors import DatasetError

Array = NDArray[Any]
GROUP = "episode"
"""Name of the group inside an episode file that the index links to as `/data/demo_<i>`."""


@dataclass(frozen=True)
class Episode:
    """A validated episode of N steps.

    Raises:
        DatasetError: on construction, when lengths disagree, values are not finite, or stamps do not increase.
    """

    info: EpisodeInfo
    observations: Mapping[str, Array]
    """Key -> (N, ...)."""
    final_observation: Mapping[str, Array]
    """Key -> (...), one tick after the last action."""
    requested: Array
    """(N, A) what the operator or policy asked for, in the units of `info.action_spec`."""
    sent: Array
    """(N, A) what went to the arm after the Guard, same units."""
    measured: Array
    """(N, A) what the arm did until the next observation, same units."""
    rewards: Array
    """(N,)"""
    tick_ns: Array
    """(N,) int64, monotonic clock, ns, strictly increasing."""
    ages_s: Mapping[str, Array] = field(default_factory=dict)
    """Key -> (N,) how old each observation was at its tick, s."""
    states: Array = field(default_factory=lambda: np.zeros((0, 0), np.float64))
    """(N, D) simulator state, or an empty array where there is no simulator."""

    def __post_init__(self) -> None:
        steps = len(self.tick_ns)
        if steps == 0:
            raise DatasetError("Episode has no steps; expected at least one.")
        width = self.info.action_spec.size
        for channel in CHANNELS:
            array = self.channel(channel)
            if array.shape != (steps, width):
                raise DatasetError(
                    f"Action channel {channel!r} has shape {array.shape}; expected ({steps}, {width}) for "
                    f"{self.info.action_spec.name!r}."
                )
            _require_finite(f"action/{channel}", array)
        _require_shape("rewards", self.rewards, (steps,))
        _require_finite("rewards", self.rewards)
        if steps > 1 and not np.all(np.diff(self.tick_ns) > 0):
            row = int(np.argmin(np.diff(self.tick_ns) > 0))
            raise DatasetError(f"Tick stamps must increase; row {row + 1} does not come after row {row}.")
        if set(self.final_observation) != set(self.observations):
            odd = sorted(set(self.final_observation) ^ set(self.observations))
            raise DatasetError(f"The final observation must have the keys of the observations; these differ: {odd}.")
        for key, values in self.observations.items():
            key_unit(key)
            _require_shape(key, values, (steps, *np.shape(self.final_observation[key])))
            if is_image(key):
                _require_frames(key, values)
            else:
                _require_finite(f"obs/{key}", values)
                _require_finite(f"final_obs/{key}", np.asarray(self.final_observation[key]))
        for key, ages in self.ages_s.items():
            _require_shape(f"age/{key}", ages, (steps,))
            _require_finite(f"age/{key}", ages)
        if self.states.size:
            _require_shape("states", self.states, (steps, self.states.shape[-1]))

    def __len__(self) -> int:
        return len(self.tick_ns)

    def channel(self, name: Channel) -> Array:
        """An action channel (N, A) in units."""
        return {"requested": self.requested, "sent": self.sent, "measured": self.measured}[name]

    @property
    def actions(self) -> NDArray[np.float32]:
        """(N, A) the training channel, normalised to [-1, 1]."""
        return self.info.action_spec.normalise(self.channel(self.info.actions))

    @property
    def return_(self) -> float:
        """Sum of rewards."""
        return float(np.sum(self.rewards))


def _require_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if np.shape(array) != shape:
        raise DatasetError(f"{name} has shape {np.shape(array)}; expected {shape}.")


def _require_finite(name: str, array: Array) -> None:
    finite = np.isfinite(array)
    if not np.all(finite):
        row = int(np.argwhere(~np.atleast_1d(finite))[0][0])
        raise DatasetError(f"{name} has a value that is not finite at row {row}.")


def _require_frames(key: str, frames: Array) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise DatasetError(
            f"obs/{key} is {frames.dtype} of shape {frames.shape}; camera frames must be uint8 (N, height, width, 3)."
        )


def checksum(group: h5py.Group) -> str:
    """SHA-256 over the names, types, shapes and bytes of every array below `group`, in name order."""
    digest = hashlib.sha256()
    names: list[str] = []
    group.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    for name in sorted(names):
        array = np.ascontiguousarray(group[name][()])
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    digest.update(str(group.attrs.get("info", "")).encode())
    return digest.hexdigest()


def write_derived(group: h5py.Group, info: EpisodeInfo, requested: Array, sent: Array, measured: Array) -> None:
    """Write what robomimic needs and what follows from the rest: `actions`, `dones`, attributes and checksum.

    Called last, when every other array of the episode is in place.
    """
    steps = len(requested)
    chosen = {"requested": requested, "sent": sent, "measured": measured}[info.actions]
    group.create_dataset("actions", data=info.action_spec.normalise(chosen))
    dones = np.zeros(steps, np.uint8)
    dones[-1] = 1
    group.create_dataset("dones", data=dones)
    group.attrs["num_samples"] = steps
    group.attrs["schema_version"] = SCHEMA_VERSION
    group.attrs["info"] = info.to_json()
    group.attrs["checksum"] = checksum(group)


def write_episode(path: Path, episode: Episode) -> None:
    """Write a whole episode into a new file at `path` (the recorder writes the same layout step by step)."""
    with h5py.File(path, "x") as file:
        group = file.create_group(GROUP)
        for channel in CHANNELS:
            group.create_dataset(f"action/{channel}", data=np.asarray(episode.channel(channel), np.float64))
        group.create_dataset("rewards", data=np.asarray(episode.rewards, np.float32))
        group.create_dataset("stamps/tick", data=np.asarray(episode.tick_ns, np.int64))
        group.create_dataset("states", data=episode.states if episode.states.size else np.zeros((len(episode), 0)))
        for key, values in episode.observations.items():
            group.create_dataset(f"obs/{key}", data=values, **image_storage(key, values.shape[1:]))
        for key, value in episode.final_observation.items():
            group.create_dataset(f"final_obs/{key}", data=value)
        for key, ages in episode.ages_s.items():
            group.create_dataset(f"age/{key}", data=np.asarray(ages, np.float32))
        write_derived(group, episode.info, episode.requested, episode.sent, episode.measured)


def image_storage(key: str, frame: tuple[int, ...]) -> dict[str, Any]:
    """HDF5 storage options of an observation: camera frames one chunk each, lightly compressed."""
    if not is_image(key):
        return {}
    return {"chunks": (1, *frame), "compression": "gzip", "compression_opts": 1, "shuffle": False}


def read_info(group: h5py.Group, path: Path) -> EpisodeInfo:
    """The metadata of an episode group, refusing unknown schema versions by number."""
    version = group.attrs.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DatasetError(
            f"{path}: episode schema version {version} is not readable by this software, which reads "
            f"version {SCHEMA_VERSION}; update Understudy or convert the file."
        )
    return EpisodeInfo.from_json(str(group.attrs["info"]))


def read_episode(path: Path, *, verify: bool = True, images: bool = True) -> Episode:
    """Read and validate one episode file.

    Args:
        path: a file under `episodes/`.
        verify: compare the stored checksum with the content.
        images: False leaves camera frames out.

    Raises:
        DatasetError: missing, unreadable, of an unknown schema version, or damaged; names the file.
    """
    if not path.is_file():
        raise DatasetError(f"Episode file {path} does not exist.")
    try:
        with h5py.File(path, "r") as file:
            group = file[GROUP]
            info = read_info(group, path)
            if verify and checksum(group) != group.attrs["checksum"]:
                raise DatasetError(
                    f"{path}: content does not match its checksum, so the file was damaged or edited; "
                    "restore it from a copy, or drop it: understudy dataset check --drop."
                )
            keys = [key for key in group["obs"] if images or not is_image(key)]
            return Episode(
                info=info,
                observations={key: group["obs"][key][()] for key in keys},
                final_observation={key: group["final_obs"][key][()] for key in keys},
                requested=group["action/requested"][()],
                sent=group["action/sent"][()],
                measured=group["action/measured"][()],
                rewards=group["rewards"][()],
                tick_ns=group["stamps/tick"][()],
                ages_s={key: group["age"][key][()] for key in group.get("age", {}) if key in keys},
                states=group["states"][()],
            )
    except DatasetError as error:
        message = str(error)
        raise DatasetError(message if str(path) in message else f"{path}: {message}") from error
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError) as error:
        raise DatasetError(
            f"{path}: not a readable episode file ({error}). Restore it from a copy, or take it out with "
            f"`understudy dataset drop {path.parent.parent} {path.stem}`."
        ) from error
