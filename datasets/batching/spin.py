"""Showing every direction from a few demonstrations: the whole scene turned about the vertical.

What the tool does to an object does not depend on where north is: positions, orientations and tool steps are turned
together. Owns which actions and observations keep their meaning when that is done.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.batching.windows import Windows
from understudy.datasets.schema import ActionSpec

Array = NDArray[Any]


def spin(windows: Windows, spec: ActionSpec, copies: int, rng: np.random.Generator) -> Windows:
    """The windows, and `copies - 1` more of each, every one turned by a random angle of its own.

    Holds for `tool_delta` actions, whose axes are the base's, and for observations in the base frame; others are
    returned as they are.
    """
    if not can_spin(spec) or copies <= 1:
        return windows
    count = len(windows)
    angles = np.concatenate([np.zeros(count), rng.uniform(-np.pi, np.pi, (copies - 1) * count)])
    observations = {
        key: _spin_observation(key, _tiled(values, copies), angles[:, None])
        for key, values in windows.observations.items()
    }
    actions = _tiled(windows.actions, copies)
    for names in (("x", "y"), ("roll", "pitch")):
        if set(names) <= set(spec.labels):
            pair = [spec.labels.index(name) for name in names]
            actions[..., pair] = _turn(actions[..., pair], angles[:, None])
    rest = (_tiled(values, copies) for values in (windows.seen, windows.mask, windows.episode, windows.step))
    return Windows(observations, actions, *rest)


def can_spin(spec: ActionSpec) -> bool:
    """Whether actions keep their meaning when the scene is turned: tool steps with like bounds on x and y."""
    if spec.name != "tool_delta" or not {"x", "y"} <= set(spec.labels):
        return False
    if ("roll" in spec.labels) != ("pitch" in spec.labels):
        return False
    bounds = {label: (spec.low[i], spec.high[i]) for i, label in enumerate(spec.labels)}
    return bounds["x"] == bounds["y"] and bounds.get("roll") == bounds.get("pitch")


def _spin_observation(key: str, values: Array, angles: NDArray[np.float64]) -> Array:
    """Observations (M, S, ...) turned by angles that broadcast to (M, S)."""
    if key.endswith("_quaternion"):
        # xyzw of a turn about z, times the orientation
        sin, cos = np.sin(angles / 2), np.cos(angles / 2)
        x, y, z, w = (values[..., i] for i in range(4))
        turned = np.stack([cos * x - sin * y, cos * y + sin * x, cos * z + sin * w, cos * w - sin * z], -1)
        return turned.astype(np.float32)
    if key.startswith(("tool_", "object", "goal")) and key.endswith("_position"):
        return np.concatenate([_turn(values[..., :2], angles), values[..., 2:]], -1).astype(np.float32)
    return values


def _turn(pairs: Array, angles: NDArray[np.float64]) -> NDArray[np.float32]:
    """Pairs (..., 2) turned by angles (...), rad."""
    sin, cos = np.sin(angles), np.cos(angles)
    x, y = pairs[..., 0], pairs[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], -1).astype(np.float32)


def _tiled(values: Array, copies: int) -> Array:
    return np.tile(values, (copies, *[1] * (values.ndim - 1)))
