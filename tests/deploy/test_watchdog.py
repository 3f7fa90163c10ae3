"""Who is late is decided on the injected monotonic clock alone."""

from __future__ import annotations

import pytest

from understudy.deploy.watchdog import Watchdog
from understudy.envs.arms.clock import VirtualClock
from understudy.errors import InputError


def test_a_source_is_late_only_after_its_limit() -> None:
    clock = VirtualClock()
    dog = Watchdog(clock)
    dog.expect("joints", 0.25)
    dog.heard("joints")
    clock.advance(0.25)
    assert dog.late() == []
    clock.advance(0.01)
    assert [str(source) for source in dog.late()] == ["joints has been silent for 0.26 s (allowed 0.25 s)"]
    dog.heard("joints")
    assert dog.late() == []


def test_a_source_that_never_spoke_is_late_from_when_it_was_expected() -> None:
    clock = VirtualClock()
    clock.advance(1000.0)
    dog = Watchdog(clock)
    dog.expect("camera", 1.0)
    clock.advance(0.9)
    assert dog.late() == []
    clock.advance(0.2)
    assert str(dog.late()[0]) == "camera has not spoken in 1.10 s (allowed 1.00 s)"
    assert dog.sources()[0].silent_s is None


def test_old_stamps_do_not_make_a_source_younger_or_older() -> None:
    clock = VirtualClock()
    dog = Watchdog(clock)
    dog.expect("joints", 0.5)
    clock.advance(1.0)
    dog.heard("joints", 900_000_000)
    dog.heard("joints", 100_000_000)
    assert dog.sources()[0].silent_s == pytest.approx(0.1)


def test_expecting_again_starts_afresh_and_forgetting_ends_it() -> None:
    clock = VirtualClock()
    dog = Watchdog(clock)
    dog.expect("loop", 0.1)
    clock.advance(1.0)
    assert dog.late()
    dog.expect("loop", 0.1)
    assert not dog.late()
    clock.advance(1.0)
    dog.forget("loop")
    assert dog.sources() == []


def test_each_source_has_its_own_limit() -> None:
    clock = VirtualClock()
    dog = Watchdog(clock)
    dog.expect("joints", 0.2)
    dog.expect("camera", 2.0)
    clock.advance(1.0)
    assert [source.name for source in dog.late()] == ["joints"]


def test_unknown_names_and_limits_are_refused() -> None:
    dog = Watchdog(VirtualClock())
    dog.expect("joints", 0.2)
    with pytest.raises(InputError, match="Unknown watched source 'joint': did you mean 'joints'"):
        dog.heard("joint")
    for limit in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="must be a positive number of seconds"):
            dog.expect("x", limit)
