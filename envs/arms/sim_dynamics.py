"""What PyBullet computes contacts and links with: told only what has changed, because telling costs.

Owns the values of dynamics that differ from episode to episode; which parameter means which value is `sim_physics.py`'s
and `sim_scene.py`'s.
"""

from __future__ import annotations

from typing import Any

import pybullet

AS_LOADED = {"rollingFriction": 0.0, "restitution": 0.0, "linearDamping": 0.04, "angularDamping": 0.04}
"""What PyBullet gives a body whose URDF says nothing else."""


class Dynamics:
    """`changeDynamics` of one client, with a memory."""

    def __init__(self, client: int) -> None:
        self._client = client
        self._told: dict[tuple[int, int], dict[str, Any]] = {}

    def set(self, body: int, link: int, **values: Any) -> None:
        """Set values by the names of `changeDynamics`; those that are so already are left."""
        told = self._told.setdefault((body, link), dict(AS_LOADED))
        new = {name: value for name, value in values.items() if told.get(name) != value}
        if new:
            pybullet.changeDynamics(body, link, **new, physicsClientId=self._client)
            told.update(new)

    def set_mass(self, body: int, link: int, mass: float, inertia: tuple[float, float, float] | None = None) -> None:
        """Set mass, kg, and principal inertia, kg m^2; without one PyBullet computes it from shapes and mass."""
        told = self._told.setdefault((body, link), dict(AS_LOADED))
        if told.get("mass") == (mass, inertia):
            return
        # a new mass alone resets the inertia, so that both go together
        pybullet.changeDynamics(body, link, mass=mass, physicsClientId=self._client)
        if inertia is not None:
            pybullet.changeDynamics(body, link, localInertiaDiagonal=inertia, physicsClientId=self._client)
        told["mass"] = (mass, inertia)

    def inertia(self, body: int, link: int) -> tuple[float, float, float]:
        """Principal inertia as it is, kg m^2."""
        x, y, z = pybullet.getDynamicsInfo(body, link, physicsClientId=self._client)[2]
        return float(x), float(y), float(z)

    def forget(self, body: int) -> None:
        """A body is gone; its number may come again."""
        for key in [key for key in self._told if key[0] == body]:
            del self._told[key]
