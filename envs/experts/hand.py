"""The hand that every scripted expert moves with: straight and exact, or the way a person's does.

`HumanStyle`, drawn once an episode, makes it human: its own speed and path, tremor, hesitations, wrong starts that are
corrected, and a gripper that is pressed early or late.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class HumanStyle:
    """How one episode's operator moves. The default is a machine: no noise, no pauses."""

    gain: float = 0.35
    """Share of the remaining way covered each tick."""
    max_speed_m: float = 0.02
    """Fastest step of the hand, m a tick."""
    tremor_m: float = 0.0
    """Standard deviation of slow hand noise, m a tick."""
    detour_m: tuple[float, float] = (0.0, 0.0)
    """Sideways offset of the way point above the object, m: a path that is not straight."""
    pause_chance: float = 0.0
    """Chance a tick that the hand stops for a while."""
    pause_ticks: int = 0
    wrong_start_m: tuple[float, float] = (0.0, 0.0)
    """The first approach aims this far beside the object, and is corrected."""
    gripper_delay: int = 0
    """Ticks between arriving and closing."""

    @staticmethod
    def sample(rng: np.random.Generator) -> HumanStyle:
        """Draw a person's manner."""
        wrong = rng.uniform(0.015, 0.04) if rng.random() < 0.3 else 0.0
        angle = rng.uniform(0, 2 * np.pi)
        return HumanStyle(
            gain=float(rng.uniform(0.22, 0.4)),
            max_speed_m=float(rng.uniform(0.012, 0.022)),
            tremor_m=float(rng.uniform(0.0005, 0.0015)),
            detour_m=(float(rng.normal(0, 0.015)), float(rng.normal(0, 0.015))),
            pause_chance=float(rng.uniform(0.0, 0.03)),
            pause_ticks=int(rng.integers(3, 12)),
            wrong_start_m=(float(wrong * np.cos(angle)), float(wrong * np.sin(angle))),
            gripper_delay=int(rng.integers(1, 6)),
        )


class Hand:
    """Moves towards way points with a style; owns the noise and the pauses."""

    def __init__(self, style: HumanStyle, rng: np.random.Generator) -> None:
        self.style = style
        self._rng = rng
        self._pause_left = 0
        self._noise = np.zeros(3)

    def towards(self, offset: Vector, care: float = 1.0) -> Vector:
        """A step (3,) in m along `offset`, the way that is left.

        `care` below 1 slows the hand down and steadies it: a hand's noise grows with its effort (Harris and Wolpert
        1998).
        """
        style = self.style
        if self._pause_left > 0:
            self._pause_left -= 1
            return np.zeros(3)
        if style.pause_chance and self._rng.random() < style.pause_chance:
            self._pause_left = style.pause_ticks
        step = style.gain * offset
        step = step * min(1.0, care * style.max_speed_m / max(float(np.linalg.norm(step)), 1e-9))
        # an Ornstein-Uhlenbeck walk: hand noise is slow, not white
        self._noise = 0.8 * self._noise + self._rng.normal(0.0, style.tremor_m, 3)
        return step + care * self._noise

    @property
    def pausing(self) -> bool:
        """Whether the hand rests."""
        return self._pause_left > 0
