"""Automatic domain randomization: ranges that widen as success allows, and narrow when it falls.

After Akkaya et al., "Solving Rubik's Cube with a Robot Hand" (2019), algorithm 1. Every parameter has a lower and an
upper boundary, which start at its nominal value. In half of the episodes (boundary sampling) one boundary, drawn at
random, is put to the test: that parameter is set to it, the others are drawn within their ranges. How those episodes
end goes into that boundary's buffer; when it is full, its mean success decides: at or above the upper threshold the
boundary moves outwards by a step, below the lower one it moves back, and the buffer is emptied.

Boundaries never leave the outer ranges, which a preset or a file gives. A step is a share of the way from nominal to
the outer boundary, on a logarithmic scale where the outer distribution has one.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from understudy.envs.distributions import Distribution
from understudy.envs.parameters import PARAMETERS
from understudy.envs.randomization import CURRICULUM, Randomization, load_randomization
from understudy.errors import InputError

Side = Literal["low", "high"]
SIDES: tuple[Side, Side] = ("low", "high")


@dataclass(frozen=True)
class CurriculumConfig:
    """When boundaries move, and how far.

    Raises:
        InputError: thresholds that are reversed or no shares, or counts below 1.
    """

    boundary_share: float = 0.5
    """Share of episodes that test a boundary; the paper's p_b."""
    buffer: int = 20
    """Episodes at a boundary before it is judged; the paper's m (240 there, with far more episodes)."""
    lower_threshold: float = 0.4
    """Mean success below which a boundary moves back; the paper's t_L."""
    upper_threshold: float = 0.7
    """Mean success from which on it moves out; the paper's t_H."""
    step: float = 0.1
    """How far a boundary moves, as a share of the way from nominal to its outermost place."""

    def __post_init__(self) -> None:
        if not 0.0 < self.boundary_share <= 1.0:
            raise InputError(f"Curriculum: boundary_share must be above 0 and at most 1, got {self.boundary_share}.")
        if self.buffer < 1:
            raise InputError(f"Curriculum: buffer must be at least 1 episode, got {self.buffer}.")
        if not 0.0 <= self.lower_threshold < self.upper_threshold <= 1.0:
            raise InputError(
                "Curriculum: thresholds must be shares of success, the lower one first, got "
                f"{self.lower_threshold} and {self.upper_threshold}."
            )
        if not 0.0 < self.step <= 1.0:
            raise InputError(f"Curriculum: step must be above 0 and at most 1, got {self.step}.")


@dataclass
class _Boundary:
    """One end of one parameter's range."""

    outermost: float
    reach: float = 0.0
    """Share of the way from nominal to the outermost place, 0 to 1."""
    successes: int = 0
    episodes: int = 0


