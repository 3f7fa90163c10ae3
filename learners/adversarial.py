"""Adversarial imitation with the `imitation` library: GAIL (Ho & Ermon 2016) and AIRL (Fu et al. 2018).

Owns how the library is set up so that it learns, and the regularisation of its discriminator; the algorithms are the
library's. One round: PPO acts in the environment and learns from the discriminator's reward, then the discriminator
learns to tell the demonstrations from what PPO did.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from imitation.algorithms.adversarial.airl import AIRL
from imitation.algorithms.adversarial.common import AdversarialTrainer, compute_train_stats
from imitation.algorithms.adversarial.gail import GAIL
from imitation.data.types import Trajectory
from imitation.rewards.reward_nets import BasicRewardNet, BasicShapedRewardNet, RewardNet
from imitation.util import networks
from imitation.util.logger import configure
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn

from understudy.datasets.batching.steps import GRIPPER
from understudy.datasets.batching.windows import require_alike
from understudy.datasets.episode import Episode
from understudy.envs.arm_env import ArmEnv
from understudy.errors import InputError, unknown_name
from understudy.learners.features import FeatureConfig, plan_features
from understudy.learners.policies import ChunkMLP, ChunkMLPConfig, as_batch
from understudy.learners.threads import one_thread

ALGORITHMS = ("gail", "airl")
Log = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator, which must keep up with the policy, and must not be certain."""

    updates: int = 40
    """Gradient steps a round; two (the usual default) leave it far behind."""
    learning_rate: float = 1e-3
    hidden: tuple[int, ...] = (32, 32)
    batch_size: int = 128
    """Demonstrated transitions in a step, and as many of the policy's."""
    buffer: int = 1024
    """Transitions of the policy that are kept."""
    input_noise: float = 0.1
    """Standard deviation of the noise on its inputs, so that it cannot tell by the smallest digits."""
    gradient_penalty: float = 1.0
    """Weight of (max(0, |d logit / d input| - 1))^2 between demonstrations and policy."""


@dataclass(frozen=True)
class AdversarialConfig:
    """Settings of GAIL and AIRL; the defaults learned reaching from 20 demonstrations in 10,000 steps."""

    steps: int = 10_240
    """Control periods in the environment, rounded down to whole rounds."""
    round_steps: int = 512
    """Control periods between updates of the discriminator: many short rounds."""
    batch_size: int = 64
    epochs: int = 10
    """Passes of PPO over a round."""
    learning_rate: float = 1e-3
    gamma: float = 0.9
    log_std: float = -1.0
    """Of the policy at the start; a larger one is clipped so often that AIRL's densities are wrong."""
    average: float = 0.5
    """The policy that is kept is a running average over rounds: the game goes back and forth to its end."""
    hidden: tuple[int, ...] = (64, 64)
    """Of the policy and the value function."""
    seed: int = 0
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)

    def __post_init__(self) -> None:
        if self.steps < self.round_steps:
            raise InputError(
                f"Adversarial learning needs at least one round of {self.round_steps} steps, got {self.steps}."
            )


@one_thread()
def train_adversarial(
    algorithm: Literal["gail", "airl"] | str,
    episodes: Sequence[Episode],
    make_env: Callable[[], ArmEnv],
    config: AdversarialConfig = AdversarialConfig(),
    log: Log | None = None,
) -> ChunkMLP:
    """Learn to act like the demonstrations, by acting.

    Args:
        algorithm: gail or airl.
        episodes: the demonstrations.
        make_env: makes the environment that is trained in, with a fixed horizon; it is used for nothing else.
        config: settings.
        log: given each round's {"step", "reward", "episode_length", "success", "discriminator_accuracy", ...}.

    Raises:
        InputError: unknown algorithm, or fewer demonstrated transitions than a batch of the discriminator.
        DatasetError: the episodes cannot be trained on together.
    """
    if algorithm not in ALGORITHMS:
        raise unknown_name("adversarial algorithm", algorithm, ALGORITHMS)
    require_alike(episodes)
    torch.manual_seed(config.seed)
    policy = _make_policy(episodes, config)
    _require_enough(episodes, config.discriminator.batch_size)
    with tempfile.TemporaryDirectory(prefix="understudy-imitation-") as scratch:
        _train(algorithm, episodes, make_env, policy, config, log, scratch)
    return policy.eval()


