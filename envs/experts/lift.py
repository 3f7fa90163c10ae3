"""The expert of lift: pick the cube up, and go straight up."""

from __future__ import annotations

import numpy as np

from understudy.envs.experts.expert import ObservationDict, Vector
from understudy.envs.experts.picking import Picking
from understudy.envs.experts.routine import Way, turn_to_yaw, vector, yaw_of


class LiftExpert(Picking):
    """Over the cube, turn with it, down, close, up."""

    UP_M = 0.18

    def begin(self, observation: ObservationDict) -> None:
        """See `Routine`."""
        self._rest_z = float(observation["object_position"][2])

    def gripped(self, observation: ObservationDict) -> bool:
        """By time alone: demonstrations that were recorded before must come out the same."""
        return self.ticks > 4 + self.style.gripper_delay

    def closing(self, tool: Vector, grip: Vector) -> Vector:
        """Stay where it is, for the same reason."""
        return tool if self.ticks > self.style.gripper_delay else grip

    def carry(self, observation: ObservationDict) -> None:
        """See `Picking`."""
        if self.lost(observation):
            self.enter("above")

    def carry_way(self, observation: ObservationDict) -> Way:
        """See `Picking`."""
        tool = vector(observation, "tool_position")
        goal = np.array([tool[0], tool[1], self._rest_z + self.UP_M])
        yaw = yaw_of(vector(observation, "object_quaternion"), self.symmetry_rad)
        return Way(goal - tool, turn_to_yaw(vector(observation, "tool_quaternion"), yaw), 0.0)
