"""An episode against the rest of its dataset: duplicates, other layouts, other lags, slower sources, outliers.

What only the others can tell. Two episodes are compared with each other (duplicates), three or more make a usual rate,
five or more make a usual everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.checking.check_config import CheckConfig
from understudy.datasets.checking.grip import turned_in_the_grip
from understudy.datasets.checking.measures import Measures
from understudy.datasets.checking.signals import robust_scores
from understudy.datasets.checking.tool_fit import Forward, tool_misfits
from understudy.datasets.checking.verdicts import Finding

Vector = NDArray[np.float64]
Found = Iterator[tuple[str, Finding]]

FEW = 5
_SAME = 1e-4
"""Numbers of two episodes that differ by less than this are the same: no two takes of a person, or of one simulated
physics with another seed, come that close."""
_STEADY = 0.85
"""A source whose slowest stretch usually has this share of its rate is a steady one; others send when they like."""

_CHANCE = 0.01
"""Share of sound datasets in which an episode may be remarked on for where it starts."""
_CLOSE = 2.0
"""Starts agree closely where an odd one lies more than this many widths of their range outside it."""
_MEANT = 0.5
"""A turn in the grip speaks for an offset of a joint's start where they differ by less than this share of the
larger: starts are spread, and corners slip."""
_BESIDE = 0.5
"""Widths of the others' range that it must start outside of that for this."""
_SHARED = 0.3
"""Episodes that share this much of their rows to the last bit, and `_FEWEST_SHARED` of them, hold one recording."""
_FEWEST_SHARED = 8


def against_the_rest(
    measured: Mapping[str, Measures], config: CheckConfig, forward: Forward | None = None
) -> dict[str, list[Finding]]:
    """Id -> what the other episodes say about it; `forward` is the robot's kinematics, where they are known."""
    found: dict[str, list[Finding]] = {id: [] for id in measured}
    copies = list(_duplicates(measured))
    copies += _shared_rows(measured, {id for id, finding in copies if finding.level == "fail"})
    told = [*copies, *_odd_layouts(measured), *_pauses(measured, config)]
    if len(measured) >= 3:
        told += _slow_sources(measured, config)
    if len(measured) >= FEW:
        kinematics = {id: measures.kinematic for id, measures in measured.items() if measures.kinematic is not None}
        told += [*_odd_lags(measured, config), *_outliers(measured, config), *tool_misfits(kinematics, config, forward)]
    for id, finding in told:
        found[id].append(finding)
    return found


def _duplicates(measured: Mapping[str, Measures]) -> Found:
    """Episodes of one length with the same actions or the same observations, whatever their stamps and labels."""
    alike = sorted(_alike(measured, "motion_print"))
    acts = set(_alike(measured, "action_print"))
    told: set[str] = set()
    for id, other in [*alike, *sorted(acts - set(alike))]:
        if id in told:
            continue
        told.add(id)
        if (id, other) in alike:
            what = "its actions and observations are" if (id, other) in acts else "its observations are"
            yield id, Finding("fail", "duplicate", f"{what} those of {other}; drop one of them")
        elif np.any(measured[id].action_print):
            yield id, Finding("warn", "duplicate", f"its actions are those of {other}, what came of them is not")


def _shared_rows(measured: Mapping[str, Measures], known: set[str]) -> Found:
    """Copies that were cut, or are parts of one recording: rows of theirs are the same to the last bit."""
    ids = list(measured)
    owners = np.repeat(np.arange(len(ids)), [measures.rows.size for measures in measured.values()])
    if not owners.size:
        return
    rows = np.concatenate([measures.rows for measures in measured.values()])
    order = np.lexsort((owners, rows))
    rows, owners = rows[order], owners[order]
    shared: Counter[tuple[int, int]] = Counter()
    edges = np.flatnonzero(np.diff(rows)) + 1
    for start, stop in zip(np.append(0, edges), np.append(edges, len(rows)), strict=True):
        first = int(owners[start])
        shared.update((int(later), first) for later in owners[start + 1 : stop])
    for (later, first), count in sorted(shared.items()):
        share = count / min(measured[ids[later]].rows.size, measured[ids[first]].rows.size)
        if count >= _FEWEST_SHARED and share >= _SHARED and ids[later] not in known:
            known.add(ids[later])
            text = (
                f"some {share:.0%} of its observations are those of {ids[first]}: a copy that was cut; keep one of them"
            )
            yield ids[later], Finding("fail", "duplicate", text)


def _alike(measured: Mapping[str, Measures], name: str) -> Iterator[tuple[str, str]]:
    """(later, earlier) pairs of ids of one length whose prints are the same.

    Prints are put in the order of their mean, so that each is compared with its neighbours only.
    """
    groups: dict[tuple[int, int], list[tuple[float, int, str]]] = {}
    for index, (id, measures) in enumerate(measured.items()):
        values: Vector = getattr(measures, name)
        if values.size:
            groups.setdefault((measures.steps, values.size), []).append((float(np.mean(values)), index, id))
    for members in groups.values():
        members.sort()
        for place, (mean, index, id) in enumerate(members):
            for other_mean, other_index, other in members[place + 1 :]:
                if other_mean - mean > _SAME:
                    break
                if _equal(getattr(measured[id], name), getattr(measured[other], name)):
                    yield (other, id) if other_index > index else (id, other)


