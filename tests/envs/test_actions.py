"""What every action space owes, whatever its numbers mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.envs.arms.actions import (
    ACTION_SPACES,
    LEASH_M,
    LEASH_RAD,
    ActionSpace,
    make_action_space,
)
from understudy.envs.arms.arm import Command
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.rotations import quaternion_multiply, quaternion_to_rotvec
from understudy.errors import InputError

ROBOTS = {name: load_robot(name) for name in ("panda", "kuka_iiwa", "xarm6")}
KINEMATICS = {name: Kinematics(robot) for name, robot in ROBOTS.items()}
CASES = [(robot, space) for robot in ROBOTS for space in ACTION_SPACES]
each_case = pytest.mark.parametrize(("name", "space"), CASES)
seeds = st.integers(0, 2**32 - 1)


def build(name: str, space: str, labels: tuple[str, ...] | None = None) -> ActionSpace:
    return make_action_space(space, ROBOTS[name], KINEMATICS[name], labels)


def near_home(name: str, rng: np.random.Generator, spread: float = 0.3) -> Command:
    """A set point well inside the limits and away from the arm's edge of reach."""
    robot = ROBOTS[name]
    width = float(rng.uniform(0, robot.gripper.width)) if robot.gripper else None
    return Command(robot.home + rng.uniform(-spread, spread, len(robot.joints)), width)


def neutral(space: ActionSpace, at: Command) -> np.ndarray:
    """The action that asks for no motion."""
    action = np.zeros(space.spec.size)
    if space.spec.name == "joint_position":
        action[: len(at.joint_position)] = at.joint_position
    if space.spec.labels[-1] == "gripper":
        action[-1] = at.gripper_position
    return action


@each_case
@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_a_zero_action_from_rest_keeps_the_set_point(name: str, space: str, seed: int):
    actions, sent = build(name, space), near_home(name, np.random.default_rng(seed))
    command = actions.decode(neutral(actions, sent), sent, sent.joint_position)
    assert command.joint_position == pytest.approx(sent.joint_position, abs=1e-12)
    assert command.gripper_position == pytest.approx(sent.gripper_position)
    if command.joint_velocity is not None:
        assert command.joint_velocity == pytest.approx(np.zeros_like(sent.joint_position), abs=1e-10)


@each_case
def test_a_set_point_kept_for_long_does_not_drift_although_the_arm_sags(name: str, space: str):
    actions, first = build(name, space), near_home(name, np.random.default_rng(0))
    sent, sagging = first, first.joint_position - 0.02
    for _ in range(200):
        sent = actions.decode(neutral(actions, first), sent, sagging)
    assert sent.joint_position == pytest.approx(first.joint_position, abs=1e-9)


@each_case
@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_encode_undoes_decode_where_nothing_is_clipped(name: str, space: str, seed: int):
    actions, rng = build(name, space), np.random.default_rng(seed)
    sent = near_home(name, rng)
    low, high = np.array(actions.spec.low), np.array(actions.spec.high)
    action = rng.uniform(low, high) if space != "joint_position" else neutral(actions, near_home(name, rng))
    if space == "tool_delta":
        action[:6] *= 0.25  # so that every such step can be reached from near home, at a joint's speed
    command = actions.decode(action, sent, sent.joint_position)
    assert actions.encode(sent, command) == pytest.approx(action, abs=3e-5)


@each_case
@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_decode_undoes_encode(name: str, space: str, seed: int):
    """Replaying measured motion as actions gives the motion back."""
    actions, rng = build(name, space), np.random.default_rng(seed)
    before = near_home(name, rng)
    width = float(rng.uniform(0, 0.08)) if ROBOTS[name].gripper else None
    after = Command(before.joint_position + rng.uniform(-0.02, 0.02, len(before.joint_position)), width)
    again = actions.decode(actions.encode(before, after), before, before.joint_position)
    if space == "tool_delta":  # seven joints, six numbers: the same tool pose, perhaps with another elbow
        goal, got = (KINEMATICS[name].tool_pose(command.joint_position) for command in (after, again))
        assert got.position == pytest.approx(goal.position, abs=3e-5)
        assert abs(got.quaternion @ goal.quaternion) == pytest.approx(1.0, abs=1e-8)
    else:
        assert again.joint_position == pytest.approx(after.joint_position, abs=1e-12)
    assert again.gripper_position == pytest.approx(after.gripper_position)


@each_case
@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_normalising_is_undone_and_clips(name: str, space: str, seed: int):
    spec, rng = build(name, space).spec, np.random.default_rng(seed)
    units = rng.uniform(spec.low, spec.high, (5, spec.size))
    width = np.array(spec.high) - np.array(spec.low)
    assert np.all(np.abs(spec.denormalise(spec.normalise(units)) - units) <= 1e-6 * width)
    normal = rng.uniform(-1, 1, (5, spec.size)).astype(np.float32)
    assert spec.normalise(spec.denormalise(normal)) == pytest.approx(normal, abs=1e-6)
    assert np.all(np.abs(spec.normalise(units + 10 * width)) == 1.0)
    assert np.all(spec.denormalise(normal * 100) <= np.array(spec.high))
    assert spec.normalise(np.array(spec.low)).tolist() == [-1.0] * spec.size


