"""Control of the arm: one page at a time, and it changes hands only by somebody's word."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from understudy.capture.console.desk import ANSWER_S, RETURN_S, Desk
from understudy.envs.arms.clock import VirtualClock
from understudy.errors import InputError


class Pages(RuleBasedStateMachine):
    """Any order of arrivals, reloads, departures, wishes and waiting."""

    @initialize()
    def begin(self) -> None:
        self.clock = VirtualClock()
        self.desk = Desk(self.clock)
        self.open: list[str] = []
        self.gone: list[str] = []

    def holder(self) -> str | None:
        return next((key for key in self.open + self.gone if self.desk.controls(key)), None)

    @rule()
    def a_page_opens(self) -> None:
        before = self.holder()
        if len(self.open) < 5:
            self.open.append(self.desk.arrive("").key)
            if before is not None:
                assert self.holder() == before

    @rule(which=st.integers(0, 9))
    def a_page_goes(self, which: int) -> None:
        if self.open:
            before = self.holder()
            key = self.open.pop(which % len(self.open))
            self.desk.leave(key)
            self.gone.append(key)
            assert self.holder() == before

    @rule(which=st.integers(0, 9))
    def a_page_is_reloaded(self, which: int) -> None:
        if self.open:
            key, before = self.open[which % len(self.open)], self.holder()
            self.desk.leave(key)
            assert self.desk.arrive(key).key == key
            assert self.holder() == (before or key)

    @rule(seconds=st.sampled_from([0.5, 3.0, ANSWER_S, RETURN_S + 1.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(which=st.integers(0, 9), what=st.sampled_from(["take", "ask", "give", "refuse", "release"]))
    def somebody_says(self, which: int, what: str) -> None:
        if not self.open:
            return
        key, before = self.open[which % len(self.open)], self.holder()
        facts = self.desk.facts(key)
        free = before is None or before in self.gone
        try:
            said = getattr(self.desk, what)(key)
        except InputError:
            assert self.holder() == before or free
            return
        assert said
        after = self.holder()
        if what in ("give", "refuse", "release"):
            assert before == key
        elif after != before:
            assert after == key
            assert free or facts["may_take"]

    @invariant()
    def one_at_most_is_in_control_and_all_pages_agree(self) -> None:
        holders = [key for key in self.open if self.desk.controls(key)]
        assert len(holders) <= 1
        assert len({self.desk.facts(key)["controller"] for key in self.open}) <= 1
        for key in self.open:
            if self.desk.controls(key):
                self.desk.require_control(key)
            else:
                with pytest.raises(InputError, match="only watches"):
                    self.desk.require_control(key)


Pages.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)
TestPages = Pages.TestCase


def test_the_first_page_is_in_control_and_the_second_watches() -> None:
    desk = Desk(VirtualClock())
    first, second = desk.arrive(""), desk.arrive("")
    assert desk.controls(first.key)
    with pytest.raises(InputError, match=r"only watches \(page 1 is in control\)"):
        desk.require_control(second.key)
    with pytest.raises(InputError, match="Ask for it"):
        desk.take(second.key)


def test_asked_for_control_is_given_or_kept() -> None:
    desk = Desk(VirtualClock())
    first, second = desk.arrive(""), desk.arrive("")
    assert desk.ask(second.key) == "Asked page 1 for control."
    assert desk.facts(first.key)["asking"] == ["page 2"]
    desk.refuse(first.key)
    assert desk.facts(first.key)["asking"] == []
    desk.ask(second.key)
    assert desk.give(first.key) == "page 2 is in control now."
    assert desk.controls(second.key)


def test_who_does_not_answer_is_relieved() -> None:
    clock = VirtualClock()
    desk = Desk(clock)
    desk.arrive("")
    second = desk.arrive("")
    desk.ask(second.key)
    clock.advance(ANSWER_S - 0.1)
    assert not desk.facts(second.key)["may_take"]
    clock.advance(0.2)
    assert desk.facts(second.key)["may_take"]
    desk.take(second.key)
    assert desk.controls(second.key)


def test_a_reload_keeps_control_and_a_page_that_stays_away_loses_it() -> None:
    clock = VirtualClock()
    desk = Desk(clock)
    first = desk.arrive("")
    desk.leave(first.key)
    clock.advance(RETURN_S - 0.1)
    assert desk.controls(desk.arrive(first.key).key)
    desk.leave(first.key)
    clock.advance(RETURN_S + 0.1)
    other = desk.arrive("")
    assert desk.controls(other.key)
    assert desk.arrive(first.key).key != first.key


def test_keys_are_never_told_to_others() -> None:
    desk = Desk(VirtualClock())
    first, second = desk.arrive(""), desk.arrive("")
    desk.ask(second.key)
    for page in (first, second):
        assert not {first.key, second.key} & set(map(str, _leaves(desk.facts(page.key))))


def _leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, list) else [value]
