"""Success rates that can be compared: matched seeds, suites of physics, intervals; `comparison.py` pairs them.

Owns the evaluation loop and what came of it. Every policy sees the same starts and the same physics for the same
seeds, none of which were trained on; the environments are made here and used for nothing else. Imports no torch:
whoever evaluates brings a factory that makes the policy, in this process or in another.
"""

from __future__ import annotations

import dataclasses
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
Job = tuple[int, int]
"""(index of the setting, seed) of an episode."""


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
    if episodes < 1:
        raise InputError(f"An evaluation needs at least 1 episode, got {episodes}.")
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
        return make_env(self.task, self.robot, randomization=self.randomizer())

    def randomizer(self) -> Randomizer | None:
        """What one environment draws its physics from."""
        drawn = self.randomization
        return drawn.share() if isinstance(drawn, Curriculum) else drawn

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
    return run_settings(factory, [setting], seeds, workers=workers, progress=progress)[0]


def run_settings(
    factory: PolicyFactory,
    settings: Sequence[Setting],
    seeds: Sequence[int],
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[tuple[Outcome, ...]]:
    """One episode a seed in each of several physics; every process makes one environment and one policy for all.

    Args:
        factory: makes the policy; picklable when `workers` is above 1.
        settings: of one task on one robot.
        seeds: of the episodes in each setting.
        workers: processes; 1 runs everything in this one. The result does not depend on it.
        progress: told how many episodes are done, of len(settings) * len(seeds).

    Returns:
        The outcomes of each setting, in the order of the seeds.

    Raises:
        InputError: settings of several tasks or robots, or no worker.
        UnderstudyError: a worker process died.
    """
    if workers < 1:
        raise InputError(f"An evaluation needs at least 1 worker process, got {workers}.")
    if any((one.task, one.robot) != (settings[0].task, settings[0].robot) for one in settings):
        raise InputError("Settings that are run together must be of one task on one robot; run the others apart.")
    jobs = [(index, seed) for index in range(len(settings)) for seed in seeds]
    outcomes: list[Outcome] = []
    run = _in_this_process if workers == 1 else _in_processes
    for outcome in run(factory, settings, jobs, workers):
        outcomes.append(outcome)
        if progress is not None:
            progress(len(outcomes))
    count = len(seeds)
    return [tuple(outcomes[index * count : (index + 1) * count]) for index in range(len(settings))]


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


class _Stage:
    """An environment and a policy, made once, for episodes in any of the settings."""

    def __init__(self, factory: PolicyFactory, settings: Sequence[Setting]) -> None:
        self._settings = settings
        self._shown = 0
        self.env = settings[0].make_any()
        try:
            self._policy = factory()
        except BaseException:
            self.env.close()
            raise

    def play(self, job: Job) -> Outcome:
        index, seed = job
        if index != self._shown:
            assert isinstance(self.env, ArmEnv)  # only its physics can differ
            self._shown, self.env.randomization = index, self._settings[index].randomizer()
        return play_episode(self.env, self._policy, seed)


def _in_this_process(
    factory: PolicyFactory, settings: Sequence[Setting], jobs: Sequence[Job], workers: int
) -> Iterator[Outcome]:
    stage = _Stage(factory, settings)
    try:
        yield from map(stage.play, jobs)
    finally:
        stage.env.close()


_stage: _Stage | None = None
"""In a worker process: its environment and its policy."""


def _in_processes(
    factory: PolicyFactory, settings: Sequence[Setting], jobs: Sequence[Job], workers: int
) -> Iterator[Outcome]:
    # spawn: a fork would share PyBullet's and torch's threads and locks with this process
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(jobs))
    try:
        with ProcessPoolExecutor(count, context, initializer=_begin_work, initargs=(factory, settings)) as pool:
            yield from pool.map(_work, jobs)
    except BrokenProcessPool as error:
        raise UnderstudyError(
            "A process of the evaluation died (out of memory, or it could not load the policy); its own words are "
            "above. Evaluate with --workers 1 to see more."
        ) from error


def _begin_work(factory: PolicyFactory, settings: Sequence[Setting]) -> None:
    global _stage
    _stage = _Stage(factory, settings)


def _work(job: Job) -> Outcome:
    assert _stage is not None
    return _stage.play(job)
