"""Environments in few processes: the same as in one, whatever the number of processes."""

from __future__ import annotations

import functools
import os

import gymnasium
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from understudy.envs.make import make_env
from understudy.errors import InputError, UnderstudyError
from understudy.learners.parallel_envs import ParallelEnvs


class Counting(gymnasium.Env):
    """Counts to four, then ends; fails, or takes its process with it, when told."""

    def __init__(self, first: int) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 100.0, (1,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.first, self.count = first, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.array([self.first], np.float32), {"seed": seed}

    def step(self, action):
        self.count += 1
        return np.array([self.first + self.count], np.float32), float(self.first), self.count == 4, False, {}

    def fail(self) -> None:
        raise ValueError("told to fail")

    def leave(self) -> None:
        os._exit(3)

    def sum(self, other: int) -> int:
        return self.first + other


def counting(number: int) -> list:
    return [functools.partial(Counting, 10 * index) for index in range(number)]


@pytest.fixture(scope="module")
def envs():
    made = ParallelEnvs(counting(5), 2)
    yield made
    made.close()


def test_order_is_kept_and_episodes_restart(envs: ParallelEnvs):
    assert envs.reset().ravel().tolist() == [0, 10, 20, 30, 40]
    for step in range(1, 6):
        observations, rewards, dones, infos = envs.step(np.zeros((5, 1), np.float32))
        assert rewards.tolist() == [0, 10, 20, 30, 40]
        assert dones.all() == (step == 4)
        shown = observations.ravel() - [0, 10, 20, 30, 40]
        assert shown.tolist() == [{4: 0, 5: 1}.get(step, step)] * 5
        if step == 4:
            assert [info["terminal_observation"][0] for info in infos] == [4, 14, 24, 34, 44]


def test_what_resets_told_is_what_one_process_tells() -> None:
    """Each episode's, also while other environments' episodes go on."""

    def uneven(index: int) -> gymnasium.Env:
        return gymnasium.wrappers.TimeLimit(Counting(10 * index), 2 + index % 2)

    factories = [functools.partial(uneven, index) for index in range(3)]
    apart, together = ParallelEnvs(factories, 2), DummyVecEnv(factories)
    try:
        told = []
        for envs in (apart, together):
            envs.seed(3)
            envs.reset()
            told.append([list(envs.reset_infos)])
            for _ in range(5):
                envs.step(np.zeros((3, 1), np.float32))
                told[-1].append(list(envs.reset_infos))
    finally:
        apart.close()
        together.close()
    assert told[0][0] == [{"seed": seed} for seed in (3, 4, 5)]
    assert told[0][2] == [{"seed": None}, {"seed": 4}, {"seed": None}]
    assert told[0] == told[1]


def test_seeds_attributes_and_methods_reach_the_environment_meant(envs: ParallelEnvs):
    envs.seed(7)
    envs.reset()
    assert [info["seed"] for info in envs.reset_infos] == [7, 8, 9, 10, 11]
    envs.reset()
    assert [info["seed"] for info in envs.reset_infos] == [None] * 5
    assert envs.get_attr("first") == [0, 10, 20, 30, 40]
    assert envs.env_method("sum", 5, indices=[4, 1]) == [45, 15]
    envs.set_attr("first", 3, indices=2)
    assert envs.get_attr("first", [3, 2, 1]) == [30, 3, 10]
    assert envs.env_is_wrapped(Monitor) == [False] * 5


@pytest.mark.parametrize(("number", "processes"), [(2, 3), (2, 0), (0, 0)])
def test_numbers_that_do_not_go_together_are_refused(number: int, processes: int):
    with pytest.raises(InputError, match=f"{number} environments cannot be spread over {processes} processes"):
        ParallelEnvs(counting(number), processes)


def test_what_fails_says_so_with_its_own_words_and_a_process_that_dies_is_named(envs: ParallelEnvs):
    """The last test of these environments: it ends them."""
    envs.reset()
    with pytest.raises(UnderstudyError, match="told to fail"):
        envs.env_method("fail", indices=[0])
    with pytest.raises(UnderstudyError, match=r"failed before, and its process ended; close these(.|\n)*told to fail"):
        envs.env_method("sum", 1, indices=[0])
    with pytest.raises(UnderstudyError, match="process of environments 2 to 4 died"):
        envs.env_method("leave", indices=[3])
    envs.close()
    with pytest.raises(InputError, match="These environments are closed; make them anew"):
        envs.step(np.zeros((5, 1), np.float32))


def test_the_arm_does_the_same_in_any_number_of_processes():
    factories = [functools.partial(make_env, "reach")] * 3
    rng = np.random.default_rng(0)
    actions = [rng.uniform(-1, 1, (3, 3)).astype(np.float32) for _ in range(5)]
    runs = []
    for made in (DummyVecEnv(factories), ParallelEnvs(factories, 2)):
        made.seed(5)
        seen = [made.reset(), *(made.step(action)[0] for action in actions)]
        runs.append([{key: value.copy() for key, value in row.items()} for row in seen])
        made.close()
    for one, other in zip(*runs, strict=True):
        for key, value in one.items():
            assert np.array_equal(value, other[key]), key
