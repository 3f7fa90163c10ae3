"""Parameters that make no difference to a task: those of what is not there, and no others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from understudy.envs.arms.robot import load_robot
from understudy.envs.idle_parameters import idle_parameters
from understudy.envs.make import make_env
from understudy.envs.parameters import RANDOMIZABLE
from understudy.envs.randomization import Choice, Randomization
from understudy.envs.tasks.task import known_tasks, make_task


def rewards(robot: str, physics: Mapping[str, float]) -> list[float]:
    """Of random actions in an episode of reach."""
    drawn = Randomization("fixed", {name: Choice((value,)) for name, value in physics.items()})
    env = make_env("reach", robot, randomization=drawn)
    env.reset(seed=3)
    rng = np.random.default_rng(5)
    low, high = env.action_space.low, env.action_space.high
    found = [env.step(rng.uniform(low, high).astype(np.float32))[1] for _ in range(10)]
    env.close()
    return found


@pytest.mark.parametrize("robot", ["panda", "two_joint"])
def test_idle_parameters_change_nothing(robot: str) -> None:
    """All of them together, at either end of what they may be; reward is a distance in m."""
    idle = idle_parameters(make_task("reach"), load_robot(robot))
    nominal = rewards(robot, {})
    same = pytest.approx(nominal, abs=2e-5)  # a gripper a hundred times weaker sags by 8 micrometres
    assert rewards(robot, {"link_mass_scale": 2.0}) != same
    for end in ("low", "high"):
        assert rewards(robot, {name: getattr(RANDOMIZABLE[name], end) for name in idle}) == same


def test_what_a_task_can_feel_is_not_idle() -> None:
    panda = load_robot("panda")
    for task in known_tasks():
        idle = idle_parameters(make_task(task), panda)
        assert not {"action_delay_s", "gravity_m_s2", "joint_noise_rad", "link_mass_scale"} & idle.keys()
        assert ("object_mass_scale" in idle) == ("position_noise_m" in idle) == (task == "reach")
        assert ("object_size_scale" in idle) == (task in ("reach", "drawer"))
    assert idle_parameters(make_task("drawer"), panda)["object_yaw_rad"] == "no object lies loose"
    assert idle_parameters(make_task("reach"), panda)["object_drop_chance"] == "the task has no object"
    assert idle_parameters(make_task("reach"), load_robot("two_joint"))["finger_friction_scale"]


def test_looks_are_idle_where_no_camera_is_observed() -> None:
    lift, panda = make_task("lift"), load_robot("panda")
    looks = {name for name, parameter in RANDOMIZABLE.items() if parameter.group == "looks"}
    assert looks == {name for name, why in idle_parameters(lift, panda).items() if why == "no camera is observed"}
    assert not looks & idle_parameters(lift, panda, ("front",)).keys()
