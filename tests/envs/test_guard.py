"""Whatever is commanded, what the Guard sends stays inside every limit, and can stop."""

from __future__ import annotations

import itertools
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from envs_support import EchoArm, adversary, assert_limited, variant
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.envs.arms.arm import Command, Start
from understudy.envs.arms.dynamics import Dynamics
from understudy.envs.arms.guard import FIRST_JUMP_RAD, Guard
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import RobotDescription, load_robot
from understudy.envs.arms.stop_check import OVERLOAD
from understudy.errors import ArmFault, InputError

PANDA = load_robot("panda")


def weaker(robot: RobotDescription, scale: float, payload_kg: float) -> RobotDescription:
    """The same robot with less effort and something in hand, so that efforts are in the way."""
    joints = tuple(joint.model_copy(update={"effort": joint.effort * scale}) for joint in robot.joints)
    return robot.model_copy(update={"joints": joints, "payload_kg": payload_kg})


def attack(robot: RobotDescription, seed: int, count: int) -> tuple[Guard, EchoArm]:
    arm = EchoArm(robot)
    guard = Guard(arm, kinematics=Kinematics(robot))
    first = arm.position
    rng, braking = np.random.default_rng(seed + 1), 0
    for command in itertools.islice(adversary(robot, arm, np.random.default_rng(seed)), count):
        before = len(arm.sent)
        braking = braking - 1 if braking > 0 else int(rng.integers(1, 20)) * (rng.random() < 0.02)
        try:
            if braking and before:
                guard.hold()
            else:
                guard.send(command)
        except ArmFault as fault:
            assert "first command" in str(fault)  # noqa: PT017 - only a jump before the episode began may be refused
            assert not arm.sent
        except InputError:
            assert command.joint_position.shape != first.shape
            assert len(arm.sent) == before
    assert len(arm.sent) > 0.8 * count - 50
    assert_limited(robot, first, arm.sent)
    return guard, arm


ROBOTS = {
    "panda": PANDA,
    "panda, soft": variant(PANDA, 20.0, 0.1),
    "panda, soft and heavy": variant(PANDA, 20.0, 0.02, 0.3),
    "panda, 100 Hz": variant(PANDA, 100.0, 0.2),
    "kuka, 10 Hz": variant(load_robot("kuka_iiwa"), 10.0, 0.3),
    "kuka": load_robot("kuka_iiwa"),
    "xarm6": load_robot("xarm6"),
    "xarm6, weak and loaded": weaker(load_robot("xarm6"), 0.7, 0.5),
    "panda, weak and loaded": weaker(PANDA, 0.6, 2.0),
    "two_joint": load_robot("two_joint"),
}


@pytest.mark.parametrize("name", ROBOTS)
def test_no_command_gets_past_any_limit(name: str):
    guard, _ = attack(ROBOTS[name], list(ROBOTS).index(name), 2000)
    assert {"joint_position", "motion", "workspace", "not_finite"} <= set(guard.counts)
    assert ("effort" in guard.counts) == ("weak" in name)


def attack_often(name: str, seed: int) -> int:
    return len(attack(ROBOTS[name], seed, 10_000)[1].sent)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("quarter", range(4))
def test_a_million_commands_do_not_get_past_any_limit(quarter: int):
    """A hundred attacks of 10,000 commands in four parts, each some 100 s of processor time."""
    names = itertools.islice(itertools.cycle(ROBOTS), 25 * quarter, 25 * (quarter + 1))
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        sent = list(pool.map(attack_often, names, range(1000 + 25 * quarter, 1025 + 25 * quarter)))
    assert sum(sent) > 200_000


