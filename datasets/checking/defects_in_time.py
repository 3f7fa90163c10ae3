"""What can be wrong with when things happened, in one episode by itself: ticks, ages, clocks, stillness."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from understudy.datasets.checking.check_config import CheckConfig
from understudy.datasets.checking.measures import Measures, periods, sample_stamps, window
from understudy.datasets.checking.signals import slowest_rate
from understudy.datasets.checking.verdicts import Finding, Level
from understudy.datasets.episode import Episode

Check = Callable[[Episode, Measures, CheckConfig], Iterator[Finding]]

_CLOCK_SLACK_S = 0.005
"""Stamps that go back by less are jitter of a driver, not a clock that was set."""


def graded(value: float, warn: float, fail: float) -> Level | None:
    """The level of a value that is worse the larger it is."""
    if value > fail:
        return "fail"
    return "warn" if value > warn else None


def rate(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    """Ticks come as often as declared, over the whole episode and in its slowest second."""
    declared_hz = episode.info.rate_hz
    off = abs(measures.period_s * declared_hz - 1.0)
    level = graded(off, config.rate_warn, config.rate_fail)
    if level:
        yield Finding(level, "rate", f"ticks come at {1 / measures.period_s:.1f} Hz, declared {declared_hz:g} Hz")
    if level == "fail":
        return
    slowest, start = slowest_rate(periods(episode), window(episode)) if len(episode) > 5 else (declared_hz, 0)
    if level := graded(1.0 - slowest / declared_hz, config.slow_warn, config.slow_fail):
        text = f"ticks come at {slowest:.1f} Hz for a second or more from step {start} on, declared {declared_hz:g} Hz"
        yield Finding(level, "rate", text)


def regularity(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    """Ticks come evenly and without gaps."""
    declared_s = 1.0 / episode.info.rate_hz
    if level := graded(measures.jitter, config.jitter_warn, config.jitter_fail):
        yield Finding(level, "jitter", f"the tick period varies by {measures.jitter:.0%} (95th percentile)")
    periods_s = periods(episode)
    gaps = np.flatnonzero(periods_s > config.gap_periods * declared_s)
    if len(gaps):
        worst = int(gaps[np.argmax(periods_s[gaps])])
        level = "fail" if periods_s[worst] > config.gap_fail_s else "warn"
        many = "a gap of" if len(gaps) == 1 else f"{len(gaps)} gaps, the longest"
        yield Finding(level, "gap", f"{many} {periods_s[worst]:.2f} s after step {worst}")


def staleness(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    """Observations are young at their tick."""
    warn_s = config.age_warn_periods / episode.info.rate_hz
    for key, ages in episode.ages_s.items():
        worst = int(np.argmax(ages))
        if level := graded(float(ages[worst]), warn_s, max(warn_s, config.age_fail_s)):
            share = float(np.mean(ages > warn_s))
            text = f"{key} is up to {ages[worst]:.2f} s old (step {worst}), late at {share:.0%} of the ticks"
            yield Finding(level, "stale", text)


def clocks(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    """No clock goes back: not that of an observation's source, not that of a stream, and all share one epoch."""
    for key, ages in episode.ages_s.items():
        if np.min(ages) < 0:
            yield Finding("fail", "clock", f"{key} has a negative age at step {int(np.argmin(ages))}: clocks disagree")
            continue
        steps_s = np.diff(sample_stamps(episode, key))
        if len(steps_s) and float(np.min(steps_s)) < -_CLOCK_SLACK_S:
            row = int(np.argmin(steps_s))
            text = f"samples of {key} go back by {-steps_s[row]:.2f} s after step {row}: its clock was set"
            yield Finding("fail", "clock", text)
    first, last = int(episode.tick_ns[0]), int(episode.tick_ns[-1])
    slack_ns = max(10 * 10**9, last - first)
    for name, stream in episode.streams.items():
        stamps = stream.stamps_ns
        if len(stamps) == 0:
            continue
        steps_s = np.diff(stamps).astype(np.float64) * 1e-9
        if len(steps_s) and float(np.min(steps_s)) < -_CLOCK_SLACK_S:
            row = int(np.argmin(steps_s))
            text = f"stamps of stream {name} go back by {-steps_s[row]:.2f} s after sample {row}: its clock was set"
            yield Finding("fail", "clock", text)
        elif stamps[-1] < first - slack_ns or stamps[0] > last + slack_ns:
            away_s = max(first - int(stamps[-1]), int(stamps[0]) - last) * 1e-9
            yield Finding(
                "fail", "clock", f"stream {name} is stamped {away_s:.1f} s away from the ticks: another clock"
            )


def stillness(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    """Something happens, and the episode is worth its name."""
    if level := graded(measures.idle, config.idle_warn, config.idle_fail):
        yield Finding(level, "idle", f"nothing happens at {measures.idle:.0%} of the ticks")
    if len(episode) < config.short_steps:
        yield Finding("warn", "short", f"{len(episode)} steps only")
    if episode.info.success is False:
        yield Finding("warn", "success", "marked as failed")


TIME_CHECKS: tuple[Check, ...] = (rate, regularity, staleness, clocks, stillness)
