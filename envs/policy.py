"""What a policy is to everybody who runs one: observations in, normalised actions out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

ObservationDict = Mapping[str, NDArray[Any]]


class Policy(Protocol):
    """Decides one action a tick."""

    def reset(self) -> None:
        """An episode begins."""

    def act(self, observation: ObservationDict) -> NDArray[np.float32]:
        """The action (A,) in [-1, 1] for this tick's observation (key -> array)."""


class ChunkPlayer:
    """Plays a policy that predicts chunks of actions: `execute` of them before it looks again."""

    def __init__(self, predict: Callable[[ObservationDict], NDArray[np.float32]], execute: int) -> None:
        """Args:
        predict: observation -> (chunk, A) actions in [-1, 1].
        execute: how many of a chunk are played before the next look, at least 1.
        """
        self._predict = predict
        self._execute = execute
        self._pending: list[NDArray[np.float32]] = []

    def reset(self) -> None:
        """See `Policy`."""
        self._pending.clear()

    def act(self, observation: ObservationDict) -> NDArray[np.float32]:
        """See `Policy`."""
        if not self._pending:
            self._pending = list(self._predict(observation)[: self._execute])
        return self._pending.pop(0)
