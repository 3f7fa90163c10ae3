"""More data than memory: statistics and an epoch in a process that could not hold the data."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.benchmarks.beyond_memory import in_child, make_dataset
from understudy.datasets.batching.normalisation import FILE, read_normalisation
from understudy.errors import UnderstudyError

FRAME = (96, 128, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large") / "d"
    make_dataset(folder, 130e6, FRAME)
    return folder


def test_a_process_goes_through_64_mb_more_than_it_may_hold(folder: Path) -> None:
    row = in_child(folder, spare_bytes=66_000_000, batch=32)
    assert row["data, MB"] >= 130
    assert row["peak resident, MB"] < 130 - 30
    assert row["peak address space, MB"] <= row["limit of address space, MB"]
    assert row["windows"] == 100 * len(list((folder / "episodes").glob("*.hdf5")))
    found = read_normalisation(folder / FILE)
    assert found is not None
    # the frames are noise: every value of a channel is as likely as any other
    image = found.observations["image_front"]
    assert image.count == row["windows"] * FRAME[0] * FRAME[1]
    assert image.mean == pytest.approx([127.5] * 3, abs=0.1)
    assert image.std == pytest.approx([73.9] * 3, abs=0.1)
    assert [*image.minimum, *image.maximum] == [0.0] * 3 + [255.0] * 3


def test_a_limit_that_does_not_bind_is_told(tmp_path: Path) -> None:
    make_dataset(tmp_path / "d", 1e6, FRAME, steps=10)
    with pytest.raises(UnderstudyError, match="All windows fit within the limit"):
        in_child(tmp_path / "d", spare_bytes=200_000_000, batch=32)
