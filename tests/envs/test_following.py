"""An arm that does not follow: the set point never runs away from it, and what is sent still keeps every limit."""

from __future__ import annotations

import itertools
import re
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from envs_support import EchoArm, adversary, assert_limited, variant
from hypothesis import example, given, settings
from hypothesis import strategies as st

from understudy.envs.arms.arm import Command, Observation, Start
from understudy.envs.arms.fake_arm import FakeArm
from understudy.envs.arms.following import LATENCY_S, SAG_RAD, Following
from understudy.envs.arms.guard import FIRST_JUMP_RAD, Guard
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import ROBOTS, RobotDescription, load_robot
from understudy.errors import ArmFault, InputError

PANDA = load_robot("panda")
ROUNDING_RAD = 1e-9


class Drive(FakeArm):
    """A fake arm that stands for a real one, and keeps what it was sent beside where it stood then."""

    hardware = True

    def __init__(self, robot: RobotDescription) -> None:
        super().__init__(robot)
        self.sent: list[Command] = []
        self.stood: list[np.ndarray] = []

    def send(self, command: Command) -> Command:
        self.stood.append(self.observe()["joint_position"])
        self.sent.append(command)
        return super().send(command)

    def pass_time(self) -> None:
        self.clock.sleep_until(self.clock.now_ns() + round(self._robot.period_s * 1e9))


class LateDrive(EchoArm):
    """Does everything it is told, `late` periods later."""

    hardware = True

    def __init__(self, robot: RobotDescription, late: int) -> None:
        super().__init__(robot)
        self._coming = deque([robot.home] * late)

    def send(self, command: Command) -> Command:
        self._coming.append(command.joint_position.copy())
        super().send(command)
        self.position = self._coming.popleft()
        return command


def limits(robot: RobotDescription) -> np.ndarray:
    return np.array(Following(robot, hardware=True).limits_rad)


def swing(robot: RobotDescription, rng: np.random.Generator) -> itertools.chain[Command]:
    """To random places about home, one after the other, a quarter to one and a quarter of a second each."""
    return itertools.chain.from_iterable(
        [Command(robot.home + rng.uniform(-0.8, 0.8, len(robot.joints)))]
        * round(rng.uniform(0.25, 1.25) * robot.rate_hz)
        for _ in itertools.count()
    )


def keep_sending(guard: Guard, arm: Drive, place: np.ndarray) -> None:
    """Ask for a place for two seconds at 20 Hz."""
    for _ in range(40):
        arm.pass_time()
        guard.send(Command(place))


def drive_and_jam(robot: RobotDescription, seed: int, jam_at: int, count: int) -> tuple[Guard, Drive, str, int]:
    """Command an arm that stops dead, until the Guard says so; returns it, what it said, and what was sent by then."""
    arm = Drive(robot)
    guard = Guard(arm)
    guard.send(Command(robot.home))
    for tick, command in enumerate(itertools.islice(swing(robot, np.random.default_rng(seed)), count)):
        arm.pass_time()
        if tick == jam_at:
            arm.jam()
        before = len(arm.sent)
        try:
            guard.send(command)
        except ArmFault as fault:
            return guard, arm, str(fault), before
    return guard, arm, "", len(arm.sent)


@given(
    seed=st.integers(0, 2**32 - 1),
    jam_at=st.integers(0, 40),
    rate=st.sampled_from([5.0, 20.0, 60.0]),
    own=st.sampled_from([None, 0.2, 0.5]),
)
@settings(max_examples=25, deadline=None)
def test_the_set_point_never_runs_away_from_an_arm_that_stops_dead(
    seed: int, jam_at: int, rate: float, own: float | None
):
    robot = variant(PANDA, rate, 1.0).model_copy(update={"following_error_rad": own})
    guard, arm, fault, before = drive_and_jam(robot, seed, jam_at, round(15 * rate))
    sent, stood = np.array([command.joint_position for command in arm.sent]), np.array(arm.stood)
    assert np.all(np.abs(sent - stood) <= limits(robot) + robot.joint_array("velocity") * robot.period_s + ROUNDING_RAD)
    assert_limited(robot, robot.home, arm.sent[:before])
    lag = np.abs(sent[: before - 1] - stood[1:before])
    assert np.all(lag <= limits(robot) + ROUNDING_RAD)
    if not fault:  # the workspace kept the set point near where the arm had stopped
        return
    assert np.any(np.abs(sent[before - 1] - stood[before]) > limits(robot))
    assert "behind its set point" in fault
    for _ in range(60):  # it was taken back to where the arm stands, and stays there
        arm.pass_time()
        guard.hold()
    assert guard.at_rest
    assert guard.counts["following"] == 1
    here = arm.observe()["joint_position"]
    assert_limited(robot, here, arm.sent[before:])
    arm.repair()
    for _ in range(20):
        arm.pass_time()
        assert arm.observe()["joint_position"] == pytest.approx(here, abs=1e-9)  # no leap


