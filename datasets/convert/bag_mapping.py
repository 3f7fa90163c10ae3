"""What of a bag becomes what: the mapping file, and the mapping that is meant when there is none.

Owns the words of that file. Every unknown key is an error that names the nearest one.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from understudy.datasets.convert.bag_fields import require_path, unit_factor
from understudy.datasets.convert.incoming import FASTEST_HZ, SLOWEST_HZ
from understudy.datasets.schema import key_unit
from understudy.errors import InputError, unknown_name

_MOST_TEXT = 1 << 20
DEFAULT_MAX_AGE_S = 0.25


@dataclass(frozen=True)
class Source:
    """Where numbers or frames come from."""

    topic: str
    field: tuple[str, ...] = ()
    """Paths into the message, as in pose.position or points[0].positions; empty: what is usual for its type."""
    joints: tuple[str, ...] = ()
    """Joints by name and in this order, of messages that name theirs; empty: the first message's, in its order."""
    units: str = ""
    """What the numbers are in, if not in our units: deg, mm, ..."""
    scale: float = 1.0
    """Factor on top of the units'."""
    offset: float = 0.0
    """Added last, in our units."""
    max_age_s: float | None = None
    """Oldest sample that counts at a tick; None: the mapping's."""

    def __post_init__(self) -> None:
        for path in self.field:
            require_path(path)
        unit_factor(self.units)
        if self.max_age_s is not None and not self.max_age_s > 0:
            raise InputError(f"max_age_s of {self.topic} is {self.max_age_s}; expected a positive number of seconds.")


@dataclass(frozen=True)
class Action:
    """Where the action comes from."""

    requested: Source
    sent: Source | None = None
    """None: what was requested."""
    measured: Source | None = None
    """None: the next joint_position where that is what the action means, else what was sent."""
    name: str = "imported"
    """Action space: joint_position, joint_velocity, joint_delta, tool_delta, or any other word."""
    labels: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True)
class Split:
    """Where episodes begin and end."""

    by: Literal["bag", "flag", "gaps", "marks"] = "bag"
    """bag: all of it is one. flag: while a std_msgs/Bool is true. gaps: pauses part them. marks: as
    /understudy/episode says."""
    topic: str = ""
    """Of the flag or the marks."""
    longer_than_s: float = 2.0
    """Pauses that part episodes, with gaps."""

    def __post_init__(self) -> None:
        if self.by not in ("bag", "flag", "gaps", "marks"):
            raise unknown_name("way to split", str(self.by), ("bag", "flag", "gaps", "marks"))
        if self.by in ("flag", "marks") and not self.topic:
            raise InputError(f"Splitting by {self.by} needs the topic that says it.")
        if not self.longer_than_s > 0:
            raise InputError(f"longer_than_s is {self.longer_than_s}; expected a positive number of seconds.")


@dataclass(frozen=True)
class BagMapping:
    """A whole mapping file."""

    observations: Mapping[str, Source]
    """Our observation key -> source."""
    action: Action | None = None
    """None: the motion itself, joint_position one tick later."""
    robot: str = "unknown"
    task: str = "unknown"
    rate_hz: float = 20.0
    """Ticks a second; with `ticks`, only what the episodes are said to have."""
    ticks: str = ""
    """A topic each of whose messages is a tick, instead of ticks at rate_hz: the commands', if they came steadily."""
    max_age_s: float = DEFAULT_MAX_AGE_S
    on_gap: Literal["refuse", "split"] = "refuse"
    """When a sample is too old in the midst of an episode: refuse the bag, or let another episode begin after it."""
    episodes: Split = field(default_factory=Split)
    reward: Source | None = None
    success: Source | None = None
    """A std_msgs/Bool: its last word within an episode is the verdict."""

    def __post_init__(self) -> None:
        if not self.observations:
            raise InputError("The mapping names no observations; expected at least one.")
        for key in self.observations:
            key_unit(key)
        if not SLOWEST_HZ <= self.rate_hz <= FASTEST_HZ:
            raise InputError(f"rate_hz is {self.rate_hz}; expected {SLOWEST_HZ} to {FASTEST_HZ:g} Hz.")
        if not self.max_age_s > 0:
            raise InputError(f"max_age_s is {self.max_age_s}; expected a positive number of seconds.")
        if self.on_gap not in ("refuse", "split"):
            raise unknown_name("on_gap", str(self.on_gap), ("refuse", "split"))

    @property
    def sources(self) -> dict[str, Source]:
        """What is read, by the name it has in our episodes."""
        found = dict(self.observations)
        if self.action is not None:
            channels = {"requested": self.action.requested, "sent": self.action.sent, "measured": self.action.measured}
            found |= {f"action/{name}": source for name, source in channels.items() if source is not None}
        if self.reward is not None:
            found["reward"] = self.reward
        if self.success is not None:
            found["success"] = self.success
        return found

    def age_limit_s(self, source: Source) -> float:
        """Oldest sample of a source that counts."""
        return self.max_age_s if source.max_age_s is None else source.max_age_s


