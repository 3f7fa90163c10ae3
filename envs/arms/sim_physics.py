"""An episode's physics of the simulated arm and its world: masses, frictions, damping, gravity.

Owns what is set once an episode, and joint friction, which is a torque of each physics step. Objects and table are
`sim_scene.py`'s, motors `sim_motors.py`'s, readings `sim_sensors.py`'s, looks `sim_looks.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pybullet

from understudy.envs.arms.sim_dynamics import Dynamics
from understudy.envs.arms.sim_scene import SPINNING_FRICTION

DAMPING = 0.04
FINGER_FRICTION = 1.0
STICK_RAD_S = 0.02
"""Coulomb friction is smoothed below this joint speed: torque = -f tanh(v / STICK_RAD_S)."""


class SimPhysics:
    """Arm and world of one PyBullet client."""

    def __init__(self, client: int, body: int, joints: list[int], fingers: list[int], dynamics: Dynamics) -> None:
        """Args:
        client: PyBullet's connection.
        body: the arm in it.
        joints: PyBullet's indices of the arm's joints.
        fingers: the same of the gripper's.
        dynamics: shared with the scene.
        """
        self._client, self._body, self._joints, self._fingers = client, body, joints, fingers
        self._dynamics = dynamics
        count = pybullet.getNumJoints(body, physicsClientId=client)
        loaded = {link: pybullet.getDynamicsInfo(body, link, physicsClientId=client) for link in range(count)}
        self._links = {link: (info[0], info[2]) for link, info in loaded.items() if info[0] > 0}
        self._finger_rolling = {finger: float(loaded[finger][6]) for finger in fingers}
        self._gravity: float | None = None
        self._scales: tuple[float, float] = (1.0, 1.0)
        self._friction_nm = 0.0

    def apply(self, sample: Mapping[str, float]) -> None:
        """Set everything for an episode; `sample` names every parameter."""
        if sample["gravity_m_s2"] != self._gravity:
            self._gravity = sample["gravity_m_s2"]
            pybullet.setGravity(0.0, 0.0, -self._gravity, physicsClientId=self._client)
        self._apply_links(sample["link_mass_scale"], sample["link_inertia_scale"])
        for finger in self._fingers:
            self._dynamics.set(
                self._body,
                finger,
                lateralFriction=FINGER_FRICTION * sample["finger_friction_scale"],
                spinningFriction=SPINNING_FRICTION * sample["finger_spinning_friction_scale"],
                rollingFriction=self._finger_rolling[finger] + sample["finger_rolling_friction"],
            )
        for joint in self._joints:
            self._dynamics.set(self._body, joint, jointDamping=DAMPING * sample["joint_damping_scale"])
        self._friction_nm = sample["joint_friction_nm"]

    def resist(self) -> None:
        """Joint friction of the physics step that comes: a torque against each joint's motion."""
        if self._friction_nm == 0.0:
            return
        states = pybullet.getJointStates(self._body, self._joints, physicsClientId=self._client)
        torques = -self._friction_nm * np.tanh(np.array([state[1] for state in states]) / STICK_RAD_S)
        pybullet.setJointMotorControlArray(
            self._body,
            self._joints,
            pybullet.TORQUE_CONTROL,
            forces=torques.tolist(),
            physicsClientId=self._client,
        )

    def _apply_links(self, mass_scale: float, inertia_scale: float) -> None:
        if (mass_scale, inertia_scale) == self._scales:
            return
        self._scales = mass_scale, inertia_scale
        for link, (mass, (x, y, z)) in self._links.items():
            factor = mass_scale * inertia_scale
            self._dynamics.set_mass(self._body, link, mass * mass_scale, (x * factor, y * factor, z * factor))
