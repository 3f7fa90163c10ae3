"""What is drawn into pictures for people though it is no thing of the scene: where a goal is.

Plain data. No picture that a policy sees or a dataset keeps has any of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.envs.tasks.scene import Triple
from understudy.envs.tasks.task import Goal
from understudy.errors import InputError


@dataclass(frozen=True)
class Mark:
    """A ball that one sees through."""

    centre: Triple
    """m, base frame."""
    radius_m: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.centre)):
            raise InputError(f"A mark's centre must be three finite numbers in m, got {self.centre}.")
        if not (math.isfinite(self.radius_m) and self.radius_m > 0):
            raise InputError(f"A mark's radius must be a positive number of m, got {self.radius_m}.")


def goal_marks(goal: Goal | None, seen: Mapping[str, Any]) -> tuple[Mark, ...]:
    """The goal as a ball of its tolerance: what is to come there succeeds once its centre is inside.

    Args:
        goal: of the task; None for a task without one, which has no marks.
        seen: observations, or a start's numbers; without the goal's place there are no marks.
    """
    if goal is None or goal.desired not in seen:
        return ()
    x, y, z = np.asarray(seen[goal.desired], np.float64).tolist()
    return (Mark((x, y, z), goal.tolerance_m),)