@given(
    seed=st.integers(0, 2**32 - 1),
    rate=st.sampled_from([5.0, 20.0, 60.0, 250.0]),
    jerk=st.floats(0.02, 2.0),
    acceleration=st.floats(0.1, 2.0),
    half=st.floats(0.05, 0.3),
)
@settings(max_examples=25, deadline=None)
def test_limits_hold_for_any_limits_and_box(seed: int, rate: float, jerk: float, acceleration: float, half: float):
    robot = variant(PANDA, rate, jerk, acceleration)
    tool = Kinematics(robot).tool_position(robot.home)
    box = {"low": tuple(tool - half), "high": tuple(tool + half)}
    attack(robot.model_copy(update={"workspace": robot.workspace.model_copy(update=box)}), seed, 150)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_hold_comes_to_rest_inside_all_limits_from_any_motion(seed: int, count: int):
    robot = ROBOTS["panda, soft"]
    guard, arm = attack(robot, seed, count + 50)
    moved = len(arm.sent)
    for _ in range(200):
        if guard.at_rest:
            break
        guard.hold()
    assert guard.at_rest
    # the slowest joint from full speed, with the time its acceleration takes to build up and fade, and a margin of 2
    longest_s = 2 * np.max(robot.joint_array("velocity") / robot.joint_array("acceleration")) + 2 * np.max(
        robot.joint_array("acceleration") / robot.joint_array("jerk")
    )
    assert len(arm.sent) - moved <= longest_s * robot.rate_hz + 2
    rest = arm.position
    for _ in range(4):
        guard.hold()
        assert arm.position == pytest.approx(rest, abs=1e-7)
    assert_limited(robot, robot.home, arm.sent)


def test_hold_before_anything_was_sent_is_the_arms_own_and_the_guard_is_at_rest():
    arm = EchoArm(PANDA)
    guard = Guard(arm)
    guard.hold()
    assert (arm.holds, arm.sent, guard.at_rest) == (1, [], True)


def test_holding_an_arm_that_somebody_moved_since_does_not_throw_it_back():
    """After a take the arm was guided elsewhere by hand; then hold was pressed."""
    arm = EchoArm(PANDA)
    guard = Guard(arm)
    guard.send(Command(PANDA.home + 0.01))
    while not guard.at_rest:
        guard.hold()
    guard.hold()  # where it stands, as often as one likes
    sent, arm.position = len(arm.sent), arm.position + 0.6
    guard.hold()
    assert (len(arm.sent), arm.holds) == (sent, 1)
    assert guard.at_rest


def test_a_guard_reset_in_motion_is_at_rest():
    arm = EchoArm(PANDA)
    guard = Guard(arm)
    for _ in range(5):
        guard.send(Command(arm.position + 0.05, None, np.ones(7)))
    assert not guard.at_rest
    guard.reset(Start(PANDA.home))
    assert guard.at_rest


def test_an_arm_found_overloaded_may_be_moved_and_asks_for_no_more_than_a_tenth_on_top():
    robot = weaker(PANDA, 0.2, 4.0)
    still = np.zeros(7)
    dynamics = Dynamics(robot)
    found = np.abs(dynamics.torque(robot.home, still, still))
    effort = robot.joint_array("effort")
    assert np.any(found > effort)
    arm = EchoArm(robot)
    guard = Guard(arm)
    for _ in range(60):
        guard.send(Command(arm.position + np.array([0.01, -0.01, 0, -0.01, 0, 0, 0]), None, None))
    assert np.abs(arm.position - robot.home).max() > 0.05
    assert np.all(np.abs(dynamics.torque(arm.position, still, still)) <= np.maximum(effort, OVERLOAD * found))


def test_without_masses_efforts_are_left_to_the_arm_and_the_guard_says_so(tmp_path: Path):
    text = re.sub(r"<inertial>.*?</inertial>", "", PANDA.kinematics_path().read_text(), flags=re.DOTALL)
    (tmp_path / "panda.urdf").write_text(text)
    massless = weaker(PANDA, 1e-3, 0.0).model_copy(update={"folder": tmp_path})
    guard, massive = Guard(EchoArm(massless)), Guard(EchoArm(PANDA))
    assert (guard.limits_effort, massive.limits_effort) == (False, True)
    for _ in range(40):
        guard.send(Command(PANDA.home + 0.1))
    assert guard.counts["effort"] == 0
    assert guard.inner.observe()["joint_position"] == pytest.approx(PANDA.home + 0.1)


