"""The order of drawing: every window once, shares in proportion, decided by the seed and the epoch."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.datasets.batching.order import EpochOrder, shuffled, split_episodes
from understudy.errors import InputError

sizes = st.lists(st.integers(0, 60), min_size=1, max_size=4).filter(any)


@given(sizes, st.integers(0, 2**40), st.integers(0, 50), st.booleans())
def test_every_window_once_an_epoch(sizes: list[int], seed: int, epoch: int, shuffle: bool) -> None:
    order = EpochOrder(sizes, seed=seed, shuffle=shuffle).epoch(epoch)
    np.testing.assert_array_equal(np.sort(order), np.arange(sum(sizes)))
    if not shuffle:
        np.testing.assert_array_equal(order, np.arange(sum(sizes)))


@given(sizes, st.data(), st.integers(0, 1000))
def test_weights_are_shares(sizes: list[int], data: st.DataObject, seed: int) -> None:
    weights = data.draw(st.lists(st.floats(0.01, 10), min_size=len(sizes), max_size=len(sizes)), label="weights")
    order = EpochOrder(sizes, weights, seed=seed)
    drawn = np.bincount(order.epoch(seed).astype(np.int64), minlength=sum(sizes))
    assert len(order) == drawn.sum() == sum(sizes)
    wanted = np.array([weight if size else 0.0 for size, weight in zip(sizes, weights, strict=True)])
    ends = np.cumsum(sizes)
    for size, end, share in zip(sizes, ends, wanted / wanted.sum() * sum(sizes), strict=True):
        counts = drawn[end - size : end]
        assert abs(counts.sum() - share) < 1.0 + 1e-9
        if size:  # none again before all others were drawn as often
            assert counts.max() - counts.min() <= 1


def test_the_rest_of_a_share_changes_with_the_epoch() -> None:
    order = EpochOrder([50, 50], [1.0, 3.0], seed=1)
    first, second = (set(order.epoch(epoch)[order.epoch(epoch) < 50].tolist()) for epoch in (0, 1))
    assert len(first) == len(second) == 25
    assert first != second


def test_seed_and_epoch_decide() -> None:
    order = EpochOrder([300], seed=4)
    again = pickle.loads(pickle.dumps(order))  # noqa: S301 (our own, as worker processes get it)
    np.testing.assert_array_equal(order.epoch(2), again.epoch(2))
    assert not np.array_equal(order.epoch(2), order.epoch(3))
    assert not np.array_equal(order.epoch(2), EpochOrder([300], seed=5).epoch(2))
    with pytest.raises(ValueError, match="read-only"):
        order.epoch(2)[0] = 1


def test_indices_take_the_smallest_type() -> None:
    assert EpochOrder([200]).epoch(0).dtype == np.uint8
    assert EpochOrder([60_000]).epoch(0).dtype == np.uint16
    assert EpochOrder([70_000]).epoch(0).dtype == np.uint32


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, float("nan")]])
def test_impossible_weights(weights: list[float]) -> None:
    with pytest.raises(InputError, match="2 datasets need as many weights"):
        EpochOrder([3, 3], weights)


def test_nothing_to_draw() -> None:
    with pytest.raises(InputError, match="no windows"):
        EpochOrder([0, 0])
    with pytest.raises(InputError, match="leave no windows"):
        EpochOrder([0, 3], [1.0, 0.0])
    with pytest.raises(InputError, match="must not be negative"):
        EpochOrder([3], seed=-1)


def test_every_pass_visits_every_window_once_and_the_seed_decides_the_order() -> None:
    batches = shuffled(10, 4, np.random.default_rng(0))
    drawn = np.concatenate([next(batches) for _ in range(5)])
    np.testing.assert_array_equal(np.sort(drawn[:10]), np.arange(10))
    np.testing.assert_array_equal(np.sort(drawn[10:]), np.arange(10))
    again = shuffled(10, 4, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, np.concatenate([next(again) for _ in range(5)]))
    other = shuffled(10, 4, np.random.default_rng(1))
    assert not np.array_equal(drawn, np.concatenate([next(other) for _ in range(5)]))


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert np.bincount(next(shuffled(3, 8, np.random.default_rng(0))), minlength=3).min() >= 2


@pytest.mark.parametrize(("count", "share", "held_out"), [(50, 0.1, 5), (50, 0.0, 0), (1, 0.5, 0), (3, 0.99, 2)])
def test_the_split_is_by_episode_and_something_always_trains(count: int, share: float, held_out: int) -> None:
    training, validation = split_episodes(count, share, np.random.default_rng(0))
    assert len(validation) == held_out
    assert sorted([*training, *validation]) == list(range(count))
    with pytest.raises(InputError, match="validation share"):
        split_episodes(count, 1.0, np.random.default_rng(0))
