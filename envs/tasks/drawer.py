"""Drawer: pull a drawer open by its handle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.arm import Pose, Start
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.rotations import yaw_quaternion
from understudy.envs.tasks.scene import Colour, SceneObject, Shape, Slide
from understudy.envs.tasks.starts import ARM_KEYS, closeness, distance, near_home, share
from understudy.envs.tasks.task import Score

OPEN_M = 0.12
TRAVEL_M = 0.18
MAX_START_OPENING_M = 0.02
HANDLE_M = 0.07
"""Height of the handle, and how far it stands out of the front."""
HANDLE_RADIUS_M = 0.009
LOW_M = (0.50, -0.12)
HIGH_M = (0.60, 0.12)
MAX_YAW_RAD = 0.35
WOOD: Colour = (0.78, 0.62, 0.42, 1.0)
FRONT: Colour = (0.88, 0.74, 0.55, 1.0)
METAL: Colour = (0.35, 0.37, 0.40, 1.0)


def drawer() -> SceneObject:
    """A drawer of 20 x 20 x 8 cm in a cabinet. Its origin is the middle of the handle, an upright post."""
    front = HANDLE_M
    inner = (
        Shape("cylinder", (HANDLE_RADIUS_M, HANDLE_RADIUS_M, 0.025), (0.0, 0.0, 0.0), METAL),
        Shape("box", (HANDLE_M / 2 - 0.004, 0.005, 0.005), (HANDLE_M / 2, 0.0, -0.012), METAL),
        Shape("box", (0.006, 0.10, 0.04), (front + 0.006, 0.0, 0.0), FRONT),
        Shape("box", (0.09, 0.095, 0.003), (front + 0.10, 0.0, -0.035), WOOD),
        Shape("box", (0.09, 0.004, 0.03), (front + 0.10, 0.09, -0.008), WOOD),
        Shape("box", (0.09, 0.004, 0.03), (front + 0.10, -0.09, -0.008), WOOD),
    )
    cabinet = (
        Shape("box", (0.105, 0.12, 0.008), (front + 0.117, 0.0, 0.052), WOOD),
        Shape("box", (0.105, 0.12, 0.008), (front + 0.117, 0.0, -HANDLE_M + 0.008), WOOD),
        Shape("box", (0.105, 0.008, 0.05), (front + 0.117, 0.112, -0.006), WOOD),
        Shape("box", (0.105, 0.008, 0.05), (front + 0.117, -0.112, -0.006), WOOD),
        Shape("box", (0.008, 0.104, 0.05), (front + 0.214, 0.0, -0.006), WOOD),
    )
    return SceneObject(inner, mass=0.5, slide=Slide((-1.0, 0.0, 0.0), TRAVEL_M, cabinet, friction_n=3.0))


class Drawer:
    """The closed drawer's handle is drawn uniformly from x 0.50 to 0.60 m and y -0.12 to 0.12 m, the cabinet turned by
    up to 20 degrees, the drawer up to 2 cm open already.

    Success: it is open by at least 12 cm. Reward: 1 on success, otherwise 0.3 (1 - tanh 5a) + 0.6 o / 0.12, a the
    tool's distance from the handle and o the opening, in m.
    """

    name = "drawer"
    robots: tuple[str, ...] = ("panda", "xarm6")
    goal = None
    action_space = "tool_delta"
    action_labels = None
    horizon = 200
    objects: Mapping[str, SceneObject] = {"object": drawer()}
    observation_keys = (*ARM_KEYS, "object_position", "object_quaternion", "object_opening")

    def start(self, robot: RobotDescription, rng: np.random.Generator) -> Start:
        """See `Task`."""
        gripper = robot.require_gripper()
        closed = np.array([*rng.uniform(LOW_M, HIGH_M), HANDLE_M])
        yaw = float(rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD))
        opening = float(rng.uniform(0.0, MAX_START_OPENING_M))
        handle = closed - opening * np.array([np.cos(yaw), np.sin(yaw), 0.0])
        pose = Pose(handle, yaw_quaternion(yaw))
        return Start(near_home(robot, rng), gripper.width, {"object": pose}, {"object": opening})

    def score(self, observation: Mapping[str, NDArray[Any]]) -> Score:
        """See `Task`."""
        opening = float(observation["object_opening"][0])
        if opening >= OPEN_M:
            return Score(1.0, True)
        approach = closeness(distance(observation["tool_position"], observation["object_position"]))
        return Score(0.3 * approach + 0.6 * share(opening, OPEN_M), False)
