"""What the terminal says of a session: one line for now, and a line for each thing that has happened."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from session_support import fake_stage, new_session

from understudy.capture.session_loop import LoopConfig, SessionLoop
from understudy.capture.session_view import Finding, SessionView, StreamLight
from understudy.cli.session_terminal import SessionTerminal, news, status_line
from understudy.envs.arms.clock import MonotonicClock

READY = SessionView(1, "ready", ("start",), "lift", "panda", "keyboard", "ada", aim=10, prompt="Start when ready.")
RECORDING = dataclasses.replace(READY, state="recording", steps=25, elapsed_s=1.25, max_s=60.0, prompt="Show it.")
REVIEW = dataclasses.replace(RECORDING, state="review", message="Take ended (success) after 25 steps.", prompt="Keep?")
LEFT = dataclasses.replace(READY, state="idle", waiting=("a",))
KEPT = dataclasses.replace(READY, kept=("a",), episodes=1)


def light(name: str, state: str) -> StreamLight:
    return StreamLight(name, state, 30.0, 30.0, 0.0, 0.0, 0)  # type: ignore[arg-type]


def test_the_status_is_one_line_that_says_what_is_not_well() -> None:
    view = dataclasses.replace(RECORDING, lights=(light("joints", "alive"), light("front", "stale")), episodes=3)
    assert status_line(view) == "RECORDING | 1.2 of 60 s | front stale | 3 of 10 episodes | Show it."
    well = dataclasses.replace(READY, lights=(light("joints", "alive"),), countdown_s=1.6)
    assert status_line(well) == "READY | starts in 2 s | 1 sources alive | 0 of 10 episodes | Start when ready."
    assert "gamepad LOST" in status_line(dataclasses.replace(READY, device="gamepad", device_lost=True))


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        (None, READY, ["ready: enter starts"]),
        (RECORDING, dataclasses.replace(RECORDING, steps=26, elapsed_s=1.3), []),
        (RECORDING, REVIEW, ["Take ended (success) after 25 steps. Keys: y keeps, n drops"]),
        (REVIEW, KEPT, ["kept; the dataset holds 1 of 10", "ready: enter starts"]),
        (
            REVIEW,
            dataclasses.replace(KEPT, message="Kept a; the dataset holds 1. Warning: it is done, and not confirmed."),
            ["kept; the dataset holds 1 of 10", "Warning: it is done, and not confirmed.", "ready: enter starts"],
        ),
        (REVIEW, READY, ["dropped; the dataset holds 0 of 10", "ready: enter starts"]),
        (RECORDING, LEFT, ["the take waits to be reviewed; the dataset holds 0 of 10"]),
        (REVIEW, LEFT, ["the take waits to be reviewed; the dataset holds 0 of 10"]),
        (REVIEW, dataclasses.replace(REVIEW, message="Marked as failure."), ["Marked as failure."]),
        (READY, dataclasses.replace(READY, error="The arm is gone."), ["error: The arm is gone."]),
        (
            READY,
            dataclasses.replace(REVIEW, findings=(Finding("failure", "after", "nothing happens"),)),
            ["Take ended (success) after 25 steps. Keys: y keeps, n drops", "failure: nothing happens"],
        ),
    ],
)  # fmt: skip
def test_each_thing_that_happened_is_a_line(before: SessionView | None, after: SessionView, lines: list[str]) -> None:
    assert news(before, after) == lines


def test_a_whole_take_on_a_stream_that_is_no_terminal_is_a_few_lines(tmp_path: Path) -> None:
    session, _ = new_session(fake_stage(clock=MonotonicClock()), tmp_path, max_s=60.0)
    loop = SessionLoop(session, config=LoopConfig(aim=1))
    told = io.StringIO()
    loop.start()
    try:
        with SessionTerminal(loop, keys=False, stream=told):
            loop.ask("prepare")
            loop.ask("start")
            view = loop.view()
            while view.steps < 12:
                view = loop.wait_view(view.revision, 1.0)
            loop.ask("stop")
            loop.ask("keep", "anyway")
    finally:
        loop.close()
    lines = told.getvalue().splitlines()
    assert "\x1b" not in told.getvalue()
    assert len(lines) <= 10, lines
    assert lines[-1] == "kept; the dataset holds 1 of 1"


@pytest.mark.parametrize("ended", [False, True])
def test_a_take_in_hand_when_the_session_ends_is_not_said_to_be_dropped(tmp_path: Path, ended: bool) -> None:
    """Incident: after Ctrl-C it was told that the take had been dropped, which the next session offered."""
    session, _ = new_session(fake_stage(clock=MonotonicClock()), tmp_path, max_s=60.0)
    loop = SessionLoop(session, config=LoopConfig(aim=1))
    told = io.StringIO()
    loop.start()
    with SessionTerminal(loop, keys=False, stream=told):
        loop.ask("prepare")
        loop.ask("start")
        view = loop.view()
        while view.steps < 12:
            view = loop.wait_view(view.revision, 1.0)
        if ended:
            loop.ask("stop")
        loop.close()
    assert told.getvalue().splitlines()[-1] == "the take waits to be reviewed; the dataset holds 0 of 1"
    (waiting,) = loop.latest.waiting
    session.dataset.recover()
    assert session.dataset.takes() == (waiting,)
