"""Questions about plain arrays over ticks: which comes first, which columns changed places, how long a run is, how slow
the slowest stretch was.

Pure functions; what the answers mean is decided in `defects_in_time.py`, `defects_in_motion.py` and
`consistency.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Flags = NDArray[np.bool_]

_SURE = 0.9
"""The best shift must beat those two or more ticks away by this factor to be believed."""
_STRAIGHT = 0.05
"""Two signals disagree where their difference has more than this share of their power."""
_SWAPPED = 0.2
"""Columns changed places where exchanging them leaves less than this share of the difference."""


@dataclass(frozen=True)
class Swap:
    """Two columns that fit each other's place better than their own."""

    first: int
    second: int
    straight: float
    """Share of their power in the difference as they are."""
    exchanged: float
    """And with the two exchanged."""


def lag_of(cause: Vector, effect: Vector, most: int = 6) -> float | None:
    """Ticks by which `effect` (N, D) follows `cause` (N, D): the shift with the smallest difference, to a fraction.

    Shifts of up to `most` ticks are tried, fewer in a short episode. None where too little happens, or no shift stands
    out. A shift at the end of what is tried is whole.
    """
    most = min(most, len(cause) // 6)
    if cause.shape != effect.shape or most < 2 or float(np.std(cause)) < 0.01:
        return None
    middle = slice(most, len(cause) - most)
    shifts = range(-most, most + 1)
    errors = np.array([np.mean((cause[middle] - effect[middle.start + s : middle.stop + s]) ** 2) for s in shifts])
    best = int(np.argmin(errors))
    far = [error for index, error in enumerate(errors) if abs(index - best) >= 2]
    if errors[best] >= _SURE * min(far):
        return None
    if best in (0, len(errors) - 1):
        return float(shifts[best])
    before, here, after = errors[best - 1 : best + 2]
    bend = before - 2 * here + after
    return float(shifts[best] + (0.5 * (before - after) / bend if bend > 0 else 0.0))


def swapped_columns(one: Vector, other: Vector) -> Swap | None:
    """The two columns that have changed places between `one` (N, D) and `other` (N, D), which tell the same motion.

    None where every column fits its own place, moves too little, or fits nowhere.
    """
    if one.shape != other.shape or one.ndim != 2 or one.shape[0] < 8 or one.shape[1] < 2:
        return None
    power = np.mean(one**2, axis=0) + np.mean(other**2, axis=0)
    # (D, D): difference of column i of one and column j of the other, and its share of their power
    difference = np.mean((one[:, :, None] - other[:, None, :]) ** 2, axis=0)
    if not np.max(power) > 0:
        return None
    found: Swap | None = None
    for first in range(one.shape[1]):
        for second in range(first + 1, one.shape[1]):
            both = power[first] + power[second]
            if both < 1e-3 * np.max(power):
                continue
            straight = (difference[first, first] + difference[second, second]) / both
            exchanged = (difference[first, second] + difference[second, first]) / both
            better = found is None or straight - exchanged > found.straight - found.exchanged
            if straight > _STRAIGHT and exchanged < _SWAPPED * straight and better:
                found = Swap(first, second, float(straight), float(exchanged))
    return found


def runs(flags: Flags) -> list[tuple[int, int]]:
    """(start, length) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.asarray(flags, bool), [False]]).astype(np.int8)))
    return [(int(start), int(stop - start)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def longest_run(flags: Flags) -> tuple[int, int]:
    """Start and length of the longest run of True; (0, 0) without one."""
    return max(runs(flags), key=lambda run: run[1], default=(0, 0))


def slowest_rate(periods_s: Vector, window: int) -> tuple[float, int]:
    """Rate (Hz) of the slowest stretch of `window` periods, and where it begins.

    The longest period of each stretch is left out: a single gap is no slow rate. With fewer periods than that, the
    whole is the stretch.
    """
    size = min(max(window, 2), len(periods_s))
    if size < 2:
        return (1.0 / float(periods_s[0]), 0) if len(periods_s) and periods_s[0] > 0 else (0.0, 0)
    step = max(1, size // 4)
    stretches = np.lib.stride_tricks.sliding_window_view(periods_s, size)
    starts = np.unique(np.append(np.arange(0, len(stretches), step), len(stretches) - 1))
    chosen = stretches[starts]
    spans = (chosen.sum(axis=1) - chosen.max(axis=1)) / (size - 1)
    worst = int(np.argmax(spans))
    return (1.0 / float(spans[worst]) if spans[worst] > 0 else 0.0), int(starts[worst])


def lowest_share(flags: Flags, window: int) -> tuple[float, int]:
    """Share of True in the stretch of `window` flags that has the fewest, and where that begins."""
    size = min(max(window, 1), len(flags))
    if size == 0:
        return 0.0, 0
    counts = np.cumsum(np.concatenate([[0], np.asarray(flags, np.int64)]))
    shares = (counts[size:] - counts[:-size]) / size
    return float(np.min(shares)), int(np.argmin(shares))


def robust_scores(values: Vector, floor: float) -> Vector:
    """(N, D) distance from the median in robust standard deviations, each at least `floor`."""
    centre = np.median(values, axis=0)
    spread = 1.4826 * np.median(np.abs(values - centre), axis=0)
    return np.asarray(np.abs(values - centre) / np.maximum(spread, floor))


def rotation_matrices(quaternions: Vector) -> Vector:
    """(N, 3, 3) of (N, 4) quaternions xyzw, which need not be of length one."""
    x, y, z, w = (quaternions / np.maximum(np.linalg.norm(quaternions, axis=1, keepdims=True), 1e-9)).T
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)]
    rows += [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)]
    rows += [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]
    return np.stack(rows, axis=1).reshape(-1, 3, 3)
