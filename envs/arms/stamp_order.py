"""Tells a sample that comes late from a clock that was set back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SAME_STAMP_NS = 1_000_000
"""Equal stamps may differ by this much once they are on the arm's clock."""
BELIEVED_AFTER = 5
"""This many samples in a row that are old and rise among themselves are a clock that was set back; one is late."""

Verdict = Literal["next", "late", "set back"]


@dataclass
class StampOrder:
    """The stamps of one stream. A late sample is refused; after a reset the stream goes on from the new time."""

    latest_ns: int | None = None
    resets: int = 0
    set_back_s: float = 0.0
    """By how much, at the last reset."""
    _old_ns: int = 0
    _old_count: int = 0

    def judge(self, stamp_ns: int) -> Verdict:
        """Whether a sample is the next one, is late (and should not be used), or begins a time that was set back."""
        if self.latest_ns is None or stamp_ns >= self.latest_ns - SAME_STAMP_NS:
            self.latest_ns = stamp_ns if self.latest_ns is None else max(stamp_ns, self.latest_ns)
            self._old_count = 0
            return "next"
        rising = self._old_count > 0 and stamp_ns > self._old_ns
        self._old_count = self._old_count + 1 if rising else 1
        self._old_ns = stamp_ns
        if self._old_count < BELIEVED_AFTER:
            return "late"
        self.set_back_s = (self.latest_ns - stamp_ns) * 1e-9
        self.resets += 1
        self.latest_ns, self._old_count = stamp_ns, 0
        return "set back"
