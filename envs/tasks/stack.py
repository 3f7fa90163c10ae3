"""Stack: put a cube on another one and let it go."""

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
from understudy.envs.tasks.task import Score

HALF_EDGE_M = 0.02
HALF_EDGE_BASE_M = 0.025
LOW_M = (0.38, -0.16)
HIGH_M = (0.60, 0.16)
NEAREST_M = 0.11
"""Between the cubes' centres: room for a hand around either."""
MAX_YAW_RAD = np.pi / 4
UP_M = HALF_EDGE_M + HALF_EDGE_BASE_M
BESIDE_M = 0.02
LEVEL_M = 0.005
RELEASED_M = 0.05
"""A gripper this far open holds no cube of 4 cm."""
BASE_COLOUR = (0.25, 0.45, 0.75, 1.0)


class Stack:
    """A cube of 4 cm and a base of 5 cm are drawn uniformly from x 0.38 to 0.60 m and y -0.16 to 0.16 m, their centres
    at least 11 cm apart, each turned by up to 45 degrees.

    Success: the cube's centre is within 2 cm of the base's axis and within 5 mm of the height it has when it rests on
    top, and the gripper is at least 5 cm open. Reward: 1 on success, otherwise
    0.2 (1 - tanh 5a) + 0.2 min(h / 0.05, 1) + 0.5 (1 - tanh 5d), in m: a the tool's distance from the cube, h the
    cube's height above rest, d its distance from its place on top.
    """

    name = "stack"
    robots: tuple[str, ...] = ("panda", "xarm6")
    goal = None
    action_space = "tool_delta"
    action_labels = None
    horizon = 240
    objects: Mapping[str, SceneObject] = {
        "object": box((HALF_EDGE_M,) * 3, mass=0.1),
        "object_base": box((HALF_EDGE_BASE_M,) * 3, mass=0.3, colour=BASE_COLOUR),
    }
    observation_keys = (
        *ARM_KEYS,
        "object_position",
        "object_quaternion",
        "object_base_position",
        "object_base_quaternion",
    )

    def start(self, robot: RobotDescription, rng: np.random.Generator) -> Start:
        """See `Task`."""
        gripper = robot.require_gripper()
        places = apart(rng, LOW_M, HIGH_M, NEAREST_M)
        poses = {}
        for (name, thing), place in zip(self.objects.items(), places, strict=True):
            yaw = float(rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD))
            poses[name] = Pose(np.array([*place, thing.shapes[0].half_extents[2]]), yaw_quaternion(yaw))
        return Start(near_home(robot, rng), gripper.width, poses)

    def score(self, observation: Mapping[str, NDArray[Any]]) -> Score:
        """See `Task`."""
        cube, base = observation["object_position"], observation["object_base_position"]
        on_top = np.asarray(base, np.float64) + np.array([0.0, 0.0, UP_M])
        away = np.asarray(cube, np.float64) - on_top
        released = float(observation["gripper_position"][0]) >= RELEASED_M
        if np.linalg.norm(away[:2]) <= BESIDE_M and abs(away[2]) <= LEVEL_M and released:
            return Score(1.0, True)
        approach = closeness(distance(observation["tool_position"], cube))
        lifted = share(float(cube[2]) - HALF_EDGE_M, 0.05)
        return Score(0.2 * approach + 0.2 * lifted + 0.5 * closeness(distance(cube, on_top)), False)
