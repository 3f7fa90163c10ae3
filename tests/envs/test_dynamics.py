"""Torques against PyBullet's inverse dynamics, and against the laws that they follow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pybullet
import pytest

from understudy.envs.arms.dynamics import Dynamics
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import RobotDescription, known_robots, load_robot

GRAVITY_M_S2 = 9.81


def motions(robot: RobotDescription, seed: int, count: int):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        position = rng.uniform(robot.joint_array("lower"), robot.joint_array("upper"))
        rates = (rng.uniform(-1, 1, len(position)) * robot.joint_array(field) for field in ("velocity", "acceleration"))
        yield position, *rates


@pytest.mark.parametrize("name", known_robots())
def test_torques_are_what_pybullet_needs_to_move_its_own_arm(name: str):
    robot = load_robot(name)
    dynamics = Dynamics(robot)
    assert dynamics.known
    client = pybullet.connect(pybullet.DIRECT)
    pybullet.setGravity(0.0, 0.0, -GRAVITY_M_S2, physicsClientId=client)
    body = pybullet.loadURDF(str(robot.urdf_path()), useFixedBase=True, physicsClientId=client)
    infos = [pybullet.getJointInfo(body, index, client) for index in range(pybullet.getNumJoints(body, client))]
    moving = [info for info in infos if info[2] != pybullet.JOINT_FIXED]
    for info in moving:
        pybullet.changeDynamics(body, info[0], jointDamping=0.0, physicsClientId=client)
    order = [[info[1].decode() for info in moving].index(joint) for joint in robot.joint_names]
    for motion in motions(robot, 0, 100):
        parts = []
        for part in motion:
            full = np.zeros(len(moving))
            full[order] = part
            parts.append(full.tolist())
        theirs = np.array(pybullet.calculateInverseDynamics(body, *parts, physicsClientId=client))[order]
        assert dynamics.torque(*motion) == pytest.approx(theirs, abs=1e-4)
    pybullet.disconnect(client)


@pytest.mark.parametrize("name", known_robots())
def test_a_payload_adds_its_weight_at_the_tool(name: str):
    robot = load_robot(name)
    loaded, bare = Dynamics(robot.model_copy(update={"payload_kg": 1.5})), Dynamics(robot)
    kinematics = Kinematics(robot)
    still = np.zeros(len(robot.joints))
    for position, _, _ in motions(robot, 1, 20):
        weight = kinematics.jacobian(position)[2] * 1.5 * GRAVITY_M_S2
        assert loaded.torque(position, still, still) - bare.torque(position, still, still) == pytest.approx(
            weight, abs=1e-9
        )


def test_torques_at_rest_hold_the_arm_and_torques_of_speed_grow_with_its_square():
    dynamics = Dynamics(load_robot("panda"))
    for position, velocity, acceleration in motions(load_robot("panda"), 2, 20):
        still = np.zeros(7)
        gravity = dynamics.torque(position, still, still)
        of_speed = dynamics.torque(position, velocity, still) - gravity
        assert dynamics.torque(position, 2 * velocity, still) - gravity == pytest.approx(4 * of_speed, abs=1e-9)
        of_change = dynamics.torque(position, still, acceleration) - gravity
        assert dynamics.torque(position, still, -acceleration) - gravity == pytest.approx(-of_change, abs=1e-9)
        assert acceleration @ of_change > 0.0  # the mass matrix is positive definite


@pytest.mark.parametrize("kind", ["continuous", "revolute"])
def test_a_pendulum_is_held_by_its_weight_whatever_the_kind_and_order_of_its_joints(tmp_path: Path, kind: str):
    (tmp_path / "pendulum.urdf").write_text(
        f"""<robot name="p"><link name="base"/>
        <link name="turned"><inertial><mass value="1"/>
        <inertia ixx="1e-9" ixy="0" ixz="0" iyy="1e-9" iyz="0" izz="1e-9"/></inertial></link>
        <link name="bob"><inertial><origin xyz="0.5 0 0"/>
        <mass value="2"/><inertia ixx="1e-9" ixy="0" ixz="0" iyy="1e-9" iyz="0" izz="1e-9"/></inertial></link>
        <joint name="turn" type="revolute"><parent link="base"/><child link="turned"/><axis xyz="0 0 1"/>
          <limit lower="-9" upper="9" velocity="9" effort="99"/></joint>
        <joint name="swing" type="{kind}"><parent link="turned"/><child link="bob"/><axis xyz="0 1 0"/>
          <limit lower="-9" upper="9" velocity="9" effort="99"/></joint></robot>"""
    )
    numbers = "home: 0.0, lower: -3, upper: 3, velocity: 1, acceleration: 5, jerk: 50, effort: 50"
    (tmp_path / "pendulum.yaml").write_text(
        f"""name: pendulum
urdf: pendulum.urdf
tool_frame: bob
joints:
  - {{name: swing, {numbers}}}
  - {{name: turn, {numbers}}}
workspace: {{low: [-1, -1, -1], high: [1, 1, 1]}}
"""
    )
    dynamics = Dynamics(load_robot(tmp_path / "pendulum.yaml"))
    still = np.zeros(2)
    for angle in np.linspace(-3, 3, 13):
        held = dynamics.torque(np.array([angle, 0.7]), still, still)
        # turning about +y by a positive angle lowers the bob: it must be held up against that
        assert held == pytest.approx([-2 * GRAVITY_M_S2 * 0.5 * np.cos(angle), 0.0], abs=1e-6)


def test_looking_at_a_path_leaves_the_threads_of_the_process_alone():
    """Pinocchio's call for many moments once set torch, which shares its OpenMP, to one thread."""
    script = (
        "import torch, numpy as np\n"
        "from understudy.envs.make import make_env\n"
        "torch.set_num_threads(2)\n"
        "env = make_env('reach')\n"
        "env.reset(seed=0)\n"
        "env.step(np.ones(env.action_space.shape, np.float32))\n"
        "print('threads', torch.get_num_threads())\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert "threads 2" in told.stdout
