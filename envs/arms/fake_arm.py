"""`FakeArm`: an arm in plain numpy, for tests, examples and machines without a simulator.

Joints follow their set point exactly, as fast as their speed limits allow; there is no mass and no contact. An object
between closing fingers sticks to the tool until they open. Faults can be switched on to see what the rest does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.arm import Command, Observation, Pose, Start
from understudy.envs.arms.clock import Clock, VirtualClock
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.rotations import quaternion_multiply, quaternion_to_matrix
from understudy.envs.tasks.scene import SceneObject
from understudy.errors import InputError, unknown_name

Array = NDArray[Any]
Vector = NDArray[np.float64]

STEP_NS = 5_000_000
"""Motion is computed in steps of this length at most."""
REACH_M = 0.03
"""Fingers hold an object whose centre is this near to the tool."""


class FakeArm:
    """An arm that does what it is told. Time is virtual unless a clock is given: waiting moves it."""

    hardware = False
    """Set it to have the arm stand for a real one, which is limited in how far it may lag."""

    def __init__(
        self,
        robot: RobotDescription,
        objects: Mapping[str, SceneObject] | None = None,
        *,
        clock: Clock | None = None,
        kinematics: Kinematics | None = None,
    ) -> None:
        """Args:
        robot: joints, limits, gripper.
        objects: name -> what it is; each gives `<name>_position` and `<name>_quaternion`, and can be gripped along y.
            One that slides gives `<name>_opening` too, and only slides.
        clock: None for a `VirtualClock`.
        kinematics: of the robot, needed with objects; None to build it.
        """
        self._robot = robot
        self.clock: Clock = clock or VirtualClock()
        self._kinematics = kinematics or (Kinematics(robot) if objects else None)
        self._things = dict(objects or {})
        self._speed = robot.joint_array("velocity")
        self._open = robot.gripper.width if robot.gripper else 0.0
        self._goals: Mapping[str, Array] = {}
        self._frozen: dict[str, tuple[int, Array]] = {}
        self._corrupt: set[str] = set()
        self._dropped: set[str] = set()
        self._jammed = False
        self._now_ns = self.clock.now_ns()
        self._objects = {
            name: Pose(np.array([0.5, 0.1 * index, thing.shapes[0].half_extents[2]]))
            for index, (name, thing) in enumerate(self._things.items())
        }
        self._openings: dict[str, float] = {}
        self._put(Start(robot.home, self._open))

    # -- the Arm interface

    def describe(self) -> RobotDescription:
        """See `Arm`."""
        return self._robot

    def observe(self) -> Observation:
        """Everything sensed as it is now, less what the faults do to it."""
        self._move_on()
        fresh = {key: (self._now_ns, value) for key, value in self._sensed().items()}
        for key in self._frozen:
            fresh[key] = self._frozen[key]
        values = {key: value.copy() for key, (_, value) in fresh.items() if key not in self._dropped}
        for key in self._corrupt & set(values):
            values[key][...] = np.nan
        return Observation(values, {key: fresh[key][0] for key in values})

    def send(self, command: Command) -> Command:
        """Take a new set point, reached one control period from now at the earliest.

        Raises:
            InputError: not (J,) finite positions (or velocities), or a gripper opening that is not finite.
        """
        position = self._numbers(command.joint_position, "joint positions in rad")
        velocity = command.joint_velocity
        if velocity is not None:
            velocity = self._numbers(velocity, "joint velocities in rad/s")
        width = command.gripper_position
        if width is not None and not np.isfinite(width):
            raise InputError(f"Command for {self._robot.name!r} must have a finite gripper opening in m, got {width}.")
        self._move_on()
        self._from, self._target, self._began_ns = self._set_point(self._now_ns), position, self._now_ns
        if width is not None and self._robot.gripper is not None:
            self._width_target = float(np.clip(width, 0.0, self._open))
        return Command(position.copy(), width, velocity)

    def hold(self) -> None:
        """Stop at once and stay."""
        self._move_on()
        self._from = self._target = self._position.copy()
        self._velocity = np.zeros_like(self._position)

    def reset(self, start: Start) -> Observation:
        """Put arm and objects at `start`. Faults stay."""
        self._now_ns = self.clock.now_ns()
        self._put(start)
        return self.observe()

    def close(self) -> None:
        """See `Arm`; there is nothing to release."""

    # -- faults

    def freeze(self, key: str) -> None:
        """From now on `key` repeats the sample it has now, which ages: its source has died."""
        self._move_on()
        self._frozen[key] = (self._now_ns, self._sensed()[self._known(key)])

    def corrupt(self, key: str) -> None:
        """From now on `key` is NaN."""
        self._corrupt.add(self._known(key))

    def drop(self, key: str) -> None:
        """From now on `key` is not observed at all."""
        self._dropped.add(self._known(key))

    def jam(self) -> None:
        """From now on the joints stay where they are, whatever is sent: as in a protective stop, but nobody says so."""
        self._move_on()
        self._jammed = True

    def repair(self) -> None:
        """End all faults; joints that were jammed go on, as fast as they can, to where they were sent last."""
        self._move_on()
        self._jammed = False
        self._frozen.clear()
        self._corrupt.clear()
        self._dropped.clear()

    def _known(self, key: str) -> str:
        if key not in self._sensed():
            raise unknown_name("observation key", key, self._sensed())
        return key

    # -- motion

    def _numbers(self, values: Array, what: str) -> Vector:
        numbers = np.array(values, np.float64)
        if numbers.shape != self._speed.shape or not np.all(np.isfinite(numbers)):
            raise InputError(
                f"Command for {self._robot.name!r} must have {len(self._speed)} finite {what}, got {numbers.tolist()}."
            )
        return numbers

    def _put(self, start: Start) -> None:
        for name in start.objects:
            if name not in self._things:
                raise unknown_name("object", name, self._things)
        self._position = self._numbers(start.joint_position, "joint positions in rad")
        self._velocity = np.zeros_like(self._position)
        self._from = self._target = self._position
        self._began_ns = self._now_ns
        self._width = self._width_target = self._open if start.gripper_position is None else start.gripper_position
        self._objects = {**self._objects, **start.objects}
        slides = [name for name, thing in self._things.items() if thing.slide is not None]
        self._openings = {name: start.openings.get(name, 0.0) for name in slides}
        self._held: dict[str, Pose] = {}
        self._goals = {key: np.asarray(value, np.float64) for key, value in start.goals.items()}

    def _set_point(self, now_ns: int) -> Vector:
        done = min(1.0, (now_ns - self._began_ns) * 1e-9 * self._robot.rate_hz)
        return np.asarray(self._from + done * (self._target - self._from))

    def _move_on(self) -> None:
        """Bring the motion up to the clock's time."""
        end_ns = self.clock.now_ns()
        while self._now_ns < end_ns:
            if self._at_rest():
                self._now_ns = end_ns
                return
            step_ns = min(STEP_NS, end_ns - self._now_ns)
            self._now_ns += step_ns
            self._step(step_ns * 1e-9)

    def _at_rest(self) -> bool:
        arrived = np.array_equal(self._position, self._target) and self._width == self._width_target
        return arrived and not np.any(self._velocity)

    def _step(self, step_s: float) -> None:
        farthest = np.zeros_like(self._speed) if self._jammed else self._speed * step_s
        move = np.clip(self._set_point(self._now_ns) - self._position, -farthest, farthest)
        self._position = self._position + move
        self._velocity = move / step_s
        self._move_gripper(step_s)
        if self._kinematics is not None and self._held:
            tool = self._kinematics.tool_pose(self._position)
            for name, inside in self._held.items():
                self._carry(name, _compose(tool, inside))

    def _carry(self, name: str, pose: Pose) -> None:
        """Bring an object to where the tool takes it; one that slides goes along its axis, as far as it can."""
        slide = self._things[name].slide
        if slide is None:
            self._objects[name] = pose
            return
        before = self._objects[name]
        along = quaternion_to_matrix(before.quaternion) @ np.asarray(slide.axis)
        wanted = self._openings[name] + float((pose.position - before.position) @ along)
        opening = float(np.clip(wanted, 0.0, slide.travel_m))
        self._objects[name] = Pose(before.position + (opening - self._openings[name]) * along, before.quaternion)
        self._openings[name] = opening

    def _move_gripper(self, step_s: float) -> None:
        gripper = self._robot.gripper
        if gripper is None or self._width == self._width_target:
            return
        step = gripper.speed * step_s
        width = self._width + float(np.clip(self._width_target - self._width, -step, step))
        if width > self._width:
            self._let_go(width)
        else:
            width = self._grip(width)
        if width == self._width:  # stopped by an object: this is all the way there is
            self._width_target = width
        self._width = width

    def _let_go(self, width: float) -> None:
        """Objects narrower than the opening fall onto the table, flat; one that slides stays."""
        for name in [name for name in self._held if self._thickness(name) < width]:
            del self._held[name]
            if name in self._openings:
                continue
            place = self._objects[name].position
            self._objects[name] = Pose(np.array([*place[:2], self._things[name].shapes[0].half_extents[2]]))

    def _grip(self, width: float) -> float:
        """Hold what lies between the fingers; returns how far they can close."""
        if self._kinematics is None:
            return width
        tool = self._kinematics.tool_pose(self._position)
        for name, pose in self._objects.items():
            near = float(np.linalg.norm(pose.position - tool.position)) < REACH_M
            if near and width <= self._thickness(name) <= self._width + 1e-9:
                self._held.setdefault(name, _relative(tool, pose))
        return max([width, *(self._thickness(name) for name in self._held)])

    def _thickness(self, name: str) -> float:
        return 2.0 * self._things[name].shapes[0].half_extents[1]

    # -- sensing

    def _sensed(self) -> dict[str, Array]:
        values: dict[str, Array] = {
            "joint_position": self._position,
            "joint_velocity": self._velocity,
            "joint_effort": np.zeros_like(self._position),
        }
        if self._robot.gripper is not None:
            values["gripper_position"] = np.array([self._width])
        for name, pose in self._objects.items():
            values[f"{name}_position"] = pose.position
            values[f"{name}_quaternion"] = pose.quaternion
        for name, opening in self._openings.items():
            values[f"{name}_opening"] = np.array([opening])
        return {key: np.array(value, np.float64) for key, value in {**values, **self._goals}.items()}


def _compose(outer: Pose, inner: Pose) -> Pose:
    """`inner`, given in the frame of `outer`, in the frame that `outer` is given in."""
    turned = quaternion_to_matrix(outer.quaternion) @ inner.position
    return Pose(outer.position + turned, quaternion_multiply(outer.quaternion, inner.quaternion))


def _relative(outer: Pose, pose: Pose) -> Pose:
    """`pose` in the frame of `outer`; `_compose` undoes it."""
    away = quaternion_to_matrix(outer.quaternion).T @ (pose.position - outer.position)
    return Pose(away, quaternion_multiply(outer.quaternion * [-1.0, -1.0, -1.0, 1.0], pose.quaternion))
