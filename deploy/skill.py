"""The skill file: a zip with the policy and what it was made for, read without running anything.

Owns the `.skill` format and the comparison of a skill with a robot. It runs no policy (`runtime.py` does),
and needs neither torch nor onnxruntime, so that learners can write skills and robots can inspect them.

Entries, each stored uncompressed: `skill.json` (`SkillManifest`), `policy.onnx`, `policy.torchscript`
(optional, for those who want it; never loaded by us), `statistics.npz` (`KeyStatistics` of the training
observations) and `SHA256SUMS` (the format of `sha256sum --check`).

`policy.onnx` owes: one input an observation key, named by it, (1, *shape), float32 (images uint8); one output
(1, chunk, A), float32, in [-1, 1] (`action_spec` maps it to units). Feature transforms and normalisation are
inside.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Annotated, Any

import numpy as np
import pydantic_core
from numpy.lib import format as npy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from understudy.datasets.schema import ActionSpec, is_image, key_unit
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.validation import describe_validation
from understudy.errors import InputError, RobotMismatch

SKILL_SCHEMA_VERSION = 1
"""Version of `skill.json` and of the entries beside it. A reader refuses any other and names it."""

MANIFEST = "skill.json"
ONNX = "policy.onnx"
TORCHSCRIPT = "policy.torchscript"
STATISTICS = "statistics.npz"
SUMS = "SHA256SUMS"

MAX_BYTES: Mapping[str, int] = {
    MANIFEST: 1 << 20,
    ONNX: 1 << 30,
    TORCHSCRIPT: 1 << 30,
    STATISTICS: 16 << 20,
    SUMS: 1 << 16,
}
"""Every entry a skill may have, and the largest it may be."""
REQUIRED = frozenset(MAX_BYTES) - {TORCHSCRIPT}

LIMIT_TOLERANCE = 1e-6
"""Limits closer than this (rad, rad/s, m) are the same: YAML files are written by hand with some decimals."""

_UNREADABLE = (
    zipfile.BadZipFile, ValueError, KeyError, IndexError, OSError, EOFError, RuntimeError, OverflowError,
)  # fmt: skip
"""What `zipfile` raises on damaged archives, by version and damage."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SkillJoint(_Strict):
    """One joint as the skill knew it, in command order."""

    name: str
    unit: str = "rad"
    """Of positions and limits; velocities are per second."""
    lower: Finite
    upper: Finite
    velocity: Positive
    """rad/s"""


class SkillRobot(_Strict):
    """The robot a skill was made on: what must agree with the robot it runs on (see `check_robot`)."""

    name: str
    joints: tuple[SkillJoint, ...]
    rate_hz: Positive
    tool_frame: str
    gripper_width: Positive | None
    """m; None: no gripper."""

    @classmethod
    def of(cls, robot: RobotDescription) -> SkillRobot:
        """What a skill must remember of `robot`."""
        joints = tuple(
            SkillJoint(name=joint.name, lower=joint.lower, upper=joint.upper, velocity=joint.velocity)
            for joint in robot.joints
        )
        return cls(
            name=robot.name,
            joints=joints,
            rate_hz=robot.rate_hz,
            tool_frame=robot.tool_frame,
            gripper_width=robot.gripper.width if robot.gripper else None,
        )


class ObservationField(_Strict):
    """One observation the policy looks at."""

    key: str
    shape: tuple[Count, ...]
    max_age_s: Positive
    """A sample older than this at its tick is stale: the arm holds."""

    @field_validator("key")
    @classmethod
    def _known(cls, key: str) -> str:
        key_unit(key)
        return key


class Evaluation(_Strict):
    """A success rate: `successes` of `episodes`, and its 95% interval [low, high]."""

    suite: str
    task: str
    episodes: Count
    successes: Annotated[int, Field(ge=0)]
    low: Annotated[float, Field(ge=0, le=1)]
    high: Annotated[float, Field(ge=0, le=1)]
    seed: int

    @model_validator(mode="after")
    def _possible(self) -> Evaluation:
        if self.successes > self.episodes:
            raise ValueError(f"{self.successes} successes in {self.episodes} episodes")
        return self


