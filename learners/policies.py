"""Policies as torch modules: observations in, a chunk of actions out, with everything between inside the module.

Owns what a trained policy is made of, and its files: `policy.json` (how to build it) and `policy.safetensors` (its
weights). Training belongs to the learners; `TorchPolicy` runs a module as an `envs.policy.Policy`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from understudy.datasets.schema import ActionSpec
from understudy.envs.policy import ChunkPlayer, ObservationDict
from understudy.errors import InputError, unknown_name
from understudy.learners.features import Feature, Features, Shapes, plan_as_list, plan_from_list, std_floor, used_keys

POLICY_FILE = "policy.json"
WEIGHTS_FILE = "policy.safetensors"
POLICY_SCHEMA_VERSION = 1
CLIP = 5.0
"""Standardised features are kept within this many standard deviations."""

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def make_mlp(inputs: int, hidden: Sequence[int], outputs: int, activation: str = "relu") -> nn.Sequential:
    """Linear layers with an activation between them, none after the last.

    Raises:
        InputError: there is no such activation.
    """
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), ACTIVATIONS[activation]()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class Standardise(nn.Module):
    """(x - mean) / std, clipped; what is measured on the training data, kept as buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def fit(self, features: Tensor, floor: Tensor) -> None:
        """Take mean and spread from training features (M, F); a spread counts as at least its floor (F,)."""
        self.mean.copy_(features.mean(0))
        self.std.copy_(torch.maximum(features.std(0, correction=0), floor))

    def forward(self, features: Tensor) -> Tensor:
        """Features (..., F) to the same shape."""
        return ((features - self.mean) / self.std).clamp(-CLIP, CLIP)


class ChunkPolicy(nn.Module, ABC):
    """A policy that decides `chunk` actions at once, of which `execute` are played before it looks again."""

    kind: str
    shapes: Shapes
    """Observation key -> shape, of the keys it looks at."""
    action_spec: ActionSpec
    chunk: int
    execute: int

    @abstractmethod
    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Observations (key -> (B, ...), float32) to actions (B, chunk, A) in [-1, 1]."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Plain data from which `build` makes an untrained policy of the same form."""

    @classmethod
    @abstractmethod
    def build(cls, data: Mapping[str, Any]) -> ChunkPolicy:
        """Read what `describe` wrote."""


@dataclass(frozen=True)
class ChunkMLPConfig:
    """Form of a `ChunkMLP`."""

    chunk: int = 8
    execute: int = 4
    hidden: tuple[int, ...] = (256, 256)
    activation: str = "relu"

    def __post_init__(self) -> None:
        if not 1 <= self.execute <= self.chunk:
            raise InputError(
                f"A chunk of {self.chunk} actions cannot have {self.execute} played; need 1 to {self.chunk}."
            )


