"""A task's objects and the table in PyBullet: built, put in place, looked at.

Each object becomes a URDF of its own, because that is how PyBullet takes several shapes and colours, and joints, as one
body. Owns bodies, not time: `sim_arm.py` steps.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np
import pybullet
from numpy.typing import NDArray

from understudy.envs.arms.arm import Pose
from understudy.envs.arms.rotations import quaternion_to_matrix
from understudy.envs.tasks.scene import SceneObject, Shape, box
from understudy.errors import unknown_name

Array = NDArray[Any]

TABLE = box((0.6, 0.8, 0.2), 0.0, colour=(0.82, 0.80, 0.76, 1.0))
TABLE_CENTRE_M = (0.35, 0.0, -0.2)
SPINNING_FRICTION = 0.001
_SLIDER = 0
"""PyBullet's index of what slides; the frame is the body's base."""
_UPRIGHT = (0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class _Body:
    """One object in the simulator."""

    thing: SceneObject
    number: int
    """PyBullet's."""

    @property
    def link(self) -> int:
        """The link that is the object: the base, or what slides in it."""
        return -1 if self.thing.slide is None else _SLIDER


class SimScene:
    """The table and the objects of one PyBullet client."""

    def __init__(self, client: int, objects: Mapping[str, SceneObject]) -> None:
        self._client = client
        self.objects = dict(objects)
        self.table = _load(client, "table", TABLE, TABLE_CENTRE_M)
        self._bodies = {
            name: _Body(thing, _load(client, name, thing, (0.5, 0.1 * index, thing.shapes[0].half_extents[2])))
            for index, (name, thing) in enumerate(self.objects.items())
        }
        pybullet.changeDynamics(self.table, -1, lateralFriction=TABLE.friction, physicsClientId=client)
        self.set_physics({})

    def body(self, name: str) -> int:
        """PyBullet's number of an object.

        Raises:
            InputError: there is no such object; lists those there are.
        """
        if name not in self._bodies:
            raise unknown_name("object", name, self._bodies)
        return self._bodies[name].number

    def place(self, name: str, pose: Pose, opening: float = 0.0) -> None:
        """Put an object somewhere, at rest; one that slides together with its frame, `opening` m out of it."""
        number, thing = self.body(name), self.objects[name]
        position = np.asarray(pose.position, np.float64)
        if thing.slide is not None:
            along = quaternion_to_matrix(pose.quaternion) @ np.asarray(thing.slide.axis)
            position = position - opening * along
            pybullet.resetJointState(number, _SLIDER, opening, 0.0, physicsClientId=self._client)
        pybullet.resetBasePositionAndOrientation(number, position, pose.quaternion, physicsClientId=self._client)

    def put_aside(self) -> None:
        """Everything far from the arm and from each other, so that nothing touches."""
        for index, body in enumerate(self._bodies.values()):
            place = (0.0, 0.0, 10.0 + index)
            pybullet.resetBasePositionAndOrientation(body.number, place, _UPRIGHT, physicsClientId=self._client)

    def pose(self, name: str) -> Pose:
        """Where an object truly is."""
        self.body(name)
        return Pose(*self._pose(self._bodies[name]))

    def opening(self, name: str) -> float:
        """How far an object that slides is out of its frame, m."""
        return float(pybullet.getJointState(self.body(name), _SLIDER, physicsClientId=self._client)[0])

    def states(self) -> list[Array]:
        """For each object its pose (7,), velocity (6,) and, where it slides, its opening (1,)."""
        parts: list[Array] = []
        for name, body in self._bodies.items():
            if body.thing.slide is None:
                velocity = pybullet.getBaseVelocity(body.number, physicsClientId=self._client)
                parts += [*self._pose(body), *map(np.array, velocity)]
            else:
                state = pybullet.getLinkState(body.number, _SLIDER, computeLinkVelocity=1, physicsClientId=self._client)
                parts += [*self._pose(body), np.array(state[6]), np.array(state[7]), np.array([self.opening(name)])]
        return parts

    def set_physics(self, sample: Mapping[str, float]) -> None:
        """Masses and frictions of this episode; what is not named is nominal."""
        for body in self._bodies.values():
            thing = body.thing
            if thing.mass > 0:
                mass = thing.mass * sample.get("object_mass_scale", 1.0)
                pybullet.changeDynamics(body.number, body.link, mass=mass, physicsClientId=self._client)
            for link in range(-1, pybullet.getNumJoints(body.number, physicsClientId=self._client)):
                pybullet.changeDynamics(
                    body.number,
                    link,
                    lateralFriction=thing.friction * sample.get("object_friction_scale", 1.0),
                    spinningFriction=SPINNING_FRICTION,
                    physicsClientId=self._client,
                )

    def _pose(self, body: _Body) -> tuple[Array, Array]:
        if body.thing.slide is None:
            place = pybullet.getBasePositionAndOrientation(body.number, physicsClientId=self._client)
        else:
            # 4 and 5: the link's own frame, where the URDF put it; 0 and 1 are its centre of mass
            state = pybullet.getLinkState(
                body.number, _SLIDER, computeForwardKinematics=1, physicsClientId=self._client
            )
            place = state[4], state[5]
        return np.array(place[0]), np.array(place[1])


