"""The loop that somebody would write by hand for the same arm: PyBullet's own calls and nothing around them.

It stands in the same scene as the environment it is compared with, and sends the motors the same set points at the same
physics steps, so that its joints move the same way, which is checked. PyBullet's solver is as PyBullet sets it, unless
asked for otherwise. What it leaves out is what the environment is for: it limits nothing, and given set points it does
not work out joints from an action either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pybullet
from numpy.typing import NDArray

from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.arm import Command, Start
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.arms.sim_clock import PHYSICS_HZ

Array = NDArray[Any]
PYBULLETS_RESIDUAL = 1e-7
"""Where PyBullet's contact solver stops unless it is told otherwise."""


class HandLoop:
    """Plays commands on an arm of its own, as PyBullet's examples do."""

    def __init__(self, env: ArmEnv, *, solver_residual: float = PYBULLETS_RESIDUAL) -> None:
        """Args:
        env: what it is compared with: same robot, same objects.
        solver_residual: where its contact solver stops.
        """
        robot, task = env.control.robot, env.task
        self._arm = SimArm(robot, task.objects)
        self._client, self._body = self._arm._client, self._arm._body
        pybullet.setPhysicsEngineParameter(solverResidualThreshold=solver_residual, physicsClientId=self._client)
        self._joints, self._fingers = self._arm._joints, self._arm._fingers
        names = {
            pybullet.getJointInfo(self._body, index, physicsClientId=self._client)[12].decode(): index
            for index in range(pybullet.getNumJoints(self._body, physicsClientId=self._client))
        }
        self._tool = names[robot.tool_frame]
        self._objects = [self._arm.scene.body(name) for name in task.objects]
        self._gains = self._arm.motors._joints_motors.gains
        self._ones = [1.0] * len(self._joints)
        self._forces = robot.joint_array("effort").tolist()
        gripper = robot.require_gripper()
        self._ends = list(gripper.joints.values())
        self._open, self._width_step = gripper.width, gripper.speed / PHYSICS_HZ
        self._grip = [gripper.force] * len(self._fingers)
        self._substeps = round(PHYSICS_HZ * robot.period_s)
        self._period_s = robot.period_s

    def reset(self, start: Start) -> None:
        """Put everything where an episode starts."""
        self._arm.reset(start)
        self._from = np.asarray(start.joint_position, np.float64)
        self._width = self._open if start.gripper_position is None else start.gripper_position

    def step(self, command: Command) -> dict[str, Array]:
        """One control period towards a command; the observation at its end."""
        way = command.joint_position - self._from
        velocity = (way / self._period_s).tolist()
        asked = self._width if command.gripper_position is None else command.gripper_position
        for index in range(1, self._substeps + 1):
            pybullet.setJointMotorControlArray(
                self._body,
                self._joints,
                pybullet.POSITION_CONTROL,
                targetPositions=(self._from + index / self._substeps * way).tolist(),
                targetVelocities=velocity,
                forces=self._forces,
                positionGains=self._gains,
                velocityGains=self._ones,
                physicsClientId=self._client,
            )
            self._width += max(-self._width_step, min(self._width_step, asked - self._width))
            pybullet.setJointMotorControlArray(
                self._body,
                self._fingers,
                pybullet.POSITION_CONTROL,
                targetPositions=[shut + self._width / self._open * (wide - shut) for shut, wide in self._ends],
                forces=self._grip,
                physicsClientId=self._client,
            )
            pybullet.stepSimulation(physicsClientId=self._client)
        self._from = command.joint_position
        return self.observe()

    def observe(self) -> dict[str, Array]:
        """What the tasks of a cube observe."""
        states = pybullet.getJointStates(self._body, self._joints, physicsClientId=self._client)
        fingers = pybullet.getJointStates(self._body, self._fingers, physicsClientId=self._client)
        tool = pybullet.getLinkState(self._body, self._tool, computeForwardKinematics=1, physicsClientId=self._client)
        seen = {
            "joint_position": [state[0] for state in states],
            "joint_velocity": [state[1] for state in states],
            "gripper_position": [sum(state[0] for state in fingers)],
            "tool_position": tool[4],
            "tool_quaternion": tool[5],
        }
        for number in self._objects:
            place = pybullet.getBasePositionAndOrientation(number, physicsClientId=self._client)
            seen["object_position"], seen["object_quaternion"] = place
        return {key: np.array(value, np.float32) for key, value in seen.items()}

    def step_tool(self, action: Array) -> dict[str, Array]:
        """One control period with a tool step (3 m, 3 rad) and an opening (m), by PyBullet's inverse kinematics."""
        tool = pybullet.getLinkState(self._body, self._tool, computeForwardKinematics=1, physicsClientId=self._client)
        turn = pybullet.getQuaternionFromEuler(action[3:6].tolist())
        joints = pybullet.calculateInverseKinematics(
            self._body,
            self._tool,
            (np.array(tool[4]) + action[:3]).tolist(),
            pybullet.multiplyTransforms((0, 0, 0), turn, (0, 0, 0), tool[5])[1],
            physicsClientId=self._client,
        )
        return self.step(Command(np.array(joints[: len(self._joints)]), float(action[6])))

    def close(self) -> None:
        """Close the arm."""
        self._arm.close()


def record(env: ArmEnv, seed: int, actions: Sequence[Array]) -> tuple[Start, list[Command], list[dict[str, Array]]]:
    """(start, commands that were sent, observations) of an episode of `env`."""
    _, info = env.reset(seed=seed)
    start: Start = info["start"]
    commands, seen = [], []
    for action in actions:
        observation, _, _, _, info = env.step(action)
        commands.append(info["command"])
        seen.append(observation)
    return start, commands, seen


def farthest(loop: HandLoop, start: Start, commands: Sequence[Command], seen: Sequence[dict[str, Array]]) -> float:
    """The largest difference of any joint (rad) when `loop` plays an episode of the environment."""
    loop.reset(start)
    rows = [loop.step(one)["joint_position"] - was["joint_position"] for one, was in zip(commands, seen, strict=True)]
    return float(np.max(np.abs(rows)))
