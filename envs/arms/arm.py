"""The one interface to an arm, real or simulated, and what crosses it.

An implementation owes: `observe` returns named arrays, each with the stamp of its own sample; `send` returns what was
really sent; `hold` makes the arm stop and stay; nothing blocks except the clock. `tests/conformance/arm.py` proves it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.clock import Clock
from understudy.envs.arms.robot import RobotDescription
from understudy.errors import InputError

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


_SIZES = {"position": 3, "quaternion": 4, "opening": 1}
"""Last word of an object's or a goal's key -> how many numbers it has."""


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

    def numbers(self) -> dict[str, tuple[float, ...]]:
        """Where everything is put, by observation key, without the physics; `from_numbers` reads it, bit by bit."""
        found: dict[str, Any] = {"joint_position": self.joint_position, **self.goals}
        if self.gripper_position is not None:
            found["gripper_position"] = (self.gripper_position,)
        for name, pose in self.objects.items():
            found[f"{name}_position"], found[f"{name}_quaternion"] = pose.position, pose.quaternion
        for name, opening in self.openings.items():
            found[f"{name}_opening"] = (opening,)
        return {key: tuple(np.asarray(values, np.float64).tolist()) for key, values in found.items()}

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, Sequence[float]], physics: Mapping[str, float]) -> Start:
        """The start that `numbers` came from.

        Raises:
            InputError: it lacks joint positions, or an object's position or quaternion, or one of them has another
                size than it must.
        """
        arrays = {key: np.array(values, np.float64) for key, values in numbers.items()}
        for key, values in arrays.items():
            size = 1 if key == "gripper_position" else _SIZES.get(key.rpartition("_")[2], values.size)
            if key != "joint_position" and values.shape != (size,):
                raise InputError(f"{key} of a start must be {size} numbers, got {values.tolist()}.")
        placed = [key for key in arrays if key.startswith("object")]
        names = dict.fromkeys(key.rpartition("_")[0] for key in placed)
        needed = ["joint_position", *(f"{name}_{part}" for name in names for part in ("position", "quaternion"))]
        if missing := [key for key in needed if key not in arrays]:
            raise InputError(f"A start needs {needed}; this one lacks {missing}.")
        gripper = arrays.get("gripper_position")
        return cls(
            arrays["joint_position"],
            None if gripper is None else float(gripper[0]),
            {name: Pose(arrays[f"{name}_position"], arrays[f"{name}_quaternion"]) for name in names},
            {name: float(arrays[key][0]) for name in names if (key := f"{name}_opening") in arrays},
            {key: values for key, values in arrays.items() if key.startswith("goal_")},
            physics,
        )


class Arm(Protocol):
    """An arm. Implementations: SimArm (PyBullet), RosArm (ROS 2), FakeArm (numpy); Guard wraps any of them.

    One with an attribute `hardware` that is true (RosArm) is limited in how far it may lag (`following.py`).
    """

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
