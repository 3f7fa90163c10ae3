"""`understudy bench capture`: in little, over real DDS, nothing is lost, and the tables are whole."""

from __future__ import annotations

import pytest

from understudy.benchmarks.capture import CaptureBench, table
from understudy.cli.main import main


def test_what_makes_no_sense_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "capture", "--seconds", "1"]) == 2
    assert "seconds must be 0, or from 2 to 3600, got 1" in " ".join(capsys.readouterr().err.split())


def test_a_table_has_a_row_a_measure_and_the_ratio() -> None:
    ours = {"recorder": "understudy", "frames": 3, "CPU while recording, %": 30.0, "ticks": 5}
    rows = table([ours, {"recorder": "rosbags", "frames": 3, "CPU while recording, %": 20.0}])
    assert [row["measure"] for row in rows] == ["frames", "CPU while recording, %", "ticks", "CPU, ours over rosbags'"]
    assert rows[2]["rosbags"] is None
    assert rows[3]["understudy"] == 1.5
    assert len(table([ours])) == 3


@pytest.mark.slow
@pytest.mark.ros
@pytest.mark.parametrize("compressed", [False, True])
def test_in_little_everything_that_came_is_on_disk(compressed: bool) -> None:
    pytest.importorskip("rclpy")
    seconds = {"seconds": 0.0, "compressed_seconds": 3.0} if compressed else {"seconds": 3.0, "compressed_seconds": 0.0}
    tables = CaptureBench(**seconds, latency_seconds=0, rosbags=not compressed).run()
    (rows,) = tables.values()
    told = {row["measure"]: row["understudy"] for row in rows}
    assert told["lost of what came"] == 0
    assert told["joint states"] + told["dropped by DDS"] > 0.9 * 1500
    assert told["frames"] + told["dropped by DDS"] > 0.8 * 180
    assert told["ticks"] > 75
    assert told["CPU while recording, %"] > 0
    if not compressed:
        assert {row["measure"]: row["rosbags, by rclpy"] for row in rows}["joint states"] > 0.8 * 1500


def test_an_input_becomes_a_command() -> None:
    pytest.importorskip("pybullet")
    tables = CaptureBench(seconds=0, compressed_seconds=0, latency_seconds=2).run()
    (rows,) = tables.values()
    assert rows[0]["times"] > 20
    assert 0 < rows[1]["p50 ms"] <= rows[1]["p99 ms"] <= rows[1]["at most ms"]
