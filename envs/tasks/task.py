"""A task: what lies in the scene, how an episode starts, what is rewarded, and when it has succeeded.

A task never touches a simulator. It declares objects, draws a `Start` from a generator, and scores observations, so
that the same task runs in PyBullet and on hardware whose trackers publish the same observations.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.arm import Start
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.tasks.scene import SceneObject
from understudy.errors import InputError, unknown_name


@dataclass(frozen=True)
class Score:
    """What one step earned."""

    reward: float
    success: bool


@dataclass(frozen=True)
class Goal:
    """What a goal-reaching task brings where: success is exactly a distance, so that any goal can be judged later."""

    achieved: str = "object_position"
    """Observation (3,), m, that is to come near `desired`."""
    desired: str = "goal_position"
    """Observation (3,), m."""
    tolerance_m: float = 0.03

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance_m) and self.tolerance_m > 0):
            raise InputError(f"A goal's tolerance must be a positive number of m, got {self.tolerance_m}.")

    def distance(self, achieved: NDArray[Any], desired: NDArray[Any]) -> NDArray[np.float64]:
        """(...) m between achieved (..., 3) and desired (..., 3)."""
        if np.ndim(achieved) == np.ndim(desired) == 1:  # one of them, every step: arrays cost more than the arithmetic
            x, y, z = (
                one - other
                for one, other in zip(np.asarray(achieved).tolist(), np.asarray(desired).tolist(), strict=True)
            )
            return np.asarray(math.sqrt(x * x + y * y + z * z))
        away = np.asarray(achieved, np.float64) - np.asarray(desired, np.float64)
        return np.asarray(np.linalg.norm(away, axis=-1))

    def reached(self, achieved: NDArray[Any], desired: NDArray[Any]) -> NDArray[np.bool_]:
        """(...) whether achieved (..., 3) is within the tolerance of desired (..., 3)."""
        return np.asarray(self.distance(achieved, desired) <= self.tolerance_m)


class Task(Protocol):
    """One manipulation task."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def robots(self) -> tuple[str, ...]:
        """Shipped robots it is declared for: its expert solves it on each."""

    @property
    def goal(self) -> Goal | None:
        """What is to come where, for a task whose success is that and nothing else; None for any other."""

    @property
    def action_space(self) -> str:
        """Action space (see `envs/arms/actions.py`)."""

    @property
    def action_labels(self) -> tuple[str, ...] | None:
        """The numbers of the action space that this task uses; None for all."""

    @property
    def horizon(self) -> int:
        """Longest episode, in control periods."""

    @property
    def objects(self) -> Mapping[str, SceneObject]:
        """Object name -> what it is; each gives `<name>_position` and `<name>_quaternion` observations."""

    @property
    def observation_keys(self) -> tuple[str, ...]:
        """What a policy for this task sees."""

    def start(self, robot: RobotDescription, rng: np.random.Generator) -> Start:
        """Draw how an episode begins."""

    def score(self, observation: Mapping[str, NDArray[Any]]) -> Score:
        """Judge one observation. Pure: the same observation always scores the same."""


HOLD_S = 0.25
"""Success counts when it has lasted this long."""


class Verdict:
    """Scores an episode's observations in turn; `success` once the task has succeeded for `HOLD_S` on end."""

    def __init__(self, task: Task, rate_hz: float) -> None:
        self._task = task
        self._needed = max(1, round(HOLD_S * rate_hz))
        self._held = 0
        self.success = False

    def reset(self) -> None:
        """An episode begins."""
        self._held, self.success = 0, False

    def save(self) -> tuple[int, bool]:
        """What `restore` needs to go on from here."""
        return self._held, self.success

    def restore(self, state: tuple[int, bool]) -> None:
        """Go on from what `save` returned."""
        self._held, self.success = state

    def judge(self, observation: Mapping[str, NDArray[Any]]) -> Score:
        """Score the next observation and update `success`, which holds only while the task stays done."""
        score = self._task.score(observation)
        self._held = self._held + 1 if score.success else 0
        self.success = self._held >= self._needed
        return score


_TASKS: Mapping[str, tuple[str, str]] = {
    "drawer": ("drawer", "Drawer"),
    "insert": ("insert", "Insert"),
    "lift": ("lift", "Lift"),
    "pick_place": ("pick_place", "PickPlace"),
    "push": ("push", "Push"),
    "reach": ("reach", "Reach"),
    "stack": ("stack", "Stack"),
}
"""Task -> its file in this folder, and its class there."""


def known_tasks() -> list[str]:
    """Names of the tasks that come with Understudy."""
    return sorted(_TASKS)


def make_task(name: str) -> Task:
    """The task called `name`.

    Raises:
        InputError: there is no such task; lists those there are.
    """
    if name not in _TASKS:
        raise unknown_name("task", name, _TASKS)
    file, kind = _TASKS[name]
    task: Task = getattr(importlib.import_module(f"understudy.envs.tasks.{file}"), kind)()
    return task
