"""Going back to a moment: from it the same actions give the same bits."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.actuation import Mode
from understudy.envs.arms.arm import Command, Start
from understudy.envs.arms.fake_arm import FakeArm
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.experts.expert import make_expert
from understudy.envs.make import make_env
from understudy.envs.parameters import RANDOMIZABLE
from understudy.envs.randomization import load_randomization
from understudy.envs.tasks.task import make_task
from understudy.errors import InputError


def outcome(env: ArmEnv, action: np.ndarray) -> list[bytes]:
    """Everything a step gives, and what the simulator is like after it, as bytes."""
    observation, reward, terminated, truncated, info = env.step_units(action)
    facts = [reward, terminated, truncated, info["success"], *info["sent"], *info["measured"]]
    values = [*(observation[key] for key in sorted(observation)), env.control.arm.inner.simulator_state()]
    return [np.array(facts, np.float64).tobytes(), *(value.tobytes() for value in values)]


def played(env: ArmEnv, seed: int, steps: int) -> tuple[list[Any], list[np.ndarray], list[list[bytes]]]:
    """Each moment of an episode that the task's expert begins, the action it then takes, and what came of it."""
    observation, _ = env.reset(seed=seed)
    expert = make_expert(env.task.name, env.control.robot.name)
    expert.reset(observation)
    moments, actions, seen = [], [], []
    for _ in range(steps):
        moments.append(env.save())
        actions.append(expert.act(observation))
        seen.append(outcome(env, actions[-1]))
        observation = dict(env.aligned.values)
    return moments, actions, seen


@pytest.mark.parametrize(
    ("task", "robot", "physics"),
    [("lift", "panda", "none"), ("lift", "panda", "hard"), ("stack", "panda", "none"), ("drawer", "xarm6", "mild")],
)
def test_the_same_actions_from_a_moment_give_the_same_bits(task: str, robot: str, physics: str):
    """Moments before, while and after the fingers close, gone back to in any order, an episode in between."""
    env = make_env(task, robot, randomization=load_randomization(physics))
    for seed in range(2):
        moments, actions, seen = played(env, seed, 55)
        env.reset(seed=77)
        for step in (50, 10, 45, 0, 35, 40, 30):
            again = env.restore(moments[step])
            if step:
                assert b"".join(again[key].tobytes() for key in sorted(again)) == b"".join(seen[step - 1][1:-1])
            for later in range(step, 55):
                assert outcome(env, actions[later]) == seen[later], (seed, step, later)
    env.close()


class InTurn:
    """Physics in a given order."""

    name = "in turn"

    def __init__(self, *samples: dict[str, float]) -> None:
        self.samples = itertools.cycle(samples)

    def sample(self, rng: np.random.Generator) -> dict[str, float]:
        return next(self.samples)

    def report(self, success: bool) -> None:
        pass


def everything(seed: int) -> dict[str, float]:
    """Every parameter away from nominal, few far."""
    rng = np.random.default_rng(seed)
    drawn = load_randomization("hard+looks").sample(rng)
    for name, parameter in RANDOMIZABLE.items():
        reach = min(parameter.high - parameter.nominal, 0.02)
        drawn.setdefault(name, parameter.nominal + float(rng.uniform(0.2, 0.8)) * reach)
    pattern = float(rng.integers(1, 5) + 4 * (seed % 2))
    textures = dict.fromkeys(("object_texture", "table_texture", "arm_texture"), pattern)
    return drawn | textures | {"object_size_scale": float(rng.uniform(0.85, 1.15))}


@pytest.mark.parametrize(("task", "robot"), [("lift", "panda"), ("stack", "panda"), ("drawer", "xarm6")])
def test_a_moment_of_other_physics_and_sizes_is_gone_back_to_with_its_looks(task: str, robot: str):
    """Every parameter differs between the moment's episode and the one it is gone back from, sizes too."""
    here, there = everything(1), everything(2)
    assert here.keys() == there.keys() == RANDOMIZABLE.keys()
    assert not [name for name in here if here[name] == there[name] or here[name] == RANDOMIZABLE[name].nominal]
    env, fresh = (make_env(task, robot, randomization=InTurn(here, there, {})) for _ in range(2))
    moments, actions, seen = played(env, 1, 46)
    picture = env.control.arm.inner.render("front", 64, 48)
    for step in (40, 3, 30, 45, 38):
        env.reset(seed=2)  # by turns with all others, and with nominal ones
        for action in actions[:4]:
            env.step_units(action)
        env.control.arm.inner.render("front", 64, 48)
        env.restore(moments[step])
        for later in range(step, 46):
            assert outcome(env, actions[later]) == seen[later], (step, later)
        assert np.array_equal(env.control.arm.inner.render("front", 64, 48), picture), step
    env.randomization = fresh.randomization = InTurn(there)
    env.restore(moments[30])
    for one in (env, fresh):
        one.reset(seed=9)
    assert [outcome(env, action) for action in actions[:8]] == [outcome(fresh, action) for action in actions[:8]]
    env.close()
    fresh.close()


