"""Episodes within a bag: where they begin and end, their ticks, and which sample each tick takes.

Owns the split and the ticks; which sample a tick takes is `datasets/align.py`'s one rule. All stamps are ns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.align import latest_at
from understudy.datasets.convert.bag_clock import Segment, gaps
from understudy.datasets.convert.bag_mapping import BagMapping
from understudy.datasets.convert.bag_samples import SPLIT, TICKS, Samples
from understudy.errors import DatasetError

MOST_STEPS = 10_000_000
_FOREVER = 1 << 62


@dataclass(frozen=True)
class Window:
    """An episode's place in a segment."""

    start_ns: int
    end_ns: int
    details: Mapping[str, Any]
    """What marks said of it."""


@dataclass(frozen=True)
class Cut:
    """One episode: its ticks and the sample that each takes."""

    ticks_ns: NDArray[np.int64]
    """(N + 1,) the last is of the final observation."""
    rows: Mapping[str, NDArray[np.int64]]
    """Name -> (N + 1,) rows of its track."""
    ages_s: Mapping[str, NDArray[np.float64]]
    """Name -> (N + 1,)"""
    window: Window
    success: bool | None


def cut_episodes(samples: Samples, found: list[Segment], mapping: BagMapping) -> tuple[list[Cut], list[str]]:
    """All episodes of a bag, and a sentence for each stretch that is none.

    Raises:
        DatasetError: none, or a sample is too old in the midst of one and the mapping refuses that.
    """
    cuts: list[Cut] = []
    notes: list[str] = []
    for segment in found:
        stamps = {
            name: samples.tracks[name].stamps_ns[rows] + segment.shift_ns[name] for name, rows in segment.rows.items()
        }
        needed = [name for name in stamps if name not in (TICKS, SPLIT, "success", "reward")]
        if any(len(stamps[name]) == 0 for name in needed):
            notes.append("A stretch in which not every topic spoke was left out.")
            continue
        for window in _windows(samples, segment, stamps, mapping):
            ticks = _ticks(stamps, needed, window, mapping)
            if len(ticks) < 2:
                notes.append("An episode shorter than one step was left out.")
                continue
            parts = _fresh_parts(samples, stamps, needed, ticks, mapping, notes)
            cuts += [_cut(samples, segment, stamps, needed, part, window) for part in parts]
    if not cuts:
        raise DatasetError("no episode in it: the topics of the mapping never spoke together for two ticks.")
    return cuts, list(dict.fromkeys(notes))


# --- where episodes begin and end ------------------------------------------------------------------------------------


def _windows(
    samples: Samples, segment: Segment, stamps: Mapping[str, NDArray[np.int64]], mapping: BagMapping
) -> Iterator[Window]:
    by = mapping.episodes.by
    if by == "bag":
        yield Window(-_FOREVER, _FOREVER, {})
    elif by == "gaps":
        yield from _between_gaps(stamps, mapping)
    elif by == "flag":
        flags = samples.values[SPLIT][segment.rows[SPLIT], 0] if SPLIT in samples.values else np.zeros(0)
        yield from _while_true(stamps[SPLIT], flags != 0)
    else:
        yield from _between_marks(stamps[SPLIT], [samples.marks[row] for row in segment.rows[SPLIT]])


def _between_gaps(stamps: Mapping[str, NDArray[np.int64]], mapping: BagMapping) -> Iterator[Window]:
    longer_ns = mapping.episodes.longer_than_s * 1e9
    pauses = sorted(
        {pause for key in mapping.observations for pause in gaps(stamps[key]) if pause[1] - pause[0] > longer_ns}
    )
    start = -_FOREVER
    for begin, end in pauses:
        if begin > start:
            yield Window(start, begin, {})
        start = max(start, end)
    yield Window(start, _FOREVER, {})


def _while_true(stamps: NDArray[np.int64], flags: NDArray[np.bool_]) -> Iterator[Window]:
    start: int | None = None
    for stamp, flag in zip(stamps.tolist(), flags.tolist(), strict=True):
        if flag and start is None:
            start = stamp
        elif not flag and start is not None:
            yield Window(start, stamp, {})
            start = None
    if start is not None:
        yield Window(start, _FOREVER, {})


