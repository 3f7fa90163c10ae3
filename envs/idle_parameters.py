"""Which physical parameters make no difference to a task, because what they are about is not there."""

from __future__ import annotations

from collections.abc import Mapping

from understudy.datasets.schema import is_image
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.parameters import RANDOMIZABLE
from understudy.envs.tasks.task import Task

_LOOSE = ("object_size_scale", "object_yaw_rad")
"""Of things that lie loose; see `randomized_start.py`."""


def idle_parameters(task: Task, robot: RobotDescription, cameras: tuple[str, ...] = ()) -> Mapping[str, str]:
    """Parameter -> why varying it changes nothing that a policy for this task meets.

    Args:
        task: what is done; its objects and observations decide.
        robot: with or without a gripper.
        cameras: those that are observed beside the task's keys.
    """
    idle: dict[str, str] = {}

    def leave_out(why: str, *names: str) -> None:
        for name in names:
            idle.setdefault(name, why)

    keys = [*task.observation_keys, *(f"image_{camera}" for camera in cameras)]
    if not any(map(is_image, keys)):
        leave_out("no camera is observed", *_of_group("looks"))
    if not task.objects:
        leave_out("the task has no object", *_of_group("objects"), *_of_group("contact"), *_named("object_"))
        leave_out("the task has no object", "gripper_strength_scale")
    if robot.gripper is None:
        leave_out("the robot has no gripper", *_named("finger_"), "gripper_strength_scale")
    if not any(thing.mass > 0 and thing.slide is None for thing in task.objects.values()):
        leave_out("no object lies loose", *_LOOSE)
    for part in ("position", "quaternion"):
        if not any(f"{name}_{part}" in keys for name in task.objects):
            word = "orientation" if part == "quaternion" else part
            leave_out(f"no object's {word} is observed", *_named(f"{word}_noise"), *_named(f"{word}_bias"))
    return idle


def _of_group(group: str) -> list[str]:
    return [name for name, parameter in RANDOMIZABLE.items() if parameter.group == group]


def _named(start: str) -> list[str]:
    return [name for name in RANDOMIZABLE if name.startswith(start)]
