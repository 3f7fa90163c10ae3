"""Small ROS 2 bags, as `understudy dataset export` writes them."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from datasets_builders import make_episode

from understudy.datasets.convert.rosbag2 import Rosbag2Export, write
from understudy.datasets.store import Dataset


def write_rosbag2_sample(folder: Path, *, storage: str = "mcap", steps: int = 6) -> Path:
    """Three short episodes with frames of 12x16, a bag each; returns the folder of bags."""
    shutil.copytree(_made(storage, steps).name, folder, dirs_exist_ok=True)
    return folder / "bags"


@functools.cache
def _made(storage: str, steps: int) -> tempfile.TemporaryDirectory[str]:
    """Made once a process, and copied: making it takes longer than most tests of it."""
    kept = tempfile.TemporaryDirectory()
    folder = Path(kept.name)
    dataset = Dataset.create(folder / "source", robot="two_joint", task="reach")
    ids = [dataset.add(make_episode(steps + number, seed=number, images=True)) for number in range(3)]
    write(dataset, ids, folder / "bags", Rosbag2Export(storage=storage))
    return kept
