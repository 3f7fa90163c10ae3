"""Identification: simulator parameters from recorded motion.

Recorded commands are stepped again in simulation, and the parameters are sought with which the simulated observations
come closest to the recorded ones: CMA-ES, from the `cma` package, and some steps of Gauss-Newton at its end. The error
of an episode with K rows is

    e(x) = 1/K sum_rows [ mean_j (dq_j / s_q)^2 + |dp_tool|^2 / s_p^2 + sum_objects h(|dp_object| / s_p) ]

with s_q = 0.01 rad, s_p = 5 mm, and h(r) = min(r, 6)^2: an object that slipped tells nothing by how far it then rolled.

How sure is the fit? The residuals of neighbouring ticks are anything but independent, so that the curvature of the
error alone would promise far too much. Episodes are independent: the covariance is the cluster-robust sandwich
(Liang and Zeger 1986) A^-1 B A^-1 with A = sum_i J_i' J_i and B = sum_i (J_i' r_i)(J_i' r_i)' over episodes i, to
first order what a bootstrap over episodes gives, without running the search a thousand times. Readings are taken to be
no better than `FLOOR`, or a perfect fit would be sure of everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.episode import Episode
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.sim_motors import PHYSICS_HZ
from understudy.envs.distributions import AnyDistribution, Distribution
from understudy.envs.parameters import PARAMETERS
from understudy.envs.randomization import load_randomization
from understudy.envs.replay import Channel, ReplayConfig, Replayer
from understudy.envs.tasks.task import Task
from understudy.errors import InputError, MissingExtra, unknown_name

Vector = NDArray[np.float64]
Progress = Callable[[int, float], None]
"""Told how many evaluations are done, and the least error so far."""

JOINT_SCALE_RAD = 0.01
PLACE_SCALE_M = 0.005
FARTHEST = 6.0
"""Objects count as no further off than this many `PLACE_SCALE_M`."""
FLOOR = 0.01
"""What a reading is good to, of the scales above: 0.1 mrad and 0.05 mm, once an episode."""
DIFFERENCE = 0.02
"""Step of the differences around the fit, of the range searched."""
POLISHING_STEPS = 4
CLEAR = 0.5
"""A parameter is told when its 95% interval is narrower than this share of the range searched."""
LEAST_WIDTH = 0.005
"""Half-width of the ranges written, at least, of the range searched: no simulator is exact."""

SEARCHED: Mapping[str, tuple[float, float]] = {
    "object_mass_scale": (0.2, 5.0),
    "object_inertia_scale": (0.2, 5.0),
    "object_linear_damping": (0.0, 2.0),
    "object_angular_damping": (0.0, 2.0),
    "object_friction_scale": (0.1, 3.0),
    "object_rolling_friction": (0.0, 0.01),
    "object_spinning_friction_scale": (0.1, 10.0),
    "object_restitution": (0.0, 1.0),
    "finger_friction_scale": (0.1, 3.0),
    "finger_spinning_friction_scale": (0.1, 10.0),
    "table_friction_scale": (0.1, 3.0),
    "table_rolling_friction": (0.0, 0.01),
    "table_spinning_friction": (0.0, 0.01),
    "link_mass_scale": (0.5, 2.0),
    "link_inertia_scale": (0.3, 3.0),
    "joint_damping_scale": (0.1, 1000.0),
    "joint_friction_nm": (0.0, 10.0),
    "motor_gain_scale": (0.2, 3.0),
    "motor_strength_scale": (0.05, 1.5),
    "gripper_strength_scale": (0.05, 3.0),
    "gravity_m_s2": (9.0, 10.6),
    "action_delay_s": (0.0, 0.15),
    "observation_delay_s": (0.0, 0.1),
}
"""What motion can tell, and where it is sought; scales on a logarithmic axis."""


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
        if self.evaluations < 10:
            raise InputError(f"evaluations must be at least 10, got {self.evaluations}.")


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
class Errors:
    """Root mean square distances between recorded and simulated, over episodes and ticks."""

    joint_rad: float
    tool_m: float
    object_m: float | None
    """None where no object was recorded."""
    combined: float
    """Root of the error that is minimised."""


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
            shape = "log_uniform" if _logarithmic(one.name) else "uniform"
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
        problem = _Problem(replayer, config.parameters)
        best, count = _search(problem, train, config, progress)
        best, local = _polish(problem, train, best)
        nominal = {name: PARAMETERS[name].nominal for name in config.parameters}
        fitted = problem.physics(best)
        before = [problem.errors(part, nominal) for part in (train, held_out)]
        after = [problem.errors(part, fitted) for part in (train, held_out)]
    spread = local.covariance(len(train))
    # how far the fit may still be from the least error counts too
    halves = 1.96 * np.sqrt(np.diag(spread)) + np.abs(np.clip(best + local.step, 0.0, 1.0) - best)
    parameters = tuple(map(_fitted, config.parameters, best.tolist(), halves.tolist()))
    alike = _alike(config.parameters, spread)
    return Fit(parameters, alike, before[0], after[0], before[1], after[1], len(train), len(held_out), count)


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


class _Problem:
    """Errors of episodes as a function of a place in the unit box."""

    def __init__(self, replayer: Replayer, names: tuple[str, ...]) -> None:
        self._replayer = replayer
        self.names = names

    def physics(self, place: Vector) -> dict[str, float]:
        """Parameters at a place (P,) in [0, 1]."""
        return {name: from_unit(name, float(at)) for name, at in zip(self.names, place, strict=True)}

    def residuals(self, episode: Episode, place: Vector) -> Vector:
        """(R,) whose squares sum up to the episode's error."""
        rows = self._differences(episode, self.physics(place))
        count = len(rows["joint_position"])
        parts = [rows["joint_position"] / JOINT_SCALE_RAD / math.sqrt(rows["joint_position"].shape[1])]
        for key, values in rows.items():
            if key != "joint_position":
                away = values / PLACE_SCALE_M
                lengths = np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12)
                farthest = math.inf if key == "tool_position" else FARTHEST
                parts.append(away * np.minimum(1.0, farthest / lengths))
        return np.concatenate([part.ravel() for part in parts]) / math.sqrt(count)

    def errors(self, episodes: Sequence[Episode], physics: Mapping[str, float]) -> Errors:
        """Root mean squares over episodes, in units."""
        found: dict[str, list[Vector]] = {}
        combined = []
        place = np.array([to_unit(name, physics[name]) for name in self.names])
        for episode in episodes:
            for key, values in self._differences(episode, physics).items():
                kind = key if key in ("joint_position", "tool_position") else "object"
                found.setdefault(kind, []).append(
                    np.sum(values**2, axis=1) / (values.shape[1] if "joint" in key else 1)
                )
            combined.append(float(np.sum(self.residuals(episode, place) ** 2)))

        def rms(kind: str) -> float | None:
            return float(np.sqrt(np.mean(np.concatenate(found[kind])))) if kind in found else None

        joint, tool = rms("joint_position"), rms("tool_position")
        # every episode that can be replayed has joints, and so a tool pose
        assert joint is not None
        assert tool is not None
        return Errors(joint, tool, rms("object"), math.sqrt(float(np.mean(combined))))

    def _differences(self, episode: Episode, physics: Mapping[str, float]) -> dict[str, Vector]:
        """Key -> (K, ...) simulated minus recorded, of joints, tool and objects."""
        seen = self._replayer.observe_again(episode, physics)
        rows = {}
        for key, values in seen.items():
            wanted = key in ("joint_position", "tool_position") or (
                key.endswith("_position") and not key.startswith(("goal_", "gripper_"))
            )
            if wanted and key in episode.observations:
                recorded = np.concatenate([episode.observations[key][1:], episode.final_observation[key][None]])
                rows[key] = values - recorded.astype(np.float64)
        return rows


