"""From axes of a device to a smooth step: dead band, speed, rate limit and hold to move, the same for every device.

A stick at rest is never quite at zero, and a person's thumb is quicker than an arm should be. What a device reads as
axes in [-1, 1], by label of the action, becomes numbers in the units of the action space here. Owns no clock and reads
no device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.schema import ActionSpec
from understudy.errors import InputError

STICKS: tuple[tuple[str, ...], ...] = (("x", "y"), ("z",), ("roll", "pitch"), ("yaw",))
"""Labels that one stick moves together, where a device does not say otherwise."""
SPACES = ("tool_delta", "joint_delta", "joint_velocity")
"""Action spaces in which zero means: do not move."""


@dataclass(frozen=True)
class ShapingConfig:
    """How axes move the arm."""

    dead_band: float = 0.08
    """Deflection of a stick below which nothing moves, at least 0 and below 1."""
    speed: float = 0.35
    """Share of the largest step that full deflection asks for, above 0 and at most 1."""
    acceleration_s: float = 0.2
    """Time from rest to full speed, s; 0 is at once. Slowing down and letting go are never delayed."""
    hold_to_move: bool = False
    """Nothing moves unless the device's hold button is pressed."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.dead_band < 1.0:
            raise InputError(f"Dead band must be at least 0 and below 1, got {self.dead_band}.")
        if not 0.0 < self.speed <= 1.0:
            raise InputError(f"Device speed must be above 0 and at most 1, got {self.speed}.")
        if not 0.0 <= self.acceleration_s <= 10.0:
            raise InputError(f"Acceleration must take between 0 and 10 s, got {self.acceleration_s}.")


class Shaping:
    """Turns the axes of one tick into a step. Remembers only the speed of the tick before."""

    def __init__(
        self,
        spec: ActionSpec,
        period_s: float,
        config: ShapingConfig | None = None,
        sticks: Sequence[Sequence[str]] = STICKS,
    ) -> None:
        """Args:
        spec: an action space of steps or speeds (`SPACES`), or part of one.
        period_s: time between two calls of `shape`, s.
        config: dead band, speed, acceleration, hold to move.
        sticks: labels whose dead band is judged by their common deflection; a label in none stands alone.

        Raises:
            InputError: a space in which zero is a place to go to, or a period that is not positive.
        """
        if spec.name not in SPACES:
            raise InputError(
                f"Sticks and keys drive the action spaces {', '.join(map(repr, SPACES))}, and this task uses "
                f"{spec.name!r}; choose another device."
            )
        if not (math.isfinite(period_s) and period_s > 0.0):
            raise InputError(f"The period of a device must be a positive number of seconds, got {period_s}.")
        config = config or ShapingConfig()
        self.config = config
        self.labels = tuple(label for label in spec.labels if label != "gripper")
        """What axes move, in the order of the action space."""
        self._size = spec.size
        self._index = [spec.labels.index(label) for label in self.labels]
        self._full = config.speed * np.array([min(-spec.low[i], spec.high[i]) for i in self._index])
        self._growth = math.inf if config.acceleration_s == 0.0 else period_s / config.acceleration_s
        known = [[self.labels.index(label) for label in stick if label in self.labels] for stick in sticks]
        alone = set(range(len(self.labels))) - {i for stick in known for i in stick}
        self._sticks = [stick for stick in known if stick] + [[i] for i in sorted(alone)]
        self._now = np.zeros(len(self.labels))

    def shape(self, axes: Mapping[str, float], held: bool = True) -> NDArray[np.float64]:
        """The step (A,) in units of the action space that a deflection asks for at this tick.

        The gripper's number is zero: add the step to `device.neutral`, which keeps the gripper where it is.

        Args:
            axes: label -> deflection in [-1, 1]; what lies outside is clipped, what is no number counts as zero, and
                labels that the action space does not have are left alone.
            held: whether the hold button is pressed; matters only with `hold_to_move`.
        """
        step = np.zeros(self._size)
        if self.config.hold_to_move and not held:
            self.reset()
            return step
        self._now = self._slewed(self._outside_dead_band(axes))
        step[self._index] = self._now * self._full
        return step

    def reset(self) -> None:
        """Begin again from rest."""
        self._now = np.zeros(len(self.labels))

    def _outside_dead_band(self, axes: Mapping[str, float]) -> NDArray[np.float64]:
        """Deflections beyond the band, by the stick's radius: zero at its edge and full where the stick ends."""
        read = np.array([axes.get(label, 0.0) for label in self.labels], np.float64)
        read = np.clip(np.where(np.isfinite(read), read, 0.0), -1.0, 1.0)
        band = self.config.dead_band
        for stick in self._sticks:
            radius = float(np.linalg.norm(read[stick]))
            read[stick] *= 0.0 if radius <= band else (radius - band) / ((1.0 - band) * radius)
        return np.clip(read, -1.0, 1.0)

    def _slewed(self, wanted: NDArray[np.float64]) -> NDArray[np.float64]:
        """The speed of this tick: less at once, more no quicker than allowed, all axes alike to keep the direction."""
        base = np.clip(self._now, np.minimum(wanted, 0.0), np.maximum(wanted, 0.0))
        growth = wanted - base
        most = float(np.abs(growth).max(initial=0.0))
        return wanted if most <= self._growth else base + growth * (self._growth / most)
