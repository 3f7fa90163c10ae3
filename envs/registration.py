"""Gymnasium ids of our tasks: `understudy/Lift-v0` and the like, registered when Gymnasium is imported.

Gymnasium calls `register_envs` through the entry point group `gymnasium.envs`, so `gymnasium.make` needs no import of
ours. Every program that imports Gymnasium runs it: nothing heavy is imported before an environment is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import register

from understudy.errors import InputError, unknown_name

if TYPE_CHECKING:
    from understudy.envs.arm_env import ArmEnv
    from understudy.envs.goal_env import GoalEnv

NAMESPACE = "understudy"
IDS = {
    "Drawer-v0": "drawer",
    "Insert-v0": "insert",
    "Lift-v0": "lift",
    "PickPlace-v0": "pick_place",
    "Push-v0": "push",
    "Reach-v0": "reach",
    "Stack-v0": "stack",
}
"""Id, without the namespace -> task. Written out, because asking the tasks would import them."""
GOAL_IDS = {"PickPlaceGoal-v0": "pick_place", "PushGoal-v0": "push", "ReachGoal-v0": "reach"}
"""The same, with the interface that hindsight experience replay needs."""


def register_envs() -> None:
    """Register every id; Gymnasium calls this in our namespace."""
    module = "understudy.envs.registration"
    for ids, maker in ((IDS, "make_task_env"), (GOAL_IDS, "make_goal_env")):
        for name, task in ids.items():
            register(id=name, entry_point=f"{module}:{maker}", kwargs={"_task": task})


def make_task_env(*, _task: str, randomize: str = "none", **options: Any) -> ArmEnv:
    """What `gymnasium.make` builds.

    Args:
        _task: name of a task, set by the id; underlined, so that a user's `task` is told from it.
        randomize: none, a preset, or a YAML file.
        options: robot, reward, cameras, fixed_horizon, render_mode, realtime; see `make_env`.

    Raises:
        InputError: there is no such option, or it has a value that there is none of.
    """
    from understudy.envs.make import make_env
    from understudy.envs.randomization import load_randomization

    _require_options(options, make_env, IDS)
    return make_env(_task, randomization=load_randomization(randomize), **options)


def make_goal_env(*, _task: str, randomize: str = "none", **options: Any) -> GoalEnv:
    """What `gymnasium.make` builds for a goal-reaching id.

    Args:
        _task: name of a task with a goal, set by the id.
        randomize: none, a preset, or a YAML file.
        options: robot, reward, render_mode; see `GoalEnv`.

    Raises:
        InputError: there is no such option, or it has a value that there is none of.
    """
    from understudy.envs.goal_env import GoalEnv
    from understudy.envs.randomization import load_randomization

    _require_options(options, GoalEnv, GOAL_IDS)
    return GoalEnv(_task, randomization=load_randomization(randomize), **options)


def _require_options(options: Mapping[str, Any], maker: Callable[..., Any], ids: Mapping[str, str]) -> None:
    """Refuse an option that `maker` does not take, or that these ids set."""
    if "task" in options:
        listed = ", ".join(f"{NAMESPACE}/{name}" for name in ids)
        raise InputError(f"The id says which task it is, and task={options['task']!r} was given too; ids: {listed}.")
    known = inspect.signature(maker).parameters.keys() - {"task", "randomization"} | {"randomize"}
    for name in options:
        if name not in known:
            raise unknown_name("option", name, known)
