"""`understudy dataset ...`: look into a dataset, check it, and put right what a crash or a person did.

This module owns tables and JSON; what they say comes from `datasets/`.
"""

from __future__ import annotations

import collections
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from understudy.datasets.episode import Summary, read_summary
from understudy.datasets.index import INDEX, Index
from understudy.datasets.store import Dataset
from understudy.datasets.where import Where
from understudy.errors import DatasetError, InputError

__all__ = ["DatasetInfo", "DatasetList", "DatasetRepair"]


@dataclass(frozen=True)
class DatasetInfo:
    """Say what a dataset holds: episodes, outcomes, operators, observations and actions.

    Example:
        understudy dataset info demos/lift
        understudy dataset info demos/lift --json | python -m json.tool
    """

    directory: tyro.conf.Positional[Path]
    """The dataset's folder."""
    json: bool = False
    """Print one JSON object for programs."""

    def run(self) -> int:
        dataset = open_dataset(self.directory)
        facts, damaged = _facts(dataset)
        if self.json:
            print(json.dumps(facts, indent=2))
        else:
            Console(soft_wrap=True).print(_facts_table(facts))
            for reason in damaged:
                print(f"damaged: {reason}")
        return 0


@dataclass(frozen=True)
class DatasetRepair:
    """Recover what a crash left, and decide about takes that wait.

    Interrupted recordings become takes, an index that is behind is brought up to date, and a lost or damaged one is
    made again from the episodes. Every byte of every episode is checked, and damage is named file by file. Without
    --takes the takes are listed and left alone. Leaves with 1 when something is beyond repair.

    Example:
        understudy dataset repair demos/lift
        understudy dataset repair demos/lift --takes keep
    """

    directory: tyro.conf.Positional[Path]
    """The dataset's folder."""
    takes: Literal["list", "keep", "drop"] = "list"
    """What becomes of the takes that nobody has decided about."""

    def run(self) -> int:
        dataset, rebuilt = _opened_or_rebuilt(self.directory)
        found = dataset.recovery
        print(f"{dataset.path}: {len(dataset)} episodes, {'index made again' if rebuilt else 'index in order'}")
        print(
            f"brought into the index: {len(found.linked)}; taken out of it, their files are gone: {len(found.unlinked)}"
        )
        for id in found.empty:
            print(f"recording {id} ended before its first step; it is in the trash")
        for reason in found.unreadable.values():
            print(f"cannot be recovered: {reason}")
        damaged = dataset.damaged()
        for id, reason in damaged.items():
            print(f"damaged: {reason}")
            print(f"    out of the way with: understudy dataset drop {dataset.path} {id}")
        for id in dataset.takes():
            print(f"take {id}: {self._decide(dataset, id)}")
        return 1 if found.unreadable or damaged else 0

    def _decide(self, dataset: Dataset, id: str) -> str:
        if self.takes == "keep":
            try:
                dataset.commit(dataset.take_file(id), verify=True)
            except DatasetError as error:
                return f"not kept: {error}"
            return "kept"
        if self.takes == "drop":
            dataset.discard(id)
            return "in the trash"
        return f"waiting in {dataset.take_file(id)}; decide with --takes keep or --takes drop"


@dataclass(frozen=True)
class DatasetList:
    """List the episodes of a dataset: one line each, with what is known of it.

    A condition is made of the words id, steps, seconds, rate_hz, success, operator, device, note, robot, task, seed,
    created, software, provenance and randomization.NAME, of texts in quotes, numbers, True, False and None, and of
    == != < <= > >= in, and, or, not and brackets.

    Example:
        understudy dataset list demos/lift
        understudy dataset list demos/lift --where "success and operator != 'scripted' and seconds < 20"
        understudy dataset list demos/lift --where "'slip' in note" --json | python -m json.tool
    """

    directory: tyro.conf.Positional[Path]
    """The dataset's folder."""
    where: str | None = None
    """Only episodes that meet this condition."""
    split: str | None = None
    """Only episodes of this split."""
    trash: bool = False
    """List what was dropped instead."""
    json: bool = False
    """Print one JSON list for programs."""

    def run(self) -> int:
        dataset = open_dataset(self.directory)
        if self.trash:
            if self.where is not None or self.split is not None:
                raise InputError("--trash lists everything that was dropped; leave out --where and --split.")
            files = [dataset.path / "trash" / f"{id}.hdf5" for id in dataset.dropped]
        else:
            files = [dataset.path / "episodes" / f"{id}.hdf5" for id in dataset.select(None, self.split)]
        condition = None if self.where is None else Where(self.where)
        summaries = []
        for file in files:
            try:
                summary = read_summary(file)
            except DatasetError as error:
                print(f"passed over: {error}", file=sys.stderr)
                continue
            if condition is None or condition(summary):
                summaries.append(summary)
        if self.json:
            print(json.dumps([_row(summary) for summary in summaries], indent=2))
        else:
            _print_rows([_row(summary) for summary in summaries])
        return 0


