"""One tick of control: what is sent is what was decoded, from what was sent before, through the Guard."""

from __future__ import annotations

import numpy as np
import pytest
from envs_support import EchoArm

from understudy.envs.arms.arm import Observation, Start
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import load_robot
from understudy.envs.control import Control, max_ages
from understudy.errors import InputError, StaleObservation

PANDA = load_robot("panda")
KEYS = ("joint_position", "joint_velocity", "gripper_position", "tool_position", "tool_quaternion")


def make(action_space: str = "tool_delta", keys: tuple[str, ...] = KEYS) -> tuple[Control, EchoArm]:
    arm = EchoArm(PANDA)
    return Control(Guard(arm), action_space, keys), arm


def test_the_tool_pose_of_an_observation_is_that_of_its_joints():
    control, arm = make()
    aligned = control.reset(Start(PANDA.home + 0.1, 0.03))
    pose = Kinematics(PANDA).tool_pose(PANDA.home + 0.1)
    assert aligned.values["tool_position"] == pytest.approx(pose.position, abs=1e-6)
    assert aligned.values["tool_quaternion"] == pytest.approx(pose.quaternion, abs=1e-6)
    assert aligned.values["gripper_position"].tolist() == pytest.approx([0.03])
    assert set(aligned.values) == set(KEYS)
    assert all(value.dtype == np.float32 for value in aligned.values.values())
    assert control.state().joint_position == pytest.approx(arm.position)


def test_ticks_are_one_period_apart():
    control, _ = make()
    stamps = [control.reset(Start(PANDA.home)).tick_ns]
    for _ in range(5):
        control.apply(np.array([0.005, 0, 0, 0, 0, 0, 0.08]))
        stamps.append(control.wait().tick_ns)
    assert np.diff(stamps).tolist() == [50_000_000] * 5


def test_what_was_sent_reads_as_the_action_once_the_motion_has_begun():
    control, arm = make()
    control.reset(Start(PANDA.home, 0.08))
    action = np.array([0.006, -0.004, 0.003, 0.01, 0.0, -0.01, 0.08])
    for tick in range(12):
        sent, command = control.apply(action)
        assert command is arm.sent[-1]
        control.wait()
        if tick > 4:
            assert sent == pytest.approx(action, abs=3e-4)


def test_steps_are_taken_from_what_was_sent_so_that_blocked_commands_do_not_wind_up():
    control, arm = make()
    control.reset(Start(PANDA.home, 0.08))
    for _ in range(60):  # into the floor of the workspace, far further than it is deep
        control.apply(np.array([0, 0, -0.03, 0, 0, 0, 0.08]))
        control.wait()
    bottom = Kinematics(PANDA).tool_position(arm.position)[2]
    assert 0.0 <= bottom < 0.03
    for _ in range(6):
        control.apply(np.array([0, 0, 0.02, 0, 0, 0, 0.08]))
        control.wait()
    assert Kinematics(PANDA).tool_position(arm.position)[2] > bottom + 0.06  # up at once, not after sixty ticks


def test_an_action_that_is_not_a_number_brakes_and_the_next_one_goes_on():
    control, arm = make()
    control.reset(Start(PANDA.home, 0.08))
    action = np.array([0.006, 0, 0, 0, 0, 0, 0.08])
    for _ in range(6):
        control.apply(action)
        control.wait()
    for _ in range(12):
        control.apply(np.full(7, np.nan))
        control.wait()
    assert control.arm.counts["not_finite"] == 12
    assert control.arm.at_rest
    here = arm.position[0], arm.width
    control.apply(action)
    assert (arm.position[0], arm.width) != here
    assert arm.width == pytest.approx(0.08)


@pytest.mark.parametrize("shape", [(), (6,), (8,), (1, 7)])
def test_an_action_of_the_wrong_shape_is_refused(shape: tuple[int, ...]):
    control, arm = make()
    control.reset(Start(PANDA.home))
    with pytest.raises(InputError, match=r"Action for 'tool_delta' has shape .*; expected \(7,\): \['x', 'y'"):
        control.apply(np.zeros(shape))
    assert arm.sent == []


def test_an_arm_that_stops_reporting_is_noticed():
    control, arm = make()
    control.reset(Start(PANDA.home))
    old = arm.observe()
    arm.observe = lambda: Observation(old.values, dict.fromkeys(old.values, 0))  # type: ignore[method-assign]
    arm.clock.advance(1.0)
    with pytest.raises(StaleObservation, match=r"'joint_position' is 1\.\d+ s old at the tick; at most 0\.500 s"):
        control.wait()
    arm.observe = lambda: Observation({}, {})  # type: ignore[method-assign]
    with pytest.raises(StaleObservation, match="No 'joint_position' has been received"):
        control.wait()


def test_a_new_episode_begins_with_the_arms_own_set_point_and_no_overruns():
    control, arm = make()
    control.reset(Start(PANDA.home))
    arm.clock.advance(0.2)
    control.wait()
    assert control.ticker.overruns.total() == 1
    control.reset(Start(PANDA.home + 0.5))  # far away: a set point kept from before would be a jump
    control.apply(np.zeros(7))
    assert arm.position == pytest.approx(PANDA.home + 0.5, abs=1e-9)
    assert control.ticker.overruns.total() == 0


def test_age_limits_are_those_of_the_topic_that_brings_the_key():
    ages = max_ages(PANDA, ("joint_position", "tool_position", "object_position", "object_quaternion", "image_front"))
    assert ages == {
        "joint_position": 0.5,
        "tool_position": 0.5,
        "object_position": 0.5,
        "object_quaternion": 0.5,
        "image_front": 1.0,
    }


def test_an_opening_has_the_age_limit_of_its_own_topic():
    quick = PANDA.ros.openings["object"].model_copy(update={"max_age_s": 0.1})
    robot = PANDA.model_copy(update={"ros": PANDA.ros.model_copy(update={"openings": {"object": quick}})})
    assert max_ages(robot, ("object_position", "object_opening")) == {"object_position": 0.5, "object_opening": 0.1}