@each_case
@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_the_callers_arrays_are_untouched(name: str, space: str, seed: int):
    actions, rng = build(name, space), np.random.default_rng(seed)
    sent, measured = near_home(name, rng), near_home(name, rng).joint_position
    action = rng.uniform(-5, 5, actions.spec.size)
    kept = action.copy(), sent.joint_position.copy(), measured.copy()
    command = actions.decode(action, sent, measured)
    actions.encode(sent, command)
    for array, copy in zip((action, sent.joint_position, measured), kept, strict=True):
        assert np.array_equal(array, copy)
        assert not np.shares_memory(command.joint_position, array)


@each_case
@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_actions_out_of_bounds_count_as_the_bound(name: str, space: str, seed: int):
    actions, rng = build(name, space), np.random.default_rng(seed)
    sent = near_home(name, rng)
    wild = rng.uniform(-20, 20, actions.spec.size)
    tame = np.clip(wild, actions.spec.low, actions.spec.high)
    got, expected = (actions.decode(action, sent, sent.joint_position) for action in (wild, tame))
    assert np.array_equal(got.joint_position, expected.joint_position)
    assert got.gripper_position == expected.gripper_position


@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize("space", ["joint_delta", "joint_velocity"])
@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_joints_lead_a_blocked_arm_by_no_more_than_the_leash(name: str, space: str, seed: int):
    actions, rng, robot = build(name, space), np.random.default_rng(seed), ROBOTS[name]
    sent, measured = near_home(name, rng), robot.home
    action = rng.uniform(actions.spec.low, actions.spec.high)
    for _ in range(40):
        before, sent = sent, actions.decode(action, sent, measured)
        assert np.all(np.abs(sent.joint_position - measured) <= LEASH_RAD + 1e-12)
        # a Guard follows the velocity, so it has to be that of the leashed step
        assert sent.joint_velocity * robot.period_s == pytest.approx(
            sent.joint_position - before.joint_position, abs=1e-12
        )
    assert np.all(sent.joint_position >= robot.joint_array("lower"))
    assert np.all(sent.joint_position <= robot.joint_array("upper"))


@pytest.mark.parametrize("name", ROBOTS)
@given(direction=st.lists(st.floats(-1, 1), min_size=6, max_size=6).filter(lambda d: np.linalg.norm(d) > 0.5))
@settings(max_examples=20, deadline=None)
def test_the_tool_leads_a_blocked_arm_by_no_more_than_the_leash(name: str, direction: list[float]):
    actions, kinematics, robot = build(name, "tool_delta"), KINEMATICS[name], ROBOTS[name]
    stuck = kinematics.tool_pose(robot.home)
    sent = Command(robot.home, 0.0)
    action = np.zeros(actions.spec.size)
    action[:6] = np.array(direction) * np.array([0.03] * 3 + [0.15] * 3)
    for _ in range(30):
        before, sent = sent, actions.decode(action, sent, robot.home)
        assert sent.joint_velocity * robot.period_s == pytest.approx(sent.joint_position - before.joint_position)
    pose = kinematics.tool_pose(sent.joint_position)
    assert np.linalg.norm(pose.position - stuck.position) <= LEASH_M + 1e-3
    turn = quaternion_to_rotvec(quaternion_multiply(pose.quaternion, stuck.quaternion * [-1, -1, -1, 1]))
    assert np.linalg.norm(turn) <= LEASH_RAD + 1e-2


@pytest.mark.parametrize("name", ROBOTS)
@given(seed=seeds)
@settings(max_examples=60, deadline=None)
def test_a_tool_step_asks_no_joint_for_more_than_its_speed_and_keeps_its_direction(name: str, seed: int):
    actions, rng, robot = build(name, "tool_delta"), np.random.default_rng(seed), ROBOTS[name]
    sent = near_home(name, rng)
    action = rng.choice([-1.0, 1.0], actions.spec.size) * np.array(actions.spec.high)
    command = actions.decode(action, sent, sent.joint_position)
    assert np.all(np.abs(command.joint_velocity) <= robot.joint_array("velocity") * (1 + 1e-9))
    step = actions.encode(sent, command)[:6]
    along = step @ action[:6] / (np.linalg.norm(step) * np.linalg.norm(action[:6]))
    assert along > 0.999


@each_case
def test_what_is_not_finite_stays_visible_for_the_guard(name: str, space: str):
    actions, sent = build(name, space), near_home(name, np.random.default_rng(1))
    command = actions.decode(np.full(actions.spec.size, np.nan), sent, sent.joint_position)
    assert not np.all(np.isfinite(command.joint_position))


