"""Several sources of windows as one, for example the same task recorded in two datasets.

How often each is drawn is `Batches`' affair (its weights); here they lie behind one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.batching.windows import EpisodeForm, Shapes, WindowConfig, Windows, WindowSource
from understudy.datasets.schema import ActionSpec
from understudy.errors import InputError

Array = NDArray[Any]


class Mixture:
    """Sources behind one another; a `WindowSource`. Their episodes are numbered through."""

    def __init__(self, sources: Sequence[WindowSource]) -> None:
        """Join sources of alike windows.

        Raises:
            InputError: there are none, or they make other windows than the first.
            DatasetError: they differ in action space or observations.
        """
        if not sources:
            raise InputError("A mixture needs at least one source of windows.")
        self.sources = tuple(sources)
        first = self.sources[0]
        form = EpisodeForm(first.action_spec, first.shapes)
        for number, source in enumerate(self.sources):
            if (source.config.seen, source.config.acted) != (first.config.seen, first.config.acted):
                raise InputError(f"Source {number} makes windows of {source.config}, the first of {first.config}.")
            form.require(EpisodeForm(source.action_spec, source.shapes), f"Source {number}")
        self.sizes = tuple(map(len, self.sources))
        """Windows of each source."""
        self._end = np.cumsum(self.sizes)
        self._episodes = np.cumsum([0, *(source.episodes for source in self.sources)])

    @property
    def config(self) -> WindowConfig:
        """Which windows these are."""
        return self.sources[0].config

    @property
    def shapes(self) -> Shapes:
        """Observation key -> shape of one observation."""
        return self.sources[0].shapes

    @property
    def action_spec(self) -> ActionSpec:
        """What the actions mean."""
        return self.sources[0].action_spec

    @property
    def episodes(self) -> int:
        """How many episodes the windows are from."""
        return int(self._episodes[-1])

    def __len__(self) -> int:
        return int(self._end[-1])

    def take(self, indices: NDArray[np.integer[Any]]) -> Windows:
        """The windows of these numbers, each from its source."""
        indices = np.asarray(indices).astype(np.int64)
        if len(indices) and not -len(self) <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"A window's number must lie in [0, {len(self)}).")
        indices = np.where(indices < 0, indices + len(self), indices)
        which = np.searchsorted(self._end, indices, side="right")
        parts: list[Windows] = []
        places: list[NDArray[np.int64]] = []
        for number, source in enumerate(self.sources):
            rows = np.flatnonzero(which == number)
            if len(rows) or not (parts or number + 1 < len(self.sources)):
                part = source.take(indices[rows] - (self._end[number] - self.sizes[number]))
                parts.append(_renumbered(part, int(self._episodes[number])))
                places.append(rows)
        order = np.argsort(np.concatenate(places), kind="stable")
        return Windows(
            {key: _joined([part.observations[key] for part in parts], order) for key in self.shapes},
            _joined([part.actions for part in parts], order),
            _joined([part.seen for part in parts], order),
            _joined([part.mask for part in parts], order),
            _joined([part.episode for part in parts], order),
            _joined([part.step for part in parts], order),
        )


def _renumbered(windows: Windows, first: int) -> Windows:
    return Windows(
        windows.observations, windows.actions, windows.seen, windows.mask, windows.episode + first, windows.step
    )


def _joined(parts: Sequence[Array], order: NDArray[np.int64]) -> Array:
    return parts[0][order] if len(parts) == 1 else np.concatenate(parts)[order]
