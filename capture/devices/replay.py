"""A recorded input as a device: the requests of an episode, or a table of them, asked for again tick by tick.

For tests, and for trying a change of robot, limits or rate on what a person once did. A take begins with the first row
when recording begins, and `stop` is said after the last one. Owns reading the table; it never writes.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from understudy.capture.devices.device import DeviceReading, Event, neutral
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec
from understudy.datasets.store import Dataset
from understudy.errors import InputError, unknown_name

EVENTS_COLUMN = "event"


@dataclass(frozen=True)
class Recording:
    """One recorded input."""

    actions: NDArray[np.float64]
    """(N, A) in the units of the action space."""
    events: Mapping[int, tuple[Event, ...]]
    """Row -> what was pressed with it."""
    source: str

    def __post_init__(self) -> None:
        if len(self.actions) == 0:
            raise InputError(f"{self.source} has no rows to replay.")


class ReplayDevice:
    """Asks for what was recorded; at every `reset` the next recording, and after the last the first again."""

    name = "replay"

    def __init__(self, spec: ActionSpec, recordings: Sequence[Recording]) -> None:
        """Args:
        spec: the action space; what lies outside its bounds is brought to them, as a stick that ends does.
        recordings: at least one, each with a row of the action space's size a tick.

        Raises:
            InputError: none, or rows of another size.
        """
        if not recordings:
            raise InputError("There is nothing to replay: no recording was given.")
        for recording in recordings:
            if recording.actions.shape[1:] != (spec.size,):
                raise InputError(
                    f"{recording.source} has {recording.actions.shape[1]} numbers a row; this task's actions have "
                    f"{spec.size}: {', '.join(spec.labels)}."
                )
        self._spec = spec
        self._recordings = tuple(recordings)
        self._next = 0
        self._now = self._recordings[0]
        self._row = -1
        """Of the next reading; -1 while recording has not begun."""
        self._asked = False
        self.lost = False

    def reset(self, observation: Mapping[str, NDArray[Any]]) -> None:
        """See `Device`; takes up the next recording."""
        self._now = self._recordings[self._next]
        self._next = (self._next + 1) % len(self._recordings)
        self._row, self._asked, self.lost = -1, False, False

    def start_pressed(self) -> None:
        """See `Device`; the next reading is the first row."""
        self._row = 0

    def read(self, aligned: Aligned) -> DeviceReading:
        """See `Device`. Before recording has begun it asks for the start, once."""
        if self._row < 0:
            asks: tuple[Event, ...] = () if self._asked else ("start",)
            self._asked = True
            return DeviceReading(neutral(self._spec, aligned), asks)
        row, self._row = self._row, self._row + 1
        if row >= len(self._now.actions):
            ends: tuple[Event, ...] = ("stop",) if row == len(self._now.actions) else ()
            return DeviceReading(neutral(self._spec, aligned), ends, f"{self._now.source} is at its end.")
        events = self._now.events.get(row, ())
        self.lost = (self.lost or "lost" in events) and "back" not in events
        action = neutral(self._spec, aligned) if self.lost else self._now.actions[row]
        return DeviceReading(np.clip(action, self._spec.low, self._spec.high), events)

    def close(self) -> None:
        """See `Device`."""


def load_recordings(source: Path, spec: ActionSpec) -> list[Recording]:
    """The recorded inputs of `DATASET` (all its episodes, in order), `DATASET:EPISODE` or a CSV file.

    Raises:
        InputError: nothing is there, or it was recorded in another action space, or a line cannot be read.
    """
    if source.suffix.lower() == ".csv":
        return [read_table(source, spec)]
    folder, colon, id = str(source).rpartition(":")
    if colon and not source.exists():
        return _episodes(Path(folder), spec, id)
    return _episodes(source, spec, None)


def _episodes(folder: Path, spec: ActionSpec, id: str | None) -> list[Recording]:
    dataset = Dataset.open(folder, recover=False)
    if id is not None and id not in dataset.ids:
        raise unknown_name(f"episode of {folder}", id, dataset.ids)
    recordings = []
    for one in dataset.ids if id is None else (id,):
        episode = dataset.read(one, images=False, streams=False)
        its = episode.info.action_spec
        if (its.name, its.labels, its.units) != (spec.name, spec.labels, spec.units):
            raise InputError(
                f"Episode {one} of {folder} was recorded in {its.name!r} ({', '.join(its.labels)}), and this task "
                f"acts in {spec.name!r} ({', '.join(spec.labels)}); replay it on the task {episode.info.task!r}."
            )
        recordings.append(Recording(np.asarray(episode.requested, np.float64), {}, f"episode {one} of {folder}"))
    if not recordings:
        raise InputError(f"{folder} has no episodes to replay.")
    return recordings


def read_table(path: Path, spec: ActionSpec) -> Recording:
    """A CSV file: a column for every number of the action, in its units, and `event` with what is pressed, if anything.

    Raises:
        InputError: the file is not there, or a column or a line is not of that form; says which line.
    """
    try:
        lines = list(csv.reader(path.read_text().splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}.") from error
    header = [name.strip() for name in lines[0]] if lines else []
    for name in spec.labels:
        if header.count(name) != 1:
            raise InputError(
                f"{path}, line 1: expected one column for each of {', '.join(spec.labels)} (and {EVENTS_COLUMN!r} if "
                f"wanted), got {', '.join(header) or 'nothing'}."
            )
    for name in header:
        if name not in (*spec.labels, EVENTS_COLUMN):
            raise InputError(f"{path}, line 1: {unknown_name('column', name, (*spec.labels, EVENTS_COLUMN))}")
    actions, events = [], {}
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise InputError(f"{path}, line {number}: expected {len(header)} values, got {len(line)}.")
        cells = dict(zip(header, line, strict=True))
        actions.append([_number(cells[name], f"{path}, line {number}, {name}") for name in spec.labels])
        if pressed := cells.get(EVENTS_COLUMN, "").split():
            events[number - 2] = tuple(_event(word, f"{path}, line {number}") for word in pressed)
    return Recording(np.array(actions, np.float64).reshape(-1, spec.size), events, str(path))


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"{where}: expected a number, got {text!r}.") from error
    if not np.isfinite(value):
        raise InputError(f"{where}: expected a finite number, got {text!r}.")
    return value


def _event(word: str, where: str) -> Event:
    for event in get_args(Event):
        if word == event:
            found: Event = event
            return found
    raise InputError(f"{where}: {unknown_name('event', word, get_args(Event))}")