def _search(
    problem: _Problem, train: Sequence[Episode], config: IdentifyConfig, progress: Progress | None
) -> tuple[Vector, int]:
    """(the best place (P,) found, evaluations made)."""
    try:
        import cma
    except ModuleNotFoundError as error:
        raise MissingExtra("cma", "sim") from error
    size = len(problem.names)
    # CMA-ES wants two dimensions at least; the second one of a single parameter does nothing
    start = [*(to_unit(name, PARAMETERS[name].nominal) for name in problem.names), *([0.5] * (size == 1))]
    options: dict[str, Any] = {"bounds": [0.0, 1.0], "seed": config.seed + 1, "verbose": -9}
    options |= {"maxfevals": config.evaluations, "tolx": 1e-4, "tolfun": 1e-6}
    strategy = cma.CMAEvolutionStrategy(np.clip(start, 0.02, 0.98), 0.2, options)
    best, least, done = np.array(start[:size]), math.inf, 0
    while not strategy.stop():
        places = strategy.ask()
        errors = []
        for place in places:
            errors.append(float(np.mean([np.sum(problem.residuals(one, place[:size]) ** 2) for one in train])))
            done += 1
            if errors[-1] < least:
                best, least = np.array(place[:size]), errors[-1]
            if progress is not None:
                progress(done, least)
        strategy.tell(places, errors)
    return best, done


