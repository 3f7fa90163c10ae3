"""A task's objects and the table in PyBullet: built, put in place, looked at.

Each object becomes a URDF of its own, because that is how PyBullet takes several shapes and colours, and joints, as one
body. Owns bodies, not time: `sim_arm.py` steps.
"""

from __future__ import annotations

import dataclasses
import functools
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
from understudy.envs.arms.sim_dynamics import Dynamics
from understudy.envs.parameters import NOMINAL
from understudy.envs.tasks.scene import SceneObject, Shape, Triple, box
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

    def __init__(self, client: int, objects: Mapping[str, SceneObject], dynamics: Dynamics | None = None) -> None:
        """Args:
        client: PyBullet's connection.
        objects: name -> what it is, at its nominal size.
        dynamics: shared with the arm, or None for its own.
        """
        self._client = client
        self.objects = dict(objects)
        self._dynamics = dynamics or Dynamics(client)
        self.table = _load(client, "table", TABLE, TABLE_CENTRE_M)
        # Bullet multiplies the two of a contact: so the bounce off the table is the object's own
        self._dynamics.set(self.table, -1, restitution=1.0)
        self._size_scale = 1.0
        self._bodies = self._load_objects()
        self.set_physics(NOMINAL)

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

    def place_again(self, name: str, pose: Pose, opening: float = 0.0) -> None:
        """`place` where an object was once read to be, so that it is read to be there again, to the last bit.

        Bullet takes a rotation through a matrix: what is read differs from what was given in the last bits, and a grasp
        makes millimetres of that. Quaternions next to `pose`'s are tried until one is read as it; where none is, the
        object is placed as by `place`.
        """
        wanted = np.asarray(pose.quaternion, np.float64)
        steps = np.where(wanted == 0.0, 0.0, np.spacing(np.abs(wanted)))
        for offset in _last_bits():
            self.place(name, Pose(pose.position, wanted + offset * steps), opening)
            if np.array_equal(self.pose(name).quaternion, wanted):
                return
        self.place(name, pose, opening)

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

    @property
    def bodies(self) -> list[int]:
        """PyBullet's numbers of the objects."""
        return [body.number for body in self._bodies.values()]

    def set_physics(self, sample: Mapping[str, float]) -> bool:
        """Sizes, masses, frictions of this episode; `sample` names every parameter. True: objects were made anew."""
        rebuilt = self._resize(sample["object_size_scale"])
        for body in self._bodies.values():
            self._set_mass(body, sample["object_mass_scale"], sample["object_inertia_scale"])
            for link in (-1,) if body.thing.slide is None else (-1, _SLIDER):
                self._dynamics.set(
                    body.number,
                    link,
                    lateralFriction=body.thing.friction * sample["object_friction_scale"],
                    spinningFriction=SPINNING_FRICTION * sample["object_spinning_friction_scale"],
                    rollingFriction=sample["object_rolling_friction"],
                    restitution=sample["object_restitution"],
                    linearDamping=sample["object_linear_damping"],
                    angularDamping=sample["object_angular_damping"],
                )
        self._dynamics.set(
            self.table,
            -1,
            lateralFriction=TABLE.friction * sample["table_friction_scale"],
            rollingFriction=sample["table_rolling_friction"],
            spinningFriction=sample["table_spinning_friction"],
        )
        return rebuilt

    def _set_mass(self, body: _Body, mass_scale: float, inertia_scale: float) -> None:
        if body.thing.mass == 0:
            return
        mass = body.thing.mass * mass_scale
        self._dynamics.set_mass(body.number, body.link, mass)
        if inertia_scale != 1.0:
            x, y, z = self._dynamics.inertia(body.number, body.link)
            scaled = (x * inertia_scale, y * inertia_scale, z * inertia_scale)
            self._dynamics.set_mass(body.number, body.link, mass, scaled)

    def _resize(self, scale: float) -> bool:
        """Make the objects anew where their size differs: all of them, the last first, so that their order stays."""
        if scale == self._size_scale or not any(_loose(thing) for thing in self.objects.values()):
            return False
        for body in reversed(self._bodies.values()):
            pybullet.removeBody(body.number, physicsClientId=self._client)
            self._dynamics.forget(body.number)
        self._size_scale = scale
        self._bodies = self._load_objects()
        return True

    def _load_objects(self) -> dict[str, _Body]:
        bodies = {}
        for index, (name, thing) in enumerate(self.objects.items()):
            made = _scaled(thing, self._size_scale) if _loose(thing) else thing
            place = (0.5, 0.1 * index, made.shapes[0].half_extents[2])
            bodies[name] = _Body(made, _load(self._client, name, made, place))
        return bodies

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


@functools.cache
def _last_bits() -> Array:
    """(400, 4) small numbers of last bits, none first."""
    tried = np.random.default_rng(1).integers(-3, 4, (400, 4))
    tried[0] = 0
    return tried[np.argsort(np.abs(tried).sum(axis=1), kind="stable")]


def _loose(thing: SceneObject) -> bool:
    return thing.mass > 0 and thing.slide is None


def _scaled(thing: SceneObject, scale: float) -> SceneObject:
    """The same thing, larger or smaller; its mass stays."""
    if scale == 1.0:
        return thing

    def times(triple: Triple) -> Triple:
        return triple[0] * scale, triple[1] * scale, triple[2] * scale

    shapes = [
        dataclasses.replace(shape, half_extents=times(shape.half_extents), offset=times(shape.offset))
        for shape in thing.shapes
    ]
    return dataclasses.replace(thing, shapes=tuple(shapes))


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