def load_mapping(path: Path) -> BagMapping:
    """Read a mapping file.

    Raises:
        InputError: it is missing, no YAML, or says something that is not known; names the file.
    """
    if not path.is_file():
        raise InputError(f"Mapping {path} does not exist; expected a YAML file.")
    if path.stat().st_size > _MOST_TEXT:
        raise InputError(f"Mapping {path} has {path.stat().st_size} bytes; at most {_MOST_TEXT} are read.")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InputError(f"Mapping {path} is not readable YAML: {' '.join(str(error).split())}.") from error
    return mapping_from(data, str(path))


def mapping_from(data: Any, where: str = "mapping") -> BagMapping:
    """Build a mapping from plain data.

    Raises:
        InputError: keys that are not known, values of another kind, or values that make no sense; says where.
    """
    built = _build(BagMapping, data, where)
    assert isinstance(built, BagMapping)
    return built


def _build(kind: Any, data: Any, where: str) -> Any:
    """Plain data as a value of an annotated type; strict about names, lenient about one text for a list of one."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if data is None else _build(next(part for part in parts if part is not type(None)), data, where)
    if dataclasses.is_dataclass(kind):
        return _build_record(kind, data, where)
    if origin is Literal:
        return data
    if origin is tuple:
        items = data if isinstance(data, list) else [data]
        return tuple(_build(parts[0], item, where) for item in items)
    if origin is not None:  # Mapping[str, X]
        if not isinstance(data, dict):
            raise InputError(f"{where}: expected names with values, got {data!r}.")
        return {_build(str, key, where): _build(parts[1], value, f"{where}: {key}") for key, value in data.items()}
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or isinstance(data, bool):
        raise InputError(f"{where}: expected a {'number' if kind is float else 'text'}, got {data!r}.")
    return data


def _build_record(kind: Any, data: Any, where: str) -> Any:
    if kind is Source and isinstance(data, str):
        data = {"topic": data}
    if not isinstance(data, dict):
        raise InputError(f"{where}: expected keys with values, got {data!r}.")
    hints = typing.get_type_hints(kind)
    for key in data:
        if key not in hints:
            raise InputError(f"{where}: {unknown_name('key', str(key), hints)}")
    required = [each.name for each in dataclasses.fields(kind) if _is_required(each)]
    if missing := [name for name in required if name not in data]:
        raise InputError(f"{where}: {missing[0]!r} is missing.")
    values = {key: _build(hints[key], value, f"{where}: {key}") for key, value in data.items()}
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _is_required(each: dataclasses.Field[Any]) -> bool:
    return each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING


def as_text(mapping: BagMapping) -> str:
    """A mapping as YAML that `load_mapping` reads back, without what is as by default."""
    return yaml.safe_dump(_plain(mapping), sort_keys=False, default_flow_style=None, width=120)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept: dict[str, Any] = {}
        for each in dataclasses.fields(value):
            found = getattr(value, each.name)
            default = each.default_factory() if each.default_factory is not dataclasses.MISSING else each.default
            if found != default or each.name == "rate_hz":
                kept[each.name] = _plain(found)
        return kept
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return _plain(value[0]) if len(value) == 1 else [_plain(item) for item in value]
    return value


def camera_name(topic: str) -> str:
    """A camera's name from its topic: /camera/front/image_raw is `front`."""
    if usual := re.fullmatch(r"/camera/([0-9A-Za-z_]+)/image_raw", topic):
        return usual[1]
    words = [word for word in re.split(r"[^0-9A-Za-z]+", topic) if word]
    dull = {"camera", "cameras", "image", "raw", "color", "colour", "rgb", "compressed", "rect", "sensor"}
    return "_".join([word for word in words if word.lower() not in dull] or words[:1] or ["camera"]).lower()