def _equal(one: Vector, other: Vector) -> bool:
    return bool(one.size and one.shape == other.shape and np.max(np.abs(one - other)) < _SAME)


def _odd_layouts(measured: Mapping[str, Measures]) -> Found:
    if not measured:
        return
    layouts = [measures.layout for measures in measured.values()]
    usual = max(set(layouts), key=layouts.count)
    for id, measures in measured.items():
        if measures.layout != usual:
            yield id, Finding("fail", "layout", f"recorded as {measures.layout}; the others as {usual}")


def _pauses(measured: Mapping[str, Measures], config: CheckConfig) -> Found:
    """A stretch of nothing that is much longer than the others'; where all wait, waiting is part of the task."""
    lengths = np.array([measures.pause_s for measures in measured.values()])
    for index, (id, measures) in enumerate(measured.items()):
        rest = np.delete(lengths, index)
        usual = float(np.median(rest)) if len(measured) >= FEW else 0.0
        if measures.pause_s <= config.pause_warn_s or measures.pause_s <= config.pause_times * usual:
            continue
        told = f"; usually at most {usual:.1f} s" if len(measured) >= FEW else ""
        text = f"nothing happens for {measures.pause_s:.1f} s from step {measures.pause_step} on{told}"
        surely = measures.pause_s >= config.pause_fail_s and len(measured) >= FEW
        yield id, Finding("fail" if surely else "warn", "idle", text)


def _slow_sources(measured: Mapping[str, Measures], config: CheckConfig) -> Found:
    """Observations and streams that brought new samples less often than in the other episodes, for a second or more."""
    names = {name for measures in measured.values() for name in measures.sources}
    for name in sorted(names):
        have = {id: measures.sources[name] for id, measures in measured.items() if name in measures.sources}
        usual = float(np.median([source.usual for source in have.values()]))
        steadiness = float(np.median([source.slowest for source in have.values()])) / max(usual, 1e-9)
        if len(have) < 3 or usual <= 0 or steadiness < _STEADY:
            continue
        for id, source in have.items():
            if source.slowest < (1.0 - config.slow_fail) * usual:
                text = (
                    f"{name} brings {source.slowest:.3g} new samples {_per(source.unit)} from "
                    f"{'sample' if source.unit == 'Hz' else 'step'} {source.start} on, usually {usual:.3g}"
                )
                yield id, Finding("fail", "rate", text)


def _per(unit: str) -> str:
    return "a second" if unit == "Hz" else unit


def _odd_lags(measured: Mapping[str, Measures], config: CheckConfig) -> Found:
    """An episode whose arm follows later or earlier than all the others': one of its channels is shifted.

    A delay that was drawn for an episode is taken off first.
    """
    motion = "motion follows what was sent by {lag:.1f} ticks, in the other episodes by {usual:.1f}"
    asked = "actions are sent {lag:.1f} ticks after they were requested, in the other episodes {usual:.1f}"
    sent = {id: (m.lag, m.drawn_delay) for id, m in measured.items()}
    requested = {id: (m.asked_lag, 0.0) for id, m in measured.items()}
    for text, pairs in ((motion, sent), (asked, requested)):
        lags = {id: lag - delay for id, (lag, delay) in pairs.items() if lag is not None}
        if len(lags) < FEW:
            continue
        usual = float(np.median(list(lags.values())))
        odd = {id: lag for id, lag in lags.items() if _apart(id, lags, usual, config.lag_odd_ticks)}
        if len(odd) > 0.1 * len(lags) + 1:
            continue
        for id, lag in odd.items():
            if lag + pairs[id][1] >= -0.75:  # an earlier one has been reported by itself
                yield id, Finding("fail", "alignment", text.format(lag=lag + 0.0, usual=round(usual, 1) + 0.0))


def _apart(id: str, lags: Mapping[str, float], usual: float, ticks: float) -> bool:
    """Whether a lag is `ticks` from the usual one and clearly outside the range of all the others but one."""
    others = sorted(lag for other, lag in lags.items() if other != id)
    low, high = (others[1], others[-2]) if len(others) > 8 else (others[0], others[-1])
    outside = max(low - lags[id], lags[id] - high)
    return abs(lags[id] - usual) > ticks and outside > 0.6 * ticks


