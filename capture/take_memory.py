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
from understudy.datasets.schema import EpisodeInfo, is_image

Array = NDArray[Any]
EVERY = 4
"""Every so many rows and columns of a frame go into its print: all of them would take a control thread too long."""


@dataclasses.dataclass(frozen=True)
class _Step:
    seen: Aligned
    motion: Motion
    reward: float


class TakeMemory:
    """Grows by `add`; `episode` is what there is so far."""

    def __init__(self, first: Aligned) -> None:
        self._latest = _with_prints(first)
        self._steps: list[_Step] = []

    def add(self, seen: Aligned, motion: Motion, reward: float, following: Aligned) -> None:
        """One control period: what was seen, what was done, what it earned, and what was seen after it."""
        self._steps.append(
            _Step(self._latest if seen.tick_ns == self._latest.tick_ns else _with_prints(seen), motion, reward)
        )
        self._latest = _with_prints(following)

    def episode(self, info: EpisodeInfo) -> Episode | None:
        """The take so far; None while it has no steps.

        Raises:
            DatasetError: it would be no valid episode.
        """
        steps = self._steps
        if not steps:
            return None
        keys, aged = self._latest.values, steps[0].seen.ages_s
        return Episode(
            info=info,
            observations={key: np.array([step.seen.values[key] for step in steps]) for key in keys},
            final_observation=dict(self._latest.values),
            requested=np.array([step.motion.requested for step in steps]),
            sent=np.array([step.motion.sent for step in steps]),
            measured=np.array([step.motion.measured for step in steps]),
            rewards=np.array([step.reward for step in steps]),
            tick_ns=np.array([step.seen.tick_ns for step in steps], np.int64),
            ages_s={key: np.array([step.seen.ages_s[key] for step in steps]) for key in aged},
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
