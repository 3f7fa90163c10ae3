"""Two policies on the same seeds: who solved which, and whether the difference is more than chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from understudy.errors import InputError
from understudy.learners.evaluate import Evaluation


@dataclass(frozen=True)
class Comparison:
    """Two policies on the same seeds."""

    both: int
    """Seeds that both solved."""
    first_only: int
    second_only: int
    neither: int
    p_value: float
    """Exact McNemar test (two-sided) of "the two are equally good"."""
    difference: float
    """Rate of the second minus rate of the first."""
    low: float
    high: float
    """95% paired bootstrap interval of the difference."""


def compare(first: Evaluation, second: Evaluation, *, draws: int = 10_000, seed: int = 0) -> Comparison:
    """Compare two evaluations seed by seed.

    Raises:
        InputError: they are not of the same task, suite and seeds.
    """
    asked = [(e.task, e.suite, tuple(o.seed for o in e.outcomes)) for e in (first, second)]
    if asked[0] != asked[1]:
        raise InputError(
            f"These evaluations do not match: {first.episodes} seeds from {first.seed} of {first.task} "
            f"({first.suite}) and {second.episodes} from {second.seed} of {second.task} ({second.suite}); "
            "evaluate both on the same."
        )
    a = np.array([outcome.success for outcome in first.outcomes])
    b = np.array([outcome.success for outcome in second.outcomes])
    rng = np.random.default_rng(seed)
    change = b.astype(np.float64) - a
    means = change[rng.integers(0, len(a), (draws, len(a)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    first_only, second_only = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    return Comparison(
        both=int(np.sum(a & b)),
        first_only=first_only,
        second_only=second_only,
        neither=int(np.sum(~a & ~b)),
        p_value=mcnemar_exact(first_only, second_only),
        difference=float(change.mean()),
        low=float(low),
        high=float(high),
    )


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Two-sided p-value that the seeds on which two policies differ fall evenly (binomial, 1/2)."""
    total, fewer = first_only + second_only, min(first_only, second_only)
    tail = sum(math.comb(total, k) for k in range(fewer + 1)) / 2**total
    return float(min(1.0, 2.0 * tail))
