"""Noisy readings made steady, for an expert that must be more exact than one of them.

What stands still is averaged over its readings, and whether they differ tells whether readings are noisy. What is held
is averaged in the hand, where it stands still too. Exact readings are left as they are.
"""

from __future__ import annotations

import numpy as np

from understudy.envs.arms.rotations import quaternion_multiply, quaternion_to_matrix
from understudy.envs.experts.expert import ObservationDict, Vector
from understudy.envs.experts.routine import vector

EXACT = 1e-5
"""Readings of what stands still that differ less than this, m or parts of a quaternion, are exact."""
READINGS = 60
"""A mean is over about so many of the last readings: what is held may creep in the hand."""
MOVED_M = 0.03
"""A reading this far from the mean is no noise: the thing has been moved, or has fallen."""
_INVERSE = np.array([-1.0, -1.0, -1.0, 1.0])


class _Mean:
    """The mean of poses (7,): position, and xyzw quaternion."""

    def __init__(self) -> None:
        self.pose: Vector = np.zeros(7)
        self.count = 0

    def add(self, pose: Vector) -> None:
        if self.count and pose[3:] @ self.pose[3:] < 0:
            pose = np.concatenate([pose[:3], -pose[3:]])  # the same rotation
        self.count += 1
        self.pose = self.pose + (pose - self.pose) / min(self.count, READINGS)
        self.pose[3:] /= np.linalg.norm(self.pose[3:])


class Steady:
    """The poses of one thing that is taken up and held, and of one that stands still."""

    def __init__(self, held: str, still: str) -> None:
        """Args:
        held: name of an object.
        still: name of another.
        """
        self._held, self._still = held, still
        self._standing, self._carried = _Mean(), _Mean()
        self._seen = np.zeros(7)
        self._was_held = self._noisy = False

    def look(self, observation: ObservationDict, held: bool) -> ObservationDict:
        """`observation` with both poses steady; `held`: the one is in the hand; until then it stands still, too."""
        standing = _pose(observation, self._still)
        self._standing.add(standing)
        self._noisy = self._noisy or bool(np.max(np.abs(standing - self._standing.pose)) > EXACT)
        tool, thing = _pose(observation, "tool"), _pose(observation, self._held)
        if held != self._was_held or np.linalg.norm(thing[:3] - self._seen[:3]) > MOVED_M:
            self._carried, self._was_held = _Mean(), held
        if not self._noisy:
            self._seen = thing
            return observation
        self._carried.add(_between(tool, thing) if held else thing)
        self._seen = _joined(tool, self._carried.pose) if held else self._carried.pose
        return {**observation, **_named(self._still, self._standing.pose), **_named(self._held, self._seen)}


def _pose(observation: ObservationDict, name: str) -> Vector:
    return np.concatenate([vector(observation, f"{name}_position"), vector(observation, f"{name}_quaternion")])


def _named(name: str, pose: Vector) -> dict[str, Vector]:
    return {f"{name}_position": pose[:3], f"{name}_quaternion": pose[3:]}


def _between(tool: Vector, thing: Vector) -> Vector:
    """(7,) the thing's pose in the tool's frame."""
    position = quaternion_to_matrix(tool[3:]).T @ (thing[:3] - tool[:3])
    return np.concatenate([position, quaternion_multiply(tool[3:] * _INVERSE, thing[3:])])


def _joined(tool: Vector, in_hand: Vector) -> Vector:
    """(7,) the pose in the base's frame of what is at `in_hand` in the tool's."""
    position = tool[:3] + quaternion_to_matrix(tool[3:]) @ in_hand[:3]
    return np.concatenate([position, quaternion_multiply(tool[3:], in_hand[3:])])
