"""A dead man's bookkeeping: which sources must speak, when each last did, and which are late.

Owns no thread and no timer: whoever runs a loop asks it. Times are nanoseconds of one monotonic clock, handed in or
read from the injected `Clock`; the wall clock is never used. Safe to use from several threads.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from understudy.envs.arms.clock import Clock
from understudy.errors import InputError, unknown_name


@dataclass(frozen=True)
class Source:
    """What is known of one source."""

    name: str
    limit_s: float
    silent_s: float | None
    """Since it last spoke; None: it never did."""
    waited_s: float
    """Since it last spoke or, if it never did, since it was expected."""

    @property
    def late(self) -> bool:
        """Whether it has been silent for longer than allowed."""
        return self.waited_s > self.limit_s

    def __str__(self) -> str:
        if self.silent_s is None:
            return f"{self.name} has not spoken in {self.waited_s:.2f} s (allowed {self.limit_s:.2f} s)"
        return f"{self.name} has been silent for {self.silent_s:.2f} s (allowed {self.limit_s:.2f} s)"


class Watchdog:
    """Knows who must be heard how often."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._limits_ns: dict[str, int] = {}
        self._expected_ns: dict[str, int] = {}
        self._heard_ns: dict[str, int] = {}

    def expect(self, name: str, limit_s: float) -> None:
        """From now on `name` must be heard at least every `limit_s`; expecting it again starts afresh.

        Raises:
            InputError: the limit is not a positive number.
        """
        if not limit_s > 0:
            raise InputError(f"Watchdog: the limit of {name!r} must be a positive number of seconds, got {limit_s}.")
        with self._lock:
            self._limits_ns[name] = round(limit_s * 1e9)
            self._expected_ns[name] = self._clock.now_ns()
            self._heard_ns.pop(name, None)

    def forget(self, name: str) -> None:
        """`name` need not be heard any more."""
        with self._lock:
            self._limits_ns.pop(name, None)
            self._expected_ns.pop(name, None)
            self._heard_ns.pop(name, None)

    def heard(self, name: str, stamp_ns: int | None = None) -> None:
        """`name` spoke at `stamp_ns` (now, if None). An older stamp than known changes nothing.

        Raises:
            InputError: nobody expects `name`.
        """
        with self._lock:
            if name not in self._limits_ns:
                raise unknown_name("watched source", name, self._limits_ns)
            stamp = self._clock.now_ns() if stamp_ns is None else stamp_ns
            self._heard_ns[name] = max(stamp, self._heard_ns.get(name, stamp))

    def sources(self) -> list[Source]:
        """Every expected source as it stands now, in the order of expecting."""
        now = self._clock.now_ns()
        with self._lock:
            return [self._source(name, now) for name in self._limits_ns]

    def late(self) -> list[Source]:
        """The sources that have been silent for too long."""
        return [source for source in self.sources() if source.late]

    def _source(self, name: str, now: int) -> Source:
        heard = self._heard_ns.get(name)
        silent = None if heard is None else max(0.0, (now - heard) * 1e-9)
        waited = max(0.0, (now - self._expected_ns[name]) * 1e-9) if silent is None else silent
        return Source(name, self._limits_ns[name] * 1e-9, silent, waited)
