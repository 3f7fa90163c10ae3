"""`StreamTable`: the samples of every stream as they come, until somebody drains them, and how each stream is doing.

Knows no middleware: whoever subscribes hands samples over by `take`, in whatever thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from understudy.capture.recorder import Sample
from understudy.capture.session_view import StreamLight
from understudy.datasets.schema import is_image
from understudy.envs.arms.arm import Observation

BUFFERED = 20_000
"""Samples of a key that wait to be drained: 40 s at 500 Hz."""
BUFFERED_IMAGES = 90
RATE_WINDOW_S = 2.0
"""The rate of a stream is told over this long."""
USUAL_AFTER_S = 2.0
"""Of how a stream began, for its usual rate."""
SLOW = 0.8
"""A stream that brings less than this share of what it should is slow."""
FAST = 1.5
"""One that brings more than this times as much is worth a word."""


class KeyedSample(Sample, Protocol):
    """One value of one stream that says which."""

    @property
    def key(self) -> str:
        """Of which stream."""


@dataclass(frozen=True)
class Came:
    """When a sample came."""

    stamp_ns: int
    """As its publisher says."""
    receive_ns: int
    """By our clock."""

    @property
    def lag_s(self) -> float:
        """How old it said it was when it came, s: the way that it took, and how far the publisher's clock lags."""
        return (self.receive_ns - self.stamp_ns) * 1e-9


@dataclass(frozen=True)
class StreamHealth:
    """How a stream is doing."""

    count: int
    rate_hz: float
    """Over the latest samples; 0 before two samples have come."""
    usual_hz: float | None
    """In its first seconds; None before they are over."""
    longest_gap_s: float
    """Between the stamps of two samples in a row."""
    age_s: float
    """Of the latest sample, now."""
    lost: int
    """Samples that came here and were not kept: pushed out of a full buffer, or passed over while nobody drained."""


class _Stream:
    """The samples of one key that were not drained yet, and what is known of all."""

    def __init__(self, key: str) -> None:
        self.waiting: deque[KeyedSample] = deque(maxlen=BUFFERED_IMAGES if is_image(key) else BUFFERED)
        self.latest: KeyedSample | None = None
        self.count = 0
        self.lost = 0
        self.passed_over = 0
        self.longest_gap_ns = 0
        self.usual_hz: float | None = None
        self._first_ns: int | None = None
        self._recent: deque[int] = deque()

    def add(self, sample: KeyedSample, keep: bool, until_ns: int | None) -> None:
        if self.latest is not None:
            self.longest_gap_ns = max(self.longest_gap_ns, sample.stamp_ns - self.latest.stamp_ns)
        if keep and (until_ns is None or sample.receive_ns <= until_ns):
            self.lost += len(self.waiting) == self.waiting.maxlen
            self.waiting.append(sample)
        else:
            self.passed_over += keep
        if self._recent and sample.stamp_ns < self._recent[-1]:  # the clock was set back
            self._recent.clear()
        self._recent.append(sample.stamp_ns)
        while len(self._recent) > 3 and sample.stamp_ns - self._recent[0] > RATE_WINDOW_S * 1e9:
            self._recent.popleft()
        self.latest = sample
        self.count += 1
        self._first_ns = sample.receive_ns if self._first_ns is None else self._first_ns
        if self.usual_hz is None and sample.receive_ns - self._first_ns > USUAL_AFTER_S * 1e9 and self.count > 3:
            self.usual_hz = self.rate_hz()

    @property
    def latest_bytes(self) -> int:
        """Of the latest sample, as it would be kept."""
        assert self.latest is not None  # a stream is made with its first sample
        return int((self.latest.value if self.latest.packed is None else self.latest.packed).nbytes)

    def rate_hz(self) -> float:
        span_ns = self._recent[-1] - self._recent[0] if self._recent else 0
        return (len(self._recent) - 1) / (span_ns * 1e-9) if span_ns > 0 else 0.0

    def health(self, now_ns: int) -> StreamHealth:
        assert self.latest is not None  # a stream is made with its first sample
        return StreamHealth(
            count=self.count,
            rate_hz=self.rate_hz(),
            usual_hz=self.usual_hz,
            longest_gap_s=self.longest_gap_ns * 1e-9,
            age_s=max(0, now_ns - self.latest.stamp_ns) * 1e-9,
            lost=self.lost,
        )


