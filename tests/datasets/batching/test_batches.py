"""Batches: a function of (seed, epoch, number), whoever makes them."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets_builders import make_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from learners_support import toy_episode, toy_episodes
from numpy.typing import NDArray

from understudy.datasets.batching.augmentation import ImageAugmentation
from understudy.datasets.batching.batches import BatchConfig, Batches
from understudy.datasets.batching.mapped_source import MappedSource
from understudy.datasets.batching.memory_source import MemorySource
from understudy.datasets.batching.mixture import Mixture
from understudy.datasets.batching.steps import StepConfig
from understudy.datasets.batching.windows import WindowConfig, Windows
from understudy.errors import InputError

EVERY = StepConfig(drop_idle=False)
TOY = MemorySource(toy_episodes(3), WindowConfig(past=2, future=4, steps=EVERY))


def same(one: Windows, other: Windows) -> bool:
    arrays = [(one.observations[key], other.observations[key]) for key in one.observations]
    arrays += [(getattr(one, name), getattr(other, name)) for name in ("actions", "seen", "mask", "episode", "step")]
    return all(np.array_equal(first, second) for first, second in arrays)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 150), st.booleans(), st.booleans(), st.integers(0, 3))
def test_an_epoch_is_every_window_once(size: int, keep_last: bool, shuffle: bool, epoch: int) -> None:
    if size > len(TOY) and not keep_last:
        size = len(TOY)
    batches = Batches(TOY, BatchConfig(size, seed=1, shuffle=shuffle, keep_last=keep_last))
    made = list(batches.epoch(epoch))
    assert len(made) == len(batches)
    drawn = np.concatenate([batch.episode * 40 + batch.step for batch in made])
    assert len(set(drawn.tolist())) == len(drawn) == (120 if keep_last else 120 // size * size)
    assert all(len(batch) == size for batch in made[:-1])
    if not shuffle:
        np.testing.assert_array_equal(drawn, np.arange(len(drawn)))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_do_not_change_batches(tmp_path: Path, workers: int) -> None:
    dataset = make_dataset(tmp_path / "d", 4, images=True)
    config = WindowConfig(past=2, future=3, keys=("joint_position", "image_front"), steps=EVERY)
    source = MappedSource(dataset, config)
    alone = Batches(source, BatchConfig(16, seed=3), transform=ImageAugmentation())
    helped = Batches(source, BatchConfig(16, seed=3, workers=workers), transform=ImageAugmentation())
    for epoch in (0, 1):
        ours, theirs = list(alone.epoch(epoch)), list(helped.epoch(epoch))
        assert len(ours) == len(theirs) == len(alone)
        assert all(map(same, ours, theirs))
        # out of order, and from another instance
        assert same(ours[5], Batches(source, BatchConfig(16, seed=3), transform=ImageAugmentation()).batch(epoch, 5))
    assert not same(alone.batch(0, 0), alone.batch(1, 0))
    assert not same(alone.batch(0, 0), Batches(source, BatchConfig(16, seed=4)).batch(0, 0))
    stream = helped.forever()
    assert all(same(next(stream), batch) for batch in [*alone.epoch(0), *alone.epoch(1)])
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_memory_and_files_make_the_same_batches(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", 3, images=True)
    config = WindowConfig(past=3, keys=("goal_position", "image_front"), steps=EVERY)
    memory, mapped = MemorySource.of_dataset(dataset, config), MappedSource(dataset, config, verify=True)
    for one, other in zip(Batches(memory).epoch(2), Batches(mapped).epoch(2), strict=True):
        assert same(one, other)


def test_weights_are_honoured_by_what_is_drawn() -> None:
    config = WindowConfig(steps=EVERY)
    mixture = Mixture([MemorySource(toy_episodes(9), config), MemorySource([toy_episode(20)], config)])
    batches = Batches(mixture, BatchConfig(50), weights=[1.0, 3.0])
    drawn = np.concatenate([batch.episode for batch in batches.epoch()])
    assert len(drawn) == 400
    assert np.count_nonzero(drawn == 9) == 300
    even = np.concatenate([batch.episode for batch in Batches(mixture, BatchConfig(50)).epoch()])
    assert np.count_nonzero(even == 9) == 40


class _Failing(MemorySource):
    def take(self, indices: NDArray[np.integer[Any]]) -> Windows:
        windows = super().take(indices)
        if 17 in (windows.episode * 40 + windows.step):
            raise OSError("the disk is gone")
        return windows


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_worker_meets_is_raised_where_batches_are_taken(workers: int) -> None:
    source = _Failing(toy_episodes(3), WindowConfig(steps=EVERY))
    made = Batches(source, BatchConfig(10, shuffle=False, workers=workers)).epoch()
    assert len(next(made)) == 10
    with pytest.raises(OSError, match="the disk is gone"):
        next(made)


def test_a_transform_draws_from_its_own_numbers() -> None:
    seen: list[float] = []

    def note(windows: Windows, rng: np.random.Generator) -> Windows:
        seen.append(float(rng.uniform()))
        return dataclasses.replace(windows, actions=windows.actions * 0)

    batches = Batches(TOY, BatchConfig(30), transform=note)
    assert all(not batch.actions.any() for batch in batches.epoch())
    assert len(set(seen)) == 4
    batches.batch(0, 2)
    assert seen[4] == seen[2]


@pytest.mark.parametrize("field", ["size", "seed", "workers"])
def test_impossible_settings(field: str) -> None:
    with pytest.raises(InputError, match=f"{field} must be at least"):
        BatchConfig(**{field: -1})
    with pytest.raises(InputError, match="120 windows do not fill a batch of 121"):
        Batches(TOY, BatchConfig(121, keep_last=False))
    with pytest.raises(IndexError, match="Batch 3 of an epoch with 3"):
        Batches(TOY, BatchConfig(40)).batch(0, 3)
