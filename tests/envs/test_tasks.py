"""Tasks: starts that can be repeated, scores that depend on the observation alone, success where it is said to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.rotations import quaternion_to_rotvec
from understudy.envs.tasks import drawer, insert, lift, pick_place, push, reach, stack
from understudy.envs.tasks.task import HOLD_S, Goal, Score, Task, Verdict, known_tasks, make_task
from understudy.errors import InputError

PANDA = load_robot("panda")
TASKS = tuple(known_tasks())
seeds = st.integers(0, 2**32 - 1)
points = st.tuples(*[st.floats(-1.0, 1.0)] * 3).map(np.array)


def observation(**values: object) -> dict[str, np.ndarray]:
    return {key: np.asarray(value, np.float32) for key, value in values.items()}


@pytest.mark.parametrize("name", TASKS)
@given(seed=seeds)
@settings(max_examples=40)
def test_a_start_is_repeatable_and_inside_limits(name: str, seed: int):
    task = make_task(name)
    start, again = (task.start(PANDA, np.random.default_rng(seed)) for _ in range(2))
    other = task.start(PANDA, np.random.default_rng(seed + 1))
    assert np.array_equal(start.joint_position, again.joint_position)
    assert not np.array_equal(start.joint_position, other.joint_position)
    assert np.all(start.joint_position > PANDA.joint_array("lower"))
    assert np.all(start.joint_position < PANDA.joint_array("upper"))
    assert np.abs(start.joint_position - PANDA.home).max() < 0.15
    for key in start.objects:
        assert np.array_equal(start.objects[key].position, again.objects[key].position)
        assert np.array_equal(start.objects[key].quaternion, again.objects[key].quaternion)
    for key in start.goals:
        assert np.array_equal(start.goals[key], again.goals[key])


@given(seed=seeds)
def test_the_cube_starts_on_the_table_within_its_region(seed: int):
    pose = make_task("lift").start(PANDA, np.random.default_rng(seed)).objects["object"]
    assert np.all(np.abs(pose.position[:2] - lift.CENTRE_XY_M) <= lift.SPREAD_M)
    assert pose.position[2] == lift.HALF_EDGE_M
    turn = quaternion_to_rotvec(pose.quaternion)
    assert turn[:2] == pytest.approx([0, 0])
    assert abs(turn[2]) <= lift.MAX_YAW_RAD + 1e-12


def test_the_starts_fill_their_region():
    rng = np.random.default_rng(0)
    cubes = np.array([make_task("lift").start(PANDA, rng).objects["object"].position for _ in range(500)])
    goals = np.array([make_task("reach").start(PANDA, rng).goals["goal_position"] for _ in range(500)])
    assert np.ptp(cubes[:, :2], axis=0) == pytest.approx([0.24, 0.24], rel=0.03)
    low, high = reach.GOALS_M
    assert np.ptp(goals, axis=0) == pytest.approx(np.subtract(high, low), rel=0.03)
    assert np.all((goals >= low) & (goals <= high))


@pytest.mark.parametrize("name", TASKS)
def test_everything_a_task_asks_for_lies_inside_the_workspace(name: str):
    low, high = np.array(PANDA.workspace.low), np.array(PANDA.workspace.high)
    rng, kinematics, task = np.random.default_rng(1), Kinematics(PANDA), make_task(name)
    for _ in range(100):
        start = task.start(PANDA, rng)
        places = [kinematics.tool_position(start.joint_position), *(p.position for p in start.objects.values())]
        for place in [*places, *start.goals.values()]:
            assert np.all((place > low) & (place < high))


@given(tool=points, cube=points)
def test_the_lift_score_is_pure_bounded_and_succeeds_from_ten_centimetres(tool: np.ndarray, cube: np.ndarray):
    task = make_task("lift")
    seen = observation(tool_position=tool, object_position=cube)
    kept = {key: value.copy() for key, value in seen.items()}
    score = task.score(seen)
    assert task.score(seen) == score == make_task("lift").score(seen)
    assert all(np.array_equal(seen[key], kept[key]) for key in seen)
    assert 0.0 <= score.reward <= 1.0
    assert score.success == (float(np.float32(cube[2])) - lift.HALF_EDGE_M >= lift.LIFTED_M)
    assert (score.reward == 1.0) == score.success or score.reward < 0.8


def test_the_lift_reward_grows_with_nearness_and_height():
    def reward(tool_x: float, height: float) -> Score:
        return make_task("lift").score(
            observation(tool_position=[tool_x, 0, 0.02 + height], object_position=[0.5, 0, 0.02 + height])
        )

    assert reward(0.2, 0.0).reward < reward(0.4, 0.0).reward < reward(0.5, 0.0).reward < reward(0.5, 0.05).reward
    assert reward(0.5, 0.05).reward < reward(0.5, 0.099).reward < 0.8
    assert not reward(0.5, 0.099).success
    assert reward(0.5, 0.101) == Score(1.0, True)


@given(tool=points, goal=points)
def test_the_reach_score_is_the_distance(tool: np.ndarray, goal: np.ndarray):
    seen = observation(tool_position=tool, goal_position=goal)
    score = make_task("reach").score(seen)
    distance = float(np.linalg.norm(seen["tool_position"] - seen["goal_position"]))
    assert score.reward == pytest.approx(-distance)
    assert score.success == (distance <= reach.REACHED_M)


class _Scripted:
    """A task whose success is written down."""

    def __init__(self, successes: list[bool]) -> None:
        self._successes = iter(successes)

    def score(self, observation: object) -> Score:
        return Score(0.0, next(self._successes))


@given(st.lists(st.booleans(), max_size=60), st.sampled_from([5.0, 10.0, 20.0, 30.0, 100.0]))
def test_success_is_what_has_lasted_for_a_quarter_of_a_second(successes: list[bool], rate_hz: float):
    task: Task = _Scripted(successes)  # type: ignore[assignment]
    verdict = Verdict(task, rate_hz)
    needed = max(1, round(HOLD_S * rate_hz))
    for tick in range(len(successes)):
        verdict.judge({})
        recent = successes[max(0, tick + 1 - needed) : tick + 1]
        assert verdict.success == (len(recent) == needed and all(recent))


def test_a_new_episode_forgets_the_success_of_the_last():
    verdict = Verdict(_Scripted([True] * 20), 20.0)  # type: ignore[arg-type]
    for _ in range(5):
        verdict.judge({})
    assert verdict.success
    verdict.reset()
    assert not verdict.success
    for _ in range(4):
        verdict.judge({})
    assert not verdict.success


def test_unknown_tasks_and_missing_grippers_are_refused():
    with pytest.raises(
        InputError,
        match=r"Unknown task 'lfit': did you mean 'lift'\? Known tasks: drawer, insert, lift, pick_place",
    ):
        make_task("lfit")
    with pytest.raises(InputError, match="has no gripper"):
        make_task("lift").start(load_robot("kuka_iiwa"), np.random.default_rng(0))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_a_policy_needs_to_know(name: str):
    task = make_task(name)
    assert task.name == name
    assert task.horizon > 0
    for key in task.objects:
        assert {f"{key}_position", f"{key}_quaternion"} <= set(task.observation_keys)


def test_a_goal_judges_one_pair_of_points_or_many():
    goal = Goal(tolerance_m=0.03)
    achieved = np.array([[0.5, 0.0, 0.0], [0.5, 0.029, 0.0], [0.5, 0.0, 0.031]])
    assert goal.reached(achieved, achieved[0]).tolist() == [True, True, False]
    assert goal.distance(achieved, achieved[0]) == pytest.approx([0.0, 0.029, 0.031])
    assert goal.reached(achieved[0], achieved[1]).shape == ()
    with pytest.raises(InputError, match=r"tolerance must be a positive number of m, got 0"):
        Goal(tolerance_m=0.0)


def test_the_push_reward_grows_as_the_tool_nears_the_puck_and_the_puck_the_goal():
    def earned(tool_x: float, puck_x: float) -> Score:
        height = push.HALF_HEIGHT_M
        seen = observation(
            tool_position=[tool_x, 0, height], object_position=[puck_x, 0, height], goal_position=[0.6, 0, height]
        )
        return make_task("push").score(seen)

    assert earned(0.2, 0.4).reward < earned(0.35, 0.4).reward < earned(0.45, 0.5).reward < 0.8
    assert not earned(0.5, 0.569).success
    assert earned(0.2, 0.571) == Score(1.0, True)


def test_goals_of_pick_place_are_on_the_table_and_above_it():
    rng, task = np.random.default_rng(0), make_task("pick_place")
    heights = np.array([task.start(PANDA, rng).goals["goal_position"][2] for _ in range(400)]) - pick_place.HALF_EDGE_M
    on_table = np.isclose(heights, 0.0)
    assert 0.4 < on_table.mean() < 0.6
    assert heights[~on_table].min() >= pick_place.HEIGHT_M[0]
    assert 0.18 < heights[~on_table].max() <= pick_place.HEIGHT_M[1]


@pytest.mark.parametrize(
    ("name", "thing"), [("push", push), ("pick_place", pick_place), ("stack", stack), ("insert", insert)]
)
def test_what_belongs_together_begins_apart(name: str, thing: object):
    rng, task = np.random.default_rng(0), make_task(name)
    for _ in range(200):
        start = task.start(PANDA, rng)
        places = [pose.position for pose in start.objects.values()] + list(start.goals.values())
        assert np.linalg.norm((places[0] - places[1])[:2]) >= thing.NEAREST_M  # type: ignore[attr-defined]


def stacked(away: tuple[float, float, float], gripper: float) -> Score:
    base = np.array([0.5, 0.1, stack.HALF_EDGE_BASE_M])
    cube = base + np.array([0.0, 0.0, stack.UP_M]) + np.array(away)
    seen = observation(tool_position=cube, object_position=cube, object_base_position=base, gripper_position=[gripper])
    return make_task("stack").score(seen)


def test_a_stack_counts_when_the_cube_rests_on_the_base_and_is_let_go():
    assert stacked((0.0, 0.0, 0.0), 0.06) == Score(1.0, True)
    assert not stacked((0.0, 0.0, 0.0), 0.04).success  # still gripped
    assert not stacked((0.021, 0.0, 0.0), 0.08).success  # over the edge
    assert not stacked((0.0, 0.0, 0.006), 0.08).success  # in the air
    assert stacked((0.1, 0.1, 0.0), 0.04).reward < stacked((0.05, 0.0, 0.0), 0.04).reward < 0.9 + 1e-9


def inserted(beside: float, above: float) -> Score:
    hole = np.array([0.5, 0.1, insert.DEPTH_M / 2])
    peg = np.array([0.5 + beside, 0.1, insert.HALF_LENGTH_M + above])
    return make_task("insert").score(observation(tool_position=peg, object_position=peg, object_hole_position=hole))


def test_a_peg_counts_when_it_is_three_centimetres_deep_in_the_hole():
    assert inserted(0.0, 0.0099) == Score(1.0, True)
    assert not inserted(0.0, 0.0105).success
    assert not inserted(0.1, 0.0).success  # stands on the table beside the block
    on_the_table, over_the_hole, half_way = inserted(0.1, 0.0), inserted(0.0, 0.045), inserted(0.0, 0.02)
    assert on_the_table.reward < over_the_hole.reward < half_way.reward < 1.0


def test_the_hole_is_one_millimetre_wider_than_the_peg():
    walls = insert.block().shapes
    peg = make_task("insert").objects["object"].shapes[0].half_extents
    for axis in (0, 1):
        inner = [abs(w.offset[axis]) - w.half_extents[axis] for w in walls if w.offset[axis] != 0.0]
        assert inner == pytest.approx([peg[axis] + 0.0005] * 2)


def test_a_drawer_counts_when_it_is_twelve_centimetres_open():
    def earned(opening: float, away: float) -> Score:
        handle = np.array([0.5, 0.0, drawer.HANDLE_M])
        tool = handle + np.array([away, 0.0, 0.0])
        return make_task("drawer").score(
            observation(tool_position=tool, object_position=handle, object_opening=[opening])
        )

    assert earned(0.0, 0.3).reward < earned(0.0, 0.0).reward < earned(0.06, 0.0).reward < 0.9
    assert not earned(0.119, 0.0).success
    assert earned(0.121, 0.5) == Score(1.0, True)
