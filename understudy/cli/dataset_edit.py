"""`understudy dataset drop|restore|empty-trash|label|split|merge`: what a person changes in a dataset.

This module owns options and sentences; the changes are `datasets/store.py`'s and `datasets/merge.py`'s.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import Progress

from understudy.cli.options import require_seed
from understudy.datasets.merge import merge
from understudy.datasets.store import Dataset
from understudy.datasets.where import Where
from understudy.errors import InputError, unknown_name

__all__ = ["DatasetDrop", "DatasetEmptyTrash", "DatasetLabel", "DatasetMerge", "DatasetRestore", "DatasetSplit"]


@dataclass(frozen=True)
class DatasetDrop:
    """Move episodes to the dataset's trash, by id or by a condition; `dataset restore` brings them back.

    Example:
        understudy dataset drop demos/lift 20261121-101500-a1b2c3
        understudy dataset drop demos/lift --where "not success or steps < 20"
    """

    directory: tyro.conf.Positional[Path]
    """The dataset's folder."""
    ids: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[ID ...]")] = ()
    """Episodes, as `dataset list` names them."""
    where: str | None = None
    """Drop every episode that meets this condition; see `dataset list --help`."""

    def run(self) -> int:
        dataset = Dataset.open(self.directory)
        ids = chosen(dataset, self.ids, self.where)
        dataset.drop_all(ids)
        for id in ids:
            print(f"dropped {id}")
        return 0


@dataclass(frozen=True)
class DatasetRestore:
    """Bring dropped episodes back, by id.

    Example:
        understudy dataset restore demos/lift 20261121-101500-a1b2c3
    """

    directory: tyro.conf.Positional[Path]
    """The dataset's folder."""
    ids: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="ID ...")]
    """Episodes in the trash, as `dataset list --trash` names them."""

    def run(self) -> int:
        dataset = Dataset.open(self.directory)
        _require_known("dropped episode", self.ids, dataset.dropped)
        for id in self.ids:
            dataset.restore(id)
            print(f"restored {id}")
        return 0


@dataclass(frozen=True)
class DatasetEmptyTrash:
    """Delete dropped episodes for good.

    Example:
        understudy dataset empty-trash demos/lift --yes
    """

    directory: tyro.conf.Positional[Path]
    """The dataset's folder."""
    yes: bool = False
    """Do not ask."""

    def run(self) -> int:
        dataset = Dataset.open(self.directory)
        count = len(dataset.dropped)
        if count and not self.yes and not confirmed(f"Delete {count} dropped episodes of {dataset.path} for good?"):
            print("nothing was deleted")
            return 1
        print(f"deleted {len(dataset.empty_trash())} episodes for good")
        return 0


@dataclass(frozen=True)
class DatasetLabel:
    """Give episodes another verdict, note or operator; their recorded numbers stay as they are.

    Example:
        understudy dataset label demos/lift 20261121-101500-a1b2c3 --success no --note "slipped at the end"
        understudy dataset label demos/lift --where "operator == 'unknown'" --operator ada
    """

    directory: tyro.conf.Positional[Path]
    """The dataset's folder."""
    ids: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[ID ...]")] = ()
    """Episodes, as `dataset list` names them."""
    where: str | None = None
    """Label every episode that meets this condition; see `dataset list --help`."""
    success: Literal["yes", "no", "unjudged"] | None = None
    """The verdict."""
    note: str | None = None
    """The note; "" removes it."""
    operator: str | None = None
    """Who recorded it."""

    def run(self) -> int:
        if self.success is None and self.note is None and self.operator is None:
            raise InputError("Say what to write: --success, --note or --operator.")
        dataset = Dataset.open(self.directory)
        verdict = {"yes": True, "no": False, "unjudged": None, None: "keep"}[self.success]
        for id in chosen(dataset, self.ids, self.where):
            dataset.relabel(id, success=verdict, note=self.note, operator=self.operator)  # type: ignore[arg-type]
            print(f"labelled {id}")
        return 0


