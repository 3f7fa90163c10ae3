"""How late what a page says arrives, told by the page's own clock.

A page stamps its inputs on its own clock, which shares neither zero nor rate with ours. The least difference that was
seen between arriving and being said stands for the journey of a message that nothing held up; what is above it is how
late a message is. So a delay that is there from the first message on is not seen: only what has become worse.

Clocks drift, so the least difference must rise with time; a clock that is being set right (NTP slews it) drifts faster
than anything that may be forgiven of a queue. The two are told apart by how they come: from one span to the next, a
slewed clock raises the least difference of all messages a little, and again and again; a queue raises it at once.
"""

from __future__ import annotations

import math

from understudy.envs.arms.clock import Clock

DRIFT = 2e-4
"""The least difference rises by at least this share of the time: two quartz clocks drift apart by less (200 in a
million), and what is late by half a second is forgiven after most of an hour only."""
SLEW = 6e-4
"""And by no more than this, however much later all messages of a span are than those of the one before: NTP slews a
clock by at most 500 in a million, and 100 are left for the quartz."""
SPAN_S = 30.0
"""Of so much time the quickest message is looked for; in it a clock that is slewed strays by less than 0.02 s."""


class Lateness:
    """Of the messages of one page, from its opening on; a reload begins anew, and so does the page's clock."""

    def __init__(self, clock: Clock) -> None:
        """`clock` says when messages arrive."""
        self._clock = clock
        self._least_s = math.inf
        """The difference of a message that nothing holds up."""
        self._span_ns = self._heard_ns = clock.now_ns()
        """When the span began that is looked at, and when the last message came."""
        self._quickest_s = self._before_s = math.inf
        """The least difference in this span, and in the one before."""

    def of(self, said_s: float) -> float:
        """How late a message that arrives now is, s, at least 0.

        Args:
            said_s: when it was said, on the page's clock, s.
        """
        now_ns = self._clock.now_ns()
        difference_s = now_ns * 1e-9 - said_s
        unheard_s, elapsed_s = (now_ns - self._heard_ns) * 1e-9, (now_ns - self._span_ns) * 1e-9
        self._heard_ns = now_ns
        if unheard_s >= SPAN_S:  # nobody knows what the clocks did
            self._least_s += SLEW * unheard_s
            self._quickest_s, self._before_s, self._span_ns = math.inf, math.inf, now_ns
        elif elapsed_s >= SPAN_S:
            self._end_span(elapsed_s)
            self._span_ns = now_ns
        self._quickest_s = min(self._quickest_s, difference_s)
        self._least_s = min(self._least_s, difference_s)
        return difference_s - self._least_s

    def _end_span(self, elapsed_s: float) -> None:
        """Let the least difference rise by what the clocks have drifted apart in a span of this length."""
        rose_s = self._quickest_s - self._before_s  # minus infinity after the first span: nothing to compare with
        self._least_s += min(max(rose_s, DRIFT * elapsed_s), SLEW * elapsed_s)
        self._before_s, self._quickest_s = self._quickest_s, math.inf
