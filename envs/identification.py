"""Identification: simulator parameters from recorded motion.

Recorded commands are stepped again in simulation, and the parameters are sought with which the simulated observations
come closest to the recorded ones: CMA-ES, from the `cma` package, and some steps of Gauss-Newton at its end. The error
of an episode with K rows is

    e(x) = 1/K sum_rows [ mean_j (dq_j / s_q)^2 + |dp_tool|^2 / s_p^2 + sum_objects h(|dp_object| / s_p) + h(dw / s_w) ]

with s_q = 0.01 rad, s_p = 5 mm, s_w = 0.2 mm of the gripper's opening w, and h(r) = min(r, 6)^2: an object that slipped
tells nothing by how far it then rolled.

The arm's own parameters are fitted first, to joints and tool alone and to what comes before a first touch
(`free_motion.py`); those of objects, contact and grip after that, to everything. How an object slips, tips or is
pressed onto the table is next to chaotic, and would pull at what free motion tells well.

How sure is the fit? The residuals of neighbouring ticks are anything but independent, so that the curvature of the
error alone would promise far too much. Episodes are independent: the covariance is the cluster-robust sandwich
(Liang and Zeger 1986) A^-1 B A^-1 with A = sum_i J_i' J_i and B = sum_i (J_i' r_i)(J_i' r_i)' over episodes i, to
first order what a bootstrap over episodes gives, without running the search a thousand times. First order knows one
valley only; so the episodes are resampled as well (Efron 1979) among all places that the search has tried, and the
interval takes in where the resampled episodes have their least error, each such place as unsure as the best one is.
Readings are taken to be no better than `FLOOR`, or a perfect fit would be sure of everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.episode import Episode
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.distributions import AnyDistribution, Distribution, Shape
from understudy.envs.free_motion import free_motion
from understudy.envs.identification_search import (
    EXPLAINED,
    LEAST_WIDTH,
    SEARCHED,
    Errors,
    Problem,
    Progress,
    from_unit,
    least_width,
    logarithmic,
    polish,
    search,
)
from understudy.envs.parameters import PARAMETERS
from understudy.envs.randomization import load_randomization
from understudy.envs.replay import Channel, ReplayConfig, Replayer
from understudy.envs.tasks.task import Task
from understudy.errors import InputError, unknown_name

Vector = NDArray[np.float64]

OWN = ("arm", "motors", "timing")
HANDLING = ("gripper_strength_scale",)
"""Groups of parameters that joints and tool tell, and what in them only an object does."""
LEAST_EVALUATIONS = 10
CLEAR = 0.5
"""A parameter is told when its 95% interval is narrower than this share of the range searched."""


@dataclass(frozen=True)
class IdentifyConfig:
    """What is sought, and how long.

    Raises:
        InputError: a parameter that is unknown, named twice or that motion cannot tell, or counts that are too small.
    """

    parameters: tuple[str, ...] = ("motor_gain_scale", "action_delay_s", "joint_friction_nm")
    held_out: float = 0.25
    """Share of the episodes that the fit is judged on, and never made with."""
    evaluations: int = 200
    """Of the error of all training episodes, at most."""
    channel: Channel = "requested"
    """Commands that are stepped again: requested (through the Guard, as recorded), or sent."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.parameters:
            raise InputError(f"Identification needs parameters to fit, of: {', '.join(SEARCHED)}.")
        for name in self.parameters:
            if name in PARAMETERS and name not in SEARCHED:
                raise InputError(f"Motion does not tell {name!r}; what can be fitted: {', '.join(SEARCHED)}.")
            if name not in SEARCHED:
                raise unknown_name("parameter to fit", name, SEARCHED)
        if len(set(self.parameters)) != len(self.parameters):
            raise InputError(f"Name each parameter once, got {', '.join(self.parameters)}.")
        if not 0.0 < self.held_out < 1.0:
            raise InputError(f"held_out must be a share between 0 and 1, got {self.held_out}.")
        if self.evaluations < LEAST_EVALUATIONS:
            raise InputError(f"evaluations must be at least {LEAST_EVALUATIONS}, got {self.evaluations}.")


