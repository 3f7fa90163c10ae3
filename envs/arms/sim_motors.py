"""The motors of a simulated arm: how commands become motion in PyBullet.

A command becomes a set point, which `actuation.py` says how the joints follow. A command may wait for the episode's
action delay before it acts. Owns set points, gains, forces, latency and the gripper; `sim_arm.py` owns the body, the
scene and time.
"""

from __future__ import annotations

import math
import operator
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pybullet
from numpy.typing import NDArray

from understudy.envs.arms.actuation import Actuation
from understudy.envs.arms.arm import Command
from understudy.envs.arms.dynamics import Dynamics
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.sim_clock import PHYSICS_HZ
from understudy.envs.arms.sim_physics import DAMPING
from understudy.errors import InputError

Vector = NDArray[np.float64]

STEP_NS = 1_000_000_000 // PHYSICS_HZ
FINGER_GAIN = 0.1
"""PyBullet's own default position gain."""
GEAR_ERP = 0.8
"""Share of a gear's play that one physics step takes back."""
GEAR_FORCE = 100.0
"""What the gears of a gripper can carry, N m: more than any finger's motor."""
GEAR_DAMPING = 0.05
"""N m s/rad: keeps gears between light fingers from ringing."""
PAD_STIFFNESS_N_M = 30000.0
PAD_DAMPING_N_S_M = 1000.0
"""Finger pads are rubber: they give, and what they hold does not creep. The numbers of the panda's URDF, for all."""


@dataclass(frozen=True)
class MotorState:
    """Everything the motors remember from one physics step to the next."""

    begun_at: Vector
    target: Vector
    """(J,) rad: the set point moves from `begun_at` to `target`."""
    begun_ns: int
    width: float
    width_target: float
    """Opening widths, m: now, and where it goes."""
    waiting: tuple[tuple[int, Command], ...]
    """Commands that the action delay holds back, each with the stamp at which it acts."""


class Motors(NamedTuple):
    """Some of a body's motors, as PyBullet takes them."""

    joints: list[int]
    forces: list[float]
    """The most that each has: N m, or N where it slides."""
    gains: list[float]
    """Of the position, for position control."""


