"""A leader's joint states, and whether they can be believed: they come, they are complete, and no joint jumps.

Owns no thread and no clock. What is not believed makes the leader lost (`leader.py`); the arm follows none of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from understudy.capture.devices.leader_calibration import LeaderCalibration

SLACK_RAD = 0.05
"""What a joint may be off between two readings beside what its speed explains: noise, and stamps that are not exact."""
SETTLED_S = 1.0
"""A leader that jumped is believed again when it has not for this long: two arms on one topic jump again and again."""
USUAL = 0.05
"""Weight of the newest message in the usual time between two."""


@dataclass(frozen=True)
class LeaderSample:
    """The leader's joints at one moment."""

    stamp_ns: int
    """When it came, on the monotonic clock."""
    positions: Mapping[str, float]
    """By joint name, rad."""
    header_ns: int = 0
    """When the leader's driver says that it was measured, on whatever clock; 0 of a driver that says nothing."""


class LeaderSource(Protocol):
    """Where the leader's joint states come from."""

    def heard(self) -> Sequence[LeaderSample]:
        """All that came since the last call, oldest first. Never waits."""

    def why_silent(self) -> str:
        """Why nothing may be coming, as a clause."""

    def close(self) -> None:
        """Leave the graph; safe to call twice."""


class LeaderWatch:
    """Looks at every message of a leader, and remembers the one before: two arms that speak in turn differ by that."""

    def __init__(
        self, source: LeaderSource, calibration: LeaderCalibration, max_age_s: float, max_speed_rad_s: float
    ) -> None:
        """Args:
        source: asked why nothing comes.
        calibration: names the joints that must come.
        max_age_s: a leader that was silent for longer, or whose stamps stood still for longer, is gone, s.
        max_speed_rad_s: no joint of an arm that a person moves is quicker; a gripper's trigger may be.
        """
        self._source = source
        self._joints = tuple(link.leader for link in calibration.joints.values())
        self._needed = calibration.leader_joints
        self._max_age_s = max_age_s
        self._max_speed_rad_s = max_speed_rad_s
        self.latest: LeaderSample | None = None
        """The newest that was looked at; None before the first."""
        self._last: LeaderSample | None = None
        self._usual_s = 0.0
        self._advanced_ns = 0
        self._jump, self._jumped_ns = "", 0

    def why_gone(self, heard: Sequence[LeaderSample], now_ns: int) -> str:
        """Why the leader cannot be followed, as a sentence; empty when it can, and then there is a `latest`.

        Args:
            heard: all that came since the last call, oldest first.
            now_ns: the present, on the clock of `LeaderSample.stamp_ns`.
        """
        unfit = ""
        for sample in heard:
            self.latest = sample
            if why := self._why_unfit(sample):
                unfit = why
            else:
                self._compare(sample, now_ns)
        if self.latest is None:
            return f"No joint states of the leader have come: {self._source.why_silent()}."
        silent_s = (now_ns - self.latest.stamp_ns) * 1e-9
        if silent_s > self._max_age_s:
            return f"The leader has been silent for {silent_s:.1f} s: {self._source.why_silent()}."
        if unfit := unfit or self._why_unfit(self.latest):
            return unfit
        frozen_s = (now_ns - self._advanced_ns) * 1e-9
        if frozen_s > self._max_age_s:
            return (
                f"The leader's driver repeats one old message: its stamps have stood still for {frozen_s:.1f} s. "
                "Restart the driver."
            )
        if self._jump and (now_ns - self._jumped_ns) * 1e-9 <= SETTLED_S:
            return self._jump
        self._jump = ""
        return ""

    def _why_unfit(self, sample: LeaderSample) -> str:
        for name in self._needed:
            position = sample.positions.get(name)
            if position is None:
                return f"The leader's joint states lack {name!r}; they have {', '.join(sample.positions)}."
            if not math.isfinite(position):
                return f"The leader says that its joint {name!r} is at {position}."
        return ""

    def _compare(self, sample: LeaderSample, now_ns: int) -> None:
        """Note whether the stamps go on, and whether a joint jumped."""
        last = self._last
        if last is not None and sample.stamp_ns == last.stamp_ns:  # nothing new has come
            return
        self._last = sample
        if last is None:
            self._advanced_ns = sample.stamp_ns
            return
        if sample.header_ns == 0 or sample.header_ns > last.header_ns:
            self._advanced_ns = sample.stamp_ns
        came_s = (sample.stamp_ns - last.stamp_ns) * 1e-9
        self._usual_s += (came_s - self._usual_s) * (USUAL if self._usual_s else 1.0)
        if jump := self._why_jumped(last, sample):
            self._jump, self._jumped_ns = jump, now_ns

    def _why_jumped(self, last: LeaderSample, sample: LeaderSample) -> str:
        """Which joint went farther than it can have, as a sentence; empty when none did."""
        went = {name: sample.positions[name] - last.positions[name] for name in self._joints}
        worst = max(went, key=lambda name: abs(went[name]))
        elapsed_s = self._elapsed_s(last, sample)
        if abs(went[worst]) <= self._max_speed_rad_s * elapsed_s + SLACK_RAD:
            return ""
        return (
            f"The leader's joint {worst!r} jumped by {went[worst]:+.2f} rad in {elapsed_s:.3f} s; no arm that is moved "
            f"by hand is quicker than {self._max_speed_rad_s:g} rad/s. Look for an encoder that was swapped or "
            "restarted, or for a second arm on the topic."
        )

    def _elapsed_s(self, last: LeaderSample, sample: LeaderSample) -> float:
        """Time between two samples: by the driver's stamps, which know of messages that were held up on their way.

        By when they came, where the driver gives no stamps or two clocks seem to be at work. At least what is usual
        between two: messages that were held up come at once, and some drivers read and stamp their encoders in bursts.
        """
        came_s = (sample.stamp_ns - last.stamp_ns) * 1e-9
        said_s = (sample.header_ns - last.header_ns) * 1e-9
        stamped = last.header_ns != 0 and said_s > 0.0
        elapsed_s = said_s if stamped and abs(said_s - came_s) <= self._max_age_s else came_s
        return max(elapsed_s, self._usual_s)
