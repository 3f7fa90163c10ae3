"""Action spaces: how the numbers of an action become a command, and how motion reads as an action.

A command carries the velocity of its step, so that steps in a row run into each other without stopping between.
A step is taken from the last set point that was *sent* (not from where the arm is measured, which would let it sag; and
not from what was asked, which would wind up behind the Guard). The new set point may lead the arm by no more than a
leash, so that an arm that cannot follow is not asked to jump later. The same code runs while recording, training and
deploying, and it has no memory.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.arm import Command, Pose
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.rotations import turn_between, turned
from understudy.errors import unknown_name

Vector = NDArray[np.float64]
Numbers = TypeVar("Numbers", list[float], Vector)

MAX_TOOL_STEP_M = 0.03
MAX_TOOL_STEP_RAD = 0.15
MAX_JOINT_STEP_RAD = 0.1
LEASH_M = 0.08
LEASH_RAD = 0.4
BENT = 1.1
"""Joints slowed by more than this share would bend the tool's way, which is solved for a shorter step instead."""
_LEASH_COSINE = math.cos(LEASH_RAD / 2.0)
"""Of unit quaternions nearer to each other than the leash."""
_TWIST_LABELS = ("x", "y", "z", "roll", "pitch", "yaw")


class ActionSpace(Protocol):
    """Decodes actions (A,), in the units of `spec`, into commands, tick by tick."""

    spec: ActionSpec

    def decode(self, action: Vector, sent: Command, measured: Vector) -> Command:
        """The command for `action` (A,), given the set point sent last and where the joints (J,) are measured."""

    def encode(self, before: Command, after: Command) -> Vector:
        """The action (A,) that leads from one command (or measured state) to the next, not clipped."""


class _Gripper:
    """The last number of an action: the opening width asked for, m."""

    def __init__(self, robot: RobotDescription) -> None:
        self.width = robot.gripper.width if robot.gripper else None

    def spec(self, name: str, labels: list[str], units: list[str], low: list[float], high: list[float]) -> ActionSpec:
        """The spec with the gripper's number appended, where there is one."""
        if self.width is not None:
            labels, units = [*labels, "gripper"], [*units, "m"]
            low, high = [*low, 0.0], [*high, self.width]
        return ActionSpec(name, tuple(labels), tuple(units), tuple(low), tuple(high))

    def split(self, action: Numbers) -> tuple[Numbers, float | None]:
        if self.width is None:
            return action, None
        width = max(float(action[-1]), 0.0)  # in this order what is no number stays none, for the Guard to see
        return action[:-1], min(width, self.width)

    def join(self, action: Sequence[float] | Vector, before: Command, after: Command) -> Vector:
        """The action with the width of `after`; a command without one leaves the gripper as `before` had it."""
        if self.width is None:
            return np.array(action)
        width = before.gripper_position if after.gripper_position is None else after.gripper_position
        return np.array([*action, self.width if width is None else width])


