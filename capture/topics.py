"""What of a task's observations a robot's topics give."""

from __future__ import annotations

from understudy.datasets.schema import is_image
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.tasks.task import Task
from understudy.errors import InputError

COMPUTED = ("tool_position", "tool_quaternion")
"""What kinematics make of the joints; no topic brings it."""


def given_keys(robot: RobotDescription) -> tuple[str, ...]:
    """Every observation that a robot's topics give, what is computed from them included."""
    given = ["joint_position", "joint_velocity", "joint_effort", *COMPUTED]
    if robot.gripper is not None:
        given.append("gripper_position")
    for name in robot.ros.poses:
        given += [f"{name}_position", f"{name}_quaternion"]
    given += [f"{name}_opening" for name in robot.ros.openings]
    return (*given, *(f"image_{name}" for name in robot.ros.cameras))


def require_topics(robot: RobotDescription, task: Task, keys: tuple[str, ...] = ()) -> None:
    """Check that every observation of a task, and every one of `keys`, comes from a topic of the robot's file.

    Raises:
        InputError: one does not; says which, and where it would be named.
    """
    given = given_keys(robot)
    missing = [key for key in (*task.observation_keys, *keys) if key not in given]
    if missing:
        raise InputError(
            f"Task {task.name!r} observes {', '.join(missing)}, and robot {robot.name!r} names no topic for it; add "
            "it under ros: poses:, openings: or cameras: in the robot's file."
        )


def sensed(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `keys` that a topic must bring."""
    return tuple(key for key in keys if key not in COMPUTED)


def cameras_of(keys: tuple[str, ...]) -> tuple[str, ...]:
    """The cameras among observation keys."""
    return tuple(key.removeprefix("image_") for key in keys if is_image(key))