@pytest.mark.parametrize("space", ACTION_SPACES)
@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_a_part_moves_what_it_names_and_is_neutral_elsewhere(space: str, seed: int):
    rng = np.random.default_rng(seed)
    whole, sent = build("panda", space), near_home("panda", rng)
    labels = tuple(rng.permutation(whole.spec.labels)[: rng.integers(1, whole.spec.size + 1)].tolist())
    part = build("panda", space, labels)
    assert part.spec.labels == labels
    action = rng.uniform(part.spec.low, part.spec.high)
    full = neutral(whole, sent)
    for label, value in zip(labels, action, strict=True):
        full[whole.spec.labels.index(label)] = value
    got = part.decode(action, sent, sent.joint_position)
    expected = whole.decode(full, sent, sent.joint_position)
    assert np.array_equal(got.joint_position, expected.joint_position)
    assert got.gripper_position == pytest.approx(expected.gripper_position)
    index = [whole.spec.labels.index(label) for label in labels]
    assert np.array_equal(part.encode(sent, got), whole.encode(sent, got)[index])
    for field in ("units", "low", "high"):
        assert getattr(part.spec, field) == tuple(getattr(whole.spec, field)[i] for i in index)


@pytest.mark.parametrize("space", ACTION_SPACES)
def test_a_part_leaves_a_gripper_alone_that_nobody_has_told_anything(space: str):
    """A braked command carries no width; the next action without a gripper must not close it."""
    whole = build("panda", space)
    part = build("panda", space, whole.spec.labels[:3])
    sent = Command(ROBOTS["panda"].home)
    action = neutral(whole, Command(sent.joint_position, 0.0))[:3]
    assert part.decode(action, sent, sent.joint_position).gripper_position is None


def test_a_command_without_width_reads_as_the_width_before_it():
    actions, home = build("panda", "joint_delta"), ROBOTS["panda"].home
    assert actions.encode(Command(home, 0.03), Command(home))[-1] == 0.03
    assert actions.encode(Command(home), Command(home))[-1] == 0.08
    assert actions.encode(Command(home, 0.03), Command(home, 0.05))[-1] == 0.05


def test_all_labels_are_the_whole_space_and_wrong_names_are_refused():
    whole = build("panda", "tool_delta")
    assert type(build("panda", "tool_delta", whole.spec.labels)) is type(whole)
    with pytest.raises(InputError, match=r"Unknown action space 'tool_dleta': did you mean 'tool_delta'\?"):
        build("panda", "tool_dleta")
    with pytest.raises(InputError, match=r"Unknown number of a tool_delta action 'ywa': did you mean 'yaw'\?"):
        build("panda", "tool_delta", ("x", "ywa"))


def test_specs_say_their_units():
    spec = build("panda", "tool_delta").spec
    assert spec.labels == ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    assert spec.units == ("m",) * 3 + ("rad",) * 3 + ("m",)
    assert build("kuka_iiwa", "joint_velocity").spec.units == ("rad/s",) * 7
    assert build("kuka_iiwa", "joint_position").spec.low == tuple(ROBOTS["kuka_iiwa"].joint_array("lower"))


@given(seed=seeds)
@settings(max_examples=50, deadline=None)
def test_the_tool_of_a_planar_arm_goes_where_it_is_sent_and_turns_as_it_must(seed: int):
    """Two joints cannot hold the tool's orientation too, and need not."""
    robot, rng = load_robot("two_joint"), np.random.default_rng(seed)
    kinematics = Kinematics(robot)
    actions = make_action_space("tool_delta", robot, kinematics, ("x", "y"))
    sent = Command(robot.home + rng.uniform(-0.2, 0.2, 2))
    step = rng.uniform(-0.015, 0.015, 2)
    command = actions.decode(step, sent, sent.joint_position)
    moved = kinematics.tool_position(command.joint_position) - kinematics.tool_position(sent.joint_position)
    assert moved == pytest.approx([*step, 0.0], abs=1e-5)


def test_a_gripper_number_that_is_none_reaches_the_guard_as_such():
    robot = ROBOTS["panda"]
    actions = make_action_space("tool_delta", robot, Kinematics(robot))
    action = np.array([0.0] * 6 + [np.nan])
    command = actions.decode(action, Command(robot.home), robot.home)
    assert command.gripper_position is not None
    assert np.isnan(command.gripper_position)


@pytest.mark.parametrize("index", range(6))
def test_what_is_no_number_is_for_the_guard_to_see_also_where_the_arm_cannot_turn(index: int):
    """An arm of two joints is solved for the position alone; a roll that is no number once passed as no motion."""
    robot = load_robot("two_joint")
    space = make_action_space("tool_delta", robot, Kinematics(robot))
    action = np.zeros(space.spec.size)
    action[index] = np.nan
    command = space.decode(action, Command(robot.home), robot.home)
    assert np.all(np.isnan(command.joint_position))
