"""The torques that a motion needs, by Pinocchio: inverse dynamics of the masses in a robot's kinematics URDF.

Counts inertia, gravity and the payload. Does not count friction and what the gears of the motors carry along.
"""

from __future__ import annotations

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from understudy.envs.arms.kinematics import reduced_model
from understudy.envs.arms.robot import RobotDescription

Vector = NDArray[np.float64]


class Dynamics:
    """Torques of the arm's joints; fingers and other joints stand where the URDF's zero is."""

    def __init__(self, robot: RobotDescription) -> None:
        """Build the model, with the robot's payload at its tool.

        Raises:
            InputError: the URDF cannot be read.
        """
        self._model = reduced_model(robot)
        tool = self._model.frames[self._model.getFrameId(robot.tool_frame)]
        joints = [self._model.getJointId(name) for name in robot.joint_names]
        self.known = all(_moved_mass(self._model, joint) > 0.0 for joint in joints)
        """Whether the URDF gives a mass to what each joint moves; without, torques mean nothing."""
        if robot.payload_kg > 0.0:
            point = pin.Inertia(robot.payload_kg, np.zeros(3), np.zeros((3, 3)))
            self._model.appendBodyToJoint(tool.parentJoint, point, tool.placement)
        self._data = self._model.createData()
        self._position = np.array([self._model.joints[joint].idx_q for joint in joints])
        self._velocity = np.array([self._model.joints[joint].idx_v for joint in joints])
        self._endless = np.array([self._model.joints[joint].nq == 2 for joint in joints])
        count = len(joints)
        self._direct = not np.any(self._endless) and np.array_equal(self._position, np.arange(count))

    def torque(self, position: Vector, velocity: Vector, acceleration: Vector) -> Vector:
        """(J,) N m for joints (J,) in rad, rad/s and rad/s^2: M(q) a + C(q, v) v + g(q), by recursive Newton-Euler."""
        if self._direct:
            return np.asarray(pin.rnea(self._model, self._data, position, velocity, acceleration))
        angles, speeds, changes = np.zeros(self._model.nq), np.zeros(self._model.nv), np.zeros(self._model.nv)
        angles[self._position] = np.where(self._endless, np.cos(position), position)
        angles[self._position[self._endless] + 1] = np.sin(position[self._endless])
        speeds[self._velocity], changes[self._velocity] = velocity, acceleration
        return np.asarray(pin.rnea(self._model, self._data, angles, speeds, changes)[self._velocity])

    def torques(self, positions: Vector, velocities: Vector, accelerations: Vector) -> Vector:
        """`torque` of K moments: (K, J) each, and (K, J) N m."""
        # Pinocchio's own call for many would set the whole process's OpenMP, and with it torch, to its threads
        return np.array(list(map(self.torque, positions, velocities, accelerations)))


def _moved_mass(model: pin.Model, joint: int) -> float:
    """kg of everything that a joint carries."""
    return float(sum(model.inertias[below].mass for below in model.subtrees[joint]))
