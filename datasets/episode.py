"""One episode in memory, validated on construction, and its HDF5 form (group `/episode` of a sealed file).

An episode has N steps. Row k of every array belongs to tick k: the observation then, the action decided on it, the
reward it earned. `final_observation` is what was seen one tick after the last action.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from understudy.datasets.frames import frame_storage, pack_frame, put_frame, read_frames
from understudy.datasets.hdf5 import array, attribute, members, open_hdf5, read, subgroup
from understudy.datasets.schema import CHANNELS, SCHEMA_VERSION, Channel, EpisodeInfo, is_image, key_unit
from understudy.datasets.seal import Seal, block_for, read_seal, verify_seal, write_seal
from understudy.errors import DatasetError

Array = NDArray[Any]
GROUP = "episode"
"""Name of the group inside an episode file that the index links to as `/data/demo_<i>`."""

_HASHED_AT_ONCE = 8 << 20
"""Bytes of an array that are in memory while it is hashed."""


@dataclass(frozen=True)
class Stream:
    """Samples of one source at its own rate, kept beside the episode under `streams/<name>`."""

    stamps_ns: NDArray[np.int64]
    """(S,) as they came: a clock that was set back shows here."""
    values: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """(S, ...)"""
    receives_ns: NDArray[np.int64] | None = None
    """(S,) when they came, on the recorder's clock; None where that was not kept."""

    def __post_init__(self) -> None:
        if self.receives_ns is not None and self.receives_ns.shape != self.stamps_ns.shape:
            raise DatasetError(
                f"A stream has stamps of shape {self.stamps_ns.shape} and receive stamps of {self.receives_ns.shape}."
            )
        if self.stamps_ns.ndim != 1 or len(self.values) != len(self.stamps_ns):
            raise DatasetError(
                f"A stream has stamps of shape {self.stamps_ns.shape} and values of shape {self.values.shape}; "
                "expected one stamp for each value."
            )


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
    streams: Mapping[str, Stream] = field(default_factory=dict)
    """Name -> samples at their native rate."""
    intervention: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    """(N,) whether a person acted there in a policy's place, or an empty array where that was not recorded."""

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
        _require_finite("rewards", self.rewards, np.float32)
        if self.tick_ns.dtype != np.int64:
            raise DatasetError(f"Tick stamps are {self.tick_ns.dtype}; expected int64, in ns.")
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
            key_unit(key)
            _require_shape(f"age/{key}", ages, (steps,))
            _require_finite(f"age/{key}", ages, np.float32)
        if self.states.size:
            _require_shape("states", self.states, (steps, self.states.shape[-1]))
            _require_finite("states", self.states)
        if self.intervention.size:
            _require_shape("intervention", self.intervention, (steps,))
            if self.intervention.dtype != np.bool_:
                raise DatasetError(
                    f"intervention holds {self.intervention.dtype}; expected true or false for each step."
                )
        for name in self.streams:
            if not name or "/" in name or "\0" in name or name == ".":
                raise DatasetError(f"{name!r} cannot name a stream: it must not be empty or contain '/'.")

    def __len__(self) -> int:
        return len(self.tick_ns)

    def channel(self, name: Channel) -> Array:
        """An action channel (N, A) in units."""
        return {"requested": self.requested, "sent": self.sent, "measured": self.measured}[name]

    def first(self, steps: int) -> Episode:
        """Its first steps as an episode, without the streams at their own rates.

        Raises:
            DatasetError: `steps` is not from 1 to its length.
        """
        if not 1 <= steps <= len(self):
            raise DatasetError(f"An episode of {len(self)} steps has from 1 to {len(self)} first ones, not {steps}.")
        if steps == len(self):
            return dataclasses.replace(self, streams={})
        arrays = (*CHANNELS, "rewards", "tick_ns", "states", "intervention")
        begun = {name: getattr(self, name)[:steps] for name in arrays}
        return dataclasses.replace(
            self,
            observations={key: values[:steps] for key, values in self.observations.items()},
            final_observation={key: values[steps] for key, values in self.observations.items()},
            ages_s={key: ages[:steps] for key, ages in self.ages_s.items()},
            streams={},
            **begun,
        )

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


def _require_finite(name: str, array: Array, stored: type[np.generic] | None = None) -> None:
    """Refuse what is not finite, or would not be as the type it is stored in."""
    if array.dtype.kind not in "biuf":
        raise DatasetError(f"{name} holds {array.dtype}; expected numbers.")
    with np.errstate(over="ignore"):
        finite = np.isfinite(array if stored is None else array.astype(stored))
    if not np.all(finite):
        row = int(np.argwhere(~np.atleast_1d(finite))[0][0])
        raise DatasetError(f"{name} has a value that is not finite at row {row}.")


def _require_frames(key: str, frames: Array) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise DatasetError(
            f"obs/{key} is {frames.dtype} of shape {frames.shape}; camera frames must be uint8 (N, height, width, 3)."
        )