def object_urdf(name: str, thing: SceneObject) -> str:
    """The URDF of an object: one link, or a frame and what slides in it. Inertia follows from the shapes."""
    robot = Element("robot", name=name)
    if thing.slide is None:
        _link(robot, "object", thing.shapes, thing.mass)
    else:
        _link(robot, "frame", thing.slide.frame, 0.0)
        _link(robot, "object", thing.shapes, thing.mass)
        joint = SubElement(robot, "joint", name="slide", type="prismatic")
        SubElement(joint, "parent", link="frame")
        SubElement(joint, "child", link="object")
        SubElement(joint, "axis", xyz=_numbers(thing.slide.axis))
        SubElement(joint, "limit", lower="0", upper=repr(thing.slide.travel_m), effort="1000", velocity="10")
    return ElementTree.tostring(robot, encoding="unicode")


def _link(robot: Element, name: str, shapes: tuple[Shape, ...], mass: float) -> None:
    link = SubElement(robot, "link", name=name)
    inertial = SubElement(link, "inertial")
    SubElement(inertial, "mass", value=repr(float(mass)))
    SubElement(inertial, "inertia", ixx="1", ixy="0", ixz="0", iyy="1", iyz="0", izz="1")  # PyBullet computes its own
    for index, shape in enumerate(shapes):
        for purpose in ("visual", "collision"):
            part = SubElement(link, purpose)
            SubElement(part, "origin", xyz=_numbers(shape.offset))
            geometry = SubElement(part, "geometry")
            x, y, z = (2.0 * half for half in shape.half_extents)
            if shape.kind == "box":
                SubElement(geometry, "box", size=_numbers((x, y, z)))
            else:
                SubElement(geometry, "cylinder", radius=repr(x / 2), length=repr(z))
            if purpose == "visual":
                material = SubElement(part, "material", name=f"{name}_{index}")
                SubElement(material, "color", rgba=_numbers(shape.colour))


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(repr(float(value)) for value in values)


def _load(client: int, name: str, thing: SceneObject, place: tuple[float, float, float]) -> int:
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
        path = Path(folder) / "object.urdf"
        path.write_text(object_urdf(name, thing))
        number = pybullet.loadURDF(str(path), place, useFixedBase=thing.slide is not None, physicsClientId=client)
    if thing.slide is not None:
        # The default motor holds every joint; as a brake of this force it is the slide's friction.
        pybullet.setJointMotorControl2(
            number, _SLIDER, pybullet.VELOCITY_CONTROL, force=thing.slide.friction_n, physicsClientId=client
        )
    return int(number)
