"""Fine-tuning by reinforcement learning, built so that it cannot lose: a correction on top of the frozen clone.

    action = play(clone(o) + scale * residual(o, clone(o)))

Owns the environment a residual learns in, the PPO set-up (the algorithm is stable-baselines3's), and the verdict: clone
and result are judged on held-out seeds, and the better one is kept. The residual starts at zero, so training starts at
the clone; its exploration is small; the critic learns before the actor moves.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from torch import nn

from understudy.envs.arm_env import ArmEnv
from understudy.envs.curriculum import Curriculum
from understudy.envs.foreign_env import ForeignEnv, is_foreign
from understudy.errors import InputError, unknown_name
from understudy.learners.comparison import Comparison, compare
from understudy.learners.evaluate import Evaluation, Progress, Setting, run_episodes
from understudy.learners.parallel_envs import ParallelEnvs
from understudy.learners.policies import (
    ACTIVATIONS,
    ChunkMLP,
    ChunkPolicy,
    ResidualConfig,
    ResidualPolicy,
    TorchPolicy,
    as_batch,
)
from understudy.learners.threads import one_thread

ALGORITHMS = ("ppo",)
TRAIN_SEED = 1_000_000
"""Episodes of training are drawn from this seed on: far from recording (0 on) and evaluation (10,000 on)."""
JUDGE_SEED = 500_000
"""First of the held-out seeds on which clone and result are compared; also used for nothing else."""
Log = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of residual PPO."""

    algo: str = "ppo"
    """Which algorithm; so far only ppo."""
    steps: int = 40_960
    """Control periods in the environment, of all environments together."""
    scale: float = 0.3
    """Largest correction, in normalised action units."""
    reward: Literal["sparse", "shaped"] = "sparse"
    """sparse: 1 when the task has succeeded. shaped: and, on the way, what the task's score rises by. In an environment
    of Gymnasium's own it is that environment's reward, whatever this says."""
    environments: int = 2
    """How many act at once."""
    processes: int = 1
    """How many processes hold the environments; 1 keeps them in this one."""
    round_decisions: int = 512
    """Decisions (looks) of each environment between updates."""
    batch_size: int = 128
    epochs: int = 10
    learning_rate: float = 3e-4
    gamma: float = 0.97
    """Discount of a decision."""
    log_std: float = -1.5
    """Of the residual, in units of the scale: exploration that does not destroy the clone."""
    target_kl: float = 0.03
    """An update stops when the policy has moved this far."""
    critic_rounds: int = 2
    """Rounds in which only the critic learns: a young one would pull the actor anywhere."""
    hidden: tuple[int, ...] = (128, 128)
    judge_episodes: int = 60
    """Held-out episodes on which clone and result are compared."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.algo not in ALGORITHMS:
            raise unknown_name("fine-tuning algorithm", self.algo, ALGORITHMS)
        if self.reward not in ("sparse", "shaped"):
            raise unknown_name("reward", self.reward, ("sparse", "shaped"))
        for name in ("steps", "environments", "round_decisions", "batch_size", "epochs", "judge_episodes"):
            if getattr(self, name) < 1:
                raise InputError(f"Fine-tuning: {name} must be at least 1, got {getattr(self, name)}.")
        if not 1 <= self.processes <= self.environments:
            raise InputError(
                f"Fine-tuning: processes must be from 1 to the number of environments ({self.environments}), "
                f"got {self.processes}."
            )
        if self.critic_rounds < 0:
            raise InputError(f"Fine-tuning: critic_rounds must not be negative, got {self.critic_rounds}.")


@dataclass(frozen=True)
class Verdict:
    """What fine-tuning gave, and which of the two is kept."""

    clone: Evaluation
    tuned: Evaluation
    comparison: Comparison
    kept: Literal["clone", "finetuned"]
    judged_by: Literal["success", "return"] = "success"
    """return: neither ever succeeded, in an environment of Gymnasium's own, where that may be unknown."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "kept": self.kept,
            "judged_by": self.judged_by,
            "clone": self.clone.as_dict(),
            "finetuned": self.tuned.as_dict(),
            "comparison": dataclasses.asdict(self.comparison),
        }

    def sentence(self) -> str:
        """In words."""
        why = "it is better" if self.kept == "finetuned" else "fine-tuning did not make it better"
        start = f"Kept the {'fine-tuned policy' if self.kept == 'finetuned' else 'clone'}: {why}. "
        if self.judged_by == "return":
            pairs = zip(self.clone.outcomes, self.tuned.outcomes, strict=True)
            ahead = sum(tuned.return_ > clone.return_ for clone, tuned in pairs)
            return (
                f"{start}Neither is told to have succeeded; the mean return is {self.clone.mean_return:.1f} for the "
                f"clone and {self.tuned.mean_return:.1f} for the fine-tuned policy, which does better on {ahead} of "
                f"{self.clone.episodes} held-out seeds."
            )
        return (
            f"{start}On {self.clone.episodes} held-out seeds the clone succeeds {self.clone.successes} times and the "
            f"fine-tuned policy {self.tuned.successes} times (McNemar p = {self.comparison.p_value:.2g})."
        )


