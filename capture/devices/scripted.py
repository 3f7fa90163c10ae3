"""A scripted operator: an expert behind the interface of a device, so that it takes the same path as a person.

Every episode is driven by another imagined person (speed, path, tremor, hesitations, corrections), drawn from the
seed of the episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.capture.devices.device import DeviceReading
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.experts.expert import make_expert


class ScriptedDevice:
    """Solves the task itself. Asks for the start at once, and leaves stopping to the session."""

    name = "scripted"
    lost = False

    def __init__(self, task: str, robot: RobotDescription, spec: ActionSpec, rng: np.random.Generator | None) -> None:
        """Args:
        task: what to solve.
        robot: the arm that is driven.
        spec: the action space; requests outside its bounds are brought to them, as a stick that ends does.
        rng: draws each episode's manner; None moves exactly.

        Raises:
            InputError: the task has no expert.
        """
        self._task = task
        self._robot = robot
        self._spec = spec
        self._rng = rng
        self._expert = make_expert(task, robot, rng)
        self._begun: tuple[Mapping[str, NDArray[Any]], Any] | None = None
        """What the episode began with, and the generator's state then."""

    def reset(self, observation: Mapping[str, NDArray[Any]]) -> None:
        """See `Device`."""
        self._begun = observation, None if self._rng is None else self._rng.bit_generator.state
        self._expert = make_expert(self._task, self._robot, self._rng)
        self._expert.reset(observation)

    def reseed(self, rng: np.random.Generator | None) -> None:
        """Draw the coming episodes' manners from `rng`."""
        self._rng = rng

    def start_pressed(self) -> None:
        """Recording begins: the expert too, whatever it was asked while everybody waited."""
        if self._begun is None:
            return
        observation, state = self._begun
        if self._rng is not None:
            self._rng.bit_generator.state = state
        self.reset(observation)

    def read(self, aligned: Aligned) -> DeviceReading:
        """See `Device`."""
        action = np.clip(self._expert.act(aligned.values), self._spec.low, self._spec.high)
        return DeviceReading(np.asarray(action, np.float64))

    def close(self) -> None:
        """See `Device`."""
