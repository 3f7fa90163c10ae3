"""Chunks of actions; and that the wrappers of others which the documentation names do work on our environments."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import FilterObservation, FlattenObservation, FrameStack, RecordEpisodeStatistics
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from understudy.envs.make import make_env
from understudy.envs.wrappers import ActionChunk
from understudy.errors import InputError


def test_a_chunk_is_its_actions_one_after_the_other():
    plain, chunked = make_env("reach"), ActionChunk(make_env("reach"), 4)
    plain.reset(seed=0)
    chunked.reset(seed=0)
    assert chunked.action_space.shape == (4, 3)
    chunk = chunked.action_space.sample()
    rows = [plain.step(action) for action in chunk]
    observation, reward, terminated, truncated, info = chunked.step(chunk)
    assert all(np.array_equal(observation[key], value) for key, value in rows[-1][0].items())
    assert reward == pytest.approx(sum(row[1] for row in rows))
    assert (terminated, truncated, info["steps"]) == (False, False, 4)
    plain.close()
    chunked.close()


def test_a_chunk_ends_where_the_episode_does():
    env = ActionChunk(make_env("reach"), 40)
    env.reset(seed=0)
    chunk = np.zeros((40, 3), np.float32)
    assert env.step(chunk)[3:4] == (False,)
    _, _, terminated, truncated, info = env.step(chunk)
    assert (terminated, truncated, info["steps"]) == (False, True, env.unwrapped.task.horizon - 40)
    env.close()


def test_what_is_no_chunk_is_refused():
    env = make_env("reach")
    with pytest.raises(InputError, match="at least 1 action, got 0"):
        ActionChunk(env, 0)
    with pytest.raises(InputError, match=r"has shape \(3,\); expected \(2, 3\)"):
        ActionChunk(env, 2).step(np.zeros(3, np.float32))
    env.close()
    with pytest.raises(InputError, match=r"takes Discrete\(2\)"):
        ActionChunk(gymnasium.make("CartPole-v1"), 2)


def test_the_wrappers_of_others_that_are_named_work():
    env = RecordEpisodeStatistics(make_env("reach", fixed_horizon=True))
    env = FrameStack(FlattenObservation(FilterObservation(env, ["joint_position", "goal_position"])), 3)
    observation, _ = env.reset(seed=0)
    assert np.asarray(observation).shape == (3, 10)
    done = False
    while not done:
        _, _, terminated, done, info = env.step(np.zeros(3, np.float32))
        assert not terminated
    assert info["episode"]["l"] == 50
    env.close()
    stacked = VecFrameStack(DummyVecEnv([lambda: Monitor(make_env("reach"), info_keywords=("success",))]), 3)
    assert stacked.reset()["joint_position"].shape == (1, 21)
    for _ in range(50):
        _, _, dones, infos = stacked.step(np.zeros((1, 3), np.float32))
    assert dones[0]
    assert infos[0]["episode"]["success"] is False
    stacked.close()
