"""Free: whatever an operator demonstrates on an arm that has no simulated scene; only the operator judges it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.arm import Start
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.tasks.scene import SceneObject
from understudy.envs.tasks.task import Goal, Score, Task, known_tasks, make_task
from understudy.errors import InputError, unknown_name

FREE_SECONDS = 60.0
"""A free task's horizon: the longest take, unless the recording says otherwise."""
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Free:
    """A task that nobody has described: it observes what the arm and its topics tell, and never succeeds by itself.

    Reward is 0 throughout. Success is the operator's word.
    """

    name: str
    observation_keys: tuple[str, ...]
    horizon: int
    action_space: str = "tool_delta"
    action_labels: tuple[str, ...] | None = None
    robots: tuple[str, ...] = ()
    goal: Goal | None = None
    optional_keys: tuple[str, ...] = ()
    """Observations that a session goes without where nobody publishes them when it begins."""

    @property
    def objects(self) -> Mapping[str, SceneObject]:
        """None that is known."""
        return {}

    def start(self, robot: RobotDescription, rng: np.random.Generator) -> Start:
        """At home."""
        return Start(robot.home, None if robot.gripper is None else robot.gripper.width)

    def score(self, observation: Mapping[str, NDArray[Any]]) -> Score:
        """Nothing is known of what is good."""
        return Score(0.0, False)


def free_task(name: str, robot: RobotDescription) -> Free:
    """The free task called `name` on a robot: all its joints, its tool, its gripper, and every pose that it names.

    A robot's file names the poses of all tasks that it is used for, so those are optional.
    """
    keys = ["joint_position", "joint_velocity"]
    keys += ["gripper_position"] if robot.gripper is not None else []
    keys += ["tool_position", "tool_quaternion"]
    tracked = []
    for thing in robot.ros.poses:
        if thing.startswith(("object", "goal")):
            tracked += [f"{thing}_position"] + ([f"{thing}_quaternion"] if thing.startswith("object") else [])
    tracked += [f"{thing}_opening" for thing in robot.ros.openings]
    horizon = round(FREE_SECONDS * robot.rate_hz)
    return Free(name, (*keys, *tracked), horizon, optional_keys=tuple(tracked))


def task_on(name: str, robot: RobotDescription) -> Task:
    """The task called `name`, or a free one of that name.

    Raises:
        InputError: the name is nearly that of a known task, or no name (a small letter, then letters, digits, '_').
    """
    if name in known_tasks():
        return make_task(name)
    if difflib.get_close_matches(name, known_tasks(), 1, 0.7):
        raise unknown_name("task", name, [*known_tasks(), "a name of your own, less like one of these"])
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot name a task: write small letters, digits and '_', as fold_towel.")
    return free_task(name, robot)