def _row(summary: Summary) -> dict[str, Any]:
    info = summary.info
    return {
        "id": summary.id,
        "steps": summary.steps,
        "seconds": round(summary.steps / info.rate_hz, 2),
        "success": info.success,
        "operator": info.operator,
        "device": info.device,
        "seed": info.seed,
        "note": info.note,
        "created": info.created,
        "provenance": info.provenance,
    }


def _printable(text: str) -> str:
    """A text without what would steer the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _print_rows(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, padding=(0, 1), header_style="bold")
    shown = [name for name in ("id", "steps", "seconds", "success", "operator", "device", "seed", "note") if rows]
    for name in shown:
        number = name in ("steps", "seconds", "seed")
        table.add_column(name, justify="right" if number else "left", no_wrap=name == "id", overflow="fold")
    words = {True: "yes", False: "no", None: "?"}
    for row in rows:
        cells = {**row, "success": words[row["success"]], "seed": "" if row["seed"] is None else row["seed"]}
        table.add_row(*(Text(_printable(str(cells[name]))) for name in shown))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(f"{len(rows)} episodes, {sum(row['steps'] for row in rows)} steps", file=sys.stderr)


def _opened_or_rebuilt(directory: Path) -> tuple[Dataset, bool]:
    """The dataset, and whether its index had to be made again."""
    index = directory / INDEX
    if not index.exists() and not (directory / "episodes").is_dir():
        return Dataset.open(directory), False  # says that there is none
    if index.exists():
        index.read_bytes()  # one that may not be read is not damaged: the OSError says so
        try:
            Index(directory).links()
        except DatasetError as error:
            dataset = Dataset.rebuild(directory)
            print(f"the old index is kept as {index}.damaged: {error}")
            return dataset, True
        return Dataset.open(directory), False
    return Dataset.rebuild(directory), True


def open_dataset(directory: Path) -> Dataset:
    """A dataset to look into; says on the error stream what was not as it should be."""
    dataset = Dataset.open(directory)
    found = dataset.recovery
    if found.unlinked:
        print(f"warning: the files of these episodes are gone: {', '.join(found.unlinked)}", file=sys.stderr)
    for reason in found.unreadable.values():
        print(f"warning: {reason}", file=sys.stderr)
    return dataset


def _facts(dataset: Dataset) -> tuple[dict[str, Any], list[str]]:
    """What a dataset holds as plain data, and the reasons why some episodes cannot be read."""
    summaries: list[Summary] = []
    damaged: list[str] = []
    for id in dataset.ids:
        try:
            summaries.append(dataset.summary(id))
        except DatasetError as error:
            damaged.append(str(error))
    infos = [summary.info for summary in summaries]
    verdicts = {True: "success", False: "failure", None: "not judged"}
    size = sum(file.stat().st_size for file in dataset.path.glob("episodes/*.hdf5"))
    facts: dict[str, Any] = {
        "path": str(dataset.path),
        "robot": dataset.robot,
        "task": dataset.task,
        "episodes": len(dataset),
        "damaged": damaged,
        "steps": sum(summary.steps for summary in summaries),
        "seconds": round(sum(summary.steps / summary.info.rate_hz for summary in summaries), 1),
        "outcomes": dict(collections.Counter(verdicts[info.success] for info in infos)),
        "operators": dict(collections.Counter(info.operator for info in infos)),
        "devices": dict(collections.Counter(info.device for info in infos)),
        "megabytes": round(size / 1e6, 2),
        "takes": list(dataset.takes()),
        "dropped": list(dataset.dropped),
        "splits": {name: len(ids) for name, ids in dataset.splits().items()},
    }
    if summaries:
        first = summaries[0]
        spec = first.info.action_spec
        numbers = zip(spec.labels, spec.units, spec.low, spec.high, strict=True)
        facts["rate_hz"] = first.info.rate_hz
        facts["actions"] = {
            "space": spec.name,
            "channel": first.info.actions,
            "numbers": [f"{label} [{low:g}, {high:g}] {unit}" for label, unit, low, high in numbers],
        }
        facts["observations"] = {key: f"{np.dtype(kind)}{list(shape)}" for key, (kind, shape) in first.keys.items()}
    if not damaged:
        facts["checksum"] = dataset.checksum()
    return facts, damaged


def _facts_table(facts: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2), title=f"{facts['task']} on {facts['robot']}")
    table.title_justify = "left"
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if name in ("robot", "task") or (name in ("damaged", "takes", "dropped", "splits") and not value):
            continue
        table.add_row(name, Text(_plain(value)))
    return table


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_plain(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
