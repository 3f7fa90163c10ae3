"""The words of a dataset: observation keys with their units, action specs, and the metadata of an episode.

This module owns names, units and bounds. It knows nothing of files, robots or simulators.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from understudy.errors import DatasetError, InputError, unknown_name

SCHEMA_VERSION = 2
"""Version of the on-disk layout. A reader refuses any other and names it."""

Channel = Literal["requested", "sent", "measured"]
CHANNELS: tuple[Channel, ...] = ("requested", "sent", "measured")

KEY_UNITS: Mapping[str, str] = {
    "joint_position": "rad",
    "joint_velocity": "rad/s",
    "joint_effort": "N m",
    "gripper_position": "m (opening width)",
    "tool_position": "m, base frame",
    "tool_quaternion": "xyzw, base frame",
}
"""Units of the fixed observation keys; see `key_unit` for the open-ended ones."""

POLICY_DRIVES = "policy and "
"""What an episode's device begins with where a policy drove, and who held the device that follows could take over."""
POLICY_ALONE = "policy"
"""The device of an episode that a policy drove with nobody beside it."""
SKILL_OPERATES = "skill:"
"""What the operator begins with where a deployed skill drove; its name follows."""

OTHER = "other_"
"""Prefix of numbers that came from another tool under a name which is none of our words; their unit is not known."""


def key_unit(key: str) -> str:
    """Unit of an observation key.

    Raises:
        InputError: the key is none of the known words (`KEY_UNITS`, `object_*`, `goal_*`, `image_<camera>`, `other_*`).
    """
    if key in KEY_UNITS:
        return KEY_UNITS[key]
    if "/" in key or "\0" in key:
        raise InputError(f"The observation key {key!r} contains '/' or a null character, which HDF5 does not allow.")
    if key.startswith("image_"):
        return "uint8, height x width x 3"
    if key.startswith(OTHER) and key != OTHER:
        return "as imported"
    if key.startswith(("object_", "goal_")):
        if key.endswith("_position"):
            return "m, base frame"
        if key.endswith("_quaternion"):
            return "xyzw, base frame"
        if key.endswith("_opening"):
            return "m (how far open)"
    raise unknown_name(
        "observation key",
        key,
        [*KEY_UNITS, "object_position", "object_quaternion", "goal_position", "image_<camera>", f"{OTHER}<name>"],
    )


def is_image(key: str) -> bool:
    """Whether an observation key holds camera frames."""
    return key.startswith("image_")