def test_without_the_limit_it_would_leap():
    arm = Drive(PANDA)
    guard = Guard(arm, follows=False)
    away = PANDA.home + np.array([0.9, 0, 0, 0, 0, 0, 0])
    guard.send(Command(PANDA.home))
    arm.jam()
    keep_sending(guard, arm, away)
    assert arm.sent[-1].joint_position == pytest.approx(away)
    arm.repair()
    arm.clock.advance(1.0)
    assert arm.observe()["joint_position"] == pytest.approx(away)


@given(seed=st.integers(0, 2**32 - 1), rate=st.sampled_from([4.0, 20.0, 100.0]), share=st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_an_honest_arm_that_is_a_quarter_of_a_second_late_never_trips(seed: int, rate: float, share: float):
    robot = variant(PANDA, rate, 1.0)
    arm = LateDrive(robot, round(share * LATENCY_S * rate))
    guard = Guard(arm)
    guard.send(Command(robot.home))
    fastest = np.zeros(7)
    for command in itertools.islice(swing(robot, np.random.default_rng(seed)), 150):
        sent = guard.send(command)
        fastest = np.maximum(fastest, np.abs(sent.joint_velocity))
    assert guard.counts["following"] == 0
    assert np.max(fastest) > 1.0


@given(seed=st.integers(0, 2**32 - 1), speed=st.floats(0.05, 0.5))
@settings(max_examples=25, deadline=None)
def test_an_arm_that_is_too_slow_is_braked_from_where_it_is_within_limits_or_asked_to_stand(seed: int, speed: float):
    robot = PANDA.model_copy(update={"following_error_rad": 0.15})
    arm = Drive(robot)
    arm._speed = speed * arm._speed
    guard = Guard(arm)
    guard.send(Command(robot.home))
    for command in itertools.islice(swing(robot, np.random.default_rng(seed)), 300):
        arm.pass_time()
        before, seen = len(arm.sent), arm.observe()
        try:
            guard.send(command)
        except ArmFault:
            break
    else:
        raise AssertionError("it never fell behind")
    stop = assert_stop(guard, arm, before, seen)
    kinematics = Kinematics(robot)
    outside = [kinematics.tool_position(joints) for joints in stop]
    assert np.all(outside >= np.array(robot.workspace.low))
    assert np.all(outside <= np.array(robot.workspace.high))


def assert_stop(guard: Guard, arm: Drive, before: int, seen: Observation) -> np.ndarray:
    """From `before` on, `arm` is sent a stop from its position and velocity; returns its set points (K, J)."""
    robot = arm.describe()
    while not guard.at_rest:
        arm.pass_time()
        guard.hold()
    guard.hold()
    stop = np.array([command.joint_position for command in arm.sent[before:]])
    assert stop[-1] == pytest.approx(stop[-2], abs=1e-9)
    steps = np.diff([seen["joint_position"], *stop], axis=0) * robot.rate_hz
    assert np.all(np.abs(steps) <= np.abs(seen["joint_velocity"]) + 1e-6)  # it only slows down
    if np.any(steps):
        changes = np.diff([seen["joint_velocity"], *steps], axis=0) * robot.rate_hz
        assert np.all(np.abs(changes) <= robot.joint_array("acceleration") * (1 + 1e-6))
    return stop


def test_an_arm_that_moves_while_it_lags_is_not_stopped_dead():
    robot = PANDA.model_copy(update={"following_error_rad": 0.15})
    arm = Drive(robot)
    arm._speed = 0.4 * arm._speed
    guard = Guard(arm)
    guard.send(Command(robot.home))
    fault = ""
    while not fault:
        arm.pass_time()
        before, seen = len(arm.sent), arm.observe()
        try:
            guard.send(Command(robot.home + np.array([0.8, 0, 0, 0, 0, 0, 0])))
        except ArmFault as told:
            fault = str(told)
    assert "Joint 0" in fault
    assert seen["joint_velocity"][0] == pytest.approx(0.4 * robot.joints[0].velocity)
    stop = assert_stop(guard, arm, before, seen)
    assert stop[0, 0] - seen["joint_position"][0] > 0.5 * seen["joint_velocity"][0] * robot.period_s


def test_the_fault_names_joint_lag_limit_and_remedy_and_the_arm_stands():
    robot = PANDA.model_copy(update={"following_error_rad": 0.2})
    arm = Drive(robot)
    guard = Guard(arm)
    guard.send(Command(PANDA.home))
    arm.jam()
    aim = PANDA.home + np.array([0, 0, 0, 1.0, 0, 0, 0])
    with pytest.raises(
        ArmFault,
        match=r"Joint 3 \('panda_joint4'\) lags 0\.\d{3} rad behind its set point: it is at -2\.400 rad \(read 0\.00 s "
        r"ago\) and was sent to -2\.\d{3} rad; at most 0\.200 rad is allowed\. .*protective stop, disengaged or "
        r"blocked, clear that, and begin anew; .*raise `following_error_rad` in the robot's file",
    ):
        keep_sending(guard, arm, aim)
    assert arm.sent[-1].joint_position == pytest.approx(PANDA.home)
    assert arm.sent[-1].joint_velocity == pytest.approx(np.zeros(7))
    assert guard.counts["following"] == 1


def test_after_the_fault_it_begins_anew_from_where_the_arm_is():
    guard, arm, fault, _ = drive_and_jam(PANDA, 1, 6, 200)
    assert fault
    arm.repair()
    arm.pass_time()
    here = arm.observe()["joint_position"]
    far = here + (FIRST_JUMP_RAD + 0.1) * np.sign(PANDA.home - here)
    with pytest.raises(ArmFault, match="The first command asks joint"):  # as of the first of an episode
        guard.send(Command(far))
    sent = guard.send(Command(here + 0.01))
    assert sent.joint_position == pytest.approx(here, abs=0.011)
    guard.reset(Start(PANDA.home))
    assert guard.send(Command(PANDA.home)).joint_position == pytest.approx(PANDA.home)


def test_hold_takes_a_moving_set_point_back_without_complaint():
    arm = Drive(PANDA)
    guard = Guard(arm)
    guard.send(Command(PANDA.home))
    for _ in range(10):
        arm.pass_time()
        guard.send(Command(PANDA.home + np.array([1.2, 0, 0, 0, 0, 0, 0])))
    arm._position = PANDA.home - np.array([0.5, 0, 0, 0, 0, 0, 0])  # pushed away, and stopped
    arm.jam()
    while not guard.at_rest:
        arm.pass_time()
        guard.hold()
    assert guard.counts["following"] == 1
    assert arm.sent[-1].joint_position == pytest.approx(arm.observe()["joint_position"])


def test_a_hold_goes_on_along_its_stop_where_nothing_is_known_of_the_arm():
    arm = Drive(PANDA)
    guard = Guard(arm)
    guard.send(Command(PANDA.home))
    for _ in range(10):
        arm.pass_time()
        guard.send(Command(PANDA.home + np.array([1.2, 0, 0, 0, 0, 0, 0])))
    arm.corrupt("joint_position")
    with pytest.raises(ArmFault, match=r"reports joint positions .*nan"):
        guard.send(Command(PANDA.home))
    while not guard.at_rest:
        arm.pass_time()
        guard.hold()
    assert_limited(PANDA, PANDA.home, arm.sent)


@pytest.mark.parametrize("hardware", [False, True])
@pytest.mark.parametrize("own", [None, 0.3])
def test_only_hardware_is_limited_whatever_the_file_says(hardware: bool, own: float | None):
    """In simulation a policy reaches the leash of 0.4 rad: the file's 0.3 once ended training episodes as a fault."""
    arm = Drive(PANDA.model_copy(update={"following_error_rad": own}))
    arm.hardware = hardware
    guard = Guard(arm)
    guard.send(Command(PANDA.home))
    arm.jam()
    faults = 0
    for _ in range(60):
        arm.pass_time()
        try:
            guard.send(Command(PANDA.home + np.array([2.0, 0, 0, 0, 0, 0, 0])))
        except ArmFault as fault:
            assert "lags" in str(fault) or "first command" in str(fault)  # noqa: PT017 - both may come, in this order
            faults += 1
    assert bool(faults) is hardware
    assert (guard.counts["following"] > 0) is hardware


def test_a_rehearsal_is_not_held_to_it():
    """In shadow mode somebody else moves the arm, and the file's limit says nothing of that."""
    robot = PANDA.model_copy(update={"following_error_rad": 0.05})
    arm = Drive(robot)
    guard = Guard(arm, follows=False)
    guard.send(Command(PANDA.home))
    arm.jam()
    for _ in range(20):
        arm.pass_time()
        guard.send(Command(PANDA.home + 0.3))
    assert guard.counts["following"] == 0


def test_a_joints_own_limit_stands_above_the_robots_and_both_above_the_default(tmp_path: Path):
    text = (ROBOTS / "two_joint.yaml").read_text()
    assert text.count("- {name: ") == 2
    (tmp_path / "two_joint.urdf").write_bytes((ROBOTS / "two_joint.urdf").read_bytes())
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("- {name: ", "- {following_error_rad: 0.5, name: ", 1))
    robot = load_robot(path)
    usual = robot.joints[1].velocity * (LATENCY_S + robot.period_s) + SAG_RAD
    assert Following(robot, hardware=True).limits_rad == [0.5, pytest.approx(usual)]
    path.write_text(path.read_text() + "following_error_rad: 0.3\n")
    assert Following(load_robot(path), hardware=True).limits_rad == [0.5, 0.3]
    assert Following(load_robot(path), hardware=False).limits_rad == [float("inf")] * 2
    path.write_text(text + "following_error_rad: 0\n")
    with pytest.raises(InputError, match=r"following_error_rad.*greater than 0"):
        load_robot(path)


