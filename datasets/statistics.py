"""What a handful of trials says about a rate."""

from __future__ import annotations

from math import ceil, floor, sqrt
from statistics import NormalDist

from understudy.errors import InputError


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a success rate (Wilson 1927): honest for few trials and for rates near 0 and 1.

    Returns (low, high); (0, 1) for no trials, of which nothing is known.

    Raises:
        InputError: more successes than trials, negative counts, or a confidence outside (0, 1).
    """
    if not 0 <= successes <= trials:
        raise InputError(f"Interval of {successes} successes in {trials} trials: expected 0 <= successes <= trials.")
    if not 0.0 < confidence < 1.0:
        raise InputError(f"Confidence must lie between 0 and 1, got {confidence}.")
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    rate = successes / trials
    scale = 1.0 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / scale
    half = z * sqrt(rate * (1.0 - rate) / trials + z * z / (4 * trials * trials)) / scale
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def percent(rate: float) -> str:
    """A rate as a percentage with one decimal, cut off: nothing that is reported is rounded up."""
    return f"{floor(1000 * rate + _ROUNDING) / 10:.1f}%"


def percent_interval(low: float, high: float) -> str:
    """An interval as percentages with one decimal, widened to them: the low end cut off, the high end rounded up."""
    return f"{percent(low)} to {ceil(1000 * high - _ROUNDING) / 10:.1f}%"


_ROUNDING = 1e-9
"""0.29 * 1000 is 289.99999999999994."""
