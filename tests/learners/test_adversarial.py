"""GAIL and AIRL, as set up here: the discriminator learns, the policy moves, and what is kept is what acted."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from imitation.data.types import Trajectory
from learners_support import toy_episode, toy_episodes
from stable_baselines3.common.vec_env import DummyVecEnv

from understudy.envs.make import make_env
from understudy.errors import InputError
from understudy.learners import adversarial
from understudy.learners.adversarial import AdversarialConfig, DiscriminatorConfig, FeatureEnv, train_adversarial
from understudy.learners.policies import TorchPolicy

TINY = AdversarialConfig(
    steps=128,
    round_steps=64,
    batch_size=32,
    epochs=2,
    hidden=(16,),
    average=0.0,
    discriminator=DiscriminatorConfig(updates=30, batch_size=32, buffer=128),
)


class Point(gymnasium.Env):  # type: ignore[type-arg]
    """A point on a line; the demonstrator always goes right."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = np.zeros(1, np.float32), 0
        return self.place.copy(), {}

    def step(self, action):
        self.place = (self.place + 0.1 * action).astype(np.float32)
        self.steps += 1
        return self.place.copy(), 0.0, False, self.steps >= 16, {}


def to_the_right() -> list[Trajectory]:
    places = np.linspace(0, 1.6, 17, dtype=np.float32)[:, None]
    return [Trajectory(obs=places, acts=np.ones((16, 1), np.float32), infos=None, terminal=True)] * 4


@pytest.mark.parametrize("algorithm", ["gail", "airl"])
def test_rounds_teach_the_discriminator_and_move_the_policy(tmp_path, algorithm: str) -> None:
    torch.manual_seed(0)
    env = DummyVecEnv([Point])
    config = dataclasses.replace(TINY, learning_rate=3e-3, epochs=10)
    generator = adversarial._make_generator(env, config)
    trainer = adversarial.make_trainer(algorithm, to_the_right(), env, generator, config, str(tmp_path))
    start = generator.predict(np.zeros((1, 1), np.float32), deterministic=True)[0].item()
    first = adversarial.play_round(trainer, 1)
    later = [adversarial.play_round(trainer, 30) for _ in range(10)]
    assert max(row["discriminator_accuracy"] for row in later) > first["discriminator_accuracy"] + 0.1
    assert generator.predict(np.zeros((1, 1), np.float32), deterministic=True)[0].item() > start + 0.1


def test_the_penalty_grows_with_the_discriminators_slope(tmp_path) -> None:
    env = DummyVecEnv([Point])
    generator = adversarial._make_generator(env, TINY)
    trainer = adversarial.make_trainer("gail", to_the_right(), env, generator, TINY, str(tmp_path))
    trainer.train_gen()
    batch = next(iter(trainer._make_disc_train_batches()))
    assert trainer._penalty(batch) < 0.5  # type: ignore[attr-defined]
    with torch.no_grad():
        for parameter in trainer.reward_train.parameters():
            parameter *= 20
    assert trainer._penalty(batch) > 10  # type: ignore[attr-defined]


def test_what_is_kept_acts_as_the_learner_did_and_rounds_are_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {}
    follow = adversarial.follow_mean

    def spy(generator, policy, keep):
        kept["generator"] = generator
        follow(generator, policy, keep)

    monkeypatch.setattr(adversarial, "follow_mean", spy)
    env = make_env("reach", fixed_horizon=True)
    episodes = [_reach_like(seed) for seed in range(4)]
    rows: list[dict[str, float]] = []
    policy = train_adversarial("gail", episodes, lambda: env, TINY, rows.append)
    assert [row["step"] for row in rows] == [64, 128]
    assert rows[-1]["episode_length"] == 50
    assert {"reward", "success", "discriminator_accuracy"} <= set(rows[-1])
    assert (policy.chunk, policy.execute) == (1, 1)
    other = FeatureEnv(make_env("reach"), policy)
    seen, _ = other.reset(seed=3)
    observation, _ = other.env.reset(seed=3)
    expected, _ = kept["generator"].predict(seen, deterministic=True)
    np.testing.assert_allclose(TorchPolicy(policy).act(observation), expected, atol=1e-5)
    other.close()


def _reach_like(seed: int):
    """A toy demonstration with the observations and actions of reach."""
    episode = toy_episode(seed)
    spec = dataclasses.replace(
        episode.info.action_spec, labels=("x", "y", "z"), units=("m",) * 3, low=(-0.03,) * 3, high=(0.03,) * 3
    )

    def rename(values):
        kept = {"tool_position", "tool_quaternion"}
        return {**{k: v for k, v in values.items() if k in kept}, "goal_position": values["object_position"]}

    return dataclasses.replace(
        episode,
        info=dataclasses.replace(episode.info, action_spec=spec),
        observations=rename(episode.observations),
        final_observation=rename(episode.final_observation),
        requested=episode.requested[:, :3],
        sent=episode.sent[:, :3],
        measured=episode.measured[:, :3],
    )


def test_a_demonstration_that_ends_early_is_continued_by_standing_still() -> None:
    episode = toy_episode(0, steps=30)
    policy = adversarial._make_policy([episode], TINY)
    longer = adversarial.as_trajectory(episode, policy, horizon=50)
    assert (len(longer.acts), len(longer.obs)) == (50, 51)
    np.testing.assert_array_equal(longer.acts[:30], episode.actions)
    np.testing.assert_allclose(longer.acts[30:], [[0.0, 0.0, 0.0, -1.0]] * 20, atol=1e-6)
    np.testing.assert_array_equal(longer.obs[31:], np.repeat(longer.obs[30:31], 20, axis=0))
    assert len(adversarial.as_trajectory(episode, policy, horizon=10).acts) == 30


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="Unknown adversarial algorithm 'gial': did you mean 'gail'"):
        train_adversarial("gial", toy_episodes(1), lambda: make_env("reach"))
    with pytest.raises(InputError, match="at least one round of 512 steps, got 100"):
        AdversarialConfig(steps=100)
    with pytest.raises(InputError, match="40 transitions, fewer than the discriminator's batch of 128"):
        train_adversarial("gail", toy_episodes(1), lambda: make_env("reach"))
