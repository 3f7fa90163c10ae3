"""The one wrapper that neither Gymnasium nor stable-baselines3 has: several actions at once.

docs/how-to/gymnasium.md says which of theirs to take for histories, noise, delay and success.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from understudy.errors import InputError


class ActionChunk(gymnasium.Wrapper[Any, NDArray[np.float32], Any, NDArray[np.float32]]):
    """One step plays a chunk of actions (length, A) to its end, or to the episode's.

    Its reward is the sum of theirs, its observation the last one's; `info` is the last one's, and `steps` says how many
    were played.
    """

    def __init__(self, env: gymnasium.Env[Any, NDArray[np.float32]], length: int) -> None:
        """Args:
        env: its actions are a Box (A,).
        length: actions of a chunk, at least 1.

        Raises:
            InputError: the length is below 1, or the actions are something else.
        """
        space = env.action_space
        if length < 1:
            raise InputError(f"A chunk needs at least 1 action, got {length}.")
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise InputError(f"Chunks are made of actions in a Box (A,), and this environment takes {space}.")
        super().__init__(env)
        low, high = (np.tile(bound, (length, 1)) for bound in (space.low, space.high))
        self.action_space = spaces.Box(low, high, dtype=np.float32)

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Play a chunk (length, A)."""
        chunk = np.asarray(action)
        if chunk.shape != self.action_space.shape:
            raise InputError(f"A chunk of actions has shape {chunk.shape}; expected {self.action_space.shape}.")
        total, steps = 0.0, 0
        for one in chunk:
            observation, reward, terminated, truncated, info = self.env.step(one)
            steps += 1
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info | {"steps": steps}
