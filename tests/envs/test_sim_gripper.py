"""Simulated grippers hold what they grip, and the fingers of one motor move together."""

from __future__ import annotations

import numpy as np
import pybullet
import pytest

from understudy.envs.arms.arm import Command, Pose, Start
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import known_robots, load_robot
from understudy.envs.arms.rotations import yaw_quaternion
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.tasks.scene import SceneObject, box

GRIPPERS = [name for name in known_robots() if load_robot(name).gripper]
DOWN = np.array([1.0, 0.0, 0.0, 0.0])
PLACE = np.array([0.42, 0.05, 0.0])


def follow(arm: SimArm, path: list[np.ndarray], width: float) -> None:
    for joints in path:
        arm.send(Command(joints, width))
        arm.clock.sleep_until(arm.clock.now_ns() + round(1e9 / arm.describe().rate_hz))


def lifted_and_shaken(name: str, thing: SceneObject, height: float, beside: float, yaw: float) -> tuple[Pose, Pose]:
    """Where an object is after it was gripped and lifted 20 cm, and after it was then shaken for 4 s."""
    robot = load_robot(name)
    kinematics = Kinematics(robot)
    at = PLACE + np.array([0.0, 0.0, height])
    low = kinematics.solve(Pose(at + np.array([0.0, beside, 0.0]), DOWN), robot.home, iterations=100)
    high = kinematics.solve(Pose(at + np.array([0.0, beside, 0.2]), DOWN), low, iterations=100)
    arm = SimArm(robot, {"object": thing})
    arm.reset(Start(low, None, {"object": Pose(at, yaw_quaternion(yaw))}))
    follow(arm, 12 * [low], 0.0)
    follow(arm, [low + share * (high - low) for share in np.linspace(0, 1, 25)] + 10 * [high], 0.0)
    lifted = arm.object_pose("object")
    shakes = np.zeros((80, len(high)))
    shakes[:, 0], shakes[:, 1] = 0.15 * np.sin(0.5 * np.arange(80)), 0.08 * np.sin(0.8 * np.arange(80))
    follow(arm, [*(high + shakes), *(10 * [high])], 0.0)
    shaken = arm.object_pose("object")
    arm.close()
    return lifted, shaken


@pytest.mark.parametrize("name", GRIPPERS)
@pytest.mark.parametrize(("beside", "yaw"), [(0.0, 0.0), (0.006, 0.1)])
@pytest.mark.parametrize(
    ("thing", "height"),
    [(box((0.02, 0.02, 0.02), 0.1), 0.02), (box((0.01, 0.01, 0.05), 0.05), 0.05)],
    ids=["cube", "peg"],
)
def test_a_cube_and_a_slim_peg_are_held(name: str, thing: SceneObject, height: float, beside: float, yaw: float):
    lifted, shaken = lifted_and_shaken(name, thing, height, beside, yaw)
    assert lifted.position[2] == pytest.approx(height + 0.2, abs=0.015)
    # fingers with a motor each, pressed against each other by equal forces, may wander sideways together
    assert np.linalg.norm(shaken.position - lifted.position) < (0.03 if name == "panda" else 0.01)
    assert shaken.position[2] == pytest.approx(lifted.position[2], abs=0.005)


def test_the_fingers_of_one_motor_move_together_also_when_one_is_in_the_way():
    robot = load_robot("xarm6")
    kinematics = Kinematics(robot)
    low = kinematics.solve(Pose(PLACE + np.array([0.0, 0.012, 0.02]), DOWN), robot.home, iterations=100)
    arm = SimArm(robot, {"object": box((0.02, 0.02, 0.02), 0.1)})

    def fingers() -> np.ndarray:
        return np.array([state[0] for state in arm._states(arm._fingers)])

    arm.reset(Start(low, None, {"object": Pose(np.array([0.42, 0.05, 0.02]))}))
    for _ in range(12):
        follow(arm, [low], 0.0)
        assert np.ptp(fingers()) < 0.08
    assert 0.3 < fingers().mean() < 0.6  # the cube is between them
    arm.reset(Start(robot.home))
    for _ in range(12):
        follow(arm, [robot.home], 0.0)
        assert np.ptp(fingers()) < 0.02
    assert fingers() == pytest.approx(np.full(6, 0.85), abs=0.02)
    arm.close()


def test_what_the_file_says_of_the_gripper_is_what_the_simulator_does():
    robot = load_robot("xarm6")
    assert robot.gripper is not None
    arm = SimArm(robot)
    arm.reset(Start(robot.home))
    for width in (0.08, 0.05, 0.02, 0.0):
        follow(arm, 12 * [robot.home], width)
        assert arm.observe()["gripper_position"] == pytest.approx([width], abs=2e-3)
        fingers = dict(zip(robot.gripper.joints, arm._fingers, strict=True))
        pads = fingers["left_finger_joint"], fingers["right_finger_joint"]
        points = pybullet.getClosestPoints(arm._body, arm._body, 1.0, *pads, physicsClientId=arm._client)
        assert min(point[8] for point in points) == pytest.approx(width, abs=0.004)
    arm.close()
