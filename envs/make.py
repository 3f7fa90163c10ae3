"""Builds the simulated environment of a task by name: the arm, its Guard and the task, put together one way."""

from __future__ import annotations

from understudy.envs.arm_env import ArmEnv, Reward, require_flag
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import RobotDescription, load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.foreign_env import FOREIGN_WAYS, is_foreign
from understudy.envs.randomization import Randomizer
from understudy.envs.tasks.task import known_tasks, make_task
from understudy.errors import InputError


def make_env(
    task: str,
    robot: str | RobotDescription = "panda",
    *,
    fixed_horizon: bool = False,
    randomization: Randomizer | None = None,
    reward: Reward = "shaped",
    cameras: tuple[str, ...] = (),
    render_mode: str | None = None,
    realtime: bool = False,
) -> ArmEnv:
    """A task on a PyBullet arm inside a Guard.

    Args:
        task: name of a task.
        robot: shipped name, path of a YAML file, or a description.
        fixed_horizon: never end before the horizon.
        randomization: physics drawn at each reset, and told how each episode ended; None for nominal.
        reward: shaped, the task's own; or sparse, 1 in every step whose observation is a success and else 0.
        cameras: those whose pictures are observed, as `image_<camera>`; sizes from the robot's file.
        render_mode: rgb_array, human (a window) or None.
        realtime: pace the physics to the wall clock.

    Raises:
        InputError: unknown task, robot, camera, reward or render mode, a flag that is neither True nor False, or a
            robot without what the task needs.
    """
    if is_foreign(task):
        raise InputError(
            f"{task!r} is an environment of Gymnasium's own: it has no arm, and so nothing that can drive, guard or "
            f"randomize one. {FOREIGN_WAYS} Our own tasks: {', '.join(known_tasks())}."
        )
    _require_names(cameras)
    require_flag("realtime", realtime)
    chosen = make_task(task)
    description = robot if isinstance(robot, RobotDescription) else load_robot(robot)
    if "gripper_position" in chosen.observation_keys:
        description.require_gripper()
    arm = SimArm(
        description, chosen.objects, cameras=tuple(cameras), pictures=render_mode is not None, realtime=realtime
    )
    try:
        return ArmEnv(
            Guard(arm),
            chosen,
            fixed_horizon=fixed_horizon,
            randomization=randomization,
            reward=reward,
            cameras=tuple(cameras),
            render_mode=render_mode,
        )
    except Exception:
        arm.close()
        raise


def _require_names(cameras: object) -> None:
    """Refuse cameras that are no names, a single text among them: its letters would be taken for names."""
    if not isinstance(cameras, tuple | list) or not all(isinstance(name, str) for name in cameras):
        raise InputError(f"cameras must be a tuple of names, such as ('front',), got {cameras!r}.")
