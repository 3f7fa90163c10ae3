"""The gate: each planted fault is found, told where it belongs, and asked about twice; a sound take passes."""

from __future__ import annotations

import dataclasses
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from session_support import fake_stage, inner_arm, new_session

from understudy.capture.gate import GateConfig
from understudy.capture.session_loop import LoopConfig, SessionLoop
from understudy.capture.session_view import SessionView, StreamLight
from understudy.capture.stream_lights import ObservationLights
from understudy.capture.take_memory import frame_print
from understudy.datasets.align import Aligned
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.clock import VirtualClock
from understudy.errors import InputError


class Watch:
    """A session that is driven turn by turn, with lights that a test sets."""

    def __init__(self, stage: ArmEnv, folder: Path, **config: Any) -> None:
        stage.aligned = None
        self.clock = VirtualClock()
        self.session, self.puppet = new_session(stage, folder, max_s=4.0)
        self.loop = SessionLoop(self.session, config=LoopConfig(**config), clock=self.clock)
        self.loop.turn()

    def take(self, ticks: int = 40, speed: float = 0.005) -> SessionView:
        """Sway slowly in a circle."""
        self.loop.ask("start", "anyway")
        for k in range(ticks):
            angle = 2.0 * np.pi * k / ticks
            self.puppet.action = speed * np.sin(angle / 2) * np.array([np.cos(angle), np.sin(angle), 0.0])
            self.clock.advance(0.05)
            self.loop.turn()
        if self.loop.view().state == "recording":
            self.loop.ask("stop")
        return self.loop.view()

    def texts(self, where: str) -> list[str]:
        return [f"{found.severity}: {found.text}" for found in self.loop.view().findings if found.where == where]


@pytest.fixture(scope="module")
def stage() -> ArmEnv:
    return fake_stage()


@pytest.fixture
def watch(stage: ArmEnv, tmp_path: Path) -> Iterator[Watch]:
    made = Watch(stage, tmp_path)
    yield made
    made.loop.close()


def push_aside(watch: Watch, stage: ArmEnv) -> None:
    """Somebody has moved the arm since it was prepared."""
    wanted = watch.session.wanted
    assert wanted is not None
    aside = wanted.joint_position + 0.3 * np.eye(7)[0]
    inner_arm(stage).reset(dataclasses.replace(wanted, joint_position=aside))


def lit(name: str, state: Any, lost: int = 0, why: str = "") -> StreamLight:
    return StreamLight(name, state, 30.0, 30.0, 0.01, 0.05, lost, why)


def test_a_sound_take_passes_in_silence(watch: Watch) -> None:
    assert watch.loop.view().findings == ()
    assert watch.take().findings == ()
    assert watch.loop.ask("keep").startswith("Kept ")


def test_an_arm_that_is_not_at_the_start_is_told_and_recorded_on_a_second_word(watch: Watch, stage: ArmEnv) -> None:
    push_aside(watch, stage)
    told = watch.loop.ask("start")
    assert told.startswith("Not started: the arm is not at the start: joint 0 ('panda_joint1') is 0.30 rad away")
    assert told.endswith("Ask for start once more to do it anyway.")
    assert (watch.loop.view().state, watch.texts("before")[0][:7]) == ("ready", "failure")
    assert "start twice to record anyway" in watch.loop.view().prompt
    assert watch.loop.ask("start") == "Recording."


def test_another_wish_in_between_takes_the_second_word_back(watch: Watch, stage: ArmEnv) -> None:
    push_aside(watch, stage)
    assert watch.loop.ask("start").startswith("Not started")
    watch.loop.ask("hold")
    assert watch.loop.ask("start").startswith("Not started")
    assert watch.loop.ask("start", "anyway") == "Recording."


@pytest.mark.parametrize(
    ("light", "finding"),
    [
        (lit("front", "missing", why="nobody publishes /front"), "failure: front is missing: nobody publishes /front"),
        (lit("front", "stale", why="nothing new for 3 s"), "failure: front is stale: nothing new for 3 s"),
        (lit("front", "slow", why="it comes at 12 Hz"), "warning: front is slow: it comes at 12 Hz"),
    ],
)
def test_sources_that_are_not_well_are_told_before_and_during(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, light: StreamLight, finding: str
) -> None:
    lights = [lit("joints", "alive"), light]
    monkeypatch.setattr(watch.loop._gate, "_lights", lambda: tuple(lights))
    told = watch.loop.ask("start")
    assert watch.texts("before") == [finding] if finding.startswith("failure") else told == "Recording."
    lights[1] = lit("front", "alive")
    if watch.loop.view().state == "ready":
        watch.loop.ask("start")
    lights[1] = light
    watch.clock.advance(0.1)
    watch.loop.turn()
    assert watch.texts("during") == [finding]
    lights[1] = lit("front", "alive")
    watch.clock.advance(0.1)
    watch.loop.turn()
    assert watch.texts("during") == [finding]  # what was wrong once stays wrong with this take


