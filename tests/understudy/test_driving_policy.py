"""A policy drives a session until the operator takes over: what fits, what is refused, and which steps are marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from deploy_support import manifest, write_tiny
from session_support import Puppet, fake_stage

from understudy.capture.session import Session, SessionConfig
from understudy.capture.takeover import TakeoverDevice
from understudy.cli.driving_policy import driving_policy
from understudy.cli.record import Record
from understudy.datasets.store import Dataset
from understudy.deploy.skill import ObservationField
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.robot import load_robot
from understudy.errors import InputError, RobotMismatch

ASKED = np.array([0.2, 0.0, 0.1, 0.0, 0.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def stage() -> ArmEnv:
    return fake_stage("lift")


@pytest.fixture
def skill(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.skill", ASKED, made=manifest(space="tool_delta"))


def test_what_is_asked_of_the_gripper_is_told_whoever_drives(stage: ArmEnv, skill: Path, tmp_path: Path) -> None:
    """A page that toggles must know what the policy has asked for: how far the fingers are apart does not tell."""
    spec, dataset = stage.control.actions.spec, Dataset.create(tmp_path / "d", robot="panda", task="lift")
    puppet = Puppet(spec)
    device = TakeoverDevice(driving_policy(skill, stage.control, "lift"), puppet, spec)
    session = Session(stage, device, dataset, SessionConfig(operator="ada"))
    session.prepare(seed=0)
    session.start()
    assert session.gripper_asked_m is None
    session.tick()
    assert session.gripper_asked_m == pytest.approx(spec.high[6])
    puppet.action = np.zeros(7)  # a push of the button: shut
    session.intervene()
    session.tick()
    assert session.gripper_asked_m == 0.0
    session.stop()
    assert session.gripper_asked_m is None
    session.drop()


def test_steps_that_the_operator_drove_are_marked_and_no_others(stage: ArmEnv, skill: Path, tmp_path: Path) -> None:
    spec, dataset = stage.control.actions.spec, Dataset.create(tmp_path / "d", robot="panda", task="lift")
    puppet = Puppet(spec)
    device = TakeoverDevice(driving_policy(skill, stage.control, "lift"), puppet, spec)
    session = Session(stage, device, dataset, SessionConfig(operator="ada"))
    session.prepare(seed=0)
    session.poll()
    session.start()
    for step in range(20):
        push = np.zeros(7)
        push[1], push[6] = 0.01, stage.aligned.values["gripper_position"][0]
        puppet.action = push if step == 6 else None
        if step == 12:
            assert "release" in session.wishes
            session.release()
        if step == 16:
            session.intervene()
        session.tick()
    session.stop()
    episode = dataset.read(session.keep())
    driven = [6 <= step < 12 or step >= 16 for step in range(20)]
    assert episode.intervention.tolist() == driven
    policys = np.array(spec.denormalise(ASKED))
    assert np.allclose(episode.requested[~np.array(driven)], policys)
    assert episode.requested[6, 1] == pytest.approx(0.01)
    assert not np.any(episode.requested[7:12, :6])
    assert np.allclose(episode.requested[:, 6], policys[6])  # what the policy asked of the gripper stays asked


def test_what_does_not_fit_is_refused_by_name(stage: ArmEnv, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.skill does not exist; expected a \.skill file or the folder of a run"):
        driving_policy(tmp_path / "none.skill", stage.control, "lift")
    made = manifest(space="tool_delta")
    other = write_tiny(tmp_path / "task.skill", made=made)
    with pytest.raises(InputError, match="was trained on task 'lift', and 'reach' is recorded"):
        driving_policy(other, stage.control, "reach")
    joints = write_tiny(tmp_path / "joints.skill", made=manifest())
    with pytest.raises(InputError, match=r"answers in joint_delta .* and the operator drives in tool_delta"):
        driving_policy(joints, stage.control, "lift")
    sees = manifest(
        space="tool_delta",
        observations=(*made.observations, ObservationField(key="image_front", shape=(120, 160, 3), max_age_s=0.5)),
    )
    with pytest.raises(InputError, match="looks at image_front, which is not observed here; add --cameras front"):
        driving_policy(write_tiny(tmp_path / "sees.skill", made=sees), stage.control, "lift")
    robot = load_robot("xarm6")
    with pytest.raises(RobotMismatch, match="xarm6"):
        driving_policy(write_tiny(tmp_path / "x.skill", made=manifest(robot, "tool_delta")), stage.control, "lift")
    with pytest.raises(InputError, match="There is no run at"):
        driving_policy(tmp_path, stage.control, "lift")


@pytest.mark.parametrize("device", ["scripted", "replay", "hand"])
def test_somebody_must_be_able_to_take_over(device: str, skill: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--policy needs somebody who can take over"):
        Record("lift", tmp_path / "d", device=device, policy=skill).run()
    assert not (tmp_path / "d").exists()
