"""`understudy bench`: tables, JSON, and what is missing is told before anything is measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peers_support import peer_python

from understudy.benchmarks.loader import COMPARED, LoaderBench
from understudy.benchmarks.store import StoreBench
from understudy.cli.bench import report
from understudy.cli.main import main
from understudy.errors import InputError


class Counting:
    """Measures nothing that takes time."""

    def run(self, progress: Callable[[str], None]) -> dict[str, list[dict[str, Any]]]:
        progress("counting")
        rows = [{"what": "ours", "rate": 123456, "aim": 2.5}, {"what": "theirs", "rate": 7, "aim": None}]
        return {"rates": rows, "alone": [{"peak, MB": 1234}]}


def test_figures_are_printed_and_written_with_what_is_needed_to_judge_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["understudy", "bench", "counting"])
    assert report("counting", Counting(), 3, tmp_path / "out.json") == 0
    printed = capsys.readouterr().out
    assert "123,456" in printed
    assert "1,234" in printed
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["command"] == "understudy bench counting"
    assert data["seed"] == 3
    assert data["tables"] == Counting().run(lambda word: None)
    assert data["machine"]["cores"] >= 1
    assert {"numpy", "h5py", "python", "understudy"} <= set(data["versions"])


def test_a_folder_that_does_not_exist_is_told_before_measuring(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder .*nowhere does not exist"):
        report("counting", Counting(), 0, tmp_path / "nowhere" / "out.json")


def test_a_missing_peer_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", "loader", "--peer", str(tmp_path / "python")]) == 2
    assert "make .peers/robomimic/.installed" in capsys.readouterr().err
    assert main(["bench", "loader", "--rounds", "0"]) == 2
    assert "rounds must be above 0" in capsys.readouterr().err


def test_the_benchmark_of_windows_runs_beside_the_real_robomimic() -> None:
    words: list[str] = []
    bench = LoaderBench(peer_python("robomimic"), 4, 30, batch=16, rounds=2, seconds=0.02, gigabytes=0)
    tables = bench.run(words.append)
    assert len(tables["windows a second"]) == sum(map(len, COMPARED.values())) + 2 * len(COMPARED)
    for row in tables["windows a second"]:
        assert row["windows/s, median"] > 0
    for row in tables["ours over robomimic's"]:
        assert row["least"] <= row["ratio, median"] <= row["most"]
    assert any("round 2 of 2" in word for word in words)


def test_the_store_benchmark_measures_what_it_says(tmp_path: Path) -> None:
    """In little: the tables are whole, no step is lost, and packing gives every frame back (or it would raise)."""
    tables = StoreBench(seconds=0.5, episodes=30, saves=2).run()
    ours, swmr = tables["handover"]
    assert ours["steps"] == 15
    assert ours["lost"] == 0
    assert 0 < ours["p50 us"] <= ours["p99 us"] <= ours["max us"]
    assert swmr["p50 us"] > 0
    assert [row["episodes in the dataset"] for row in tables["saving"]] == [30]
    assert all(row["raw : packed"] >= 0.9 for row in tables["packing"])
    assert len(tables["packing"]) == 10
