"""A task: what lies in the scene, how an episode starts, what is rewarded, and when it has succeeded.

A task never touches a simulator. It declares objects, draws a `Start` from a generator, and scores observations, so
that the same task runs in PyBullet and on hardware whose trackers publish the same observations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.arm import Start
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.tasks.scene import SceneObject
from understudy.errors import unknown_name


@dataclass(frozen=True)
class Score:
    """What one step earned."""

    reward: float
    success: bool


class Task(Protocol):
    """One manipulation task."""

    @property
    def name(self) -> str:
        """What people call it."""

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

    def judge(self, observation: Mapping[str, NDArray[Any]]) -> Score:
        """Score the next observation and update `success`, which holds only while the task stays done."""
        score = self._task.score(observation)
        self._held = self._held + 1 if score.success else 0
        self.success = self._held >= self._needed
        return score


def make_task(name: str) -> Task:
    """The task called `name`.

    Raises:
        InputError: there is no such task; lists those there are.
    """
    from understudy.envs.tasks.lift import Lift
    from understudy.envs.tasks.reach import Reach

    tasks: dict[str, Callable[[], Task]] = {"lift": Lift, "reach": Reach}
    if name not in tasks:
        raise unknown_name("task", name, tasks)
    return tasks[name]()
