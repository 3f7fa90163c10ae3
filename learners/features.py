"""The features a policy sees: what matters relative to the tool, instead of where things are in the room.

Owns the list of features, which follows from the observation keys and the action space, and the torch module that
computes them. The module is part of the policy's graph, so a deployed skill computes them the same way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from understudy.datasets.schema import OTHER, ActionSpec
from understudy.errors import InputError, unknown_name

NEAR_M = 1e-3
"""Directions fade out below this distance, where they would be noise: v / (|v| + NEAR_M)."""

POSITION_FLOOR = 5e-3
ROTATION_FLOOR = 0.2
"""Smallest spread a feature is standardised by (m and m/s; entries of a rotation matrix, so about 11 degrees).

A tool that is always held straight hardly tilts in training: standardised by that, a tilt of one degree would look
like nothing ever seen, and the policy is lost. With this floor it is what it is, a small number.
"""

Kind = Literal["offset", "direction", "height", "value", "rotation", "relative_rotation"]
Shapes = Mapping[str, tuple[int, ...]]
"""Observation key -> shape of one observation."""


@dataclass(frozen=True)
class FeatureConfig:
    """Which features are made of the observations there are."""

    directions: bool = True
    """Beside every offset also its direction: near the target it keeps its size while the offset vanishes."""
    rotations: Literal["auto", "yes", "no"] = "auto"
    """Orientation of the tool, and of objects in the tool's frame; auto: where the action space turns the tool."""
    joint_position: Literal["auto", "yes", "no"] = "auto"
    """Positions of the joints; auto: where actions move joints, or no tool pose is observed."""
    joint_velocity: bool = False
    """Velocities of the joints; they tempt a policy to copy what it just did."""


@dataclass(frozen=True)
class Feature:
    """One group of numbers, computed from observation keys."""

    kind: Kind
    keys: tuple[str, ...]
    size: int
    """How many numbers."""


def plan_features(shapes: Shapes, spec: ActionSpec, config: FeatureConfig = FeatureConfig()) -> tuple[Feature, ...]:
    """The features for observations of these shapes and this action space, always in the same order.

    Raises:
        InputError: nothing of what is observed can be used.
    """
    plan = [*_positions(shapes, config), *_rotations(shapes, spec, config)]
    if "gripper_position" in shapes:
        plan.append(Feature("value", ("gripper_position",), shapes["gripper_position"][0]))
    plan += [Feature("value", (key,), shapes[key][0]) for key in sorted(shapes) if key.endswith("_opening")]
    wants_joints = config.joint_position == "yes" or (
        config.joint_position == "auto" and (spec.name.startswith("joint") or "tool_position" not in shapes)
    )
    for key, wanted in (("joint_position", wants_joints), ("joint_velocity", config.joint_velocity)):
        if wanted and key in shapes:
            plan.append(Feature("value", (key,), shapes[key][0]))
    if not plan:  # no arm is seen at all: another world, whose numbers are taken as they are
        plan = [Feature("value", (key,), shapes[key][0]) for key in sorted(shapes) if _is_other_row(key, shapes[key])]
    if not plan:
        raise InputError(
            f"No feature can be made of the observations {sorted(shapes)}; "
            f"record tool, joint, object or goal positions, or rows of numbers ({OTHER}<name>)."
        )
    return tuple(plan)


def _is_other_row(key: str, shape: tuple[int, ...]) -> bool:
    return key.startswith(OTHER) and len(shape) == 1 and shape[0] > 0


def _positions(shapes: Shapes, config: FeatureConfig) -> list[Feature]:
    """Offsets from the tool to every object and goal, from objects to goals, and heights."""
    things = [key for key in sorted(shapes) if key.startswith(("object", "goal")) and key.endswith("_position")]
    objects = [key for key in things if key.startswith("object")]
    goals = [key for key in things if key.startswith("goal")]
    if "tool_position" not in shapes:
        return [Feature("value", (key,), 3) for key in things]
    pairs = [("tool_position", thing) for thing in things] + [(thing, goal) for thing in objects for goal in goals]
    plan = [Feature("offset", pair, 3) for pair in pairs]
    if config.directions:
        plan += [Feature("direction", pair, 3) for pair in pairs]
    # the table matters where something lies on it; a goal in the air is the same at any height
    return plan + [Feature("height", (key,), 1) for key in ("tool_position", *objects) if objects]


