"""Lift: pick a cube up from the table and hold it 10 cm above where it lay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.arm import Pose, Start
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.rotations import yaw_quaternion
from understudy.envs.tasks.scene import SceneObject, box
from understudy.envs.tasks.task import Score

HALF_EDGE_M = 0.02
LIFTED_M = 0.10
CENTRE_XY_M = (0.5, 0.0)
SPREAD_M = 0.12
MAX_YAW_RAD = np.pi / 4


class Lift:
    """The cube starts within 12 cm of (0.5, 0) m on either axis, turned by up to 45 degrees.

    Success: its centre is at least 10 cm above where it rests. Reward: 1 on success, otherwise up to 0.8 for coming
    near the cube (1 - tanh(5 d), d the tool's distance in m, weight 0.3) and for its height (weight 0.5).
    """

    name = "lift"
    robots: tuple[str, ...] = ("panda", "xarm6")
    goal = None
    action_space = "tool_delta"
    action_labels = None
    horizon = 160
    objects: Mapping[str, SceneObject] = {"object": box((HALF_EDGE_M,) * 3, mass=0.1)}
    observation_keys = (
        "joint_position",
        "joint_velocity",
        "gripper_position",
        "tool_position",
        "tool_quaternion",
        "object_position",
        "object_quaternion",
    )

    def start(self, robot: RobotDescription, rng: np.random.Generator) -> Start:
        """See `Task`."""
        gripper = robot.require_gripper()
        place = np.array([*(np.array(CENTRE_XY_M) + rng.uniform(-SPREAD_M, SPREAD_M, 2)), HALF_EDGE_M])
        yaw = float(rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD))
        joints = robot.home + rng.normal(0.0, 0.02, len(robot.joints))
        return Start(joints, gripper.width, {"object": Pose(place, yaw_quaternion(yaw))})

    def score(self, observation: Mapping[str, NDArray[Any]]) -> Score:
        """See `Task`."""
        distance = float(np.linalg.norm(observation["tool_position"] - observation["object_position"]))
        height = float(observation["object_position"][2]) - HALF_EDGE_M
        if height >= LIFTED_M:
            return Score(1.0, True)
        return Score(0.3 * (1.0 - float(np.tanh(5.0 * distance))) + 0.5 * max(0.0, height) / LIFTED_M, False)
