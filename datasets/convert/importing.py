"""The formats there are, and bringing another tool's recording in: read by a process of its own, committed as it comes.

Owns the table of formats. What a format looks like is in its own module.
"""

from __future__ import annotations

import dataclasses
import importlib
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from understudy.datasets.convert.formats import Foreign
from understudy.datasets.episode import Episode, Summary, read_summary
from understudy.datasets.merge import require_alike
from understudy.datasets.quarantine import Report, run_quarantined
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError, InputError, UnderstudyError, unknown_name


@dataclass(frozen=True)
class Format:
    """Where a format lives."""

    module: str
    import_config: str
    export_config: str
    summary: str

    def loaded(self) -> Any:
        """Its module; other people's packages are imported only when it reads or writes."""
        return importlib.import_module(f"understudy.datasets.convert.{self.module}")


FORMATS: Mapping[str, Format] = {
    "robomimic": Format("robomimic", "RobomimicImport", "RobomimicExport", "one HDF5 file that robomimic opens"),
    "minari": Format("minari", "MinariImport", "MinariExport", "a Minari dataset folder"),
    "lerobot": Format("lerobot", "LeRobotImport", "LeRobotExport", "a LeRobot v3 dataset folder"),
    "aloha": Format("aloha", "AlohaImport", "AlohaExport", "a folder of ALOHA episode files"),
    "rosbag2": Format("rosbag2", "Rosbag2Import", "Rosbag2Export", "ROS 2 bags, MCAP or sqlite3"),
}


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        InputError: there is none; lists those there are.
    """
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    return FORMATS[name]


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    ids: tuple[str, ...]
    """The new episodes; without those that were there already."""
    notes: tuple[str, ...]
    """What was not there and what stands in its place; what was left out."""
    failure: str = ""
    """Why not all of it was read; what came before is in the dataset."""


def import_dataset(
    format: str,
    path: Path,
    out: Path,
    config: Any = None,
    progress: Callable[[int, int], None] | None = None,
    **limits: Any,
) -> Imported:
    """Read another tool's recording into the dataset at `out`, which is made if it is not there.

    The file is read by a child process, so that a damaged or hostile one can neither end nor hang this one.

    Args:
        format: one of `FORMATS`.
        path: the recording: a file or a folder.
        out: the dataset's folder.
        config: the format's import options; None for its defaults.
        progress: called with (episodes done, of how many).
        limits: `memory_bytes` and `stall_s` of `run_quarantined`.

    Raises:
        InputError: there is no such format.
        DatasetError: nothing could be read; names the file.
        MissingExtra: the format needs a package that is not installed.
    """
    options = {} if config is None else dataclasses.asdict(config)
    format_named(format)
    arguments = {"format": format, "path": str(path), "out": str(out), "config": _plain(options)}

    def forward(told: Mapping[str, Any]) -> None:
        if progress is not None:
            progress(int(told["done"]), int(told["count"]))

    result = run_quarantined("import", arguments, subject=str(path), report=forward, **limits)
    return Imported(tuple(result["ids"]), tuple(result["notes"]), result["failure"])


def import_here(arguments: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """The quarantined part of `import_dataset`."""
    chosen = format_named(arguments["format"])
    module = chosen.loaded()
    config = _config(getattr(module, chosen.import_config), arguments["config"])
    path, out = Path(arguments["path"]), Path(arguments["out"])
    if not path.exists():
        raise DatasetError(f"{path} does not exist; expected {chosen.summary}.")
    foreign = cast("Foreign", module.read(path, config))
    ids: list[str] = []
    added: list[str] = []
    target: _Target | None = None
    failure = ""
    try:
        for episode in foreign.episodes:
            target = target or _Target(Dataset.open_or_create(out, robot=foreign.robot, task=foreign.task), path)
            id, is_new = target.add(episode)
            ids.append(id)
            added += [id] if is_new else []
            report({"done": len(ids), "count": foreign.count})
    except UnderstudyError as error:
        if not ids:
            raise
        failure = str(error)
    if not ids:
        raise DatasetError(f"{path} holds no episodes.")
    _add_to_splits(out, foreign, ids)
    notes = list(foreign.notes)
    if present := len(ids) - len(added):
        notes.append(f"{present} episodes were there already, and were not added again.")
    return {"ids": added, "notes": notes, "failure": failure}


class _Target:
    """The dataset that is imported to: it takes what is like its episodes, and nothing twice."""

    def __init__(self, dataset: Dataset, source: Path) -> None:
        self._dataset, self._source = dataset, source
        summaries = [dataset.summary(id) for id in dataset.ids]
        self._first = (dataset.file(summaries[0].id), summaries[0]) if summaries else None
        self._known = {summary.content_checksum: summary.id for summary in summaries}
        # An import that was killed may have left its last episode as a take.
        takes = {id: dataset.take_file(id) for id in dataset.takes()}
        self._takes = {read_summary(file).content_checksum: file for file in takes.values()}

    def add(self, episode: Episode) -> tuple[str, bool]:
        """Commit an episode, unless one with the same arrays is there; returns the id, and whether it is new.

        Raises:
            DatasetError: it is of another robot or task, or could not be trained on with those that are there.
            OSError: the disk is full or fails; nothing was added.
        """
        with self._dataset.drafted(episode) as draft:
            summary = read_summary(draft)
            self._require_alike(summary)
            if summary.content_checksum in self._known:
                return self._known[summary.content_checksum], False
            take = self._takes.pop(summary.content_checksum, None)
            id = self._dataset.commit_draft(draft) if take is None else self._dataset.commit(take, verify=True)
        self._known[summary.content_checksum] = id
        self._first = self._first or (self._dataset.file(id), summary)
        return id, True

    def _require_alike(self, summary: Summary) -> None:
        if self._first is not None:
            advice = f"import {self._source} to another --out"
            if summary.info.action_spec != self._first[1].info.action_spec:
                advice += ", or name the same bounds of actions where the format's options have them"
            require_alike([self._first, (self._source, summary)], advice)


def _add_to_splits(out: Path, foreign: Foreign, ids: Sequence[str]) -> None:
    """Let the new episodes belong to the splits that they belonged to where they came from."""
    dataset = Dataset.open(out)
    present = dataset.splits()
    for name, numbers in foreign.splits.items():
        if name.isidentifier() and name.isascii():
            chosen = (*present.get(name, ()), *(ids[k] for k in numbers if k < len(ids)))
            dataset.name_split(name, tuple(dict.fromkeys(chosen)))


def export_dataset(dataset: Dataset, ids: Sequence[str], format: str, out: Path, config: Any = None) -> tuple[str, ...]:
    """Write episodes as another tool's files; returns a sentence for each thing that those cannot hold.

    Raises:
        InputError: there is no such format, or `out` exists.
        DatasetError: there are no episodes, or one is damaged or of another layout; names it.
        MissingExtra: the format needs a package that is not installed.
    """
    chosen = format_named(format)
    if out.exists():
        raise InputError(f"{out} exists; give another path, or remove it first.")
    if not ids:
        raise DatasetError(f"No episode of {dataset.path} is chosen; there is nothing to export.")
    module = chosen.loaded()
    options = config if config is not None else getattr(module, chosen.export_config)()
    return tuple(module.write(dataset, ids, out, options))


def describe_bag_here(arguments: Mapping[str, Any], report: Report) -> str:
    """The quarantined part of describing a bag's topics."""
    return str(importlib.import_module("understudy.datasets.convert.rosbag2").describe_bag(Path(arguments["path"])))


def describe_bag(path: Path) -> str:
    """A mapping file for a bag, to be edited: every topic, and what it could become.

    Raises:
        DatasetError: it is no bag, or is damaged.
    """
    return str(run_quarantined("describe-bag", {"path": str(path)}, subject=str(path)))


def _plain(value: Any) -> Any:
    """A config's values as plain JSON."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _config(cls: type[Any], data: Mapping[str, Any]) -> Any:
    """The config that `_plain` was made from."""
    hints = typing.get_type_hints(cls)
    return cls(**{name: _typed(hints[name], value) for name, value in data.items()})


def _typed(hint: Any, value: Any) -> Any:
    choices = typing.get_args(hint)
    if isinstance(value, str) and (hint is Path or Path in choices):
        return Path(value)
    if isinstance(value, list) and (
        typing.get_origin(hint) is tuple or any(typing.get_origin(c) is tuple for c in choices)
    ):
        return tuple(value)
    return value
