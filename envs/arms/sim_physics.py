"""An episode's physics of the simulated arm and its world: masses, frictions, damping, gravity.

Owns what is set once an episode. Objects and table are
`sim_scene.py`'s, motors `sim_motors.py`'s, readings `sim_sensors.py`'s, looks `sim_looks.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping

import pybullet

from understudy.envs.arms.sim_dynamics import Dynamics
from understudy.envs.arms.sim_scene import SPINNING_FRICTION
from understudy.envs.arms.urdf import Urdf

DAMPING = 0.04
FINGER_FRICTION = 1.0
NO_RATIO = 1e-9
"""PyBullet takes a ratio of 0 for one that was not given."""


def mend_links(client: int, body: int, urdf: Urdf) -> None:
    """Take back what PyBullet makes up of links that are not complete.

    One without <inertial>, as tool frames are, it loads with a mass of 1 kg. One with a mass and no collision shape has
    next to no inertia, since PyBullet takes that from the shape: it gets the moments of the file, about its axes.
    """
    for link in range(pybullet.getNumJoints(body, physicsClientId=client)):
        name = pybullet.getJointInfo(body, link, physicsClientId=client)[12].decode()
        described = urdf.links[name]
        if described.mass is None:
            pybullet.changeDynamics(body, link, mass=0.0, localInertiaDiagonal=(0.0, 0.0, 0.0), physicsClientId=client)
        elif described.mass > 0 and not pybullet.getCollisionShapeData(body, link, physicsClientId=client):
            xx, _, _, yy, _, zz = described.inertia
            pybullet.changeDynamics(body, link, localInertiaDiagonal=(xx, yy, zz), physicsClientId=client)


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
        self._brakes: list[int] = []

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
        self._apply_friction(sample["joint_friction_nm"])

    def _apply_friction(self, friction_nm: float) -> None:
        """Coulomb friction: a constraint per joint that wants it to stand still and has no more than this to say.

        PyBullet gives a joint one motor, which is the arm's, and a torque against the motion would reverse a light
        joint within a step; a gear to another joint, of next to no ratio, is solved together with the motor.
        """
        if friction_nm == self._friction_nm:
            return
        self._friction_nm = friction_nm
        for brake in self._brakes:
            pybullet.removeConstraint(brake, physicsClientId=self._client)
        self._brakes = [self._brake(joint, friction_nm) for joint in self._joints] if friction_nm > 0 else []

    def _brake(self, joint: int, friction_nm: float) -> int:
        other = next((one for one in self._joints if one != joint), joint)  # an only joint is geared to itself
        brake = pybullet.createConstraint(
            self._body,
            joint,
            self._body,
            other,
            jointType=pybullet.JOINT_GEAR,
            jointAxis=(1.0, 0.0, 0.0),
            parentFramePosition=(0.0, 0.0, 0.0),
            childFramePosition=(0.0, 0.0, 0.0),
            physicsClientId=self._client,
        )
        pybullet.changeConstraint(brake, gearRatio=NO_RATIO, maxForce=friction_nm, physicsClientId=self._client)
        return int(brake)

    def _apply_links(self, mass_scale: float, inertia_scale: float) -> None:
        if (mass_scale, inertia_scale) == self._scales:
            return
        self._scales = mass_scale, inertia_scale
        for link, (mass, (x, y, z)) in self._links.items():
            factor = mass_scale * inertia_scale
            self._dynamics.set_mass(self._body, link, mass * mass_scale, (x * factor, y * factor, z * factor))
