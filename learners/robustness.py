"""Robustness: how often a policy succeeds against each physical parameter alone, all others nominal.

Owns the sweep, its figures as plain data, and its picture. Every value of every parameter is met with the same seeds,
and so with the same starts. The ranges that are swept are those of `hard`; those that training draws from (`default`)
are marked, so that what breaks inside of them is told from what breaks beyond.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy.datasets.drawing.picture_style import BLUE, INK, RED, SOFT, new_figure, prepare, save
from understudy.datasets.statistics import wilson_interval
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.distributions import Choice, Distribution
from understudy.envs.parameters import PARAMETERS
from understudy.envs.randomization import Randomization, load_randomization
from understudy.errors import InputError, unknown_name
from understudy.learners.evaluate import FIRST_SEED, PolicyFactory, Setting, run_episodes

Progress = Callable[[int], None]
COLUMNS = 4
BAND = "#e9e2cc"


@dataclass(frozen=True)
class RobustnessConfig:
    """What is swept.

    Raises:
        InputError: fewer than two values or no episodes, or a parameter that the ranges do not name.
    """

    values: int = 5
    """Values of each parameter, over its whole range; its nominal value comes with them."""
    episodes: int = 10
    """Seeds at each value."""
    ranges: str = "hard"
    """What is swept: a preset or a YAML file."""
    trained: str = "default"
    """What is marked as the training range: a preset, a YAML file, or none."""
    parameters: tuple[str, ...] = ()
    """Which parameters; empty for all that the ranges name."""
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
    sweeps: tuple[Sweep, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        facts = dataclasses.asdict(self)
        for sweep, row in zip(self.sweeps, facts["sweeps"], strict=True):
            for point, entry in zip(sweep.points, row["points"], strict=True):
                entry["rate"], (entry["low"], entry["high"]) = point.rate, point.interval
        return facts


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
        workers: processes.
        progress: told how many episodes are done, of `episodes_of(config)`.
    """
    seeds = range(config.seed, config.seed + config.episodes)
    done = 0

    def succeed(randomization: Randomization | None) -> int:
        nonlocal done
        setting = Setting(task, robot, randomization)
        advance = None if progress is None else (lambda count, done=done: progress(done + count))
        outcomes = run_episodes(factory, setting, seeds, workers=workers, progress=advance)
        done += len(outcomes)
        return sum(outcome.success for outcome in outcomes)

    as_built = succeed(None)  # the nominal value of every parameter is the same episodes
    sweeps = []
    for name, values in _values(config).items():
        nominal = PARAMETERS[name].nominal
        points = [Point(nominal, as_built, config.episodes)]
        for value in values:
            fixed = Randomization(f"{name}={value:g}", {name: Choice((value,))})
            points.append(Point(value, succeed(fixed), config.episodes))
        sweeps.append(_sweep(name, config, points))
    shown = robot.name if isinstance(robot, RobotDescription) else robot
    return Robustness(policy, task, shown, tuple(sweeps))


def episodes_of(config: RobustnessConfig) -> int:
    """How many episodes a sweep plays."""
    return config.episodes * (1 + sum(map(len, _values(config).values())))


def _values(config: RobustnessConfig) -> dict[str, list[float]]:
    """Parameter -> the values to try, its nominal one left out."""
    found = {}
    for name, distribution in config.swept().distributions.items():
        if config.parameters and name not in config.parameters:
            continue
        low, high = distribution.bounds
        if isinstance(distribution, Choice):
            values = sorted(set(distribution.values))
        elif distribution.shape == "log_uniform":
            values = np.geomspace(low, high, config.values).tolist()
        else:
            values = np.linspace(low, high, config.values).tolist()
        found[name] = [value for value in values if not math.isclose(value, PARAMETERS[name].nominal, abs_tol=1e-12)]
    return found


def _sweep(name: str, config: RobustnessConfig, points: Sequence[Point]) -> Sweep:
    trained = load_randomization(config.trained)
    inner = None if trained is None else trained.distributions.get(name)
    swept = config.swept().distributions[name]
    return Sweep(
        parameter=name,
        nominal=PARAMETERS[name].nominal,
        logarithmic=isinstance(swept, Distribution) and swept.shape == "log_uniform",
        trained=None if inner is None else inner.bounds,
        points=tuple(sorted(points, key=lambda point: point.value)),
    )


def draw_robustness(found: Robustness, path: Path) -> None:
    """One panel a parameter, the least robust first: success, its interval, the nominal value, the training range.

    Raises:
        InputError: the picture may not be written there.
    """
    sweeps = sorted(found.sweeps, key=lambda sweep: (sweep.worst.rate, sweep.parameter))
    rows = _rows(len(sweeps))
    figure = new_figure(110 + 235 * len(rows), path)
    grid = figure.add_gridspec(len(rows), 1, hspace=0.55)
    left = iter(sweeps)
    for row, count in enumerate(rows):
        cells = grid[row, 0].subgridspec(1, count, wspace=0.08)
        for column in range(count):
            axis = figure.add_subplot(cells[0, column])
            _draw_sweep(axis, next(left))
            axis.tick_params(labelleft=column == 0)
    episodes = sweeps[0].points[0].episodes if sweeps else 0
    head = f"{found.policy or 'policy'} at {found.task} on {found.robot}: success against each parameter alone"
    legend = f"{episodes} episodes a point, 95% intervals. Band: training range. Dashed: nominal. Square: below half."
    height_px = figure.get_size_inches()[1] * figure.dpi
    figure.text(0.012, 1 - 30 / height_px, head, fontsize=15, color=INK)
    figure.text(0.012, 1 - 54 / height_px, legend, fontsize=11, color=SOFT)
    figure.subplots_adjust(left=0.035, right=0.99, top=1 - 95 / height_px, bottom=35 / height_px)
    save(figure, path)


def _rows(panels: int) -> list[int]:
    """How many panels stand in each row: no more than `COLUMNS`, and one more or less than in any other row."""
    rows = math.ceil(panels / COLUMNS)
    return [panels // rows + (row < panels % rows) for row in range(rows)]


def _draw_sweep(axis: Any, sweep: Sweep) -> None:
    unit = PARAMETERS[sweep.parameter].unit
    prepare(axis, sweep.parameter if unit == "1" else f"{sweep.parameter} [{unit}]")
    if sweep.trained is not None:
        axis.axvspan(*sweep.trained, color=BAND, zorder=0)
    axis.axvline(sweep.nominal, color=SOFT, linestyle="--", linewidth=1.2)
    values = [point.value for point in sweep.points]
    rates = np.array([point.rate for point in sweep.points])
    lows, highs = np.array([point.interval for point in sweep.points]).T
    axis.vlines(values, lows, highs, color=BLUE, linewidth=2.0, alpha=0.45)
    axis.plot(values, rates, color=BLUE, marker="o", markersize=4, linewidth=1.6)
    broken = [point for point in sweep.points if point.rate < 0.5]
    axis.plot(
        [point.value for point in broken],
        [point.rate for point in broken],
        color=RED,
        marker="s",
        markersize=7,
        linestyle="none",
    )
    if sweep.logarithmic:
        axis.set_xscale("log")
        axis.set_xticks([values[0], sweep.nominal, values[-1]])
        axis.set_xticks([], minor=True)
        axis.set_xticklabels([f"{value:.2g}" for value in (values[0], sweep.nominal, values[-1])])
    else:
        axis.locator_params(axis="x", nbins=4)  # more labels of small numbers run into each other
    axis.set_ylim(-0.04, 1.04)
    axis.set_yticks([0.0, 0.5, 1.0], ["0%", "50%", "100%"])


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
