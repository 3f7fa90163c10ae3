"""Windows of datasets that are larger than memory: only an index is kept, rows are read from the files when asked for.

The operating system keeps what was read in its cache as long as there is room, so a dataset that fits is read from disk
once. Camera frames are unpacked for each window.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.batching.episode_files import EpisodeFiles, EpisodeReader, FileLimits
from understudy.datasets.batching.steps import worth_learning
from understudy.datasets.batching.windows import (
    NO_EPISODES,
    EpisodeForm,
    Shapes,
    WindowConfig,
    Windows,
    require_windows,
    smallest_type,
    within,
)
from understudy.datasets.schema import ActionSpec, is_image
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError

Array = NDArray[Any]
_DEFAULT = WindowConfig()
_LIMITS = FileLimits()


class MappedSource:
    """Windows read from a dataset's files; a `WindowSource`. May be pickled, and used after a fork."""

    def __init__(
        self,
        dataset: Dataset,
        config: WindowConfig = _DEFAULT,
        *,
        ids: Sequence[str] | None = None,
        verify: bool = False,
        limits: FileLimits = _LIMITS,
    ) -> None:
        """Read what the files say of themselves, and with `drop_idle` the actions of each.

        Args:
            dataset: where the episodes lie.
            config: which windows.
            ids: which episodes, in this order; None: all.
            verify: check every byte of a file against its seal when it is first used.
            limits: open files and tables that may be held.

        Raises:
            DatasetError: there are no episodes, they differ in action space or observations, or no step is left.
            InputError: a key of `config` is not observed.
        """
        ids = dataset.ids if ids is None else tuple(ids)
        if not ids:
            raise DatasetError(NO_EPISODES)
        self._config = config
        summaries = [dataset.summary(id) for id in ids]
        forms = [
            EpisodeForm.of(one.info, {key: shape for key, (_, shape) in one.keys.items()}, config.keys)
            for one in summaries
        ]
        self._form = forms[0]
        for id, form in zip(ids, forms, strict=True):
            self._form.require(form, f"Episode {id}")
        self._length = np.array([summary.steps for summary in summaries], np.int64)
        names = ["actions", *(f"obs/{key}" for key in self.shapes)]
        self._files = EpisodeFiles(
            [dataset.file(id) for id in ids], self._length.tolist(), names, limits=limits, verify=verify
        )
        steps = [np.arange(summary.steps) for summary in summaries]
        if config.steps.drop_idle:
            for number, id in enumerate(ids):
                info, channel = summaries[number].info, dataset.read(id, images=False, verify=False)
                steps[number] = np.flatnonzero(worth_learning(info, channel.channel(info.actions), config.steps))
        self._step = np.concatenate(steps).astype(smallest_type(int(self._length.max())))
        self._end = np.cumsum([len(part) for part in steps])
        require_windows(len(self), len(ids))

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
        return len(self._step)

    def take(self, indices: NDArray[np.integer[Any]]) -> Windows:
        """The windows of these numbers, read in the order in which they lie on disk.

        Raises:
            DatasetError: a file is gone or damaged; names it.
        """
        indices = np.asarray(indices).astype(np.int64)
        step = self._step[indices].astype(np.int64)
        episode = np.searchsorted(self._end, np.where(indices < 0, indices + len(self), indices), side="right")
        seen, acted = self._config.seen, self._config.acted
        fields: dict[str, _Numbers | _Frames] = {
            key: (_Frames if is_image(key) else _Numbers)(f"obs/{key}", len(step), seen, shape)
            for key, shape in self.shapes.items()
        }
        actions = _Numbers("actions", len(step), acted, (self.action_spec.size,))
        order = np.lexsort((step, episode))
        for part in np.split(order, np.flatnonzero(np.diff(episode[order])) + 1) if len(order) else ():
            reader = self._files.acquire(int(episode[part[0]]))
            try:
                rows, steps = part.tolist(), step[part].tolist()
                for one in (*fields.values(), actions):
                    one.fill(reader, rows, steps)
            finally:
                self._files.release(reader)
        length = self._length[episode]
        return Windows(
            {key: one.values for key, one in fields.items()},
            actions.values,
            within(step, length, seen),
            within(step, length, acted),
            episode,
            step,
        )


class _Numbers:
    """An array of numbers of the windows that are being read."""

    def __init__(self, name: str, count: int, span: tuple[int, int], shape: tuple[int, ...]) -> None:
        self._name, self._span = name, span
        self.values: NDArray[np.float32] = np.empty((count, span[1] - span[0], *shape), np.float32)
        self._bytes = self.values.reshape(-1).view(np.uint8).data

    def fill(self, reader: EpisodeReader, rows: list[int], steps: list[int]) -> None:
        """Read the windows at these steps of one episode into these rows."""
        first, stop = self._span
        kept = None if reader.kept is None else reader.kept[self._name]
        place = reader.places[self._name]
        size = (stop - first) * place.row_bytes
        plain = place.dtype == np.float32
        for row, step in zip(rows, steps, strict=True):
            if step + first < 0 or step + stop > reader.steps:
                self._fill_at_end(reader, row, step)
            elif kept is not None:
                self.values[row] = kept[step + first : step + stop]
            elif plain:
                # not `reader.read_rows`: one call in three of the time that a window takes
                at = place.offset + (step + first) * place.row_bytes
                if os.preadv(reader.handle, (self._bytes[row * size : (row + 1) * size],), at) != size:
                    raise reader.cut(self._name)
            else:
                self.values[row] = reader.rows(self._name, step + first, step + stop)

    def _fill_at_end(self, reader: EpisodeReader, row: int, step: int) -> None:
        """A window that reaches over an end of the episode, whose row is repeated."""
        low, high = max(step + self._span[0], 0), min(step + self._span[1], reader.steps)
        begin = low - step - self._span[0]
        end = begin + high - low
        values = self.values[row]
        values[begin:end] = reader.rows(self._name, low, high)
        values[:begin] = values[begin]
        values[end:] = values[end - 1]


class _Frames:
    """A camera's frames of the windows that are being read."""

    def __init__(self, name: str, count: int, span: tuple[int, int], shape: tuple[int, ...]) -> None:
        self._name, self._span = name, span
        self.values: NDArray[np.uint8] = np.empty((count, span[1] - span[0], *shape), np.uint8)

    def fill(self, reader: EpisodeReader, rows: list[int], steps: list[int]) -> None:
        """Read the windows at these steps of one episode into these rows; a frame that several show, only once."""
        shown: dict[int, list[tuple[int, int]]] = {}
        for row, step in zip(rows, steps, strict=True):
            for column, at in enumerate(range(step + self._span[0], step + self._span[1])):
                shown.setdefault(min(max(at, 0), reader.steps - 1), []).append((row, column))
        for at, places in shown.items():
            frame = reader.read_frame(self._name, at)
            for place in places:
                self.values[place] = frame
