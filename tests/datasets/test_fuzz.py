"""Every reader, on recordings damaged in every way: read, or refused with the file's name; never anything else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.datasets.convert.hdf5_samples import robomimic_sample
from understudy.datasets.convert.importing import import_dataset
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SUBJECTS = ["episode", "dataset", "robomimic", "minari", "aloha", "lerobot", "rosbag2-mcap", "rosbag2-sqlite3"]


def fuzz(subject: str, cases: int, seed: int, timeout_s: float) -> dict[str, int]:
    """Run the driver; its first case that is neither read nor refused fails the test, with the damage that did it."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", HERE)))
    finished = subprocess.run(
        [sys.executable, str(HERE / "fuzzing.py"), subject, str(cases), str(seed)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"},
    )
    assert finished.returncode == 0, (finished.stdout + finished.stderr)[-6000:]
    counts: dict[str, int] = json.loads(finished.stdout.splitlines()[-1])
    print(subject, counts)
    return counts


@pytest.mark.parametrize("subject", SUBJECTS)
def test_some_damage(subject: str) -> None:
    counts = fuzz(subject, 40, seed=0, timeout_s=170)
    assert counts["cases"] >= 40
    assert counts.get("refused", 0) > 5  # the damage does damage


@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_ten_thousand_kinds_of_damage(subject: str) -> None:
    counts = fuzz(subject, 10_000, seed=1, timeout_s=5300)
    assert counts["cases"] >= 10_000
    assert counts.get("refused", 0) > 1000


def test_an_import_that_meets_a_spoilt_episode_keeps_what_came_before_it(tmp_path: Path) -> None:
    """Through the real quarantine: what came before is there and sound, and the rest is said."""
    path = robomimic_sample(tmp_path)
    with h5py.File(path, "r+") as file:
        file["data/demo_1/obs/object"][2, 3] = np.nan
    found = import_dataset("robomimic", path, tmp_path / "demos")
    assert len(found.ids) == 1
    assert "low_dim.hdf5" in found.failure
    assert "demo_1" in found.failure
    assert "not finite" in found.failure
    opened = Dataset.open(tmp_path / "demos")
    assert opened.ids == found.ids
    assert not opened.damaged()
    assert opened.summary(found.ids[0]).info.provenance == "robomimic file low_dim.hdf5, demo_0"


def test_an_import_of_nothing_readable_leaves_no_dataset(tmp_path: Path) -> None:
    path = robomimic_sample(tmp_path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DatasetError, match=r"low_dim\.hdf5"):
        import_dataset("robomimic", path, tmp_path / "demos")
    assert not (tmp_path / "demos").exists()
