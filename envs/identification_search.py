"""The search of `identification.py`: residuals of episodes, CMA-ES, Gauss-Newton, and how sure the result is.

Owns the error that is minimised and where parameters are sought; parameters are places in a unit box in here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.episode import Episode
from understudy.envs.arms.sim_clock import PHYSICS_HZ
from understudy.envs.parameters import PARAMETERS
from understudy.envs.replay import Replayer
from understudy.errors import MissingExtra

Vector = NDArray[np.float64]
Progress = Callable[[int, float], None]
"""Told how many evaluations are done, and the least error so far."""

JOINT_SCALE_RAD = 0.01
PLACE_SCALE_M = 0.005
GRIP_SCALE_M = 0.0002
"""What pads and fingers give under a grip's force: how hard it is shows in the opening while something is held."""
FARTHEST = 6.0
"""Objects and openings count as no further off than this many of their scales."""
FLOOR = 0.01
"""What a reading is good to, of the scales above: 0.1 mrad and 0.05 mm, once an episode."""
DIFFERENCE = 0.02
"""Step of the differences around the fit, of the range searched."""
POLISHING_STEPS = 4
EXPLAINED = 5.0 * FLOOR
"""A fit whose combined error is below this has explained all that the readings can tell."""
RESAMPLES = 1000
LEAST_WIDTH = 0.005
"""Half-width of the ranges written, at least, of the range searched."""
SPREAD = 0.2
SURVEYED_SPREAD = 0.03
"""How widely a search begins to draw, of the range; around the best place of a survey more narrowly."""

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
    "joint_damping_scale": (0.1, 100.0),
    "joint_friction_nm": (0.0, 10.0),
    "motor_gain_scale": (0.2, 3.0),
    "motor_strength_scale": (0.05, 1.5),
    "gripper_strength_scale": (0.01, 3.0),
    "gravity_m_s2": (9.0, 10.6),
    "action_delay_s": (0.0, 0.15),
    "observation_delay_s": (0.0, 0.1),
}
"""What motion can tell, and where it is sought; scales on a logarithmic axis."""


@dataclass(frozen=True)
class Errors:
    """Root mean square distances between recorded and simulated, over episodes and ticks."""

    joint_rad: float
    tool_m: float
    object_m: float | None
    """None where no object was recorded."""
    combined: float
    """Root of the error that is minimised."""


class Problem:
    """Errors of episodes as a function of a place in the unit box."""

    def __init__(
        self,
        replayer: Replayer,
        names: tuple[str, ...],
        known: Mapping[str, float] | None = None,
        *,
        objects: bool = True,
    ) -> None:
        """Args:
        replayer: of the robot and task.
        names: what is sought.
        known: values of other parameters, and of these where the search begins; those not named are nominal.
        objects: whether objects and the gripper's opening count; else only joints and tool.
        """
        self._replayer = replayer
        self.names = names
        self._known = dict(known or {})
        self._objects = objects

    def physics(self, place: Vector) -> dict[str, float]:
        """Parameters at a place (P,) in [0, 1], and those that are known otherwise."""
        return self._known | {name: from_unit(name, float(at)) for name, at in zip(self.names, place, strict=True)}

    @property
    def begin(self) -> Vector:
        """(P,) the place where the search begins."""
        return np.array([to_unit(name, self._known.get(name, PARAMETERS[name].nominal)) for name in self.names])

    def residuals(self, episode: Episode, place: Vector) -> Vector:
        """(R,) whose squares sum up to the episode's error."""
        rows = self._differences(episode, self.physics(place))
        count = len(rows["joint_position"])
        parts = [rows["joint_position"] / JOINT_SCALE_RAD / math.sqrt(rows["joint_position"].shape[1])]
        for key, values in rows.items():
            if key == "tool_position" or (self._objects and key != "joint_position"):
                away = values / (GRIP_SCALE_M if key == "gripper_position" else PLACE_SCALE_M)
                lengths = np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12)
                farthest = math.inf if key == "tool_position" else FARTHEST
                parts.append(away * np.minimum(1.0, farthest / lengths))
        return np.concatenate([part.ravel() for part in parts]) / math.sqrt(count)

    def episode_errors(self, episodes: Sequence[Episode], place: Vector) -> Vector:
        """(N,) the error of each episode at a place."""
        return np.array([np.sum(self.residuals(episode, place) ** 2) for episode in episodes])

    def errors(self, episodes: Sequence[Episode], physics: Mapping[str, float]) -> Errors:
        """Root mean squares over episodes, in units."""
        found: dict[str, list[Vector]] = {}
        combined = []
        place = np.array([to_unit(name, physics[name]) for name in self.names])
        for episode in episodes:
            for key, values in self._differences(episode, physics).items():
                kind = key if key in ("joint_position", "tool_position", "gripper_position") else "object"
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
        """Key -> (K, ...) simulated minus recorded, of joints, tool, gripper and objects."""
        seen = self._replayer.observe_again(episode, physics)
        rows = {}
        for key, values in seen.items():
            if key.endswith("_position") and not key.startswith("goal_") and key in episode.observations:
                recorded = np.concatenate([episode.observations[key][1:], episode.final_observation[key][None]])
                rows[key] = values - recorded.astype(np.float64)
        return rows


