"""Gymnasium's ids: known without an import of ours, and content with Gymnasium's and stable-baselines3's checkers."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from understudy.envs.goal_env import GoalEnv
from understudy.envs.registration import GOAL_IDS, IDS, NAMESPACE
from understudy.envs.tasks.task import known_tasks, make_task
from understudy.errors import InputError

EVERY_ID = [f"{NAMESPACE}/{name}" for name in (*IDS, *GOAL_IDS)]


def test_every_task_has_an_id_and_every_goal_id_a_task_with_a_goal():
    assert sorted(IDS.values()) == known_tasks()
    assert all(make_task(task).goal is not None for task in GOAL_IDS.values())


def test_an_id_is_known_without_an_import_of_ours():
    program = (
        "import gymnasium, sys; heavy = {'pybullet', 'understudy.envs.arm_env'} & set(sys.modules); "
        "env = gymnasium.make('understudy/Reach-v0', robot='kuka_iiwa', reward='sparse', fixed_horizon=True, "
        "randomize='mild'); env.reset(seed=0); step = env.step(env.action_space.sample()); "
        "print(heavy, env.unwrapped.control.robot.name, step[1])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("set() kuka_iiwa 0.0"), done.stderr


@pytest.mark.parametrize("name", EVERY_ID)
def test_the_checkers_are_content_without_a_warning(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # human mode opens its window nowhere
    env = gymnasium.make(name, disable_env_checker=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
        sb3_check_env(env.unwrapped, skip_render_check=True)
    env.close()


def test_cameras_and_sparse_reward_come_through_the_id():
    env = gymnasium.make("understudy/Lift-v0", cameras=("front",), reward="sparse", render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert observation["image_front"].dtype == np.uint8
    assert env.step(np.zeros(7, np.float32))[1] == 0.0
    assert env.render().ndim == 3
    env.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"robot": "pnada"}, "did you mean 'panda'"),
        ({"reward": "sprase"}, "Unknown reward 'sprase': did you mean 'sparse'"),
        ({"cameras": ("fornt",)}, "Unknown camera 'fornt': did you mean 'front'"),
        ({"randomize": "hrad"}, "did you mean 'hard'"),
        ({"robott": "panda"}, "Unknown option 'robott': did you mean 'robot'"),
        ({"randomization": "mild"}, "did you mean 'randomize'"),
        ({"task": "push"}, r"The id says which task it is, and task='push' was given too; ids: .*understudy/Push-v0"),
        ({"render_mode": 7}, "Unknown render mode '7'. Known render modes: human, rgb_array"),
        ({"cameras": "front"}, r"cameras must be a tuple of names, such as \('front',\), got 'front'"),
        ({"cameras": ("front", "front")}, "Camera 'front' is named twice"),
        ({"fixed_horizon": "yes"}, "fixed_horizon must be True or False, got 'yes'"),
        ({"realtime": "no"}, "realtime must be True or False, got 'no'"),
    ],
)
def test_what_there_is_none_of_is_refused(options: dict, words: str):
    with pytest.raises(InputError, match=words):
        gymnasium.make("understudy/Lift-v0", **options)


def test_options_that_a_goal_environment_does_not_take_are_refused():
    with pytest.raises(InputError, match=r"Unknown option 'cameras'. Known options: randomize, render_mode, reward"):
        gymnasium.make("understudy/PushGoal-v0", cameras=("front",))
    with pytest.raises(InputError, match=r"task='reach' was given too; ids: understudy/PickPlaceGoal-v0"):
        gymnasium.make("understudy/PushGoal-v0", task="reach")


def test_rewards_of_goals_are_the_steps_own_and_can_be_asked_for_many_at_once():
    for reward in ("sparse", "shaped"):
        env = GoalEnv("reach", reward=reward)
        env.reset(seed=0)
        rows = [env.step(env.action_space.sample()) for _ in range(5)]
        achieved, desired = (np.array([row[0][key] for row in rows]) for key in ("achieved_goal", "desired_goal"))
        assert np.allclose(env.compute_reward(achieved, desired, [{}] * 5), [row[1] for row in rows])
        here = env.compute_reward(achieved, achieved, [{}] * 5)
        assert (here == 0.0).all()
        far = env.compute_reward(achieved + np.array([1.0, 0.0, 0.0]), achieved, [{}] * 5)
        assert np.allclose(far, -1.0)
        env.close()


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((5, 3), (4, 3)), ((3,), (5, 3)), ((2,), (2,))])
def test_rewards_of_goals_of_other_shapes_are_refused_with_both(shapes: tuple[tuple[int, ...], tuple[int, ...]]):
    env = GoalEnv("reach")
    words = f"Goals achieved have shape {shapes[0]} and goals desired {shapes[1]}; expected one shape"
    with pytest.raises(InputError, match=re.escape(words)):
        env.compute_reward(np.zeros(shapes[0]), np.zeros(shapes[1]), {})
    env.close()


def test_reaching_the_goal_is_told_and_does_not_end_the_episode():
    env = GoalEnv("reach")
    observation, _ = env.reset(seed=2)
    steps, truncated = 0, False
    while not truncated:
        steps += 1
        way = observation["desired_goal"] - observation["achieved_goal"]
        observation, reward, terminated, truncated, info = env.step(np.clip(way / 0.03, -1, 1).astype(np.float32))
        assert not terminated
        assert (
            info["is_success"]
            == (reward == 0.0)
            == bool(np.linalg.norm(observation["desired_goal"] - observation["achieved_goal"]) <= env.goal.tolerance_m)
        )
    assert steps == env.arm_env.task.horizon
    assert info["is_success"]
    env.close()


def test_a_task_without_a_goal_is_refused():
    with pytest.raises(InputError, match=r"'lift' has no goal of its own.*reach"):
        GoalEnv("lift")


def test_a_goal_environment_goes_back_to_a_moment():
    env = gymnasium.make("understudy/PushGoal-v0").unwrapped
    env.reset(seed=3)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.0, 1.0, (12, *env.action_space.shape)).astype(np.float32)
    for action in actions[:6]:
        env.step(action)
    moment = env.save()
    first = [env.step(action) for action in actions[6:]]
    env.restore(moment)
    for action, (seen, reward, *_) in zip(actions[6:], first, strict=True):
        again = env.step(action)
        assert again[1] == reward
        assert all(np.array_equal(again[0][key], seen[key]) for key in seen)
    env.close()