def _rotations(shapes: Shapes, spec: ActionSpec, config: FeatureConfig) -> list[Feature]:
    turns = any(label in ("roll", "pitch", "yaw") for label in spec.labels)
    if config.rotations == "no" or (config.rotations == "auto" and not turns) or "tool_quaternion" not in shapes:
        return []
    objects = [key for key in sorted(shapes) if key.startswith("object") and key.endswith("_quaternion")]
    relative = [Feature("relative_rotation", ("tool_quaternion", key), 6) for key in objects]
    return [*relative, Feature("rotation", ("tool_quaternion",), 6)]


def feature_size(plan: Iterable[Feature]) -> int:
    """How many numbers all features have together."""
    return sum(feature.size for feature in plan)


def used_keys(plan: Iterable[Feature]) -> tuple[str, ...]:
    """The observation keys that the features need, sorted."""
    return tuple(sorted({key for feature in plan for key in feature.keys}))


def turns_with_scene(plan: Iterable[Feature]) -> bool:
    """Whether all features are of things in the base frame, so that a turned scene (`spin.spin`) is a real one."""
    return not any(key.startswith("joint_") for key in used_keys(plan))


def plan_as_list(plan: Sequence[Feature]) -> list[dict[str, Any]]:
    """Plain data for JSON; `plan_from_list` reads it back."""
    return [dataclasses.asdict(feature) for feature in plan]


def plan_from_list(data: Sequence[Mapping[str, Any]]) -> tuple[Feature, ...]:
    """Read what `plan_as_list` wrote.

    Raises:
        InputError: a field is missing or a kind is unknown.
    """
    plan = []
    for entry in data:
        try:
            feature = Feature(entry["kind"], tuple(map(str, entry["keys"])), int(entry["size"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"Feature cannot be read: {error!r} in {entry!r}.") from error
        if feature.kind not in _COMPUTE:
            raise unknown_name("kind of feature", str(feature.kind), _COMPUTE)
        plan.append(feature)
    return tuple(plan)


def std_floor(plan: Iterable[Feature]) -> Tensor:
    """(F,) the smallest spread that each feature is standardised by."""
    floors = {"rotation": ROTATION_FLOOR, "relative_rotation": ROTATION_FLOOR}
    return torch.tensor([floors.get(feature.kind, POSITION_FLOOR) for feature in plan for _ in range(feature.size)])


class Features(nn.Module):
    """Observations (key -> (B, ...)) to features (B, F), in the order of the plan."""

    def __init__(self, plan: Sequence[Feature]) -> None:
        super().__init__()
        self.plan = tuple(plan)
        self.size = feature_size(plan)

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """See the class."""
        parts = [_COMPUTE[feature.kind](*(observations[key] for key in feature.keys)) for feature in self.plan]
        return torch.cat(parts, dim=-1)


def _offset(start: Tensor, end: Tensor) -> Tensor:
    return end - start


def _direction(start: Tensor, end: Tensor) -> Tensor:
    offset = end - start
    return offset / (torch.sqrt((offset * offset).sum(-1, keepdim=True)) + NEAR_M)


def _height(position: Tensor) -> Tensor:
    return position[..., 2:3]


def _value(value: Tensor) -> Tensor:
    return value


def rotation_matrix(quaternion: Tensor) -> Tensor:
    """Matrices (..., 3, 3) of unit quaternions (..., 4) in xyzw order."""
    x, y, z, w = quaternion.unbind(-1)
    first = torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], -1)
    second = torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], -1)
    third = torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], -1)
    return torch.stack([first, second, third], -2)


def _two_columns(matrix: Tensor) -> Tensor:
    """The first two columns (..., 6): continuous, unlike a quaternion, whose sign jumps (Zhou et al. 2019)."""
    return torch.cat([matrix[..., 0], matrix[..., 1]], -1)


def _rotation(quaternion: Tensor) -> Tensor:
    return _two_columns(rotation_matrix(quaternion))


def _relative_rotation(tool: Tensor, thing: Tensor) -> Tensor:
    return _two_columns(rotation_matrix(tool).transpose(-1, -2) @ rotation_matrix(thing))


_COMPUTE: Mapping[str, Callable[..., Tensor]] = {
    "offset": _offset,
    "direction": _direction,
    "height": _height,
    "value": _value,
    "rotation": _rotation,
    "relative_rotation": _relative_rotation,
}
