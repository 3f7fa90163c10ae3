"""A routine: a hand that goes from phase to phase of a task, and back when it has lost what it held.

A phase says where the tool should be, how it should be turned and how far the gripper should be open. A routine is a
subclass that names its phases, says when one is done, and owns nothing of how the hand moves (`hand.py`).
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

import numpy as np

from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.rotations import (
    quaternion_multiply,
    quaternion_to_matrix,
    quaternion_to_rotvec,
    yaw_quaternion,
)
from understudy.envs.experts.expert import ObservationDict, Vector
from understudy.envs.experts.hand import Hand, HumanStyle

DOWN = np.array([1.0, 0.0, 0.0, 0.0])
"""xyzw of a tool that points straight down with its x axis along the base's."""
MAX_TURN_RAD = 0.1
"""Fastest turn, rad a tick."""


@dataclass(frozen=True)
class Way:
    """What a phase wants now."""

    offset: Vector
    """(3,) m: the way that is left."""
    turn: Vector | None = None
    """(3,) rad: the rotation vector that is left; None where the task does not turn the tool."""
    width: float | None = None
    """m the gripper should be open; None where the task leaves it alone."""
    care: float = 1.0
    """Below 1 the hand is slower and trembles less."""


class Routine(abc.ABC):
    """Base of the experts. Subclasses give `advance` and `way`; `begin` where an episode's start matters."""

    first = "above"
    """The phase that an episode begins with."""

    def __init__(self, robot: RobotDescription, style: HumanStyle, rng: np.random.Generator) -> None:
        self.hand = Hand(style, rng)
        self.style = style
        self.open_width = robot.gripper.width if robot.gripper else 0.0
        self.phase = self.first
        self.ticks = 0
        self.wrong = np.zeros(3)
        """The first approach aims this far beside the object, m."""

    def reset(self, observation: ObservationDict) -> None:
        """See `Expert`."""
        self.enter(self.first)
        self.wrong = np.array([*self.style.wrong_start_m, 0.0])
        self.begin(observation)

    def act(self, observation: ObservationDict) -> Vector:
        """See `Expert`."""
        self.ticks += 1
        self.advance(observation)
        way = self.way(observation)
        action = [self.hand.towards(way.offset, way.care)]
        if way.turn is not None:
            turn = np.clip(self.style.gain * 0.7 * way.turn, -MAX_TURN_RAD, MAX_TURN_RAD)
            action.append(np.zeros(3) if self.hand.pausing else turn)
        if way.width is not None:
            action.append(np.array([way.width]))
        return np.concatenate(action)

    def enter(self, phase: str) -> None:
        """Go to a phase; `ticks` counts from here."""
        self.phase, self.ticks = phase, 0

    def begin(self, observation: ObservationDict) -> None:  # noqa: B027 - most have nothing to remember
        """An episode begins: note what must be remembered of it."""

    @abc.abstractmethod
    def advance(self, observation: ObservationDict) -> None:
        """Enter the next phase when this one is done, or an earlier one when something was lost."""

    @abc.abstractmethod
    def way(self, observation: ObservationDict) -> Way:
        """What the present phase wants."""


def vector(observation: ObservationDict, key: str) -> Vector:
    """An observation in double precision."""
    return np.asarray(observation[key], np.float64)


def yaw_of(quaternion: Vector, symmetry_rad: float = 2.0 * np.pi) -> float:
    """Turn about the vertical, rad, of a thing that looks the same every `symmetry_rad`: the one nearest to 0."""
    matrix = quaternion_to_matrix(quaternion)
    yaw = float(np.arctan2(matrix[1, 0], matrix[0, 0]))
    return (yaw + symmetry_rad / 2) % symmetry_rad - symmetry_rad / 2


def turn_to_yaw(tool_quaternion: Vector, yaw: float) -> Vector:
    """(3,) rad: the rotation vector that makes the tool point down, turned by `yaw`."""
    return rotation_between(tool_quaternion, quaternion_multiply(yaw_quaternion(yaw), DOWN))


def rotation_between(now: Vector, wanted: Vector) -> Vector:
    """(3,) rad: the rotation vector that turns `now` into `wanted`, both xyzw."""
    return quaternion_to_rotvec(quaternion_multiply(wanted, now * [-1.0, -1.0, -1.0, 1.0]))
