"""`understudy dataset import|export|pack|describe-bag`: other tools' files, in and out.

This module owns options and sentences; formats are in `datasets/convert/`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import Progress

from understudy.datasets.convert.aloha import AlohaExport, AlohaImport
from understudy.datasets.convert.importing import FORMATS, describe_bag, export_dataset, import_dataset
from understudy.datasets.convert.lerobot import LeRobotExport, LeRobotImport
from understudy.datasets.convert.minari import MinariExport, MinariImport
from understudy.datasets.convert.robomimic import RobomimicExport, RobomimicImport
from understudy.datasets.convert.rosbag2 import Rosbag2Export, Rosbag2Import
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import load_robot
from understudy.errors import InputError

__all__ = ["DatasetDescribeBag", "DatasetExport", "DatasetImport", "DatasetPack"]


def _choice(name: str) -> Any:
    return tyro.conf.subcommand(name, prefix_name=False, description=FORMATS[name].summary)


ImportOptions = (
    Annotated[RobomimicImport, _choice("robomimic")]
    | Annotated[MinariImport, _choice("minari")]
    | Annotated[LeRobotImport, _choice("lerobot")]
    | Annotated[AlohaImport, _choice("aloha")]
    | Annotated[Rosbag2Import, _choice("rosbag2")]
)
ExportOptions = (
    Annotated[RobomimicExport, _choice("robomimic")]
    | Annotated[MinariExport, _choice("minari")]
    | Annotated[LeRobotExport, _choice("lerobot")]
    | Annotated[AlohaExport, _choice("aloha")]
    | Annotated[Rosbag2Export, _choice("rosbag2")]
)


@dataclass(frozen=True)
class DatasetImport:
    """Bring another tool's recording into a dataset, and say what it did not hold.

    The recording is read by a process of its own: a damaged file ends that one, and is named.

    Example:
        understudy dataset import low_dim.hdf5 --out demos/can robomimic
        understudy dataset import bags/monday --out demos/monday rosbag2 --mapping bag.yaml --rate-hz 20
        understudy dataset import data/so101 --out demos/so101 lerobot
    """

    path: tyro.conf.Positional[Path]
    """The recording: a file or a folder, as the format has it."""
    out: Path
    """The dataset's folder; made if it is not there."""
    format: tyro.conf.OmitArgPrefixes[ImportOptions]
    """The other tool."""
    json: bool = False
    """Print one JSON object for programs."""

    def run(self) -> int:
        name = _name_of(self.format, 0)
        with _progress("reading", hidden=self.json) as update:
            found = import_dataset(name, self.path, self.out, self.format, update)
        if self.json:
            facts = {"out": str(self.out), "ids": found.ids, "notes": found.notes, "failure": found.failure}
            print(json.dumps(facts, indent=2))
        else:
            print(f"{self.out}: {len(found.ids)} episodes imported from {self.path}")
            for note in found.notes:
                print(f"note: {note}")
        if found.failure:
            print(f"error: not all of it could be read: {found.failure}", file=sys.stderr)
        return 1 if found.failure else 0


@dataclass(frozen=True)
class DatasetExport:
    """Write a dataset, or a part of it, as another tool's files, and say what those cannot hold.

    Example:
        understudy dataset export demos/lift --out lift.hdf5 robomimic
        understudy dataset export demos/lift --out lift_lerobot --where success lerobot
        understudy dataset export demos/lift --out lift_bag --split valid rosbag2
    """

    directory: tyro.conf.Positional[Path]
    """The dataset's folder."""
    out: Path
    """The file or folder to write; it must not exist."""
    format: tyro.conf.OmitArgPrefixes[ExportOptions]
    """The other tool."""
    where: str | None = None
    """Only episodes that meet this condition; see `dataset list --help`."""
    split: str | None = None
    """Only episodes of this split."""
    json: bool = False
    """Print one JSON object for programs."""

    def run(self) -> int:
        dataset = Dataset.open(self.directory)
        ids = dataset.select(self.where, self.split)
        options = _with_joint_names(self.format, dataset)
        losses = export_dataset(dataset, ids, _name_of(self.format, 1), self.out, options)
        if self.json:
            print(json.dumps({"out": str(self.out), "episodes": len(ids), "losses": losses}, indent=2))
        else:
            print(f"{self.out}: {len(ids)} episodes")
            for loss in losses:
                print(f"note: {loss}")
        return 0


@dataclass(frozen=True)
class DatasetPack:
    """Write a dataset into one file, to be sent or kept: `dataset import FILE --out DIR robomimic` unpacks it whole.

    The file is robomimic's layout with everything of ours beside it.

    Example:
        understudy dataset pack demos/lift --out lift.hdf5
    """

    directory: tyro.conf.Positional[Path]
    """The dataset's folder."""
    out: Path
    """The file to write; it must not exist."""
    config: tyro.conf.Suppress[RobomimicExport] = field(default_factory=lambda: RobomimicExport(next_obs=False))

    def run(self) -> int:
        dataset = Dataset.open(self.directory)
        export_dataset(dataset, dataset.ids, "robomimic", self.out, self.config)
        print(f"{self.out}: {len(dataset)} episodes, {self.out.stat().st_size / 1e6:.1f} MB")
        return 0


@dataclass(frozen=True)
class DatasetDescribeBag:
    """Print a mapping file for a ROS 2 bag, to be edited: every topic, and the observation it could become.

    Example:
        understudy dataset describe-bag bags/monday > bag.yaml
    """

    path: tyro.conf.Positional[Path]
    """The bag's folder, or an .mcap file."""

    def run(self) -> int:
        print(describe_bag(self.path))
        return 0


def _with_joint_names(options: Any, dataset: Dataset) -> Any:
    """A bag calls joints as the robot does, where the robot is one that we know."""
    if not isinstance(options, Rosbag2Export) or options.joint_names:
        return options
    try:
        joints = load_robot(dataset.robot).joints
    except InputError:
        return options  # joints are numbered then, and the notes say so
    return dataclasses.replace(options, joint_names=tuple(joint.name for joint in joints))


def _name_of(options: object, index: int) -> str:
    """The format that an options class belongs to."""
    for name, format in FORMATS.items():
        if type(options).__name__ == (format.import_config, format.export_config)[index]:
            return name
    raise InputError(f"{type(options).__name__} belongs to no format.")


@contextlib.contextmanager
def _progress(word: str, *, hidden: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that the given function (done, count) moves; hidden where nobody looks."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=hidden or not sys.stderr.isatty()) as progress:
        bar = progress.add_task(word, total=None)
        yield lambda done, count: progress.update(bar, completed=done, total=count)
