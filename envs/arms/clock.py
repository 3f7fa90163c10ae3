"""Time as the arm sees it: monotonic, injected, and the same loop everywhere.

On hardware waiting sleeps; in simulation waiting *is* stepping the physics (see `sim_arm`); in tests it is virtual.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock in nanoseconds."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary start; never goes back."""

    def sleep_until(self, stamp_ns: int) -> None:
        """Return when `now_ns() >= stamp_ns`; at once if that has passed."""


class MonotonicClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        """See `Clock`."""
        return time.monotonic_ns()

    def sleep_until(self, stamp_ns: int) -> None:
        """See `Clock`."""
        delay_ns = stamp_ns - time.monotonic_ns()
        if delay_ns > 0:
            time.sleep(delay_ns * 1e-9)


class VirtualClock:
    """A clock that moves only when told, for tests and pure-numpy arms."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """See `Clock`."""
        return self._now_ns

    def sleep_until(self, stamp_ns: int) -> None:
        """Jump to `stamp_ns` (never back)."""
        self._now_ns = max(self._now_ns, stamp_ns)

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`, for tests."""
        self._now_ns += round(seconds * 1e9)


class Ticker:
    """A fixed-rate loop on a clock: `wait()` returns at the next tick and counts the ticks that came late.

    `part(name)` marks which part of the loop begins; when a tick overruns, the slowest part of it is blamed in
    `overruns`.
    """

    def __init__(self, clock: Clock, period_s: float) -> None:
        self.clock = clock
        self.period_ns = round(period_s * 1e9)
        self.overruns: Counter[str] = Counter()
        self.next_ns = clock.now_ns() + self.period_ns
        self._parts: list[tuple[str, int]] = []

    def part(self, name: str) -> None:
        """A part of the loop called `name` begins now."""
        self._parts.append((name, self.clock.now_ns()))

    def wait(self) -> int:
        """Wait for the next tick and return its stamp in ns.

        A missed tick is counted, not made up for: the schedule starts again from now, so that a slow tick is never
        followed by a burst.
        """
        now = self.clock.now_ns()
        if now > self.next_ns:
            self.overruns[self._slowest(now)] += 1
            self.next_ns = now
        self.clock.sleep_until(self.next_ns)
        self._parts.clear()
        tick = self.next_ns
        self.next_ns += self.period_ns
        return tick

    def _slowest(self, now: int) -> str:
        if not self._parts:
            return "loop"
        ends = [stamp for _, stamp in self._parts[1:]] + [now]
        lengths: Counter[str] = Counter()
        for (name, begin), end in zip(self._parts, ends, strict=True):
            lengths[name] += end - begin
        return max(lengths, key=lambda name: lengths[name])