def test_the_callers_arrays_stay_as_they_are():
    arm = EchoArm(PANDA)
    guard = Guard(arm)
    position, velocity = PANDA.home + 0.2, np.full(7, 50.0)
    kept = position.copy(), velocity.copy()
    sent = guard.send(Command(position, 0.5, velocity))
    assert np.array_equal(position, kept[0])
    assert np.array_equal(velocity, kept[1])
    assert not np.shares_memory(sent.joint_position, position)
    sent.joint_position[:] = 99.0  # and what was returned is not the Guard's own state either
    assert np.all(np.abs(guard.send(Command(PANDA.home)).joint_position) < 4.0)


@pytest.mark.parametrize(
    "bad",
    [
        Command(np.full(7, np.nan)),
        Command(PANDA.home + np.array([0, 0, np.inf, 0, 0, 0, 0])),
        Command(PANDA.home, float("nan")),
        Command(PANDA.home, None, np.full(7, np.nan)),
    ],
    ids=["position", "infinite", "gripper", "velocity"],
)
def test_what_is_not_finite_brakes_and_is_counted(bad: Command):
    arm = EchoArm(PANDA)
    guard = Guard(arm)
    for _ in range(6):
        guard.send(Command(arm.position + 0.02, 0.04, np.full(7, 0.4)))
    before = guard.counts["not_finite"]
    speeds = [np.abs(guard.send(bad).joint_velocity).max() for _ in range(12)]
    assert guard.counts["not_finite"] == before + 12
    assert speeds[0] > 0.0
    assert speeds[-1] == 0.0
    assert guard.at_rest
    assert_limited(PANDA, PANDA.home, arm.sent)


def test_what_is_not_finite_as_the_first_command_leaves_the_arm_where_it_is():
    arm = EchoArm(PANDA)
    sent = Guard(arm).send(Command(np.full(7, np.nan)))
    assert np.array_equal(sent.joint_position, PANDA.home)


@pytest.mark.parametrize("shape", [(6,), (8,), (), (7, 1)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]):
    guard = Guard(EchoArm(PANDA))
    with pytest.raises(InputError, match=r"'panda' has .* joint positions; expected \(7,\), in the order"):
        guard.send(Command(np.zeros(shape)))
    with pytest.raises(InputError, match=r"'panda' has .* joint velocities; expected \(7,\)"):
        guard.send(Command(PANDA.home, None, np.zeros(shape)))


def test_a_first_jump_is_refused_by_name_and_nothing_is_sent():
    arm = EchoArm(PANDA)
    guard = Guard(arm)
    far = PANDA.home + np.array([0, 0, 0, FIRST_JUMP_RAD + 0.01, 0, 0, 0])
    with pytest.raises(
        ArmFault, match=r"first command asks joint 3 \('panda_joint4'\) to go to -2\.040 rad from -2\.4"
    ):
        guard.send(Command(far))
    assert arm.sent == []
    guard.send(Command(PANDA.home))  # a sane one may still begin
    guard.send(Command(far))  # and later on a far target is approached within limits
    guard.reset(Start(PANDA.home))
    with pytest.raises(ArmFault, match="first command"):
        guard.send(Command(far))


class RefusingArm(EchoArm):
    """Refuses commands while `refuses`, as one that somebody else commands."""

    refuses = False

    def send(self, command: Command) -> Command:
        if self.refuses:
            raise ArmFault("Another node commands the arm.")
        return super().send(command)


def test_after_a_refused_command_it_begins_from_where_the_arm_is():
    arm = RefusingArm(PANDA)
    guard = Guard(arm)
    for _ in range(5):
        guard.send(Command(arm.position + 0.01, None, np.full(7, 0.2)))
    sent, arm.refuses = len(arm.sent), True
    for _ in range(3):
        with pytest.raises(ArmFault, match="Another node"):
            guard.hold()
    assert arm.holds == 0  # as long as the arm is where it was, it is braked along its way
    arm.position = arm.position + 0.5  # the other has moved it
    arm.refuses = False
    guard.hold()
    assert (arm.holds, len(arm.sent), guard.at_rest) == (1, sent, True)
    guard.send(Command(arm.position.copy()))
    assert arm.sent[-1].joint_position == pytest.approx(arm.position, abs=1e-6)