@dataclass(frozen=True)
class _Local:
    """The errors of the training episodes around a place, to first order."""

    curvature: Vector
    """(P, P) sum of J' J."""
    pull: Vector
    """(P,) sum of J' r."""
    spread: Vector
    """(P, P) sum of (J' r)(J' r)', the noise floor included."""
    error: float

    @property
    def step(self) -> Vector:
        """(P,) where the least error is from here, as Gauss and Newton say."""
        return np.asarray(-np.linalg.solve(self._regular, self.pull))

    def covariance(self, episodes: int) -> Vector:
        """(P, P); see the module's docstring. A flat direction gets the width of the box, not more."""
        inverse = np.linalg.inv(self._regular)
        prior = FLOOR**4 * np.eye(len(self.pull))
        return np.asarray(inverse @ (episodes / (episodes - 1) * self.spread + prior) @ inverse)

    @property
    def _regular(self) -> Vector:
        return np.asarray(self.curvature + FLOOR**2 * np.eye(len(self.pull)))


def _local(problem: _Problem, train: Sequence[Episode], place: Vector) -> _Local:
    size = len(place)
    curvature, spread, pull, error = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size), 0.0
    for episode in train:
        here = problem.residuals(episode, place)
        slopes = np.stack([_slope(problem, episode, place, here, index) for index in range(size)], axis=1)
        own = slopes.T @ here
        pull += own
        error += float(here @ here)
        curvature += slopes.T @ slopes
        # residuals whose squares sum up to FLOOR^2 at least, all pulling one way
        spread += np.outer(own, own) + FLOOR**2 * slopes.T @ slopes
    return _Local(curvature, pull, spread, error)


def _polish(problem: _Problem, train: Sequence[Episode], place: Vector) -> tuple[Vector, _Local]:
    """Gauss-Newton from where the search ended: in a long valley CMA-ES takes hundreds of evaluations for the rest."""
    local = _local(problem, train, place)
    for _ in range(POLISHING_STEPS):
        length = 1.0
        while length > 0.2:
            moved = np.clip(place + length * local.step, 0.0, 1.0)
            error = sum(float(np.sum(problem.residuals(one, moved) ** 2)) for one in train)
            if error < local.error:
                break
            length /= 2.0
        else:
            break
        place, local = moved, _local(problem, train, moved)
    return place, local


def _slope(problem: _Problem, episode: Episode, best: Vector, here: Vector, index: int) -> Vector:
    """(R,) derivative of an episode's residuals by one coordinate; one-sided at an end of the range."""
    ends = []
    for sign in (1.0, -1.0):
        place = best.copy()
        place[index] = min(1.0, max(0.0, best[index] + sign * DIFFERENCE))
        moved = place[index] - best[index]
        ends.append((moved, problem.residuals(episode, place) if moved else here))
    (right, above), (left, below) = ends
    return np.asarray((above - below) / (right - left))


def _fitted(name: str, at: float, half: float) -> FittedParameter:
    low, high = SEARCHED[name]
    # delays count in steps of the physics: two within one are the same
    half = max(half, 1.0 / PHYSICS_HZ / (high - low) if name.endswith("_delay_s") else LEAST_WIDTH)
    left, right = max(0.0, at - half), min(1.0, at + half)
    return FittedParameter(
        name=name,
        nominal=PARAMETERS[name].nominal,
        value=from_unit(name, at),
        low=from_unit(name, left),
        high=from_unit(name, right),
        told=2.0 * half < CLEAR,
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


def _logarithmic(name: str) -> bool:
    return name.endswith("_scale")


def to_unit(name: str, value: float) -> float:
    """A value's place in the range searched, 0 to 1."""
    low, high = SEARCHED[name]
    if _logarithmic(name):
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def from_unit(name: str, at: float) -> float:
    """The value at a place, 0 to 1, of the range searched."""
    low, high = SEARCHED[name]
    at = min(1.0, max(0.0, at))
    return low * (high / low) ** at if _logarithmic(name) else low + at * (high - low)