@one_thread()
def finetune(
    clone: ChunkMLP,
    setting: Setting,
    config: FinetuneConfig = FinetuneConfig(),
    log: Log | None = None,
) -> ResidualPolicy:
    """Train a residual on the frozen `clone`; `judge` says whether it is any better.

    Args:
        clone: what to start from; it is not changed.
        setting: task, robot and randomized physics to train in.
        config: settings.
        log: given each round's {"step", "reward", "episode_length", "success", ...}, step in control periods.

    Raises:
        InputError: a curriculum is to be learned in several processes.
    """
    curriculum = setting.randomization if isinstance(setting.randomization, Curriculum) else None
    if curriculum is not None and config.processes > 1:
        raise InputError("A curriculum learns its ranges in one process; leave out --processes.")
    torch.manual_seed(config.seed)
    policy = ResidualPolicy(clone, ResidualConfig(config.scale, config.hidden))
    env = _make_envs(policy, setting, config)
    try:
        learner = _make_ppo(env, config)
        start_at_zero(learner)
        decisions = max(1, config.steps // policy.execute)
        learner.learn(decisions, callback=_Rounds(config, log, curriculum))
    finally:
        env.close()
    copy_actor(learner, policy)
    return policy.eval()


def judge(
    clone: ChunkMLP,
    tuned: ResidualPolicy,
    setting: Setting,
    config: FinetuneConfig,
    progress: Progress | None = None,
) -> tuple[ChunkPolicy, Verdict]:
    """Compare both on the same held-out seeds, in the physics trained in; returns the better one.

    After a curriculum these are the ranges that it has reached. Equal counts keep the clone: it is the simpler one.
    In an environment of Gymnasium's own in which neither ever succeeds, the mean return decides.
    """
    if isinstance(setting.randomization, Curriculum):
        setting = dataclasses.replace(setting, randomization=setting.randomization.randomization())
    seeds = range(JUDGE_SEED, JUDGE_SEED + config.judge_episodes)
    robot = setting.robot if isinstance(setting.robot, str) else setting.robot.name
    results: list[Evaluation] = []
    for policy in (clone, tuned):
        done = len(results) * config.judge_episodes
        advance = None if progress is None else (lambda count, done=done: progress(done + count))
        outcomes = run_episodes(functools.partial(TorchPolicy, policy), setting, seeds, progress=advance)
        results.append(Evaluation(setting.task, robot, "held-out", JUDGE_SEED, outcomes))
    by_return = is_foreign(setting.task) and not any(result.successes for result in results)
    clone_score, tuned_score = (result.mean_return if by_return else result.successes for result in results)
    better = tuned_score > clone_score
    verdict = Verdict(
        results[0],
        results[1],
        compare(*results),
        "finetuned" if better else "clone",
        "return" if by_return else "success",
    )
    return (tuned if better else clone), verdict


class ResidualEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One decision a step: a correction (A,) in [-1, 1] for all actions the clone plays until its next look.

    The observation is what the residual's actor sees, the reward what `FinetuneConfig.reward` says. `info` holds
    `steps` (control periods of this decision), `episode_steps` and `task_return` (of the episode so far) and `success`.
    """

    def __init__(self, env: ArmEnv | ForeignEnv, policy: ResidualPolicy, reward: str, gamma: float) -> None:
        self.env = env
        self.policy = policy
        self.reward = reward
        self.gamma = gamma
        self.observation_space = spaces.Box(-np.inf, np.inf, (policy.input_size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (policy.action_spec.size,), np.float32)
        self._decided = torch.zeros(1, policy.execute, policy.action_spec.size)
        self._score = 0.0
        self._return = 0.0
        self._episode_steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode of the environment."""
        super().reset(seed=seed)
        observation, info = self.env.reset(seed=seed, options=options)
        self._score = self.env.task.score(observation).reward if isinstance(self.env, ArmEnv) else 0.0
        self._return, self._episode_steps = 0.0, 0
        return self._look(observation), info

    def step(self, correction: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Play the clone's next actions with this correction."""
        with torch.inference_mode():
            actions = self.policy.corrected(self._decided, torch.from_numpy(correction)[None])[0].numpy()
        before, start, earned = self._score, self._episode_steps, self._return
        for action in actions:
            observation, self._score, terminated, truncated, info = self.env.step(action)
            self._return += self._score
            self._episode_steps += 1
            if terminated or truncated:
                break
        success = bool(info["success"])
        # potential-based (Ng et al. 1999): rising scores are rewarded, staying at a high one is not
        after = 0.0 if terminated else self._score
        shaping = self.gamma * after - before if self.reward == "shaped" else 0.0
        counts = {
            "steps": self._episode_steps - start,
            "episode_steps": self._episode_steps,
            "task_return": self._return,
            "success": success,
        }
        paid = float(success) + shaping if isinstance(self.env, ArmEnv) else self._return - earned
        return self._look(observation), paid, terminated, truncated, counts

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _look(self, observation: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        with torch.inference_mode():
            inputs, self._decided = self.policy.look(as_batch(observation, tuple(self.policy.shapes)))
        return np.asarray(inputs[0].numpy(), np.float32)


@dataclass(frozen=True)
class _EnvFactory:
    """Makes a monitored `ResidualEnv`; can be sent to another process (the weights go as plain arrays)."""

    description: Mapping[str, Any]
    weights: Mapping[str, NDArray[Any]]
    setting: Setting
    reward: str
    gamma: float

    def __call__(self) -> Monitor[NDArray[np.float32], NDArray[np.float32]]:
        torch.set_num_threads(1)
        policy = ResidualPolicy.build(self.description)
        policy.load_state_dict({name: torch.from_numpy(array) for name, array in self.weights.items()})
        env = ResidualEnv(self.setting.make_any(), policy.eval().requires_grad_(False), self.reward, self.gamma)
        return Monitor(env, info_keywords=("success", "episode_steps", "task_return"))


def _make_envs(policy: ResidualPolicy, setting: Setting, config: FinetuneConfig) -> VecEnv:
    weights = {name: tensor.numpy() for name, tensor in policy.state_dict().items()}
    factory = _EnvFactory(policy.describe(), weights, setting, config.reward, config.gamma)
    factories: list[Callable[[], gymnasium.Env[Any, Any]]] = [factory] * config.environments
    env: VecEnv = DummyVecEnv(factories) if config.processes == 1 else ParallelEnvs(factories, config.processes)
    if is_foreign(setting.task):  # rewards of any size: the critic's gradient would drown the actor's
        env = VecNormalize(env, norm_obs=False, gamma=config.gamma)
    env.seed(TRAIN_SEED + 1_000 * config.seed)
    return env


def _make_ppo(env: VecEnv, config: FinetuneConfig) -> PPO:
    return PPO(
        "MlpPolicy",
        env,
        n_steps=config.round_decisions,
        batch_size=config.batch_size,
        n_epochs=config.epochs,
        learning_rate=config.learning_rate,
        gamma=config.gamma,
        target_kl=config.target_kl,
        policy_kwargs={
            "net_arch": {"pi": list(config.hidden), "vf": list(config.hidden)},
            "activation_fn": ACTIVATIONS[ResidualConfig().activation],
            "log_std_init": config.log_std,
        },
        seed=config.seed,
        device="cpu",
    )


def start_at_zero(learner: PPO) -> None:
    """Make the actor's mean exactly zero: training starts at the clone."""
    last = learner.policy.action_net
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def copy_actor(learner: PPO, policy: ResidualPolicy) -> None:
    """Copy PPO's mean into the policy's actor."""
    trained = [*_linears(learner.policy.mlp_extractor.policy_net), learner.policy.action_net]
    for source, target in zip(trained, _linears(policy.actor), strict=True):
        target.load_state_dict(source.state_dict())


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


class _Rounds(BaseCallback):
    """Logs every round, and keeps the actor still while the critic is young."""

    def __init__(self, config: FinetuneConfig, log: Log | None, curriculum: Curriculum | None) -> None:
        super().__init__()
        self._config = config
        self._curriculum = curriculum
        self._log = log
        self._round = 0
        self._steps = 0

    def _on_rollout_start(self) -> None:
        self._set_actor_learning(self._round >= self._config.critic_rounds)
        self._round += 1

    def _on_step(self) -> bool:
        self._steps += sum(int(info["steps"]) for info in self.locals["infos"])
        return True

    def _on_rollout_end(self) -> None:
        episodes = list(self.model.ep_info_buffer or [])
        if self._log is None or not episodes:
            return
        losses = self.model.logger.name_to_value
        self._log(
            {
                "step": self._steps,
                # the task's own reward, so that it compares with an evaluation, whatever the residual was paid
                "reward": float(np.mean([episode["task_return"] for episode in episodes])),
                "objective": float(np.mean([episode["r"] for episode in episodes])),
                "episode_length": float(np.mean([episode["episode_steps"] for episode in episodes])),
                "success": float(np.mean([episode["success"] for episode in episodes])),
                **{name.replace("train/", ""): float(losses[name]) for name in _LOGGED if name in losses},
                **(self._curriculum.metrics() if self._curriculum is not None else {}),
            }
        )

    def _set_actor_learning(self, learns: bool) -> None:
        policy: Any = self.model.policy
        for module in (policy.mlp_extractor.policy_net, policy.action_net):
            module.requires_grad_(learns)
        policy.log_std.requires_grad_(learns)


_LOGGED = ("train/approx_kl", "train/explained_variance", "train/value_loss", "train/std")
