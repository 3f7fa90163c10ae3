"""The Guard: limits around any arm. Teleoperation, evaluation on hardware and deployment all command through it.

What it promises of the set points it sends, one a control period: joint positions inside their limits; their first,
second and third differences inside the velocity, acceleration and jerk limits; the tool inside the workspace box; and
that stopping from any of them stays inside all of these. Smooth limiting is ruckig's.

How: each period ruckig plans the fastest limited motion, to the target at rest or, for a command that carries a
velocity (a step), to that velocity. The Guard accepts the state one period along it
only if braking from there stays inside; otherwise it takes the next step of braking instead, which was checked one
period before. So the arm can always stop (the viability argument of braking-based safety filters).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import ruckig
from numpy.typing import NDArray

from understudy.envs.arms.arm import Arm, Command, Observation, Start
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import RobotDescription
from understudy.errors import ArmFault, InputError

Vector = NDArray[np.float64]

FIRST_JUMP_RAD = 0.35
"""The first command of an episode may ask for no more than this, on any joint, from where the arm stands."""
SKIN_M = 0.001
"""The box is kept this much smaller inside, so that what lies between the checked points of a stop stays in it too."""
CHANGED_RAD = 5e-3
"""A set point further than this from what was asked counts as changed."""


class Guard:
    """An arm that cannot be commanded outside its limits. `counts` says how often what was asked was changed."""

    def __init__(self, arm: Arm, *, kinematics: Kinematics | None = None) -> None:
        self.inner = arm
        self.clock = arm.clock
        self.counts: Counter[str] = Counter()
        """joint_position, motion (velocity, acceleration or jerk), workspace, gripper, not_finite -> set points."""
        robot = arm.describe()
        self._robot = robot
        self._kinematics = kinematics or Kinematics(robot)
        self._lower, self._upper = robot.joint_array("lower"), robot.joint_array("upper")
        self._low = np.array(robot.workspace.low) + SKIN_M
        self._high = np.array(robot.workspace.high) - SKIN_M
        self._speed = robot.joint_array("velocity")
        self._motion = _LimitedMotion(robot)
        self._width: float | None = None
        self._begun = False

    def describe(self) -> RobotDescription:
        """See `Arm`."""
        return self._robot

    def observe(self) -> Observation:
        """See `Arm`."""
        return self.inner.observe()

    def reset(self, start: Start) -> Observation:
        """See `Arm`; the Guard forgets its set point and takes the arm's own."""
        self._begun = False
        return self.inner.reset(start)

    def close(self) -> None:
        """See `Arm`."""
        self.inner.close()

    def send(self, command: Command) -> Command:
        """Limit `command`, send it, and return what was sent; the caller's arrays are left as they are.

        A command with a value that is not finite brakes the arm and is counted.

        Raises:
            InputError: the command has the wrong number of joints.
            ArmFault: the first command of an episode asks for a jump.
        """
        asked = np.array(command.joint_position, np.float64)
        if asked.shape != self._lower.shape:
            raise InputError(
                f"Command for {self._robot.name!r} has {asked.shape} joint positions; expected {self._lower.shape}, "
                f"in the order {list(self._robot.joint_names)}."
            )
        if not np.all(np.isfinite(asked)) or not np.isfinite(command.gripper_position or 0.0):
            self.counts["not_finite"] += 1
            return self._brake()
        if not self._begun:
            self._begin(asked)
        target = np.clip(asked, self._lower, self._upper)
        if np.any(np.abs(target - asked) > CHANGED_RAD):
            self.counts["joint_position"] += 1
        before = self._motion.position
        following = self._motion.follow(self._wanted_speed(command, asked, target), target)
        if self._may_brake_from(following):
            if np.any(np.abs(following[0] - target) > CHANGED_RAD):
                self.counts["motion"] += 1
        else:
            self.counts["workspace"] += 1
            following = self._motion.braking()
        return self._send(before, following, command.gripper_position)

    def hold(self) -> None:
        """Brake within the limits, then stay; call once a period until the arm rests, and as long after as you like."""
        if self._begun:
            self._brake()
        else:
            self.inner.hold()

    @property
    def at_rest(self) -> bool:
        """Whether the set point has stopped."""
        return self._motion.at_rest

    def _wanted_speed(self, command: Command, asked: Vector, target: Vector) -> Vector | None:
        """The velocity a step asks for, none into a limit; None where the command is a place to come to rest at."""
        if command.joint_velocity is None or not np.all(np.isfinite(command.joint_velocity)):
            return None
        return np.where(asked == target, np.clip(command.joint_velocity, -self._speed, self._speed), 0.0)

    def _begin(self, asked: Vector) -> None:
        """Take the arm's measured position as the set point, and refuse a first command far from it."""
        seen = self.inner.observe()
        if "joint_position" not in seen:
            raise ArmFault("The arm has not reported its joint positions yet, so nothing may be sent; is it running?")
        here = np.asarray(seen["joint_position"], np.float64)
        jump = np.abs(asked - here)
        worst = int(np.argmax(jump))
        if jump[worst] > FIRST_JUMP_RAD:
            raise ArmFault(
                f"The first command asks joint {worst} ({self._robot.joint_names[worst]!r}) to go to "
                f"{asked[worst]:.3f} rad from {here[worst]:.3f} rad; at most {FIRST_JUMP_RAD} rad is allowed. "
                "Bring the arm near the start, or reset the set point to where the arm stands."
            )
        self._motion.set(np.clip(here, self._lower, self._upper))
        self._width = float(seen["gripper_position"][0]) if "gripper_position" in seen else None
        self._begun = True

    def _brake(self) -> Command:
        if not self._begun:
            self._begin(np.asarray(self.inner.observe()["joint_position"], np.float64))
        return self._send(self._motion.position, self._motion.braking(), None)

    def _send(self, before: Vector, following: Sequence[Vector], asked_width: float | None) -> Command:
        self._motion.accept(following)
        velocity = (following[0] - before) / self._robot.period_s
        return self.inner.send(Command(following[0].copy(), self._limit_width(asked_width), velocity))

    def _limit_width(self, asked: float | None) -> float | None:
        """The gripper's set point: within its opening, no faster than its speed."""
        gripper = self._robot.gripper
        if gripper is None or asked is None:
            return None
        width = float(np.clip(asked, 0.0, gripper.width))
        if width != asked:
            self.counts["gripper"] += 1
        step = gripper.speed * self._robot.period_s
        if self._width is not None:
            width = float(np.clip(width, self._width - step, self._width + step))
        self._width = width
        return width

    def _may_brake_from(self, state: Sequence[Vector]) -> bool:
        """Whether a stop begun at `state` (position, velocity, acceleration) stays inside joint limits and workspace.

        A tool that is already outside the box (the arm was found there) may move as long as it gets no further out.
        """
        path = self._motion.stop_path(state)
        if np.any(path < self._lower - 1e-9) or np.any(path > self._upper + 1e-9):
            return False
        allowed = max(self._outside(self._motion.position), SKIN_M / 2)
        return all(self._outside(joints) <= allowed + 1e-9 for joints in path)

    def _outside(self, joints: Vector) -> float:
        """How far the tool is outside the workspace box, m; 0 inside."""
        tool = self._kinematics.tool_position(joints)
        return float(np.max(np.maximum(np.maximum(self._low - tool, tool - self._high), 0.0)))


