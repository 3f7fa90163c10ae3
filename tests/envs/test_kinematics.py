"""Kinematics against PyBullet's, against finite differences, and against itself."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pybullet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.envs.arms.arm import Pose
from understudy.envs.arms.kinematics import FULL_POSE_JOINTS, Kinematics
from understudy.envs.arms.robot import RobotDescription, known_robots, load_robot
from understudy.envs.arms.rotations import quaternion_multiply, quaternion_to_matrix, quaternion_to_rotvec
from understudy.errors import InputError

ROBOTS = tuple(known_robots())
INVERSE = np.array([-1.0, -1.0, -1.0, 1.0])


def random_joints(robot: RobotDescription, rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.uniform(robot.joint_array("lower"), robot.joint_array("upper"), (count, len(robot.joints)))


def turn_between(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.linalg.norm(quaternion_to_rotvec(quaternion_multiply(first, second * INVERSE))))


class PyBulletArm:
    """A robot's full URDF in PyBullet: where the simulator has its tool."""

    def __init__(self, robot: RobotDescription) -> None:
        self._client = pybullet.connect(pybullet.DIRECT)
        self._body = pybullet.loadURDF(str(robot.urdf_path()), useFixedBase=True, physicsClientId=self._client)
        count = pybullet.getNumJoints(self._body, self._client)
        infos = [pybullet.getJointInfo(self._body, index, self._client) for index in range(count)]
        joints = {info[1].decode(): index for index, info in enumerate(infos)}
        links = {info[12].decode(): index for index, info in enumerate(infos)}
        self._joints = [joints[name] for name in robot.joint_names]
        self._link, self._offset = links.get(robot.tool_frame), Pose(np.zeros(3))
        if self._link is None:  # a tool point that only the kinematics file has: fixed to a link of the full one
            root = ElementTree.parse(robot.kinematics_path()).getroot()  # noqa: S314 - our own file
            fixed = next(one for one in root.findall("joint") if one.find("child").get("link") == robot.tool_frame)
            assert fixed.get("type") == "fixed"
            assert _numbers(fixed.find("origin").get("rpy")) == [0, 0, 0]
            self._link = links[fixed.find("parent").get("link")]
            self._offset = Pose(np.array(_numbers(fixed.find("origin").get("xyz"))))

    def tool_pose(self, joints: np.ndarray) -> Pose:
        for joint, value in zip(self._joints, joints, strict=True):
            pybullet.resetJointState(self._body, joint, value, physicsClientId=self._client)
        link = pybullet.getLinkState(
            self._body, self._link, computeForwardKinematics=True, physicsClientId=self._client
        )
        turn = np.array(link[5]) / np.linalg.norm(link[5])  # PyBullet's is a unit quaternion to 1e-6 only
        return Pose(np.array(link[4]) + quaternion_to_matrix(turn) @ self._offset.position, turn)

    def close(self) -> None:
        pybullet.disconnect(self._client)


@pytest.fixture(scope="module", params=ROBOTS)
def both(request: pytest.FixtureRequest):
    robot = load_robot(request.param)
    simulated = PyBulletArm(robot)
    yield robot, Kinematics(robot), simulated
    simulated.close()


@given(where=st.lists(st.floats(0.0, 1.0), min_size=7, max_size=7))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tool_pose_is_pybullets_for_any_joints(both: tuple[RobotDescription, Kinematics, PyBulletArm], where: list):
    robot, kinematics, simulated = both
    lower, upper = robot.joint_array("lower"), robot.joint_array("upper")
    joints = lower + np.array(where[: len(lower)]) * (upper - lower)
    ours, theirs = kinematics.tool_pose(joints), simulated.tool_pose(joints)
    assert ours.position == pytest.approx(theirs.position, abs=1e-6)
    turned = quaternion_to_matrix(ours.quaternion) - quaternion_to_matrix(theirs.quaternion)
    assert np.abs(turned).max() < 1e-6
    assert np.array_equal(kinematics.tool_position(joints), ours.position)


def _numbers(text: str | None) -> list[float]:
    return [float(number) for number in (text or "0 0 0").split()]


def _joint_table(path: Path) -> dict[str, tuple]:
    table = {}
    for joint in ElementTree.parse(path).getroot().findall("joint"):  # noqa: S314 - our own files
        origin, axis, limit = (joint.find(tag) for tag in ("origin", "axis", "limit"))
        moves = joint.get("type") != "fixed"
        table[joint.get("name")] = (
            joint.get("type"),
            joint.find("parent").get("link"),
            joint.find("child").get("link"),
            *(_numbers(origin.get(part) if origin is not None else None) for part in ("xyz", "rpy")),
            _numbers(axis.get("xyz")) if moves and axis is not None else None,
            [float(limit.get(part, "nan")) for part in ("lower", "upper", "velocity", "effort")] if moves else None,
        )
    return table