def test_a_named_limit_changes_nothing_of_an_arm_that_follows():
    sent = []
    for told in (None, 1.0):
        robot = PANDA.model_copy(update={"following_error_rad": told})
        arm = LateDrive(robot, 0)
        guard = Guard(arm)
        for command in itertools.islice(adversary(robot, arm, np.random.default_rng(7)), 300):
            try:
                guard.send(command)
            except (ArmFault, InputError):
                continue
        sent.append(np.array([command.joint_position for command in arm.sent]))
    assert np.array_equal(*sent)


def test_an_arm_that_tells_no_velocity_is_asked_to_stand():
    class Terse(Drive):
        def observe(self) -> Observation:
            seen = super().observe()
            return Observation({"joint_position": seen["joint_position"]}, seen.stamps_ns)

    robot = PANDA.model_copy(update={"following_error_rad": 0.1})
    arm = Terse(robot)
    arm._speed = 0.1 * arm._speed
    guard = Guard(arm)
    guard.send(Command(PANDA.home))
    with pytest.raises(ArmFault, match="lags"):
        keep_sending(guard, arm, PANDA.home + np.array([1.0, 0, 0, 0, 0, 0, 0]))
    assert guard.at_rest
    assert arm.sent[-1].joint_position == pytest.approx(arm.stood[-1])


