"""The one interface to an arm, real or simulated, and what crosses it.

An implementation owes: `observe` returns named arrays, each with the stamp of its own sample; `send` returns what was
really sent; `hold` makes the arm stop and stay; nothing blocks except the clock. `tests/conformance/arm.py` proves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.clock import Clock
from understudy.envs.arms.robot import RobotDescription

Array = NDArray[Any]


@dataclass(frozen=True)
class Observation:
    """Named arrays as last seen, each with its own stamp on the arm's clock."""

    values: Mapping[str, Array]
    stamps_ns: Mapping[str, int]

    def __getitem__(self, key: str) -> Array:
        return self.values[key]

    def __contains__(self, key: str) -> bool:
        return key in self.values


@dataclass(frozen=True)
class Command:
    """Where the joints and the gripper should be one control period from now."""

    joint_position: NDArray[np.float64]
    """(J,) rad, in the robot's joint order."""
    gripper_position: float | None = None
    """Opening width, m; None leaves the gripper as it was told last (or where there is none)."""
    joint_velocity: NDArray[np.float64] | None = None
    """(J,) rad/s over the period: a step on the way. None: come to rest at `joint_position`."""


@dataclass(frozen=True)
class Pose:
    """A position (3,) in m and a quaternion (4,) xyzw, in the robot's base frame."""

    position: NDArray[np.float64]
    quaternion: NDArray[np.float64] = field(default_factory=lambda: np.array([0.0, 0.0, 0.0, 1.0]))


@dataclass(frozen=True)
class Start:
    """How an episode begins. Simulation puts things there; on hardware a person is asked to."""

    joint_position: NDArray[np.float64]
    """(J,) rad."""
    gripper_position: float | None = None
    """Opening width, m."""
    objects: Mapping[str, Pose] = field(default_factory=dict)
    """Object name -> where it lies."""
    openings: Mapping[str, float] = field(default_factory=dict)
    """Name of an object that slides -> how far it is open, m; closed where it is not named."""
    goals: Mapping[str, Array] = field(default_factory=dict)
    """`goal_*` observations, fixed for the episode."""
    physics: Mapping[str, float] = field(default_factory=dict)
    """Randomized physical parameters of this episode, by name (see `envs/randomization.py`); hardware ignores them."""
    seed: int = 0
    """Seeds the simulated sensor noise of this episode."""


class Arm(Protocol):
    """An arm. Implementations: SimArm (PyBullet), RosArm (ROS 2), FakeArm (numpy); Guard wraps any of them."""

    @property
    def clock(self) -> Clock:
        """The arm's time; see `envs/arms/clock.py`."""

    def describe(self) -> RobotDescription:
        """Joints, limits, frames, rate: what this arm is."""

    def observe(self) -> Observation:
        """The newest sample of everything this arm senses; never blocks."""

    def send(self, command: Command) -> Command:
        """Command the arm and return what was really sent."""

    def hold(self) -> None:
        """Stop and stay; safe to call at any time and again and again."""

    def reset(self, start: Start) -> Observation:
        """Bring the arm (and, in simulation, the scene) to `start` and return the first observation."""

    def close(self) -> None:
        """Release everything; safe to call twice."""