class StreamTable:
    """Keeps samples by key; any thread may put in and ask."""

    def __init__(self, keep: Callable[[str], bool] = lambda key: True) -> None:
        """`keep` says of a key whether its samples wait to be drained; of the others only the health is known."""
        self._keep = keep
        self._lock = threading.Lock()
        self._streams: dict[str, _Stream] = {}
        self._until_ns: int | None = None

    def take(self, sample: KeyedSample) -> None:
        """Put in a sample."""
        with self._lock:
            stream = self._streams.get(sample.key)
            if stream is None:
                stream = self._streams[sample.key] = _Stream(sample.key)
            stream.add(sample, self._keep(sample.key), self._until_ns)

    def begin(self, until_ns: int) -> None:
        """A recording begins: forget what waits and keep what comes, up to `until_ns`; see `keep_until`."""
        with self._lock:
            self._until_ns = until_ns
            for stream in self._streams.values():
                stream.waiting.clear()
                stream.passed_over = stream.longest_gap_ns = 0

    def keep_until(self, until_ns: int) -> None:
        """Keep what comes up to then. What came after the time said before, and so was not kept, is lost.

        A recorder says this at every tick, a little ahead, so that nothing fills up once it has stopped.
        """
        with self._lock:
            self._until_ns = until_ns
            for stream in self._streams.values():
                stream.lost += stream.passed_over
                stream.passed_over = 0

    def drain(self) -> dict[str, list[Any]]:
        """Every sample since the last drain by key, oldest first; they are forgotten here."""
        with self._lock:
            drained = {key: list(stream.waiting) for key, stream in self._streams.items() if stream.waiting}
            for stream in self._streams.values():
                stream.waiting.clear()
        return drained

    def __contains__(self, key: str) -> bool:
        """Whether a sample of this key ever came."""
        with self._lock:
            return key in self._streams

    def latest(self) -> Observation:
        """The newest sample of every key that ever came; what nobody can write to (camera frames) is not copied."""
        with self._lock:
            samples = [stream.latest for stream in self._streams.values() if stream.latest is not None]
        return Observation(
            {sample.key: sample.value.copy() if sample.value.flags.writeable else sample.value for sample in samples},
            {sample.key: sample.stamp_ns for sample in samples},
        )

    def came(self, key: str) -> Came | None:
        """When the newest sample of a key came; None where none ever did."""
        with self._lock:
            stream = self._streams.get(key)
            latest = None if stream is None else stream.latest
        return None if latest is None else Came(latest.stamp_ns, latest.receive_ns)

    def frame_bytes_per_s(self) -> float:
        """What the camera frames that are kept take, as they come now (B/s)."""
        with self._lock:
            cameras = [stream for key, stream in self._streams.items() if is_image(key) and self._keep(key)]
            return float(sum(stream.rate_hz() * stream.latest_bytes for stream in cameras))

    def health(self, now_ns: int) -> Mapping[str, StreamHealth]:
        """How every stream that ever came is doing now, by key."""
        with self._lock:
            return {key: stream.health(now_ns) for key, stream in self._streams.items()}


@dataclass(frozen=True)
class Expected:
    """What is asked of a stream."""

    key: str
    max_age_s: float
    rate_hz: float | None = None
    """What its file says; None: what it began with."""


def light(
    expected: Expected, health: StreamHealth | None, why_missing: Callable[[str], str], lost: int = 0
) -> StreamLight:
    """One stream's light.

    Args:
        expected: what is asked of it.
        health: how it is doing; None: nothing ever came.
        why_missing: says why nothing (new) may have come, as a clause.
        lost: samples that are known to be lost before they came here.
    """
    if health is None:
        return StreamLight(expected.key, "missing", 0.0, expected.rate_hz, 0.0, 0.0, lost, why_missing(expected.key))
    wanted = expected.rate_hz or health.usual_hz
    numbers = (health.rate_hz, wanted, health.age_s, health.longest_gap_s, lost + health.lost)
    if health.age_s > expected.max_age_s:
        why = f"nothing new for {health.age_s:.1f} s: {why_missing(expected.key)}"
        return StreamLight(expected.key, "stale", *numbers, why)
    if wanted is not None and health.rate_hz < SLOW * wanted:
        begun = "its file says" if expected.rate_hz else "it began with"
        why = f"it comes at {health.rate_hz:.3g} Hz; {begun} {wanted:.3g} Hz"
        return StreamLight(expected.key, "slow", *numbers, why)
    return StreamLight(expected.key, "alive", *numbers)


def too_fast(lights: Sequence[StreamLight]) -> list[str]:
    """A sentence for each stream that brings much more than it should."""
    return [
        f"{each.name} comes at {each.rate_hz:.3g} Hz, and {each.expected_hz:.3g} Hz are expected; does a second node "
        "publish its topic?"
        for each in lights
        if each.expected_hz is not None and each.rate_hz > FAST * each.expected_hz
    ]