class Curriculum:
    """A `Randomizer` that learns its ranges. Each environment beyond the first has a `share` of it."""

    def __init__(self, outer: Randomization, config: CurriculumConfig = CurriculumConfig()) -> None:
        """Args:
        outer: the ranges that are never left; each must have its nominal value inside.
        config: when boundaries move.

        Raises:
            InputError: `outer` has a distribution without bounds, or one that leaves nominal out.
        """
        self.name = f"{CURRICULUM}:{outer.name}"
        self.config = config
        self.outer = outer
        self._logarithmic: dict[str, bool] = {}
        self._boundaries: dict[tuple[str, Side], _Boundary] = {}
        for name, distribution in outer.distributions.items():
            self._add(name, distribution)
        self._tested: tuple[str, Side] | None = None

    def _add(self, name: str, distribution: object) -> None:
        if not isinstance(distribution, Distribution) or distribution.shape == "normal":
            raise InputError(
                f"A curriculum widens ranges: {name!r} of {self.outer.name!r} must be uniform or log_uniform."
            )
        low, high = distribution.bounds
        nominal = PARAMETERS[name].nominal
        if not low <= nominal <= high:
            raise InputError(
                f"A curriculum starts at nominal values: {name!r} of {self.outer.name!r} is {nominal:g}, outside of "
                f"{low:g} to {high:g}; widen the range to hold it."
            )
        self._logarithmic[name] = distribution.shape == "log_uniform"
        for side, end in zip(SIDES, (low, high), strict=True):
            if end != nominal:
                self._boundaries[name, side] = _Boundary(end)

    def share(self) -> Curriculum:
        """The same ranges for another environment of this process: what either reports moves them for both."""
        other = copy.copy(self)
        other._tested = None
        return other

    def sample(self, rng: np.random.Generator) -> dict[str, float]:
        """The next episode's physics; an episode that was never reported on counts for nothing."""
        self._tested = None
        sample = {name: self._within(name, rng) for name in self._logarithmic}
        if self._boundaries and rng.random() < self.config.boundary_share:
            keys = list(self._boundaries)
            self._tested = keys[int(rng.integers(len(keys)))]
            sample[self._tested[0]] = self._place(*self._tested)
        return sample

    def report(self, success: bool) -> None:
        """How the episode of the last sample ended."""
        if self._tested is None:
            return
        boundary, config = self._boundaries[self._tested], self.config
        self._tested = None
        boundary.episodes += 1
        boundary.successes += success
        if boundary.episodes < config.buffer:
            return
        rate = boundary.successes / boundary.episodes
        if rate >= config.upper_threshold:
            boundary.reach = min(1.0, boundary.reach + config.step)
        elif rate < config.lower_threshold:
            boundary.reach = max(0.0, boundary.reach - config.step)
        boundary.episodes = boundary.successes = 0

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Parameter -> (low, high) as they are now."""
        return {name: (self._place(name, "low"), self._place(name, "high")) for name in self._logarithmic}

    @property
    def width(self) -> float:
        """Mean share of the outer ranges that is reached, 0 to 1."""
        return float(np.mean([boundary.reach for boundary in self._boundaries.values()])) if self._boundaries else 0.0

    def metrics(self) -> dict[str, float]:
        """For a log: `curriculum/width`, and each parameter's reach."""
        rows = {"curriculum/width": self.width}
        return rows | {f"curriculum/{name}_{side}": one.reach for (name, side), one in self._boundaries.items()}

    def randomization(self) -> Randomization:
        """The ranges as they are now, fixed; for judging what was trained in them."""
        shapes = self.outer.distributions
        now = {}
        for name, (low, high) in self.ranges.items():
            shape = shapes[name]
            assert isinstance(shape, Distribution)  # the constructor refuses others
            now[name] = Distribution(shape.shape, low, high)
        return Randomization(self.name, now)

    def state(self) -> str:
        """Everything that was learned, as JSON."""
        boundaries = {
            f"{name}.{side}": [one.reach, one.successes, one.episodes] for (name, side), one in self._boundaries.items()
        }
        return json.dumps({"outer": self.outer.name, "boundaries": boundaries})

    def restore(self, state: str) -> None:
        """Go on from what `state` returned.

        Raises:
            InputError: it is of other outer ranges, or no such state.
        """
        try:
            rows: Mapping[str, Any] = json.loads(state)["boundaries"]
            read = {key: (float(reach), int(won), int(seen)) for key, (reach, won, seen) in rows.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"This is no state of a curriculum ({error}); give what Curriculum.state wrote."
            ) from error
        ours = {f"{name}.{side}" for name, side in self._boundaries}
        if read.keys() != ours:
            raise InputError(
                f"This state of a curriculum has other parameters than {self.outer.name!r}: "
                f"{sorted(read.keys() ^ ours)} differ; use the ranges that it was made with."
            )
        for (name, side), boundary in self._boundaries.items():
            boundary.reach, boundary.successes, boundary.episodes = read[f"{name}.{side}"]

    def _within(self, name: str, rng: np.random.Generator) -> float:
        low, high = self._place(name, "low"), self._place(name, "high")
        return Distribution("log_uniform" if self._logarithmic[name] else "uniform", low, high).sample(rng)

    def _place(self, name: str, side: Side) -> float:
        nominal = PARAMETERS[name].nominal
        boundary = self._boundaries.get((name, side))
        if boundary is None:
            return nominal
        if boundary.reach == 1.0:
            return boundary.outermost
        if self._logarithmic[name]:
            return nominal * math.exp(boundary.reach * math.log(boundary.outermost / nominal))
        return nominal + boundary.reach * (boundary.outermost - nominal)


def load_randomizer(source: str) -> Randomization | Curriculum | None:
    """What `--randomize` says where ranges may be learned: `curriculum`, `curriculum:SOURCE`, or as for
    `load_randomization`.

    `curriculum` widens up to `hard`.

    Raises:
        InputError: as `load_randomization`, or the outer ranges are none a curriculum can widen to.
    """
    word, _, rest = source.partition(":")
    if word != CURRICULUM:
        return load_randomization(source)
    outer = load_randomization(rest or "hard")
    if outer is None:
        raise InputError("A curriculum needs outer ranges: curriculum, curriculum:hard, or curriculum:my.yaml.")
    return Curriculum(outer)
