"""A small LeRobot dataset, as `understudy dataset export` writes it."""

from __future__ import annotations

from pathlib import Path

from datasets_builders import make_episode

from understudy.datasets.convert.lerobot import LeRobotExport, write
from understudy.datasets.store import Dataset


def write_lerobot_sample(folder: Path, *, images: str = "frames", steps: int = 6) -> Path:
    """Three short episodes with frames of 12x16; returns the LeRobot dataset's folder."""
    dataset = Dataset.create(folder / "source", robot="two_joint", task="reach")
    ids = [dataset.add(make_episode(steps + number, seed=number, images=True)) for number in range(3)]
    write(dataset, ids, folder / "lerobot", LeRobotExport(images=images))
    return folder / "lerobot"