def _between_marks(stamps: NDArray[np.int64], marks: list[Mapping[str, Any]]) -> Iterator[Window]:
    start: int | None = None
    details: Mapping[str, Any] = {}
    for stamp, mark in zip(stamps.tolist(), marks, strict=True):
        if mark.get("state") == "running":
            if start is not None:
                yield Window(start, stamp, details)
            start, details = stamp, mark
        elif mark.get("state") == "ended" and start is not None:
            yield Window(start, stamp, {**details, **mark})
            start = None
    if start is not None:
        yield Window(start, _FOREVER, details)


# --- ticks -----------------------------------------------------------------------------------------------------------


def _ticks(
    stamps: Mapping[str, NDArray[np.int64]], needed: list[str], window: Window, mapping: BagMapping
) -> NDArray[np.int64]:
    """(N + 1,) ticks of a window, the last one of the final observation."""
    first = max(int(stamps[name][0]) for name in needed)
    start = max(window.start_ns, first)
    period_ns = 1e9 / mapping.rate_hz
    if mapping.ticks:
        ticks = np.unique(stamps[TICKS][(stamps[TICKS] >= start) & (stamps[TICKS] <= window.end_ns)])
        if len(ticks) == 0:
            return ticks
        usual = float(np.median(np.diff(ticks))) if len(ticks) > 1 else period_ns
        last = min(ticks[-1] + round(usual), window.end_ns)
        return np.append(ticks, last) if last > ticks[-1] else ticks
    end = min(window.end_ns, min(int(stamps[name][-1]) for name in mapping.observations))
    count = int((end - start) // period_ns) + 1 if end >= start else 0
    if count > MOST_STEPS:
        raise DatasetError(
            f"{count} ticks between its stamps; at most {MOST_STEPS} are taken, so one of them is wrong."
        )
    return np.asarray(start + np.rint(np.arange(count) * period_ns).astype(np.int64))


def _fresh_parts(
    samples: Samples,
    stamps: Mapping[str, NDArray[np.int64]],
    needed: list[str],
    ticks: NDArray[np.int64],
    mapping: BagMapping,
    notes: list[str],
) -> list[NDArray[np.int64]]:
    """The ticks at which every sample is young enough, in one piece or as the mapping says.

    Raises:
        DatasetError: not all are, and the mapping refuses that.
    """
    fresh = np.ones(len(ticks), bool)
    for name in needed:
        limit_s = mapping.age_limit_s(mapping.sources[name])
        rows = latest_at(stamps[name], ticks)
        ages = (ticks - stamps[name][np.maximum(rows, 0)]) * 1e-9
        young = (rows >= 0) & (ages <= limit_s)
        if mapping.on_gap == "refuse" and not np.all(young):
            tick = int(np.argmin(young))
            raise DatasetError(
                f"{(ticks[tick] - ticks[0]) * 1e-9:.3f} s after an episode began, {samples.tracks[name].topic} is "
                f"{ages[tick]:.3f} s old; at most {limit_s:.3f} s is allowed. Raise max_age_s, or set on_gap: split."
            )
        fresh &= young
    if np.all(fresh):
        return [ticks]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], fresh, [False]]).astype(int)))
    parts = [ticks[begin:end] for begin, end in zip(edges[::2], edges[1::2], strict=True) if end - begin >= 2]
    notes.append(
        f"An episode was split into {len(parts)} where samples were too old; {int(np.sum(~fresh))} ticks are left out."
    )
    return parts


def _cut(
    samples: Samples,
    segment: Segment,
    stamps: Mapping[str, NDArray[np.int64]],
    needed: list[str],
    ticks: NDArray[np.int64],
    window: Window,
) -> Cut:
    names = [*needed, *(name for name in ("reward",) if len(stamps.get(name, ())))]
    picks = {name: latest_at(stamps[name], ticks) for name in names}
    ages = {
        name: np.asarray((ticks - stamps[name][np.maximum(pick, 0)]) * 1e-9, np.float64) for name, pick in picks.items()
    }
    rows = {name: np.where(pick < 0, -1, segment.rows[name][np.maximum(pick, 0)]) for name, pick in picks.items()}
    success: bool | None = None
    if len(stamps.get("success", ())):
        end_ns = window.end_ns if window.end_ns < _FOREVER else int(ticks[-1])
        said = np.flatnonzero((stamps["success"] >= ticks[0]) & (stamps["success"] <= max(end_ns, int(ticks[-1]))))
        if len(said):
            success = bool(samples.values["success"][segment.rows["success"][said[-1]], 0])
    return Cut(ticks, rows, ages, window, success)
