"""A filmstrip: a recorded episode drawn frame by frame, by posing the simulated arm as the observations say.

It shows what was recorded, whether in simulation or over ROS 2, and needs no camera to have been there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.episode import Episode
from understudy.datasets.schema import is_image
from understudy.envs.arms.arm import Pose, Start
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.tasks.marks import goal_marks
from understudy.envs.tasks.task import Task
from understudy.errors import InputError


def filmstrip(
    episode: Episode, robot: RobotDescription, task: Task, *, frames: int = 6, width: int = 320, height: int = 240
) -> NDArray[np.uint8]:
    """Frames (frames, height, width, 3), evenly spaced from the first step to the last observation.

    Raises:
        InputError: the episode lacks the joints or an object's pose.
    """
    rows = np.linspace(0, len(episode), frames).round().astype(int)
    return np.stack(list(_pictures(episode, robot, task, rows.tolist(), width, height)))


def moving_pictures(
    episode: Episode, robot: RobotDescription, task: Task, *, width: int = 320, height: int = 240
) -> Iterator[NDArray[np.uint8]]:
    """Frames (height, width, 3), one a step and one of the last observation: a video at the robot's rate.

    Raises:
        InputError: the episode lacks the joints or an object's pose.
    """
    return _pictures(episode, robot, task, range(len(episode) + 1), width, height)


def _pictures(
    episode: Episode, robot: RobotDescription, task: Task, rows: Iterable[int], width: int, height: int
) -> Iterator[NDArray[np.uint8]]:
    needed = ["joint_position"]
    needed += [f"{name}_{part}" for name in task.objects for part in ("position", "quaternion")]
    needed += [f"{name}_opening" for name, thing in task.objects.items() if thing.slide is not None]
    missing = [key for key in needed if key not in episode.observations]
    if missing:
        raise InputError(f"A filmstrip needs the observations {needed}; this episode lacks {missing}.")
    arm = SimArm(robot, task.objects, pictures=True)
    try:
        for row in rows:
            arm.reset(_start(episode, row, task))
            yield arm.render("front", width, height, goal_marks(task.goal, _seen(episode, row)))
    finally:
        arm.close()


def _start(episode: Episode, row: int, task: Task) -> Start:
    """The scene at a row."""
    seen = _seen(episode, row)
    opening = float(seen["gripper_position"][0]) if "gripper_position" in seen else None
    objects = {name: Pose(seen[f"{name}_position"], seen[f"{name}_quaternion"]) for name in task.objects}
    openings = {name: float(seen[f"{name}_opening"][0]) for name, t in task.objects.items() if t.slide is not None}
    return Start(seen["joint_position"], opening, objects, openings)


def _seen(episode: Episode, row: int) -> dict[str, NDArray[np.float64]]:
    """What was observed at a row, without pictures; row N is the final observation."""
    final = row == len(episode)
    return {
        key: np.asarray(episode.final_observation[key] if final else values[row], np.float64)
        for key, values in episode.observations.items()
        if not is_image(key)
    }
