"""The simulated environment of a task, put together by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import ROBOTS, load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.make import make_env
from understudy.errors import InputError


def test_it_is_the_task_on_a_simulated_arm_inside_a_guard():
    env = make_env("lift", fixed_horizon=True)
    assert isinstance(env.control.arm, Guard)
    assert isinstance(env.control.arm.inner, SimArm)
    assert (env.task.name, env.control.robot.name, env.fixed_horizon) == ("lift", "panda", True)
    env.close()
    env.close()


def test_a_robot_comes_by_name_by_file_or_as_a_description(tmp_path: Path):
    data = yaml.safe_load((ROBOTS / "panda.yaml").read_text())
    data.update(name="mine", kinematics=str(ROBOTS / "panda.urdf"))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data))
    for robot, name in (
        ("kuka_iiwa", "kuka_iiwa"),
        (str(tmp_path / "mine.yaml"), "mine"),
        (load_robot("panda"), "panda"),
    ):
        env = make_env("reach", robot)
        assert env.control.robot.name == name
        env.close()


@pytest.mark.parametrize(
    ("task", "robot", "sentence"),
    [("raech", "panda", "did you mean 'reach'"), ("reach", "pand", "did you mean 'panda'")],
)
def test_wrong_names_are_refused(task: str, robot: str, sentence: str):
    with pytest.raises(InputError, match=sentence):
        make_env(task, robot)


def test_a_task_that_needs_a_gripper_refuses_an_arm_without_one_before_anything_moves():
    with pytest.raises(InputError, match=r"Robot 'kuka_iiwa' has no gripper, and this needs one"):
        make_env("lift", "kuka_iiwa")
