"""Robustness: how often a policy succeeds against each physical parameter alone, all others nominal.

Owns the sweep and its figures as plain data; `robustness_picture.py` draws them. Every value of every parameter is met
with the same seeds, and so with the same starts. The ranges that are swept are those of `hard`; those that training
drew from are marked, so that what breaks inside of them is told from what breaks beyond. Parameters that make no
difference to the task are left out, and named.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.datasets.statistics import wilson_interval
from understudy.envs.arms.robot import RobotDescription, load_robot
from understudy.envs.distributions import AnyDistribution, Choice, Distribution
from understudy.envs.idle_parameters import idle_parameters
from understudy.envs.parameters import PARAMETERS
from understudy.envs.randomization import Randomization, load_randomization
from understudy.envs.tasks.task import make_task
from understudy.errors import InputError, unknown_name
from understudy.learners.evaluate import FIRST_SEED, PolicyFactory, Setting, run_settings

Progress = Callable[[int], None]


@dataclass(frozen=True)
class RobustnessConfig:
    """What is swept.

    Raises:
        InputError: fewer than two values or no episodes, a parameter that the ranges do not name, or ranges that
            cannot be read.
    """

    values: int = 5
    """Values of each parameter, over its whole range; its nominal value comes with them."""
    episodes: int = 10
    """Seeds at each value."""
    ranges: str = "hard"
    """What is swept: a preset or a YAML file."""
    trained: str = "default"
    """What is marked as the training range: a preset, a YAML file, or none."""
    trained_words: str = ""
    """What the picture calls it; by default what `trained` says."""
    parameters: tuple[str, ...] = ()
    """Which parameters; empty for all that the ranges name and that make a difference to the task."""
    seed: int = FIRST_SEED

    def __post_init__(self) -> None:
        if self.values < 2 or self.episodes < 1:
            raise InputError(
                f"A sweep needs at least 2 values and 1 episode at each, got {self.values} and {self.episodes}."
            )
        known = self.swept().distributions
        for name in self.parameters:
            if name not in known:
                raise unknown_name(f"parameter of {self.ranges!r}", name, known)
        load_randomization(self.trained)  # what is wrong with it is told before anything is played

    def swept(self) -> Randomization:
        """The ranges.

        Raises:
            InputError: they name nothing.
        """
        ranges = load_randomization(self.ranges)
        if ranges is None:
            raise InputError("A sweep needs ranges: a preset or a YAML file, not none.")
        return ranges


@dataclass(frozen=True)
class Point:
    """Success at one value."""

    value: float
    successes: int
    episodes: int

    @property
    def rate(self) -> float:
        """Share of successes."""
        return self.successes / self.episodes

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval."""
        return wilson_interval(self.successes, self.episodes)


@dataclass(frozen=True)
class Sweep:
    """Success against one parameter."""

    parameter: str
    nominal: float
    logarithmic: bool
    choice: bool
    """Whether its values are some of a list, with nothing between them."""
    trained: tuple[float, float] | None
    """Where training draws it from; None: it leaves it nominal."""
    points: tuple[Point, ...]
    """By rising value."""

    @property
    def worst(self) -> Point:
        """Where it succeeds least; of several such values the one nearest to nominal."""
        return min(self.points, key=lambda point: (point.rate, abs(point.value - self.nominal)))


