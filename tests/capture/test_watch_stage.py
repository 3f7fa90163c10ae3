"""An arm that somebody else drives as a session's stage: takes begin and end as the operator says; nothing is sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from understudy.capture.gate import Gate
from understudy.capture.session import Session, SessionConfig
from understudy.capture.session_loop import SessionLoop
from understudy.capture.streams import Came
from understudy.capture.watch import COMMAND, GRIPPER_COMMAND, REQUESTED
from understudy.capture.watch_stage import WatchedArm, WatchedDevice, WatchStage
from understudy.datasets.store import Dataset
from understudy.envs.arms.arm import Command, Observation
from understudy.envs.arms.clock import VirtualClock
from understudy.envs.arms.robot import load_robot
from understudy.envs.tasks.free import free_task
from understudy.errors import ArmFault, StaleObservation

PANDA = load_robot("panda")
BARE = PANDA.model_copy(update={"ros": PANDA.ros.model_copy(update={"poses": {}, "openings": {}, "cameras": {}})})
TASK = free_task("pour", BARE)
PERIOD_NS = 50_000_000
SPEED = np.array([0.2, 0, 0, 0, 0, 0, 0])


class Driven:
    """Topics of an arm that another node moves steadily along its first joint, a period behind what it is told."""

    def __init__(
        self, *, commands: bool = True, requests: bool = False, dies_at_s: float = 1e6, lag_s: float = 0.0
    ) -> None:
        self.clock = VirtualClock(10**9)
        self.commands, self.requests, self.dies_at_s, self.lag_s = commands, requests, dies_at_s, lag_s
        self.closed = False

    def latest(self) -> Observation:
        now_ns = min(self.clock.now_ns(), round(self.dies_at_s * 1e9))
        at_s = (now_ns - 10**9) * 1e-9
        values = {
            "joint_position": PANDA.home + SPEED * (at_s - 0.05),
            "joint_velocity": SPEED,
            "gripper_position": np.array([0.04]),
        }
        if self.commands:
            values |= {COMMAND: PANDA.home + SPEED * at_s, GRIPPER_COMMAND: np.array([0.03])}
        if self.requests:
            values[REQUESTED] = np.full(7, 0.01)
        stamps_ns = dict.fromkeys(values, now_ns)
        if self.commands:
            stamps_ns[COMMAND] -= round(self.lag_s * 1e9)
        return Observation(values, stamps_ns)

    def came(self, key: str) -> Came | None:
        now_ns = self.clock.now_ns()
        return Came(now_ns - round(self.lag_s * 1e9), now_ns) if self.commands else None

    def close(self) -> None:
        self.closed = True


def record(driven: Driven, path: Path, steps: int = 20):
    stage = WatchStage(BARE, TASK, driven)
    dataset = Dataset.create(path / "demos", robot="panda", task="pour")
    session = Session(stage, WatchedDevice(stage.control.actions.spec), dataset, SessionConfig())
    session.prepare()
    session.start()
    for _ in range(steps):
        session.tick()
    session.stop()
    session.mark(True)
    return dataset.read(session.keep())


def test_what_passed_on_the_topics_is_the_take(tmp_path: Path):
    episode = record(Driven(), tmp_path)
    assert len(episode) == 20
    assert (episode.info.device, episode.info.success) == ("watched", True)
    assert np.all(np.diff(episode.tick_ns) == PERIOD_NS)
    assert np.array_equal(episode.requested, episode.sent)
    moved = np.linalg.norm(episode.sent[1:, :3], axis=1)
    assert moved == pytest.approx(np.linalg.norm(episode.measured[1:, :3], axis=1), rel=0.05)
    assert np.all(moved > 1e-3)
    assert episode.sent[:, -1] == pytest.approx(0.03)  # what the gripper was told
    assert episode.measured[:, -1] == pytest.approx(0.04)  # and what it did


def test_where_nothing_passes_on_the_command_topic_what_the_arm_did_counts(tmp_path: Path):
    episode = record(Driven(commands=False), tmp_path)
    assert np.array_equal(episode.sent, episode.measured)
    assert np.array_equal(episode.requested, episode.measured)


def test_what_a_policy_asked_for_is_kept_beside_it(tmp_path: Path):
    episode = record(Driven(requests=True), tmp_path)
    assert episode.requested == pytest.approx(np.full((20, 7), 0.01))
    assert not np.allclose(episode.sent, episode.requested)


def test_a_driver_that_dies_ends_the_take_with_the_reason(tmp_path: Path):
    with pytest.raises(StaleObservation, match=r"'joint_position' is 0\.5\d+ s old at the tick"):
        record(Driven(dies_at_s=1.5), tmp_path, steps=60)


def test_the_gate_lets_a_take_start_wherever_the_driver_has_brought_the_arm(tmp_path: Path):
    driven = Driven()
    stage = WatchStage(BARE, TASK, driven)
    dataset = Dataset.create(tmp_path / "demos", robot="panda", task="pour")
    session = Session(stage, WatchedDevice(stage.control.actions.spec), dataset, SessionConfig())
    session.prepare()
    driven.clock.advance(5.0)  # a radian on
    stage.aligned = stage.control.begin()
    assert not [finding for finding in Gate(session, stage.lights).before() if "start" in finding.text]


def test_nothing_is_ever_sent():
    driven = Driven()
    arm = WatchedArm(BARE, driven)
    with pytest.raises(ArmFault, match="never commanded"):
        arm.send(Command(PANDA.home))
    assert not {COMMAND, GRIPPER_COMMAND} & set(arm.observe().values)
    stage = WatchStage(BARE, TASK, driven)
    stage.reset()
    stage.control.arm.hold()
    stage.step_units(np.full(7, 0.05))
    stage.close()
    assert driven.closed


def watched_session(driven: Driven, path: Path) -> Session:
    stage = WatchStage(BARE, TASK, driven)
    dataset = Dataset.create(path / "demos", robot="panda", task="pour")
    return Session(stage, WatchedDevice(stage.control.actions.spec), dataset, SessionConfig())


def test_commands_of_a_machine_whose_clock_lags_are_a_finding_before_and_after_the_take(tmp_path: Path):
    """What was sent silently became what the arm did."""
    driven = Driven(lag_s=0.25)
    session = watched_session(driven, tmp_path)
    gate = Gate(session, session.stage.lights)
    session.prepare()
    (before,) = [finding for finding in gate.before() if "stamped" in finding.text]
    assert before.severity == "failure"
    assert "come stamped 0.25 s ago, and count for two control periods (0.1 s)" in before.text
    assert "what the arm does would stand for what was sent" in before.text
    session.start()
    gate.begin()
    for _ in range(20):
        session.tick()
    session.stop()
    (after,) = [finding for finding in gate.after() if "stamped" in finding.text]
    assert (after.severity, after.where) == ("failure", "after")
    assert "in 20 of 20 steps what the arm did stands for what was sent" in after.text
    assert "Set the clock of the machine that sends them" in after.text


@pytest.mark.parametrize("driven", [Driven(), Driven(commands=False), Driven(lag_s=0.05)])
def test_commands_in_time_and_commands_elsewhere_are_no_finding(driven: Driven, tmp_path: Path):
    session = watched_session(driven, tmp_path)
    gate = Gate(session, session.stage.lights)
    session.prepare()
    session.start()
    gate.begin()
    for _ in range(20):
        session.tick()
    session.stop()
    assert not [finding for finding in (*gate.before(), *gate.after()) if "stamped" in finding.text]


def test_nobody_says_that_an_arm_holds_which_somebody_else_drives(tmp_path: Path):
    loop = SessionLoop(watched_session(Driven(), tmp_path))
    loop.turn()
    ours = "We only record: whoever drives the arm still does."
    assert loop.ask("hold") == ours
    view = loop.view()
    assert (view.moved_by, view.holding, view.when_gone) == ("driver", False, ours)
    loop.ask("start")
    for _ in range(12):
        loop.turn()
    told = loop.ask("hold")
    assert told.startswith("Take ended (hold) after ")
    assert told.endswith(ours)
    assert loop.view().state == "review"
    loop.close()