_SYNCHRONIZATIONS = (ruckig.Synchronization.Phase, ruckig.Synchronization.No)
"""Joints that start and stop together draw a straight line in joint space: no dips on the way. Ruckig cannot always
synchronize motions of 1e-14 rad; then each joint goes for itself."""
_STILL = 1e-9
"""Rounding: speeds (rad/s) and accelerations (rad/s^2) below this are zero."""


class _LimitedMotion:
    """The set point's state (position, velocity, acceleration), and where ruckig can bring it in one period."""

    def __init__(self, robot: RobotDescription) -> None:
        size = len(robot.joints)
        self._period_s = robot.period_s
        self._planner = ruckig.Ruckig(size)
        self._plan = ruckig.Trajectory(size)
        self._input = ruckig.InputParameter(size)
        self._input.max_velocity = robot.joint_array("velocity").tolist()
        self._input.max_acceleration = robot.joint_array("acceleration").tolist()
        self._input.max_jerk = robot.joint_array("jerk").tolist()
        self._input.target_acceleration = [0.0] * size
        self._state: tuple[Vector, Vector, Vector] = (robot.home, np.zeros(size), np.zeros(size))

    @property
    def position(self) -> Vector:
        return self._state[0]

    @property
    def at_rest(self) -> bool:
        return not np.any(np.abs(self._state[1]) > 1e-6) and not np.any(np.abs(self._state[2]) > 1e-6)

    def set(self, position: Vector) -> None:
        self._state = (np.array(position), np.zeros_like(position), np.zeros_like(position))

    def accept(self, state: Sequence[Vector]) -> None:
        position, velocity, acceleration = state
        self._state = (position, velocity, acceleration)

    def follow(self, velocity: Vector | None, target: Vector) -> tuple[Vector, Vector, Vector]:
        """The state one period on: along the fastest change to `velocity`, or the fastest way to rest at `target`."""
        if velocity is None:
            self._input.control_interface = ruckig.ControlInterface.Position
            self._input.target_position = target.tolist()
            velocity = np.zeros_like(target)
        else:
            self._input.control_interface = ruckig.ControlInterface.Velocity
        self._input.target_velocity = velocity.tolist()
        self._calculate(self._state)
        return self._at(self._period_s)

    def braking(self) -> tuple[Vector, Vector, Vector]:
        """The state one period along the fastest stop."""
        self._calculate_stop(self._state)
        return self._at(self._period_s)

    def stop_path(self, state: Sequence[Vector]) -> Vector:
        """(4, J) joints at the beginning, two points between, and the end of the fastest stop from `state`."""
        self._calculate_stop(state)
        end = self._plan.duration
        return np.array([state[0], *(self._plan.at_time(end * part)[0] for part in (0.35, 0.7, 1.0))])

    def _calculate_stop(self, state: Sequence[Vector]) -> None:
        self._input.control_interface = ruckig.ControlInterface.Velocity
        self._input.target_velocity = [0.0] * len(self._state[0])
        self._calculate(state)

    def _calculate(self, state: Sequence[Vector]) -> None:
        position, velocity, acceleration = state
        self._input.current_position = position.tolist()
        self._input.current_velocity = velocity.tolist()
        self._input.current_acceleration = acceleration.tolist()
        for synchronization in _SYNCHRONIZATIONS:
            self._input.synchronization = synchronization
            try:
                self._planner.calculate(self._input, self._plan)
            except ruckig.RuckigError:
                continue
            return
        raise ArmFault(
            f"No limited motion was found from {position.round(3).tolist()} rad at "
            f"{velocity.round(3).tolist()} rad/s; hold the arm and reset."
        )

    def _at(self, time_s: float) -> tuple[Vector, Vector, Vector]:
        position, velocity, acceleration = self._plan.at_time(time_s)
        return np.array(position), _snap(velocity), _snap(acceleration)


def _snap(values: Sequence[float]) -> Vector:
    array = np.array(values)
    array[np.abs(array) < _STILL] = 0.0
    return array
