"""Behavioral cloning of chunks: predict the next `chunk` actions of the demonstrator from what is seen now.

    loss = sum_k mask[k] |pi(o_t)[k] - a_{t+k}| / (A sum_k mask[k])

Owns the optimisation, also of `dagger.py`. Windows come from `datasets/batching/memory_source.py`, the network from
`policies.py`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from understudy.datasets.batching.memory_source import MemorySource
from understudy.datasets.batching.order import shuffled, split_episodes
from understudy.datasets.batching.spin import spin
from understudy.datasets.batching.steps import StepConfig
from understudy.datasets.batching.windows import WindowConfig, Windows
from understudy.datasets.episode import Episode
from understudy.datasets.schema import ActionSpec
from understudy.envs.foreign_env import CHOICE
from understudy.errors import InputError
from understudy.learners.features import FeatureConfig, plan_features, turns_with_scene
from understudy.learners.policies import ChunkMLP, ChunkMLPConfig
from understudy.learners.threads import one_thread

LOG_EVERY = 100
Log = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class BCConfig:
    """Settings of behavioral cloning; the defaults solved lifting from 50 noisy demonstrations."""

    updates: int = 5_000
    """Gradient steps."""
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    """On weights, not on biases."""
    warmup: int = 100
    """Steps over which the learning rate rises from 0."""
    final_rate: float = 0.01
    """Share of the learning rate that the cosine ends at."""
    clip_norm: float = 1.0
    """Largest norm of a gradient."""
    ema: float = 0.999
    """The policy that is kept is this running average of the weights."""
    chunk: int = 8
    """Actions predicted at once."""
    execute: int = 4
    """Actions played before the policy looks again."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""
    drop_idle: bool = True
    """Leave out steps at which nothing moves, except around a change of the gripper."""
    spins: int = 16
    """How often each window is shown, turned about the vertical (1: only as recorded); for tool actions."""
    input_noise: float = 0.1
    """Noise on standardised features while training (standard deviation): smooths what few demonstrations show."""
    validation: float = 0.04
    """Share of the episodes that is held out to measure the loss. Small: each one is missed in training."""
    seed: int = 0
    features: FeatureConfig = field(default_factory=FeatureConfig)

    def __post_init__(self) -> None:
        for name in ("updates", "batch_size", "learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise InputError(f"Behavioral cloning: {name} must be above 0, got {getattr(self, name)}.")
        if not 0.0 <= self.ema < 1.0:
            raise InputError(f"Behavioral cloning: ema must lie in [0, 1), got {self.ema}.")


@one_thread()
def train_bc(episodes: Sequence[Episode], config: BCConfig = BCConfig(), log: Log | None = None) -> ChunkMLP:
    """Clone the demonstrator of `episodes`.

    Args:
        episodes: of one robot and task; their training channel (`Episode.actions`) is imitated.
        config: settings.
        log: given {"step", "loss", "validation_loss", "learning_rate"} every 100 updates.

    Raises:
        DatasetError: the episodes cannot be trained on together.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    source = MemorySource(episodes, WindowConfig(future=config.chunk, steps=StepConfig(config.drop_idle)))
    windows, spec = source.all(), source.action_spec
    policy = make_policy(windows, spec, config)
    if turns_with_scene(policy.features.plan):
        windows = spin(windows, spec, config.spins, rng)
    training, validation = _split(windows, len(episodes), config.validation, rng)
    data = TrainingData(policy, windows)
    policy.fit_inputs(data.features[training])
    batches = shuffled(len(training), config.batch_size, rng)
    return optimise(policy, data, (training[torch.from_numpy(batch)] for batch in batches), validation, config, log)


def optimise(
    policy: ChunkMLP,
    data: TrainingData,
    batches: Iterator[Tensor],
    validation: Tensor,
    config: BCConfig,
    log: Log | None,
) -> ChunkMLP:
    """Take `config.updates` steps on a policy whose inputs are standardised; it is left with its average weights.

    Args:
        policy: changed in place, and returned ready to run.
        data: windows to learn from.
        batches: which windows (B,) each step is taken on; at least as many batches as steps.
        validation: windows (V,) that are in no batch, on which the loss is measured.
        config: settings.
        log: see `train_bc`.
    """
    inputs = policy.standardise(data.features)
    average = copy.deepcopy(policy.head)
    optimiser = _make_optimiser(policy.head, config)
    recent: list[float] = []
    for step in range(config.updates):
        rate = learning_rate(step, config)
        for group in optimiser.param_groups:
            group["lr"] = rate
        # one batch of windows, the masked L1 loss, its gradient, a clipped step
        batch = next(batches)
        seen = inputs[batch] + config.input_noise * torch.randn(len(batch), inputs.shape[1])
        loss = chunk_loss(policy.decide(seen), data.chunks[batch], data.mask[batch])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(policy.head.parameters(), config.clip_norm)
        optimiser.step()
        # the average that is kept; young averages follow faster, so that short trainings are not stuck at the start
        _follow(average, policy.head, min(config.ema, (1 + step) / (10 + step)))
        recent.append(float(loss.detach()))
        if log is not None and ((step + 1) % LOG_EVERY == 0 or step + 1 == config.updates):
            row = {"step": step + 1, "loss": float(np.mean(recent)), "learning_rate": rate}
            if len(validation):
                row["validation_loss"] = _evaluate(average, policy, inputs, data, validation)
            log(row)
            recent.clear()
    policy.head.load_state_dict(average.state_dict())
    return policy.eval()


def chunk_loss(predicted: Tensor, chunks: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error of actions (B, chunk, A) where the mask (B, chunk) holds."""
    weight = mask.unsqueeze(-1).to(predicted.dtype)
    return ((predicted - chunks).abs() * weight).sum() / (weight.sum() * predicted.shape[-1])


def learning_rate(step: int, config: BCConfig) -> float:
    """Linear warm-up, then a cosine from the full rate to `final_rate` of it."""
    rise = min(1.0, (step + 1) / max(1, config.warmup))
    fall = 0.5 * (1.0 + math.cos(math.pi * step / config.updates))
    return config.learning_rate * rise * (config.final_rate + (1.0 - config.final_rate) * fall)


class TrainingData:
    """All windows as tensors; features are computed once, because no weight changes them."""

    def __init__(self, policy: ChunkMLP, windows: Windows) -> None:
        observations = {key: torch.from_numpy(windows.observations[key][:, -1]) for key in policy.shapes}
        self.features: Tensor = policy.features(observations)
        self.chunks = torch.from_numpy(windows.actions)
        self.mask = torch.from_numpy(windows.mask)


def _split(windows: Windows, episodes: int, share: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Indices of training and validation windows, split by episode."""
    _, held_out = split_episodes(episodes, share, rng)
    validates = np.isin(windows.episode, held_out)
    return torch.from_numpy(np.flatnonzero(~validates)), torch.from_numpy(np.flatnonzero(validates))


def make_policy(windows: Windows, spec: ActionSpec, config: BCConfig) -> ChunkMLP:
    """An untrained policy that fits the windows."""
    shapes = {key: tuple(values.shape[2:]) for key, values in windows.observations.items()}
    plan = plan_features(shapes, spec, config.features)
    form = ChunkMLPConfig(config.chunk, config.execute, config.hidden)
    # of choices the highest number is taken: decided one by one, several could be the highest
    decided = () if spec.name == CHOICE else switches(windows.actions)
    return ChunkMLP(plan, shapes, spec, form, decided)


def switches(chunks: NDArray[np.float32]) -> tuple[int, ...]:
    """Which numbers of actions (M, chunk, A) in [-1, 1] are only ever near -1 or near 1, and at times each."""
    actions = chunks.reshape(-1, chunks.shape[-1])
    at_end = np.mean(np.abs(actions) > 0.95, axis=0) > 0.99
    both = np.any(actions > 0.95, axis=0) & np.any(actions < -0.95, axis=0)
    return tuple(int(i) for i in np.flatnonzero(at_end & both))


def _make_optimiser(head: nn.Module, config: BCConfig) -> torch.optim.AdamW:
    weights = [parameter for name, parameter in head.named_parameters() if name.endswith("weight")]
    biases = [parameter for name, parameter in head.named_parameters() if not name.endswith("weight")]
    groups = [{"params": weights, "weight_decay": config.weight_decay}, {"params": biases, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, foreach=True)


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, keep: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - keep)


@torch.no_grad()
def _evaluate(average: nn.Module, policy: ChunkMLP, inputs: Tensor, data: TrainingData, indices: Tensor) -> float:
    predicted = average(inputs[indices]).unflatten(-1, (policy.chunk, policy.action_spec.size))
    return float(chunk_loss(predicted, data.chunks[indices], data.mask[indices]))
