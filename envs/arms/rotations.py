"""Quaternions (xyzw) and rotation vectors (rad), as plain functions on arrays of shape (..., 4) and (..., 3).

A control loop turns one quaternion at a time, where arrays of four cost ten times what the arithmetic does: single ones
take the same formulas in plain floats.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def quaternion_multiply(left: NDArray[Any], right: NDArray[Any]) -> Vector:
    """Hamilton product: rotate by `right` first, then by `left`."""
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    if left.ndim == 1 and right.ndim == 1:
        return np.array(_product(left.tolist(), right.tolist()))
    return np.stack(_product(np.moveaxis(left, -1, 0), np.moveaxis(right, -1, 0)), axis=-1)


def rotvec_to_quaternion(rotvec: NDArray[Any]) -> Vector:
    """Exponential map: axis times angle to xyzw."""
    rotvec = np.asarray(rotvec, np.float64)
    if rotvec.ndim == 1:
        return np.array(_exponential(rotvec.tolist()))
    angle = np.linalg.norm(rotvec, axis=-1, keepdims=True)
    # sin(a/2)/a tends to 1/2 - a^2/48, which is exact in double precision below 1e-4 rad
    scale = np.where(angle < 1e-4, 0.5 - angle**2 / 48.0, np.sin(angle / 2.0) / np.maximum(angle, 1e-12))
    return np.concatenate([rotvec * scale, np.cos(angle / 2.0)], axis=-1)


def quaternion_to_rotvec(quaternion: NDArray[Any]) -> Vector:
    """Logarithm: xyzw to the shortest axis times angle (at most pi)."""
    quaternion = np.asarray(quaternion, np.float64)
    if quaternion.ndim == 1:
        return np.array(_logarithm(quaternion.tolist()))
    quaternion = np.where(quaternion[..., 3:] < 0.0, -quaternion, quaternion)
    sine = np.linalg.norm(quaternion[..., :3], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, quaternion[..., 3:])
    return quaternion[..., :3] * np.where(sine < 1e-8, 2.0, angle / np.maximum(sine, 1e-12))


def turned(quaternion: NDArray[Any], rotvec: list[float]) -> Vector:
    """xyzw (4,) of `quaternion` (4,) turned further by `rotvec`, 3 numbers in rad in the same axes."""
    return np.array(_product(_exponential(rotvec), quaternion.tolist()))


def turn_between(old: NDArray[Any], new: NDArray[Any]) -> list[float]:
    """The shortest rotation vector, 3 numbers in rad, that turns the unit quaternion `old` (4,) to `new` (4,)."""
    x, y, z, w = old.tolist()
    return _logarithm(_product(new.tolist(), (-x, -y, -z, w)))


def quaternion_to_matrix(quaternion: NDArray[Any]) -> Vector:
    """xyzw (..., 4) to rotation matrices (..., 3, 3)."""
    x, y, z, w = np.moveaxis(np.asarray(quaternion, np.float64), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def yaw_quaternion(yaw: float) -> Vector:
    """xyzw of a turn by `yaw` rad about the base z axis."""
    return rotvec_to_quaternion(np.array([0.0, 0.0, yaw]))


def _product(left: Any, right: Any) -> list[Any]:
    """The four numbers, or arrays, of a Hamilton product."""
    x1, y1, z1, w1 = left
    x2, y2, z2, w2 = right
    return [
        w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
        w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
        w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
    ]


def _exponential(rotvec: list[float]) -> list[float]:
    x, y, z = rotvec
    angle = math.sqrt(x * x + y * y + z * z)
    if not math.isfinite(angle):
        return [math.nan] * 4
    scale = 0.5 - angle**2 / 48.0 if angle < 1e-4 else math.sin(angle / 2.0) / angle
    return [x * scale, y * scale, z * scale, math.cos(angle / 2.0)]


def _logarithm(quaternion: list[float]) -> list[float]:
    x, y, z, w = quaternion
    if w < 0.0:
        x, y, z, w = -x, -y, -z, -w
    sine = math.sqrt(x * x + y * y + z * z)
    scale = 2.0 if sine < 1e-8 else 2.0 * math.atan2(sine, w) / sine
    return [x * scale, y * scale, z * scale]