def content_checksum(group: h5py.Group, known: Mapping[str, str] | None = None) -> str:
    """SHA-256 over the names, types, shapes and bytes of every array below `group`, in name order.

    It says which demonstration this is, however it is stored and labelled.

    Args:
        group: an episode.
        known: name -> SHA-256 of an array's bytes, where the writer has it already.
    """
    digest = hashlib.sha256()
    names: list[str] = []
    group.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    for name in sorted(names):
        stored = group[name]
        content = (known or {}).get(name) or _content_digest(stored)
        digest.update(f"{name}|{stored.dtype.str}|{stored.shape}|{content}|".encode())
    return digest.hexdigest()


def _content_digest(stored: h5py.Dataset) -> str:
    """SHA-256 of an array's bytes, a block of rows in memory at a time."""
    if stored.ndim == 0:
        return hashlib.sha256(np.asarray(stored[()]).tobytes()).hexdigest()
    digest = hashlib.sha256()
    row_bytes = max(1, stored.dtype.itemsize * int(np.prod(stored.shape[1:])))
    rows = max(1, _HASHED_AT_ONCE // row_bytes)
    for start in range(0, len(stored), rows):
        digest.update(np.ascontiguousarray(read_frames(stored, start, start + rows)).tobytes())
    return digest.hexdigest()


def write_derived(
    group: h5py.Group, info: EpisodeInfo, channels: Mapping[Channel, Array], known: Mapping[str, str] | None = None
) -> None:
    """Write what robomimic needs and what follows from the rest: `actions`, `dones`, attributes and checksum.

    Called last, when every other array of the episode is in place; `known` is for `content_checksum`.
    """
    steps = len(channels[info.actions])
    group.create_dataset("actions", data=info.action_spec.normalise(channels[info.actions]))
    dones = np.zeros(steps, np.uint8)
    dones[-1] = 1
    group.create_dataset("dones", data=dones)
    group.attrs["num_samples"] = steps
    group.attrs["schema_version"] = SCHEMA_VERSION
    group.attrs["content_checksum"] = content_checksum(group, known)
    write_info(group, info)


def write_info(group: h5py.Group, info: EpisodeInfo) -> None:
    """Write the metadata of a complete episode, and its checksum: that of the arrays and the metadata together."""
    group.attrs["info"] = info.to_json()
    text = f"{group.attrs['content_checksum']}|{group.attrs['info']}"
    group.attrs["checksum"] = hashlib.sha256(text.encode()).hexdigest()


def create_episode_file(path: Path, info: EpisodeInfo) -> h5py.File:
    """A new file with room in front for the seal of an episode with this metadata."""
    return h5py.File(path, "x", userblock_size=block_for({"info": dataclasses.asdict(info), "keys": "x" * _KEYS_ROOM}))


_KEYS_ROOM = 2048
"""Bytes set aside for the names and shapes of the observations."""


def seal_episode(path: Path) -> None:
    """Seal a closed file that holds a complete episode.

    Raises:
        DatasetError: it does not.
        OSError: the disk fails.
    """
    with open_hdf5(path, "episode file") as file:
        group, block = subgroup(file, GROUP), int(file.userblock_size)
        final = group["final_obs"]
        facts = {
            "kind": "episode",
            "schema_version": SCHEMA_VERSION,
            "steps": int(group.attrs["num_samples"]),
            "checksum": str(group.attrs["checksum"]),
            "content_checksum": str(group.attrs["content_checksum"]),
            "keys": {key: [final[key].dtype.str, list(final[key].shape)] for key in members(final)},
            "info": dataclasses.asdict(read_info(group, path)),
        }
    write_seal(path, facts, block)


def write_episode(path: Path, episode: Episode) -> None:
    """Write a whole episode into a new, sealed file at `path` (the recorder writes the same layout step by step)."""
    with create_episode_file(path, episode.info) as file:
        group = file.create_group(GROUP)
        channels = {channel: np.asarray(episode.channel(channel), np.float64) for channel in CHANNELS}
        for channel, values in channels.items():
            group.create_dataset(f"action/{channel}", data=values)
        group.create_dataset("rewards", data=np.asarray(episode.rewards, np.float32))
        group.create_dataset("stamps/tick", data=np.asarray(episode.tick_ns, np.int64))
        group.create_dataset("states", data=episode.states if episode.states.size else np.zeros((len(episode), 0)))
        known = {f"obs/{key}": _write_observation(group, key, values) for key, values in episode.observations.items()}
        if episode.intervention.size:
            group.create_dataset("intervention", data=episode.intervention)
        for key, value in episode.final_observation.items():
            group.create_dataset(f"final_obs/{key}", data=value)
        for key, ages in episode.ages_s.items():
            group.create_dataset(f"age/{key}", data=np.asarray(ages, np.float32))
        write_streams(group, episode.streams)
        write_derived(group, episode.info, channels, known)
    seal_episode(path)


def _write_observation(group: h5py.Group, key: str, values: Array) -> str:
    """Store an observation (N, ...) and return the SHA-256 of its bytes."""
    if not is_image(key):
        stored = group.create_dataset(f"obs/{key}", data=values)
        return _content_digest(stored)
    stored = group.create_dataset(f"obs/{key}", values.shape, np.uint8, **frame_storage(values.shape[1:]))
    digest = hashlib.sha256()
    for row, frame in enumerate(values):
        put_frame(stored, row, pack_frame(frame))
        digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()


def write_streams(group: h5py.Group, streams: Mapping[str, Stream]) -> None:
    """Store native-rate samples below `streams/`."""
    for name, stream in streams.items():
        group.create_dataset(f"streams/{name}/stamp", data=np.asarray(stream.stamps_ns, np.int64))
        if stream.receives_ns is not None:
            group.create_dataset(f"streams/{name}/receive", data=np.asarray(stream.receives_ns, np.int64))
        group.create_dataset(f"streams/{name}/value", data=stream.values)


def read_info(group: h5py.Group, path: Path) -> EpisodeInfo:
    """The metadata of an episode group, refusing unknown schema versions by number."""
    _require_version(group.attrs.get("schema_version"), path)
    return EpisodeInfo.from_json(str(attribute(group, "info")))


def _require_version(version: object, path: Path) -> None:
    if version != SCHEMA_VERSION:
        raise DatasetError(
            f"{path}: episode schema version {version} is not readable by this software, which reads "
            f"version {SCHEMA_VERSION}; update Understudy or convert the file."
        )


@dataclass(frozen=True)
class Summary:
    """What an episode file says of itself in its seal, without reading its arrays."""

    id: str
    steps: int
    checksum: str
    """Of arrays and metadata."""
    content_checksum: str
    """Of the arrays alone: equal for one demonstration under two labels."""
    info: EpisodeInfo
    keys: Mapping[str, tuple[str, tuple[int, ...]]]
    """Observation key -> (type, shape of one observation)."""


def read_summary(path: Path, *, verify: bool = False) -> Summary:
    """What a finished episode file says of itself; with `verify` its every byte is checked first.

    Raises:
        DatasetError: missing, not finished, damaged or of an unknown schema version; names the file.
    """
    if not path.is_file():
        raise DatasetError(f"Episode file {path} does not exist.")
    return _summary(path, verify_seal(path) if verify else read_seal(path))


def _summary(path: Path, seal: Seal) -> Summary:
    facts = seal.facts
    if facts.get("kind") != "episode":
        raise DatasetError(f"{path} holds no episode; its seal says {facts.get('kind')!r}.")
    _require_version(facts.get("schema_version"), path)
    try:
        keys = {key: (np.dtype(kind).str, tuple(map(int, shape))) for key, (kind, shape) in facts["keys"].items()}
        info = EpisodeInfo.from_dict(facts["info"])
        return Summary(
            path.stem, int(facts["steps"]), str(facts["checksum"]), str(facts["content_checksum"]), info, keys
        )
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"{path} is damaged: its seal does not describe an episode ({reason}).") from error


