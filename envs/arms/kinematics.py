"""Forward and inverse kinematics of a robot's tool, by Pinocchio.

Poses are in the robot's base frame (the URDF's root link). Quaternions are xyzw.
"""

from __future__ import annotations

import math
import operator

import eigenpy
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from understudy.envs.arms.arm import Pose
from understudy.envs.arms.robot import RobotDescription
from understudy.errors import InputError

Vector = NDArray[np.float64]

MIN_DAMPING = 1e-6
MOST_EXTRA_DAMPING = 1e4
"""Past this no step comes nearer: the tool is as near as it gets."""
FULL_POSE_JOINTS = 6
"""An arm with fewer joints cannot choose how its tool is turned; it is solved for the position alone."""

KEPT_POSES = 8
_EYES = {rows: np.eye(rows) for rows in (3, 6)}


class Kinematics:
    """Where the tool is for given joints, and which joints bring it somewhere."""

    def __init__(self, robot: RobotDescription) -> None:
        """Build the model with every joint locked that the robot's file does not list.

        Raises:
            InputError: the URDF cannot be read, or lacks the tool frame.
        """
        self._model = reduced_model(robot)
        self._data = self._model.createData()
        self._frame = self._model.getFrameId(robot.tool_frame)
        joints = [self._model.joints[self._model.getJointId(name)] for name in robot.joint_names]
        self._columns = np.array([joint.idx_v for joint in joints])
        self._order = np.array([joint.idx_q for joint in joints])
        self._endless = np.array([joint.nq == 2 for joint in joints])
        self._direct = not np.any(self._endless) and np.array_equal(self._order, np.arange(len(joints)))
        """Pinocchio's numbers are the robot's, in the same order."""
        self._poses: dict[bytes, Pose] = {}
        self._range = robot.joint_array("lower"), robot.joint_array("upper")
        self._lows, self._highs = (end.tolist() for end in self._range)
        self._rows = 6 if len(joints) >= FULL_POSE_JOINTS else 3
        """Numbers of a twist that joints are solved for."""

    def tool_pose(self, joint_position: Vector) -> Pose:
        """Pose of the tool frame for joints (J,) in rad; its arrays are read-only.

        A control tick asks for the pose of a set point or of a reading again and again: the last ones are kept.
        """
        asked = np.asarray(joint_position, np.float64).tobytes()
        pose = self._poses.get(asked)
        if pose is None:
            numbers = pin.SE3ToXYZQUAT(self._placement(joint_position))
            numbers.flags.writeable = False
            pose = Pose(numbers[:3], numbers[3:])
            if len(self._poses) >= KEPT_POSES:
                del self._poses[next(iter(self._poses))]
            self._poses[asked] = pose
        return pose

    def tool_position(self, joint_position: Vector) -> Vector:
        """Position (3,) of the tool frame in m: `tool_pose` without the rotation."""
        return np.array(self.tool_place(joint_position))

    def tool_place(self, joint_position: Vector) -> tuple[float, float, float]:
        """x, y and z of the tool frame in m, as plain floats."""
        x, y, z = self._placement(joint_position).translation.tolist()
        return x, y, z

    def tool_rows(self, joint_positions: Vector) -> Vector:
        """(K, 12) for joints (K, J): position and the nine numbers of the rotation matrix, row by row."""
        placements = (self._placement(joints) for joints in joint_positions)
        return np.array([[*placed.translation, *placed.rotation.ravel()] for placed in placements]).reshape(-1, 12)

    def jacobian(self, joint_position: Vector) -> Vector:
        """(6, J) Jacobian of the tool, linear then angular, expressed in axes parallel to the base frame."""
        return self._jacobian(joint_position, pin.LOCAL_WORLD_ALIGNED)

    def _jacobian(self, joint_position: Vector, axes: pin.ReferenceFrame) -> Vector:
        full: Vector = pin.computeFrameJacobian(
            self._model, self._data, self._to_model(joint_position), self._frame, axes
        )
        return full if self._direct else full[:, self._columns]

    def solve(self, pose: Pose, seed: Vector, *, iterations: int = 20, tolerance: float = 1e-5) -> Vector:
        """Joints (J,) that bring the tool to `pose`, or as near as limits allow, starting from `seed`.

        Levenberg-Marquardt on the pose error in SE(3), damped by the error itself so that the arm neither flips at a
        singularity nor thrashes at the edge of its reach (Sugihara 2011). A step that would come no nearer is damped
        more instead. Redundant joints stay near `seed` because every step is the smallest one. An arm of fewer than
        `FULL_POSE_JOINTS` joints is solved for the position alone. A pose that is not finite gives joints that are not,
        for the Guard to see.
        """
        goal = pin.SE3(pin.Quaternion(pose.quaternion), np.asarray(pose.position, np.float64))
        joints = np.array(seed, np.float64)
        error = self._error(joints, goal)
        square = float(error.dot(error))
        if not math.isfinite(square):
            return np.full_like(joints, np.nan)
        (lower, upper), extra = self._range, 1.0
        for _ in range(iterations):
            if square < tolerance**2 or extra > MOST_EXTRA_DAMPING:
                break
            step = self._step(joints, error, extra * (MIN_DAMPING + 0.5 * square), pin.LOCAL)
            candidate = np.minimum(np.maximum(joints + step, lower), upper)
            error_left = self._error(candidate, goal)
            left = float(error_left.dot(error_left))
            if left < square:
                joints, error, square, extra = candidate, error_left, left, max(1.0, extra / 10.0)
            else:
                extra *= 10.0
        return joints

    def step(self, joints: Vector, twist: Vector, damping: float = MIN_DAMPING) -> Vector:
        """The smallest change of joints (J,), to first order, that moves and turns the tool by `twist` (6,), m and rad.

        Joints that it would push past the limits they are at do not take part.
        """
        return self._step(joints, twist[: self._rows], damping, pin.LOCAL_WORLD_ALIGNED)

    def _step(self, joints: Vector, twist: Vector, damping: float, axes: pin.ReferenceFrame) -> Vector:
        """`step`, for a twist of as many numbers as joints are solved for, in the tool's axes or the base's."""
        jacobian = self._jacobian(joints, axes)
        if self._rows < 6:
            jacobian = jacobian[: self._rows]
        if all(map(operator.lt, self._lows, numbers := joints.tolist())) and all(
            map(operator.lt, numbers, self._highs)
        ):
            return _damped_step(jacobian, twist, damping)  # most often: no joint is at a limit
        lower, upper = self._range
        while True:
            step = _damped_step(jacobian, twist, damping)
            blocked = ((joints <= lower) & (step < 0)) | ((joints >= upper) & (step > 0))
            if not blocked.any():
                return step
            jacobian = np.where(blocked, 0.0, jacobian)

    def _error(self, joints: Vector, goal: pin.SE3) -> Vector:
        """The twist (6,) in the tool's axes that brings it to `goal` in one unit of time: the logarithm in SE(3).

        (3,), the translation alone, for an arm of few joints.
        """
        away = self._placement(joints).actInv(goal)
        return np.asarray(away.translation if self._rows == 3 else pin.log6(away).vector)

    def _placement(self, joint_position: Vector) -> pin.SE3:
        pin.forwardKinematics(self._model, self._data, self._to_model(joint_position))
        return pin.updateFramePlacement(self._model, self._data, self._frame)

    def _to_model(self, joint_position: Vector) -> Vector:
        if self._direct:
            return np.asarray(joint_position, np.float64)
        model = np.empty(self._model.nq)
        model[self._order] = np.where(self._endless, np.cos(joint_position), joint_position)
        # Pinocchio keeps a continuous joint as the cosine and the sine of its angle
        model[self._order[self._endless] + 1] = np.sin(np.asarray(joint_position)[self._endless])
        return model


def reduced_model(robot: RobotDescription) -> pin.Model:
    """Pinocchio's model of a robot with every joint locked that its file does not list.

    Raises:
        InputError: the URDF cannot be read.
    """
    path = robot.kinematics_path()
    try:
        full = pin.buildModelFromUrdf(str(path))
    except (ValueError, RuntimeError) as error:
        raise InputError(f"URDF {path} cannot be read: {error}") from error
    listed = set(robot.joint_names)
    locked = [index for index in range(1, full.njoints) if full.names[index] not in listed]
    return pin.buildReducedModel(full, locked, pin.neutral(full))


def _damped_step(jacobian: Vector, error: Vector, damping: float) -> Vector:
    """dq = J^T (J J^T + w I)^-1 e. What is inverted is symmetric and positive: Cholesky."""
    gram = jacobian.dot(jacobian.T)
    gram += damping * _EYES[len(error)]
    return np.asarray(eigenpy.LLT(gram).solve(error).dot(jacobian))
