"""Statistics as LeRobot keeps them: one set an episode, and all of them put together the way it does that.

Owns meta/stats.json and the `stats/` columns of its episode table. Bounds, means and deviations are exact; quantiles of
the whole are LeRobot's: the episodes' own, averaged by length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Statistics = dict[str, NDArray[Any]]
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
_FRAMES = 100
"""Frames of an episode that image statistics look at."""
_PIXELS = 150
"""Rows and columns of a frame that they look at."""


def of_numbers(values: NDArray[Any]) -> Statistics:
    """Statistics of (N, width) numbers, one for each column."""
    numbers = np.asarray(values, np.float64)
    found: Statistics = {
        "min": numbers.min(axis=0),
        "max": numbers.max(axis=0),
        "mean": numbers.mean(axis=0),
        "std": numbers.std(axis=0),
        "count": np.array([len(numbers)]),
    }
    return found | {name: np.quantile(numbers, share, axis=0) for name, share in QUANTILES.items()}


def of_frames(frames: NDArray[np.uint8]) -> Statistics:
    """Statistics of frames (N, height, width, 3), for each colour, scaled to [0, 1], of shape (3, 1, 1)."""
    rows = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _FRAMES)).astype(int))
    stride = max(1, max(frames.shape[1:3]) // _PIXELS)
    seen = frames[rows, ::stride, ::stride]
    found = of_numbers(seen.reshape(-1, 3))
    return {
        name: np.array([len(rows)]) if name == "count" else (value / 255.0).reshape(3, 1, 1)
        for name, value in found.items()
    }


def together(sets: list[Mapping[str, Statistics]]) -> dict[str, Statistics]:
    """The statistics of all episodes from those of each."""
    return {name: _one_together([each[name] for each in sets]) for name in sets[0]}


def _one_together(parts: list[Statistics]) -> Statistics:
    counts = np.stack([part["count"] for part in parts]).astype(np.float64)
    means = np.stack([part["mean"] for part in parts])
    weights = counts.reshape(-1, *([1] * (means.ndim - 1))) / counts.sum()
    mean = (means * weights).sum(axis=0)
    spread = np.stack([part["std"] for part in parts]) ** 2 + (means - mean) ** 2
    whole: Statistics = {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt((spread * weights).sum(axis=0)),
        "count": np.sum([part["count"] for part in parts], axis=0),
    }
    return whole | {name: (np.stack([part[name] for part in parts]) * weights).sum(axis=0) for name in QUANTILES}
