"""From where on something in an episode is worth a word, and from where on it must not be trained on."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from understudy.errors import InputError


@dataclass(frozen=True)
class CheckConfig:
    """The thresholds of `dataset check`; `..._warn` is a remark, `..._fail` a verdict.

    Raises:
        InputError: a threshold is not a positive number, or one that warns lies above the one that fails.
    """

    rate_warn: float = 0.05
    rate_fail: float = 0.25
    """Difference between the median tick period and the declared one, as a share of it."""
    slow_warn: float = 0.15
    slow_fail: float = 0.25
    """Share of the rate that is missing in the slowest second (or 20 samples), of the ticks and of every source."""
    jitter_warn: float = 0.2
    jitter_fail: float = 0.6
    """95th percentile of |period - declared|, as a share of the declared period."""
    gap_periods: float = 2.5
    """A pause between ticks of more than this many periods is a gap."""
    gap_fail_s: float = 0.5
    """A gap longer than this fails."""
    age_warn_periods: float = 3.0
    age_fail_s: float = 1.0
    """Observations older than this at their tick."""
    still: float = 0.02
    """Motion below this share of the largest step counts as none."""
    idle_warn: float = 0.5
    idle_fail: float = 0.95
    """Share of ticks at which nothing was asked for and nothing moved."""
    pause_warn_s: float = 1.0
    pause_fail_s: float = 2.0
    """Longest stretch of such ticks, where it is `pause_times` the usual one of the other episodes."""
    pause_times: float = 3.0
    frozen_s: float = 0.4
    """A reading or a camera that repeats its value exactly for this long while the arm moves is frozen."""
    bound_warn: float = 0.25
    """Share of ticks at which a requested number lies at its bound."""
    beyond: float = 0.01
    """A number is beyond its bound by more than this share of its range."""
    beyond_fail: float = 0.02
    """Share of ticks at which what was requested lies beyond a bound."""
    altered_warn: float = 0.5
    """Share of ticks at which what was sent differs from what was requested by over a tenth of the range."""
    speed_fail_rad_s: float = 10.0
    """No joint of these arms moves that fast: the measurement jumped."""
    jump_rad_s: float = 1.5
    """Between two ticks a joint moved this much faster than its velocity reading says: it jumped."""
    lag_warn_ticks: int = 4
    """The arm follows what was sent this late."""
    lag_odd_ticks: float = 0.6
    """An episode whose lag differs by this much from that of the others is shifted."""
    short_steps: int = 10
    outlier: float = 6.0
    """Robust standard deviations from the median of the dataset (of the logarithm of lengths and the like)."""
    start_outlier: float = 1.0
    """How far outside the others an episode may start, in widths of their range."""
    start_offset_rad: float = 0.1
    """A single joint that starts this far outside the others' starts, which agree closely, reads off."""
    offset_fail_deg: float = 3.0
    """A joint that reads this far from what the other episodes, or its own action channel, say."""
    reach_m: float = 0.03
    """A success whose tool stayed this much further from every object and goal than in any other episode is odd."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"Check threshold {field.name!r} must be a positive number, got {value}.")
            fails = getattr(self, field.name.replace("_warn", "_fail"), value)
            if field.name.endswith("_warn") and value > fails:
                raise InputError(
                    f"Check threshold {field.name!r} is {value}, above the {fails} of "
                    f"{field.name.replace('_warn', '_fail')!r}; a warning must come first."
                )
