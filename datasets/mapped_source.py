"""Windows of datasets that are larger than memory: only an index is kept, rows are read from the files when asked for.

The operating system keeps what was read in its cache as long as there is room, so a dataset that fits is read from disk
once. Camera frames are unpacked for each window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.episode_files import EpisodeFiles, EpisodeReader, FileLimits
from understudy.datasets.schema import ActionSpec, is_image
from understudy.datasets.steps import worth_learning
from understudy.datasets.store import Dataset
from understudy.datasets.windows import (
    NO_EPISODES,
    EpisodeForm,
    Shapes,
    WindowConfig,
    Windows,
    require_windows,
    smallest_type,
    within,
)
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
        fields = [_Field(f"obs/{key}", len(step), seen, shape, is_image(key)) for key, shape in self.shapes.items()]
        fields.append(_Field("actions", len(step), acted, (self.action_spec.size,), False))
        order = np.lexsort((step, episode))
        for part in np.split(order, np.flatnonzero(np.diff(episode[order])) + 1):
            if not len(part):
                continue
            with self._files.borrow(int(episode[part[0]])) as reader:
                for one in fields:
                    one.fill(reader, part, step[part])
        *observations, actions = [one.values for one in fields]
        length = self._length[episode]
        return Windows(
            dict(zip(self.shapes, observations, strict=True)),
            actions,
            within(step, length, seen),
            within(step, length, acted),
            episode,
            step,
        )


class _Field:
    """One array of the windows that are being read."""

    def __init__(self, name: str, count: int, span: tuple[int, int], shape: tuple[int, ...], image: bool) -> None:
        self._name, self._span, self._image = name, span, image
        self.values: Array = np.empty((count, span[1] - span[0], *shape), np.uint8 if image else np.float32)

    def fill(self, reader: EpisodeReader, rows: NDArray[np.int64], steps: NDArray[np.int64]) -> None:
        """Read the windows at these steps of one episode into these rows."""
        if self._image:
            self._fill_frames(reader, rows, steps)
        else:
            self._fill_numbers(reader, rows.tolist(), steps.tolist())

    def _fill_numbers(self, reader: EpisodeReader, rows: list[int], steps: list[int]) -> None:
        place = reader.places[self._name]
        direct = place.dtype == self.values.dtype
        bytes_of, row_bytes = memoryview(self.values.reshape(-1).view(np.uint8)), place.row_bytes
        first, stop = self._span
        width = stop - first
        for row, step in zip(rows, steps, strict=True):
            low, high = max(step + first, 0), min(step + stop, reader.steps)
            begin, count = low - step - first, high - low
            if direct:
                at = (row * width + begin) * row_bytes
                reader.read_rows(self._name, low, bytes_of[at : at + count * row_bytes])
            else:
                stored = np.empty((count, *place.shape), place.dtype)
                reader.read_rows(self._name, low, memoryview(stored.reshape(-1).view(np.uint8)))
                self.values[row, begin : begin + count] = stored
            if count < width:
                self.values[row, :begin] = self.values[row, begin]
                self.values[row, begin + count :] = self.values[row, begin + count - 1]

    def _fill_frames(self, reader: EpisodeReader, rows: NDArray[np.int64], steps: NDArray[np.int64]) -> None:
        """Windows that overlap share frames: each is unpacked once."""
        wanted = np.clip(steps[:, None] + np.arange(*self._span), 0, reader.steps - 1)
        frames, inverse = np.unique(wanted, return_inverse=True)
        inverse = inverse.reshape(wanted.shape)
        order = np.argsort(inverse.reshape(-1), kind="stable")
        places = np.split(order, np.flatnonzero(np.diff(inverse.reshape(-1)[order])) + 1)
        for frame, where in zip(frames.tolist(), places, strict=True):
            column = where % wanted.shape[1]
            self.values[rows[where // wanted.shape[1]], column] = reader.read_frame(self._name, frame)
