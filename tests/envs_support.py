"""An arm that does at once what it is told, commands that try to break it, and what the Guard promises of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.arm import Command, Observation, Start
from understudy.envs.arms.clock import VirtualClock
from understudy.envs.arms.dynamics import Dynamics
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import RobotDescription

Vector = NDArray[np.float64]

RELATIVE = 1e-6
"""Rounding of finite differences, relative to the limit."""

BEYOND = (1e300, -1.7e308, 1e17, 5e-324, -1e-310, 1e-30)


class EchoArm:
    """Stands where it was last sent, and keeps everything it was sent."""

    def __init__(self, robot: RobotDescription) -> None:
        self.robot = robot
        self.clock = VirtualClock()
        self.position = robot.home
        self.width = 0.0
        self.sent: list[Command] = []
        self.holds = 0

    def describe(self) -> RobotDescription:
        return self.robot

    def observe(self) -> Observation:
        values = {"joint_position": self.position.copy(), "joint_velocity": np.zeros(len(self.position))}
        if self.robot.gripper:
            values["gripper_position"] = np.array([self.width])
        return Observation(values, dict.fromkeys(values, self.clock.now_ns()))

    def send(self, command: Command) -> Command:
        self.sent.append(command)
        self.position = command.joint_position.copy()
        if command.gripper_position is not None:
            self.width = command.gripper_position
        return command

    def hold(self) -> None:
        self.holds += 1

    def reset(self, start: Start) -> Observation:
        self.position = np.array(start.joint_position, np.float64)
        if start.gripper_position is not None:
            self.width = start.gripper_position
        return self.observe()

    def close(self) -> None:
        pass


def adversary(robot: RobotDescription, arm: EchoArm, rng: np.random.Generator) -> Iterator[Command]:
    """Commands without end that change their manner every few periods.

    Jumps, extremes, floods of velocity, what is no number, numbers beyond sense, and commands for another arm.
    """
    lower, upper, speed = robot.joint_array("lower"), robot.joint_array("upper"), robot.joint_array("velocity")
    size, period_s = len(lower), robot.period_s
    while True:
        manner = rng.integers(0, 11)
        place = rng.uniform(lower - 1.0, upper + 1.0)
        direction = rng.uniform(-1.0, 1.0, size)
        for tick in range(int(rng.integers(1, 30))):
            here, velocity = arm.position, None
            if manner == 0:  # a new place each tick
                target = rng.uniform(lower - 1.0, upper + 1.0)
            elif manner == 1:  # from one end to the other
                target = np.where((tick + np.arange(size)) % 2 == 0, lower, upper) * rng.choice([1.0, 1.5])
            elif manner == 2:  # steps at full speed, straight on
                velocity = np.sign(direction) * speed
                target = here + velocity * period_s
            elif manner == 3:  # steps far faster than allowed, in changing directions
                velocity = rng.uniform(-4.0, 4.0, size) * speed
                target = here + velocity * period_s
            elif manner == 4:  # a velocity that has nothing to do with the place
                velocity, target = direction * speed, place
            elif manner == 5:  # not numbers
                target = np.where(rng.random(size) < 0.3, rng.choice([np.nan, np.inf, -np.inf, 1e300]), here)
                velocity = rng.choice([0.0, np.nan]) * np.ones(size) if tick % 2 else None
            elif manner == 6:  # a shiver around here
                target = here + rng.normal(0.0, 1e-3, size)
            elif manner == 7:  # stay at a far place
                target = place
            elif manner == 8:  # numbers that are too large or too small to reckon with
                target = np.where(rng.random(size) < 0.5, rng.choice(BEYOND), here)
                velocity = rng.choice(BEYOND) * direction if tick % 2 else None
            elif manner == 9:  # another arm's command
                target, velocity = rng.choice(lower, size + rng.choice([-1, 1, 3])), direction
            else:  # flip the velocity every tick
                velocity = (-1.0) ** tick * direction * speed
                target = here + velocity * period_s
            width = rng.choice([None, 0.0, 0.04, 0.3, -1.0, float("nan")], p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1])
            yield Command(target, width, velocity)


def variant(
    robot: RobotDescription, rate_hz: float, jerk_scale: float, acceleration_scale: float = 1.0
) -> RobotDescription:
    """The same robot at another rate, and slower to change its motion: longer stops, so more to foresee."""
    joints = tuple(
        joint.model_copy(
            update={"jerk": joint.jerk * jerk_scale, "acceleration": joint.acceleration * acceleration_scale}
        )
        for joint in robot.joints
    )
    return robot.model_copy(update={"rate_hz": rate_hz, "joints": joints})


def assert_limited(robot: RobotDescription, first: np.ndarray, sent: list[Command]) -> None:
    """The promise: from standing at `first`, everything sent is inside the limits of `robot`."""
    path = np.array([first] * 4 + [command.joint_position for command in sent])
    assert np.all(np.isfinite(path))
    assert np.all(path >= robot.joint_array("lower") - 1e-8)
    assert np.all(path <= robot.joint_array("upper") + 1e-8)
    for order, limit in enumerate(("velocity", "acceleration", "jerk"), start=1):
        largest = np.abs(np.diff(path, n=order, axis=0)).max(axis=0) * robot.rate_hz**order
        assert np.all(largest <= robot.joint_array(limit) * (1 + RELATIVE)), (limit, largest)
    kinematics = Kinematics(robot)
    tool = np.array([kinematics.tool_position(joints) for joints in path])
    assert np.all(tool >= np.array(robot.workspace.low))
    assert np.all(tool <= np.array(robot.workspace.high))
    assert_efforts(robot, path)
    widths = [command.gripper_position for command in sent if command.gripper_position is not None]
    if robot.gripper and widths:
        assert min(widths) >= 0.0
        assert max(widths) <= robot.gripper.width
        assert np.abs(np.diff([0.0, *widths])).max(initial=0.0) <= robot.gripper.speed / robot.rate_hz + 1e-12


def assert_efforts(robot: RobotDescription, path: np.ndarray) -> None:
    """The torques at the set points, with the velocity and acceleration that their differences tell."""
    dynamics = Dynamics(robot)
    velocity = (path[2:] - path[:-2]) * (0.5 * robot.rate_hz)
    acceleration = np.diff(path, n=2, axis=0) * robot.rate_hz**2
    needed = [dynamics.torque(*state) for state in zip(path[1:-1], velocity, acceleration, strict=True)]
    assert np.all(np.abs(needed).max(axis=0) <= robot.joint_array("effort") * (1 + RELATIVE)), np.abs(needed).max(
        axis=0
    )