class SimMotors:
    """Drives the joints and fingers of one body."""

    def __init__(
        self,
        client: int,
        body: int,
        robot: RobotDescription,
        joints: list[int],
        fingers: list[int],
        actuation: Actuation | None = None,
    ) -> None:
        """Args:
        client: PyBullet's connection.
        body: the arm in it.
        robot: limits, rate and gripper.
        joints: PyBullet's indices of the arm's joints, in the robot's order.
        fingers: the same of the gripper's joints; empty where there is none.
        actuation: how the joints are driven; position control where it is None.

        Raises:
            InputError: torques are to be computed for a robot whose URDF has no masses.
        """
        self._client, self._body, self._robot = client, body, robot
        self._joints, self._fingers = joints, fingers
        self._efforts, self._speeds = robot.joint_array("effort"), robot.joint_array("velocity")
        self._actuation = actuation or Actuation()
        self._follow = {"position": self._by_position, "velocity": self._by_velocity, "torque": self._by_torque}[
            self._actuation.mode
        ]
        self._rate_hz, self._period_ns = robot.rate_hz, robot.period_s * 1e9
        self._still = [0.0] * len(joints)
        self.torques: list[float] | None = None
        """(J,) N m of the physics step before under torque control, which PyBullet does not report; otherwise None."""
        if self._actuation.mode == "torque":
            self._prepare_torques()
        self.open_width = robot.gripper.width if robot.gripper else 0.0
        """m; 0 where there is no gripper."""
        self._waiting: deque[tuple[int, Command]] = deque()
        for finger in fingers:
            pybullet.changeDynamics(
                body,
                finger,
                frictionAnchor=1,
                contactStiffness=PAD_STIFFNESS_N_M,
                contactDamping=PAD_DAMPING_N_S_M,
                physicsClientId=client,
            )
        ends = list(robot.gripper.joints.values()) if robot.gripper is not None else []
        driven = len(fingers)
        if robot.gripper is not None and robot.gripper.coupled:
            driven = 1
            self._couple(ends)
        self._finger_ways = [(closed, opened - closed) for closed, opened in ends[:driven]]
        """Of each driven finger: its position where the gripper is shut, and how far it moves to open; what
        `RobotDescription.finger_positions` reckons with, as plain floats, because every physics step reads them."""
        self._still_fingers = [0.0] * driven
        self._driven = joints, fingers[:driven]
        """What motors move."""
        self._width_step = robot.gripper.speed / PHYSICS_HZ if robot.gripper is not None else 0.0
        self.set_physics(1.0, 1.0, 0.0)
        self.stand(robot.home, self.open_width)

    def set_physics(self, gain_scale: float, strength_scale: float, delay_s: float, gripper_scale: float = 1.0) -> None:
        """This episode's motors: gain, effort limit and gripper force against nominal, and the delay of commands, s."""
        self._gain_scale = gain_scale
        self._limits = (self._efforts * strength_scale).tolist()
        grip = self._robot.gripper.force if self._robot.gripper is not None else 0.0
        (joints, fingers), position_gain = self._driven, self._actuation.position_gain * gain_scale
        self._joints_motors = Motors(joints, self._limits, [position_gain] * len(joints))
        self._finger_motors = Motors(fingers, [grip * gripper_scale] * len(fingers), [FINGER_GAIN] * len(fingers))
        self._all_motors = Motors(*map(operator.add, self._joints_motors, self._finger_motors))
        self._delay_ns = round(delay_s * 1e9)

    def stand(self, position: Vector, width: float) -> None:
        """Forget every command; the set point is `position` (J,) rad and `width` m."""
        self._waiting.clear()
        self._set_way(np.asarray(position, np.float64), np.asarray(position, np.float64))
        self._begun_ns = 0
        self._width = self._width_target = width
        self._width_applied = float("nan")

    def send(self, now_ns: int, command: Command, late_ns: int = 0) -> None:
        """Take a command; it acts after the episode's delay and `late_ns`, and never before the one before it."""
        due_ns = now_ns + self._delay_ns + late_ns
        self._waiting.append((max(due_ns, self._waiting[-1][0]) if self._waiting else due_ns, command))

    def hold(self, now_ns: int, position: Vector) -> None:
        """Forget the commands that wait and make `position` (J,) rad the set point at once."""
        self._waiting.clear()
        self._begin(now_ns, Command(position))
        self._set_way(self._target, self._target)

    def drive(self, now_ns: int) -> None:
        """Set the motors for the physics step that begins at `now_ns`."""
        while self._waiting and self._waiting[0][0] <= now_ns:
            self._begin(now_ns, self._waiting.popleft()[1])
        end_ns = now_ns + STEP_NS
        goal = self._set_point(end_ns)
        velocity = self._velocity if end_ns <= self._begun_ns + self._period_ns + 1000 else self._still
        stay = self._width == self._width_target == self._width_applied or not self._finger_ways
        if stay:  # PyBullet keeps what the fingers' motors were told
            self._follow(goal, velocity)
        elif self._actuation.mode == "position":  # both in one call
            self._by_position(goal + self._finger_goal(), velocity + self._still_fingers, self._all_motors)
        else:
            self._follow(goal, velocity)
            self._by_position(self._finger_goal(), self._still_fingers, self._finger_motors)

    def state(self) -> MotorState:
        """What `restore` needs to go on exactly as from here."""
        return MotorState(
            self._from,
            self._target,
            self._begun_ns,
            self._width,
            self._width_target,
            tuple(self._waiting),
        )

    def restore(self, state: MotorState) -> None:
        """Go on from `state`."""
        self._set_way(state.begun_at, state.target)
        self._begun_ns = state.begun_ns
        self._width, self._width_target = state.width, state.width_target
        self._width_applied = float("nan")
        self._waiting = deque(state.waiting)

    def _begin(self, now_ns: int, command: Command) -> None:
        target = command.joint_position
        self._set_way(target if self._actuation.hold == "zero_order" else np.array(self._set_point(now_ns)), target)
        self._begun_ns = now_ns
        if command.gripper_position is not None:
            self._width_target = command.gripper_position

    def _set_way(self, begun_at: Vector, target: Vector) -> None:
        """The set point moves from `begun_at` to `target`. Kept as plain floats: every physics step reads them."""
        self._from, self._target = begun_at, target
        way = target - begun_at
        self._way = list(zip(begun_at.tolist(), way.tolist(), strict=True))
        self._velocity: list[float] = (way * self._rate_hz).tolist()

    def _set_point(self, now_ns: int) -> list[float]:
        done = min(1.0, (now_ns - self._begun_ns) * 1e-9 * self._rate_hz)
        return [begun_at + done * way for begun_at, way in self._way]

    def _by_position(self, goal: list[float], velocity: list[float], motors: Motors | None = None) -> None:
        """`goal` and `velocity` are of `motors`; of the joints' where there are none."""
        moved, forces, gains = motors or self._joints_motors
        pybullet.setJointMotorControlArray(
            self._body,
            moved,
            pybullet.POSITION_CONTROL,
            targetPositions=goal,
            targetVelocities=velocity,
            forces=forces,
            positionGains=gains,
            physicsClientId=self._client,
        )

    def _by_velocity(self, goal: list[float], velocity: list[float]) -> None:
        here, _ = self._measured()
        speed = velocity + self._actuation.follow_hz * self._gain_scale * (goal - here)
        pybullet.setJointMotorControlArray(
            self._body,
            self._joints,
            pybullet.VELOCITY_CONTROL,
            targetVelocities=np.clip(speed, -self._speeds, self._speeds).tolist(),
            forces=self._limits,
            physicsClientId=self._client,
        )

    def _by_torque(self, goal: list[float], velocity: list[float]) -> None:
        here, speed = self._measured()
        frequency = self._actuation.frequency_rad_s * self._gain_scale**0.5
        acceleration = frequency**2 * (goal - here)
        acceleration += 2.0 * self._actuation.damping_ratio * frequency * (velocity - speed)
        needed = self._dynamics.torque(here, speed, acceleration) + DAMPING * speed
        self.torques = np.clip(needed, np.negative(self._limits), self._limits).tolist()
        pybullet.setJointMotorControlArray(
            self._body, self._joints, pybullet.TORQUE_CONTROL, forces=self.torques, physicsClientId=self._client
        )

    def _measured(self) -> tuple[Vector, Vector]:
        """Positions and velocities (J,) of the joints in rad and rad/s, as an encoder tells them."""
        states = pybullet.getJointStates(self._body, self._joints, physicsClientId=self._client)
        return np.array([state[0] for state in states]), np.array([state[1] for state in states])

    def _prepare_torques(self) -> None:
        """The arm's nominal dynamics; and PyBullet's own motors, which brake every joint, are switched off."""
        self._dynamics = Dynamics(self._robot)
        if not self._dynamics.known:
            raise InputError(
                f"Torque control of {self._robot.name!r} needs the mass of every link, and some have none in "
                f"{self._robot.kinematics_path()}; add <inertial> to them, or drive it by position or velocity."
            )
        self.torques = [0.0] * len(self._joints)
        pybullet.setJointMotorControlArray(
            self._body, self._joints, pybullet.VELOCITY_CONTROL, forces=self.torques, physicsClientId=self._client
        )

    def _finger_goal(self) -> list[float]:
        """Positions of the driven fingers for the next physics step."""
        left, step = self._width_target - self._width, self._width_step
        self._width += left if -step <= left <= step else math.copysign(step, left)
        self._width_applied = self._width
        share = max(0.0, min(1.0, self._width / self.open_width))
        return [closed + share * way for closed, way in self._finger_ways]

    def _couple(self, ends: list[tuple[float, float]]) -> None:
        """Gears from the first finger joint to every other: what a URDF writes as `mimic`, which PyBullet ignores."""
        for finger in self._fingers:
            pybullet.changeDynamics(self._body, finger, jointDamping=GEAR_DAMPING, physicsClientId=self._client)
        closed, opened = ends[0]
        for finger, (its_closed, its_open) in zip(self._fingers[1:], ends[1:], strict=True):
            ratio = (its_open - its_closed) / (opened - closed)
            pybullet.setJointMotorControl2(
                self._body, finger, pybullet.VELOCITY_CONTROL, force=0.0, physicsClientId=self._client
            )
            gear = pybullet.createConstraint(
                self._body,
                self._fingers[0],
                self._body,
                finger,
                jointType=pybullet.JOINT_GEAR,
                jointAxis=(1.0, 0.0, 0.0),
                parentFramePosition=(0.0, 0.0, 0.0),
                childFramePosition=(0.0, 0.0, 0.0),
                physicsClientId=self._client,
            )
            # Bullet keeps q_first - q_finger / ratio at the target
            pybullet.changeConstraint(
                gear,
                gearRatio=-1.0 / ratio,
                relativePositionTarget=closed - its_closed / ratio,
                erp=GEAR_ERP,
                maxForce=GEAR_FORCE,
                physicsClientId=self._client,
            )