def _train(
    algorithm: str,
    episodes: Sequence[Episode],
    make_env: Callable[[], ArmEnv],
    policy: ChunkMLP,
    config: AdversarialConfig,
    log: Log | None,
    scratch: str,
) -> None:
    """Round after round; leaves what was learned in `policy`. The library wants a folder for its logs."""
    arm_env = make_env()
    demonstrations = [as_trajectory(episode, policy, arm_env.task.horizon) for episode in episodes]
    env = DummyVecEnv([lambda: Monitor(FeatureEnv(arm_env, policy), info_keywords=("success",))])
    env.seed(config.seed)
    try:
        generator = _make_generator(env, config)
        trainer = make_trainer(algorithm, demonstrations, env, generator, config, scratch)
        for round_ in range(config.steps // config.round_steps):
            row = play_round(trainer, config.discriminator.updates)
            follow_mean(generator, policy, config.average if round_ else 0.0)
            if log is not None:
                log({"step": (round_ + 1) * config.round_steps, **_acted(generator), **row})
    finally:
        env.close()


def play_round(trainer: AdversarialTrainer, updates: int) -> dict[str, float]:
    """The generator acts and learns, then the discriminator learns; returns the latter's loss and accuracy.

    The accuracy is of the round's last ten updates.
    """
    trainer.train_gen()
    stats = []
    for _ in range(updates):
        with networks.training(trainer.reward_train):
            stats.append(trainer.train_disc())
    last = stats[-10:]
    return {
        "discriminator_accuracy": float(np.mean([row["disc_acc"] for row in last])),
        "discriminator_loss": float(np.mean([row["disc_loss"] for row in last])),
    }


class FeatureEnv(
    gymnasium.Wrapper[NDArray[np.float32], NDArray[np.float32], dict[str, NDArray[Any]], NDArray[np.float32]]
):
    """An ArmEnv whose observation is the policy's standardised features (F,)."""

    def __init__(self, env: ArmEnv, policy: ChunkMLP) -> None:
        super().__init__(env)
        self._policy = policy
        self.observation_space = spaces.Box(-np.inf, np.inf, (policy.features.size,), np.float32)

    def reset(self, **options: Any) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """See `ArmEnv`."""
        observation, info = self.env.reset(**options)
        return self._seen(observation), info

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """See `ArmEnv`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._seen(observation), float(reward), terminated, truncated, info

    def _seen(self, observation: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        with torch.inference_mode():
            features = self._policy.inputs(as_batch(observation, tuple(self._policy.shapes)))[0]
        return np.asarray(features.numpy(), np.float32)


def as_trajectory(episode: Episode, policy: ChunkMLP, horizon: int = 0) -> Trajectory:
    """A demonstration as the library's type: standardised features (N + 1, F) and actions (N, A) in [-1, 1].

    A demonstration ends when it has succeeded, an episode of the learner at its horizon. One that is shorter than
    `horizon` is continued to it by standing still where it ended: otherwise nothing shows what to do there, and the
    learner is drawn back to where demonstrations spend their time (Kostrikov et al. 2019 add absorbing states for it).
    """
    rest = max(0, horizon - len(episode))
    observations = {}
    for key in policy.shapes:
        final = np.asarray(episode.final_observation[key])[None]
        values = np.concatenate([episode.observations[key], *[final] * (1 + rest)])
        observations[key] = torch.from_numpy(values.astype(np.float32))
    with torch.inference_mode():
        features = policy.inputs(observations).numpy()
    actions = np.concatenate([episode.actions, np.tile(_standing_still(episode), (rest, 1))])
    return Trajectory(obs=features, acts=actions, infos=None, terminal=True)


def _standing_still(episode: Episode) -> NDArray[np.float32]:
    """(A,) the action that keeps the last position, and the gripper as it was."""
    last: NDArray[np.float32] = episode.actions[-1].copy()
    spec = episode.info.action_spec
    if spec.name != "joint_position":
        motion = [i for i, label in enumerate(spec.labels) if label != GRIPPER]
        last[motion] = spec.normalise(np.zeros(spec.size))[motion]
    return last


def make_trainer(
    algorithm: str,
    demonstrations: Sequence[Trajectory],
    env: DummyVecEnv,
    generator: PPO,
    config: AdversarialConfig,
    scratch: str,
) -> AdversarialTrainer:
    """The library's trainer, with our discriminator; `scratch` is a folder for the library's logs."""
    net = _NETS[algorithm](env, config)
    trainer: AdversarialTrainer = _TRAINERS[algorithm](
        regularisation=config.discriminator,
        demonstrations=demonstrations,
        demo_batch_size=config.discriminator.batch_size,
        venv=env,
        gen_algo=generator,
        reward_net=net,
        n_disc_updates_per_round=config.discriminator.updates,
        disc_opt_kwargs={"lr": config.discriminator.learning_rate},
        gen_replay_buffer_capacity=config.discriminator.buffer,
        custom_logger=configure(scratch, format_strs=[]),
        log_dir=scratch,
    )
    return trainer


class _Regularised(AdversarialTrainer):
    """Noise on the discriminator's inputs and a one-sided gradient penalty, for either algorithm."""

    def __init__(self, *, regularisation: DiscriminatorConfig, **options: Any) -> None:
        self.regularisation = regularisation
        super().__init__(**options)

    def train_disc(
        self, *, expert_samples: Mapping[str, Any] | None = None, gen_samples: Mapping[str, Any] | None = None
    ) -> Mapping[str, float]:
        """One update: the library's loss on noisy inputs, and the penalty."""
        self._disc_opt.zero_grad()
        batches = self._make_disc_train_batches(gen_samples=gen_samples, expert_samples=expert_samples)
        batch = next(iter(batches))
        labels = batch["labels_expert_is_one"]
        logits = self.logits_expert_is_high(**_inputs_of(batch, self.regularisation.input_noise))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
        total = loss + self.regularisation.gradient_penalty * self._penalty(batch)
        total.backward()  # type: ignore[no-untyped-call]
        self._disc_opt.step()
        self._disc_step += 1
        with torch.no_grad():
            return compute_train_stats(logits, labels, loss)

    def _penalty(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean over points between a demonstrated and a played transition of max(0, |gradient| - 1)^2."""
        half = len(batch["state"]) // 2
        share = torch.rand(half, 1)
        between = {
            name: (share * batch[name][:half] + (1 - share) * batch[name][half:]).requires_grad_()
            for name in ("state", "action", "next_state")
        }
        logits = self._reward_net(**between, done=batch["done"][:half])
        gradients = torch.autograd.grad(logits.sum(), list(between.values()), create_graph=True, materialize_grads=True)
        norm = torch.linalg.vector_norm(torch.cat(gradients, dim=1), dim=1)
        penalty: Tensor = (norm - 1.0).clamp(min=0.0).square().mean()
        return penalty


def _inputs_of(batch: Mapping[str, Tensor], noise: float) -> dict[str, Tensor]:
    """What the discriminator judges, with noise on states and actions."""
    noisy = {name: batch[name] + noise * torch.randn_like(batch[name]) for name in ("state", "action", "next_state")}
    return {**noisy, "done": batch["done"], "log_policy_act_prob": batch["log_policy_act_prob"]}


class RegularisedGAIL(_Regularised, GAIL):
    """The library's GAIL with our discriminator update."""


class RegularisedAIRL(_Regularised, AIRL):
    """The library's AIRL with our discriminator update."""


def _gail_net(env: DummyVecEnv, config: AdversarialConfig) -> RewardNet:
    return BasicRewardNet(
        env.observation_space,
        env.action_space,
        hid_sizes=config.discriminator.hidden,
        normalize_input_layer=networks.RunningNorm,
    )


def _airl_net(env: DummyVecEnv, config: AdversarialConfig) -> RewardNet:
    return BasicShapedRewardNet(
        env.observation_space,
        env.action_space,
        reward_hid_sizes=config.discriminator.hidden,
        potential_hid_sizes=config.discriminator.hidden,
        discount_factor=config.gamma,
        normalize_input_layer=networks.RunningNorm,
    )


_TRAINERS: Mapping[str, type[_Regularised]] = {"gail": RegularisedGAIL, "airl": RegularisedAIRL}
_NETS: Mapping[str, Callable[[DummyVecEnv, AdversarialConfig], RewardNet]] = {"gail": _gail_net, "airl": _airl_net}


def _make_policy(episodes: Sequence[Episode], config: AdversarialConfig) -> ChunkMLP:
    """What will be exported: features standardised by the demonstrations, and PPO's mean; one action a look."""
    first = episodes[0]
    shapes = {key: tuple(values.shape[1:]) for key, values in first.observations.items()}
    plan = plan_features(shapes, first.info.action_spec, config.features)
    policy = ChunkMLP(plan, shapes, first.info.action_spec, ChunkMLPConfig(1, 1, config.hidden, "tanh"))
    stacked = {
        key: torch.from_numpy(np.concatenate([episode.observations[key] for episode in episodes]).astype(np.float32))
        for key in policy.shapes
    }
    policy.fit_inputs(policy.features(stacked))
    return policy.requires_grad_(False)


def _make_generator(env: DummyVecEnv, config: AdversarialConfig) -> PPO:
    return PPO(
        "MlpPolicy",
        env,
        n_steps=config.round_steps,
        batch_size=config.batch_size,
        n_epochs=config.epochs,
        learning_rate=config.learning_rate,
        gamma=config.gamma,
        policy_kwargs={
            "net_arch": {"pi": list(config.hidden), "vf": list(config.hidden)},
            "activation_fn": nn.Tanh,
            "log_std_init": config.log_std,
        },
        seed=config.seed,
        device="cpu",
    )


@torch.no_grad()
def follow_mean(generator: PPO, policy: ChunkMLP, keep: float) -> None:
    """Move the policy that is kept towards PPO's mean action: `keep` of its weights and the rest of PPO's."""
    trained = [*_linears(generator.policy.mlp_extractor.policy_net), *_linears(generator.policy.action_net)]
    for source, target in zip(trained, _linears(policy.head), strict=True):
        target.weight.lerp_(source.weight, 1.0 - keep)
        target.bias.lerp_(source.bias, 1.0 - keep)


def _linears(module: nn.Module) -> Iterator[nn.Linear]:
    return (layer for layer in module.modules() if isinstance(layer, nn.Linear))


def _acted(generator: PPO) -> dict[str, float]:
    """How the latest episodes went, by the task's own reward, which the learner never sees."""
    episodes = list(generator.ep_info_buffer or [])
    if not episodes:
        return {}
    return {
        "reward": float(np.mean([episode["r"] for episode in episodes])),
        "episode_length": float(np.mean([episode["l"] for episode in episodes])),
        "success": float(np.mean([episode["success"] for episode in episodes])),
    }


def _require_enough(episodes: Sequence[Episode], batch_size: int) -> None:
    transitions = sum(len(episode) for episode in episodes)
    if transitions < batch_size:
        raise InputError(
            f"The demonstrations have {transitions} transitions, fewer than the discriminator's batch of {batch_size}; "
            "record more, or make the batch smaller."
        )
