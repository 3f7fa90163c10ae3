"""Forward and inverse kinematics of a robot's tool, by Pinocchio.

Poses are in the robot's base frame (the URDF's root link). Quaternions are xyzw.
"""

from __future__ import annotations

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from understudy.envs.arms.arm import Pose
from understudy.envs.arms.robot import RobotDescription
from understudy.errors import InputError

Vector = NDArray[np.float64]


class Kinematics:
    """Where the tool is for given joints, and which joints bring it somewhere."""

    def __init__(self, robot: RobotDescription) -> None:
        """Build the model with every joint locked that the robot's file does not list.

        Raises:
            InputError: the URDF cannot be read, or lacks the tool frame.
        """
        path = robot.kinematics_path()
        try:
            full = pin.buildModelFromUrdf(str(path))
        except ValueError as error:
            raise InputError(f"URDF {path} cannot be read: {error}") from error
        listed = set(robot.joint_names)
        locked = [index for index in range(1, full.njoints) if full.names[index] not in listed]
        self._model = pin.buildReducedModel(full, locked, pin.neutral(full))
        self._data = self._model.createData()
        self._frame = self._model.getFrameId(robot.tool_frame)
        order = [self._model.joints[self._model.getJointId(name)].idx_q for name in robot.joint_names]
        self._order = np.array(order)
        self._lower, self._upper = robot.joint_array("lower"), robot.joint_array("upper")

    def tool_pose(self, joint_position: Vector) -> Pose:
        """Pose of the tool frame for joints (J,) in rad."""
        placement = self._placement(joint_position)
        return Pose(placement.translation.copy(), pin.Quaternion(placement.rotation).coeffs().copy())

    def tool_position(self, joint_position: Vector) -> Vector:
        """Position (3,) of the tool frame in m: `tool_pose` without the rotation."""
        return np.array(self._placement(joint_position).translation)

    def jacobian(self, joint_position: Vector) -> Vector:
        """(6, J) Jacobian of the tool, linear then angular, expressed in axes parallel to the base frame."""
        full = pin.computeFrameJacobian(
            self._model, self._data, self._to_model(joint_position), self._frame, pin.LOCAL_WORLD_ALIGNED
        )
        return np.asarray(full[:, self._order], np.float64)

    def solve(self, pose: Pose, seed: Vector, *, iterations: int = 20, tolerance: float = 1e-5) -> Vector:
        """Joints (J,) that bring the tool to `pose`, or as near as limits allow, starting from `seed`.

        Damped least squares on the pose error in SE(3), with the part of each step that pushes a joint past its limit
        removed (Nakamura and Hanafusa 1986; Buss 2004). Redundant joints stay near `seed` because every step is the
        smallest one.
        """
        goal = pin.SE3(pin.Quaternion(pose.quaternion), np.asarray(pose.position, np.float64))
        joints = np.array(seed, np.float64)
        for _ in range(iterations):
            placement = self._placement(joints)
            error = _pose_error(placement, goal)
            if float(error @ error) < tolerance**2:
                break
            jacobian = self.jacobian(joints)
            step = _damped_step(jacobian, error)
            blocked = ((joints <= self._lower) & (step < 0)) | ((joints >= self._upper) & (step > 0))
            if np.any(blocked):
                step = _damped_step(np.where(blocked, 0.0, jacobian), error)
            joints = np.clip(joints + step, self._lower, self._upper)
        return joints

    def _placement(self, joint_position: Vector) -> pin.SE3:
        pin.framesForwardKinematics(self._model, self._data, self._to_model(joint_position))
        return self._data.oMf[self._frame]

    def _to_model(self, joint_position: Vector) -> Vector:
        model = np.empty(self._model.nq)
        model[self._order] = joint_position
        return model


def _pose_error(current: pin.SE3, goal: pin.SE3) -> Vector:
    """(6,) translation and rotation vector that bring `current` to `goal`, in base axes."""
    rotation = pin.log3(goal.rotation @ current.rotation.T)
    return np.concatenate([goal.translation - current.translation, rotation])


def _damped_step(jacobian: Vector, error: Vector, damping: float = 1e-3) -> Vector:
    """dq = J^T (J J^T + d^2 I)^-1 e."""
    gram = jacobian @ jacobian.T + damping**2 * np.eye(6)
    return np.asarray(jacobian.T @ np.linalg.solve(gram, error))
