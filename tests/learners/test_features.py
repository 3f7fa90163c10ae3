"""Features: laws of what they may depend on, and how they are written down."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from learners_support import SPEC

from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.rotations import quaternion_to_matrix
from understudy.errors import InputError
from understudy.learners.features import (
    FeatureConfig,
    Features,
    feature_size,
    plan_as_list,
    plan_features,
    plan_from_list,
    rotation_matrix,
    std_floor,
    turns_with_scene,
    used_keys,
)

SHAPES = {
    "joint_position": (7,),
    "joint_velocity": (7,),
    "gripper_position": (1,),
    "tool_position": (3,),
    "tool_quaternion": (4,),
    "object_position": (3,),
    "object_quaternion": (4,),
    "goal_position": (3,),
}
TURNING = ActionSpec(
    "tool_delta", ("x", "y", "z", "roll", "pitch", "yaw"), ("m",) * 3 + ("rad",) * 3, (-0.1,) * 6, (0.1,) * 6
)
JOINTS = ActionSpec("joint_delta", ("a", "b"), ("rad", "rad"), (-0.1, -0.1), (0.1, 0.1))


def draw(seed: int = 0, batch: int = 32) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    values = {key: rng.normal(size=(batch, *shape)) for key, shape in SHAPES.items()}
    for key, value in values.items():
        if key.endswith("quaternion"):
            value /= np.linalg.norm(value, axis=1, keepdims=True)
    return {key: torch.from_numpy(value.astype(np.float32)) for key, value in values.items()}


def test_moving_the_whole_scene_sideways_changes_nothing() -> None:
    features = Features(plan_features(SHAPES, TURNING))
    here, shift = draw(), torch.tensor([0.3, -0.2, 0.0])
    there = {
        key: value + shift if key.endswith("_position") and value.shape[1] == 3 else value
        for key, value in here.items()
    }
    torch.testing.assert_close(features(there), features(here), atol=1e-5, rtol=1e-4)
    up = {
        key: value + torch.tensor([0.0, 0.0, 0.1]) if key == "tool_position" else value for key, value in here.items()
    }
    assert not torch.allclose(features(up), features(here))


def test_directions_are_unit_far_away_and_vanish_at_the_target() -> None:
    plan = plan_features({"tool_position": (3,), "object_position": (3,)}, SPEC)
    features = Features(plan)
    start = sum(f.size for f in plan[: [f.kind for f in plan].index("direction")])
    for length, expected in ((1.0, 1.0), (1e-6, 0.0)):
        where = {"tool_position": torch.zeros(1, 3), "object_position": torch.tensor([[length, 0.0, 0.0]])}
        assert features(where)[0, start : start + 3].norm() == pytest.approx(expected, abs=2e-3)


def test_rotation_matrices_are_those_of_the_arm() -> None:
    for quaternion in draw()["tool_quaternion"]:
        expected = quaternion_to_matrix(quaternion.numpy().astype(np.float64))
        np.testing.assert_allclose(rotation_matrix(quaternion).numpy(), expected, atol=1e-5)


def test_a_quaternion_and_its_negative_are_the_same_orientation() -> None:
    features = Features(plan_features(SHAPES, TURNING))
    here = draw()
    torch.testing.assert_close(features({**here, "tool_quaternion": -here["tool_quaternion"]}), features(here))


def test_turning_tool_and_object_together_keeps_their_relative_rotation() -> None:
    plan = [f for f in plan_features(SHAPES, TURNING) if f.kind == "relative_rotation"]
    here = draw()
    turned = dict(here)
    half = torch.tensor(0.4)
    for key in ("tool_quaternion", "object_quaternion"):
        x, y, z, w = here[key].unbind(-1)
        c, s = torch.cos(half), torch.sin(half)
        turned[key] = torch.stack([c * x - s * y, c * y + s * x, c * z + s * w, c * w - s * z], -1)
    torch.testing.assert_close(Features(plan)(turned), Features(plan)(here), atol=1e-5, rtol=1e-4)


def test_the_plan_follows_from_what_is_observed_and_done() -> None:
    still = plan_features(SHAPES, SPEC)
    assert not any("quaternion" in key or key.startswith("joint") for key in used_keys(still))
    turning = plan_features(SHAPES, TURNING)
    assert {"relative_rotation", "rotation"} <= {feature.kind for feature in turning}
    assert ("object_position", "goal_position") in {feature.keys for feature in turning}
    assert "joint_position" in used_keys(plan_features(SHAPES, JOINTS))
    assert "joint_velocity" in used_keys(plan_features(SHAPES, SPEC, FeatureConfig(joint_velocity=True)))
    in_the_air = plan_features({"tool_position": (3,), "goal_position": (3,)}, SPEC)
    assert {feature.kind for feature in in_the_air} == {"offset", "direction"}
    bare = plan_features({"joint_position": (2,), "goal_position": (3,)}, JOINTS)
    assert used_keys(bare) == ("goal_position", "joint_position")
    assert turns_with_scene(turning)
    assert not turns_with_scene(bare)


def test_sizes_are_what_comes_out() -> None:
    for spec in (SPEC, TURNING, JOINTS):
        plan = plan_features(SHAPES, spec)
        assert Features(plan)(draw()).shape == (32, feature_size(plan))
        assert std_floor(plan).shape == (feature_size(plan),)


def test_the_plan_survives_json() -> None:
    plan = plan_features(SHAPES, TURNING)
    assert plan_from_list(json.loads(json.dumps(plan_as_list(plan)))) == plan


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(InputError, match="No feature can be made of the observations"):
        plan_features({"joint_effort": (2,)}, SPEC)
    with pytest.raises(InputError, match="did you mean 'offset'"):
        plan_from_list([{"kind": "ofset", "keys": ["tool_position", "goal_position"], "size": 3}])
    with pytest.raises(InputError, match="Feature cannot be read"):
        plan_from_list([{"kind": "offset"}])
