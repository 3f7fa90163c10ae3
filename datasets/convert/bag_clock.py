"""The clocks of a bag: samples in the order they were made, late messages told from clocks that were set, gaps.

Owns what stamps mean. It gets plain arrays and knows neither bags nor messages. All stamps are ns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Stamps = NDArray[np.int64]
RESET_NS = 1_000_000_000
"""A clock that moves by more against the recorder's, and stays there, was set; network delays come back."""
_LOOK = 5
"""Samples before and after that say where the clock stays."""
_ONE_RESET_NS = 2_000_000_000
"""Topics of one machine tell of its clock within this time of each other."""
_GAP_PERIODS = 3.0


@dataclass(frozen=True)
class Track:
    """The samples of one source, in the order they were received."""

    name: str
    topic: str
    receive_ns: Stamps
    stamps_ns: Stamps
    """By header, or by receipt where the header does not say."""
    by_receipt: int
    """How many of them go by receipt."""


@dataclass(frozen=True)
class Segment:
    """A stretch of a bag in which no clock was set."""

    rows: Mapping[str, NDArray[np.int64]]
    """Name of a track -> its rows, in the order of their stamps."""
    shift_ns: Mapping[str, int]
    """Name of a track -> what to add to its stamps to be on the headers' clock."""


def resets(track: Track) -> tuple[int, ...]:
    """Rows from which on the topic's clock is another one."""
    stamps, offsets = track.stamps_ns, track.stamps_ns - track.receive_ns
    found: list[int] = []
    start = 0
    for row in range(1, len(stamps) - 1):
        step, passed = int(stamps[row] - stamps[row - 1]), int(track.receive_ns[row] - track.receive_ns[row - 1])
        # Set back: stamps go down. Set ahead: they go up by more than the time that passed. A stall does neither.
        if not (step < 0 or step > passed + RESET_NS):
            continue
        before = np.median(offsets[max(start, row - _LOOK) : row])
        after = offsets[row : row + _LOOK]
        if np.all(np.abs(after - before) > RESET_NS):
            found.append(row)
            start = row
    return tuple(found)


def late(stamps_ns: Stamps) -> int:
    """How many samples came after one that was made later."""
    if len(stamps_ns) < 2:
        return 0
    return int(np.count_nonzero(stamps_ns[1:] < np.maximum.accumulate(stamps_ns)[:-1]))


def gaps(stamps_ns: Stamps) -> list[tuple[int, int]]:
    """Begin and end of pauses longer than three usual periods, in sorted stamps."""
    steps = np.diff(stamps_ns)
    if not len(steps):
        return []
    rows = np.flatnonzero(steps > _GAP_PERIODS * max(1.0, float(np.median(steps))))
    return [(int(stamps_ns[row]), int(stamps_ns[row + 1])) for row in rows]


def segments(tracks: Sequence[Track]) -> tuple[list[Segment], list[str]]:
    """Cut a bag where clocks were set, and say what was found."""
    notes: list[str] = []
    own = {track.name: resets(track) for track in tracks}
    cuts: list[int] = []
    for receive in sorted(int(track.receive_ns[row]) for track in tracks for row in own[track.name]):
        if not cuts or receive - cuts[-1] > _ONE_RESET_NS:
            cuts.append(receive)
    for track in tracks:
        for row in own[track.name]:
            by_s = int(track.stamps_ns[row] - track.stamps_ns[row - 1]) * 1e-9
            notes.append(
                f"The clock of {track.topic} was set by {by_s:+.3f} s after {row} messages; "
                "episodes end and begin there."
            )
    bounds = {track.name: _boundaries(track, own[track.name], cuts) for track in tracks}
    found: list[Segment] = []
    for number in range(len(cuts) + 1):
        rows = {}
        for track in tracks:
            start, stop = bounds[track.name][number], bounds[track.name][number + 1]
            part = np.arange(start, stop)
            rows[track.name] = part[np.argsort(track.stamps_ns[start:stop], kind="stable")]
        found.append(Segment(rows, _shifts(tracks, rows)))
    for track in tracks:
        parts = [track.stamps_ns[a:b] for a, b in zip(bounds[track.name], bounds[track.name][1:], strict=False)]
        if behind := sum(map(late, parts)):
            notes.append(f"{track.topic}: {behind} messages came late and were put in their place.")
        if track.by_receipt:
            if track.by_receipt == len(track.stamps_ns):
                notes.append(f"{track.topic} goes by the recorder's stamps: its messages carry none.")
            else:
                notes.append(f"{track.topic}: {track.by_receipt} messages carry no stamp and go by the recorder's.")
    if any(shift for segment in found for shift in segment.shift_ns.values()):
        notes.append(
            "The headers' clock is another one than the recorder's; stamps by receipt were moved by the usual "
            "difference."
        )
    return found, list(dict.fromkeys(notes))


def _boundaries(track: Track, own: tuple[int, ...], cuts: Sequence[int]) -> list[int]:
    """Rows where the segments of a track begin: at its own reset, or else at the time of the others'."""
    rows = [0]
    for cut in cuts:
        near = [row for row in own if abs(int(track.receive_ns[row]) - cut) <= _ONE_RESET_NS]
        rows.append(near[0] if near else int(np.searchsorted(track.receive_ns, cut)))
    return [*rows, len(track.stamps_ns)]


def _shifts(tracks: Sequence[Track], rows: Mapping[str, NDArray[np.int64]]) -> dict[str, int]:
    headed = [track for track in tracks if track.by_receipt < len(track.stamps_ns)]
    offsets = [track.stamps_ns[rows[track.name]] - track.receive_ns[rows[track.name]] for track in headed]
    offset = int(np.median(np.concatenate(offsets))) if any(len(part) for part in offsets) else 0
    if abs(offset) <= RESET_NS:
        offset = 0  # the usual delay: a shift would only spoil stamps that agree
    return {track.name: offset if track.by_receipt == len(track.stamps_ns) else 0 for track in tracks}


def gap_notes(track: Track, found: Sequence[Segment]) -> list[str]:
    """A sentence on the pauses of a topic, if it has any."""
    pauses: list[tuple[int, int]] = []
    first: int | None = None
    for segment in found:
        stamps = track.stamps_ns[segment.rows[track.name]]
        if len(stamps):
            first = int(stamps[0]) if first is None else first
            pauses += gaps(stamps)
    if not pauses or first is None:
        return []
    begin, end = max(pauses, key=lambda pause: pause[1] - pause[0])
    return [
        f"{track.topic}: {len(pauses)} gaps, the longest of {(end - begin) * 1e-9:.3f} s at "
        f"{(begin - first) * 1e-9:.3f} s after its first message."
    ]
