"""Success rates on matched seeds, with intervals, and the paired comparison of two policies.

Two policies that are evaluated with the same task, suite and seeds meet the same starts and the same physics, episode by
episode. Nothing here knows what a policy is made of: it is handed a factory.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from math import comb
from typing import Any

import numpy as np

from understudy.datasets.statistics import wilson_interval
from understudy.envs.arm_env import ArmEnv
from understudy.envs.make import make_env
from understudy.envs.policy import Policy
from understudy.envs.randomization import suite_randomization
from understudy.errors import InputError

FIRST_SEED = 10_000
"""Evaluation begins here; recording begins at 0. Nothing trains on these."""

PolicyFactory = Callable[[], Policy]
"""Makes the policy in the process that runs it; picklable (a `functools.partial` of a top-level function)."""


@dataclass(frozen=True)
class EpisodeResult:
    """One evaluated episode."""

    seed: int
    success: bool
    steps: int
    return_: float


@dataclass(frozen=True)
class Evaluation:
    """How a policy did on one suite of one task."""

    task: str
    robot: str
    suite: str
    seed: int
    """The first one; episode i had seed + i."""
    results: tuple[EpisodeResult, ...]

    @property
    def episodes(self) -> int:
        """How many."""
        return len(self.results)

    @property
    def successes(self) -> int:
        """How many succeeded."""
        return sum(result.success for result in self.results)

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval of the success rate."""
        return wilson_interval(self.successes, self.episodes)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the totals, then every episode."""
        low, high = self.interval
        return {
            "task": self.task,
            "robot": self.robot,
            "suite": self.suite,
            "seed": self.seed,
            "episodes": self.episodes,
            "successes": self.successes,
            "low": low,
            "high": high,
            "mean_steps": float(np.mean([result.steps for result in self.results])),
            "mean_return": float(np.mean([result.return_ for result in self.results])),
            "results": [asdict(result) for result in self.results],
        }


def evaluate(
    make_policy: PolicyFactory,
    task: str,
    *,
    robot: str = "panda",
    suite: str = "nominal",
    episodes: int = 100,
    seed: int = FIRST_SEED,
    workers: int = 2,
    progress: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Run `episodes` episodes with seeds `seed`, `seed` + 1, ...

    Args:
        make_policy: see `PolicyFactory`.
        task: its name.
        robot: shipped name or YAML file.
        suite: nominal, randomized or unseen.
        episodes: how many.
        seed: of the first.
        workers: processes; with 1 everything happens in this one. The result does not depend on it.
        progress: told how many are done.

    Raises:
        InputError: unknown suite, task or robot, or no episodes.
    """
    if episodes < 1:
        raise InputError(f"An evaluation needs at least one episode, got {episodes}.")
    suite_randomization(suite)
    seeds = range(seed, seed + episodes)
    results: list[EpisodeResult] = []
    for result in _run(make_policy, task, robot, suite, seeds, min(workers, episodes)):
        results.append(result)
        progress(len(results))
    return Evaluation(task, robot, suite, seed, tuple(sorted(results, key=lambda result: result.seed)))


def _run(
    make_policy: PolicyFactory, task: str, robot: str, suite: str, seeds: range, workers: int
) -> Iterator[EpisodeResult]:
    if workers <= 1:
        yield from _run_seeds(make_policy, task, robot, suite, seeds)
        return
    parts = [seeds[i : i + 5] for i in range(0, len(seeds), 5)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _prepare, (make_policy, task, robot, suite)) as pool:
        for part in pool.map(_run_part, parts):
            yield from part


_worker: dict[str, Any] = {}
"""A worker process's own environment and policy, made once."""


def _prepare(make_policy: PolicyFactory, task: str, robot: str, suite: str) -> None:
    _worker["env"] = make_env(task, robot, randomization=suite_randomization(suite))
    _worker["policy"] = make_policy()


def _run_part(seeds: range) -> list[EpisodeResult]:
    return [run_episode(_worker["env"], _worker["policy"], seed) for seed in seeds]


def _run_seeds(make_policy: PolicyFactory, task: str, robot: str, suite: str, seeds: range) -> Iterator[EpisodeResult]:
    env = make_env(task, robot, randomization=suite_randomization(suite))
    policy = make_policy()
    try:
        for seed in seeds:
            yield run_episode(env, policy, seed)
    finally:
        env.close()


def run_episode(env: ArmEnv, policy: Policy, seed: int) -> EpisodeResult:
    """One episode from `seed` to its end."""
    observation, _ = env.reset(seed=seed)
    policy.reset()
    steps, total, ended = 0, 0.0, False
    info: dict[str, Any] = {}
    while not ended:
        observation, reward, terminated, truncated, info = env.step(policy.act(observation))
        steps, total, ended = steps + 1, total + reward, terminated or truncated
    return EpisodeResult(seed, bool(info["success"]), steps, total)


def paired_p_value(first: Evaluation, second: Evaluation) -> float:
    """Exact two-sided McNemar test: how surprising the difference is if both are equally good (1: not at all).

    Raises:
        InputError: the two did not meet the same episodes.
    """
    if _conditions(first) != _conditions(second):
        raise InputError(
            f"A paired comparison needs the same episodes; got {_conditions(first)} and {_conditions(second)}."
        )
    pairs = list(zip(first.results, second.results, strict=True))
    only_first = sum(a.success and not b.success for a, b in pairs)
    only_second = sum(b.success and not a.success for a, b in pairs)
    differing = only_first + only_second
    tail = sum(comb(differing, k) for k in range(min(only_first, only_second) + 1)) / 2**differing
    return min(1.0, 2.0 * tail)


def _conditions(evaluation: Evaluation) -> Mapping[str, Any]:
    names = ("task", "robot", "suite", "seed", "episodes")
    return {name: getattr(evaluation, name) for name in names}
