"""What a scripted expert is, and the one way to get a task's.

An expert solves a task from its observations: exactly, or as a person would whose manner is drawn once an episode.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.robot import RobotDescription, load_robot
from understudy.envs.experts.hand import HumanStyle
from understudy.errors import unknown_name

Vector = NDArray[np.float64]
ObservationDict = Mapping[str, NDArray[Any]]


class Expert(Protocol):
    """Acts on observations in the units of the task's action space."""

    def reset(self, observation: ObservationDict) -> None:
        """An episode begins."""

    def act(self, observation: ObservationDict) -> Vector:
        """The action (A,) in units for this observation."""


_EXPERTS: Mapping[str, tuple[str, str]] = {
    "drawer": ("drawer", "DrawerExpert"),
    "insert": ("insert", "InsertExpert"),
    "lift": ("lift", "LiftExpert"),
    "pick_place": ("pick_place", "PickPlaceExpert"),
    "push": ("push", "PushExpert"),
    "reach": ("reach", "ReachExpert"),
    "stack": ("stack", "StackExpert"),
}
"""Task -> the expert's file in this folder, and its class there: made with (robot, style, generator)."""


def make_expert(task: str, robot: str | RobotDescription = "panda", rng: np.random.Generator | None = None) -> Expert:
    """The expert of a task on a robot: exact without a generator, and with one a person drawn from `rng`.

    Raises:
        InputError: the task has no expert, or there is no such robot.
    """
    if task not in _EXPERTS:
        raise unknown_name("scripted expert", task, _EXPERTS)
    description = robot if isinstance(robot, RobotDescription) else load_robot(robot)
    file, kind = _EXPERTS[task]
    style = HumanStyle() if rng is None else HumanStyle.sample(rng)
    made = getattr(importlib.import_module(f"understudy.envs.experts.{file}"), kind)
    expert: Expert = made(description, style, rng or np.random.default_rng(0))
    return expert
