"""What a task puts on the table: rigid objects made of boxes and cylinders, and drawers that slide.

Plain data, the same for every simulator; `sim_scene.py` builds it in PyBullet. On hardware a person builds it, and a
tracker publishes `<name>_position` and `<name>_quaternion`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from understudy.errors import InputError

Triple = tuple[float, float, float]
Colour = tuple[float, float, float, float]
RED: Colour = (0.85, 0.25, 0.2, 1.0)


@dataclass(frozen=True)
class Shape:
    """A box or an upright cylinder, somewhere in its object's frame."""

    kind: Literal["box", "cylinder"]
    half_extents: Triple
    """m. A cylinder's are its radius twice, and half its height."""
    offset: Triple = (0.0, 0.0, 0.0)
    """Of its centre, m."""
    colour: Colour = RED

    def __post_init__(self) -> None:
        if not all(math.isfinite(half) and half > 0 for half in self.half_extents):
            raise InputError(f"A shape's half extents must be positive numbers in m, got {self.half_extents}.")
        if self.kind == "cylinder" and self.half_extents[0] != self.half_extents[1]:
            raise InputError(f"A cylinder's first two half extents are its radius; got {self.half_extents}.")

    @property
    def volume(self) -> float:
        """m^3"""
        x, y, z = self.half_extents
        return 8.0 * x * y * z if self.kind == "box" else 2.0 * math.pi * x * x * z


@dataclass(frozen=True)
class Slide:
    """What carries an object that moves along one axis only: a frame that stands still, and how far it goes."""

    axis: Triple
    """Direction of opening, in the object's frame; of length 1."""
    travel_m: float
    frame: tuple[Shape, ...]
    """Around the closed object, in its frame."""
    friction_n: float = 2.0
    """Force that it takes to move it."""


@dataclass(frozen=True)
class SceneObject:
    """A rigid thing that an episode puts somewhere: observed as `<name>_position` and `<name>_quaternion`."""

    shapes: tuple[Shape, ...]
    mass: float
    """kg; 0 stands still, whatever pushes."""
    friction: float = 1.0
    """Lateral friction coefficient."""
    slide: Slide | None = field(default=None)
    """Where it is set it can only slide; observed as `<name>_opening` (1,), m, too."""

    def __post_init__(self) -> None:
        if not self.shapes:
            raise InputError("An object needs at least one shape.")
        if not (math.isfinite(self.mass) and self.mass >= 0):
            raise InputError(f"An object's mass must be 0 (it stands still) or more, got {self.mass} kg.")
        if self.slide is not None and self.mass == 0:
            raise InputError("An object that slides needs a mass above 0.")

    @property
    def radius_m(self) -> float:
        """No point of its shapes is farther from its origin."""
        return max(math.dist((0.0, 0.0, 0.0), shape.offset) + math.hypot(*shape.half_extents) for shape in self.shapes)


def box(half_extents: Triple, mass: float, friction: float = 1.0, colour: Colour = RED) -> SceneObject:
    """A box."""
    return SceneObject((Shape("box", half_extents, colour=colour),), mass, friction)


def cylinder(
    radius: float, half_height: float, mass: float, friction: float = 1.0, colour: Colour = RED
) -> SceneObject:
    """An upright cylinder."""
    return SceneObject((Shape("cylinder", (radius, radius, half_height), colour=colour),), mass, friction)
