"""Pick and place: bring a cube to a goal on the table or in the air."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.arm import Pose, Start
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.rotations import yaw_quaternion
from understudy.envs.tasks.scene import SceneObject, box
from understudy.envs.tasks.starts import ARM_KEYS, apart, closeness, distance, near_home, share
from understudy.envs.tasks.task import Goal, Score

HALF_EDGE_M = 0.02
LOW_M = (0.38, -0.18)
HIGH_M = (0.62, 0.18)
NEAREST_M = 0.08
MAX_YAW_RAD = np.pi / 4
IN_THE_AIR = 0.5
"""Share of the goals that are above the table."""
HEIGHT_M = (0.05, 0.20)
"""How far such a goal is above where the cube rests."""
LIFTED_M = 0.03


class PickPlace:
    """Cube and goal are drawn uniformly from x 0.38 to 0.62 m and y -0.18 to 0.18 m, at least 8 cm apart on the table,
    the cube turned by up to 45 degrees. Half of the goals are on the table, the others 5 to 20 cm above it.

    Success: the cube's centre is within 3 cm of the goal, gripped or not. Reward: 1 on success, otherwise
    0.2 (1 - tanh 5a) + 0.2 min(h / 0.03, 1) + 0.5 (1 - tanh 5d), in m: a the tool's distance from the cube, h the
    cube's height above rest, d its distance from the goal.
    """

    name = "pick_place"
    robots: tuple[str, ...] = ("panda", "xarm6")
    goal = Goal("object_position", "goal_position", 0.03)
    action_space = "tool_delta"
    action_labels = None
    horizon = 200
    objects: Mapping[str, SceneObject] = {"object": box((HALF_EDGE_M,) * 3, mass=0.1)}
    observation_keys = (*ARM_KEYS, "object_position", "object_quaternion", "goal_position")

    def start(self, robot: RobotDescription, rng: np.random.Generator) -> Start:
        """See `Task`."""
        gripper = robot.require_gripper()
        cube, goal = (np.array([*point, HALF_EDGE_M]) for point in apart(rng, LOW_M, HIGH_M, NEAREST_M))
        if rng.random() < IN_THE_AIR:
            goal[2] += rng.uniform(*HEIGHT_M)
        pose = Pose(cube, yaw_quaternion(float(rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD))))
        return Start(near_home(robot, rng), gripper.width, {"object": pose}, goals={"goal_position": goal})

    def score(self, observation: Mapping[str, NDArray[Any]]) -> Score:
        """See `Task`."""
        cube, goal = observation["object_position"], observation["goal_position"]
        if self.goal.reached(cube, goal):
            return Score(1.0, True)
        approach = closeness(distance(observation["tool_position"], cube))
        lifted = share(float(cube[2]) - HALF_EDGE_M, LIFTED_M)
        return Score(0.2 * approach + 0.2 * lifted + 0.5 * closeness(distance(cube, goal)), False)