class SkillManifest(_Strict):
    """`skill.json`: what the policy was made for and from."""

    schema_version: int = SKILL_SCHEMA_VERSION
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    created: str
    """Wall time, ISO 8601: a label."""
    software: str
    robot: SkillRobot
    task: str
    horizon: Count
    """Longest episode of the task, in control periods."""
    observations: tuple[ObservationField, ...]
    action_spec: ActionSpec
    chunk: Count
    """Actions that one look returns."""
    execute: Count
    """How many of them are played before the next look."""
    learner: str
    dataset: str
    """Checksum of the training data."""
    evaluations: tuple[Evaluation, ...] = ()

    @field_validator("action_spec", mode="before")
    @classmethod
    def _only_known_fields(cls, spec: Any) -> Any:
        known = set(ActionSpec.__dataclass_fields__)
        if not isinstance(spec, dict):
            return spec
        if set(spec) != known:
            raise ValueError(f"fields {sorted(map(str, spec))}; expected {sorted(known)}")
        return ActionSpec.from_dict(spec)

    @model_validator(mode="after")
    def _consistent(self) -> SkillManifest:
        keys = [field.key for field in self.observations]
        if not keys or len(set(keys)) != len(keys):
            raise ValueError(f"observation keys must be distinct and at least one, got {keys}")
        if self.execute > self.chunk:
            raise ValueError(f"execute is {self.execute}, above the chunk of {self.chunk} actions")
        return self

    @property
    def observation_keys(self) -> tuple[str, ...]:
        """What the policy looks at, in order."""
        return tuple(field.key for field in self.observations)

    @property
    def max_age_s(self) -> Mapping[str, float]:
        """Key -> oldest sample that may be used, s."""
        return {field.key: field.max_age_s for field in self.observations}


@dataclass(frozen=True)
class KeyStatistics:
    """How one observation key was distributed in training; every array has the key's shape and unit."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[Any]) -> KeyStatistics:
        """Statistics of observations (N, ...) over their first axis."""
        wide = np.asarray(values, np.float64)
        return cls(wide.mean(0), wide.std(0), wide.min(0), wide.max(0))


_STATISTICS_FIELDS = ("mean", "std", "low", "high")
Statistics = Mapping[str, KeyStatistics]


@dataclass(frozen=True)
class Skill:
    """A loaded skill: checked, and nothing of it run."""

    path: Path
    manifest: SkillManifest
    onnx: bytes
    statistics: Statistics
    """Key -> statistics; keys without any (images) are left out."""


def write_skill(
    path: str | Path,
    manifest: SkillManifest,
    onnx: bytes,
    torchscript: bytes | None,
    statistics: Statistics,
) -> Path:
    """Write a skill beside `path`, load it back, rename it into place; equal content gives equal bytes.

    Args:
        path: ends in `.skill`; replaced if it exists.
        manifest: what goes into `skill.json`.
        onnx: the policy, see the module's words on inputs and outputs.
        torchscript: the same policy for others, or None.
        statistics: key -> statistics of the training observations, for the keys that have some.

    Raises:
        InputError: what was given does not make a skill that `load_skill` accepts.
    """
    target = Path(path)
    if target.suffix != ".skill":
        raise InputError(f"A skill file's name ends in .skill, got {target.name!r}; write to {target.name}.skill.")
    entries = {MANIFEST: manifest.model_dump_json(indent=2).encode() + b"\n", ONNX: onnx}
    if torchscript is not None:
        entries[TORCHSCRIPT] = torchscript
    entries[STATISTICS] = _pack_statistics(statistics)
    entries[SUMS] = _sums({name: hashlib.sha256(data).hexdigest() for name, data in entries.items()})
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_pack(entries))
            file.flush()
            os.fsync(file.fileno())
        _load(temporary, target)
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def load_skill(path: str | Path) -> Skill:
    """Read a skill after checking names, sizes, checksums and versions; runs nothing of it.

    Raises:
        InputError: the file is missing, no skill, damaged, or of another schema version.
    """
    source = Path(path)
    return _load(source, source)


def _load(source: Path, called: Path) -> Skill:
    """Read `source`, calling it `called` in errors (a skill being written is not yet at its place)."""
    if not source.is_file():
        raise InputError(f"Skill file {called} does not exist; `understudy export RUN --out FILE.skill` writes one.")
    try:
        with source.open("rb") as file, zipfile.ZipFile(file) as archive:
            _check_entries(archive, source.stat().st_size)
            _check_sums(archive)
            manifest = _read_manifest(archive.read(MANIFEST))
            statistics = _unpack_statistics(archive.read(STATISTICS), manifest)
            return Skill(source, manifest, archive.read(ONNX), MappingProxyType(statistics))
    except _Refused as refusal:
        raise InputError(f"{called}: {refusal}") from refusal
    except _UNREADABLE as error:
        raise InputError(
            f"{called}: not a readable skill ({type(error).__name__}: {error}); it was damaged or is something"
            f" else; {_AGAIN}."
        ) from error


class _Refused(Exception):
    """Why a file is no skill; `load_skill` puts the file's name before it."""


