"""An arm that somebody else drives as a session's stage: takes begin and end as the operator says; nothing is sent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from understudy.capture.gate import Gate
from understudy.capture.session import Session, SessionConfig
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

    def __init__(self, *, commands: bool = True, requests: bool = False, dies_at_s: float = 1e6) -> None:
        self.clock = VirtualClock(10**9)
        self.commands, self.requests, self.dies_at_s = commands, requests, dies_at_s
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
        return Observation(values, dict.fromkeys(values, now_ns))

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
