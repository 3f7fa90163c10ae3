"""Tasks: starts that can be repeated, scores that depend on the observation alone, success where it is said to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.rotations import quaternion_to_rotvec
from understudy.envs.tasks import lift, reach
from understudy.envs.tasks.task import HOLD_S, Score, Task, Verdict, make_task
from understudy.errors import InputError

PANDA = load_robot("panda")
TASKS = ("lift", "reach")
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
    with pytest.raises(InputError, match=r"Unknown task 'lfit': did you mean 'lift'\? Known tasks: drawer, insert, lift, pick_place, push, reach, stack"):
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