class ToolDelta:
    """A step of the tool in base axes: translation (m), rotation vector (rad), and the gripper's opening (m).

    Where a joint would have to be faster than it can (near a singularity), the whole step is shortened, which keeps
    its direction.
    """

    def __init__(self, robot: RobotDescription, kinematics: Kinematics) -> None:
        self._gripper = _Gripper(robot)
        self._kinematics = kinematics
        self._period_s = robot.period_s
        self._max_step: list[float] = (robot.joint_array("velocity") * robot.period_s).tolist()
        steps = [MAX_TOOL_STEP_M] * 3 + [MAX_TOOL_STEP_RAD] * 3
        self.spec = self._gripper.spec(
            "tool_delta", list(_TWIST_LABELS), ["m"] * 3 + ["rad"] * 3, [-step for step in steps], steps
        )
        self._ends = self.spec.low, self.spec.high

    def decode(self, action: Vector, sent: Command, measured: Vector) -> Command:
        """See `ActionSpace`."""
        # in this order what is no number stays none
        asked = [min(max(one, low), high) for one, low, high in zip(action.tolist(), *self._ends, strict=True)]
        numbers, gripper = self._gripper.split(asked)
        twist = np.array(numbers)
        if not all(map(math.isfinite, numbers)):  # also in what an arm of few joints cannot do
            return Command(np.full_like(sent.joint_position, math.nan), gripper)
        first = self._kinematics.step(sent.joint_position, twist)
        slower = 1.0 / max(1.0, self._too_fast(first))
        step = self._solved(slower * twist, slower * first, sent.joint_position, measured)
        if (too_fast := self._too_fast(step)) > BENT:
            step = self._solved(slower / too_fast * twist, step / too_fast, sent.joint_position, measured)
            too_fast = self._too_fast(step)
        if too_fast > 1.0:
            step /= too_fast
        return Command(sent.joint_position + step, gripper, step / self._period_s)

    def _solved(self, twist: Vector, near: Vector, sent: Vector, measured: Vector) -> Vector:
        """The step (J,) from the set point that moves the tool by `twist` (6,), on the leash; near `near` (J,)."""
        here, now = self._kinematics.tool_pose(sent), self._kinematics.tool_pose(measured)
        x, y, z, *turn = twist.tolist()
        (here_x, here_y, here_z), (now_x, now_y, now_z) = here.position.tolist(), now.position.tolist()
        lead_x, lead_y, lead_z = here_x + x - now_x, here_y + y - now_y, here_z + z - now_z
        length = math.sqrt(lead_x * lead_x + lead_y * lead_y + lead_z * lead_z)
        share = LEASH_M / length if length > LEASH_M else 1.0
        position = np.array([now_x + share * lead_x, now_y + share * lead_y, now_z + share * lead_z])
        goal = Pose(position, _leash_rotation(turned(here.quaternion, turn), now.quaternion))
        return self._kinematics.solve(goal, sent + near) - sent

    def _too_fast(self, step: Vector) -> float:
        """How many times faster than it can the fastest joint would have to be."""
        shares: list[float] = [abs(one / most) for one, most in zip(step.tolist(), self._max_step, strict=True)]
        return max(shares)

    def encode(self, before: Command, after: Command) -> Vector:
        """See `ActionSpace`."""
        old = self._kinematics.tool_pose(before.joint_position)
        new = self._kinematics.tool_pose(after.joint_position)
        moved = (new.position - old.position).tolist()
        return self._gripper.join([*moved, *turn_between(old.quaternion, new.quaternion)], before, after)


def _leash_rotation(quaternion: Vector, measured: Vector) -> Vector:
    if abs(float(quaternion @ measured)) >= _LEASH_COSINE:
        return quaternion
    lead = turn_between(measured, quaternion)
    share = LEASH_RAD / math.hypot(*lead)
    return turned(measured, [share * angle for angle in lead])


class JointDelta:
    """A step of every joint (rad), and the gripper's opening (m)."""

    def __init__(self, robot: RobotDescription, kinematics: Kinematics | None = None) -> None:
        self._gripper = _Gripper(robot)
        self._lower, self._upper = robot.joint_array("lower"), robot.joint_array("upper")
        self._period_s = robot.period_s
        steps = [MAX_JOINT_STEP_RAD] * len(robot.joints)
        self.spec = self._gripper.spec(
            "joint_delta", list(robot.joint_names), ["rad"] * len(steps), [-step for step in steps], steps
        )

    def decode(self, action: Vector, sent: Command, measured: Vector) -> Command:
        """See `ActionSpace`."""
        step, gripper = self._gripper.split(np.clip(action, self.spec.low, self.spec.high))
        lead = np.clip(sent.joint_position + step - measured, -LEASH_RAD, LEASH_RAD)
        joints = np.clip(measured + lead, self._lower, self._upper)
        return Command(joints, gripper, (joints - sent.joint_position) / self._period_s)

    def encode(self, before: Command, after: Command) -> Vector:
        """See `ActionSpace`."""
        return self._gripper.join(after.joint_position - before.joint_position, before, after)