def test_lost_samples_late_ticks_and_limits_are_counted_from_the_start_of_the_take(
    watch: Watch, stage: ArmEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = [5]
    monkeypatch.setattr(watch.loop._gate, "_lights", lambda: (lit("front", "alive", lost[0]),))
    stage.control.arm.counts["workspace"] += 100  # type: ignore[attr-defined]
    watch.loop.ask("start")
    assert watch.loop.view().findings == ()
    lost[0] = 12
    stage.control.ticker.overruns["observe"] += 4
    stage.control.arm.counts["workspace"] += 9  # type: ignore[attr-defined]
    watch.clock.advance(0.1)
    watch.loop.turn()
    assert watch.texts("during") == [
        "warning: 4 of 1 ticks came late (mostly: observe)",
        "warning: limits were hit in 1 steps: workspace 9",
        "warning: front lost 7 samples",
    ]


def test_a_full_disk_is_told_before_it_is_full(stage: ArmEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**12, 10**12, 3_000_000))
    watch = Watch(stage, tmp_path)
    told = watch.loop.ask("start")
    assert "has 3 MB left, room for" in told
    assert "5 min are wanted. Free some space" in told
    watch.loop.close()


def test_room_is_judged_by_what_the_last_take_wrote(watch: Watch) -> None:
    guessed = watch.loop._gate.bytes_per_s()
    watch.take()
    path = watch.session.take_path
    assert path is not None
    measured = watch.loop._gate.bytes_per_s()
    assert measured != guessed
    assert measured == pytest.approx(path.stat().st_size / (39 * 0.05), rel=0.01)


def test_a_take_in_which_nothing_happens_is_kept_only_on_a_second_word_and_its_note_says_why(watch: Watch) -> None:
    view = watch.take(speed=1e-9)
    assert view.message.endswith("It fails: nothing happens at 100% of the ticks.")
    assert "failure: nothing happens at 100% of the ticks" in watch.texts("after")
    assert view.prompt == "This take fails the check; drop it, or keep it twice to keep it anyway."
    told = watch.loop.ask("keep")
    assert told == ("Not kept yet: nothing happens at 100% of the ticks. Ask for keep once more to do it anyway.")
    assert len(watch.session.dataset) == 0
    watch.loop.ask("keep")
    (info,) = watch.session.dataset.infos().values()
    assert info.note == "kept in spite of: nothing happens at 100% of the ticks"


def test_a_take_that_is_one_kept_before_is_found(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same motion from the same start: somebody replayed a recording."""
    start = watch.session.wanted
    monkeypatch.setattr(watch.session.stage.task, "start", lambda robot, rng: start)
    for _ in range(2):
        watch.loop.ask("prepare")
        view = watch.take()
        if not watch.session.kept:
            watch.loop.ask("keep")
    assert any("its actions and observations are those of" in text for text in watch.texts("after")), view.findings


def test_frames_that_repeat_have_the_same_print_and_others_do_not() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, (48, 64, 3), np.uint8)
    assert np.array_equal(frame_print(frame), frame_print(frame.copy()))
    changed = frame.copy()
    changed[8, 8, 1] += 1
    assert not np.array_equal(frame_print(frame), frame_print(changed))
    assert not frame_print(np.zeros_like(frame)).any()


def test_lights_tell_rates_ages_and_gaps() -> None:
    lights = ObservationLights(("joint_position", "tool_position", "image_front"), {"joint_position": 0.1}, 20.0)
    assert [light.state for light in lights.lights()] == ["missing", "missing"]
    for k in range(30):
        tick_ns = k * 50_000_000
        age = 0.0 if k < 29 else 0.2
        lights.note(Aligned(tick_ns, {}, {"joint_position": age, "image_front": (k % 3) * 0.05}))
    joints, front = lights.lights()
    assert (joints.name, joints.state) == ("joints", "stale")
    assert joints.why == "joint_position is 0.20 s old, at most 0.1 s is allowed"
    assert joints.rate_hz == pytest.approx(20.0)
    assert (front.name, front.state) == ("front", "alive")  # not yet enough samples to call it slow
    for k in range(30, 100):
        lights.note(Aligned(k * 50_000_000, {}, {"joint_position": 0.0, "image_front": (k % 3) * 0.05}))
    assert [light.state for light in lights.lights()] == ["alive", "slow"]
    assert lights.lights()[1].rate_hz == pytest.approx(20 / 3, rel=0.01)
    assert lights.lights()[1].longest_gap_s == pytest.approx(0.15)
    lights.begin()
    assert lights.lights()[1].longest_gap_s == 0.0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("disk_minutes", 0.0, "disk_minutes must be a positive number"),
        ("start_rad", float("inf"), "start_rad must be a positive number"),
        ("limit_share", 1.5, "limit_share must be between 0 and 1"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(field: str, value: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        GateConfig(**{field: value})
