"""The expert of insert: pick the peg up near its top, hold it upright over the hole, turn with the hole, and lower it.

It steers the peg's lower end, not the tool: a peg sits a little askew between two fingers, and the hole forgives half a
millimetre to either side. Readings that are noisier than that are averaged (`steady.py`).
"""

from __future__ import annotations

import numpy as np

from understudy.envs.arms.rotations import quaternion_to_matrix, yaw_quaternion
from understudy.envs.experts.expert import ObservationDict, Vector
from understudy.envs.experts.picking import Picking
from understudy.envs.experts.routine import Way, rotation_between, turn_to_yaw, vector, yaw_of
from understudy.envs.experts.steady import Steady
from understudy.envs.tasks.insert import DEPTH_M, HALF_LENGTH_M


class InsertExpert(Picking):
    """Pick, lift, over, align, lower; where it meets the block instead of the hole, up and aligned again."""

    grip_m = np.array([0.0, 0.0, 0.02])
    after_closing = "lift"
    squeeze_m = 0.001
    grip_within_m = 0.003
    grip_care = 0.25
    lost_m = 0.035
    CARRIED_M = 0.04
    """The peg's end is this far above the block while it is carried there."""
    CLEAR_M = 0.005
    """The peg's end is this far above the block while it is aligned."""
    ALIGNED_M = 0.0005
    ALIGNED_RAD = 0.012
    STEADY_TICKS = 3
    """It is lowered when it has been aligned for so long: between two fingers it goes on when the hand has stopped."""
    INSIDE_M = 0.003
    """Once this deep, the hole itself guides the peg."""
    STUCK_TICKS = 8
    DESCENT_M = 0.001
    """A peg that came down less than this in `STUCK_TICKS` stands on the block."""
    CARE = 0.03
    CARE_INSIDE = 0.12
    UPRIGHT = 0.7
    """A peg whose axis rises less than this has fallen."""
    FALLEN_GRIP_M = 0.014
    """It is gripped this far above its middle: with the tips, between which it can still turn."""

    def begin(self, observation: ObservationDict) -> None:
        """See `Routine`."""
        self._heights: list[float] = []
        self._aligned = 0
        self._steady = Steady("object", "object_hole")

    def act(self, observation: ObservationDict) -> Vector:
        """See `Expert`; noisy readings are steadied first."""
        return super().act(self._steady.look(observation, self.phase not in ("above", "down", "close")))

    def grip(self, observation: ObservationDict) -> Vector:
        """See `Picking`."""
        low = self.phase in ("above", "down", "close") and self._fallen(observation)
        above = np.array([0.0, 0.0, self.FALLEN_GRIP_M]) if low else self.grip_m
        return np.asarray(vector(observation, "object_position") + above)

    def grip_yaw(self, observation: ObservationDict) -> float:
        """See `Picking`; a peg that has fallen is gripped across, and stood up by `_turn` on its way to the hole."""
        if not self._fallen(observation):
            return super().grip_yaw(observation)
        x, y, _ = quaternion_to_matrix(vector(observation, "object_quaternion"))[:, 2]
        return (float(np.arctan2(y, x)) + np.pi / 2) % np.pi - np.pi / 2

    def _fallen(self, observation: ObservationDict) -> bool:
        return abs(float(quaternion_to_matrix(vector(observation, "object_quaternion"))[2, 2])) < self.UPRIGHT

    def carry(self, observation: ObservationDict) -> None:
        """See `Picking`."""
        away = self._away(observation)
        beside, askew = float(np.linalg.norm(away[:2])), float(np.linalg.norm(self._turn(observation)))
        self._heights.append(-float(away[2]))
        if self.lost(observation):
            self._go("above")
        elif self.phase == "lift" and away[2] < self.CLEAR_M - self.CARRIED_M + 0.01:
            self._go("over")
        elif self.phase == "over" and beside < 0.004 and askew < 0.05 and abs(away[2]) < 0.006:
            self._go("align")
        elif self.phase == "align":
            aligned = beside < self.ALIGNED_M and askew < self.ALIGNED_RAD
            self._aligned = self._aligned + 1 if aligned else 0
            if self._aligned >= self.STEADY_TICKS:
                self._go("lower")
        elif self.phase == "lower" and not self._inside(away) and (self._stuck() or beside > 0.003):
            self._go("back")
        elif self.phase == "back" and away[2] < 0.002:
            self._go("align")

    def carry_way(self, observation: ObservationDict) -> Way:
        """See `Picking`."""
        away, tool = self._away(observation), vector(observation, "tool_quaternion")
        if self.phase == "lift":
            up = away[2] + self.CARRIED_M
            return Way(np.array([0.0, 0.0, up]), turn_to_yaw(tool, yaw_of(tool, np.pi)), self.held_width)
        turn = self._turn(observation)
        if self.phase == "over" and np.linalg.norm(away[:2]) > 0.02:
            return Way(away + np.array([0.0, 0.0, self.CARRIED_M - self.CLEAR_M]), turn, self.held_width)
        if self.phase in ("over", "back"):
            return Way(away, turn, self.held_width, care=0.3)
        if self.phase == "align":
            nearer = float(np.linalg.norm(away[:2])) / 0.02
            return Way(away, turn, self.held_width, care=float(np.clip(nearer, self.CARE, 0.3)))
        inside = self._inside(away)
        sideways = np.zeros(2) if inside else away[:2]
        down = np.array([*sideways, away[2] - self.CLEAR_M - DEPTH_M])
        return Way(down, turn, self.held_width, care=self.CARE_INSIDE if inside else self.CARE)

    def _go(self, phase: str) -> None:
        self.enter(phase)
        self._heights.clear()
        self._aligned = 0

    def _stuck(self) -> bool:
        recent = self._heights[-self.STUCK_TICKS - 1 :]
        return len(recent) > self.STUCK_TICKS and recent[0] - recent[-1] < self.DESCENT_M and not self.hand.pausing

    def _away(self, observation: ObservationDict) -> Vector:
        """(3,) m: from the peg's lower end to where it is aligned, `CLEAR_M` above the hole."""
        down = -quaternion_to_matrix(vector(observation, "object_quaternion"))[:, 2]
        end = vector(observation, "object_position") + HALF_LENGTH_M * down
        place = vector(observation, "object_hole_position") + np.array([0.0, 0.0, DEPTH_M / 2 + self.CLEAR_M])
        return np.asarray(place - end)

    def _inside(self, away: Vector) -> bool:
        return bool(away[2] > self.CLEAR_M + self.INSIDE_M)

    def _turn(self, observation: ObservationDict) -> Vector:
        """(3,) rad: the rotation vector that stands the peg upright, its sides along the hole's."""
        peg, hole = vector(observation, "object_quaternion"), vector(observation, "object_hole_quaternion")
        yaw, quarter = yaw_of(peg), np.pi / 2
        left = (yaw_of(hole) - yaw + quarter / 2) % quarter - quarter / 2
        return rotation_between(peg, yaw_quaternion(yaw + left))
