"""The expert of drawer: grip the handle from above, and pull along the way that the drawer opens."""

from __future__ import annotations

import numpy as np

from understudy.envs.arms.rotations import quaternion_to_matrix
from understudy.envs.experts.expert import ObservationDict
from understudy.envs.experts.picking import Picking
from understudy.envs.experts.routine import Way, turn_to_yaw, vector, yaw_of
from understudy.envs.tasks.drawer import OPEN_M


class DrawerExpert(Picking):
    """Over the handle, turn with the drawer, down, close, pull."""

    symmetry_rad = np.pi
    after_closing = "pull"
    FURTHER_M = 0.02
    """The drawer is pulled this much further than it must."""
    grip_within_m = 0.004
    grip_care = 0.4
    lost_m = 0.03

    def carry(self, observation: ObservationDict) -> None:
        """See `Picking`."""
        if self.lost(observation):
            self.enter("above")

    def carry_way(self, observation: ObservationDict) -> Way:
        """See `Picking`."""
        turned = vector(observation, "object_quaternion")
        outwards = -quaternion_to_matrix(turned)[:, 0]
        left = OPEN_M + self.FURTHER_M - float(observation["object_opening"][0])
        tool = vector(observation, "tool_position")
        astray = self.grip(observation) - tool
        offset = max(0.0, left) * outwards + astray - (astray @ outwards) * outwards
        turn = turn_to_yaw(vector(observation, "tool_quaternion"), yaw_of(turned, self.symmetry_rad))
        return Way(offset, turn, self.held_width, care=0.7)
