"""The expert of pick and place: pick the cube up, carry it over the goal, lower it there and hold it."""

from __future__ import annotations

import numpy as np

from understudy.envs.experts.expert import ObservationDict
from understudy.envs.experts.picking import Picking
from understudy.envs.experts.routine import Way, turn_to_yaw, vector, yaw_of


class PickPlaceExpert(Picking):
    """Pick, up, over, lower, hold."""

    TRANSIT_M = 0.04
    """How far above the table the cube is carried, at least."""
    after_closing = "carry"

    def begin(self, observation: ObservationDict) -> None:
        """See `Routine`."""
        self._rest_z = float(observation["object_position"][2])

    def carry(self, observation: ObservationDict) -> None:
        """See `Picking`."""
        if self.lost(observation):
            self.enter("above")

    def carry_way(self, observation: ObservationDict) -> Way:
        """See `Picking`."""
        cube, goal = vector(observation, "object_position"), vector(observation, "goal_position")
        offset = goal - cube
        if np.linalg.norm(offset[:2]) > 0.02:
            offset[2] = max(goal[2], self._rest_z + self.TRANSIT_M) - cube[2]
            if cube[2] < self._rest_z + 0.5 * self.TRANSIT_M:
                offset[:2] = 0.0
        yaw = yaw_of(vector(observation, "object_quaternion"), self.symmetry_rad)
        return Way(offset, turn_to_yaw(vector(observation, "tool_quaternion"), yaw), self.held_width)
