"""`understudy sim-arm`: a PyBullet arm behind the topics of a real driver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from understudy.cli.options import require_seed
from understudy.cli.signals import noted_signals
from understudy.envs.arms.robot import load_robot
from understudy.envs.randomization import load_randomization
from understudy.envs.tasks.task import make_task

if TYPE_CHECKING:
    from understudy.envs.arms.robot import RobotDescription
    from understudy.envs.arms.sim_camera import CameraProcess
    from understudy.envs.tasks.task import Task

__all__ = ["SimArm"]

CAMERA = "front"


@dataclass(frozen=True)
class SimArm:
    """A simulated arm behind the topics of a real driver, paced to real time.

    Commanders find the topics that the robot's file names, the service /sim_arm/reset (the next seed's scene) and the
    latched topic /sim_arm/success. Like a real controller it keeps following the last target if its commander dies.
    Ctrl-C (or SIGTERM) ends it.

    Example:
        understudy sim-arm --robot panda --task lift --seed 7
        understudy sim-arm --robot panda --task reach --no-camera --randomize default
    """

    robot: str = "panda"
    """A shipped robot, or the path of a robot's YAML file."""
    task: str = "lift"
    """What lies in the scene and what counts as success: drawer, insert, lift, pick_place, push, reach or stack."""
    seed: int = 0
    """Seed of the scene at start-up and of the first reset; further resets count up."""
    randomize: str = "none"
    """Physics drawn at each reset: none, mild, default, hard, or a YAML file."""
    camera: bool = True
    """Publish the front camera, where the robot's file has one (drawn in a process of its own)."""
    rate: float = 100.0
    """Joint states a second."""

    def run(self) -> int:
        with noted_signals() as asked:
            return self._run(asked.is_set)

    def _run(self, stop: Callable[[], bool]) -> int:
        require_seed(self.seed)
        robot, task = load_robot(self.robot), make_task(self.task)
        randomization = load_randomization(self.randomize)
        from understudy.envs.arm_env import ArmEnv  # heavy, from here on
        from understudy.envs.arms.ros_sim_arm import SimDriver, SimDriverConfig
        from understudy.envs.arms.sim_arm import SimArm as BulletArm

        config = SimDriverConfig(seed=self.seed, rate_hz=self.rate)
        # No Guard: this is what lies beyond the commander's own.
        arm = BulletArm(robot, task.objects, realtime=True)
        env = ArmEnv(arm, task, randomization=randomization)
        driver = SimDriver(
            arm, task, lambda seed: env.draw_start(np.random.default_rng(seed)), config, self._camera(robot, task)
        )
        try:
            print(self._ready(robot), flush=True)
            driver.run(stop)
        finally:
            driver.close()
            arm.close()
        late = arm.clock.late_steps
        print(f"sim-arm stopped: {driver.resets} resets, {driver.refused} commands refused, {late} late physics steps")
        return 0

    def _camera(self, robot: RobotDescription, task: Task) -> CameraProcess | None:
        from understudy.envs.arms.sim_camera import CameraProcess

        return CameraProcess(robot, task.objects, (CAMERA,)) if self._has_camera(robot) else None

    def _has_camera(self, robot: RobotDescription) -> bool:
        return self.camera and CAMERA in robot.ros.cameras

    def _ready(self, robot: RobotDescription) -> str:
        ros = robot.ros
        picture = f"; {ros.cameras[CAMERA].topic}" if self._has_camera(robot) else ""
        return (
            f"sim-arm ready: {robot.name}, task {self.task}, seed {self.seed}; {ros.joint_states.topic} at "
            f"{self.rate:g} Hz{picture}; listening on {ros.command_topic}"
        )
