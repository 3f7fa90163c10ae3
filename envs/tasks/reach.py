"""Reach: bring the tool to a goal point in the air and stay there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.arm import Start
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.tasks.scene import SceneObject
from understudy.envs.tasks.task import Goal, Score

REACHED_M = 0.03
GOALS_M = ((0.35, -0.25, 0.1), (0.65, 0.25, 0.45))
"""The box that goals are drawn from: its lowest and its highest corner."""
GOALS_OF_ROBOTS_M = {
    "kuka_iiwa": ((0.45, -0.25, 0.15), (0.75, 0.25, 0.50)),
    "xarm6": ((0.30, -0.20, 0.1), (0.52, 0.20, 0.38)),
    "two_joint": ((0.40, -0.35, 0.125), (0.90, 0.35, 0.125)),
}
"""The same for robots whose reach is another."""


class Reach:
    """The goal is drawn uniformly from a box in front of the arm: x 0.35 to 0.65 m, y -0.25 to 0.25 m, z 0.10 to 0.45 m
    on panda (`GOALS_OF_ROBOTS_M` has the others').

    Success: the tool is within 3 cm of it. Reward: -d, d the tool's distance from the goal in m.
    """

    name = "reach"
    robots: tuple[str, ...] = ("panda", "kuka_iiwa", "xarm6", "two_joint")
    goal = Goal("tool_position", "goal_position", REACHED_M)
    action_space = "tool_delta"
    action_labels = ("x", "y", "z")
    horizon = 50
    objects: Mapping[str, SceneObject] = {}
    observation_keys = (
        "joint_position",
        "joint_velocity",
        "tool_position",
        "tool_quaternion",
        "goal_position",
    )

    def start(self, robot: RobotDescription, rng: np.random.Generator) -> Start:
        """See `Task`."""
        joints = robot.home + rng.normal(0.0, 0.02, len(robot.joints))
        opening = robot.gripper.width if robot.gripper else None
        low, high = GOALS_OF_ROBOTS_M.get(robot.name, GOALS_M)
        return Start(joints, opening, goals={"goal_position": rng.uniform(low, high)})

    def score(self, observation: Mapping[str, NDArray[Any]]) -> Score:
        """See `Task`."""
        distance = float(self.goal.distance(observation["tool_position"], observation["goal_position"]))
        return Score(-distance, distance <= self.goal.tolerance_m)
