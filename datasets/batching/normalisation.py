"""Mean, spread and range of every observation and of the actions of a dataset, and normalising by them.

Computed in one pass over the files with one episode's numbers, or one camera frame, in memory; in float64, each block
merged into what came before (Chan, Golub and LeVeque 1979), so that neither a large mean nor many steps cost digits.
Kept in the dataset's folder with the checksum of the episodes, and computed anew when that is another one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.disk import sync
from understudy.datasets.episode import GROUP
from understudy.datasets.frames import read_frames
from understudy.datasets.hdf5 import array, open_hdf5, read, subgroup
from understudy.datasets.schema import is_image
from understudy.datasets.seal import verify_seal
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError, unknown_name

Array = NDArray[Any]
FILE = "statistics.json"
VERSION = 1
STD_FLOOR = 1e-6
"""A number that never changes is divided by this instead of by 0."""
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Moments:
    """Mean, standard deviation, least and greatest of `count` rows; arrays have the shape of a row.

    A camera's rows are its pixels, so the arrays are (3,): red, green, blue, in 0 ... 255.
    """

    count: int
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    """Of the rows themselves, divided by their count."""
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]

    def normalise(self, values: Array) -> NDArray[np.float32]:
        """Values (..., row) with mean 0 and spread 1."""
        return np.asarray((values - self.mean) / np.maximum(self.std, STD_FLOOR), np.float32)

    def denormalise(self, values: Array) -> NDArray[np.float32]:
        """The inverse of `normalise`."""
        return np.asarray(values * np.maximum(self.std, STD_FLOOR) + self.mean, np.float32)


@dataclass(frozen=True)
class Normalisation:
    """What a dataset's numbers are like."""

    checksum: str
    """Of the episodes it was computed from, in order."""
    observations: Mapping[str, Moments]
    actions: Moments
    """Of the training channel, normalised to [-1, 1]."""


