"""The expert of reach."""

from __future__ import annotations

import numpy as np

from understudy.envs.arms.robot import RobotDescription
from understudy.envs.experts.expert import ObservationDict, Vector
from understudy.envs.experts.hand import Hand, HumanStyle


class ReachExpert:
    """Straight to the goal, then stay."""

    def __init__(self, robot: RobotDescription, style: HumanStyle, rng: np.random.Generator) -> None:
        self._hand = Hand(style, rng)

    def reset(self, observation: ObservationDict) -> None:
        """See `Expert`."""

    def act(self, observation: ObservationDict) -> Vector:
        """See `Expert`."""
        return self._hand.towards(np.asarray(observation["goal_position"] - observation["tool_position"], np.float64))