class JointPosition:
    """Where every joint should be (rad), and the gripper's opening (m)."""

    def __init__(self, robot: RobotDescription, kinematics: Kinematics | None = None) -> None:
        self._gripper = _Gripper(robot)
        self.spec = self._gripper.spec(
            "joint_position",
            list(robot.joint_names),
            ["rad"] * len(robot.joints),
            robot.joint_array("lower").tolist(),
            robot.joint_array("upper").tolist(),
        )

    def decode(self, action: Vector, sent: Command, measured: Vector) -> Command:
        """See `ActionSpace`."""
        joints, gripper = self._gripper.split(np.clip(action, self.spec.low, self.spec.high))
        return Command(np.array(joints), gripper)

    def encode(self, before: Command, after: Command) -> Vector:
        """See `ActionSpace`."""
        return self._gripper.join(after.joint_position, before, after)


class JointVelocity:
    """How fast every joint should move (rad/s), and the gripper's opening (m)."""

    def __init__(self, robot: RobotDescription, kinematics: Kinematics | None = None) -> None:
        self._gripper = _Gripper(robot)
        self._period_s = robot.period_s
        self._lower, self._upper = robot.joint_array("lower"), robot.joint_array("upper")
        speed = robot.joint_array("velocity")
        self.spec = self._gripper.spec(
            "joint_velocity",
            list(robot.joint_names),
            ["rad/s"] * len(speed),
            (-speed).tolist(),
            speed.tolist(),
        )

    def decode(self, action: Vector, sent: Command, measured: Vector) -> Command:
        """See `ActionSpace`."""
        velocity, gripper = self._gripper.split(np.clip(action, self.spec.low, self.spec.high))
        lead = np.clip(sent.joint_position + velocity * self._period_s - measured, -LEASH_RAD, LEASH_RAD)
        joints = np.clip(measured + lead, self._lower, self._upper)
        return Command(joints, gripper, (joints - sent.joint_position) / self._period_s)

    def encode(self, before: Command, after: Command) -> Vector:
        """See `ActionSpace`."""
        return self._gripper.join((after.joint_position - before.joint_position) / self._period_s, before, after)


class Part:
    """Some numbers of another action space; the rest are neutral (no step; the gripper stays)."""

    def __init__(self, whole: ActionSpace, labels: tuple[str, ...]) -> None:
        self._whole = whole
        spec = whole.spec
        for label in labels:
            if label not in spec.labels:
                raise unknown_name(f"number of a {spec.name} action", label, spec.labels)
        self._index = [spec.labels.index(label) for label in labels]
        units, low, high = (tuple(field[i] for i in self._index) for field in (spec.units, spec.low, spec.high))
        self.spec = ActionSpec(
            spec.name, labels, tuple(map(str, units)), tuple(map(float, low)), tuple(map(float, high))
        )

    def decode(self, action: Vector, sent: Command, measured: Vector) -> Command:
        """See `ActionSpace`."""
        full = np.zeros(self._whole.spec.size)
        if self._whole.spec.name == "joint_position":
            full[: len(measured)] = sent.joint_position
        if sent.gripper_position is not None and self._whole.spec.labels[-1] == "gripper":
            full[-1] = sent.gripper_position
        full[self._index] = action
        command = self._whole.decode(full, sent, measured)
        unknown = sent.gripper_position is None and "gripper" not in self.spec.labels
        return dataclasses.replace(command, gripper_position=None) if unknown else command

    def encode(self, before: Command, after: Command) -> Vector:
        """See `ActionSpace`."""
        return self._whole.encode(before, after)[self._index]


ACTION_SPACES = {
    "tool_delta": ToolDelta,
    "joint_delta": JointDelta,
    "joint_position": JointPosition,
    "joint_velocity": JointVelocity,
}


def make_action_space(
    name: str, robot: RobotDescription, kinematics: Kinematics, labels: tuple[str, ...] | None = None
) -> ActionSpace:
    """The action space called `name` on this robot, all of it or the numbers called `labels`.

    Raises:
        InputError: there is no such action space or label.
    """
    if name not in ACTION_SPACES:
        raise unknown_name("action space", name, ACTION_SPACES)
    whole: ActionSpace = ACTION_SPACES[name](robot, kinematics)
    return whole if labels is None or labels == whole.spec.labels else Part(whole, labels)
