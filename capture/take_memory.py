"""The take in hand, kept in memory as it grows, so that it can be judged the moment it ends, without reading a file.

Numbers are kept as they are. Of a camera frame only a print is kept: a few pixels that stand for a digest of it, which
tell a frame that repeats from one that does not, and nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.capture.recorder import Motion
from understudy.datasets.align import Aligned
from understudy.datasets.episode import Episode
from understudy.datasets.schema import CHANNELS, EpisodeInfo, is_image

Array = NDArray[Any]
PACKED = 256
"""Steps that are packed together."""
EVERY = 4
"""Every so many rows and columns of a frame go into its print: all of them would take a control thread too long."""


class _Column:
    """Values of one kind, one a step; packed now and then, because small arrays weigh ten times what is in them."""

    def __init__(self) -> None:
        self._packed: list[Array] = []
        self._loose: list[Any] = []

    def add(self, value: Any) -> None:
        self._loose.append(value)
        if len(self._loose) >= PACKED:
            self._packed.append(np.array(self._loose))
            self._loose = []

    def array(self, dtype: Any = None) -> Array:
        """(N, ...) all of them."""
        parts = [*self._packed, *([np.array(self._loose)] if self._loose else [])]
        return np.concatenate(parts).astype(dtype, copy=False) if dtype is not None else np.concatenate(parts)


class TakeMemory:
    """Grows by `add`; `episode` is what there is so far."""

    def __init__(self, first: Aligned) -> None:
        self._latest = _with_prints(first)
        self._steps = 0
        self._seen = {key: _Column() for key in first.values}
        self._ages = {key: _Column() for key in first.ages_s}
        self._channels = {name: _Column() for name in CHANNELS}
        self._rewards, self._ticks = _Column(), _Column()

    def add(self, seen: Aligned, motion: Motion, reward: float, following: Aligned) -> None:
        """One control period: what was seen, what was done, what it earned, and what was seen after it."""
        before = self._latest if seen.tick_ns == self._latest.tick_ns else _with_prints(seen)
        for key, column in self._seen.items():
            column.add(before.values[key])
        for key, column in self._ages.items():
            column.add(before.ages_s[key])
        for name, column in self._channels.items():
            column.add(getattr(motion, name))
        self._rewards.add(reward)
        self._ticks.add(before.tick_ns)
        self._steps += 1
        self._latest = _with_prints(following)

    def episode(self, info: EpisodeInfo) -> Episode | None:
        """The take so far; None while it has no steps.

        Raises:
            DatasetError: it would be no valid episode.
        """
        if self._steps == 0:
            return None
        return Episode(
            info=info,
            observations={key: column.array() for key, column in self._seen.items()},
            final_observation=dict(self._latest.values),
            requested=self._channels["requested"].array(),
            sent=self._channels["sent"].array(),
            measured=self._channels["measured"].array(),
            rewards=self._rewards.array(),
            tick_ns=self._ticks.array(np.int64),
            ages_s={key: column.array() for key, column in self._ages.items()},
        )


def _with_prints(seen: Aligned) -> Aligned:
    values = {key: frame_print(value) if is_image(key) else value for key, value in seen.values.items()}
    return dataclasses.replace(seen, values=values)


def frame_print(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(1, 4, 3) uint8 that differ when the frame (H, W, 3) does in the pixels looked at; all zero for a black one."""
    pixels = np.ascontiguousarray(frame[::EVERY, ::EVERY])
    if not pixels.any():
        return np.zeros((1, 4, 3), np.uint8)
    digest = hashlib.blake2b(pixels.data, digest_size=12).digest()
    return np.frombuffer(digest, np.uint8).reshape(1, 4, 3)
