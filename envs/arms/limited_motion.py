"""Motion within velocity, acceleration and jerk limits, one set point a period, that can always stop; by ruckig.

The Guard asks for plans here and decides which to accept; this module knows nothing of workspaces and efforts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import ruckig
from numpy.typing import NDArray

from understudy.envs.arms.robot import RobotDescription

Vector = NDArray[np.float64]

GENTLE = 0.25
"""Where the fastest motion needs too much effort, one with this share of acceleration and jerk is tried."""
ROUNDING_RAD = 1e-9
_SYNCHRONIZATIONS = (ruckig.Synchronization.Phase, ruckig.Synchronization.No)
"""Joints that start and stop together draw a straight line in joint space: no dips on the way. Ruckig cannot always
synchronize motions of 1e-14 rad; then each joint goes for itself."""
_STILL = 1e-9
"""Rounding: speeds (rad/s) and accelerations (rad/s^2) below this are zero."""


class MotionState(NamedTuple):
    """Position, velocity and acceleration of the joints, J plain floats each, as ruckig takes and gives them."""

    position: list[float]
    velocity: list[float]
    acceleration: list[float]


class MotionPlan(NamedTuple):
    """The next state and then, one period apart, the states of a stop from there; the last one is at rest."""

    states: tuple[MotionState, ...]
    extremes: Sequence[ruckig.Bound]
    """The joints' extremes over all of the stop, also between the states."""

    def within(self, lower: list[float], upper: list[float]) -> bool:
        """Whether the J joints stay between their limits, rad."""
        return all(
            low - ROUNDING_RAD <= one.min and one.max <= high + ROUNDING_RAD
            for low, one, high in zip(lower, self.extremes, upper, strict=True)
        )


class LimitedMotion:
    """The set point's state, where ruckig can bring it in one period, and the stop that is left if it cannot go on."""

    def __init__(self, robot: RobotDescription) -> None:
        size = len(robot.joints)
        self._period_s = robot.period_s
        self._planner = ruckig.Ruckig(size)
        self._trajectory = ruckig.Trajectory(size)
        self._input = ruckig.InputParameter(size)
        self._speed = robot.joint_array("velocity")
        self._input.max_velocity = self._speed.tolist()
        self._limits = {
            share: [(share * robot.joint_array(field)).tolist() for field in ("acceleration", "jerk")]
            for share in (1.0, GENTLE)
        }
        self._still = [0.0] * size
        self._input.target_acceleration = self._still
        self.set(robot.home)

    @property
    def state(self) -> MotionState:
        """The present set point's."""
        return self.states[0]

    @property
    def position(self) -> list[float]:
        """(J,) rad: the present set point."""
        return self.state.position

    @property
    def at_rest(self) -> bool:
        """Whether the set point stands still."""
        return all(abs(rate) <= 1e-6 for rate in (*self.state.velocity, *self.state.acceleration))

    def set(self, position: Vector) -> None:
        """Stand still at `position`."""
        self.before: list[float] = position.tolist()
        """(J,) the set point before the present one."""
        self.states: tuple[MotionState, ...] = (MotionState(self.before, self._still, self._still),)
        """The present set point's state, and then those of the stop that is left."""

    def stop_at(self, position: Vector, velocity: Vector) -> MotionPlan | None:
        """Be at `position` (J,) with `velocity` (J,), rad/s; returns the fastest stop from there, for `accept`.

        None where ruckig finds none. What is neither accepted nor `set` anew after this goes on at that speed for ever.
        """
        self.before = (position - velocity * self._period_s).tolist()
        self.states = (MotionState(position.tolist(), velocity.tolist(), self._still),)
        return self._stop_from(self.state)

    def accept(self, plan: MotionPlan) -> None:
        """Go to a plan's next state, and keep the stop that follows it."""
        self.before, self.states = self.position, plan.states

    def brake(self) -> None:
        """Go one period along the stop that was kept; stay where it ended."""
        self.before, self.states = self.position, self.states[1:] or self.states

    def follow(self, velocity: list[float] | None, target: list[float], share: float) -> MotionPlan | None:
        """One period along the fastest change to `velocity`, or the fastest way to rest at `target`, and a stop.

        With `share` (1 or `GENTLE`) of the acceleration and jerk that are allowed; the stop may use all of them. None
        where ruckig finds no such motion, or the present motion is too lively for a gentle one.
        """
        if share < 1.0 and not self._is_gentle():
            return None
        self._input.max_acceleration, self._input.max_jerk = self._limits[share]
        if velocity is None:
            self._input.control_interface = ruckig.ControlInterface.Position
            self._input.target_position = target
        else:
            self._input.control_interface = ruckig.ControlInterface.Velocity
        if not self._calculate(self.state, self._still if velocity is None else velocity):
            return None
        following = MotionState(*self._trajectory.at_time(self._period_s))
        return self._stop_from(following, (following,))

    def _stop_from(self, state: MotionState, first: tuple[MotionState, ...] = ()) -> MotionPlan | None:
        """`first`, and then the fastest stop, from one period after `state` on; nothing follows where that rests."""
        self._input.max_acceleration, self._input.max_jerk = self._limits[1.0]
        self._input.control_interface = ruckig.ControlInterface.Velocity
        if not self._calculate(state, self._still):
            return None
        periods = math.ceil(self._trajectory.duration / self._period_s)
        stop = [MotionState(*self._trajectory.at_time(self._period_s * (index + 1))) for index in range(periods)]
        return MotionPlan((*first, *stop), self._trajectory.position_extrema)

    def _is_gentle(self) -> bool:
        """Whether the present motion could have come of gentle limits, so that going on within them passes no other."""
        velocity, acceleration = np.array(self.state.velocity), np.array(self.state.acceleration)
        most, jerk = (np.array(limit) for limit in self._limits[GENTLE])
        peak = np.abs(velocity) + acceleration**2 / (2.0 * jerk)  # when the acceleration fades at once
        return bool(np.all(np.abs(acceleration) <= most) and np.all(peak <= self._speed))

    def _calculate(self, state: MotionState, velocity: list[float]) -> bool:
        self._input.target_velocity = velocity
        self._input.current_position = state.position
        self._input.current_velocity = _without_rounding(state.velocity)
        self._input.current_acceleration = _without_rounding(state.acceleration)
        for synchronization in _SYNCHRONIZATIONS:
            self._input.synchronization = synchronization
            try:
                self._planner.calculate(self._input, self._trajectory)
            except ruckig.RuckigError:
                continue
            return True
        return False


def _without_rounding(rates: list[float]) -> list[float]:
    return [0.0 if -_STILL < rate < _STILL else rate for rate in rates]
