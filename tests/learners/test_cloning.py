"""Behavioral cloning must learn a toy, the same way every time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from learners_support import GRASP_M, play_toy, toy_episodes

from understudy.errors import DatasetError, InputError
from understudy.learners.cloning import BCConfig, chunk_loss, learning_rate, switches, train_bc
from understudy.learners.features import FeatureConfig
from understudy.learners.policies import TorchPolicy

QUICK = BCConfig(updates=400, hidden=(64, 64), spins=4)


def test_it_learns_the_toy_and_does_it_from_unseen_starts() -> None:
    rows: list[dict[str, float]] = []
    policy = train_bc(toy_episodes(), dataclasses.replace(QUICK, validation=0.1), rows.append)
    left = [play_toy(TorchPolicy(policy), seed) for seed in range(1000, 1020)]
    arrived = sum(world.distance_m < 2 * GRASP_M and world.width == 0.0 for world in left)
    assert arrived >= 18
    assert [row["step"] for row in rows] == [100, 200, 300, 400]
    assert rows[-1]["validation_loss"] < 0.5 * rows[0]["validation_loss"]
    assert policy.switches == (3,)


def test_the_same_seed_gives_the_same_policy_and_another_seed_another() -> None:
    config = dataclasses.replace(QUICK, updates=50)
    first, second = train_bc(toy_episodes(4), config), train_bc(toy_episodes(4), config)
    other = train_bc(toy_episodes(4), dataclasses.replace(config, seed=1))
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], tensor, rtol=0, atol=0)
    assert not torch.equal(other.head[0].weight, first.head[0].weight)  # type: ignore[arg-type]


def test_what_lies_past_the_end_does_not_count() -> None:
    predicted = torch.zeros(1, 3, 2)
    chunks = torch.tensor([[[1.0, 1.0], [3.0, 3.0], [100.0, 100.0]]])
    mask = torch.tensor([[True, True, False]])
    assert chunk_loss(predicted, chunks, mask) == 2.0


def test_the_learning_rate_rises_and_falls() -> None:
    config = BCConfig(updates=1000, warmup=100)
    rates = [learning_rate(step, config) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-5, rel=0.01)
    assert max(rates) == pytest.approx(1e-3, rel=0.05)
    assert 80 <= int(np.argmax(rates)) <= 120
    assert rates[-1] == pytest.approx(1e-5, rel=0.01)


def test_only_numbers_that_are_always_at_an_end_are_switches() -> None:
    rng = np.random.default_rng(0)
    chunks = rng.uniform(-1, 1, (100, 4, 3)).astype(np.float32)
    chunks[..., 1] = np.sign(chunks[..., 1])
    chunks[..., 2] = 1.0  # never used: nothing to decide
    assert switches(chunks) == (1,)


def test_joint_features_are_not_turned_with_the_scene() -> None:
    config = dataclasses.replace(QUICK, updates=1, features=FeatureConfig(joint_velocity=True))
    policy = train_bc(toy_episodes(2), config)
    assert "joint_velocity" in policy.shapes


def test_nonsense_is_refused() -> None:
    with pytest.raises(DatasetError, match="no episodes"):
        train_bc([])
    with pytest.raises(InputError, match="updates must be above 0"):
        BCConfig(updates=0)
    with pytest.raises(InputError, match="ema"):
        BCConfig(ema=1.0)