# joint states that stop coming while the arm goes on


def swept(robot: RobotDescription, joint: int, share: float) -> itertools.chain[Command]:
    """One joint from home at a share of its speed, for ever."""
    step = share * robot.joints[joint].velocity * robot.period_s * np.eye(len(robot.joints))[joint]
    return itertools.chain.from_iterable([Command(robot.home + k * step)] for k in itertools.count(1))


def drive_and_freeze(robot: RobotDescription, joint: int, share: float, freeze_at: int) -> tuple[Guard, Drive, str]:
    """Sweep a joint of a healthy arm, whose joint states stop at a tick, until the Guard says so, 0.6 s at most."""
    arm = Drive(robot)
    guard, fault = Guard(arm), ""
    for tick, command in enumerate(
        itertools.islice(swept(robot, joint, share), freeze_at + round(0.6 * robot.rate_hz))
    ):
        if tick == freeze_at:
            arm.freeze("joint_position")
            arm.freeze("joint_velocity")
        try:
            guard.send(command)
        except ArmFault as told:
            fault = str(told)
            break
        arm.pass_time()
    arm.pass_time()
    return guard, arm, fault


@given(
    name=st.sampled_from(["panda", "kuka_iiwa"]),
    joint=st.integers(0, 6),
    share=st.floats(0.2, 1.0),
    freeze_at=st.integers(1, 12),
    own=st.sampled_from([None, 0.1, 0.25]),
)
@example("panda", 0, 1.0, 3, 0.1)
@settings(max_examples=20, deadline=None)
def test_a_healthy_arm_whose_joint_states_stop_is_braked_as_it_goes(
    name: str, joint: int, share: float, freeze_at: int, own: float | None
):
    """A stall of a third of a second once made a healthy arm leap 0.8 rad back within one period."""
    robot = load_robot(name)
    # a narrower limit than its way in a period stops a healthy arm, as the docs say
    told = None if own is None else max(own, 1.1 * robot.joints[joint].velocity * robot.period_s)
    robot = robot.model_copy(update={"following_error_rad": told})
    guard, arm, fault = drive_and_freeze(robot, joint, share, freeze_at)
    assert "lags" not in fault
    for _ in range(60):  # and hold as well, also once it rests
        guard.hold()
        arm.pass_time()
    assert guard.at_rest
    assert guard.counts["following"] == 0
    assert_limited(robot, robot.home, arm.sent)
    sent, moved = arm.sent[-1].joint_position, arm._position
    assert moved == pytest.approx(sent, abs=1e-9)


