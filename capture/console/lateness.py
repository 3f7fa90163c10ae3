"""How late what a page says arrives, told by the page's own clock.

A page stamps its inputs on its own clock, which shares neither zero nor rate with ours. The least difference that was
seen between arriving and being said stands for the journey of a message that nothing held up; what is above it is how
late a message is. So a delay that is there from the first message on is not seen: only what has become worse.
"""

from __future__ import annotations

import math

from understudy.envs.arms.clock import Clock

DRIFT = 2e-4
"""The least difference rises by this share of the time: two quartz clocks drift apart by less (200 in a million), and
what is late by half a second is forgiven after most of an hour only."""


class Lateness:
    """Of the messages of one page, from its opening on; a reload begins anew, and so does the page's clock."""

    def __init__(self, clock: Clock) -> None:
        """`clock` says when messages arrive."""
        self._clock = clock
        self._least_s = math.inf
        self._seen_ns = 0

    def of(self, said_s: float) -> float:
        """How late a message that arrives now is, s, at least 0.

        Args:
            said_s: when it was said, on the page's clock, s.
        """
        now_ns = self._clock.now_ns()
        least_s = self._least_s + DRIFT * (now_ns - self._seen_ns) * 1e-9
        difference_s = now_ns * 1e-9 - said_s
        self._least_s, self._seen_ns = min(least_s, difference_s), now_ns
        return difference_s - self._least_s
