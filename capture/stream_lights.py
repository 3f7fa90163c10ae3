"""How the sources of a session's observations are doing, told from the observations themselves.

For an arm whose topics are not watched (a simulated one). Owns rates, ages and gaps; judges nothing but whether a
source is alive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from understudy.capture.session_view import StreamLight
from understudy.datasets.align import Aligned
from understudy.datasets.schema import is_image

RECENT = 20
"""A rate is told over this many samples."""
SLOW = 0.8
"""A source that brings less than this share of what it should is slow."""


class _Source:
    def __init__(self) -> None:
        self.stamps_ns: deque[int] = deque(maxlen=RECENT + 1)
        self.longest_gap_s = 0.0

    def add(self, stamp_ns: int) -> None:
        if self.stamps_ns and stamp_ns <= self.stamps_ns[-1]:
            return
        if self.stamps_ns:
            self.longest_gap_s = max(self.longest_gap_s, (stamp_ns - self.stamps_ns[-1]) * 1e-9)
        self.stamps_ns.append(stamp_ns)

    @property
    def rate_hz(self) -> float:
        if len(self.stamps_ns) < 2:
            return 0.0
        return (len(self.stamps_ns) - 1) * 1e9 / (self.stamps_ns[-1] - self.stamps_ns[0])


class ObservationLights:
    """Fed with each observation; one light for the joints, each object and each camera."""

    def __init__(self, keys: tuple[str, ...], max_age_s: Mapping[str, float], expected_hz: float | None) -> None:
        """Args:
        keys: what is observed.
        max_age_s: key -> age from which a source counts as stale, s.
        expected_hz: how often each should bring something new; None where that is not known.
        """
        self._expected_hz = expected_hz
        self._keys: dict[str, str] = {}
        for key in keys:
            self._keys.setdefault(source_of(key), key)
        self._max_age_s = max_age_s
        self._sources = {name: _Source() for name in self._keys}
        self._ages_s: dict[str, float] = {}

    def begin(self) -> None:
        """A take begins: gaps and rates of before do not count."""
        self._sources = {name: _Source() for name in self._keys}

    def note(self, seen: Aligned) -> None:
        """Take in an observation."""
        for name, key in self._keys.items():
            age_s = seen.ages_s.get(key)
            if age_s is not None:
                self._ages_s[name] = age_s
                self._sources[name].add(seen.tick_ns - round(age_s * 1e9))

    def lights(self) -> tuple[StreamLight, ...]:
        """How each source is doing."""
        return tuple(self._light(name, source) for name, source in self._sources.items())

    def _light(self, name: str, source: _Source) -> StreamLight:
        key, expected = self._keys[name], self._expected_hz
        age_s, rate_hz = self._ages_s.get(name, 0.0), source.rate_hz
        if name not in self._ages_s:
            return StreamLight(name, "missing", 0.0, expected, 0.0, 0.0, 0, f"no {key} has come yet")
        limit_s = self._max_age_s.get(key, float("inf"))
        if age_s > limit_s:
            why = f"{key} is {age_s:.2f} s old, at most {limit_s:g} s is allowed"
            return StreamLight(name, "stale", rate_hz, expected, age_s, source.longest_gap_s, 0, why)
        if expected is not None and len(source.stamps_ns) > RECENT and rate_hz < SLOW * expected:
            why = f"{key} comes at {rate_hz:.1f} Hz, expected {expected:g} Hz"
            return StreamLight(name, "slow", rate_hz, expected, age_s, source.longest_gap_s, 0, why)
        return StreamLight(name, "alive", rate_hz, expected, age_s, source.longest_gap_s, 0)


def source_of(key: str) -> str:
    """What brings an observation: "joints", the name of an object or a goal, or of a camera."""
    if is_image(key):
        return key.removeprefix("image_")
    name = key.rpartition("_")[0]
    return "joints" if name in ("joint", "gripper", "tool") else name
