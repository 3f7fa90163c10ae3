"""Trials of an expert: one episode a seed, played in an environment, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arm_env import ArmEnv
from understudy.envs.experts.expert import Expert, make_expert


@dataclass(frozen=True)
class Trial:
    """One episode that an expert played."""

    seed: int
    success: bool
    rewards: NDArray[np.float64]
    """(N,), one a step."""
    actions: NDArray[np.float64]
    """(N, A) as the expert asked, in the units of the action space; what is beyond the bounds was brought to them."""
    tool_m: NDArray[np.float64]
    """(N + 1, 3)"""
    frames: tuple[NDArray[np.uint8], ...] = ()
    """What the environment rendered, one a step; none without a render mode."""


def play(env: ArmEnv, seed: int, style_seed: int | None = None, *, expert: Expert | None = None) -> Trial:
    """Let an expert play the episode of `seed`; the same seeds give the same trial.

    Args:
        env: where to play.
        seed: draws the start.
        style_seed: draws a person's manner; None moves exactly.
        expert: who plays, with a manner of its own; None: the expert of the environment's task.

    Raises:
        InputError: no expert was given, and the task has none.
    """
    if expert is None:
        manner = None if style_seed is None else np.random.default_rng([style_seed, 1])
        expert = make_expert(env.task.name, env.control.robot, manner)
    spec = env.spec_units
    observation, _ = env.reset(seed=seed)
    expert.reset(observation)
    actions, rewards, tool, frames, done = [], [], [observation["tool_position"]], [], False
    info: dict[str, Any] = {}
    while not done:
        actions.append(expert.act(observation))
        observation, reward, terminated, truncated, info = env.step_units(np.clip(actions[-1], spec.low, spec.high))
        rewards.append(float(reward))
        tool.append(observation["tool_position"])
        if env.render_mode == "rgb_array":
            frames.append(np.asarray(env.render(), np.uint8))
        done = terminated or truncated
    return Trial(
        seed, bool(info["success"]), np.array(rewards), np.array(actions), np.array(tool, np.float64), tuple(frames)
    )