_AGAIN = "copy it again, or export it again with `understudy export`"


def _pack(entries: Mapping[str, bytes]) -> bytes:
    """A zip of stored entries with fixed dates and modes, so that equal content gives equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, whatever machine writes it
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def _check_entries(archive: zipfile.ZipFile, file_size: int) -> None:
    """Refuse any name, kind or size that a skill's entries do not have, before reading one of them."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    odd = sorted(set(names) - set(MAX_BYTES))
    if odd:
        raise _Refused(
            f"holds {odd[0]!r:.80}, which a skill does not have (it has {', '.join(MAX_BYTES)}); do not "
            "trust this file, and export the skill again with `understudy export`."
        )
    if len(set(names)) != len(names):
        raise _Refused("holds an entry twice; do not trust this file, and export the skill again.")
    missing = sorted(REQUIRED - set(names))
    if missing:
        raise _Refused(f"lacks {', '.join(missing)}, so it is no whole skill; {_AGAIN}.")
    for entry in entries:
        _check_entry(entry)
    total = sum(entry.file_size for entry in entries)
    if total > file_size:
        raise _Refused(f"declares {total} bytes of content in {file_size} bytes of file; do not trust this file.")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the zipping tool states none
    if entry.is_dir() or kind not in (0, stat.S_IFREG):
        raise _Refused(f"entry {entry.filename} is no plain file (a link or folder); {_AGAIN}.")
    if entry.flag_bits & 1:
        raise _Refused(f"entry {entry.filename} is encrypted, which skills never are; {_AGAIN}.")
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise _Refused(
            f"entry {entry.filename} is compressed; a skill's entries are stored as they are, so that no "
            "small file can unpack into a large one. Export the skill again, or zip it with `zip -0`."
        )
    if entry.file_size > MAX_BYTES[entry.filename]:
        raise _Refused(
            f"entry {entry.filename} has {entry.file_size} bytes; at most {MAX_BYTES[entry.filename]} are "
            "accepted. Make the policy smaller."
        )


def _check_sums(archive: zipfile.ZipFile) -> None:
    """Compare every entry with SHA256SUMS, which must name each exactly once."""
    digests = {}
    for name in archive.namelist():
        if name != SUMS:
            with archive.open(name) as entry:
                digests[name] = _digest(entry)
    stated = archive.read(SUMS)
    if stated == _sums(digests):
        return
    lines = stated.decode("utf-8", "replace").splitlines()
    wrong = [name for name, digest in digests.items() if f"{digest}  {name}" not in lines]
    what = f"{', '.join(wrong)} does not match its checksum" if wrong else f"{SUMS} has lines that belong to nothing"
    raise _Refused(f"{what}, so the file was damaged or edited; {_AGAIN}.")