class ChunkMLP(ChunkPolicy):
    """features -> standardised -> MLP -> chunk.

    Numbers that the demonstrator only ever had at their ends (`switches`, as a gripper that is open or closed) are
    decided, not averaged: a gripper that is told to be half closed, and sees itself half closed, stays so.
    """

    kind = "chunk_mlp"
    is_switch: Tensor

    def __init__(
        self,
        plan: Sequence[Feature],
        shapes: Shapes,
        spec: ActionSpec,
        config: ChunkMLPConfig,
        switches: Sequence[int] = (),
    ) -> None:
        """Args:
        plan: the features it is given.
        shapes: of observations; those that the plan does not use are left out.
        spec: what the actions mean.
        config: form of the network.
        switches: which numbers of an action are only ever -1 or 1.
        """
        super().__init__()
        self.config = config
        self.shapes = {key: tuple(shapes[key]) for key in used_keys(plan)}
        self.action_spec = spec
        self.chunk, self.execute = config.chunk, config.execute
        self.features = Features(plan)
        self.standardise = Standardise(self.features.size)
        self.head = make_mlp(self.features.size, config.hidden, config.chunk * spec.size, config.activation)
        self.switches = tuple(switches)
        mask = torch.zeros(spec.size, dtype=torch.bool)
        mask[list(self.switches)] = True
        self.register_buffer("is_switch", mask, persistent=False)

    def fit_inputs(self, features: Tensor) -> None:
        """Standardise by training features (M, F)."""
        self.standardise.fit(features, std_floor(self.features.plan))

    def inputs(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Standardised features (B, F): what the network sees, the same for a step whatever the weights."""
        standardised: Tensor = self.standardise(self.features(observations))
        return standardised

    def decide(self, inputs: Tensor) -> Tensor:
        """Standardised features (B, F) to actions (B, chunk, A), not clipped: what the loss compares."""
        return self.head(inputs).unflatten(-1, (self.chunk, self.action_spec.size))  # type: ignore[no-any-return]

    def play(self, decided: Tensor) -> Tensor:
        """What is played of decided actions (..., A): within [-1, 1], switches at one end."""
        actions = decided.clamp(-1.0, 1.0)
        if not self.switches:
            return actions
        return torch.where(self.is_switch, torch.where(actions < 0.0, -1.0, 1.0), actions)

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """See `ChunkPolicy`."""
        return self.play(self.decide(self.inputs(observations)))

    def describe(self) -> dict[str, Any]:
        """See `ChunkPolicy`."""
        return {
            "features": plan_as_list(self.features.plan),
            "shapes": {key: list(shape) for key, shape in self.shapes.items()},
            "action_spec": self.action_spec.as_dict(),
            "chunk": self.chunk,
            "execute": self.execute,
            "hidden": list(self.config.hidden),
            "activation": self.config.activation,
            "switches": list(self.switches),
        }

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> ChunkMLP:
        """See `ChunkPolicy`."""
        config = ChunkMLPConfig(int(data["chunk"]), int(data["execute"]), tuple(data["hidden"]), data["activation"])
        shapes = {key: tuple(shape) for key, shape in data["shapes"].items()}
        plan, spec = plan_from_list(data["features"]), ActionSpec.from_dict(data["action_spec"])
        return cls(plan, shapes, spec, config, tuple(data["switches"]))


@dataclass(frozen=True)
class ResidualConfig:
    """Form of a `ResidualPolicy`."""

    scale: float = 0.3
    """The largest correction, in normalised action units."""
    hidden: tuple[int, ...] = (128, 128)
    activation: str = "tanh"

    def __post_init__(self) -> None:
        if not 0.0 < self.scale <= 1.0:
            raise InputError(f"The residual's scale must lie in (0, 1], got {self.scale}.")


class ResidualPolicy(ChunkPolicy):
    """A frozen clone, and one correction a look that is added to every action the clone plays until the next.

    action[k] = play(clone[k] + scale * clip(actor(inputs))), for k < execute, where `play` clips and decides switches:
    a correction moves the moment at which the gripper closes, it does not hold it half open. Deciding once a chunk
    keeps the clone's rhythm (it plays open-loop) and leaves nothing to remember between looks: the whole is one graph.
    """

    kind = "residual"

    def __init__(self, base: ChunkMLP, config: ResidualConfig) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.config = config
        self.shapes, self.action_spec = base.shapes, base.action_spec
        self.chunk = self.execute = base.execute
        size = base.action_spec.size
        self.input_size = base.features.size + self.execute * size
        self.actor = make_mlp(self.input_size, config.hidden, size, config.activation)
        last = self.actor[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def look(self, observations: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(what the actor sees (B, F + execute * A), what the clone decides (B, execute, A))."""
        inputs = self.base.inputs(observations)
        decided = self.base.decide(inputs).clamp(-1.0, 1.0)[:, : self.execute]
        return torch.cat([inputs, decided.flatten(1)], dim=-1), decided

    def corrected(self, decided: Tensor, correction: Tensor) -> Tensor:
        """What is played when a correction (B, A), in units of the scale, is added to the clone's (B, execute, A)."""
        step = self.config.scale * correction.clamp(-1.0, 1.0)
        return self.base.play(decided + step.unsqueeze(1))

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """See `ChunkPolicy`."""
        inputs, decided = self.look(observations)
        return self.corrected(decided, self.actor(inputs))

    def describe(self) -> dict[str, Any]:
        """See `ChunkPolicy`."""
        return {
            "base": self.base.describe(),
            "scale": self.config.scale,
            "hidden": list(self.config.hidden),
            "activation": self.config.activation,
        }

    @classmethod
    def build(cls, data: Mapping[str, Any]) -> ResidualPolicy:
        """See `ChunkPolicy`."""
        config = ResidualConfig(float(data["scale"]), tuple(data["hidden"]), data["activation"])
        return cls(ChunkMLP.build(data["base"]), config)


KINDS: Mapping[str, type[ChunkPolicy]] = {ChunkMLP.kind: ChunkMLP, ResidualPolicy.kind: ResidualPolicy}


def save_policy(policy: ChunkPolicy, folder: Path) -> None:
    """Write `policy.json` and `policy.safetensors` into an existing folder."""
    data = {"schema_version": POLICY_SCHEMA_VERSION, "kind": policy.kind, "policy": policy.describe()}
    (folder / POLICY_FILE).write_text(json.dumps(data, indent=2) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in policy.state_dict().items()}, folder / WEIGHTS_FILE)


