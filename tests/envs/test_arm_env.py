"""The environment: Gymnasium's own checks, and what our `info` promises."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from understudy.datasets.schema import is_image
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.arm import Command
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.experts.expert import make_expert
from understudy.envs.make import make_env
from understudy.envs.randomization import load_randomization
from understudy.envs.tasks.lift import Lift
from understudy.envs.tasks.task import make_task
from understudy.errors import InputError

CASES = [("lift", "panda"), ("reach", "panda"), ("reach", "kuka_iiwa")]


@pytest.fixture(scope="module")
def reach():
    env = make_env("reach")
    yield env
    env.close()


@pytest.fixture(scope="module")
def lift():
    env = make_env("lift")
    yield env
    env.close()


@pytest.mark.parametrize(("task", "robot"), CASES)
def test_gymnasiums_checker_is_content(task: str, robot: str):
    env = make_env(task, robot, randomization=load_randomization("mild"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for harmless in (".*minimum value.*", ".*maximum value.*", ".*observation space.*infinity.*", ".*render.*"):
            warnings.filterwarnings("ignore", harmless)
        warnings.filterwarnings("ignore", ".*Not able to test alternative.*|.*no spec.*|.*spec.*None.*")
        check_env(env, skip_render_check=True)
    env.close()


@pytest.mark.parametrize(("task", "robot"), CASES)
def test_observations_and_actions_are_what_the_spaces_say(task: str, robot: str):
    env = make_env(task, robot)
    observation, info = env.reset(seed=1)
    assert tuple(observation) == tuple(env.observation_space.spaces) or set(observation) == set(
        env.observation_space.spaces
    )
    assert env.observation_space.contains(observation)
    assert info["start"].joint_position.shape == (7,)
    assert env.action_space.shape == (env.spec_units.size,)
    observation, reward, terminated, truncated, info = env.step(np.zeros(env.action_space.shape, np.float32))
    assert env.observation_space.contains(observation)
    assert (type(reward), terminated, truncated) == (float, False, False)
    assert set(info) == {"success", "requested", "sent", "measured", "command"}
    for channel in ("requested", "sent", "measured"):
        assert info[channel].shape == (env.spec_units.size,)
        assert info[channel].dtype == np.float64
    assert isinstance(info["command"], Command)
    env.close()


def rollout(env: ArmEnv, seed: int, steps: int = 25) -> list[np.ndarray]:
    observation, _ = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    rows = [np.concatenate([np.ravel(value) for value in observation.values()])]
    for _ in range(steps):
        observation, reward, _, _, info = env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
        rows.append(np.concatenate([*(np.ravel(value) for value in observation.values()), [reward], info["sent"]]))
    return rows


def test_a_seed_says_everything_with_randomization_too():
    first = make_env("lift", randomization=load_randomization("hard"))
    expected, other = rollout(first, 5), rollout(first, 6)
    again = rollout(first, 5)
    first.close()
    second = make_env("lift", randomization=load_randomization("hard"))
    elsewhere = rollout(second, 5)
    second.close()
    for one, two, three in zip(expected, again, elsewhere, strict=True):
        assert np.array_equal(one, two)
        assert np.array_equal(one, three)
    assert not np.array_equal(expected[0], other[0])


def test_episodes_without_a_seed_differ_and_follow_from_the_first(reach: ArmEnv):
    def starts(seed: int) -> list[np.ndarray]:
        reach.reset(seed=seed)
        return [reach.reset()[0]["goal_position"] for _ in range(4)]

    first, again = starts(3), starts(3)
    assert np.array_equal(first, again)
    assert len({tuple(goal) for goal in first}) == 4


def test_physics_are_drawn_at_each_reset_and_stay_in_the_start():
    env = make_env("lift", randomization=load_randomization("default"))
    drawn = [env.reset(seed=seed)[1]["start"] for seed in range(3)]
    assert len({start.physics["object_mass_scale"] for start in drawn}) == 3
    assert len({start.seed for start in drawn}) == 3
    replayed, _ = env.reset(seed=99, options={"start": drawn[1]})
    original, _ = env.reset(seed=1)
    assert all(np.array_equal(replayed[key], original[key]) for key in original)
    env.close()


def test_requested_sent_and_measured_agree_in_slow_free_motion(reach: ArmEnv):
    reach.reset(seed=2)
    requested = np.array([0.004, -0.003, 0.002])
    for tick in range(25):
        observation, _, terminated, _, info = reach.step_units(requested)
        assert np.array_equal(info["requested"], requested)
        assert not terminated
        if tick > 6:  # the motion has begun
            assert info["sent"] == pytest.approx(requested, abs=3e-4)
            assert info["measured"] == pytest.approx(requested, abs=6e-4)
    assert observation["joint_velocity"].any()


def test_the_measured_action_is_what_lies_between_two_observations(lift: ArmEnv):
    observation, _ = lift.reset(seed=4)
    rng = np.random.default_rng(0)
    for _ in range(30):
        before = observation
        observation, *_, info = lift.step(rng.uniform(-1, 1, 7).astype(np.float32))
        states = [
            Command(seen["joint_position"].astype(np.float64), float(seen["gripper_position"][0]))
            for seen in (before, observation)
        ]
        assert info["measured"] == pytest.approx(lift.control.actions.encode(*states), abs=2e-6)
        moved = observation["tool_position"] - before["tool_position"]
        assert info["measured"][:3] == pytest.approx(moved, abs=2e-6)


def test_the_sent_action_is_what_lies_between_two_sent_commands(lift: ArmEnv):
    lift.reset(seed=4)
    rng, before = np.random.default_rng(1), lift.control.state()
    for _ in range(20):
        *_, info = lift.step(rng.uniform(-1, 1, 7).astype(np.float32))
        assert np.array_equal(info["sent"], lift.control.actions.encode(before, info["command"]))
        before = info["command"]


def test_the_callers_action_is_kept_and_info_has_its_own_copy(reach: ArmEnv):
    reach.reset(seed=2)
    action = np.array([0.01, 0.0, 0.0])
    *_, info = reach.step_units(action)
    action[:] = 9.0
    assert info["requested"].tolist() == [0.01, 0.0, 0.0]


def solve(env: ArmEnv, seed: int) -> list[tuple[float, bool, bool, bool]]:
    expert = make_expert(env.task.name, env.control.robot)
    observation, _ = env.reset(seed=seed)
    expert.reset(observation)
    steps = []
    for _ in range(env.task.horizon):
        observation, reward, terminated, truncated, info = env.step_units(expert.act(observation))
        steps.append((reward, terminated, truncated, info["success"]))
        if terminated or truncated:
            break
    return steps


def test_an_episode_ends_when_success_has_been_held_for_a_quarter_of_a_second(reach: ArmEnv):
    steps = solve(reach, 11)
    needed = round(0.25 * reach.control.robot.rate_hz)
    near = [-reward <= 0.03 for reward, *_ in steps]
    assert [terminated for _, terminated, _, _ in steps] == [False] * (len(steps) - 1) + [True]
    assert near[-needed:] == [True] * needed
    assert not near[-needed - 1]
    assert not any(truncated for _, _, truncated, _ in steps)


def test_a_fixed_horizon_goes_on_after_success():
    env = make_env("reach", fixed_horizon=True)
    steps = solve(env, 11)
    assert len(steps) == env.task.horizon
    assert not any(terminated for _, terminated, _, _ in steps)
    assert [truncated for _, _, truncated, _ in steps] == [False] * (len(steps) - 1) + [True]
    assert steps[-1][3]
    env.close()


def test_an_episode_that_fails_is_truncated_at_the_horizon(lift: ArmEnv):
    lift.reset(seed=0)
    for step in range(lift.task.horizon):
        *_, terminated, truncated, info = lift.step(np.zeros(7, np.float32))
        assert (terminated, info["success"]) == (False, False)
        assert truncated == (step == lift.task.horizon - 1)


def test_no_action_breaks_the_guards_promise_or_the_environment(lift: ArmEnv):
    """In units nothing looks at an action before the Guard does."""
    lift.reset(seed=3)
    rng = np.random.default_rng(3)
    for _ in range(40):
        action = rng.choice([-1.0, 1.0], 7).astype(np.float32)
        if rng.random() < 0.2:
            action[rng.integers(7)] = np.nan
        observation, *_ = lift.step_units(lift.spec_units.denormalise(action))
        assert all(np.all(np.isfinite(value)) for value in observation.values())
        robot = lift.control.robot
        assert np.all(observation["joint_position"] > robot.joint_array("lower") - 0.05)
        assert np.all(observation["joint_position"] < robot.joint_array("upper") + 0.05)
    assert lift.control.arm.counts["not_finite"] > 0


def test_rendering_is_of_the_arm_inside_the_guard():
    env = make_env("reach", render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture is not None
    assert picture.ndim == 3
    assert picture.dtype == np.uint8
    assert picture.std() > 10
    env.close()
    silent = make_env("reach")
    assert silent.render() is None
    silent.close()


class _LiftFromPixels(Lift):
    observation_keys = ("joint_position", "image_front")


def test_images_are_observed_as_the_space_says():
    robot = load_robot("panda")
    task = _LiftFromPixels()
    env = ArmEnv(Guard(SimArm(robot, task.objects, cameras=("front",))), task)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert observation["image_front"].dtype == np.uint8
    assert is_image("image_front")
    env.close()


def test_it_is_a_gymnasium_environment(reach: ArmEnv):
    assert isinstance(reach, gymnasium.Env)
    assert reach.unwrapped is reach
    assert make_task("reach").horizon == reach.task.horizon


def test_sparse_reward_is_one_exactly_where_the_observation_is_a_success():
    env = make_env("reach", reward="sparse", fixed_horizon=True)
    observation, _ = env.reset(seed=2)
    expert = make_expert("reach")
    expert.reset(observation)
    rewards = []
    for _ in range(env.task.horizon):
        observation, reward, *_ = env.step_units(expert.act(observation))
        rewards.append(reward)
        assert reward == float(env.task.score(observation).success)
    assert set(rewards) == {0.0, 1.0}
    env.close()
    with pytest.raises(InputError, match="Unknown reward 'sprase': did you mean 'sparse'"):
        make_env("reach", reward="sprase")


class Told:
    """A randomization that keeps what it was told."""

    name = "told"

    def __init__(self) -> None:
        self.heard: list[bool] = []

    def sample(self, rng: np.random.Generator) -> dict[str, float]:
        return {"joint_damping_scale": float(rng.uniform(0.9, 1.1))}

    def report(self, success: bool) -> None:
        self.heard.append(success)


def test_a_randomization_is_told_once_how_each_episode_that_it_drew_has_ended():
    told = Told()
    env = make_env("reach", randomization=told)
    env.reset(seed=0)
    env.step(np.zeros(3, np.float32))
    env.reset(seed=1)  # given up: it has not ended
    assert told.heard == []
    for _ in range(env.task.horizon + 2):
        env.step(np.zeros(3, np.float32))
    assert told.heard == [False]
    observation, info = env.reset(seed=2)
    expert = make_expert("reach")
    expert.reset(observation)
    terminated = False
    while not terminated:
        observation, _, terminated, truncated, _ = env.step_units(expert.act(observation))
        assert not truncated
    assert told.heard == [False, True]
    env.reset(options={"start": info["start"]})  # not drawn
    for _ in range(env.task.horizon):
        env.step(np.zeros(3, np.float32))
    assert told.heard == [False, True]
    env.close()


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ([0.0, np.nan, 0.0], "of this one y is nan. Nothing was sent"),
        ([-np.inf, 0.0, np.nan], "of this one x is -inf, z is nan"),
        ([0.0] * 4, r"An action has shape \(4,\); expected \(3,\), each in \[-1, 1\]: \['x', 'y', 'z'\]"),
        (["up", "up", "up"], "An action is 3 numbers"),
    ],
)
def test_what_is_no_action_is_refused_and_nothing_moves(reach: ArmEnv, action: list, words: str):
    """NaN was taken in silence once, and the arm stood still."""
    reach.reset(seed=0)
    before = reach.control.arm.clock.now_ns()
    with pytest.raises(InputError, match=words):
        reach.step(np.array(action))
    assert reach.control.arm.clock.now_ns() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strat": 1}, "Unknown option of a reset 'strat': did you mean 'start'"),
        ({"start": "home"}, "The start of a reset must be an understudy.envs.arms.arm.Start, got 'home'"),
        ("start", "options of a reset must be a dict"),
    ],
)
def test_options_of_a_reset_that_make_no_sense_are_refused(reach: ArmEnv, options: object, words: str):
    with pytest.raises(InputError, match=words):
        reach.reset(options=options)


def test_a_step_before_the_first_reset_is_refused():
    env = make_env("reach")
    with pytest.raises(InputError, match=r"call reset\(\) first"):
        env.step(np.zeros(3, np.float32))
    env.close()
