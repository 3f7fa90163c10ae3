"""Which limit a planned motion, and the stop that follows it, would pass: the workspace box, efforts, joint positions.

The Guard asks this of every plan before it takes it; `limited_motion.py` has kept speeds within limits by then.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.dynamics import Dynamics
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.limited_motion import LimitedMotion, MotionPlan
from understudy.envs.arms.robot import RobotDescription

Vector = NDArray[np.float64]

SKIN_M = 0.001
"""The box is kept this much smaller inside, so that what lies between two set points stays in it too."""
OVERLOAD = 1.1
"""An arm found where gravity alone asks for more than a joint's effort may be moved with this much of what it asks."""


class StopCheck:
    """Judges the plans of one arm."""

    def __init__(self, robot: RobotDescription, kinematics: Kinematics) -> None:
        self._kinematics = kinematics
        self._dynamics = Dynamics(robot)
        self._rate_hz = robot.rate_hz
        self.limits_effort = self._dynamics.known
        """False: the URDF has no masses."""
        self._rated = robot.joint_array("effort")
        self.effort = self._rated
        """(J,) N m that is allowed now."""
        self._lows, self._highs = robot.joint_array("lower").tolist(), robot.joint_array("upper").tolist()
        self._low = [low + SKIN_M for low in robot.workspace.low]
        self._high = [high - SKIN_M for high in robot.workspace.high]

    def begin_at(self, joints: Vector) -> None:
        """The arm was found at `joints` (J,): what holds it there, and a little more, is allowed."""
        still = np.zeros_like(joints)
        self.effort = np.maximum(self._rated, OVERLOAD * np.abs(self._dynamics.torque(joints, still, still)))

    def passed(self, plan: MotionPlan, motion: LimitedMotion) -> Literal["workspace", "effort"] | None:
        """The limit that a plan's next set point from `motion`, or the stop from there, would pass; None: none.

        A tool that is already outside the box (the arm was found there) may move as long as it gets no further out.
        """
        if not plan.within(self._lows, self._highs):
            return "workspace"
        rest = plan.states[-1].position
        path = np.array([motion.before, motion.position, *(state.position for state in plan.states), rest, rest])
        farthest = max(map(self._outside, path[2:-2]))
        if farthest > SKIN_M / 2 + 1e-9 and farthest > self._outside(path[1]) + 1e-9:
            return "workspace"
        if self.limits_effort and (np.abs(self._torques(path)) > self.effort).any():
            return "effort"
        return None

    def _torques(self, path: Vector) -> Vector:
        """(K, J) N m at the set points between the first and the last of `path` (K + 2, J), from their differences."""
        velocity = (path[2:] - path[:-2]) * (0.5 * self._rate_hz)
        acceleration = (path[2:] - 2.0 * path[1:-1] + path[:-2]) * self._rate_hz**2
        return self._dynamics.torques(path[1:-1], velocity, acceleration)

    def _outside(self, joints: Vector) -> float:
        """How far the tool is outside the workspace box, m; 0 inside."""
        x, y, z = self._kinematics.tool_place(joints)
        (low_x, low_y, low_z), (high_x, high_y, high_z) = self._low, self._high
        return float(max(0.0, low_x - x, x - high_x, low_y - y, y - high_y, low_z - z, z - high_z))