def _digest(entry: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := entry.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _sums(digests: Mapping[str, str]) -> bytes:
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def _read_manifest(data: bytes) -> SkillManifest:
    try:
        raw = pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise _Refused(f"{MANIFEST} is not JSON ({error}); {_AGAIN}.") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if type(version) is not int or version != SKILL_SCHEMA_VERSION:
        raise _Refused(
            f"skill schema version {version!r:.40} is not readable by this software, which reads version "
            f"{SKILL_SCHEMA_VERSION}; update Understudy, or export the skill again with this version."
        )
    try:
        return SkillManifest.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise _Refused(f"{MANIFEST}: {describe_validation(error, SkillManifest)} Export the skill again.") from error


def _pack_statistics(statistics: Statistics) -> bytes:
    entries = {}
    for key in sorted(statistics):
        for name in _STATISTICS_FIELDS:
            buffer = io.BytesIO()
            array = np.ascontiguousarray(getattr(statistics[key], name), "<f8")
            npy.write_array(buffer, array, version=(1, 0), allow_pickle=False)
            entries[f"{key}.{name}.npy"] = buffer.getvalue()
    return _pack(entries)


def _unpack_statistics(data: bytes, manifest: SkillManifest) -> dict[str, KeyStatistics]:
    """Read `statistics.npz`: a zip of stored float64 arrays, four for every key that has some.

    An npz is a zip inside the zip and an npy header states a size of its own: both are checked before
    anything is allocated, and object arrays (pickles) are refused by their type.
    """
    shapes = {field.key: field.shape for field in manifest.observations if not is_image(field.key)}
    arrays: dict[str, dict[str, NDArray[np.float64]]] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if len(set(names)) != len(names):
            raise _Refused(f"{STATISTICS} holds an array twice; {_AGAIN}.")
        for entry in archive.infolist():
            name = entry.filename
            match = re.fullmatch(r"([a-z0-9_]+)\.(mean|std|low|high)\.npy", name)
            if match is None or match[1] not in shapes:
                raise _Refused(f"{STATISTICS} holds {name!r:.80}, which belongs to no observation; {_AGAIN}.")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(data):
                raise _Refused(f"{STATISTICS}: {name} is compressed or too large; {_AGAIN}.")
            array = _read_array(name, archive.read(entry), shapes[match[1]])
            arrays.setdefault(match[1], {})[match[2]] = array
    for key, fields in arrays.items():
        if set(fields) != set(_STATISTICS_FIELDS):
            raise _Refused(
                f"{STATISTICS}: {key} has {sorted(fields)}, expected {sorted(_STATISTICS_FIELDS)}; {_AGAIN}."
            )
    return {key: KeyStatistics(**fields) for key, fields in arrays.items()}


def _read_array(name: str, data: bytes, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """One npy file, accepted only as finite little-endian float64 of exactly `shape`."""
    stream = io.BytesIO(data)
    try:
        if npy.read_magic(stream) != (1, 0):
            raise ValueError("npy version other than 1.0")
        declared, _, dtype = npy.read_array_header_1_0(stream)
    except (ValueError, SyntaxError, TypeError, EOFError) as error:
        raise _Refused(f"{STATISTICS}: {name} is no plain array ({error}); {_AGAIN}.") from error
    if dtype != np.dtype("<f8") or tuple(declared) != shape:
        raise _Refused(
            f"{STATISTICS}: {name} is {dtype} of shape {tuple(declared)}, expected float64 of shape {shape}; {_AGAIN}."
        )
    content = stream.read()
    if len(content) != 8 * math.prod(shape):
        raise _Refused(f"{STATISTICS}: {name} has {len(content)} bytes, expected {8 * math.prod(shape)}; {_AGAIN}.")
    array = np.frombuffer(content, "<f8").reshape(shape).astype(np.float64)
    if not np.all(np.isfinite(array)):
        raise _Refused(f"{STATISTICS}: {name} has values that are not finite; {_AGAIN}.")
    return array


def check_robot(manifest: SkillManifest, robot: RobotDescription, *, allow_narrower_limits: bool = False) -> None:
    """Refuse to run a skill on a robot that would move differently from the one it was made on.

    - Joint names and their order, units, tool frame, gripper and cameras must be equal: the policy's numbers
      mean them.
    - The rate must be equal: a step a tick at another rate is another speed.
    - Limits may be wider than the skill's (it never used more); narrower ones are refused, because the Guard
      would cut motions that the policy counts on. `allow_narrower_limits` accepts that, for an arm that is
      slowed or fenced on purpose.
    - The robot's *name* is a label and may differ: sites write their own files for the same arm.

    Raises:
        RobotMismatch: names every difference with both values.
    """
    made = manifest.robot
    found = [*_joint_differences(made, robot, allow_narrower_limits), *_frame_differences(made, robot)]
    for field in manifest.observations:
        found += _camera_differences(field, robot)
    if found:
        raise RobotMismatch(
            f"Skill {manifest.name!r} was made for robot {made.name!r} and does not fit {robot.name!r}: "
            f"{'; '.join(found)}. Use the robot file the skill was made with, or train for this robot."
        )


def _joint_differences(made: SkillRobot, robot: RobotDescription, allow_narrower: bool) -> list[str]:
    wanted, have = [joint.name for joint in made.joints], list(robot.joint_names)
    if wanted != have:
        return [_order_difference(wanted, have)]
    found = []
    for skill, joint in zip(made.joints, robot.joints, strict=True):
        where = f"joint {joint.name!r}"
        if skill.unit != "rad":
            found.append(f"{where} is in {skill.unit!r} in the skill, in 'rad' on the robot")
            continue
        if allow_narrower:
            continue
        if joint.lower > skill.lower + LIMIT_TOLERANCE:
            found.append(f"{where}: lower limit {skill.lower:g} rad in the skill, {joint.lower:g} rad here")
        if joint.upper < skill.upper - LIMIT_TOLERANCE:
            found.append(f"{where}: upper limit {skill.upper:g} rad in the skill, {joint.upper:g} rad here")
        if joint.velocity < skill.velocity - LIMIT_TOLERANCE:
            found.append(f"{where}: speed {skill.velocity:g} rad/s in the skill, {joint.velocity:g} rad/s here")
    return found


def _order_difference(wanted: list[str], have: list[str]) -> str:
    if len(wanted) != len(have):
        expected, got = ", ".join(wanted), ", ".join(have)
        return f"{len(wanted)} joints ({expected}) in the skill, {len(have)} ({got}) on the robot"
    index = next(i for i, (a, b) in enumerate(zip(wanted, have, strict=True)) if a != b)
    kind = "order differs" if set(wanted) == set(have) else "names differ"
    return f"joint {kind}: joint {index + 1} is {wanted[index]!r} in the skill, {have[index]!r} on the robot"


def _frame_differences(made: SkillRobot, robot: RobotDescription) -> list[str]:
    found = []
    if not math.isclose(made.rate_hz, robot.rate_hz, rel_tol=1e-6):
        found.append(f"control rate {made.rate_hz:g} Hz in the skill, {robot.rate_hz:g} Hz on the robot")
    if made.tool_frame != robot.tool_frame:
        found.append(f"tool frame {made.tool_frame!r} in the skill, {robot.tool_frame!r} on the robot")
    width = robot.gripper.width if robot.gripper else None
    if abs((made.gripper_width or 0.0) - (width or 0.0)) > LIMIT_TOLERANCE:
        found.append(f"gripper {_width(made.gripper_width)} in the skill, {_width(width)} on the robot")
    return found


def _width(width: float | None) -> str:
    return "none" if width is None else f"opening {width:g} m"


def _camera_differences(field: ObservationField, robot: RobotDescription) -> list[str]:
    if not is_image(field.key):
        return []
    name = field.key.removeprefix("image_")
    camera = robot.ros.cameras.get(name)
    if camera is None:
        return [f"camera {name!r} is needed by the skill, the robot has {sorted(robot.ros.cameras) or 'none'}"]
    shape = (camera.height, camera.width, 3)
    if shape != field.shape:
        return [f"camera {name!r} is {field.shape} in the skill, {shape} on the robot"]
    return []