def test_the_fault_says_that_the_joint_states_stopped_and_how_long_ago():
    robot = PANDA.model_copy(update={"following_error_rad": 0.1})
    guard, arm, fault = drive_and_freeze(robot, 6, 1.0, 1)
    assert re.match(
        r"The joint states stopped: the last came 0\.[345]\d s ago\. Joint 6 \('panda_joint7'\) was at 0\.\d{3} rad "
        r"then and was sent to \d\.\d{3} rad since, 0\.\d{3} rad of it longer ago than may go unseen \(at most "
        r"0\.100 rad is allowed\); nobody knows whether the arm follows\. The set point is braked\. Check the arm's "
        r"driver and the connection to it, and begin anew\.",
        fault,
    ), fault
    assert guard.counts["following"] == 0
    arm.repair()  # they come again: the arm is where it was sent, and it goes on from there
    before = arm.sent[-1].joint_position
    sent = guard.send(Command(before)).joint_position
    assert np.max(np.abs(sent - before)) <= robot.joints[6].velocity * robot.period_s


def test_a_moving_arm_that_is_read_late_is_not_lagging_by_its_way_since():
    robot = PANDA.model_copy(update={"following_error_rad": 0.2})
    arm = Drive(robot)
    guard = Guard(arm)
    for tick, command in enumerate(itertools.islice(swept(robot, 6, 0.8), 15)):
        if tick == 10:
            arm.freeze("joint_position")  # 0.2 s without: 0.4 rad
            arm.freeze("joint_velocity")
        guard.send(command)
        arm.pass_time()
    assert arm._position[6] - arm.observe()["joint_position"][6] > 0.4
    assert guard.counts["following"] == 0


@pytest.mark.parametrize("ending", ["send", "hold"])
def test_a_reading_that_is_a_little_old_is_carried_on_to_now(ending: str):
    """Put back to where it was two periods ago, an arm that is slow but moves would be sent backwards."""
    robot = PANDA.model_copy(update={"following_error_rad": 0.3})
    arm = Drive(robot)
    arm._speed = 0.5 * arm._speed
    guard = Guard(arm)
    late_ns = round(1.8 * robot.period_s * 1e9)
    inner, past = arm.observe, deque([arm.observe()])

    def late() -> Observation:
        past.append(inner())
        while len(past) > 1 and past[1].stamps_ns["joint_position"] <= arm.clock.now_ns() - late_ns:
            past.popleft()
        return past[0]

    arm.observe = late  # type: ignore[method-assign]
    for command in itertools.islice(swept(robot, 6, 1.0), 60):
        before = len(arm.sent)
        if ending == "hold" and guard._is_lost(late()):
            guard.hold()
        else:
            try:
                guard.send(command)
            except ArmFault as fault:
                assert "lags" in str(fault)  # noqa: PT017 - it may only come once
        if guard.counts["following"]:
            break
        for _ in range(5):
            arm.clock.sleep_until(arm.clock.now_ns() + round(robot.period_s * 2e8))
            late()
    assert guard.counts["following"] == 1
    truly = inner()
    first = arm.sent[before].joint_position[6] - truly["joint_position"][6]
    assert 0.0 <= first <= truly["joint_velocity"][6] * robot.period_s + 1e-9
