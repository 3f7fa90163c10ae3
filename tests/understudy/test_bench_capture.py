"""`understudy bench capture`: in little, over real DDS, nothing is lost, and the tables are whole."""

from __future__ import annotations

import pytest

from understudy.benchmarks.capture import CPU, CPU_IN_ALL, CaptureBench, lost_of, table
from understudy.benchmarks.capture_takers import flat
from understudy.cli.main import main


def test_what_makes_no_sense_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "capture", "--seconds", "1"]) == 2
    assert "seconds must be 0, or from 2 to 3600, got 1" in " ".join(capsys.readouterr().err.split())


def test_a_table_has_a_row_a_measure_and_the_ratios() -> None:
    ours = {"recorder": "understudy", "frames": 3, CPU: 30.0, CPU_IN_ALL: 10.0, "ticks": 5}
    rows = table([ours, {"recorder": "rosbags", "frames": 3, CPU: 20.0, CPU_IN_ALL: 4.0}])
    ratios = ["CPU, ours over rosbags'", "CPU with keeping, ours over rosbags'"]
    assert [row["measure"] for row in rows] == ["frames", CPU, CPU_IN_ALL, "ticks", *ratios]
    assert rows[3]["rosbags"] is None
    assert [row["understudy"] for row in rows[4:]] == [1.5, 2.5]
    assert len(table([ours])) == 4


def test_what_is_lost_is_counted_stream_by_stream_and_from_the_beginning() -> None:
    """Frames that DDS dropped hid joint states that we lost, and what was lost before the first one was not seen."""
    first = {"joints": 100, "left": 10, "right": 10}

    def lost(joints: int = 0, dropped: int = 0, late: int = 0) -> int:
        return lost_of(
            {
                "first": {"joints": 100 + late, "left": 10, "right": 9},
                "missing": {"joints": joints, "left": dropped, "right": 0},
                "dropped": {"joints": 0, "left": dropped, "right": 0},
            },
            first,
        )

    assert (lost(), lost(dropped=7), lost(joints=3, dropped=7), lost(late=4)) == (0, 0, 3, 4)


def test_the_source_knows_what_it_published_when() -> None:
    pytest.importorskip("rclpy")
    from understudy.benchmarks.capture_source import Source

    source = Source.__new__(Source)
    source._stamps_ns = {"joints": [10, 20, 30], "left": [15], "right": []}
    assert source.first_since(20) == {"joints": 1, "left": 1, "right": 0}


def test_memory_is_flat_up_to_a_tenth_or_30_mb() -> None:
    assert flat(200.0, 229.0)
    assert not flat(200.0, 231.0)
    assert flat(1000.0, 1099.0)
    assert not flat(1000.0, 1101.0)


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
    every, newest, read = rows
    assert every["times"] > newest["times"] > 20
    assert every["what"].endswith("every input")
    assert newest["p50 ms"] < every["p50 ms"]  # those that were overtaken have waited longer
    assert 0 < read["p50 ms"] <= read["p99 ms"] <= read["at most ms"]
