"""Calibrating a leader: signs and offsets come back from poses, and what cannot be told is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.capture.devices.leader_calibration import (
    GripperLink,
    LeaderCalibration,
    SeenPose,
    fit,
    pair_joints,
    read_calibration,
)
from understudy.envs.arms.robot import load_robot
from understudy.errors import InputError, RobotMismatch

PANDA = load_robot("panda")
NAMES = tuple(f"servo_{i}" for i in range(7))


def seen(signs: np.ndarray, offsets: np.ndarray, poses: np.ndarray, noise: np.ndarray | float = 0.0) -> list[SeenPose]:
    """What a leader with these signs and offsets reads in the follower's poses (P, 7)."""
    readings = signs * (poses - offsets) + noise
    return [
        SeenPose(dict(zip(NAMES, map(float, row), strict=True)), pose)
        for row, pose in zip(readings, poses, strict=True)
    ]


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_signs_and_offsets_come_back_from_poses_with_noise(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    signs, offsets = rng.choice([-1.0, 1.0], 7), rng.uniform(-3.0, 3.0, 7)
    poses = PANDA.home + np.linspace(-0.4, 0.4, count)[:, None] * rng.choice([-1.0, 1.0], 7)
    found, left = fit(PANDA, seen(signs, offsets, poses, rng.normal(0.0, 0.01, (count, 7))), NAMES)
    assert [link.sign for link in found.joints.values()] == signs.tolist()
    assert [link.offset_rad for link in found.joints.values()] == pytest.approx(offsets, abs=0.05)
    assert left.shape == (count, 7)
    assert found.residual_rad == pytest.approx(np.abs(left).max(), abs=1e-6)
    for pose, one in zip(poses, seen(signs, offsets, poses), strict=True):
        assert found.follow(one.leader) == pytest.approx(pose, abs=0.05)


APART = PANDA.home + np.array([[0.3], [-0.3], [0.0]]) * np.ones(7)


def test_too_few_poses_are_refused() -> None:
    with pytest.raises(InputError, match="Two poses or more are needed to tell signs and offsets, got 1"):
        fit(PANDA, seen(np.ones(7), np.zeros(7), APART[:1]), NAMES)


def test_a_joint_that_hardly_moved_is_named() -> None:
    poses = APART.copy()
    poses[:, 4] = 0.05
    with pytest.raises(InputError, match=r"Joint 'panda_joint5' \(leader 'servo_4'\) moved only 0.00 rad between"):
        fit(PANDA, seen(np.ones(7), np.zeros(7), poses), NAMES)


def test_a_pose_that_was_not_the_same_on_both_arms_is_named() -> None:
    noise = np.zeros((3, 7))
    noise[1, 2] = 0.5
    with pytest.raises(InputError, match=r"Joint 'panda_joint3' does not fit: pose 2 is off by 0.33 rad"):
        fit(PANDA, seen(np.ones(7), np.zeros(7), APART, noise), NAMES)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    found, _ = fit(PANDA, seen(np.ones(7), np.full(7, 0.25), APART), NAMES)
    whole = found.model_copy(update={"gripper": GripperLink(leader="handle", closed_rad=0.1, open_rad=1.2)})
    path = tmp_path / "leader.yaml"
    whole.write(path)
    assert read_calibration(path, PANDA) == whole
    assert whole.opening({"handle": 0.65}) == pytest.approx(0.5)
    assert whole.opening({"handle": 9.0}) == 1.0
    with pytest.raises(InputError, match=r"the folder .* does not exist"):
        whole.write(tmp_path / "none" / "leader.yaml")


WRITTEN = "robot: panda\njoints:\n" + "".join(f"  {name}: {{leader: a}}\n" for name in PANDA.joint_names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a mapping, as `understudy calibrate-leader` writes it"),
        ("robot: panda\n", "joints is missing"),
        (WRITTEN.replace("{leader: a}", "{leader: a, sign: 0}", 1), r"leader.yaml:3: joints.panda_joint1.sign"),
        (WRITTEN.replace("{leader: a}", "{leader: a, offset_rad: .nan}", 1), "leader.yaml:3: .*offset_rad"),
        (WRITTEN + "gripper: {leader: h, closed_rad: 1, open_rad: 1}\n", "closed and open are both 1.0 rad"),
        (WRITTEN + "speed: 3\n", "leader.yaml:10: Unknown key 'speed'"),
    ],
)
def test_files_that_cannot_be_read_say_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "leader.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_calibration(path, PANDA)


def test_a_calibration_of_another_robot_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "leader.yaml"
    path.write_text(WRITTEN.replace("robot: panda", "robot: xarm6"))
    with pytest.raises(RobotMismatch, match=r"leader.yaml:1: the leader was calibrated for 'xarm6', not 'panda'"):
        read_calibration(path, PANDA)
    path.write_text(WRITTEN.replace("panda_joint7", "elbow"))
    with pytest.raises(RobotMismatch, match=r"leader.yaml:2: expected the joints panda_joint1, .*calibrate again"):
        read_calibration(path, PANDA)
    with pytest.raises(InputError, match=r"does not exist; make it with: understudy calibrate-leader --out"):
        read_calibration(tmp_path / "none.yaml", PANDA)


def test_joints_are_paired_by_choice_by_name_or_in_order() -> None:
    assert pair_joints(PANDA, [*reversed(PANDA.joint_names), "handle"]) == PANDA.joint_names
    assert pair_joints(PANDA, [*NAMES, "handle"]) == NAMES
    assert pair_joints(PANDA, [*NAMES, "handle"], tuple(reversed(NAMES))) == tuple(reversed(NAMES))
    with pytest.raises(InputError, match="--joints must name 7 joints of the leader"):
        pair_joints(PANDA, NAMES, ("servo_9",) * 7)
    with pytest.raises(InputError, match=r"The leader has 2 joints \(servo_0, servo_1\), and panda has 7"):
        pair_joints(PANDA, NAMES[:2])


def test_the_same_arm_needs_no_calibration() -> None:
    same = LeaderCalibration.same_joints(PANDA)
    leader = dict(zip(PANDA.joint_names, map(float, PANDA.home), strict=True))
    assert np.array_equal(same.follow(leader), PANDA.home)
    assert same.opening(leader) is None