@dataclass(frozen=True)
class FittedParameter:
    """One parameter as the data tell it."""

    name: str
    nominal: float
    value: float
    low: float
    high: float
    """95% interval, inside the range searched."""
    told: bool
    """Whether the data tell it: the interval is clearly narrower than the range searched."""
    at_edge: bool
    """The fit lies at an end of the range searched: what is right may lie beyond."""


@dataclass(frozen=True)
class Fit:
    """What identification found."""

    parameters: tuple[FittedParameter, ...]
    alike: tuple[tuple[str, str, float], ...]
    """Pairs of parameters whose errors make up for each other, with their correlation (beyond 0.9 either way)."""
    train_nominal: Errors
    train_fitted: Errors
    held_out_nominal: Errors
    held_out_fitted: Errors
    train_episodes: int
    held_out_episodes: int
    evaluations: int
    done: bool
    """Whether the search had come to its end; else more evaluations may find better, and the intervals are wider."""

    @property
    def values(self) -> dict[str, float]:
        """Name -> fitted value."""
        return {one.name: one.value for one in self.parameters}

    def distributions(self) -> dict[str, AnyDistribution]:
        """A range per parameter: the 95% interval of what the data tell, else the preset `default` (or nominal)."""
        default = load_randomization("default")
        assert default is not None
        ranges: dict[str, AnyDistribution] = {}
        for one in self.parameters:
            shape: Shape = "log_uniform" if logarithmic(one.name) else "uniform"
            if one.told:
                ranges[one.name] = Distribution(shape, one.low, one.high)
            else:
                ranges[one.name] = default.distributions.get(
                    one.name, Distribution("uniform", one.nominal, one.nominal)
                )
        return ranges


