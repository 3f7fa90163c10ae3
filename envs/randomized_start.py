"""A task's start with an episode's physics: drawn parameters, the seed of its noise, and objects moved as they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from understudy.envs.arms.arm import Pose, Start
from understudy.envs.arms.rotations import quaternion_multiply, yaw_quaternion
from understudy.envs.randomization import Randomizer
from understudy.envs.tasks.scene import SceneObject


def randomized_start(
    start: Start, objects: Mapping[str, SceneObject], randomizer: Randomizer, rng: np.random.Generator
) -> Start:
    """`start` with physics drawn from `randomizer`.

    The physics hold `noise_seed` too, so that an episode that keeps them can be replayed with the same noise. Where
    objects lie is changed here, not by the arm: the start says where things are, whoever takes it up again.
    """
    physics = dict(randomizer.sample(rng))
    seed = int(rng.integers(2**31))
    places = {name: _moved(pose, objects[name], physics) for name, pose in start.objects.items()}
    return dataclasses.replace(start, objects=places, physics=physics | {"noise_seed": float(seed)}, seed=seed)


def _moved(pose: Pose, thing: SceneObject, physics: Mapping[str, float]) -> Pose:
    """Shifted, turned where it is loose, and on the ground with its new size."""
    x, y = physics.get("object_offset_x_m", 0.0), physics.get("object_offset_y_m", 0.0)
    loose = thing.mass > 0 and thing.slide is None
    scale = physics.get("object_size_scale", 1.0) if loose else 1.0
    yaw = physics.get("object_yaw_rad", 0.0) if loose else 0.0
    if (x, y, scale, yaw) == (0.0, 0.0, 1.0, 0.0):
        return pose
    lowest = min(shape.offset[2] - shape.half_extents[2] for shape in thing.shapes)
    shift = np.array([x, y, (1.0 - scale) * lowest])
    return Pose(pose.position + shift, quaternion_multiply(yaw_quaternion(yaw), pose.quaternion))
