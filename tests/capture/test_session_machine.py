"""Whatever is wished, in whatever order: what is possible works, all else is refused by text, no kept take is lost."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from session_support import fake_stage, new_session

from understudy.capture.session_loop import LoopConfig, SessionLoop
from understudy.capture.session_view import WISHES, SessionView, Wish
from understudy.envs.arms.clock import VirtualClock
from understudy.errors import InputError

STAGE = fake_stage()


class Operator(RuleBasedStateMachine):
    """Wishes at random, and remembers what should have come of them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="session-machine-"))
        self.clock = VirtualClock()
        STAGE.aligned = None
        session, self.puppet = new_session(STAGE, self.folder)
        self.loop = SessionLoop(session, config=LoopConfig(countdown_s=1.0, auto_prepare=False), clock=self.clock)
        self.kept: list[str] = []
        self.undone: list[str] = []
        self.ever: set[str] = set()
        self.rng = np.random.default_rng(0)

    def teardown(self) -> None:
        self.loop.close()
        shutil.rmtree(self.folder)

    @property
    def view(self) -> SessionView:
        return self.loop.view()

    @rule(wish=st.sampled_from(WISHES), text=st.sampled_from(["", "anyway", "a word"]))
    def wishes(self, wish: Wish, text: str) -> None:
        if wish == "prepare":
            text = ""  # else it names a take
        if wish == "note":
            text = "a word"
        before = self.view
        if wish not in before.possible:
            with pytest.raises(InputError, match=f"Cannot {wish} while the session is {before.state}"):
                self.loop.ask(wish, text)
            assert self.view.state == before.state
            return
        told = self.loop.ask(wish, text)
        assert told.endswith((".", "anyway", "a word"))
        assert not self.view.error
        self.remember(wish, before)

    def remember(self, wish: Wish, before: SessionView) -> None:
        if wish == "keep" and self.view.state != "review":
            (id,) = set(self.loop.session.dataset.ids) - set(self.kept)
            self.kept.append(id)
            self.ever.add(id)
            self.undone.clear()
        elif wish == "undo":
            self.undone.append(self.kept.pop())
        elif wish == "redo":
            self.kept.append(self.undone.pop())

    @precondition(lambda self: self.view.state == "idle" and self.view.possible)
    @rule()
    def records_a_take(self) -> None:
        """The usual way, which is rare when wishes are drawn at random."""
        self.loop.ask("prepare")
        self.loop.ask("start")
        self.clock.advance(1.1)
        self.loop.turn()
        self.demonstrate(12)
        self.loop.ask("stop")

    @precondition(lambda self: "keep" in self.view.possible)
    @rule()
    def keeps_it_whatever_the_gate_says(self) -> None:
        before = self.view
        self.loop.ask("keep", "anyway")
        self.remember("keep", before)

    @precondition(lambda self: self.kept and "undo" in self.view.possible)
    @rule()
    def undoes_and_redoes(self) -> None:
        """One is the inverse of the other."""
        before = (self.view.kept, sorted(self.loop.session.dataset.ids))
        self.loop.ask("undo")
        assert self.view.kept == before[0][:-1]
        self.loop.ask("redo")
        assert (self.view.kept, sorted(self.loop.session.dataset.ids)) == before

    @precondition(lambda self: self.view.state == "recording")
    @rule(ticks=st.integers(1, 50))
    def demonstrates(self, ticks: int) -> None:
        self.demonstrate(ticks)

    def demonstrate(self, ticks: int) -> None:
        for _ in range(ticks):
            self.puppet.action = self.rng.uniform(-0.02, 0.02, self.puppet.spec.size)
            self.clock.advance(0.05)
            self.loop.turn()

    @rule(seconds=st.sampled_from([0.2, 1.5]))
    def waits(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.loop.turn()

    @rule(event=st.sampled_from(["start", "stop", "drop", "undo", "redo", "success", "failure", "unmark", "hold"]))
    def presses(self, event: str) -> None:
        before = self.view
        self.puppet.pressed = [event]  # type: ignore[list-item]
        if self.loop.session.stage.aligned is None:
            self.puppet.pressed = []
        self.loop.turn()
        assert not self.view.error
        if event in before.possible and before.countdown_s == 0:
            self.remember(event, before)  # type: ignore[arg-type]

    @invariant()
    def no_kept_take_is_lost(self) -> None:
        dataset = self.loop.session.dataset
        assert sorted(dataset.ids) == sorted(self.kept)
        assert self.ever <= {*dataset.ids, *dataset.dropped}
        assert list(self.view.kept) == self.kept

    @invariant()
    def the_view_is_true(self) -> None:
        session, view = self.loop.session, self.view
        assert view.state == session.state
        assert ("undo" in view.possible) <= bool(self.kept)
        assert ("redo" in view.possible) <= bool(self.undone)
        assert view.steps == session.steps
        assert view.episodes == len(self.kept)
        assert view.holding == (view.state != "recording")


SHORT = settings(
    max_examples=8, stateful_step_count=25, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip


def test_an_operator_who_does_anything() -> None:
    run_state_machine_as_test(Operator, settings=SHORT)


@pytest.mark.slow
def test_an_operator_who_does_anything_for_long() -> None:
    run_state_machine_as_test(Operator, settings=settings(SHORT, max_examples=60, stateful_step_count=60))
