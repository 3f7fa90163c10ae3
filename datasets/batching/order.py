"""The order in which windows are drawn.

An epoch's order is a function of the seed and the epoch alone, so that any batch of any epoch can be made by any worker
at any time. Indices lie in the smallest integer type that holds them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.batching.windows import smallest_type
from understudy.errors import InputError

Indices = NDArray[np.integer[Any]]


class EpochOrder:
    """Which windows an epoch draws, in which order."""

    def __init__(
        self, sizes: Sequence[int], weights: Sequence[float] | None = None, *, seed: int = 0, shuffle: bool = True
    ) -> None:
        """Order the windows of one or several datasets that lie behind one another.

        Args:
            sizes: windows of each dataset.
            weights: share of each dataset in an epoch, in proportion; None: every window once an epoch. An epoch has
                as many windows as there are either way. A dataset with a larger share is gone through more than once,
                and none of its windows is drawn again before all others of it were drawn as often.
            seed: not negative.
            shuffle: False: in order, dataset by dataset.

        Raises:
            InputError: there are no windows, or weights that are not as many positive numbers as datasets.
        """
        if not sum(sizes):
            raise InputError("There are no windows to draw from.")
        if seed < 0:
            raise InputError(f"The seed of an order must not be negative, got {seed}.")
        if weights is not None and (
            len(weights) != len(sizes) or not all(np.isfinite(weight) and weight >= 0 for weight in weights)
        ):
            raise InputError(f"{len(sizes)} datasets need as many weights of at least 0, got {list(weights)}.")
        self._sizes = tuple(map(int, sizes))
        self._shares = _shares(self._sizes, weights)
        self._seed = seed
        self._shuffle = shuffle
        self._lock = threading.Lock()
        self._latest: tuple[int, Indices] | None = None

    def __len__(self) -> int:
        return sum(self._shares)

    def epoch(self, epoch: int) -> Indices:
        """(len,) the windows of an epoch in the order of drawing; read-only."""
        with self._lock:
            if self._latest is None or self._latest[0] != epoch:
                self._latest = (epoch, self._draw(epoch))
            return self._latest[1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_latest")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _latest=None)

    def _draw(self, epoch: int) -> Indices:
        rng = np.random.default_rng([self._seed, epoch])
        kind = smallest_type(sum(self._sizes))
        order = np.empty(len(self), kind)
        begin, first = 0, 0
        for size, share in zip(self._sizes, self._shares, strict=True):
            part = order[begin : begin + share]
            for start in range(0, share, max(size, 1)):
                some = part[start : start + size]
                some[:] = first + self._some(size, len(some), kind, rng)
            begin, first = begin + share, first + size
        if self._shuffle:
            rng.shuffle(order)
        order.flags.writeable = False
        return order

    def _some(self, size: int, count: int, kind: np.dtype[Any], rng: np.random.Generator) -> Indices:
        """`count` different indices below `size`."""
        indices = np.arange(size, dtype=kind)
        if self._shuffle and count < size:
            rng.shuffle(indices)
        return indices[:count]


def _shares(sizes: tuple[int, ...], weights: Sequence[float] | None) -> tuple[int, ...]:
    """Windows that an epoch draws from each dataset: in proportion, adding up to all (largest remainders first)."""
    if weights is None:
        return sizes
    if not any(size and weight for size, weight in zip(sizes, weights, strict=True)):
        raise InputError(f"Weights {list(weights)} leave no windows to draw from.")
    wanted = np.array([weight if size else 0.0 for size, weight in zip(sizes, weights, strict=True)])
    exact = wanted / wanted.sum() * sum(sizes)
    shares = np.floor(exact).astype(np.int64)
    for index in np.argsort(shares - exact, kind="stable")[: sum(sizes) - int(shares.sum())]:
        shares[index] += 1
    return tuple(map(int, shares))


def shuffled(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Batches (size,) of indices below `count`, for ever; each pass visits every index once, in a new order.

    For learners that hold all they train on as tensors and need batches of one size, also across passes.
    """
    waiting = np.empty(0, np.int64)
    while True:
        while len(waiting) < size:
            waiting = np.concatenate([waiting, rng.permutation(count)])
        yield waiting[:size]
        waiting = waiting[size:]


def split_episodes(count: int, share: float, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of (training, validation) episodes; whole episodes, because their steps are alike.

    At least one episode always trains; a share of 0 leaves validation empty.

    Raises:
        InputError: the share is not in [0, 1).
    """
    if not 0.0 <= share < 1.0:
        raise InputError(f"The validation share must lie in [0, 1), got {share}.")
    held_out = min(round(share * count), count - 1)
    order = rng.permutation(count)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
