"""An arm that nobody simulates as a session's stage: the same session, the same Guard, and words for what is odd."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from understudy.capture.devices.scripted import ScriptedDevice
from understudy.capture.hardware import ArmStage, HardwareConfig, PlacedByHand
from understudy.capture.left_out import FOUND_S, leave_out, left_out_text
from understudy.capture.session import Session, SessionConfig
from understudy.capture.streams import Expected, StreamTable
from understudy.datasets.checking.checks import check_dataset
from understudy.datasets.store import Dataset
from understudy.envs.arms.arm import Start
from understudy.envs.arms.fake_arm import FakeArm
from understudy.envs.arms.robot import load_robot
from understudy.envs.tasks.free import free_task, task_on
from understudy.envs.tasks.task import make_task
from understudy.errors import InputError

PANDA = load_robot("panda")
LIFT = make_task("lift")


@dataclass(frozen=True)
class Came:
    """A sample."""

    key: str
    stamp_ns: int
    receive_ns: int
    value: np.ndarray
    packed: None = None


class Topics:
    """What is known of topics that bring everything."""

    def why_missing(self, key: str) -> str:
        return f"nobody publishes {key}"

    def lost(self, key: str) -> int:
        return 0

    def remarks(self) -> list[str]:
        return ["/joint_states is published again."]

    def expected(self, key: str) -> Expected:
        return Expected(key, 0.25, 20.0)


def scripted(stage: ArmStage, seed: int) -> ScriptedDevice:
    return ScriptedDevice("lift", PANDA, stage.control.actions.spec, np.random.default_rng(seed))


def test_a_session_is_recorded_as_in_simulation(tmp_path: Path):
    stage = ArmStage(FakeArm(PANDA, LIFT.objects), LIFT)
    dataset = Dataset.create(tmp_path / "demos", robot="panda", task="lift")
    session = Session(stage, scripted(stage, 0), dataset, SessionConfig(max_s=10))
    session.prepare(start=LIFT.start(PANDA, np.random.default_rng(0)))
    session.start()
    while session.state == "recording":
        session.tick()
    assert session.success
    episode = dataset.read(session.keep())
    assert episode.info.device == "scripted"
    assert not episode.states.size  # there is no simulator
    assert check_dataset(dataset).trainable


def test_an_episode_begins_where_a_person_has_put_the_arm():
    arm = FakeArm(PANDA, LIFT.objects)
    there = PANDA.home + 0.1
    arm.reset(Start(there))
    stage = ArmStage(PlacedByHand(arm), LIFT)
    stage.reset(seed=0)
    assert stage.aligned is not None
    assert stage.aligned.values["joint_position"] == pytest.approx(there, abs=1e-6)


def test_lights_are_named_by_their_source_and_remarks_come_from_the_topics():
    table = StreamTable()
    stage = ArmStage(FakeArm(PANDA, LIFT.objects), LIFT, streams=table, watched=Topics())
    names = [light.name for light in stage.lights()]
    assert names == ["joints", "object"]
    assert {light.state for light in stage.lights()} == {"missing"}
    assert stage.lights()[0].why == "nobody publishes joint_position"
    assert stage.remarks() == ["/joint_states is published again."]
    assert ArmStage(FakeArm(PANDA, LIFT.objects), LIFT).lights() == ()


def test_nothing_piles_up_or_is_lost_before_the_first_take():
    table = StreamTable()
    ArmStage(FakeArm(PANDA, LIFT.objects), LIFT, streams=table, watched=Topics())
    for k in range(30_000):
        table.take(Came("joint_position", (k + 1) * 10**6, (k + 1) * 10**6, np.zeros(7)))
    assert table.drain() == {}
    health = table.health(30 * 10**9)["joint_position"]
    assert (health.count, health.lost) == (30_000, 0)


def test_a_task_of_ones_own_observes_what_the_topics_give_and_never_succeeds_by_itself():
    task = free_task("fold_towel", PANDA)
    assert {"joint_position", "gripper_position", "tool_position", "object_position"} <= set(task.observation_keys)
    assert task.score({}).success is False
    assert task_on("lift", PANDA).name == "lift"
    assert task_on("fold_towel", PANDA) == task
    with pytest.raises(InputError, match=r"Unknown task 'lfit'.*'lift'"):
        task_on("lfit", PANDA)
    with pytest.raises(InputError, match="'Fold the towel' cannot name a task"):
        task_on("Fold the towel", PANDA)


def test_a_task_of_ones_own_goes_without_what_nobody_publishes():
    task, slept = free_task("fold_towel", PANDA), []
    there = ("object_position", "object_quaternion", "goal_position")
    less, left_out = leave_out(task, lambda key: key in there, sleep=slept.append)
    assert set(less.observation_keys) - set(there) == set(task.observation_keys) - set(task.optional_keys)
    assert set(left_out) == set(task.optional_keys) - set(there)
    assert sum(slept) == pytest.approx(FOUND_S, abs=0.1)  # discovery takes its time
    text = left_out_text(PANDA, left_out, None)
    assert text.startswith("Not observed, because nobody publishes /object_base_pose, /object_hole_pose, /object_op")
    assert "object_opening" in text
    slept.clear()
    assert leave_out(task, lambda key: True, sleep=slept.append) == (task, ())
    assert leave_out(LIFT, lambda key: False, sleep=slept.append) == (LIFT, ())
    assert slept == []


def test_a_dataset_that_is_continued_decides_what_is_observed():
    task = free_task("fold_towel", PANDA)
    before = ("joint_position", "object_position", "object_quaternion")
    same, left_out = leave_out(task, lambda key: pytest.fail("is not asked"), before)
    assert {"object_position", "object_quaternion"} == set(same.observation_keys) & set(task.optional_keys)
    assert "the dataset's episodes have no such thing: object_base_position" in left_out_text(PANDA, left_out, before)


@pytest.mark.parametrize(("change", "why"), [({"reset_service": "a b"}, "no ROS 2 name"), ({"ready_s": 0}, "positive")])
def test_options_are_checked(change: dict, why: str):
    with pytest.raises(InputError, match=why):
        HardwareConfig(**change)
