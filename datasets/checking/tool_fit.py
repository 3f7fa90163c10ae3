"""Do an episode's joints and tool pose belong together as they do in the other episodes?

The tool's place is a function of the joints that no dataset writes down. Where the robot's kinematics are known, the
tool is an affine function of what they say, whatever base and tool frame it was recorded in; else it is learned from
the episodes alone: forward kinematics is a sum of products of sines and cosines of the joints, so ridge regression on
those and their pairs predicts the tool. Either way an episode is held against the model of the others. One whose joints
are read with an offset, in another order or with another sign stands out wherever it starts, and trying these on says
which it was.

Blind spots: a tool pose that was computed from the same wrong readings fits them (`consistency.py` looks at starts and
at how near the tool came); an offset that all episodes share is their kinematics; joints that turn about nearly one
axis may change places and hardly move the tool, which only known kinematics resolve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.checking.check_config import CheckConfig
from understudy.datasets.checking.measures import Kinematic
from understudy.datasets.checking.verdicts import Finding

Vector = NDArray[np.float64]
Features = Callable[[Vector], Vector]
"""(K, J) joints to (K, F) numbers of which the tool's are sums."""

FEWEST = 5
"""Episodes that the others' model needs."""
MOST_JOINTS = 8
"""Products of more joints than this need more rows than a sketch of the dataset has."""
_MANY = 12
"""Episodes from which on the others' model is known well."""
_FITTED = 40
"""Episodes the model is learned from; all are held against it."""
_RIDGE = 1e-8
_POSITION_M = 0.02
_ROTATION = 0.035
"""Misfits that are worth a word: root mean square of the position, and of a rotation matrix's numbers (2 degrees)."""
_TIMES_USUAL = 3.0
_SUSPECTS = 4
_FOLDS = 10
_EXPLAINED = 0.15
"""A cause explains a misfit when it leaves less than this share of its square."""
_EXCHANGE_LEAST = 0.15
"""A misfit below this (3 mm) is not explained by anything,"""
_EXCHANGE_KNOWN = 0.01
"""where kinematics are known below this (0.2 mm),"""
_EXCHANGE_TIMES = 5.0
"""nor one below so many times the usual."""
_OFFSETS_DEG = np.arange(-45.0, 45.1, 1.0)


@dataclass(frozen=True)
class Forward:
    """A robot's forward kinematics."""

    joints: int
    """How many it takes."""
    tool: Callable[[Vector], Vector]
    """(K, J) rad to (K, 12): position (m) and the nine numbers of the rotation matrix, row by row."""

    def features(self, joints: Vector) -> Vector:
        """(K, 13): what a pose in any other base or tool frame is a sum of."""
        return np.hstack([np.ones((len(joints), 1)), self.tool(joints)])


def tool_misfits(
    kinematics: Mapping[str, Kinematic], config: CheckConfig, forward: Forward | None = None
) -> Iterator[tuple[str, Finding]]:
    """(id, finding) of each episode whose joints do not belong to its tool pose as the others' do.

    Nothing where there are fewer than `FEWEST` comparable episodes, or where the others do not agree either. `forward`
    is left aside where it is not the kinematics of what was recorded.
    """
    widths = [(rows.joints.shape[1], rows.tool.shape[1]) for rows in kinematics.values()]
    if not widths:
        return
    usual_width = max(set(widths), key=widths.count)
    same = {
        id: rows
        for id, width, rows in zip(kinematics, widths, kinematics.values(), strict=True)
        if width == usual_width
    }
    if len(same) < FEWEST:
        return
    ids = list(same)
    chosen = [ids[i] for i in np.linspace(0, len(ids) - 1, min(len(ids), _FITTED)).round().astype(int)]
    agreed = None
    if forward is not None and forward.joints == usual_width[0]:
        agreed = _agreeing([same[id] for id in chosen], forward.features)
    known = agreed is not None and agreed.limit == 1.0
    if not known and usual_width[0] <= MOST_JOINTS:
        agreed = _agreeing([same[id] for id in chosen], _sines_and_cosines)
    if agreed is None:
        return
    model, limit = agreed.model, agreed.limit
    trusted = [chosen[i] for i in agreed.members]
    yield from _exchanged({id: same[id] for id in trusted}, model.features, known=known)
    for id in ids:
        if id in trusted:
            continue
        error = model.error(same[id], same[id].joints)
        if error > limit:
            finding = _diagnosis(model, same[id], error, config)
            # A model of few is guessing where the odd one is: what it cannot explain must be plain to be told.
            if finding.level == "fail" or known or len(same) >= _MANY or error > 2 * limit:
                yield id, finding