@pytest.mark.parametrize("name", [name for name in known_robots() if load_robot(name).kinematics])
def test_the_shipped_kinematics_file_has_the_numbers_of_the_full_one(name: str):
    robot = load_robot(name)
    full, ours = _joint_table(robot.urdf_path()), _joint_table(robot.kinematics_path())
    added = ours.keys() - full.keys()
    assert all(ours.pop(joint)[0] == "fixed" for joint in added)  # a tool point
    assert ours.keys() == full.keys()
    for joint, row in ours.items():
        assert row == pytest.approx(full[joint], nan_ok=True) if row is None else row[:3] == full[joint][:3]
        for mine, theirs in zip(row[3:], full[joint][3:], strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                assert mine == pytest.approx(theirs, abs=1e-9, nan_ok=True), joint


@pytest.mark.parametrize("name", known_robots())
def test_the_jacobian_is_the_derivative_of_the_pose(name: str):
    robot = load_robot(name)
    kinematics = Kinematics(robot)
    step = 1e-6
    for sample in random_joints(robot, np.random.default_rng(1), 20):
        jacobian = kinematics.jacobian(sample)
        assert jacobian.shape == (6, len(robot.joints))
        for joint in range(len(robot.joints)):
            shift = step * np.eye(len(robot.joints))[joint]
            after, before = kinematics.tool_pose(sample + shift), kinematics.tool_pose(sample - shift)
            linear = (after.position - before.position) / (2 * step)
            turn = quaternion_to_rotvec(quaternion_multiply(after.quaternion, before.quaternion * INVERSE)) / (2 * step)
            assert jacobian[:, joint] == pytest.approx(np.concatenate([linear, turn]), abs=1e-6)


@pytest.mark.parametrize("name", ROBOTS)
def test_inverse_kinematics_reaches_reachable_poses_near_the_seed(name: str):
    robot = load_robot(name)
    kinematics = Kinematics(robot)
    rng = np.random.default_rng(2)
    lower, upper = robot.joint_array("lower"), robot.joint_array("upper")
    reached, count = 0, 400
    for goal_joints in random_joints(robot, rng, count):
        goal = kinematics.tool_pose(goal_joints)
        seed = np.clip(goal_joints + rng.uniform(-0.2, 0.2, len(lower)), lower, upper)
        kept = seed.copy()
        solved = kinematics.solve(goal, seed)
        assert np.array_equal(seed, kept)
        assert np.all(solved >= lower)
        assert np.all(solved <= upper)
        pose = kinematics.tool_pose(solved)
        near = np.linalg.norm(pose.position - goal.position) < 1e-4
        turned = turn_between(pose.quaternion, goal.quaternion)
        reached += bool(near and (turned < 1e-3 or len(lower) < FULL_POSE_JOINTS))
    assert reached >= 0.99 * count


@pytest.mark.parametrize("name", ROBOTS)
def test_a_pose_out_of_reach_gives_joints_within_limits_and_the_arm_stretched_towards_it(name: str):
    robot = load_robot(name)
    kinematics = Kinematics(robot)
    far = Pose(np.array([3.0, 0.0, 0.5]), kinematics.tool_pose(robot.home).quaternion)
    joints = kinematics.solve(far, robot.home, iterations=100)
    assert np.all((joints >= robot.joint_array("lower")) & (joints <= robot.joint_array("upper")))
    assert kinematics.tool_position(joints)[0] > kinematics.tool_position(robot.home)[0]


def test_where_the_tool_is_already_nothing_moves():
    robot = load_robot("panda")
    kinematics = Kinematics(robot)
    assert np.array_equal(kinematics.solve(kinematics.tool_pose(robot.home), robot.home), robot.home)


def _turntable(tmp_path: Path, kind: str) -> RobotDescription:
    (tmp_path / "turntable.urdf").write_text(
        f"""<robot name="turntable"><link name="base"/><link name="arm"/><link name="tip"/><link name="tool"/>
        <joint name="tilt" type="revolute"><parent link="base"/><child link="arm"/><axis xyz="0 1 0"/>
          <limit lower="-1" upper="1" velocity="1" effort="1"/></joint>
        <joint name="spin" type="{kind}"><parent link="arm"/><child link="tip"/><axis xyz="0 0 1"/>
          <limit lower="-9" upper="9" velocity="1" effort="1"/></joint>
        <joint name="end" type="fixed"><parent link="tip"/><child link="tool"/><origin xyz="0.3 0 0.2"/></joint>
        </robot>"""
    )
    joint = "lower: -1, upper: 1, velocity: 1, acceleration: 5, jerk: 50, effort: 1"
    (tmp_path / f"{kind}.yaml").write_text(
        f"""name: turntable
urdf: turntable.urdf
tool_frame: tool
joints:
  - {{name: spin, home: 0.2, {joint.replace("-1", "-7").replace("upper: 1", "upper: 7")}}}
  - {{name: tilt, home: 0.1, {joint}}}
workspace: {{low: [-1, -1, -1], high: [1, 1, 1]}}
"""
    )
    return load_robot(tmp_path / f"{kind}.yaml")


def test_a_continuous_joint_is_an_angle_like_any_other_whatever_the_order_in_the_file(tmp_path: Path):
    endless, limited = (Kinematics(_turntable(tmp_path, kind)) for kind in ("continuous", "revolute"))
    for joints in np.random.default_rng(3).uniform([-7, -1], [7, 1], (20, 2)):
        tilt, spin = joints[1], joints[0]
        by_hand = quaternion_to_matrix(np.array([0, np.sin(tilt / 2), 0, np.cos(tilt / 2)])) @ [
            0.3 * np.cos(spin),
            0.3 * np.sin(spin),
            0.2,
        ]
        assert endless.tool_position(joints) == pytest.approx(by_hand, abs=1e-9)
        assert limited.tool_position(joints) == pytest.approx(by_hand, abs=1e-9)
        assert endless.jacobian(joints) == pytest.approx(limited.jacobian(joints), abs=1e-9)


def test_a_urdf_that_pinocchio_cannot_build_is_named(tmp_path: Path):
    robot = _turntable(tmp_path, "revolute")
    (tmp_path / "turntable.urdf").write_text("<robot name='r'><link name='a'/><link name='b'/></robot>")
    with pytest.raises(InputError, match=r"URDF .*turntable\.urdf cannot be read"):
        Kinematics(robot)
