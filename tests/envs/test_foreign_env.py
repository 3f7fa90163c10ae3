"""Other people's environments, with ids that need no further package."""

from __future__ import annotations

import functools

import gymnasium
import numpy as np
import pytest
from foreign_support import Balance
from gymnasium import spaces

from understudy.envs.foreign_env import ForeignEnv, is_foreign
from understudy.envs.make import make_env
from understudy.errors import InputError
from understudy.learners.evaluate import evaluate


class Push:
    """Solves the mountain car: pushes the way it is rolling, not too hard: effort costs."""

    def reset(self) -> None:
        pass

    def act(self, observation):
        return 0.6 * np.sign(observation["other_observation"][1:] + 1e-9).astype(np.float32)


@pytest.mark.parametrize("id", ["Pendulum-v1", "MountainCarContinuous-v0", "CartPole-v1"])
def test_it_is_what_its_spaces_say(id: str):
    env = ForeignEnv(id)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    assert np.array_equal(observation["other_observation"], again["other_observation"])
    for _ in range(5):
        assert env.observation_space.contains(observation)
        observation, reward, _, _, info = env.step(env.action_space.sample())
        assert isinstance(reward, float)
        assert info["success"] is False
    env.close()


def test_actions_span_the_whole_range_of_the_environment():
    env = ForeignEnv("Pendulum-v1")
    assert [float(env._native(np.array([value]))[0]) for value in (-1, 0, 0.5, 1, 7)] == [-2.0, 0.0, 1.0, 2.0, 2.0]
    choices = ForeignEnv("CartPole-v1")
    assert [choices._native(np.array(row)) for row in ([0.1, 0.2], [0.2, 0.1])] == [1, 0]


@pytest.mark.parametrize(
    ("id", "policy", "judged"), [("CartPole-v1", Balance, 475), ("MountainCarContinuous-v0", Push, 90)]
)
def test_what_solves_an_environment_is_evaluated_as_solving_it(id: str, policy: type, judged: float):
    result = evaluate(policy, id, "panda", episodes=5)
    assert result.successes >= 4
    assert result.mean_return > judged
    assert evaluate(functools.partial(Lazy, id), id, "panda", episodes=2).successes == 0
    assert ForeignEnv(id).judged_by == f"return of at least {judged}"


class Lazy:
    """Does nothing (of choices: always the first)."""

    def __init__(self, id: str) -> None:
        self._size = ForeignEnv(id).action_space.shape[0]

    def reset(self) -> None:
        pass

    def act(self, observation):
        return np.zeros(self._size, np.float32)


class _Costly(gymnasium.Env):
    """Every step costs 1 until the end, after 5; tells nothing of success."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), -1.0, False, False, {}


@pytest.mark.parametrize(("threshold", "solved"), [(-4.0, False), (-5.0, True)])
def test_a_return_is_judged_when_it_is_complete(threshold: float, solved: bool):
    """Reacher-v4 (threshold -3.75) counted as solved from its first step on."""
    gymnasium.register("tests/Costly-v0", _Costly, reward_threshold=threshold, max_episode_steps=5)
    env = ForeignEnv("tests/Costly-v0")
    env.reset(seed=0)
    assert [env.step(np.zeros(1))[4]["success"] for _ in range(5)] == [False] * 4 + [solved]
    gymnasium.registry.pop("tests/Costly-v0")


class _Told(gymnasium.Env):
    """Says in `info` that it is solved; observes a dict."""

    observation_space = spaces.Dict(
        {"where": spaces.Box(-1, 1, (2,), np.float64), "eye": spaces.Box(0, 255, (4, 4, 3), np.uint8)}
    )
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, bool(action[0] > 0), False, {"is_success": np.bool_(action[0] > 0)}


def test_what_the_environment_says_of_its_success_counts():
    gymnasium.register("tests/Told-v0", _Told)
    env = ForeignEnv("tests/Told-v0")
    observation, _ = env.reset(seed=0)
    assert {key: value.dtype for key, value in observation.items()} == {
        "other_where": np.float32,
        "image_eye": np.uint8,
    }
    assert [env.step(np.array([value]))[4]["success"] for value in (-0.5, 0.5)] == [False, True]
    assert env.judged_by == "info"
    gymnasium.registry.pop("tests/Told-v0")


def test_what_cannot_work_is_refused():
    assert is_foreign("Pendulum-v1")
    assert not is_foreign("lift")
    assert not is_foreign("lfit")
    with pytest.raises(InputError, match=r"'Blackjack-v1' observes Discrete\(32\)|'Blackjack-v1' observes Tuple"):
        ForeignEnv("Blackjack-v1")
    with pytest.raises(InputError, match="Gymnasium cannot make 'Nothing-v0'"):
        ForeignEnv("Nothing-v0")
    with pytest.raises(InputError, match=r"has shape \(2,\); expected \(1,\)"):
        ForeignEnv("Pendulum-v1").step(np.zeros(2))
    with pytest.raises(InputError, match=r"'Pendulum-v1' is an environment of Gymnasium's own.*no arm.*record_policy"):
        make_env("Pendulum-v1")
    with pytest.raises(InputError, match="has physics of its own"):
        evaluate(Balance, "CartPole-v1", "panda", "randomized", episodes=1)