class RunningMoments:
    """Moments of rows that come in blocks."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = self._squares = self._minimum = self._maximum = np.empty(0)

    def update(self, rows: Array) -> None:
        """Take in a block (N, ...) of rows.

        Raises:
            DatasetError: they have another shape than those before.
        """
        if not len(rows):
            return
        values = np.asarray(rows, np.float64)
        mean = values.mean(axis=0)
        squares = np.square(values - mean).sum(axis=0)
        self._merge(len(values), mean, squares, values.min(axis=0), values.max(axis=0))

    def update_frames(self, frames: NDArray[np.uint8]) -> None:
        """Take in the pixels of frames (..., W, C): sums and squares are whole numbers, so nothing is rounded."""
        channels = frames.shape[-1]
        if not frames.size:
            return
        count = frames.size // channels
        rows = frames.reshape(-1, frames.shape[-2] * channels)  # numpy adds long rows several times faster than pixels

        def by_channel(values: Array, over: np.ufunc) -> Array:
            return np.asarray(over.reduce(values.reshape(-1, channels), axis=0))

        sums = by_channel(rows.sum(axis=0, dtype=np.uint64), np.add)
        squares = by_channel(np.square(rows, dtype=np.uint16).sum(axis=0, dtype=np.uint64), np.add)
        apart = [(count * int(square) - int(total) ** 2) / count for square, total in zip(squares, sums, strict=True)]
        least, most = by_channel(rows.min(axis=0), np.minimum), by_channel(rows.max(axis=0), np.maximum)
        self._merge(count, sums / count, np.array(apart), least.astype(np.float64), most.astype(np.float64))

    def result(self) -> Moments:
        """Moments of all rows so far.

        Raises:
            DatasetError: there were none.
        """
        if not self._count:
            raise DatasetError("There is nothing to compute statistics of.")
        std = np.sqrt(self._squares / self._count)
        return Moments(self._count, self._mean, std, self._minimum, self._maximum)

    def _merge(self, count: int, mean: Array, squares: Array, minimum: Array, maximum: Array) -> None:
        if not self._count:
            self._count, self._mean, self._squares = count, mean, squares
            self._minimum, self._maximum = minimum, maximum
            return
        if mean.shape != self._mean.shape:
            raise DatasetError(f"Rows of shape {mean.shape} after rows of shape {self._mean.shape}.")
        total = self._count + count
        apart = mean - self._mean
        self._mean = self._mean + apart * (count / total)
        self._squares = self._squares + squares + np.square(apart) * (self._count * count / total)
        self._minimum, self._maximum = np.minimum(self._minimum, minimum), np.maximum(self._maximum, maximum)
        self._count = total


def normalisation_of(
    dataset: Dataset, *, split: str | None = None, keys: Sequence[str] | None = None, verify: bool = False
) -> Normalisation:
    """The statistics of a dataset or of one of its splits: those kept in its folder, or computed and then kept.

    Args:
        dataset: where the episodes lie. If its folder cannot be written, what is computed is not kept.
        split: a split's name, or None for all episodes.
        keys: observations that are needed; None: all but images.
        verify: check every file against its seal, if the statistics have to be computed.

    Raises:
        DatasetError: there are no episodes, they differ in shapes, or one is damaged.
        InputError: there is no such split, or a key is not observed.
    """
    ids = dataset.select(split=split)
    if not ids:
        raise DatasetError("There are no episodes to compute statistics of.")
    summaries = [dataset.summary(id) for id in ids]
    observed = summaries[0].keys
    for key in keys or ():
        if key not in observed:
            raise unknown_name("observation key", key, observed)
    wanted = sorted(key for key in observed if not is_image(key)) if keys is None else sorted(set(keys))
    checksum = hashlib.sha256("".join(summary.checksum for summary in summaries).encode()).hexdigest()
    path = dataset.path / (FILE if split is None else f"statistics-{split}.json")
    kept = read_normalisation(path)
    if kept is not None and kept.checksum == checksum:
        if set(wanted) <= set(kept.observations):
            return dataclasses.replace(kept, observations={key: kept.observations[key] for key in wanted})
        wanted = sorted({*wanted, *kept.observations})
    fresh = _compute([dataset.file(id) for id in ids], wanted, checksum, verify)
    try:
        write_normalisation(path, fresh)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
    needed = wanted if keys is None else sorted(set(keys))
    return dataclasses.replace(fresh, observations={key: fresh.observations[key] for key in needed})


def _compute(paths: Sequence[Path], keys: Sequence[str], checksum: str, verify: bool) -> Normalisation:
    """One pass over the files."""
    observations = {key: RunningMoments() for key in keys}
    actions = RunningMoments()
    for path in paths:
        if verify:
            verify_seal(path)
        with open_hdf5(path, "episode file") as file:
            group = subgroup(file, GROUP)
            actions.update(read(group, "actions", ndim=2))
            for key, moments in observations.items():
                if is_image(key):
                    frames = array(group, f"obs/{key}", ndim=4)
                    for row in range(len(frames)):
                        moments.update_frames(read_frames(frames, row, row + 1))
                else:
                    moments.update(read(group, f"obs/{key}"))
    return Normalisation(checksum, {key: moments.result() for key, moments in observations.items()}, actions.result())


def write_normalisation(path: Path, normalisation: Normalisation) -> None:
    """Write statistics as JSON, whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    data = {
        "version": VERSION,
        "checksum": normalisation.checksum,
        "observations": {key: _plain(moments) for key, moments in normalisation.observations.items()},
        "actions": _plain(normalisation.actions),
    }
    handle, fresh = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".new", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(data, file, indent=1)
        Path(fresh).chmod(0o644)
        sync(Path(fresh))
        os.replace(fresh, path)
    finally:
        Path(fresh).unlink(missing_ok=True)
    sync(path.parent)


def read_normalisation(path: Path) -> Normalisation | None:
    """Statistics that `write_normalisation` wrote; None where there are none, or none that can be read."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        data = json.loads(path.read_text())
        if data["version"] == VERSION:
            observations = {str(key): _moments(entry) for key, entry in data["observations"].items()}
            return Normalisation(str(data["checksum"]), observations, _moments(data["actions"]))
    return None


def _plain(moments: Moments) -> dict[str, Any]:
    entry = dataclasses.asdict(moments)
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in entry.items()}


def _moments(entry: Mapping[str, Any]) -> Moments:
    names = ("mean", "std", "minimum", "maximum")
    arrays = [np.asarray(entry[name], np.float64) for name in names]
    if len({array.shape for array in arrays}) != 1:
        raise ValueError("moments of different shapes")
    return Moments(int(entry["count"]), *arrays)
