"""Scripted experts: they solve a task from its observations, perfectly or the way a person's hand does.

An expert is a hand that moves through way points. `HumanStyle`, drawn once an episode, makes it human: its own speed
and path, tremor, hesitations, wrong starts that are corrected, and a gripper that is pressed early or late.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.rotations import (
    quaternion_multiply,
    quaternion_to_matrix,
    quaternion_to_rotvec,
    yaw_quaternion,
)
from understudy.errors import unknown_name

Vector = NDArray[np.float64]
ObservationDict = Mapping[str, NDArray[Any]]

DOWN = np.array([1.0, 0.0, 0.0, 0.0])
"""xyzw of a tool that points straight down with its x axis along the base's."""


class Expert(Protocol):
    """Acts on observations in the units of the task's action space."""

    def reset(self, observation: ObservationDict) -> None:
        """An episode begins."""

    def act(self, observation: ObservationDict) -> Vector:
        """The action (A,) in units for this observation."""


@dataclass(frozen=True)
class HumanStyle:
    """How one episode's operator moves. The default is a machine: no noise, no pauses."""

    gain: float = 0.35
    """Share of the remaining way covered each tick."""
    max_speed_m: float = 0.02
    """Fastest step of the hand, m a tick."""
    tremor_m: float = 0.0
    """Standard deviation of slow hand noise, m a tick."""
    detour_m: tuple[float, float] = (0.0, 0.0)
    """Sideways offset of the way point above the object, m: a path that is not straight."""
    pause_chance: float = 0.0
    """Chance a tick that the hand stops for a while."""
    pause_ticks: int = 0
    wrong_start_m: tuple[float, float] = (0.0, 0.0)
    """The first approach aims this far beside the object, and is corrected."""
    gripper_delay: int = 0
    """Ticks between arriving and closing."""

    @staticmethod
    def sample(rng: np.random.Generator) -> HumanStyle:
        """Draw a person's manner."""
        wrong = rng.uniform(0.015, 0.04) if rng.random() < 0.3 else 0.0
        angle = rng.uniform(0, 2 * np.pi)
        return HumanStyle(
            gain=float(rng.uniform(0.22, 0.4)),
            max_speed_m=float(rng.uniform(0.012, 0.022)),
            tremor_m=float(rng.uniform(0.0005, 0.0015)),
            detour_m=(float(rng.normal(0, 0.015)), float(rng.normal(0, 0.015))),
            pause_chance=float(rng.uniform(0.0, 0.03)),
            pause_ticks=int(rng.integers(3, 12)),
            wrong_start_m=(float(wrong * np.cos(angle)), float(wrong * np.sin(angle))),
            gripper_delay=int(rng.integers(1, 6)),
        )


class Hand:
    """Moves towards way points with a style; owns the noise and the pauses."""

    def __init__(self, style: HumanStyle, rng: np.random.Generator) -> None:
        self.style = style
        self._rng = rng
        self._pause_left = 0
        self._noise = np.zeros(3)

    def towards(self, offset: Vector) -> Vector:
        """A step (3,) in m along `offset`, the way that is left."""
        style = self.style
        if self._pause_left > 0:
            self._pause_left -= 1
            return np.zeros(3)
        if style.pause_chance and self._rng.random() < style.pause_chance:
            self._pause_left = style.pause_ticks
        step = style.gain * offset
        step = step * min(1.0, style.max_speed_m / max(float(np.linalg.norm(step)), 1e-9))
        # an Ornstein-Uhlenbeck walk: hand noise is slow, not white
        self._noise = 0.8 * self._noise + self._rng.normal(0.0, style.tremor_m, 3)
        return step + self._noise

    @property
    def pausing(self) -> bool:
        """Whether the hand rests."""
        return self._pause_left > 0