@dataclass(frozen=True)
class Robustness:
    """All sweeps of one policy."""

    policy: str
    task: str
    robot: str
    trained: str
    """What the training ranges are called."""
    sweeps: tuple[Sweep, ...]
    left_out: Mapping[str, str]
    """Parameter of the ranges -> why it makes no difference to the task."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        facts = dataclasses.asdict(self)
        for sweep, row in zip(self.sweeps, facts["sweeps"], strict=True):
            for point, entry in zip(sweep.points, row["points"], strict=True):
                entry["rate"], (entry["low"], entry["high"]) = point.rate, point.interval
        return facts


@dataclass(frozen=True)
class Plan:
    """What is tried."""

    values: Mapping[str, tuple[float, ...]]
    """Parameter -> its values, the nominal one left out."""
    left_out: Mapping[str, str]
    """Parameter of the ranges -> why it makes no difference to the task."""
    episodes: int
    """Of the whole sweep."""


def plan_sweep(task: str, robot: RobotDescription, config: RobustnessConfig) -> Plan:
    """What a sweep of this task on this robot tries.

    Raises:
        InputError: a parameter that was asked for makes no difference to the task, or none of the ranges' does.
    """
    idle = idle_parameters(make_task(task), robot)
    swept = config.swept().distributions
    for name in config.parameters:
        if name in idle:
            raise InputError(
                f"{name!r} makes no difference to {task!r} on {robot.name!r}: {idle[name]}. Leave it out of the sweep."
            )
    felt = {name: ranges for name, ranges in swept.items() if name not in idle}
    if not felt:
        raise InputError(
            f"Nothing that {config.ranges!r} varies makes a difference to {task!r} on {robot.name!r}; sweep the ranges "
            "of a preset ('hard') or of another file."
        )
    chosen = {name: ranges for name, ranges in felt.items() if not config.parameters or name in config.parameters}
    values = {name: _values(name, ranges, config.values) for name, ranges in chosen.items()}
    return Plan(
        values,
        {name: idle[name] for name in swept if name in idle},
        config.episodes * (1 + sum(map(len, values.values()))),
    )


def measure_robustness(
    factory: PolicyFactory,
    task: str,
    robot: str | RobotDescription,
    config: RobustnessConfig = RobustnessConfig(),
    *,
    policy: str = "",
    workers: int = 1,
    progress: Progress | None = None,
) -> Robustness:
    """Sweep every parameter alone.

    Args:
        factory: makes the policy; picklable when `workers` is above 1.
        task: name of a task.
        robot: shipped name, path of a YAML file, or a description.
        config: what is swept.
        policy: what the picture calls it.
        workers: processes, each of which plays a share of every value's episodes.
        progress: told how many episodes are done, of those of `plan_sweep`.

    Raises:
        InputError: see `plan_sweep`.
    """
    description = robot if isinstance(robot, RobotDescription) else load_robot(robot)
    plan = plan_sweep(task, description, config)
    tried = [(name, value) for name, values in plan.values.items() for value in values]
    fixed = [Randomization(f"{name}={value:g}", {name: Choice((value,))}) for name, value in tried]
    settings = [Setting(task, description, randomization) for randomization in (None, *fixed)]
    seeds = range(config.seed, config.seed + config.episodes)
    outcomes = run_settings(factory, settings, seeds, workers=workers, progress=progress)
    as_built, *others = (sum(outcome.success for outcome in row) for row in outcomes)
    sweeps = []
    for name in plan.values:  # the nominal value of every parameter is the same episodes
        points = [Point(PARAMETERS[name].nominal, as_built, config.episodes)]
        points += [
            Point(value, won, config.episodes)
            for (swept, value), won in zip(tried, others, strict=True)
            if swept == name
        ]
        sweeps.append(_sweep(name, config, points))
    words = config.trained_words or config.trained
    return Robustness(policy, task, description.name, words, tuple(sweeps), plan.left_out)


def _values(name: str, distribution: AnyDistribution, count: int) -> tuple[float, ...]:
    """The values to try, the nominal one left out."""
    low, high = distribution.bounds
    if isinstance(distribution, Choice):
        values = sorted(set(distribution.values))
    elif distribution.shape == "log_uniform":
        values = np.geomspace(low, high, count).tolist()
    else:
        values = np.linspace(low, high, count).tolist()
    return tuple(value for value in values if not math.isclose(value, PARAMETERS[name].nominal, abs_tol=1e-12))


def _sweep(name: str, config: RobustnessConfig, points: Sequence[Point]) -> Sweep:
    trained = load_randomization(config.trained)
    inner = None if trained is None else trained.distributions.get(name)
    swept = config.swept().distributions[name]
    return Sweep(
        parameter=name,
        nominal=PARAMETERS[name].nominal,
        logarithmic=isinstance(swept, Distribution) and swept.shape == "log_uniform",
        choice=isinstance(swept, Choice),
        trained=None if inner is None else inner.bounds,
        points=tuple(sorted(points, key=lambda point: point.value)),
    )


def summary(found: Robustness) -> list[Mapping[str, Any]]:
    """One row a parameter, the least robust first: where it succeeds least, and how often there."""
    rows: list[Mapping[str, Any]] = []
    for sweep in sorted(found.sweeps, key=lambda one: (one.worst.rate, one.parameter)):
        worst = sweep.worst
        inside = sweep.trained is not None and sweep.trained[0] <= worst.value <= sweep.trained[1]
        rows.append(
            {
                "parameter": sweep.parameter,
                "worst at": worst.value,
                "success there": f"{worst.successes}/{worst.episodes}",
                "in the training range": inside,
            }
        )
    return rows