@dataclass(frozen=True)
class _Model:
    """Predicts (K, O) scaled tool numbers of joints (K, J)."""

    features: Features
    weights: Vector
    """(F, O)"""

    def error(self, rows: Kinematic, joints: Vector) -> float:
        """Root mean square misfit of an episode if its joints were `joints`, in units of what is worth a word."""
        return _size(self.features(joints) @ self.weights - _scaled(rows.tool))


@dataclass(frozen=True)
class _Agreed:
    """What the episodes that agree with each other say."""

    model: _Model
    limit: float
    """The misfit that is too much for it; 1 where they agree closely."""
    members: list[int]
    """Which they are."""


def _agreeing(episodes: list[Kinematic], function: Features) -> _Agreed | None:
    """A model of the episodes that agree with each other; None where too many do not.

    Whoever does not fit is left out one by one: of those that fit worst, the one that stands out most from how well the
    rest fit each other without it (a wrong episode spoils the fit of sound ones, which would otherwise be blamed).
    """
    features = [function(rows.joints) for rows in episodes]
    targets = [_scaled(rows.tool) for rows in episodes]
    grams = [f.T @ f for f in features]
    crosses = [f.T @ t for f, t in zip(features, targets, strict=True)]

    def fit(members: list[int]) -> Vector:
        rows = sum(len(features[i]) for i in members)
        gram = np.sum([grams[i] for i in members], axis=0) + _RIDGE * rows * np.eye(len(grams[0]))
        return np.asarray(np.linalg.solve(gram, np.sum([crosses[i] for i in members], axis=0)))

    def held_out(members: list[int]) -> Vector:
        """Misfit of each, by a model of those that are not in its fold."""
        errors = np.zeros(len(members))
        for fold in range(min(len(members), _FOLDS)):
            weights = fit([i for place, i in enumerate(members) if place % _FOLDS != fold])
            for place in range(fold, len(members), _FOLDS):
                i = members[place]
                errors[place] = _size(features[i] @ weights - targets[i])
        return errors

    kept = list(range(len(episodes)))
    fewest = max(FEWEST - 1, round(0.75 * len(episodes)))
    while True:
        errors = held_out(kept)
        worst = [int(i) for i in np.argsort(errors)[-_SUSPECTS:] if errors[i] > 1.0]
        limits = {i: _limit(held_out([k for k in kept if k != kept[i]])) for i in worst}
        odd = max(worst, key=lambda i: errors[i] / limits[i], default=-1)
        if odd < 0 or errors[odd] <= limits[odd]:
            return _Agreed(_Model(function, fit(kept)), _limit(errors), kept)
        if len(kept) <= fewest:
            return None
        kept.pop(odd)


def _exchanged(episodes: Mapping[str, Kinematic], function: Features, *, known: bool) -> Iterator[tuple[str, Finding]]:
    """Of episodes that fit well enough, those that fit the others' kinematics clearly better with two joints exchanged.

    Joints that turn about nearly one axis (0 and 2 of a seven-joint arm that stands upright) may change places and move
    the tool by millimetres only. Learned kinematics are wrong by as much, so that it is a remark; known ones are not.
    """
    features = {id: function(rows.joints) for id, rows in episodes.items()}
    grams = {id: f.T @ f for id, f in features.items()}
    crosses = {id: features[id].T @ _scaled(rows.tool) for id, rows in episodes.items()}
    gram = np.sum(list(grams.values()), axis=0)
    cross = np.sum(list(crosses.values()), axis=0)
    count = sum(len(f) for f in features.values())
    models, errors = {}, {}
    for id, rows in episodes.items():
        ridge = _RIDGE * (count - len(features[id])) * np.eye(len(gram))
        models[id] = _Model(function, np.asarray(np.linalg.solve(gram - grams[id] + ridge, cross - crosses[id])))
        errors[id] = models[id].error(rows, rows.joints)
    usual = float(np.median(list(errors.values())))
    whose = "the arm's" if known else "the others'"
    least = max(_EXCHANGE_KNOWN, _EXCHANGE_TIMES * usual) if known else _EXCHANGE_LEAST
    for id, rows in episodes.items():
        if errors[id] < least:
            continue
        left, first, second = min(
            (models[id].error(rows, _with_exchanged(rows.joints, first, second)), first, second)
            for second in range(rows.joints.shape[1])
            for first in range(second)
        )
        if left**2 < _EXPLAINED * errors[id] ** 2:
            text = (
                f"its tool pose fits {whose} kinematics {errors[id] / left:.1f} times better with joints {first} and "
                f"{second} exchanged; they {'have' if known else 'may have'} changed places"
            )
            yield id, Finding("fail" if known else "warn", "columns", text)


