"""What a task of one's own goes without: poses that the robot's file names and nobody publishes when a session begins.

Decided once, before the first take, and told. What is observed from then on must keep coming: a pose that vanishes
later ends the take as any other source does.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from understudy.envs.arms.robot import RobotDescription
from understudy.envs.tasks.free import Free
from understudy.envs.tasks.task import Task

FOUND_S = 3.0
"""A publisher has this long to be found on the graph, once the arm's joints have come."""
POLL_S = 0.02


def leave_out(
    task: Task,
    published: Callable[[str], bool],
    observes: tuple[str, ...] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Task, tuple[str, ...]]:
    """The task without the optional observations that nobody publishes, and those that were left out.

    Tasks that come with Understudy are returned as they are: they need what they observe.

    Args:
        task: what is demonstrated.
        published: whether a key has a publisher, as far as is known now.
        observes: the observations of the episodes that this session continues, which then decide what is optional and
            what is not; None: there are none yet.
        sleep: waits so many seconds.
    """
    if not isinstance(task, Free):
        return task, ()
    missing = [key for key in task.optional_keys if observes is not None and key not in observes]
    if observes is None:
        waited_s = 0.0
        while (missing := [key for key in task.optional_keys if not published(key)]) and waited_s < FOUND_S:
            sleep(POLL_S)
            waited_s += POLL_S
    keys = tuple(key for key in task.observation_keys if key not in missing)
    return dataclasses.replace(task, observation_keys=keys), tuple(missing)


def left_out_text(robot: RobotDescription, left_out: tuple[str, ...], observes: tuple[str, ...] | None) -> str:
    """What was left out and what to do about it, as a sentence; empty where nothing was."""
    if not left_out:
        return ""
    if observes is not None:
        return f"Not observed, because the dataset's episodes have no such thing: {', '.join(left_out)}."
    topics = {f"{name}_{part}": source.topic for name, source in robot.ros.poses.items() for part in _POSE}
    topics |= {f"{name}_opening": source.topic for name, source in robot.ros.openings.items()}
    silent = ", ".join(dict.fromkeys(topics[key] for key in left_out))
    return (
        f"Not observed, because nobody publishes {silent}: {', '.join(left_out)}. If the task needs them, quit, start "
        "their publisher, and begin again before the first take: a dataset's episodes observe what its first one did."
    )


_POSE = ("position", "quaternion")