@dataclass(frozen=True)
class Found:
    """Every place that a search has tried."""

    places: Vector
    """(E, P)"""
    errors: Vector
    """(E, N) of each training episode at each place."""
    width: Vector
    """(P,) how widely places were still drawn at the end of the run that found the best one."""

    @property
    def best(self) -> Vector:
        """(P,) the place of the least error."""
        return np.asarray(self.places[int(np.argmin(self.errors.mean(1)))])

    def resampled(self, place: Vector, errors: Vector, seed: int) -> tuple[Vector, Vector]:
        """(P,) and (P,): where 95% of bootstrap samples of the episodes have their best of all places tried.

        A place in another valley that some of the episodes prefer is among them; the curvature at the best one knows
        nothing of it.

        Args:
            place: (P,) what came of polishing the best one.
            errors: (N,) of each training episode there.
            seed: of the draws.
        """
        places, table = np.vstack([self.places, place]), np.vstack([self.errors, errors])
        count = table.shape[1]
        weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), RESAMPLES)
        winners = places[np.argmin(weights @ table.T, axis=1)]
        low, high = np.quantile(winners, [0.025, 0.975], axis=0)
        return np.asarray(low), np.asarray(high)


def search(
    problem: Problem,
    train: Sequence[Episode],
    evaluations: int,
    seed: int,
    progress: Progress | None,
    *,
    survey: bool = False,
) -> Found:
    """CMA-ES from where the problem begins, and from random places while evaluations and unexplained errors are left.

    With `survey` a third of the evaluations goes to places all over the box first, and the search begins at the best of
    them: the valley in which a grip slips is narrow, and on the plateau around it nothing points there.

    Raises:
        MissingExtra: `cma` is not installed.
    """
    try:
        import cma
    except ModuleNotFoundError as error:
        raise MissingExtra("cma", "sim") from error
    size = len(problem.names)
    # CMA-ES wants two dimensions at least; the second one of a single parameter does nothing
    axes = max(2, size)
    start = np.full(axes, 0.5)
    start[:size] = problem.begin
    rng = np.random.default_rng(seed)
    places: list[Vector] = []
    table: list[Vector] = []
    width, least, run, spread = np.ones(size), math.inf, 0, SPREAD
    if survey:
        surveyed = _latin_hypercube(evaluations // 3, size, rng)
        places += [start[:size].copy(), *surveyed]
        for place in places:
            table.append(problem.episode_errors(train, place))
            if progress is not None:
                progress(len(table), float(np.min(np.mean(table, axis=1))))
        means = np.mean(table, axis=1)
        start[:size], least = places[int(np.argmin(means))], float(np.min(means))
        spread = SURVEYED_SPREAD
    while least > EXPLAINED**2 and len(places) < evaluations:
        run += 1
        options: dict[str, Any] = {"bounds": [0.0, 1.0], "seed": seed + run, "verbose": -9}
        options |= {"maxfevals": evaluations - len(places), "tolx": 1e-4, "tolfun": 1e-6}
        strategy = cma.CMAEvolutionStrategy(np.clip(start, 0.02, 0.98), spread, options)
        before = least
        while not strategy.stop() and least > EXPLAINED**2:
            asked = strategy.ask()
            for place in asked:
                places.append(np.asarray(place[:size]))
                table.append(problem.episode_errors(train, places[-1]))
                least = min(least, float(np.mean(table[-1])))
                if progress is not None:
                    progress(len(places), least)
            strategy.tell(asked, [float(np.mean(row)) for row in table[-len(asked) :]])
        if least < before:
            width = np.asarray(strategy.result.stds, np.float64)[:size]
        start, spread = rng.random(axes), SPREAD
    return Found(np.array(places), np.array(table), width)


def _latin_hypercube(count: int, size: int, rng: np.random.Generator) -> Vector:
    """(count, size) places in the unit box; along each axis one in every slice of 1 / count."""
    slices = np.stack([rng.permutation(count) for _ in range(size)], axis=1)
    return np.asarray((slices + rng.random((count, size))) / count)


@dataclass(frozen=True)
class Local:
    """The errors of the training episodes around a place, to first order."""

    curvature: Vector
    """(P, P) sum of J' J."""
    pull: Vector
    """(P,) sum of J' r."""
    spread: Vector
    """(P, P) sum of (J' r)(J' r)', the noise floor included."""
    error: float

    smooth: NDArray[np.bool_]
    """(P,) along which the error has slopes; delays count in steps of the physics."""

    @property
    def step(self) -> Vector:
        """(P,) where the least error is from here, as Gauss and Newton say; along delays there is no step."""
        step = np.zeros(len(self.pull))
        if self.smooth.any():
            inner = np.ix_(self.smooth, self.smooth)
            step[self.smooth] = -np.linalg.solve(self._regular[inner], self.pull[self.smooth])
        return step

    def covariance(self, episodes: int) -> Vector:
        """(P, P); see the module's docstring. A flat direction gets the width of the box, not more."""
        inverse = np.linalg.inv(self._regular)
        prior = FLOOR**4 * np.eye(len(self.pull))
        return np.asarray(inverse @ (episodes / (episodes - 1) * self.spread + prior) @ inverse)

    @property
    def _regular(self) -> Vector:
        return np.asarray(self.curvature + FLOOR**2 * np.eye(len(self.pull)))


def _local(problem: Problem, train: Sequence[Episode], place: Vector) -> Local:
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
    smooth = np.array([not is_delay(name) for name in problem.names])
    return Local(curvature, pull, spread, error, smooth)


def polish(problem: Problem, train: Sequence[Episode], place: Vector) -> tuple[Vector, Local]:
    """Gauss-Newton from where the search ended: in a long valley CMA-ES takes hundreds of evaluations for the rest."""
    local = _local(problem, train, place)
    for _ in range(POLISHING_STEPS):
        length = 1.0
        while length > 0.2:
            moved = np.clip(place + length * local.step, 0.0, 1.0)
            error = float(np.sum(problem.episode_errors(train, moved)))
            if error < local.error:
                break
            length /= 2.0
        else:
            break
        place, local = moved, _local(problem, train, moved)
    return place, local


def _slope(problem: Problem, episode: Episode, best: Vector, here: Vector, index: int) -> Vector:
    """(R,) derivative of an episode's residuals by one coordinate; one-sided at an end of the range."""
    ends = []
    difference = max(DIFFERENCE, least_width(problem.names[index]))
    for sign in (1.0, -1.0):
        place = best.copy()
        place[index] = min(1.0, max(0.0, best[index] + sign * difference))
        moved = place[index] - best[index]
        ends.append((moved, problem.residuals(episode, place) if moved else here))
    (right, above), (left, below) = ends
    return np.asarray((above - below) / (right - left))


def is_delay(name: str) -> bool:
    """Whether a parameter counts in steps of the physics: two values within one are the same."""
    return name.endswith("_delay_s")


def least_width(name: str) -> float:
    """How closely a parameter can be told at best, of the range searched: no simulator is exact."""
    low, high = SEARCHED[name]
    return 1.0 / PHYSICS_HZ / (high - low) if is_delay(name) else LEAST_WIDTH


def logarithmic(name: str) -> bool:
    """Whether a parameter is sought on a logarithmic axis."""
    return name.endswith("_scale")


def to_unit(name: str, value: float) -> float:
    """A value's place in the range searched, 0 to 1."""
    low, high = SEARCHED[name]
    if logarithmic(name):
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def from_unit(name: str, at: float) -> float:
    """The value at a place, 0 to 1, of the range searched."""
    low, high = SEARCHED[name]
    at = min(1.0, max(0.0, at))
    return low * (high / low) ** at if logarithmic(name) else low + at * (high - low)
