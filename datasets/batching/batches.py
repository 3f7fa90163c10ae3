"""Batches of training windows: the same for the same seed, however many workers make them.

A batch is a function of (seed, epoch, number): its windows and whatever a transform draws at random. Workers are
threads that make batches ahead of time; what they hand over does not depend on which of them made it, nor on when.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from understudy.datasets.batching.mixture import Mixture
from understudy.datasets.batching.order import EpochOrder
from understudy.datasets.batching.windows import Windows, WindowSource
from understudy.errors import InputError

Transform = Callable[[Windows, np.random.Generator], Windows]
"""Changes a batch, for example `augmentation.ImageAugmentation`; draws from the generator only."""
_TRANSFORM = 1
"""Keeps a transform's random numbers apart from those of the order."""
_AHEAD = 2
"""Batches made ahead for each worker."""


@dataclass(frozen=True)
class BatchConfig:
    """How windows are put into batches."""

    size: int = 256
    seed: int = 0
    shuffle: bool = True
    keep_last: bool = True
    """Whether an epoch ends with a smaller batch; False leaves the windows in it out of that epoch."""
    workers: int = 0
    """Threads that make batches ahead of time; 0: made when asked for. The batches are the same."""

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("seed", 0), ("workers", 0)):
            if getattr(self, name) < least:
                raise InputError(f"Batches: {name} must be at least {least}, got {getattr(self, name)}.")


class Batches:
    """Batches of a source of windows."""

    def __init__(
        self,
        source: WindowSource,
        config: BatchConfig = BatchConfig(),
        *,
        weights: Sequence[float] | None = None,
        transform: Transform | None = None,
    ) -> None:
        """Draw from a source.

        Args:
            source: where windows come from.
            config: how they are put together.
            weights: of the parts of a `Mixture`, see `EpochOrder`; None: every window once an epoch.
            transform: done to every batch.

        Raises:
            InputError: weights that do not fit, or not one whole batch where smaller ones are not kept.
        """
        self.source = source
        self.config = config
        self._transform = transform
        sizes = source.sizes if isinstance(source, Mixture) else (len(source),)
        self._order = EpochOrder(sizes, weights, seed=config.seed, shuffle=config.shuffle)
        if not len(self):
            raise InputError(f"{len(self._order)} windows do not fill a batch of {config.size}.")

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self._order), self.config.size)
        return whole + (1 if rest and self.config.keep_last else 0)

    def batch(self, epoch: int, number: int) -> Windows:
        """The batch of this number, in [0, len), of an epoch.

        Raises:
            IndexError: there is no such batch.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"Batch {number} of an epoch with {len(self)}.")
        size = self.config.size
        windows = self.source.take(self._order.epoch(epoch)[number * size : (number + 1) * size])
        if self._transform is None:
            return windows
        return self._transform(windows, np.random.default_rng([self.config.seed, epoch, number, _TRANSFORM]))

    def epoch(self, epoch: int = 0) -> Iterator[Windows]:
        """The batches of one epoch."""
        return self._made((epoch, number) for number in range(len(self)))

    def forever(self, first_epoch: int = 0) -> Iterator[Windows]:
        """The batches of one epoch after the other, without end."""
        return self._made((epoch, number) for epoch in count(first_epoch) for number in range(len(self)))

    def _made(self, which: Iterator[tuple[int, int]]) -> Iterator[Windows]:
        if not self.config.workers:
            for epoch, number in which:
                yield self.batch(epoch, number)
            return
        with ThreadPoolExecutor(self.config.workers, thread_name_prefix="batches") as pool:
            waiting: deque[Future[Windows]] = deque()
            try:
                for epoch, number in islice(which, _AHEAD * self.config.workers):
                    waiting.append(pool.submit(self.batch, epoch, number))
                while waiting:
                    ready = waiting.popleft().result()
                    for epoch, number in islice(which, 1):
                        waiting.append(pool.submit(self.batch, epoch, number))
                    yield ready
            finally:  # the caller may have stopped, or a batch failed: what nobody will take is not made
                for future in waiting:
                    future.cancel()
