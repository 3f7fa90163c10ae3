"""Picking an object up from above, which most tasks begin with: over it, turn with it, down, close."""

from __future__ import annotations

import abc

import numpy as np

from understudy.envs.arms.robot import RobotDescription
from understudy.envs.experts.expert import ObservationDict, Vector
from understudy.envs.experts.hand import HumanStyle
from understudy.envs.experts.routine import Routine, Way, turn_to_yaw, vector, yaw_of


class Picking(Routine):
    """Phases above, down and close, then `after_closing`, which the task names and goes on from."""

    ABOVE_M = 0.1
    STILL_M = 0.0005
    """A gripper that moved less than this over a tick stands still."""
    symmetry_rad = np.pi / 2
    """The object looks the same every so much of a turn about the vertical."""
    after_closing = "up"
    grip_m: Vector = np.zeros(3)
    """(3,) where to grip, from `object_position`, in the base's axes."""
    grip_within_m = 0.01
    """The tool is beside the place to grip by no more than this when it closes."""
    grip_care = 1.0
    """See `Way.care`: of the last way down, and of closing."""
    squeeze_m = 0.003
    """How much less than a thing's thickness a gripper is told, to hold it; it may slide sideways by half of that."""
    lost_m = 0.05
    """An object this far from where it was gripped is held no longer."""

    _width = float("inf")
    """m, at the tick before, while it closes."""

    def __init__(self, robot: RobotDescription, style: HumanStyle, rng: np.random.Generator) -> None:
        super().__init__(robot, style, rng)
        self._coupled = robot.gripper is not None and robot.gripper.coupled
        self.held_width = 0.0
        """m: what the gripper is told while it holds."""

    def grip(self, observation: ObservationDict) -> Vector:
        """(3,) m: where to grip the object."""
        return np.asarray(vector(observation, "object_position") + self.grip_m)

    def grip_yaw(self, observation: ObservationDict) -> float:
        """rad: how far about the vertical the tool is turned to grip the object."""
        return yaw_of(vector(observation, "object_quaternion"), self.symmetry_rad)

    def lost(self, observation: ObservationDict) -> bool:
        """Whether what was gripped is no longer in the hand."""
        away = np.linalg.norm(vector(observation, "tool_position") - self.grip(observation))
        return self.ticks > 8 and bool(away > self.lost_m)

    def gripped(self, observation: ObservationDict) -> bool:
        """Whether the gripper has closed on something: it was told to, and moves no more."""
        still = abs(float(observation["gripper_position"][0]) - self._width) < self.STILL_M
        return self.ticks > 4 + self.style.gripper_delay and still

    def closing(self, tool: Vector, grip: Vector) -> Vector:
        """(3,) m: where the tool should be while the gripper closes."""
        return grip

    @abc.abstractmethod
    def carry(self, observation: ObservationDict) -> None:
        """Advance through the phases after closing."""

    @abc.abstractmethod
    def carry_way(self, observation: ObservationDict) -> Way:
        """What a phase after closing wants."""

    def advance(self, observation: ObservationDict) -> None:
        """See `Routine`."""
        tool, grip = vector(observation, "tool_position"), self.grip(observation)
        beside = float(np.linalg.norm(tool[:2] - grip[:2] - self.wrong[:2]))
        if self.phase == "above":
            if beside < 0.02 and self.ticks > 3:
                if np.any(self.wrong):
                    self.wrong = np.zeros(3)
                elif tool[2] - grip[2] < self.ABOVE_M + 0.03:
                    self.enter("down")
        elif self.phase == "down":
            if tool[2] - grip[2] < 0.012 and beside < self.grip_within_m:
                self.enter("close")
        elif self.phase == "close":
            if self.gripped(observation):
                self.held_width = self._hold(float(observation["gripper_position"][0]))
                self.enter(self.after_closing)
            self._width = float(observation["gripper_position"][0])
        else:
            self.carry(observation)

    def way(self, observation: ObservationDict) -> Way:
        """See `Routine`."""
        if self.phase not in ("above", "down", "close"):
            return self.carry_way(observation)
        tool, grip = vector(observation, "tool_position"), self.grip(observation)
        turn = turn_to_yaw(vector(observation, "tool_quaternion"), self.grip_yaw(observation))
        width = 0.0 if self.phase == "close" else self.open_width
        near = self.phase == "close" or (self.phase == "down" and tool[2] - grip[2] < self.ABOVE_M / 2)
        return Way(self._approach(tool, grip) - tool, turn, width, self.grip_care if near else 1.0)

    def _approach(self, tool: Vector, grip: Vector) -> Vector:
        if self.phase == "above":
            far = min(1.0, float(np.linalg.norm(tool[:2] - grip[:2])) / 0.1)
            detour = np.array([*self.style.detour_m, 0.0]) * far
            return np.asarray(grip + self.wrong + detour + [0.0, 0.0, self.ABOVE_M])
        if self.phase == "down":
            # come down only as far as the tool is over the object
            beside = float(np.linalg.norm(tool[:2] - grip[:2]))
            height = 0.0 if beside < 0.012 else 0.05
            return np.asarray(grip + np.array([0.0, 0.0, height]))
        return self.closing(tool, grip)

    def _hold(self, width: float) -> float:
        """What to tell a gripper that has closed on something `width` m thick.

        Two fingers with a motor each hold a thing but do not centre it: told to shut they let it slide from side to
        side, until one of them is at its end. Told its thickness, less a little, each stops at its own place.
        """
        return 0.0 if self._coupled else max(0.0, width - self.squeeze_m)