class LiftExpert:
    """Over the cube, turn with it, down, close, up."""

    ABOVE_M = 0.1
    UP_M = 0.18

    def __init__(self, style: HumanStyle, rng: np.random.Generator, open_width: float = 0.08) -> None:
        self._hand = Hand(style, rng)
        self._style = style
        self._open = open_width
        self._phase = "above"
        self._ticks = 0
        self._wrong = np.zeros(3)
        self._rest_z = 0.0

    def reset(self, observation: ObservationDict) -> None:
        """See `Expert`."""
        self._phase, self._ticks = "above", 0
        self._wrong = np.array([*self._style.wrong_start_m, 0.0])
        self._rest_z = float(observation["object_position"][2])

    def act(self, observation: ObservationDict) -> Vector:
        """See `Expert`."""
        tool = np.asarray(observation["tool_position"], np.float64)
        cube = np.asarray(observation["object_position"], np.float64)
        self._advance(tool, cube)
        goal = self._way_point(tool, cube)
        step = self._hand.towards(goal - tool)
        turn = np.zeros(3) if self._hand.pausing else self._turn(observation)
        width = self._open if self._phase in ("above", "down") else 0.0
        return np.concatenate([step, turn, [width]])

    def _advance(self, tool: Vector, cube: Vector) -> None:
        """Move to the next phase when this one is done; go back when the cube was lost."""
        beside = float(np.linalg.norm(tool[:2] - cube[:2] - self._wrong[:2]))
        self._ticks += 1
        if self._phase == "above" and beside < 0.02 and self._ticks > 3:
            if np.any(self._wrong):
                self._wrong = np.zeros(3)
            elif tool[2] - cube[2] < self.ABOVE_M + 0.03:
                self._enter("down")
        elif self._phase == "down" and tool[2] - cube[2] < 0.012 and beside < 0.01:
            self._enter("close")
        elif self._phase == "close" and self._ticks > 4 + self._style.gripper_delay:
            self._enter("up")
        elif self._phase == "up" and self._ticks > 8 and np.linalg.norm(tool - cube) > 0.05:
            self._enter("above")

    def _enter(self, phase: str) -> None:
        self._phase, self._ticks = phase, 0

    def _way_point(self, tool: Vector, cube: Vector) -> Vector:
        if self._phase == "above":
            far = min(1.0, float(np.linalg.norm(tool[:2] - cube[:2])) / 0.1)
            detour = np.array([*self._style.detour_m, 0.0]) * far
            return cube + self._wrong + detour + [0.0, 0.0, self.ABOVE_M]
        if self._phase == "down":
            # come down only as far as the tool is over the cube
            beside = float(np.linalg.norm(tool[:2] - cube[:2]))
            height = 0.0 if beside < 0.012 else 0.05
            return np.asarray(cube + np.array([0.0, 0.0, height]))
        if self._phase == "close":
            return tool if self._ticks > self._style.gripper_delay else cube
        return np.array([tool[0], tool[1], self._rest_z + self.UP_M])

    def _turn(self, observation: ObservationDict) -> Vector:
        """Turn the tool to point down, aligned with the cube's nearest face."""
        matrix = quaternion_to_matrix(observation["object_quaternion"])
        yaw = float(np.arctan2(matrix[1, 0], matrix[0, 0]))
        yaw = (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4
        wanted = quaternion_multiply(yaw_quaternion(yaw), DOWN)
        now = np.asarray(observation["tool_quaternion"], np.float64)
        left = quaternion_to_rotvec(quaternion_multiply(wanted, now * [-1.0, -1.0, -1.0, 1.0]))
        return np.clip(self._style.gain * 0.7 * left, -0.1, 0.1)


class ReachExpert:
    """Straight to the goal, then stay."""

    def __init__(self, style: HumanStyle, rng: np.random.Generator) -> None:
        self._hand = Hand(style, rng)

    def reset(self, observation: ObservationDict) -> None:
        """See `Expert`."""

    def act(self, observation: ObservationDict) -> Vector:
        """See `Expert`."""
        return self._hand.towards(np.asarray(observation["goal_position"] - observation["tool_position"], np.float64))


def make_expert(task: str, rng: np.random.Generator | None = None) -> Expert:
    """The expert of a task: exact without a generator, and like a person whose manner is drawn from `rng` with one.

    Raises:
        InputError: the task has no expert.
    """
    experts: dict[str, type[LiftExpert] | type[ReachExpert]] = {"lift": LiftExpert, "reach": ReachExpert}
    if task not in experts:
        raise unknown_name("scripted expert", task, experts)
    style = HumanStyle() if rng is None else HumanStyle.sample(rng)
    return experts[task](style, rng or np.random.default_rng(0))
