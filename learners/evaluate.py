"""Success rates that can be compared: matched seeds, suites of physics, intervals, paired tests.

Owns the evaluation loop and what came of it. Every policy sees the same starts and the same physics for the same
seeds, none of which were trained on; the environments are made here and used for nothing else. Imports no torch:
whoever evaluates brings a factory that makes the policy, in this process or in another.
"""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.datasets.statistics import wilson_interval
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.curriculum import Curriculum
from understudy.envs.foreign_env import ForeignEnv, is_foreign
from understudy.envs.make import make_env
from understudy.envs.policy import Policy
from understudy.envs.randomization import Randomizer, suite_randomization
from understudy.errors import InputError, UnderstudyError

FIRST_SEED = 10_000
"""First seed of an evaluation; recording counts from 0, learners use others again (see `finetune.py`)."""
PolicyFactory = Callable[[], Policy]
"""Makes a policy; with several workers it is sent to other processes, so it must be picklable."""
Progress = Callable[[int], None]
"""Told how many episodes are done."""


@dataclass(frozen=True)
class Outcome:
    """How one episode went."""

    seed: int
    success: bool
    steps: int
    return_: float
    """Sum of rewards."""


@dataclass(frozen=True)
class Evaluation:
    """A success rate, and the episodes it was counted from."""

    task: str
    robot: str
    suite: str
    seed: int
    """Of the first episode; the others count up from it."""
    outcomes: tuple[Outcome, ...]

    def __post_init__(self) -> None:
        if not self.outcomes:
            raise InputError("An evaluation needs at least one episode.")

    @property
    def episodes(self) -> int:
        """How many episodes were run."""
        return len(self.outcomes)

    @property
    def successes(self) -> int:
        """How many of them succeeded."""
        return sum(outcome.success for outcome in self.outcomes)

    @property
    def rate(self) -> float:
        """Share of successes."""
        return self.successes / self.episodes

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval of the rate."""
        return wilson_interval(self.successes, self.episodes)

    @property
    def mean_steps(self) -> float:
        """Mean length of an episode, control periods."""
        return float(np.mean([outcome.steps for outcome in self.outcomes]))

    @property
    def mean_return(self) -> float:
        """Mean sum of rewards of an episode."""
        return float(np.mean([outcome.return_ for outcome in self.outcomes]))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` reads it back (from the outcomes: the rest follows from them)."""
        low, high = self.interval
        return {
            "task": self.task,
            "robot": self.robot,
            "suite": self.suite,
            "seed": self.seed,
            "episodes": self.episodes,
            "successes": self.successes,
            "rate": self.rate,
            "low": low,
            "high": high,
            "mean_steps": self.mean_steps,
            "mean_return": self.mean_return,
            "outcomes": [dataclasses.asdict(outcome) for outcome in self.outcomes],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """Read what `as_dict` wrote.

        Raises:
            KeyError, TypeError: it is something else.
        """
        outcomes = tuple(Outcome(**row) for row in data["outcomes"])
        return cls(data["task"], data["robot"], data["suite"], int(data["seed"]), outcomes)


def evaluate(
    factory: PolicyFactory,
    task: str,
    robot: str | RobotDescription,
    suite: str = "nominal",
    *,
    episodes: int = 100,
    seed: int = FIRST_SEED,
    workers: int = 1,
    progress: Progress | None = None,
) -> Evaluation:
    """Run a policy over `episodes` seeds from `seed` on, under the physics of a suite.

    Args:
        factory: makes the policy, once a worker; picklable when `workers` is above 1.
        task: name of a task, or an id of Gymnasium's (CartPole-v1), which has no robot and only the suite nominal.
        robot: shipped name, path of a YAML file, or a description.
        suite: nominal, randomized (the physics that training randomizes over) or unseen (always outside of them).
        episodes: how many, at least 1.
        seed: of the first.
        workers: processes; 1 runs everything in this one. The result does not depend on it.
        progress: told how many episodes are done.

    Raises:
        InputError: unknown task, robot or suite, or counts below 1.
    """
    if episodes < 1 or workers < 1:
        raise InputError(f"An evaluation needs at least 1 episode and 1 worker, got {episodes} and {workers}.")
    setting = Setting(task, robot, suite_randomization(suite))
    outcomes = run_episodes(factory, setting, range(seed, seed + episodes), workers=workers, progress=progress)
    name = robot.name if isinstance(robot, RobotDescription) else robot
    return Evaluation(task, name, suite, seed, outcomes)


@dataclass(frozen=True)
class Setting:
    """What an environment is made from; can be sent to another process."""

    task: str
    robot: str | RobotDescription
    randomization: Randomizer | None = None

    def __post_init__(self) -> None:
        if self.randomization is not None and is_foreign(self.task):
            raise InputError(
                f"{self.task!r} has physics of its own, which cannot be randomized; take suite 'nominal', "
                "and randomization 'none'."
            )

    def make(self) -> ArmEnv:
        """A simulated environment of its own; a curriculum is shared by all that one process makes."""
        drawn = self.randomization
        randomization = drawn.share() if isinstance(drawn, Curriculum) else drawn
        return make_env(self.task, self.robot, randomization=randomization)

    def make_any(self) -> ArmEnv | ForeignEnv:
        """The same, or one of Gymnasium's own where the task is an id of its registry; the robot is not used then."""
        return ForeignEnv(self.task) if is_foreign(self.task) else self.make()


def run_episodes(
    factory: PolicyFactory,
    setting: Setting,
    seeds: Sequence[int],
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> tuple[Outcome, ...]:
    """One episode a seed, in the order of the seeds.

    Raises:
        UnderstudyError: a worker process died.
    """
    outcomes = []
    run = _in_this_process if workers == 1 else _in_processes
    for outcome in run(factory, setting, seeds, workers):
        outcomes.append(outcome)
        if progress is not None:
            progress(len(outcomes))
    return tuple(outcomes)


def play_episode(env: ArmEnv | ForeignEnv, policy: Policy, seed: int) -> Outcome:
    """One episode from `seed` to its end."""
    policy.reset()
    observation, _ = env.reset(seed=seed)
    steps, total, done, success = 0, 0.0, False, False
    while not done:
        observation, reward, terminated, truncated, info = env.step(policy.act(observation))
        steps, total = steps + 1, total + reward
        done, success = terminated or truncated, bool(info["success"])
    return Outcome(seed, success, steps, total)


def _in_this_process(factory: PolicyFactory, setting: Setting, seeds: Sequence[int], workers: int) -> Iterator[Outcome]:
    env = setting.make_any()
    try:
        policy = factory()
        for seed in seeds:
            yield play_episode(env, policy, seed)
    finally:
        env.close()


_worker: tuple[ArmEnv | ForeignEnv, Policy] | None = None
"""In a worker process: its environment and its policy, made once."""


def _in_processes(factory: PolicyFactory, setting: Setting, seeds: Sequence[int], workers: int) -> Iterator[Outcome]:
    # spawn: a fork would share PyBullet's and torch's threads and locks with this process
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(seeds))
    try:
        with ProcessPoolExecutor(count, context, initializer=_begin_work, initargs=(factory, setting)) as pool:
            yield from pool.map(_work, seeds)
    except BrokenProcessPool as error:
        raise UnderstudyError(
            "A process of the evaluation died (out of memory, or it could not load the policy); its own words are "
            "above. Evaluate with --workers 1 to see more."
        ) from error


def _begin_work(factory: PolicyFactory, setting: Setting) -> None:
    global _worker
    _worker = (setting.make_any(), factory())


def _work(seed: int) -> Outcome:
    assert _worker is not None
    return play_episode(*_worker, seed)


@dataclass(frozen=True)
class Comparison:
    """Two policies on the same seeds."""

    both: int
    """Seeds that both solved."""
    first_only: int
    second_only: int
    neither: int
    p_value: float
    """Exact McNemar test (two-sided) of "the two are equally good"."""
    difference: float
    """Rate of the second minus rate of the first."""
    low: float
    high: float
    """95% paired bootstrap interval of the difference."""


def compare(first: Evaluation, second: Evaluation, *, draws: int = 10_000, seed: int = 0) -> Comparison:
    """Compare two evaluations seed by seed.

    Raises:
        InputError: they are not of the same task, suite and seeds.
    """
    asked = [(e.task, e.suite, tuple(o.seed for o in e.outcomes)) for e in (first, second)]
    if asked[0] != asked[1]:
        raise InputError(
            f"These evaluations do not match: {first.episodes} seeds from {first.seed} of {first.task} "
            f"({first.suite}) and {second.episodes} from {second.seed} of {second.task} ({second.suite}); "
            "evaluate both on the same."
        )
    a = np.array([outcome.success for outcome in first.outcomes])
    b = np.array([outcome.success for outcome in second.outcomes])
    rng = np.random.default_rng(seed)
    change = b.astype(np.float64) - a
    means = change[rng.integers(0, len(a), (draws, len(a)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    first_only, second_only = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    return Comparison(
        both=int(np.sum(a & b)),
        first_only=first_only,
        second_only=second_only,
        neither=int(np.sum(~a & ~b)),
        p_value=mcnemar_exact(first_only, second_only),
        difference=float(change.mean()),
        low=float(low),
        high=float(high),
    )


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Two-sided p-value that the seeds on which two policies differ fall evenly (binomial, 1/2)."""
    total, fewer = first_only + second_only, min(first_only, second_only)
    tail = sum(math.comb(total, k) for k in range(fewer + 1)) / 2**total
    return float(min(1.0, 2.0 * tail))
