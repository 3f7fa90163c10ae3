"""The expert of stack: pick the cube up, carry it over the other, set it down, let go, and leave upwards."""

from __future__ import annotations

import numpy as np

from understudy.envs.experts.expert import ObservationDict, Vector
from understudy.envs.experts.picking import Picking
from understudy.envs.experts.routine import Way, turn_to_yaw, vector, yaw_of
from understudy.envs.tasks.stack import UP_M


class StackExpert(Picking):
    """Pick, lift, over, lower, release, leave."""

    CLEAR_M = 0.05
    """The cube is carried this far above its place on top."""
    after_closing = "lift"

    def carry(self, observation: ObservationDict) -> None:
        """See `Picking`."""
        away = self._away(observation)
        beside = float(np.linalg.norm(away[:2]))
        if self.phase in ("lift", "over", "lower") and self.lost(observation):
            self.enter("above")
        elif self.phase == "lift" and away[2] < 0.01 - 0.7 * self.CLEAR_M:
            self.enter("over")
        elif self.phase == "over" and beside < 0.006 and away[2] > -self.CLEAR_M - 0.02 and self.ticks > 5:
            self.enter("lower")
        elif self.phase == "lower" and away[2] > -0.003 and beside < 0.012:
            self.enter("release")
        elif self.phase == "release" and self.ticks > 8 + self.style.gripper_delay:
            self.enter("leave")
        elif self.phase == "leave" and self.ticks > 15 and float(np.linalg.norm(away)) > 0.03:
            self.enter("above")

    def carry_way(self, observation: ObservationDict) -> Way:
        """See `Picking`."""
        away, tool = self._away(observation), vector(observation, "tool_quaternion")
        turn = turn_to_yaw(tool, yaw_of(tool, np.pi))
        if self.phase == "release":
            opening = self.open_width if self.ticks > self.style.gripper_delay else self.held_width
            return Way(np.zeros(3), turn, opening, care=0.1)
        if self.phase == "leave":
            return Way(np.array([0.0, 0.0, 0.1]), turn, self.open_width)
        above = np.array([0.0, 0.0, self.CLEAR_M])
        if self.phase == "lift":
            return Way(np.array([0.0, 0.0, (away + above)[2] + 0.02]), turn, self.held_width)
        if self.phase == "over":
            return Way(away + above, turn, self.held_width)
        if np.linalg.norm(away[:2]) > 0.01:
            away[2] = 0.0  # straighten out before going down
        return Way(away, turn, self.held_width, care=0.5)

    @staticmethod
    def _away(observation: ObservationDict) -> Vector:
        """(3,) m: from the cube to its place on top of the base."""
        on_top = vector(observation, "object_base_position") + np.array([0.0, 0.0, UP_M])
        return np.asarray(on_top - vector(observation, "object_position"))
