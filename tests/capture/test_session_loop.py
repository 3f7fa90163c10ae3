"""The loop around a session: any thread may ask, a countdown is in a person's time, and what goes wrong is told."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from session_support import fake_stage, inner_arm, new_session

from understudy.capture.session_loop import LoopConfig, SessionLoop
from understudy.capture.session_view import WISHES
from understudy.datasets.store import Dataset
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.clock import MonotonicClock, VirtualClock
from understudy.errors import ArmFault, DatasetError, InputError, RecordingError


@pytest.fixture(scope="module")
def stage() -> ArmEnv:
    return fake_stage()


class Hand:
    """A loop on virtual time, driven turn by turn, and its puppet."""

    def __init__(self, stage: Any, folder: Path, config: LoopConfig | None = None, **session: Any) -> None:
        stage.aligned = None
        self.clock = VirtualClock()
        self.session, self.puppet = new_session(stage, folder, **session)
        self.puppet.action = np.array([0.004, 0.0, 0.0])
        self.loop = SessionLoop(self.session, config=config, clock=self.clock)

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.clock.advance(0.05)
            self.loop.turn()

    def press(self, *events: Any) -> None:
        self.puppet.pressed = list(events)
        self.turn()

    @property
    def view(self) -> Any:
        return self.loop.view()


@pytest.fixture
def hand(stage: ArmEnv, tmp_path: Path) -> Iterator[Hand]:
    made = Hand(stage, tmp_path)
    yield made
    made.loop.close()


def test_a_take_from_the_first_wish_to_the_last(hand: Hand) -> None:
    hand.turn()
    assert (hand.view.state, hand.view.prompt) == ("ready", "Start when you are ready.")
    assert hand.loop.ask("start") == "Recording."
    hand.turn(12)
    view = hand.view
    assert (view.state, view.steps, view.elapsed_s, view.holding) == ("recording", 12, 0.6, False)
    assert view.prompt == "Demonstrate the task; stop when it is done."
    assert [(light.name, light.state) for light in view.lights] == [("joints", "alive"), ("goal", "alive")]
    assert view.lights[0].rate_hz == pytest.approx(20.0)
    assert hand.loop.ask("stop").startswith("Take ended (stopped by the operator) after 12 steps.")
    assert hand.loop.ask("note", " slipped once ") == "Noted: slipped once"
    told = hand.loop.ask("keep")
    assert hand.view.kept[0] in told
    assert hand.view.episodes == 1
    hand.turn()
    assert hand.view.state == "ready"  # the next one is prepared by itself
    assert hand.session.dataset.infos()[hand.view.kept[0]].note == "slipped once"


def test_a_view_is_plain_data_and_its_revision_tells_whether_it_is_new(hand: Hand) -> None:
    hand.turn()
    before = hand.view
    assert json.loads(json.dumps(before.as_dict()))["task"] == "reach"
    assert set(before.as_dict()) == {field.name for field in dataclasses.fields(before)}
    hand.turn(3)
    assert hand.view is before  # nothing has changed
    hand.loop.ask("start")
    assert hand.view.revision > before.revision
    assert hand.loop.wait_view(before.revision, 0.0) is hand.view


def test_a_countdown_runs_on_a_persons_time_and_drop_cancels_it(stage: ArmEnv, tmp_path: Path) -> None:
    hand = Hand(stage, tmp_path, LoopConfig(countdown_s=3.0))
    hand.turn()
    assert hand.loop.ask("start") == "Recording begins in 3 s."
    assert hand.view.possible == ("drop", "hold")
    hand.turn(10)
    assert (hand.view.state, hand.view.countdown_s) == ("ready", 2.5)
    assert hand.view.prompt == "Recording begins in 3 s; drop cancels."
    with pytest.raises(InputError, match="Cannot start while the session is ready and counts down; possible now: drop"):
        hand.loop.ask("start")
    assert hand.loop.ask("drop") == "The countdown is cancelled."
    hand.turn(100)
    assert hand.view.state == "ready"
    hand.loop.ask("start")
    hand.turn(59)
    assert hand.view.state == "ready"
    hand.turn(2)
    assert hand.view.state == "recording"
    hand.loop.close()


def test_a_device_that_is_lost_cancels_the_countdown(stage: ArmEnv, tmp_path: Path) -> None:
    hand = Hand(stage, tmp_path, LoopConfig(countdown_s=3.0))
    hand.turn()
    hand.loop.ask("start")
    hand.turn(5)
    hand.puppet.lost = True
    hand.turn(100)
    assert (hand.view.state, hand.view.countdown_s) == ("ready", 0.0)
    assert hand.view.message == "The device is lost, so the countdown is cancelled."
    hand.loop.close()


def test_keys_of_the_device_do_what_wishes_do(hand: Hand) -> None:
    hand.turn()
    hand.press("start")
    hand.turn(12)
    hand.press("success")
    assert (hand.view.state, hand.view.marked, hand.view.success) == ("review", True, True)
    hand.press("unmark")
    assert hand.view.marked is None
    hand.press("keep")
    hand.turn()
    assert len(hand.view.kept) == 1
    hand.press("undo")
    assert hand.view.kept == ()
    hand.press("redo")
    assert len(hand.view.kept) == 1
    hand.press("keep")
    assert hand.view.message.startswith("Cannot keep now; possible: start")
    hand.press("start")
    hand.press("drop")
    assert hand.view.state in ("idle", "ready")
    hand.press("quit")
    assert hand.loop.finished


def test_a_lost_device_holds_the_arm_and_is_told(hand: Hand) -> None:
    hand.turn()
    hand.loop.ask("start")
    hand.turn(12)
    hand.puppet.lost, hand.puppet.message = True, "The pad was unplugged; plug it in."
    hand.press("lost")
    view = hand.view
    assert (view.state, view.holding, view.device_lost) == ("review", True, True)
    assert "device lost" in view.message
    hand.loop.ask("keep", "anyway")
    hand.turn()
    assert hand.view.prompt == "The pad was unplugged; plug it in."
    hand.puppet.lost, hand.puppet.message = False, ""
    hand.press("back")
    assert not hand.view.device_lost


def test_nobody_attending_holds_the_arm_and_leaves_the_take(stage: ArmEnv, tmp_path: Path) -> None:
    hand = Hand(stage, tmp_path, LoopConfig(attend_s=1.0))
    hand.turn()
    hand.loop.ask("start")
    hand.turn(15)
    assert hand.loop.latest.state == "recording"
    hand.loop.view()  # somebody looks
    hand.turn(15)
    assert hand.loop.latest.state == "recording"
    hand.turn(10)
    assert hand.loop.latest.state == "review"
    assert "nobody attended" in hand.loop.latest.note
    hand.loop.close()


@pytest.mark.parametrize("wish", ["stop", "hold", "success"])
def test_a_take_whose_arm_cannot_be_told_to_hold_at_its_end_is_judged_all_the_same(
    hand: Hand, stage: ArmEnv, monkeypatch: pytest.MonkeyPatch, wish: Any
) -> None:
    """It was in review with nothing found, and the first keep kept it."""
    hand.turn()
    hand.loop.ask("start")
    hand.turn(12)

    def rival() -> None:
        raise ArmFault("Another node commands the arm.")

    monkeypatch.setattr(stage.control.arm, "hold", rival)
    with pytest.raises(ArmFault, match="Another node commands the arm"):
        hand.loop.ask(wish)
    assert (hand.view.state, hand.view.error) == ("review", "Another node commands the arm.")
    assert hand.view.message.startswith("Take ended (fault) after 12 steps. It fails: a fault ended the take: Another")
    found = hand.view.findings
    with pytest.raises(ArmFault, match="Another node"):
        hand.loop.ask("hold")  # in review it says nothing more of the take
    assert hand.view.findings == found
    monkeypatch.undo()
    assert hand.loop.ask("keep").startswith("Not kept yet: a fault ended the take: Another node commands the arm.")
    hand.loop.ask("keep")
    (info,) = hand.session.dataset.infos().values()
    assert "kept in spite of: a fault ended the take: Another node commands the arm." in info.note


def test_a_silent_source_ends_the_take_and_what_there_is_can_be_kept(hand: Hand, stage: ArmEnv) -> None:
    arm = inner_arm(stage)
    hand.turn()
    hand.loop.ask("start")
    hand.turn(12)
    arm.freeze("joint_position")
    try:
        hand.turn(20)
        view = hand.view
        assert view.state == "review"
        assert "'joint_position' is" in view.error
        assert "Its source has stopped" in view.note
        assert isinstance(hand.loop.failure, Exception)
    finally:
        arm.repair()
    hand.loop.ask("keep", "anyway")
    (episode,) = hand.session.dataset.episodes()
    assert len(episode) >= 12


def test_interventions_are_recorded_step_by_step(hand: Hand) -> None:
    hand.turn()
    hand.loop.ask("start")
    hand.turn(5)
    hand.loop.ask("intervene")
    assert hand.view.intervening
    hand.turn(7)
    hand.press("release")
    hand.turn(3)
    hand.loop.ask("stop")
    hand.loop.ask("keep", "anyway")
    (episode,) = hand.session.dataset.episodes()
    assert episode.intervention.dtype == np.bool_
    assert episode.intervention.tolist() == [False] * 5 + [True] * 8 + [False] * 3


def test_hold_ends_a_take_and_stops_an_arm_at_any_time(hand: Hand) -> None:
    hand.turn()
    assert hand.loop.ask("hold") == "The arm holds."
    hand.loop.ask("start")
    hand.turn(12)
    assert "the arm holds" in hand.loop.ask("hold")
    assert hand.view.state == "review"
    assert hand.view.note == "held by the operator"


def test_takes_that_were_left_are_reviewed_first(stage: ArmEnv, tmp_path: Path) -> None:
    first = Hand(stage, tmp_path)
    first.turn()
    first.loop.ask("start")
    first.turn(12)
    first.loop.close()
    second = Hand(stage, tmp_path, LoopConfig(resume_takes=True))
    (left,) = second.session.dataset.takes()
    second.turn()
    assert second.view.state == "review"
    assert second.view.message.startswith(f"Take {left} was left by an interruption, with 12 steps")
    assert "recovered after an interruption" in second.view.note
    with pytest.raises(DatasetError, match="Unknown take in recording/"):
        Hand(stage, tmp_path).loop.ask("prepare", left)  # another recorder keeps its hands off it
    second.press("success")  # its keys are read though nothing was prepared yet
    second.loop.ask("note", "seen again")
    second.loop.ask("keep", "anyway")
    (info,) = second.session.dataset.infos().values()
    assert info.success is True
    assert info.note == "recovered after an interruption; seen again"
    second.turn()
    assert second.view.state == "ready"
    second.loop.close()


def test_a_dataset_that_is_full_is_finished_once_what_was_left_is_decided_on(stage: ArmEnv, tmp_path: Path) -> None:
    first = Hand(stage, tmp_path)
    for decide in ("keep", "leave"):
        first.turn()
        first.loop.ask("start")
        first.turn(12)
        first.loop.ask("stop")
        if decide == "keep":
            first.loop.ask("keep", "anyway")
    first.loop.close()
    first.session.dataset.recover()
    second = Hand(stage, tmp_path, LoopConfig(aim=1, resume_takes=True))
    assert not second.loop.finished
    second.turn()
    assert (second.view.state, second.view.finished) == ("review", False)
    second.loop.ask("drop")
    second.turn()
    assert (second.view.state, second.view.finished) == ("idle", True)
    assert second.loop.finished
    second.loop.close()


def test_undo_passes_over_what_somebody_else_dropped(hand: Hand) -> None:
    for _ in range(2):
        hand.turn()
        hand.loop.ask("start")
        hand.turn(12)
        hand.loop.ask("stop")
        hand.loop.ask("keep", "anyway")
    first, second = hand.view.kept
    Dataset.open(hand.session.dataset.path).drop(second)  # as the page's list of episodes does
    assert first in hand.loop.ask("undo")
    assert hand.view.episodes == 0
    assert set(hand.session.dataset.dropped) == {first, second}


def test_the_aim_is_reached_and_nothing_more_is_prepared(stage: ArmEnv, tmp_path: Path) -> None:
    hand = Hand(stage, tmp_path, LoopConfig(aim=1))
    hand.turn()
    hand.loop.ask("start")
    hand.turn(12)
    hand.loop.ask("stop")
    hand.loop.ask("keep", "anyway")
    hand.turn(3)
    assert (hand.view.finished, hand.view.state) == (True, "idle")
    assert hand.view.prompt == "All episodes are recorded."
    hand.loop.ask("undo")
    hand.turn(2)
    assert (hand.view.finished, hand.view.state) == (False, "ready")
    hand.loop.close()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("aim", 0, "at least one episode, got 0"),
        ("countdown_s", -1.0, "at least 0, got -1.0"),
        ("attend_s", 0.0, "positive number of seconds or None, got 0.0"),
        ("picture_hz", float("nan"), "picture_hz must be a positive number of Hz"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LoopConfig(**{field: value})


class Crowd:
    """A loop in a thread of its own, in real time."""

    def __init__(self, folder: Path, stage: Any = None, **session: Any) -> None:
        self.session, self.puppet = new_session(
            stage or fake_stage(clock=MonotonicClock()), folder, **{"max_s": 60.0, **session}
        )
        self.puppet.action = np.array([0.004, 0.0, 0.0])
        self.loop = SessionLoop(self.session)
        self.loop.start()

    def wait_for(self, state: str) -> None:
        revision, end = -1, time.monotonic() + 20
        while (view := self.loop.wait_view(revision, 1.0)).state != state:
            assert time.monotonic() < end, view
            revision = view.revision


def test_many_threads_may_ask_at_once(tmp_path: Path) -> None:
    """A thousand clicks from eight threads: each is answered, the stage is touched by one thread, nothing breaks."""
    crowd = Crowd(tmp_path)
    touched: set[int] = set()
    step = crowd.session.stage.step_units
    crowd.session.stage.step_units = lambda action: (touched.add(threading.get_ident()), step(action))[1]  # type: ignore[method-assign]
    answers: list[str] = []
    refusals: list[str] = []

    def click(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(125):
            wish = WISHES[int(rng.integers(len(WISHES)))]
            try:
                answers.append(crowd.loop.ask(wish, "a word" if wish == "note" else "", timeout_s=60.0))
            except InputError as error:
                refusals.append(str(error))

    threads = [threading.Thread(target=click, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    crowd.loop.close()
    assert len(answers) + len(refusals) == 1000
    assert all(text.startswith(("Cannot ", "Unknown take", "There is nothing")) for text in refusals), set(refusals)
    assert len(touched) <= 1
    assert not crowd.loop.latest.error
    assert set(crowd.session.kept) == set(crowd.session.dataset.ids)


def test_a_loop_that_has_ended_says_so(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path)
    crowd.wait_for("ready")
    crowd.loop.close()
    crowd.loop.close()
    assert crowd.puppet.closed == 1
    assert crowd.loop.view().possible == ()
    with pytest.raises(RecordingError, match="The session has ended"):
        crowd.loop.ask("start")


def test_a_loop_that_is_busy_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path)
    crowd.wait_for("ready")
    go_on = threading.Event()
    hold = crowd.session.stage.control.arm.hold
    crowd.session.stage.control.arm.hold = lambda: (go_on.wait(20), hold())[1]  # type: ignore[method-assign]
    blocked = threading.Thread(target=crowd.loop.ask, args=("hold",), kwargs={"timeout_s": 30.0})
    blocked.start()
    time.sleep(0.1)
    with pytest.raises(RecordingError, match=r"did not answer to 'start' within 0\.1 s; it was not done"):
        crowd.loop.ask("start", timeout_s=0.1)
    go_on.set()
    blocked.join()
    assert crowd.loop.ask("hold") == "The arm holds."
    assert crowd.loop.view().state == "ready"  # the start that was given up on is not done later
    crowd.loop.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_in_the_software_ends_the_loop_and_loses_no_step(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path)
    crowd.wait_for("ready")
    crowd.loop.ask("start")
    while crowd.loop.view().steps < 5:
        time.sleep(0.02)

    def broken(action: Any) -> Any:
        raise ZeroDivisionError("planted")

    crowd.session.stage.step_units = broken  # type: ignore[method-assign]
    end = time.monotonic() + 10
    while not crowd.loop.ended and time.monotonic() < end:
        time.sleep(0.02)
    assert "The session has broken off: ZeroDivisionError('planted')" in crowd.loop.view().error
    crowd.loop.close()
    dataset = Dataset.open(crowd.session.dataset.path)
    (id,) = dataset.takes()
    assert len(dataset.read(dataset.commit(dataset.take_file(id)))) >= 5


def test_an_arm_that_cannot_be_prepared_is_tried_again_only_when_asked(tmp_path: Path) -> None:
    stage = fake_stage(clock=MonotonicClock())
    tries: list[int] = []
    reset = stage.reset

    def refuses(**options: Any) -> Any:
        tries.append(1)
        if len(tries) < 2:
            raise ArmFault("The reset service says no.")
        return reset(**options)

    stage.reset = refuses  # type: ignore[method-assign]
    crowd = Crowd(tmp_path, stage)
    time.sleep(0.5)
    assert crowd.loop.view().error == "The reset service says no."
    assert len(tries) == 1
    crowd.loop.ask("prepare")
    assert (crowd.loop.view().state, crowd.loop.view().error) == ("ready", "")
    crowd.loop.close()
