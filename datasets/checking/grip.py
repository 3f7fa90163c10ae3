"""Does what an episode carries lie in its gripper as in the other episodes?

Fingers that close on a box turn it into theirs. An object that was seen by itself, by a tracker or by the simulator, so
tells how the gripper is really turned, whatever the joints say: a last joint that reads off, which starts anywhere and
moves no tool, stands out here and nowhere else. Where objects turn freely in the grip the others do not agree, and
nothing is said.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.checking.signals import rotation_matrices

Vector = NDArray[np.float64]

FEWEST = 5
"""Episodes with something in the grip that make a usual."""
_AWAY_M = 0.02
"""Something is carried once it is this far from where it lay, and moves by a tenth of this at each tick,"""
_SLIP = 0.2
"""while its place in the tool's frame changes by no more than this share of that."""
_TICKS = 3
_AGREE_RAD = np.deg2rad(2.0)
"""The others agree where three in four lie within this of their middle; single grips at a corner do not."""


def grip_angle(tool: Vector, tool_quaternion: Vector, place: Vector, quaternion: Vector) -> float | None:
    """The angle (rad, to a quarter turn, in [-pi/4, pi/4)) of what is carried, in the tool's frame about its z axis.

    Of the object's axes the one that lies most across the tool's z counts, so that a box on any of its faces, gripped
    by any pair of them, has the same angle.

    Args:
        tool: (N, 3) position of the tool, m.
        tool_quaternion: (N, 4) its orientation, xyzw.
        place: (N, 3) position of the object, m.
        quaternion: (N, 4) its orientation, xyzw.

    Returns:
        None where nothing is carried.
    """
    to_tool = rotation_matrices(tool_quaternion).transpose(0, 2, 1)
    steps = np.linalg.norm(np.diff(place, axis=0), axis=1)
    slips = np.linalg.norm(np.diff(np.einsum("nij,nj->ni", to_tool, place - tool), axis=0), axis=1)
    away = np.linalg.norm(place[1:] - place[0], axis=1)
    carried = np.flatnonzero((away > _AWAY_M) & (steps > _AWAY_M / 10) & (slips < _SLIP * steps)) + 1
    if len(carried) < _TICKS:
        return None
    axes = (to_tool[carried] @ rotation_matrices(quaternion[carried]))[:, :2]
    longest = np.argmax(np.linalg.norm(axes, axis=1), axis=1)
    x, y = axes[np.arange(len(carried)), :, longest].T
    return _middle(np.arctan2(y, x))


def turned_in_the_grip(angles: Vector) -> Vector | None:
    """By how much (rad) each of the angles (N,) lies from the middle of the others.

    None where fewer than `FEWEST` carried something, or where three in four do not agree.
    """
    if len(angles) < FEWEST:
        return None
    off = np.array([_quarter(angle - _middle(np.delete(angles, i))) for i, angle in enumerate(angles)])
    return off if np.percentile(np.abs(off), 75) <= _AGREE_RAD else None


def _middle(angles: Vector) -> float:
    """The median of angles that are the same after a quarter turn, counted from their mean."""
    mean = np.angle(np.mean(np.exp(4j * angles))) / 4
    return float(_quarter(mean + np.median(_quarter(angles - mean))))


def _quarter(angles: Vector) -> Vector:
    """Angles less as many quarter turns as bring them into [-pi/4, pi/4)."""
    return np.asarray((angles + np.pi / 4) % (np.pi / 2) - np.pi / 4)
