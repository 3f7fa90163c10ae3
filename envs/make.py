"""Builds the simulated environment of a task by name: the arm, its Guard and the task, put together one way."""

from __future__ import annotations

from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import RobotDescription, load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.randomization import Randomization
from understudy.envs.tasks.task import make_task


def make_env(
    task: str,
    robot: str | RobotDescription = "panda",
    *,
    fixed_horizon: bool = False,
    randomization: Randomization | None = None,
    render_mode: str | None = None,
    realtime: bool = False,
) -> ArmEnv:
    """A task on a PyBullet arm inside a Guard.

    Args:
        task: name of a task.
        robot: shipped name, path of a YAML file, or a description.
        fixed_horizon: never end before the horizon.
        randomization: physics drawn at each reset; None for nominal.
        render_mode: rgb_array or None.
        realtime: pace the physics to the wall clock.

    Raises:
        InputError: unknown task or robot, or a robot without what the task needs.
    """
    chosen = make_task(task)
    description = robot if isinstance(robot, RobotDescription) else load_robot(robot)
    if "gripper_position" in chosen.observation_keys:
        description.require_gripper()
    arm = SimArm(description, chosen.objects, realtime=realtime)
    return ArmEnv(Guard(arm), chosen, fixed_horizon=fixed_horizon, randomization=randomization, render_mode=render_mode)
