"""The one alignment rule: at a tick, each key takes its latest sample at or before the tick, if it is young enough.

Recording, training-time evaluation and deployment all build observations with `Assembler`; `latest_at` is the same
rule over whole recorded streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.schema import is_image
from understudy.errors import StaleObservation


@dataclass(frozen=True)
class Aligned:
    """One tick's observation: every key, and how old its sample was."""

    tick_ns: int
    values: Mapping[str, NDArray[Any]]
    """float32, images uint8."""
    ages_s: Mapping[str, float]


class Assembler:
    """Builds the observation of a tick from the newest samples, refusing what is missing, stale or not finite."""

    def __init__(self, keys: tuple[str, ...], max_age_s: Mapping[str, float], default_max_age_s: float = 0.25) -> None:
        """Args:
        keys: what an observation consists of.
        max_age_s: key -> oldest sample that may be used, s.
        default_max_age_s: for keys not in `max_age_s`.
        """
        self.keys = keys
        self._numeric = tuple(key for key in keys if not is_image(key))
        self.max_age_s = {key: max_age_s.get(key, default_max_age_s) for key in keys}

    @np.errstate(over="ignore")  # what is too large becomes infinite, and is refused
    def assemble(self, values: Mapping[str, NDArray[Any]], stamps_ns: Mapping[str, int], tick_ns: int) -> Aligned:
        """The observation at `tick_ns`. A sample stamped after the tick has age 0.

        Raises:
            StaleObservation: a key never came, is older than its limit, or is not finite; names it.
        """
        taken: dict[str, NDArray[Any]] = {}
        ages: dict[str, float] = {}
        for key in self.keys:
            if key not in values:
                raise StaleObservation(f"No {key!r} has been received; check that its source is running.")
            age = max(0.0, (tick_ns - stamps_ns[key]) * 1e-9)
            if age > self.max_age_s[key]:
                raise StaleObservation(
                    f"{key!r} is {age:.3f} s old at the tick; at most {self.max_age_s[key]:.3f} s is allowed. "
                    "Its source has stopped or is slow."
                )
            taken[key] = np.asarray(values[key]) if is_image(key) else np.array(values[key], np.float32)
            ages[key] = age
        numbers = [taken[key] for key in self._numeric]
        if numbers and not np.isfinite(np.concatenate(numbers, axis=None)).all():
            key = next(key for key in self._numeric if not np.isfinite(taken[key]).all())
            raise StaleObservation(f"{key!r} has a value that is not finite: {taken[key].tolist()}.")
        return Aligned(tick_ns, taken, ages)


def latest_at(stamps_ns: NDArray[np.int64], ticks_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each tick the index of the latest sample at or before it, -1 where there is none.

    Args:
        stamps_ns: (S,) sorted stamps of a stream.
        ticks_ns: (N,) ticks.
    """
    return np.searchsorted(stamps_ns, ticks_ns, side="right") - 1
