"""Insert: put a square peg into a hole that is 1 mm wider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.arm import Pose, Start
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.rotations import yaw_quaternion
from understudy.envs.tasks.scene import Colour, SceneObject, Shape, box
from understudy.envs.tasks.starts import ARM_KEYS, apart, closeness, distance, near_home, share
from understudy.envs.tasks.task import Score

HALF_WIDTH_M = 0.015
HALF_LENGTH_M = 0.045
CLEARANCE_M = 0.001
"""The hole is this much wider than the peg."""
DEPTH_M = 0.04
"""Of the hole, which goes through the block."""
BLOCK_HALF_M = 0.045
INSERTED_M = 0.03
BESIDE_M = 0.005
LOW_M = (0.38, -0.15)
HIGH_M = (0.58, 0.15)
NEAREST_M = 0.13
MAX_YAW_RAD = np.pi / 4
BLOCK_COLOUR: Colour = (0.35, 0.38, 0.42, 1.0)
PEG_COLOUR: Colour = (0.95, 0.65, 0.15, 1.0)


def block() -> SceneObject:
    """Four walls around the hole; stands still, and is smooth, so that a peg slides in rather than jams."""
    hole = HALF_WIDTH_M + CLEARANCE_M / 2
    thick, height = (BLOCK_HALF_M - hole) / 2, DEPTH_M / 2
    walls = []
    for side in (-1.0, 1.0):
        at = side * (hole + thick)
        walls.append(Shape("box", (thick, BLOCK_HALF_M, height), (at, 0.0, 0.0), BLOCK_COLOUR))
        walls.append(Shape("box", (hole, thick, height), (0.0, at, 0.0), BLOCK_COLOUR))
    return SceneObject(tuple(walls), mass=0.0, friction=0.2)


class Insert:
    """Peg (3 x 3 x 9 cm, upright) and block (9 x 9 x 4 cm) are drawn uniformly from x 0.38 to 0.58 m and y -0.15 to
    0.15 m, their axes at least 13 cm apart, each turned by up to 45 degrees.

    Success: the peg is at least 3 cm deep in the hole. Reward: 1 on success, otherwise
    0.2 (1 - tanh 5a) + 0.2 g + 0.3 (1 - tanh 10l) + 0.3 z, in m: a the tool's distance from the peg;
    g = min(h / 0.04, 1), h the peg's height above the table, and 1 where it is in the hole; l the distance between the
    axes of peg and hole; z the depth reached in the hole over 0.03.
    """

    name = "insert"
    robots: tuple[str, ...] = ("panda", "xarm6")
    goal = None
    action_space = "tool_delta"
    action_labels = None
    horizon = 300
    objects: Mapping[str, SceneObject] = {
        "object": box((HALF_WIDTH_M, HALF_WIDTH_M, HALF_LENGTH_M), mass=0.08, colour=PEG_COLOUR),
        "object_hole": block(),
    }
    observation_keys = (
        *ARM_KEYS,
        "object_position",
        "object_quaternion",
        "object_hole_position",
        "object_hole_quaternion",
    )

    def start(self, robot: RobotDescription, rng: np.random.Generator) -> Start:
        """See `Task`."""
        gripper = robot.require_gripper()
        peg, hole = apart(rng, LOW_M, HIGH_M, NEAREST_M)
        turns = [yaw_quaternion(float(yaw)) for yaw in rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD, 2)]
        poses = {
            "object": Pose(np.array([*peg, HALF_LENGTH_M]), turns[0]),
            "object_hole": Pose(np.array([*hole, DEPTH_M / 2]), turns[1]),
        }
        return Start(near_home(robot, rng), gripper.width, poses)

    def score(self, observation: Mapping[str, NDArray[Any]]) -> Score:
        """See `Task`."""
        peg, hole = observation["object_position"], observation["object_hole_position"]
        beside = float(np.hypot(*(np.asarray(peg, np.float64) - hole)[:2]))
        above = float(peg[2]) - HALF_LENGTH_M
        depth = DEPTH_M - above if beside <= BESIDE_M else 0.0
        if depth >= INSERTED_M:
            return Score(1.0, True)
        approach = closeness(distance(observation["tool_position"], peg))
        lifted = 1.0 if depth > 0.0 else share(above, DEPTH_M)
        inside = max(0.0, depth) / INSERTED_M
        return Score(0.2 * approach + 0.2 * lifted + 0.3 * closeness(beside, 10.0) + 0.3 * inside, False)
