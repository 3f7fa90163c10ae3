"""Hindsight experience replay of stable-baselines3 on our goal environments."""

from __future__ import annotations

import gymnasium
import numpy as np
import torch
from stable_baselines3 import SAC, HerReplayBuffer


def test_hindsight_turns_failures_into_goals_that_were_reached():
    """Three hundred steps of SAC: nothing is learned yet, but what it learns from is right."""
    env = gymnasium.make("understudy/ReachGoal-v0")
    learner = SAC(
        "MultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
        learning_starts=285,
        batch_size=64,
        gradient_steps=1,
        policy_kwargs={"net_arch": [32]},
        seed=0,
        device="cpu",
    )
    learner.learn(300)
    buffer = learner.replay_buffer
    assert buffer.size() == 300
    assert (buffer.rewards[: buffer.size()] == -1.0).mean() > 0.5  # random motion seldom comes near the goal
    batch = buffer.sample(256)
    following = batch.next_observations
    away = torch.linalg.norm(following["achieved_goal"] - following["desired_goal"], dim=-1, keepdim=True)
    tolerance = env.unwrapped.goal.tolerance_m
    sure = (away - tolerance).abs() > 1e-5
    assert torch.equal(batch.rewards[sure], torch.where(away <= tolerance, 0.0, -1.0)[sure])
    assert 0.1 < float((batch.rewards == 0.0).float().mean()) < 1.0
    assert np.isfinite(learner.logger.name_to_value["train/critic_loss"])
    env.close()