def read_episode(path: Path, *, verify: bool = True, images: bool = True, streams: bool = True) -> Episode:
    """Read and validate one episode file.

    Args:
        path: a file under `episodes/`.
        verify: check every byte against the seal first; without it only the seal itself is checked.
        images: False leaves camera frames out.
        streams: False leaves native-rate samples out.

    Raises:
        DatasetError: missing, unreadable, of an unknown schema version, or damaged; names the file.
    """
    info = read_summary(path, verify=verify).info
    with open_hdf5(path, "episode file") as file:
        return episode_in(subgroup(file, GROUP), info, images=images, streams=streams)


def episode_in(group: h5py.Group, info: EpisodeInfo, *, images: bool = True, streams: bool = True) -> Episode:
    """The episode that a group in an open file holds; arguments as in `read_episode`.

    Raises:
        DatasetError: something is missing or is not what it should be.
    """
    observed, final = subgroup(group, "obs"), subgroup(group, "final_obs")
    keys = [key for key in members(observed) if images or not is_image(key)]
    ages = subgroup(group, "age") if "age" in group else {}
    return Episode(
        info=info,
        observations={key: _read_observation(observed, key) for key in keys},
        final_observation={key: read(final, key) for key in keys},
        requested=read(group, "action/requested"),
        sent=read(group, "action/sent"),
        measured=read(group, "action/measured"),
        rewards=read(group, "rewards"),
        tick_ns=read(group, "stamps/tick"),
        ages_s={key: read(ages, key) for key in ages if key in keys},
        states=read(group, "states"),
        streams=_read_streams(group) if streams else {},
        intervention=read(group, "intervention") if "intervention" in group else np.zeros(0, np.bool_),
    )


def _read_observation(observed: h5py.Group, key: str) -> Array:
    stored = array(observed, key)
    return read_frames(stored) if is_image(key) else np.asarray(stored[()])


def _read_streams(group: h5py.Group) -> dict[str, Stream]:
    if "streams" not in group:
        return {}
    found = subgroup(group, "streams")
    return {name: _read_stream(subgroup(found, name)) for name in members(found)}


def _read_stream(group: h5py.Group) -> Stream:
    receives = read(group, "receive") if "receive" in group else None
    return Stream(read(group, "stamp"), read(group, "value"), receives)
