"""Draws marks into a picture that has been rendered, by its depth: what stands before a mark hides it.

A mark is worked out from rays and never loaded into the simulator, so that it can change neither physics nor the
pictures that are observed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from understudy.envs.tasks.marks import Mark
from understudy.envs.tasks.scene import Triple

Array = NDArray[np.float64]

COLOUR = (0.0, 114.0, 178.0)
"""Blue, which eyes that do not tell red from green tell from the red objects."""
INSIDE, RIM = 0.42, 0.9
"""How much of the picture it covers, of 1."""
RIM_PIXELS, RIM_SHARE = 1.6, 0.06
"""How wide its rim is: at least so many pixels, and that share of its radius."""


@dataclass(frozen=True)
class Lens:
    """From where and how a picture was taken."""

    eye: Triple
    """m"""
    target: Triple
    """m"""
    fov_deg: float
    """Vertical field of view."""
    near_m: float
    far_m: float

    def axes(self) -> tuple[Array, Array, Array]:
        """Unit vectors (3,) ahead, to the right and up in the picture; z is up in the world."""
        ahead = np.subtract(self.target, self.eye)
        ahead = ahead / np.linalg.norm(ahead)
        right = np.cross(ahead, (0.0, 0.0, 1.0))
        right = right / np.linalg.norm(right)
        return ahead, right, np.cross(right, ahead)

    def depth_m(self, buffer: NDArray[np.float32]) -> Array:
        """OpenGL's depth buffer, 0 to 1, as m along the view's axis."""
        near, far = self.near_m, self.far_m
        return np.asarray(far * near / (far - (far - near) * buffer.astype(np.float64)))


def draw_marks(picture: NDArray[np.uint8], depth: NDArray[np.float32], lens: Lens, marks: Iterable[Mark]) -> None:
    """Draw marks into `picture` (height, width, 3), whose depth buffer is `depth` (height, width)."""
    for mark in marks:
        _draw(picture, depth, lens, mark)


def _draw(picture: NDArray[np.uint8], depth: NDArray[np.float32], lens: Lens, mark: Mark) -> None:
    height, width = depth.shape
    focal = height / 2.0 / math.tan(math.radians(lens.fov_deg) / 2.0)  # pixels, of either direction
    ahead, right, up = lens.axes()
    to_centre = np.subtract(mark.centre, lens.eye)
    x, y, z = float(to_centre @ right), float(to_centre @ up), float(to_centre @ ahead)
    if z <= mark.radius_m + lens.near_m:  # behind the camera, or around it
        return
    columns = _pixels(width / 2.0, focal, x, z, mark.radius_m, width)
    rows = _pixels(height / 2.0, -focal, y, z, mark.radius_m, height)
    across = ((np.arange(columns.start, columns.stop) + 0.5) - width / 2.0) / focal
    upward = (height / 2.0 - (np.arange(rows.start, rows.stop) + 0.5)) / focal
    # a ray is eye + t (ahead + across right + upward up), and t its depth
    square = 1.0 + across[None, :] ** 2 + upward[:, None] ** 2
    nearest = (z + across[None, :] * x + upward[:, None] * y) / square
    miss = np.sqrt(np.maximum(x * x + y * y + z * z - nearest**2 * square, 0.0))
    front = nearest - np.sqrt(np.maximum(mark.radius_m**2 - miss**2, 0.0) / square)
    pixel_m = z / focal
    covered = np.clip((mark.radius_m - miss) / pixel_m + 0.5, 0.0, 1.0)
    rim_m = max(RIM_PIXELS * pixel_m, RIM_SHARE * mark.radius_m)
    rim = np.clip((rim_m - (mark.radius_m - miss)) / pixel_m + 0.5, 0.0, 1.0)
    seen = front < lens.depth_m(depth[rows, columns])
    share = (seen * covered * (INSIDE + (RIM - INSIDE) * rim))[:, :, None]
    patch = picture[rows, columns]
    picture[rows, columns] = np.round((1.0 - share) * patch + share * np.array(COLOUR)).astype(np.uint8)


def _pixels(middle: float, focal: float, offset: float, z: float, radius: float, count: int) -> slice:
    """Rows or columns that a ball can be in: between the two planes through the eye that touch it."""
    spread = radius * math.sqrt(offset * offset + z * z - radius * radius)
    ends = [middle + focal * (offset * z + sign * spread) / (z * z - radius * radius) for sign in (-1.0, 1.0)]
    low, high = math.floor(min(ends)) - 1, math.ceil(max(ends)) + 1
    return slice(max(0, min(low, count)), max(0, min(high, count)))