@dataclass(frozen=True)
class ActionSpec:
    """What each number of an action means, in which unit, between which bounds.

    On disk the `action/*` channels are in these units; `actions` is the training channel mapped to [-1, 1] by
    `normalise`.
    """

    name: str
    """Action space: tool_delta, joint_delta, joint_position or joint_velocity."""
    labels: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.labels), len(self.units), len(self.low), len(self.high)}
        if len(sizes) != 1 or not self.labels:
            raise InputError(
                f"Action spec {self.name!r}: labels, units, low and high must have one equal, non-zero length, "
                f"got {len(self.labels)}, {len(self.units)}, {len(self.low)} and {len(self.high)}."
            )
        for label, low, high in zip(self.labels, self.low, self.high, strict=True):
            if not (np.isfinite(low) and np.isfinite(high) and low < high):
                raise InputError(
                    f"Action spec {self.name!r}: bounds of {label!r} are [{low}, {high}]; expected finite low < high."
                )

    @property
    def size(self) -> int:
        """How many numbers an action has."""
        return len(self.labels)

    @functools.cached_property
    def _ends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.asarray(self.low, np.float64), np.asarray(self.high, np.float64)

    def normalise(self, action: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Map actions (..., A) in units to [-1, 1], clipping what lies outside the bounds."""
        low, high = self._ends
        return np.asarray(np.clip(2.0 * (action - low) / (high - low) - 1.0, -1.0, 1.0), np.float32)

    def denormalise(self, action: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Map actions (..., A) in [-1, 1] to units, clipping what lies outside."""
        low, high = self._ends
        inside = np.minimum(np.maximum(np.asarray(action, np.float64), -1.0), 1.0)
        return np.asarray(np.minimum(low + (inside + 1.0) * 0.5 * (high - low), high))  # rounding may pass the bound

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ActionSpec:
        """Read what `as_dict` wrote.

        Raises:
            InputError: a field is missing, unknown or of the wrong length.
        """
        try:
            return cls(
                name=str(data["name"]),
                labels=tuple(map(str, data["labels"])),
                units=tuple(map(str, data["units"])),
                low=tuple(map(float, data["low"])),
                high=tuple(map(float, data["high"])),
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"Action spec cannot be read: {error!r} in {dict(data)!r}.") from error


_TEXTS = ("robot", "task", "operator", "device", "note", "created", "software", "provenance")


@dataclass(frozen=True)
class EpisodeInfo:
    """Everything about an episode that is not an array over its steps."""

    robot: str
    task: str
    action_spec: ActionSpec
    rate_hz: float
    actions: Channel = "requested"
    """The channel that trains: `actions` on disk is this one, normalised."""
    operator: str = "unknown"
    device: str = "unknown"
    success: bool | None = None
    """None: nobody has judged it."""
    note: str = ""
    seed: int | None = None
    randomization: Mapping[str, float] = field(default_factory=dict)
    """Physical parameters drawn for this episode (simulation), by name."""
    start: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Where a simulated episode was put down, by observation key, in full precision; observations are rounded."""
    created: str = ""
    """Wall time, ISO 8601: a label, never used for intervals."""
    software: str = ""
    """Understudy's version, and the commit where it is known."""
    provenance: str = ""
    """The file it was imported from, if it was not recorded here."""

    def __post_init__(self) -> None:
        if self.actions not in CHANNELS:
            raise unknown_name("action channel", self.actions, CHANNELS)
        if isinstance(self.rate_hz, bool) or not isinstance(self.rate_hz, (int, float, np.number)):
            raise InputError(f"Episode rate must be a number of Hz, got {self.rate_hz!r}.")
        if not (np.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise InputError(f"Episode rate must be a positive number of Hz, got {self.rate_hz}.")
        for name in _TEXTS:
            if not isinstance(getattr(self, name), str):
                raise InputError(f"Episode metadata: {name} must be a text, got {getattr(self, name)!r}.")
            if any("\ud800" <= character <= "\udfff" for character in getattr(self, name)):
                raise InputError(f"Episode metadata: {name} is no text that can be stored, {getattr(self, name)!r}.")
        if self.success is not None and type(self.success) is not bool:
            raise InputError(f"Episode metadata: success must be true, false or null, got {self.success!r}.")
        if self.seed is not None and (isinstance(self.seed, bool) or not isinstance(self.seed, (int, np.integer))):
            raise InputError(f"Episode metadata: seed must be a whole number or null, got {self.seed!r}.")
        object.__setattr__(self, "seed", None if self.seed is None else int(self.seed))
        object.__setattr__(self, "rate_hz", float(self.rate_hz))
        try:
            plain = {str(name): float(value) for name, value in self.randomization.items()}
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"Episode metadata: randomization must be names with numbers ({error}).") from error
        object.__setattr__(self, "randomization", plain)
        try:
            start = {str(key): tuple(float(value) for value in values) for key, values in self.start.items()}
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"Episode metadata: start must be names with lists of numbers ({error}).") from error
        if wrong := [key for key, values in start.items() if not np.all(np.isfinite(values))]:
            raise InputError(f"Episode metadata: start must be finite numbers; those of {wrong} are not.")
        object.__setattr__(self, "start", start)

    @property
    def policy_drove(self) -> bool:
        """Whether a policy drove, as far as it was said; steps of it may still be a person's (`intervention`).

        An arm that was watched may have been driven by anything: only a skill of ours says its name there.
        """
        device = self.device
        return device == POLICY_ALONE or device.startswith(POLICY_DRIVES) or self.operator.startswith(SKILL_OPERATES)

    def to_json(self) -> str:
        """The whole record as one JSON text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EpisodeInfo:
        """Read what `to_json` wrote.

        Raises:
            DatasetError: not JSON, or fields missing or unknown.
        """
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"Episode metadata cannot be read: {error}.") from error

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EpisodeInfo:
        """Read what `dataclasses.asdict` gave.

        Raises:
            DatasetError: fields missing or unknown, or of another type.
        """
        try:
            return cls(**{**data, "action_spec": ActionSpec.from_dict(data["action_spec"])})
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise DatasetError(f"Episode metadata cannot be read: {error}.") from error