def _outliers(measured: Mapping[str, Measures], config: CheckConfig) -> Found:
    ids = list(measured)
    quantities: dict[str, tuple[str, list[float]]] = {
        "length": ("{value:.0f} steps, usually {usual:.0f}", [m.steps for m in measured.values()]),
        "path": ("moves {value:.1f} ranges, usually {usual:.1f}", [m.path for m in measured.values()]),
        "jerk": ("jerk is {value:.3g} rad/s^3, usually {usual:.3g}", [m.jerk for m in measured.values()]),
    }
    for name, (text, values) in quantities.items():
        scores = robust_scores(np.log(np.maximum(np.asarray(values, np.float64), 1e-9))[:, None], floor=0.25)
        usual = float(np.median(values))
        for id, value, score in zip(ids, values, scores[:, 0], strict=True):
            if score > config.outlier:
                yield id, Finding("warn", f"outlier {name}", text.format(value=value, usual=usual))
    turns = _turns(measured)
    for id, turn in turns.items():
        if abs(np.rad2deg(turn)) > 2 * config.offset_fail_deg:
            text = f"what it carries is turned by {np.rad2deg(turn):+.0f} deg in the grip, in the others hardly"
            yield id, Finding("warn", "outlier grip", text)
    yield from _odd_starts(measured, config, turns)
    yield from _odd_reaches(measured, config)


def _odd_starts(measured: Mapping[str, Measures], config: CheckConfig, turns: Mapping[str, float]) -> Found:
    """Starts outside those of all others: a remark, and an offset where the others agree too closely for chance.

    An offset as well where what it carries is askew in the grip by as much: the fingers turned it, whatever was read.
    """
    if len({measures.start_names for measures in measured.values()}) != 1:
        return  # another layout, reported as such
    starts = np.array([measures.start for measures in measured.values()])
    names = next(iter(measured.values())).start_names
    surely = _by_chance(len(starts) - 1, starts.shape[1])
    joints = np.array([name.startswith("joint_position") for name in names], bool)
    for index, id in enumerate(measured):
        outside, widths = _outside_the_others(starts, index)
        ratios = outside / widths
        if not ratios.size or not np.any(outside):
            continue
        worst = int(np.argmax(ratios))
        others = np.delete(starts[:, worst], index)
        off = float(starts[index, worst] - np.median(others))
        turn = turns.get(id, 0.0)
        meant = bool(joints[worst]) and ratios[worst] > _BESIDE and abs(np.rad2deg(turn)) > config.offset_fail_deg
        meant = meant and abs(abs(turn) - abs(off)) < _MEANT * max(abs(turn), abs(off))
        if ratios[worst] <= config.start_outlier and not meant:
            continue
        text = f"{names[worst]} is {starts[index, worst]:.3f}, in the others {others.min():.3f} to {others.max():.3f}"
        rest = joints.copy()
        rest[worst] = False
        alone = joints[worst] and not np.any(outside[rest] > 0.4 * outside[worst])
        certain = meant or (ratios[worst] > max(_CLOSE, surely) and outside[worst] > config.start_offset_rad)
        narrow = widths[worst] < config.start_offset_rad and outside[worst] > np.deg2rad(config.offset_fail_deg)
        if alone and certain:
            why = "what it carries is turned by as much in the grip" if meant else "no other joint starts elsewhere"
            text = f"{text}, and {why}: it reads some {np.rad2deg(off):+.0f} deg off"
            yield id, Finding("fail", "offset", text)
        elif ratios[worst] > surely or (alone and narrow):
            yield id, Finding("warn", "outlier start", f"starts elsewhere: {text}")


def _by_chance(others: int, numbers: int) -> float:
    """Widths of the range of the others by which chance puts one of `numbers` outside it in few datasets of a hundred.

    Of evenly spread values, one lies more than t widths beyond the range of n others with a chance of (1 + t)^(1 - n)
    at each side: the range of few is a poor guess of where the rest may lie.
    """
    return float((2 * numbers / _CHANCE) ** (1.0 / max(others - 1, 1)) - 1.0) if numbers else 0.0


def _outside_the_others(values: Vector, index: int, floor: float = 0.03) -> tuple[Vector, Vector]:
    """(D,) how far row `index` lies outside the range of the other rows, and the width of that (at least `floor`)."""
    others = np.delete(values, index, axis=0)
    low, high = others.min(axis=0), others.max(axis=0)
    distance = np.maximum(low - values[index], values[index] - high)
    return np.asarray(np.maximum(distance, 0.0)), np.asarray(np.maximum(high - low, floor))


def _odd_reaches(measured: Mapping[str, Measures], config: CheckConfig) -> Found:
    """A success whose tool came near nothing, where in every other success it did: its tool was not where it says."""
    reaches = {id: m.reach_m for id, m in measured.items() if m.success and m.reach_m is not None}
    if len(reaches) < FEW:
        return
    for id, reach in reaches.items():
        others = max(other for name, other in reaches.items() if name != id)
        if reach > 2 * others + config.reach_m:
            text = (
                f"it succeeded, yet its tool came no nearer than {reach:.3f} m to any object or goal; in the others it "
                f"came within {others:.3f} m"
            )
            yield id, Finding("fail", "reach", text)


def _turns(measured: Mapping[str, Measures]) -> dict[str, float]:
    """Id -> by how much (rad) what it carried is turned in the grip, where the others agree on how it lies there."""
    angles = {id: m.grip_rad for id, m in measured.items() if m.grip_rad is not None}
    turned = turned_in_the_grip(np.array(list(angles.values())))
    return {} if turned is None else dict(zip(angles, turned.tolist(), strict=True))
