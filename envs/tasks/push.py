"""Push: slide a puck over the table to a goal, without gripping it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.arm import Pose, Start
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.rotations import yaw_quaternion
from understudy.envs.tasks.scene import SceneObject, cylinder
from understudy.envs.tasks.starts import apart, closeness, distance, near_home
from understudy.envs.tasks.task import Goal, Score

RADIUS_M = 0.04
HALF_HEIGHT_M = 0.02
REGION_M = ((0.40, -0.15), (0.62, 0.15))
"""The rectangle that puck and goal are drawn from: its nearest and its furthest corner."""
REGION_OF_ROBOTS_M = {"kuka_iiwa": ((0.50, -0.15), (0.63, 0.15))}
"""The same for robots that cannot point down as near to themselves."""
NEAREST_M = 0.08


class Push:
    """Puck and goal are drawn uniformly from x 0.40 to 0.62 m and y -0.15 to 0.15 m, at least 8 cm apart (x 0.50
    to 0.63 m on kuka_iiwa, whose elbow bends less and whose flange is wider); a gripper is shut.

    Success: the puck's centre is within 3 cm of the goal. Reward: 1 on success, otherwise
    0.2 (1 - tanh 5a) + 0.6 (1 - tanh 5d), a the tool's distance from the puck and d the puck's from the goal, in m.
    """

    name = "push"
    robots: tuple[str, ...] = ("panda", "kuka_iiwa", "xarm6")
    goal = Goal("object_position", "goal_position", 0.03)
    action_space = "tool_delta"
    action_labels = ("x", "y", "z")
    horizon = 200
    objects: Mapping[str, SceneObject] = {"object": cylinder(RADIUS_M, HALF_HEIGHT_M, mass=0.2, friction=0.5)}
    observation_keys = (
        "joint_position",
        "joint_velocity",
        "tool_position",
        "tool_quaternion",
        "object_position",
        "object_quaternion",
        "goal_position",
    )

    def start(self, robot: RobotDescription, rng: np.random.Generator) -> Start:
        """See `Task`."""
        low, high = REGION_OF_ROBOTS_M.get(robot.name, REGION_M)
        puck, goal = (np.array([*point, HALF_HEIGHT_M]) for point in apart(rng, low, high, NEAREST_M))
        pose = Pose(puck, yaw_quaternion(float(rng.uniform(-np.pi, np.pi))))
        opening = 0.0 if robot.gripper else None
        return Start(near_home(robot, rng), opening, {"object": pose}, goals={"goal_position": goal})

    def score(self, observation: Mapping[str, NDArray[Any]]) -> Score:
        """See `Task`."""
        puck, goal = observation["object_position"], observation["goal_position"]
        if self.goal.reached(puck, goal):
            return Score(1.0, True)
        approach = closeness(distance(observation["tool_position"], puck))
        return Score(0.2 * approach + 0.6 * closeness(distance(puck, goal)), False)
