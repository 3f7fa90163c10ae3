"""A small LeRobot dataset, as `understudy dataset export` writes it."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from datasets_builders import make_episode

from understudy.datasets.convert.lerobot import LeRobotExport, write
from understudy.datasets.store import Dataset


def write_lerobot_sample(folder: Path, *, images: str = "frames", steps: int = 6) -> Path:
    """Three short episodes with frames of 12x16; returns the LeRobot dataset's folder."""
    shutil.copytree(_made(images, steps).name, folder, dirs_exist_ok=True)
    return folder / "lerobot"


@functools.cache
def _made(images: str, steps: int) -> tempfile.TemporaryDirectory[str]:
    """Made once a process, and copied: making it takes longer than most tests of it."""
    kept = tempfile.TemporaryDirectory()
    folder = Path(kept.name)
    dataset = Dataset.create(folder / "source", robot="two_joint", task="reach")
    ids = [dataset.add(make_episode(steps + number, seed=number, images=True)) for number in range(3)]
    write(dataset, ids, folder / "lerobot", LeRobotExport(images=images))
    return kept
