"""A toy world for learners: a tool that moves as it is told, towards a thing that it must close its gripper on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.episode import Episode
from understudy.datasets.schema import ActionSpec, EpisodeInfo
from understudy.envs.experts.expert import make_expert
from understudy.envs.policy import ObservationDict
from understudy.learners.policies import TorchPolicy

STEP_M = 0.03
OPEN_M = 0.08
GRASP_M = 0.01
DOWN = np.array([1.0, 0.0, 0.0, 0.0], np.float32)
SPEC = ActionSpec(
    "tool_delta", ("x", "y", "z", "gripper"), ("m",) * 4, (-STEP_M,) * 3 + (0.0,), (STEP_M,) * 3 + (OPEN_M,)
)


class ToyWorld:
    """Observations and steps of the toy; `expert` is the demonstrator."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.tool = np.array([0.5, 0.0, 0.3]) + rng.uniform(-0.1, 0.1, 3)
        self.thing = np.array([0.5, 0.0, 0.05]) + np.append(rng.uniform(-0.15, 0.15, 2), 0.0)
        self.width = OPEN_M

    def observe(self) -> dict[str, NDArray[np.float32]]:
        values = {"tool_position": self.tool, "object_position": self.thing, "gripper_position": [self.width]}
        arrays = {key: np.asarray(value, np.float32) for key, value in values.items()}
        return {**arrays, "tool_quaternion": DOWN, "joint_velocity": np.zeros(2, np.float32)}

    def step(self, action: NDArray[np.float64]) -> None:
        self.tool = self.tool + action[:3]
        self.width = float(action[3])

    @property
    def distance_m(self) -> float:
        return float(np.linalg.norm(self.thing - self.tool))


def expert_action(observation: ObservationDict) -> NDArray[np.float64]:
    """A third of the way, at most 2 cm; the gripper closes when it is there."""
    offset = np.asarray(observation["object_position"] - observation["tool_position"], np.float64)
    length = float(np.linalg.norm(offset))
    step = offset * min(0.3, 0.02 / max(length, 1e-9))
    return np.append(step, OPEN_M if length > GRASP_M else 0.0)


def toy_episode(seed: int, steps: int = 40) -> Episode:
    """The expert in the toy world."""
    world = ToyWorld(seed)
    observations, actions = [world.observe()], []
    for _ in range(steps):
        actions.append(expert_action(observations[-1]))
        world.step(actions[-1])
        observations.append(world.observe())
    taken = np.array(actions)
    return Episode(
        info=EpisodeInfo("panda", "reach", SPEC, 20.0, success=True, seed=seed),
        observations={key: np.stack([o[key] for o in observations[:-1]]) for key in observations[0]},
        final_observation=observations[-1],
        requested=taken,
        sent=taken.copy(),
        measured=taken.copy(),
        rewards=np.zeros(steps, np.float32),
        tick_ns=np.arange(steps, dtype=np.int64) * 50_000_000,
    )


def toy_episodes(count: int = 12) -> list[Episode]:
    return [toy_episode(seed) for seed in range(count)]


def play_toy(policy: TorchPolicy, seed: int, steps: int = 60) -> ToyWorld:
    """A policy in the toy world; returns how it was left."""
    world = ToyWorld(seed)
    policy.reset()
    for _ in range(steps):
        world.step(SPEC.denormalise(policy.act(world.observe())))
    return world


@dataclass(frozen=True)
class ExpertPolicy:
    """Makes the scripted expert of reach as a policy; importable by worker processes."""

    failing: bool = False

    def __call__(self) -> Scripted:
        return Scripted(self.failing)


class Scripted:
    def __init__(self, failing: bool) -> None:
        self._expert = make_expert("reach")
        self._failing = failing

    def reset(self) -> None:
        pass

    def act(self, observation: ObservationDict) -> NDArray[np.float32]:
        step = self._expert.act(observation) / 0.03
        return np.asarray(-step if self._failing else step, np.float32).clip(-1, 1)
