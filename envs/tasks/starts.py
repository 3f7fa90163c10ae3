"""Pieces that the starts and rewards of several tasks share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.robot import RobotDescription

Vector = NDArray[np.float64]

ARM_KEYS = ("joint_position", "joint_velocity", "gripper_position", "tool_position", "tool_quaternion")
"""What a task with a gripper shows of the arm."""
JOINT_NOISE_RAD = 0.02


def near_home(robot: RobotDescription, rng: np.random.Generator) -> Vector:
    """(J,) rad: home, with 0.02 rad of noise on each joint."""
    return np.asarray(robot.home + rng.normal(0.0, JOINT_NOISE_RAD, len(robot.joints)))


def apart(
    rng: np.random.Generator, low_m: tuple[float, ...], high_m: tuple[float, ...], nearest_m: float
) -> tuple[Vector, Vector]:
    """Two points (D,), each uniform between `low_m` (D,) and `high_m` (D,), at least `nearest_m` apart.

    Both are drawn again until they are; the box must be several times wider than `nearest_m`.
    """
    while True:
        one, other = (rng.uniform(np.array(low_m), np.array(high_m)) for _ in range(2))
        if np.linalg.norm(one - other) >= nearest_m:
            return one, other


def distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    """m between two points (3,)."""
    return math.dist(one.tolist(), other.tolist())


def share(part: float, whole: float) -> float:
    """How much of `whole` there is, from 0 to 1."""
    return max(0.0, min(1.0, float(part) / whole))


def closeness(distance_m: float, scale_per_m: float = 5.0) -> float:
    """1 - tanh(`scale_per_m` d): 1 where two points meet, 0 far away, and steeper the nearer they are."""
    return 1.0 - math.tanh(scale_per_m * distance_m)
