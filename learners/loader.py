"""Batches of windows as torch tensors: a thin adapter, for loops that want a `DataLoader`.

Owns no order and no randomness: a batch is what `datasets/batching/batches.py` says, whichever worker makes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from understudy.datasets.batching.batches import Batches
from understudy.datasets.batching.windows import Windows


@dataclass(frozen=True)
class TensorWindows:
    """M training windows as tensors; see `datasets/batching/windows.py` for what each is."""

    observations: dict[str, Tensor]
    actions: Tensor
    seen: Tensor
    mask: Tensor
    episode: Tensor
    step: Tensor

    def __len__(self) -> int:
        return len(self.actions)

    def pin_memory(self) -> TensorWindows:
        """The same in memory that a GPU reads by itself; `DataLoader(pin_memory=True)` calls it."""
        observations = {key: value.pin_memory() for key, value in self.observations.items()}
        rest = (self.actions, self.seen, self.mask, self.episode, self.step)
        return TensorWindows(observations, *(value.pin_memory() for value in rest))


def to_tensors(windows: Windows) -> TensorWindows:
    """Windows as tensors, without copying where the arrays can be written."""
    observations = {key: _tensor(values) for key, values in windows.observations.items()}
    rest = (windows.actions, windows.seen, windows.mask, windows.episode, windows.step)
    return TensorWindows(observations, *map(_tensor, rest))


def make_loader(batches: Batches, *, workers: int = 0, **options: Any) -> DataLoader[TensorWindows]:
    """A `DataLoader` whose every pass is the next epoch, beginning with epoch 0.

    Args:
        batches: what to load; its own threads are not used.
        workers: processes that make batches. The batches are the same for any number.
        options: others of `DataLoader`, for example `pin_memory`, `prefetch_factor` or `persistent_workers`.
    """
    return DataLoader(
        _ByNumber(batches), sampler=_Epochs(len(batches)), batch_size=None, num_workers=workers, **options
    )


class _ByNumber(Dataset[TensorWindows]):
    """Batches by (epoch, number)."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __getitem__(self, which: tuple[int, int]) -> TensorWindows:
        return to_tensors(self._batches.batch(*which))


class _Epochs(Sampler[tuple[int, int]]):
    """The batches of the next epoch, each named by epoch too: a worker that lives on knows which one is meant."""

    def __init__(self, count: int) -> None:
        self._count, self._epoch = count, 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        # a generator, so that an epoch counts when it is begun: DataLoader makes iterators that it never asks
        epoch, self._epoch = self._epoch, self._epoch + 1
        for number in range(self._count):
            yield epoch, number


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(values if values.flags.writeable else np.array(values))
