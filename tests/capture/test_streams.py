"""What waits to be drained, how a stream is doing, and a late sample told from a clock that was set back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.capture import streams as stream_tables
from understudy.capture.streams import Expected, StreamTable, light, too_fast
from understudy.envs.arms.stamp_order import BELIEVED_AFTER, StampOrder

SECOND = 10**9


@dataclass(frozen=True)
class Said:
    key: str
    stamp_ns: int
    receive_ns: int
    value: np.ndarray
    packed: None = None


def said(stamp_ns: int, key: str = "joint_position") -> Said:
    return Said(key, stamp_ns, stamp_ns, np.array([float(stamp_ns)]))


def feed(table: StreamTable, start_s: float, seconds: float, rate_hz: float) -> int:
    """Samples at a rate; returns the latest stamp."""
    stamp_ns = 0
    for k in range(round(seconds * rate_hz)):
        stamp_ns = round((start_s + k / rate_hz) * SECOND)
        table.take(said(stamp_ns))
    return stamp_ns


@given(st.lists(st.integers(0, 5), max_size=60))
def test_everything_is_drained_once_and_in_order(drains: list[int]):
    table, put, got = StreamTable(), 0, []
    for count in drains:
        for _ in range(count):
            table.take(said(put))
            put += 1
        got += table.drain().get("joint_position", [])
    got += table.drain().get("joint_position", [])
    assert [sample.stamp_ns for sample in got] == list(range(put))
    if put:
        assert table.health(put)["joint_position"].lost == 0


def test_a_full_buffer_loses_the_oldest_and_counts_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream_tables, "BUFFERED", 10)
    table = StreamTable()
    feed(table, 0, 1, 30)
    assert len(table.drain()["joint_position"]) == 10
    assert table.health(SECOND)["joint_position"].lost == 20


def test_nothing_fills_up_or_counts_as_lost_once_a_recorder_has_stopped():
    table = StreamTable()
    table.begin(SECOND)
    feed(table, 0, 0.5, 100)
    table.keep_until(2 * SECOND)
    feed(table, 0.5, 60, 100)
    kept = table.drain()["joint_position"]
    assert kept[-1].stamp_ns == 2 * SECOND
    assert len(kept) == 201
    assert table.health(60 * SECOND)["joint_position"].lost == 0
    table.begin(70 * SECOND)  # the next take
    feed(table, 61, 1, 100)
    assert len(table.drain()["joint_position"]) == 100
    assert table.health(62 * SECOND)["joint_position"].lost == 0


def test_what_came_while_the_recorder_was_stuck_is_lost_and_counted():
    table = StreamTable()
    table.begin(SECOND)
    feed(table, 0, 3, 100)
    table.keep_until(5 * SECOND)
    assert table.health(3 * SECOND)["joint_position"].lost == 199
    assert len(table.drain()["joint_position"]) == 101


def test_what_frames_take_on_disk_is_told_of_those_that_are_kept():
    table = StreamTable(lambda key: key != "image_side")
    for key in ("image_front", "image_side", "joint_position"):
        for k in range(31):
            table.take(Said(key, k * SECOND // 30, k * SECOND // 30, np.zeros((4, 5, 3), np.uint8)))
    assert table.frame_bytes_per_s() == pytest.approx(30 * 60)


@pytest.mark.parametrize(
    ("rate_hz", "state", "why"), [(500.0, "alive", ""), (100.0, "slow", "it comes at 100 Hz; its file says 500 Hz")]
)
def test_a_rate_is_held_against_the_file(rate_hz: float, state: str, why: str):
    table = StreamTable()
    now_ns = feed(table, 0, 3, rate_hz)
    shown = light(Expected("joint_position", 0.25, 500.0), table.health(now_ns)["joint_position"], str)
    assert (shown.state, shown.why) == (state, why)
    assert shown.rate_hz == pytest.approx(rate_hz, rel=0.01)


def test_without_a_file_a_rate_is_held_against_how_it_began():
    table, expected = StreamTable(), Expected("joint_position", 0.25)
    now_ns = feed(table, 0, 4, 100)
    assert light(expected, table.health(now_ns)["joint_position"], str).expected_hz == pytest.approx(100, rel=0.02)
    now_ns = feed(table, 4, 3, 20)
    shown = light(expected, table.health(now_ns)["joint_position"], str)
    assert (shown.state, shown.why) == ("slow", "it comes at 20 Hz; it began with 100 Hz")
    now_ns = feed(table, 7, 3, 1000)
    shown = light(expected, table.health(now_ns)["joint_position"], str)
    assert shown.state == "alive"
    assert "comes at 1e+03 Hz, and 100 Hz are expected; does a second node" in too_fast([shown])[0]


def test_what_stopped_and_what_never_came_say_why():
    table = StreamTable()
    table.take(said(0))
    expected = Expected("joint_position", 0.25)
    stale = light(expected, table.health(3 * SECOND)["joint_position"], lambda key: "nobody publishes it", 4)
    assert (stale.state, stale.why, stale.lost) == ("stale", "nothing new for 3.0 s: nobody publishes it", 4)
    missing = light(expected, None, lambda key: f"nobody publishes {key}")
    assert (missing.state, missing.why) == ("missing", "nobody publishes joint_position")


# late, or set back?


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=50))
def test_stamps_that_rise_are_taken_as_they_come(steps: list[int]):
    order, now = StampOrder(), 0
    for step in steps:
        now += step
        assert order.judge(now) == "next"
        assert order.latest_ns == now
    assert order.resets == 0


@given(st.integers(2, 100), st.integers(0, 99))
def test_a_late_sample_is_refused_and_time_goes_on(period_ms: int, late: int):
    order = StampOrder()
    for k in range(100):
        assert order.judge(k * period_ms * 10**6) == "next"
        if k == late and k > 0:
            assert order.judge((k - 1) * period_ms * 10**6) == "late"
    assert order.resets == 0


def test_a_clock_that_was_set_back_is_believed_after_some_samples():
    order = StampOrder()
    for k in range(10):
        order.judge(100 * SECOND + k * 10**7)
    verdicts = [order.judge(40 * SECOND + k * 10**7) for k in range(10)]
    assert verdicts == ["late"] * (BELIEVED_AFTER - 1) + ["set back"] + ["next"] * (10 - BELIEVED_AFTER)
    assert order.resets == 1
    assert order.set_back_s == pytest.approx(60, abs=0.2)


def test_one_late_sample_again_and_again_is_not_a_clock():
    order = StampOrder()
    order.judge(SECOND)
    assert [order.judge(0) for _ in range(20)] == ["late"] * 20