def test_looks_of_an_episode_are_forgotten_when_objects_take_another_size():
    """Once the arm kept an episode's colours and camera when the next one had objects of another size."""
    env = make_env("lift", randomization=InTurn({}, everything(1), {}))
    pictures = []
    for _ in range(3):
        env.reset(seed=4)
        pictures.append(env.control.arm.inner.render("front", 64, 48))
    assert not np.array_equal(pictures[0], pictures[1])
    assert np.array_equal(pictures[0], pictures[2])
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize(("task", "robot"), [("lift", "panda"), ("stack", "xarm6"), ("drawer", "xarm6")])
def test_every_moment_can_be_gone_back_to(task: str, robot: str):
    """What PyBullet saves brings back all but one or two in thirty."""
    env = make_env(task, robot)
    moments, actions, seen = played(env, 1, 60)
    for step in np.random.default_rng(0).permutation(60):
        env.restore(moments[step])
        for later in range(step, min(60, step + 6)):
            assert outcome(env, actions[later]) == seen[later], (step, later)
    env.close()


def test_the_next_episode_after_going_back_is_the_one_that_would_have_come():
    env = make_env("reach", randomization=load_randomization("default"))
    env.reset(seed=3)
    moment = env.save()
    first = env.reset()[1]["start"]
    env.restore(moment)
    second = env.reset()[1]["start"]
    assert first.physics == second.physics
    assert np.array_equal(first.joint_position, second.joint_position)
    env.close()


def test_pybullet_forgets_a_moment_that_nobody_keeps():
    """Its saved states are numbered from the lowest free one: ten thousand moments must not fill its memory."""
    env = make_env("reach")
    env.reset(seed=0)
    numbers = {env.save().control.arm.arm.number for _ in range(20)}
    assert len(numbers) <= 2
    env.close()


def test_no_environment_takes_a_moment_for_its_own_when_another_has_gone():
    """Python gives the identity of what is gone to something new."""
    task = make_task("reach")
    owners = set()
    for _ in range(50):
        env = ArmEnv(Guard(FakeArm(load_robot("panda"))), task)
        owners.add(env.owner)
        del env
    assert len(owners) == 50


def test_a_closed_environment_draws_nothing():
    env = make_env("reach", render_mode="rgb_array")
    env.reset(seed=0)
    env.close()
    with pytest.raises(InputError, match="is closed"):
        env.render()


def test_a_moment_belongs_to_its_environment_and_to_a_simulated_arm():
    first, second = make_env("reach"), make_env("reach")
    with pytest.raises(InputError, match="nothing to save before the first reset"):
        first.save()
    first.reset(seed=0)
    second.reset(seed=0)
    with pytest.raises(InputError, match="another environment's"):
        second.restore(first.save())
    with pytest.raises(InputError, match=r"restore\(\) goes back to a Snapshot, which save\(\) .* returns; got 'x'"):
        first.restore("x")
    moment = first.save()
    first.close()
    second.close()
    for use in (first.reset, first.save, lambda: first.restore(moment), lambda: first.step(np.zeros(3, np.float32))):
        with pytest.raises(InputError, match=r"environment \(reach on panda\) is closed; make another one"):
            use()
    first.close()
    fake = ArmEnv(Guard(FakeArm(load_robot("panda"))), make_task("reach"))
    fake.reset(seed=0)
    with pytest.raises(InputError, match="A FakeArm cannot go back to a moment"):
        fake.save()


@pytest.mark.parametrize("mode", ["position", "velocity", "torque"])
def test_efforts_are_gone_back_to_as_well(mode: Mode):
    arm = SimArm(load_robot("panda"), actuation=mode)
    try:
        start = Start(arm.describe().home)
        arm.reset(start)
        for step in range(6):
            arm.send(Command(start.joint_position + 0.02 * step))
            arm.clock.sleep_until(arm.clock.now_ns() + 50_000_000)
        moment, then = arm.save(), arm.observe()["joint_effort"]
        arm.send(Command(start.joint_position - 0.2))
        arm.clock.sleep_until(arm.clock.now_ns() + 50_000_000)
        assert np.abs(arm.observe()["joint_effort"] - then).max() > 0.1
        arm.restore(moment)
        assert np.array_equal(arm.observe()["joint_effort"], then)
    finally:
        arm.close()


def test_a_start_that_is_changed_later_is_gone_back_to_as_it_was():
    env = make_env("lift")
    _, info = env.reset(seed=3)
    env.step(np.zeros(7, np.float32))
    moment = env.save()
    state = env.control.arm.inner.simulator_state()
    info["start"].joint_position[:] += 0.3
    info["start"].objects["object"].position[:2] += 0.1
    env.step(np.ones(7, np.float32))
    env.restore(moment)
    assert np.array_equal(env.control.arm.inner.simulator_state(), state)
    env.close()