def load_policy(folder: str | Path) -> ChunkPolicy:
    """Read the policy of a run folder, ready to run. Nothing in the files is executed.

    Raises:
        InputError: a file is missing, unreadable, or of another schema version; names the file.
    """
    path, weights = Path(folder) / POLICY_FILE, Path(folder) / WEIGHTS_FILE
    for file in (path, weights):
        if not file.is_file():
            raise InputError(f"{file} does not exist; expected the folder of a finished run (`understudy train`).")
    try:
        policy = _build(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a readable policy ({error}); train it again.") from error
    try:
        policy.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise InputError(f"{weights}: weights cannot be read for {path.name} ({error}); train it again.") from error
    return policy.eval().requires_grad_(False)


def _build(data: Mapping[str, Any]) -> ChunkPolicy:
    if data["schema_version"] != POLICY_SCHEMA_VERSION:
        raise ValueError(f"schema version {data['schema_version']}; this software reads {POLICY_SCHEMA_VERSION}")
    if data["kind"] not in KINDS:
        raise unknown_name("kind of policy", str(data["kind"]), KINDS)
    return KINDS[data["kind"]].build(data["policy"])


def as_batch(observation: ObservationDict, keys: Sequence[str]) -> dict[str, Tensor]:
    """One observation as a batch of one, float32.

    Raises:
        InputError: a key is missing.
    """
    missing = [key for key in keys if key not in observation]
    if missing:
        raise InputError(f"The policy looks at {missing}, which the observation lacks; it has {sorted(observation)}.")
    return {key: torch.from_numpy(np.asarray(observation[key], np.float32)[None]) for key in keys}


class TorchPolicy:
    """`envs.policy.Policy` of a torch policy."""

    def __init__(self, policy: ChunkPolicy) -> None:
        self.policy = policy.eval()
        self._keys = tuple(policy.shapes)
        self._player = ChunkPlayer(self.predict, policy.execute)

    def reset(self) -> None:
        """See `Policy`."""
        self._player.reset()

    def act(self, observation: ObservationDict) -> NDArray[np.float32]:
        """See `Policy`."""
        return self._player.act(observation)

    def predict(self, observation: ObservationDict) -> NDArray[np.float32]:
        """One look: the whole chunk (chunk, A) in [-1, 1]."""
        with torch.inference_mode():
            chunk = self.policy(as_batch(observation, self._keys))[0]
        return np.asarray(chunk.numpy(), np.float32)


@dataclass(frozen=True)
class RunPolicy:
    """Makes the policy of a run folder; can be sent to another process."""

    folder: Path

    def __call__(self) -> TorchPolicy:
        """Load it. Inference uses one thread: evaluation runs several processes."""
        torch.set_num_threads(1)
        return TorchPolicy(load_policy(self.folder))