def identify(
    robot: RobotDescription,
    task: Task,
    episodes: Sequence[Episode],
    config: IdentifyConfig = IdentifyConfig(),
    progress: Progress | None = None,
) -> Fit:
    """Fit `config.parameters` to recorded episodes of a robot and task.

    Only what was observed is used, as from hardware: neither simulator states nor the physics stored with an episode.

    Raises:
        InputError: fewer than three episodes, or episodes that cannot be stepped again.
        MissingExtra: `cma` is not installed.
    """
    train, held_out = split_episodes(episodes, config)
    with Replayer(robot, task, ReplayConfig(config.channel)) as replayer:
        stages: list[_Stage] = []
        known: dict[str, float] = {}
        for names, objects in _stages(config.parameters):
            problem = Problem(replayer, names, known, objects=objects)
            shown = train if objects else [free_motion(episode, task.objects) for episode in train]
            share = max(LEAST_EVALUATIONS, config.evaluations * len(names) // len(config.parameters))
            stages.append(_fit_stage(problem, shown, share, config.seed, _after(progress, stages), survey=objects))
            known |= {one.name: one.value for one in stages[-1].parameters}
        problem = Problem(replayer, config.parameters)
        nominal = {name: PARAMETERS[name].nominal for name in config.parameters}
        before = [problem.errors(part, nominal) for part in (train, held_out)]
        after = [problem.errors(part, known) for part in (train, held_out)]
    found = {one.name: one for stage in stages for one in stage.parameters}
    return Fit(
        tuple(found[name] for name in config.parameters),
        tuple(pair for stage in stages for pair in stage.alike),
        *(before[0], after[0], before[1], after[1]),
        *(len(train), len(held_out), sum(stage.evaluations for stage in stages)),
        all(stage.done for stage in stages),
    )


@dataclass(frozen=True)
class _Stage:
    """What came of the parameters that were sought together."""

    parameters: tuple[FittedParameter, ...]
    alike: tuple[tuple[str, str, float], ...]
    evaluations: int
    done: bool


def _stages(names: tuple[str, ...]) -> list[tuple[tuple[str, ...], bool]]:
    """(names, whether objects count) of each search: the arm's own parameters from its free motion, then the others."""
    own = tuple(name for name in names if PARAMETERS[name].group in OWN and name not in HANDLING)
    others = tuple(name for name in names if name not in own)
    return [(part, objects) for part, objects in ((own, False), (others, True)) if part]


def _after(progress: Progress | None, stages: Sequence[_Stage]) -> Progress | None:
    """Counts on from the stages before."""
    before = sum(stage.evaluations for stage in stages)
    return None if progress is None else lambda done, error: progress(before + done, error)


def _fit_stage(
    problem: Problem,
    train: Sequence[Episode],
    evaluations: int,
    seed: int,
    progress: Progress | None,
    *,
    survey: bool,
) -> _Stage:
    found = search(problem, train, evaluations, seed, progress, survey=survey)
    best, local = polish(problem, train, found.best)
    low, high = found.resampled(best, problem.episode_errors(train, best), seed)
    spread = local.covariance(len(train))
    # how far the fit may still be from the least error counts too; where errors are left, so do how far the search
    # was still looking, and where else the episodes had it best: there may be a better valley
    halves = 1.96 * np.sqrt(np.diag(spread)) + np.abs(np.clip(best + local.step, 0.0, 1.0) - best)
    explained = local.error / len(train) <= EXPLAINED**2
    halves = halves if explained else halves + found.width
    low, high = np.minimum(low, best), np.maximum(high, best)
    ends = zip((low - halves).tolist(), (high + halves).tolist(), strict=True)
    parameters = tuple(map(_fitted, problem.names, best.tolist(), ends))
    done = explained or bool(np.max(found.width) < LEAST_WIDTH)
    return _Stage(parameters, _alike(problem.names, spread), len(found.places), done)


def split_episodes(episodes: Sequence[Episode], config: IdentifyConfig) -> tuple[list[Episode], list[Episode]]:
    """(to fit, held out), drawn by the seed.

    Raises:
        InputError: fewer than three episodes.
    """
    if len(episodes) < 3:
        raise InputError(f"Identification needs at least 3 episodes (2 to fit, 1 held out), got {len(episodes)}.")
    order = np.random.default_rng(config.seed).permutation(len(episodes))
    count = min(max(1, round(config.held_out * len(episodes))), len(episodes) - 2)
    held_out = set(order[:count].tolist())
    return (
        [episode for index, episode in enumerate(episodes) if index not in held_out],
        [episode for index, episode in enumerate(episodes) if index in held_out],
    )


def _fitted(name: str, at: float, ends: tuple[float, float]) -> FittedParameter:
    least = least_width(name)
    left, right = max(0.0, min(ends[0], at - least)), min(1.0, max(ends[1], at + least))
    return FittedParameter(
        name=name,
        nominal=PARAMETERS[name].nominal,
        value=from_unit(name, at),
        low=from_unit(name, left),
        high=from_unit(name, right),
        told=ends[1] - ends[0] < CLEAR,
        at_edge=not 0.01 < at < 0.99 and not _at_legal_end(name, at),
    )


def _at_legal_end(name: str, at: float) -> bool:
    """No friction, no delay: the search ends where sense does."""
    return at <= 0.01 and SEARCHED[name][0] == PARAMETERS[name].low


def _alike(names: tuple[str, ...], spread: Vector) -> tuple[tuple[str, str, float], ...]:
    scale = np.sqrt(np.diag(spread))
    pairs = []
    for i in range(len(names)):
        for j in range(i):
            correlation = float(spread[i, j] / (scale[i] * scale[j]))
            if abs(correlation) > 0.9:
                pairs.append((names[j], names[i], correlation))
    return tuple(pairs)
