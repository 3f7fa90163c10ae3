"""The expert of lift."""

from __future__ import annotations

import numpy as np

from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.rotations import (
    quaternion_multiply,
    quaternion_to_matrix,
    quaternion_to_rotvec,
    yaw_quaternion,
)
from understudy.envs.experts.expert import ObservationDict, Vector
from understudy.envs.experts.hand import Hand, HumanStyle

DOWN = np.array([1.0, 0.0, 0.0, 0.0])
"""xyzw of a tool that points straight down with its x axis along the base's."""


class LiftExpert:
    """Over the cube, turn with it, down, close, up."""

    ABOVE_M = 0.1
    UP_M = 0.18

    def __init__(self, robot: RobotDescription, style: HumanStyle, rng: np.random.Generator) -> None:
        self._hand = Hand(style, rng)
        self._style = style
        self._open = robot.require_gripper().width
        self._phase = "above"
        self._ticks = 0
        self._wrong = np.zeros(3)
        self._rest_z = 0.0

    def reset(self, observation: ObservationDict) -> None:
        """See `Expert`."""
        self._phase, self._ticks = "above", 0
        self._wrong = np.array([*self._style.wrong_start_m, 0.0])
        self._rest_z = float(observation["object_position"][2])

    def act(self, observation: ObservationDict) -> Vector:
        """See `Expert`."""
        tool = np.asarray(observation["tool_position"], np.float64)
        cube = np.asarray(observation["object_position"], np.float64)
        self._advance(tool, cube)
        goal = self._way_point(tool, cube)
        step = self._hand.towards(goal - tool)
        turn = np.zeros(3) if self._hand.pausing else self._turn(observation)
        width = self._open if self._phase in ("above", "down") else 0.0
        return np.concatenate([step, turn, [width]])

    def _advance(self, tool: Vector, cube: Vector) -> None:
        """Move to the next phase when this one is done; go back when the cube was lost."""
        beside = float(np.linalg.norm(tool[:2] - cube[:2] - self._wrong[:2]))
        self._ticks += 1
        if self._phase == "above" and beside < 0.02 and self._ticks > 3:
            if np.any(self._wrong):
                self._wrong = np.zeros(3)
            elif tool[2] - cube[2] < self.ABOVE_M + 0.03:
                self._enter("down")
        elif self._phase == "down" and tool[2] - cube[2] < 0.012 and beside < 0.01:
            self._enter("close")
        elif self._phase == "close" and self._ticks > 4 + self._style.gripper_delay:
            self._enter("up")
        elif self._phase == "up" and self._ticks > 8 and np.linalg.norm(tool - cube) > 0.05:
            self._enter("above")

    def _enter(self, phase: str) -> None:
        self._phase, self._ticks = phase, 0

    def _way_point(self, tool: Vector, cube: Vector) -> Vector:
        if self._phase == "above":
            far = min(1.0, float(np.linalg.norm(tool[:2] - cube[:2])) / 0.1)
            detour = np.array([*self._style.detour_m, 0.0]) * far
            return cube + self._wrong + detour + [0.0, 0.0, self.ABOVE_M]
        if self._phase == "down":
            # come down only as far as the tool is over the cube
            beside = float(np.linalg.norm(tool[:2] - cube[:2]))
            height = 0.0 if beside < 0.012 else 0.05
            return np.asarray(cube + np.array([0.0, 0.0, height]))
        if self._phase == "close":
            return tool if self._ticks > self._style.gripper_delay else cube
        return np.array([tool[0], tool[1], self._rest_z + self.UP_M])

    def _turn(self, observation: ObservationDict) -> Vector:
        """Turn the tool to point down, aligned with the cube's nearest face."""
        matrix = quaternion_to_matrix(observation["object_quaternion"])
        yaw = float(np.arctan2(matrix[1, 0], matrix[0, 0]))
        yaw = (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4
        wanted = quaternion_multiply(yaw_quaternion(yaw), DOWN)
        now = np.asarray(observation["tool_quaternion"], np.float64)
        left = quaternion_to_rotvec(quaternion_multiply(wanted, now * [-1.0, -1.0, -1.0, 1.0]))
        return np.clip(self._style.gain * 0.7 * left, -0.1, 0.1)
