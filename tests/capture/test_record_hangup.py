"""A terminal that is closed in the middle of a take ends `understudy record` as SIGTERM does, and costs no take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from terminal_support import Person

pytest.importorskip("pybullet")

from understudy.datasets.store import Dataset


def test_a_terminal_that_is_closed_in_mid_take_costs_no_take(tmp_path: Path) -> None:
    """It was killed by SIGHUP where it stood."""
    out = tmp_path / "demos"
    person = Person("record", "reach", "--device", "keyboard", "--countdown", "0", "--episodes", "3", "--out", out)
    try:
        person.wait_for("enter starts")
        person.type("\r")
        person.wait_for("RECORDING")
        person.type("w", times=30)
        person.hang_up()
        assert person.wait() == 1  # fewer than asked for, and not killed
    finally:
        person.close()
    dataset = Dataset.open(out)
    (id,) = dataset.takes()
    episode = dataset.read(dataset.commit(dataset.take_file(id)))
    assert len(episode) >= 15
    assert np.count_nonzero(episode.requested[:, 0] > 0) >= 10
    assert not dataset.recovery.unreadable
