"""`ForeignEnv`: any other Gymnasium environment (MuJoCo's, gymnasium-robotics', CartPole) as our learners see one.

Observations become a dict of float32 arrays, actions numbers in [-1, 1], and every step says whether the episode has
succeeded. What needs an arm cannot work there: recording by hand, the Guard, randomized physics, deployment.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from understudy.envs.arm_env import Observations
from understudy.envs.tasks.task import known_tasks
from understudy.errors import InputError

STATE = "state"
"""Observation key of an environment that observes one array."""
SUCCESS_KEYS = ("is_success", "success")
"""Where environments say in `info` that they are solved, the first that is there."""


def is_foreign(task: str) -> bool:
    """Whether `task` names an environment of Gymnasium's registry rather than a task of ours."""
    return task not in known_tasks() and gymnasium.envs.registration.registry.get(task) is not None


class ForeignEnv(gymnasium.Env[Observations, NDArray[np.float32]]):
    """One environment by its Gymnasium id.

    Observations: the entries of a Dict space by their names, or the one array as `state`. Actions: a Box is scaled to
    [-1, 1]; of n choices the one with the highest of n numbers is taken. `info["success"]` is the environment's own
    `is_success` or `success`; where it tells neither, whether the episode's return has reached the id's reward
    threshold; where there is none, False (`judged_by` says which).
    """

    def __init__(self, id: str, *, render_mode: str | None = None) -> None:
        """Raises:
        InputError: the id is unknown or its package missing, or its spaces are none of those above.
        """
        try:
            self._env = gymnasium.make(id, render_mode=render_mode)
        except gymnasium.error.Error as error:
            raise InputError(f"Gymnasium cannot make {id!r}: {error}") from error
        self.id = id
        self.render_mode = render_mode
        self.metadata = self._env.metadata
        self.threshold = None if self._env.spec is None else self._env.spec.reward_threshold
        self._told = False
        self._return = 0.0
        self.observation_space = self._observation_space(self._env.observation_space)
        self.action_space = self._action_space(self._env.action_space)

    @property
    def judged_by(self) -> str:
        """What success is taken from; known after the first step."""
        if self._told:
            return "info"
        return "nothing" if self.threshold is None else f"return of at least {self.threshold:g}"

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """See Gymnasium."""
        super().reset(seed=seed)
        self._return = 0.0
        observation, info = self._env.reset(seed=seed, options=options)
        return self._seen(observation), info

    def step(self, action: NDArray[np.float32]) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """One step with an action (A,) in [-1, 1]; what is outside is clipped."""
        observation, reward, terminated, truncated, info = self._env.step(self._native(np.asarray(action)))
        self._return += float(reward)
        said = [info[key] for key in SUCCESS_KEYS if key in info]
        self._told = bool(said)
        reached = self.threshold is not None and self._return >= self.threshold
        info = info | {"success": bool(said[0]) if said else reached}
        return self._seen(observation), float(reward), bool(terminated), bool(truncated), info

    def render(self) -> Any:
        """See Gymnasium."""
        return self._env.render()

    def close(self) -> None:
        """See Gymnasium."""
        self._env.close()  # type: ignore[no-untyped-call]

    def _observation_space(self, space: spaces.Space[Any]) -> spaces.Dict:
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {STATE: space}
        made: dict[str, spaces.Space[Any]] = {}
        for key, part in parts.items():
            if not isinstance(part, spaces.Box):
                raise InputError(f"{self.id!r} observes {part} ({key!r}); only arrays of numbers can be learned from.")
            picture = part.dtype == np.uint8
            kind = np.uint8 if picture else np.float32
            made[key] = spaces.Box(part.low.astype(kind), part.high.astype(kind), part.shape, kind)
        return spaces.Dict(made)

    def _seen(self, observation: Any) -> Observations:
        parts = observation if isinstance(observation, dict) else {STATE: observation}
        spaces_ = self.observation_space
        assert isinstance(spaces_, spaces.Dict)
        return {key: np.asarray(parts[key], space.dtype) for key, space in spaces_.spaces.items()}

    def _action_space(self, space: spaces.Space[Any]) -> spaces.Box:
        if isinstance(space, spaces.Discrete):
            return spaces.Box(-1.0, 1.0, (int(space.n),), np.float32)
        if isinstance(space, spaces.Box) and len(space.shape) == 1 and np.isfinite([space.low, space.high]).all():
            return spaces.Box(-1.0, 1.0, space.shape, np.float32)
        raise InputError(f"{self.id!r} takes {space} as actions; expected a bounded row of numbers, or choices.")

    def _native(self, action: NDArray[Any]) -> Any:
        space = self._env.action_space
        if action.shape != self.action_space.shape:
            raise InputError(f"Action for {self.id!r} has shape {action.shape}; expected {self.action_space.shape}.")
        if isinstance(space, spaces.Discrete):
            return int(space.start) + int(np.argmax(action))
        assert isinstance(space, spaces.Box)
        share = 0.5 * (np.clip(action, -1.0, 1.0) + 1.0)
        return (space.low + share * (space.high - space.low)).astype(space.dtype)
