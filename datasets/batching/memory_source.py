"""Windows of episodes that fit into memory.

All numbers of all observations lie in one float32 matrix, a row a step, and all actions in another; each episode has
its first and last row repeated at its ends as often as a window can reach over them. So a window is one stretch of
memory, and a batch is one indexing of an overlapping view: no window is ever assembled key by key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from understudy.datasets.batching.steps import worth_learning
from understudy.datasets.batching.windows import (
    NO_EPISODES,
    EpisodeForm,
    Shapes,
    WindowConfig,
    Windows,
    form_of,
    require_windows,
    smallest_type,
    within,
)
from understudy.datasets.episode import Episode
from understudy.datasets.schema import ActionSpec, is_image
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError

Array = NDArray[Any]
_DEFAULT = WindowConfig()


class MemorySource:
    """Windows of episodes in memory; a `WindowSource`."""

    def __init__(self, episodes: Sequence[Episode], config: WindowConfig = _DEFAULT) -> None:
        """Copy the episodes into matrices.

        Raises:
            DatasetError: there are no episodes, they differ in action space or observations, or no step is left.
            InputError: a key of `config` is not observed.
        """
        self._build([len(episode) for episode in episodes], episodes, config)

    @classmethod
    def of_dataset(
        cls,
        dataset: Dataset,
        config: WindowConfig = _DEFAULT,
        *,
        ids: Sequence[str] | None = None,
        verify: bool = True,
    ) -> MemorySource:
        """The windows of a dataset, read one episode at a time.

        Args:
            dataset: where the episodes lie.
            config: which windows.
            ids: which episodes, in this order; None: all.
            verify: check every file against its seal.

        Raises:
            DatasetError: an episode is damaged, or as on construction.
        """
        ids = dataset.ids if ids is None else tuple(ids)
        images = any(map(is_image, config.keys or ()))
        source = cls.__new__(cls)
        lengths = [dataset.summary(id).steps for id in ids]
        source._build(lengths, (dataset.read(id, images=images, verify=verify) for id in ids), config)
        return source

    @property
    def config(self) -> WindowConfig:
        """Which windows these are."""
        return self._config

    @property
    def shapes(self) -> Shapes:
        """Observation key -> shape of one observation."""
        return self._form.shapes

    @property
    def action_spec(self) -> ActionSpec:
        """What the actions mean."""
        return self._form.spec

    @property
    def episodes(self) -> int:
        """How many episodes the windows are from."""
        return len(self._length)

    def __len__(self) -> int:
        return len(self._row)

    def take(self, indices: NDArray[np.integer[Any]]) -> Windows:
        """The windows of these numbers; numbers of observations are views of one array."""
        row, episode = self._row[indices].astype(np.int64), self._episode[indices].astype(np.int64)
        step, length = row - self._first[episode], self._length[episode]
        seen, acted = self._config.seen, self._config.acted
        numbers = _stretches(self._numbers, row, seen)
        observations: dict[str, Array] = {}
        for key, shape in self.shapes.items():
            if key in self._frames:
                observations[key] = _stretches(self._frames[key], row, seen)
            else:
                observations[key] = numbers[:, :, self._columns[key]].reshape(*numbers.shape[:2], *shape)
        actions = _stretches(self._actions, row, acted)
        return Windows(observations, actions, within(step, length, seen), within(step, length, acted), episode, step)

    def all(self) -> Windows:
        """Every window, in the order of episodes and steps."""
        return self.take(np.arange(len(self)))

    def _build(self, lengths: Sequence[int], episodes: Iterable[Episode], config: WindowConfig) -> None:
        if not len(lengths):
            raise DatasetError(NO_EPISODES)
        self._config = config
        before = max(-config.seen[0], -config.acted[0])
        after = max(config.seen[1], config.acted[1]) - 1
        self._length = np.array(lengths, np.int64)
        self._first = before + np.concatenate([[0], np.cumsum(self._length + before + after)[:-1]])
        total = int(np.sum(self._length + before + after))
        rows: list[Array] = []
        for number, episode in enumerate(episodes):
            form = form_of(episode, config.keys)
            if number == 0:
                self._allocate(form, total)
            self._form.require(form, f"Episode {number}")
            if len(episode) != lengths[number]:
                raise DatasetError(f"Episode {number} has {len(episode)} steps; {lengths[number]} were announced.")
            first = int(self._first[number])
            self._fill(episode, slice(first - before, first + len(episode) + after), before, after)
            kept = worth_learning(episode.info, episode.channel(episode.info.actions), config.steps)
            rows.append(first + np.flatnonzero(kept))
        self._row = np.concatenate(rows).astype(smallest_type(total))
        numbers = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
        self._episode = numbers.astype(smallest_type(len(rows)))
        require_windows(len(self), len(rows))

    def _allocate(self, form: EpisodeForm, rows: int) -> None:
        self._form = form
        self._columns: dict[str, slice] = {}
        self._frames: dict[str, Array] = {}
        width = 0
        for key, shape in form.shapes.items():
            if is_image(key):
                self._frames[key] = np.empty((rows, *shape), np.uint8)
            else:
                size = int(np.prod(shape))
                self._columns[key] = slice(width, width + size)
                width += size
        self._numbers = np.empty((rows, width), np.float32)
        self._actions = np.empty((rows, form.spec.size), np.float32)

    def _fill(self, episode: Episode, rows: slice, before: int, after: int) -> None:
        """Lay an episode into its rows, `before` and `after` of which repeat its ends."""
        inside = slice(rows.start + before, rows.stop - after)
        for key, columns in self._columns.items():
            self._numbers[inside, columns] = episode.observations[key].reshape(len(episode), -1)
        for key, frames in self._frames.items():
            frames[inside] = episode.observations[key]
        self._actions[inside] = episode.actions
        for matrix in (self._numbers, self._actions, *self._frames.values()):
            matrix[rows.start : inside.start] = matrix[inside.start]
            matrix[inside.stop : rows.stop] = matrix[inside.stop - 1]


def _stretches(matrix: Array, row: NDArray[np.int64], span: tuple[int, int]) -> Array:
    """(M, span, ...) the rows `row + span` of a C-ordered matrix (T, ...), copied in whole stretches."""
    steps = span[1] - span[0]
    width = int(np.prod(matrix.shape[1:]))
    flat = as_strided(
        matrix,
        (len(matrix) - steps + 1, steps * width),
        (matrix.strides[0], matrix.itemsize),
        writeable=False,
    )
    return np.asarray(flat[row + span[0]]).reshape(len(row), steps, *matrix.shape[1:])
