"""Time on a virtual clock: ticks are kept, lateness is counted and blamed, and never made up for in a burst."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.envs.arms.clock import MonotonicClock, Ticker, VirtualClock

PERIOD_S = 0.05
PERIOD_NS = 50_000_000


def test_a_loop_that_keeps_up_ticks_exactly_every_period():
    clock = VirtualClock(7)
    ticker = Ticker(clock, PERIOD_S)
    stamps = []
    for _ in range(100):
        clock.advance(0.03)
        stamps.append(ticker.wait())
        assert clock.now_ns() == stamps[-1]
    assert stamps == [7 + PERIOD_NS * (tick + 1) for tick in range(100)]
    assert not ticker.overruns


@given(st.lists(st.floats(0.0, 0.3), min_size=1, max_size=60))
def test_ticks_never_burst_and_every_late_one_is_counted(busy_s: list[float]):
    clock = VirtualClock()
    ticker = Ticker(clock, PERIOD_S)
    stamps, late = [0], 0
    for seconds in busy_s:
        clock.advance(seconds)
        late += clock.now_ns() > stamps[-1] + PERIOD_NS
        stamps.append(ticker.wait())
        assert clock.now_ns() == stamps[-1]  # a tick is now, never in the past
    gaps = [after - before for before, after in itertools.pairwise(stamps)]
    assert min(gaps) >= PERIOD_NS
    assert sum(ticker.overruns.values()) == late


def test_one_slow_tick_costs_one_overrun_and_no_burst():
    clock = VirtualClock()
    ticker = Ticker(clock, PERIOD_S)
    ticker.wait()
    clock.advance(1.0)  # twenty periods
    assert ticker.wait() == PERIOD_NS + 10**9
    assert ticker.wait() == PERIOD_NS + 10**9 + PERIOD_NS
    assert ticker.overruns.total() == 1


def test_the_slowest_part_of_a_late_tick_is_blamed():
    clock = VirtualClock()
    ticker = Ticker(clock, PERIOD_S)

    def tick(observe_s: float, decide_s: float, send_s: float) -> None:
        for name, seconds in (("observe", observe_s), ("decide", decide_s), ("send", send_s)):
            ticker.part(name)
            clock.advance(seconds)
        ticker.wait()

    tick(0.01, 0.02, 0.01)  # in time: nobody is blamed
    tick(0.01, 0.06, 0.01)
    tick(0.01, 0.01, 0.06)
    tick(0.01, 0.05, 0.02)
    tick(0.04, 0.02, 0.01)
    assert ticker.overruns == {"decide": 2, "send": 1, "observe": 1}


def test_parts_are_those_of_this_tick_only():
    clock = VirtualClock()
    ticker = Ticker(clock, PERIOD_S)
    ticker.part("decide")
    clock.advance(0.04)
    ticker.wait()
    clock.advance(0.2)
    ticker.wait()
    assert ticker.overruns == {"loop": 1}


def test_a_part_entered_twice_counts_both_times():
    clock = VirtualClock()
    ticker = Ticker(clock, PERIOD_S)
    for name, seconds in (("observe", 0.03), ("decide", 0.04), ("observe", 0.03)):
        ticker.part(name)
        clock.advance(seconds)
    ticker.wait()
    assert ticker.overruns == {"observe": 1}


@given(st.lists(st.integers(0, 10**10), max_size=20))
def test_the_virtual_clock_never_goes_back(stamps: list[int]):
    clock = VirtualClock(5)
    for stamp in stamps:
        before = clock.now_ns()
        clock.sleep_until(stamp)
        assert clock.now_ns() == max(before, stamp)


def test_the_monotonic_clock_sleeps_until_its_stamp_and_not_at_all_for_the_past():
    clock = MonotonicClock()
    begin = clock.now_ns()
    clock.sleep_until(begin + 20_000_000)
    assert clock.now_ns() >= begin + 20_000_000
    real = time.monotonic()
    clock.sleep_until(begin)
    assert time.monotonic() - real < 0.05
    assert clock.now_ns() == pytest.approx(time.monotonic_ns(), abs=10**9)