def _limit(errors: Vector) -> float:
    """The misfit that is too much where episodes that agree have these."""
    return max(1.0, _TIMES_USUAL * float(np.median(errors)))


def _diagnosis(model: _Model, rows: Kinematic, error: float, config: CheckConfig) -> Finding:
    """What is wrong with an episode that does not fit: the one change to its joints that makes it fit."""
    count = rows.joints.shape[1]
    tried: list[tuple[float, str, float]] = []
    for joint in range(count):
        offset_deg, left = _best_offset(model, rows, joint)
        tried.append((left, f"joint {joint} reads {offset_deg:+.1f} deg off", abs(offset_deg)))
        flipped = rows.joints.copy()
        flipped[:, joint] *= -1
        tried.append((model.error(rows, flipped), f"joint {joint} has the other sign", np.inf))
        for other in range(joint):
            text = f"joints {other} and {joint} have changed places"
            tried.append((model.error(rows, _with_exchanged(rows.joints, other, joint)), text, np.inf))
    left, text, size_deg = min(tried)
    if left**2 < _EXPLAINED * error**2 and size_deg > config.offset_fail_deg:
        check = "offset" if np.isfinite(size_deg) else "columns"
        return Finding("fail", check, f"{text}, as its tool pose tells by the other episodes' kinematics")
    text = "joints and tool pose do not belong together as in the other episodes"
    return Finding("warn", "tool pose", f"{text}: {error:.1f} times what is worth a word")


def _best_offset(model: _Model, rows: Kinematic, joint: int) -> tuple[float, float]:
    """The offset of a joint (deg) that would explain the misfit best, and the misfit that is left."""

    def left(offset_deg: float) -> float:
        return model.error(rows, _shifted(rows.joints, joint, offset_deg))

    coarse = min((float(offset) for offset in _OFFSETS_DEG), key=left)
    best = min((coarse + step / 10 for step in range(-9, 10)), key=left)
    return best, left(best)


def _shifted(joints: Vector, joint: int, offset_deg: float) -> Vector:
    """The joints as they would be if `joint` read `offset_deg` too much."""
    right = joints.copy()
    right[:, joint] -= np.deg2rad(offset_deg)
    return right


def _with_exchanged(joints: Vector, first: int, second: int) -> Vector:
    order = list(range(joints.shape[1]))
    order[first], order[second] = second, first
    return joints[:, order]


def _sines_and_cosines(joints: Vector) -> Vector:
    """(K, F): 1, sines and cosines of (K, J) joints, and the product of each pair of them."""
    base = np.hstack([np.ones((len(joints), 1)), np.sin(joints), np.cos(joints)])
    first, second = np.triu_indices(base.shape[1])
    return np.asarray(base[:, first] * base[:, second])


def _scaled(tool: Vector) -> Vector:
    """(K, O) tool numbers in units of what is worth a word."""
    return np.asarray(tool / np.where(np.arange(tool.shape[1]) < 3, _POSITION_M, _ROTATION))


def _size(misfit: Vector) -> float:
    """The larger of the root mean squares of position and rotation."""
    parts = [misfit[:, :3], misfit[:, 3:]] if misfit.shape[1] > 3 else [misfit]
    return max(float(np.sqrt(np.mean(part**2))) for part in parts)