@dataclass(frozen=True)
class DatasetSplit:
    """Divide a dataset into named splits, whole episodes at random, or name a split by a condition.

    The same seed on the same episodes draws the same splits. Episodes recorded later belong to none of them.

    Example:
        understudy dataset split demos/lift --shares train=0.8 valid=0.2 --seed 0
        understudy dataset split demos/lift --name human --where "operator != 'scripted'"
    """

    directory: tyro.conf.Positional[Path]
    """The dataset's folder."""
    shares: tuple[str, ...] = ()
    """Splits to draw, NAME=SHARE each; together at most 1."""
    seed: int = 0
    """Of the draw."""
    name: str | None = None
    """Instead of drawing: the split that --where describes."""
    where: str | None = None
    """The condition; see `dataset list --help`."""

    def run(self) -> int:
        if (self.name is None) == (not self.shares) or (self.name is None) != (self.where is None):
            raise InputError("Give either --shares NAME=SHARE ..., or --name NAME with --where CONDITION.")
        require_seed(self.seed)
        dataset = Dataset.open(self.directory)
        if self.name is None:
            sizes = dataset.split(_shares(self.shares), np.random.default_rng(self.seed))
        else:
            ids = dataset.select(self.where)
            dataset.name_split(self.name, ids)
            sizes = {self.name: len(ids)}
        for name, size in sizes.items():
            print(f"{name}: {size} episodes")
        return 0


@dataclass(frozen=True)
class DatasetMerge:
    """Copy the episodes of several datasets into one, which is made if it is not there.

    An episode that is there already is left out, and so is a damaged one, which is named.

    Example:
        understudy dataset merge demos/monday demos/tuesday --out demos/lift
        understudy dataset merge demos/monday demos/tuesday --out demos/good --where "success"
    """

    sources: tyro.conf.Positional[tuple[Path, ...]]
    """The datasets' folders."""
    out: Path
    """The dataset that they go into."""
    where: str | None = None
    """Copy only episodes that meet this condition; see `dataset list --help`."""

    def run(self) -> int:
        if not self.sources:
            raise InputError("Name at least one dataset to merge.")
        if self.out.resolve() in {source.resolve() for source in self.sources}:
            raise InputError(
                f"{self.out} is one of the sources; the others would be copied into it. Name another folder."
            )
        condition = None if self.where is None else Where(self.where)  # refused before anything is made
        sources = [Dataset.open(source) for source in self.sources]
        target = Dataset.open_or_create(self.out, robot=sources[0].robot, task=sources[0].task)
        with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
            bar = progress.add_task("copying", total=None)
            found = merge(
                sources, target, condition, lambda done, count: progress.update(bar, completed=done, total=count)
            )
        print(f"{target.path}: {len(found.copied)} episodes copied, {len(found.present)} were there already")
        for reason in found.damaged:
            print(f"left out: {reason}")
        return 1 if found.damaged else 0


def chosen(dataset: Dataset, ids: tuple[str, ...], where: str | None) -> tuple[str, ...]:
    """The episodes that a person named, by id or by a condition; refuses all when one id is unknown.

    Raises:
        InputError: neither or both were given, or an id is unknown.
    """
    if bool(ids) == (where is not None):
        raise InputError("Name at least one episode by its id, or give a condition with --where (not both).")
    if where is not None:
        unreadable: dict[str, str] = {}
        found = dataset.select(where, None, unreadable)
        for reason in unreadable.values():
            print(f"passed over: {reason}", file=sys.stderr)
        return found
    _require_known("episode", ids, (*dataset.ids, *dataset.recovery.unreadable))
    return ids


def confirmed(question: str) -> bool:
    """Ask a person; where nobody can answer, refuse.

    Raises:
        InputError: there is no terminal to ask on.
    """
    if not sys.stdin.isatty():
        raise InputError(f"{question} There is no terminal to ask on; add --yes if you mean it.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _require_known(kind: str, ids: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Refuse all when one is unknown, before any is moved."""
    if not ids:
        raise InputError(f"Name at least one {kind} by its id.")
    for id in ids:
        if id not in known:
            raise unknown_name(kind, id, known)


def _shares(texts: tuple[str, ...]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for text in texts:
        name, equals, share = text.partition("=")
        if name in shares:
            raise InputError(f"The split {name!r} is given two shares; give it one.")
        try:
            shares[name] = float(share)
        except ValueError:
            raise InputError(f"{text!r} is no share; write NAME=SHARE, such as train=0.8.") from None
        if not equals:
            raise InputError(f"{text!r} is no share; write NAME=SHARE, such as train=0.8.")
    return shares
