"""The expert of push: go behind the puck, as seen from the goal, and shove it there."""

from __future__ import annotations

import numpy as np

from understudy.envs.arms.robot import RobotDescription
from understudy.envs.experts.expert import ObservationDict, Vector
from understudy.envs.experts.hand import HumanStyle
from understudy.envs.experts.routine import Routine, Way, vector
from understudy.envs.tasks.push import RADIUS_M

HOVER_M = 0.09
"""Height of the lowest part of the arm while it goes around the puck."""
PUSH_M = 0.012
"""The same while it pushes."""
CARE_DOWN = 0.6
"""Of the way down: an arm near its base cannot brake at once, and one that runs into the table sticks there."""
FLANGE_M = (0.045, 0.052)
"""How far the flange of an arm without a gripper reaches below its tool point, and its radius (kuka_iiwa)."""
FINGERS_M = (0.008, 0.026)
"""The same of shut fingers."""


class PushExpert(Routine):
    """Above the place behind the puck, down, push while steering; around again when the puck has slipped aside."""

    def __init__(self, robot: RobotDescription, style: HumanStyle, rng: np.random.Generator) -> None:
        super().__init__(robot, style, rng)
        below, radius = FINGERS_M if robot.gripper else FLANGE_M
        self._hover_z, self._push_z = HOVER_M + below, PUSH_M + below
        self._behind_m = RADIUS_M + radius + 0.012

    def advance(self, observation: ObservationDict) -> None:
        """See `Routine`."""
        tool, puck, goal = (vector(observation, key) for key in ("tool_position", "object_position", "goal_position"))
        away = self._behind(puck, goal) + self.wrong - tool
        aside = self._aside(tool, puck, goal)
        if self.phase == "above" and np.linalg.norm(away[:2]) < 0.015 and self.ticks > 3:
            if np.any(self.wrong):
                self.wrong = np.zeros(3)
            else:
                self.enter("down")
        elif self.phase == "down" and abs(tool[2] - self._push_z) < 0.012:
            self.enter("push")
        elif self.phase == "push" and (aside > 0.6 * RADIUS_M or self._left(tool, puck)):
            self.enter("up")
        elif self.phase == "up" and tool[2] > self._hover_z - 0.02:
            self.enter("above")

    def way(self, observation: ObservationDict) -> Way:
        """See `Routine`."""
        tool, puck, goal = (vector(observation, key) for key in ("tool_position", "object_position", "goal_position"))
        if self.phase == "up":
            return Way(np.array([0.0, 0.0, self._hover_z + 0.01 - tool[2]]))
        if self.phase == "push":
            return Way(self._shove(tool, puck, goal), care=0.6)
        place = self._behind(puck, goal)
        height = self._hover_z if self.phase == "above" else self._push_z
        detour = np.array([*self.style.detour_m, 0.0]) if self.phase == "above" and self.ticks < 8 else np.zeros(3)
        offset = np.array([*place[:2], height]) + self.wrong + detour - tool
        if self.phase == "above" and tool[2] < self._hover_z - 0.03:
            offset[:2] = 0.0  # first up, so that the puck is not swept along
        return Way(offset, care=CARE_DOWN if self.phase == "down" else 1.0)

    def _behind(self, puck: Vector, goal: Vector) -> Vector:
        return np.asarray(puck - self._behind_m * _direction(puck, goal))

    def _shove(self, tool: Vector, puck: Vector, goal: Vector) -> Vector:
        """Towards the goal as far as the puck still has to go, and back onto the line through puck and goal."""
        along = _direction(puck, goal)
        left = float(np.linalg.norm((goal - puck)[:2]))
        gap = float((puck - tool)[:2] @ along[:2]) - self._behind_m + 0.012
        astray = (tool - puck) - ((tool - puck) @ along) * along
        forward = max(0.0, gap) + left if left > 0.008 else 0.0
        step = forward * along - 1.5 * astray
        step[2] = self._push_z - tool[2]
        return np.asarray(step)

    def _aside(self, tool: Vector, puck: Vector, goal: Vector) -> float:
        """m that the tool is beside the line through puck and goal."""
        along = _direction(puck, goal)[:2]
        flat = (tool - puck)[:2]
        behind = -float(flat @ along)
        return float(np.linalg.norm(flat + behind * along)) if behind > 0 else float("inf")

    def _left(self, tool: Vector, puck: Vector) -> bool:
        return float(np.linalg.norm((tool - puck)[:2])) > self._behind_m + 0.05


def _direction(puck: Vector, goal: Vector) -> Vector:
    """(3,) horizontal, of length 1."""
    flat = np.array([*(goal - puck)[:2], 0.0])
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-6))