def test_nothing_is_sent_from_an_old_reading():
    arm = EchoArm(PANDA)
    seen = arm.observe()
    arm.observe = lambda: seen  # type: ignore[method-assign]
    arm.clock.advance(PANDA.ros.joint_states.max_age_s + 0.01)
    for command in (Command(PANDA.home), Command(np.full(7, np.nan))):
        with pytest.raises(ArmFault, match=r"joint positions are 0\.\d+ s old, at most .* Check the arm's driver"):
            Guard(arm).send(command)
    assert arm.sent == []


@pytest.mark.parametrize("reported", [np.full(7, np.nan), np.zeros(6)], ids=["nan", "short"])
def test_an_arm_that_does_not_know_where_it_stands_is_not_commanded(reported: np.ndarray):
    arm = EchoArm(PANDA)
    arm.position = reported
    for command in (Command(PANDA.home), Command(np.full(7, np.nan))):
        with pytest.raises(ArmFault, match=r"reports joint positions .*; expected 7 finite numbers"):
            Guard(arm).send(command)
    assert arm.sent == []


def test_the_gripper_moves_no_faster_than_it_can_and_none_leaves_it():
    arm = EchoArm(PANDA)
    guard = Guard(arm)
    widths = [guard.send(Command(PANDA.home, 1.0)).gripper_position for _ in range(12)]
    assert widths[:3] == pytest.approx([0.01, 0.02, 0.03])  # 0.2 m/s at 20 Hz
    assert widths[-1] == PANDA.gripper.width
    assert guard.counts["gripper"] == 12
    assert guard.send(Command(PANDA.home)).gripper_position is None
    assert guard.send(Command(PANDA.home, 0.0)).gripper_position == pytest.approx(0.07)


@given(direction=st.lists(st.floats(-1, 1), min_size=7, max_size=7), speed=st.floats(0.05, 0.6))
@settings(max_examples=40, deadline=None)
def test_steps_at_moderate_speed_are_followed_exactly(direction: list[float], speed: float):
    arm = EchoArm(PANDA)
    guard = Guard(arm)
    velocity = speed * np.array(direction)
    step = velocity * PANDA.period_s
    before = arm.position
    for tick in range(8):
        sent = guard.send(Command(arm.position + step, None, velocity))
        if tick >= 4:  # the motion has reached its speed
            assert sent.joint_position - before == pytest.approx(step, abs=1e-9)
            assert sent.joint_velocity == pytest.approx(velocity, abs=1e-7)
        before = sent.joint_position
    assert guard.counts["motion"] <= 2  # while it sped up


def test_a_place_is_reached_and_kept():
    arm = EchoArm(PANDA)
    guard = Guard(arm)
    guard.send(Command(PANDA.home))
    place = PANDA.home + np.array([0.5, 0.2, -0.4, -0.2, 0.3, 0.1, -0.6])
    for _ in range(40):
        guard.send(Command(place))
    assert arm.position == pytest.approx(place, abs=1e-9)
    assert guard.at_rest


def test_a_tool_found_outside_the_box_may_come_back_and_goes_no_further_out():
    kinematics = Kinematics(PANDA)
    tool = kinematics.tool_position(PANDA.home)
    above = PANDA.workspace.model_copy(update={"low": (0.2, -0.5, tool[2] + 0.05)})
    robot = PANDA.model_copy(update={"workspace": above})
    arm = EchoArm(robot)
    guard = Guard(arm)

    def depth() -> float:
        return tool[2] + 0.05 - kinematics.tool_position(arm.position)[2]

    assert depth() == pytest.approx(0.05)
    up, down = robot.home + np.array([0, -0.3, 0, 0, 0, 0, 0]), robot.home + np.array([0, 0.3, 0, 0, 0, 0, 0])
    for _ in range(20):
        guard.send(Command(down))
        assert depth() <= 0.05 + 1e-6
    for _ in range(40):
        guard.send(Command(up))
    assert depth() < 0.0


def test_what_was_sent_is_what_the_arm_got():
    arm = EchoArm(PANDA)
    guard = Guard(arm)
    for command in itertools.islice(adversary(PANDA, arm, np.random.default_rng(5)), 200):
        try:
            sent = guard.send(command)
        except (ArmFault, InputError):
            continue
        assert sent is arm.sent[-1]
        assert guard.observe()["joint_position"] == pytest.approx(sent.joint_position)
