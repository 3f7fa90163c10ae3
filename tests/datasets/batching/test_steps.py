"""Which steps are worth learning from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from datasets_builders import make_episode
from learners_support import toy_episode

from understudy.datasets.batching.memory_source import MemorySource
from understudy.datasets.batching.steps import STILL_RAD, StepConfig, idle_steps, worth_learning
from understudy.datasets.batching.windows import WindowConfig
from understudy.datasets.schema import ActionSpec
from understudy.errors import InputError


def test_idle_steps_are_dropped_except_around_the_gripper() -> None:
    episode = toy_episode(1, steps=60)
    requested = episode.requested.copy()
    requested[:, 3] = 0.08
    requested[:20, :3] = 0.0  # a pause at the start
    requested[20:40, :3] = 0.01
    requested[40:, :3] = 0.0  # waiting; the gripper closes at 50
    requested[50:, 3] = 0.0
    episode = dataclasses.replace(episode, requested=requested)
    source = MemorySource([episode], WindowConfig(future=2, steps=StepConfig(keep_around_gripper=6)))
    kept = np.concatenate([np.arange(20, 40), np.arange(44, 56)])
    np.testing.assert_array_equal(source.all().step, kept)
    np.testing.assert_array_equal(source.all().actions[:, 0], episode.actions[kept])


def test_a_joint_target_that_stays_is_idle_wherever_it_is() -> None:
    spec = ActionSpec("joint_position", ("a", "gripper"), ("rad", "m"), (-3.0, 0.0), (3.0, 0.1))
    info = dataclasses.replace(make_episode().info, action_spec=spec)
    target = np.array([[1.0, 0], [1.0, 0], [1.0 + 2 * STILL_RAD, 0], [1.0 + 2.5 * STILL_RAD, 0.1]])
    np.testing.assert_array_equal(idle_steps(info, target), [True, True, False, True])


def test_every_step_counts_when_idle_ones_are_kept() -> None:
    episode = make_episode(30)
    assert worth_learning(episode.info, np.zeros((30, 2)), StepConfig(drop_idle=False)).all()
    assert not worth_learning(episode.info, np.zeros((30, 2)), StepConfig()).any()


def test_impossible_settings() -> None:
    with pytest.raises(InputError, match=r"must not be negative, got 0\.02 and -1"):
        StepConfig(keep_around_gripper=-1)
