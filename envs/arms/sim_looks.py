"""An episode's looks: camera, light, colours and textures. They change pictures and nothing else.

Told to PyBullet only when a picture is drawn, so that an episode without pictures pays nothing for them.
"""

from __future__ import annotations

import colorsys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pybullet
from numpy.typing import NDArray

from understudy.envs.arms.sim_render import View
from understudy.envs.parameters import PARAMETERS

LOOKS = tuple(name for name, parameter in PARAMETERS.items() if parameter.group == "looks")
NOMINAL_LOOKS = tuple(PARAMETERS[name].nominal for name in LOOKS)
PATTERNS = 8
"""Textures are patterns 1 to 8 over the plain colour."""
_PIXELS = 256


class SimLooks:
    """Colours and textures of one PyBullet client's bodies."""

    def __init__(self, client: int) -> None:
        self._client = client
        self._wanted = NOMINAL_LOOKS
        self._shown: tuple[float, ...] | None = NOMINAL_LOOKS
        self._nominal: dict[int, list[tuple[int, int, tuple[float, ...], int]]] = {}
        self._textures: dict[int, int] = {}

    def want(self, sample: Mapping[str, float]) -> None:
        """The looks of this episode; `sample` names every parameter."""
        self._wanted = tuple(sample[name] for name in LOOKS)

    def forget(self, bodies: Iterable[int]) -> None:
        """These bodies were made anew, under whatever numbers: they look as built, and the others as last shown."""
        for body in bodies:
            self._nominal.pop(body, None)
        self._shown = None

    def show(self, groups: Mapping[str, list[int]]) -> View | None:
        """Bring colours and textures to what is wanted; the view to draw with, None where nothing has changed.

        Args:
            groups: object, table, arm -> PyBullet's numbers of their bodies.
        """
        if self._wanted == self._shown:
            return None
        self._shown = self._wanted
        look = dict(zip(LOOKS, self._wanted, strict=True))
        for group, bodies in groups.items():
            hue, brightness = look[f"{group}_hue_shift"], look[f"{group}_brightness_scale"]
            for body in bodies:
                self._paint(body, hue, brightness, round(look[f"{group}_texture"]))
        return View(
            shift_m=(look["camera_offset_x_m"], look["camera_offset_y_m"], look["camera_offset_z_m"]),
            yaw_rad=look["camera_yaw_rad"],
            pitch_rad=look["camera_pitch_rad"],
            fov_scale=look["camera_fov_scale"],
            light_azimuth_rad=look["light_azimuth_rad"],
            light_elevation_rad=look["light_elevation_rad"],
            light_brightness=look["light_brightness_scale"],
        )

    def _paint(self, body: int, hue: float, brightness: float, pattern: int) -> None:
        for link, shape, colour, texture in self._shapes(body):
            pybullet.changeVisualShape(
                body,
                link,
                shapeIndex=shape,
                rgbaColor=shifted(colour, hue, brightness),
                textureUniqueId=texture if pattern == 0 else self._texture(pattern),
                physicsClientId=self._client,
            )

    def _shapes(self, body: int) -> list[tuple[int, int, tuple[float, ...], int]]:
        """(link, index in it, colour, texture) of every visible shape as it was loaded."""
        if body not in self._nominal:
            count: dict[int, int] = {}
            shapes = []
            flags = pybullet.VISUAL_SHAPE_DATA_TEXTURE_UNIQUE_IDS
            for row in pybullet.getVisualShapeData(body, flags, physicsClientId=self._client):
                link = row[1]
                shapes.append((link, count.get(link, 0), row[7], row[8]))
                count[link] = count.get(link, 0) + 1
            self._nominal[body] = shapes
        return self._nominal[body]

    def _texture(self, pattern: int) -> int:
        if pattern not in self._textures:
            import matplotlib.image  # slow to import, and needed for pictures only

            with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
                path = Path(folder) / "pattern.png"
                matplotlib.image.imsave(path, pattern_pixels(pattern))
                self._textures[pattern] = pybullet.loadTexture(str(path), physicsClientId=self._client)
        return self._textures[pattern]


def shifted(colour: tuple[float, ...], hue: float, brightness: float) -> tuple[float, float, float, float]:
    """A colour (4,) turned by `hue` on the colour circle; greys, which have no hue, are tinted a little instead."""
    red, green, blue, alpha = colour
    if hue == 0.0 and brightness == 1.0:
        return red, green, blue, alpha
    angle, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    if hue != 0.0:
        saturation = max(saturation, 0.25)
    red, green, blue = colorsys.hsv_to_rgb((angle + hue) % 1.0, saturation, min(1.0, value * brightness))
    return red, green, blue, alpha


def pattern_pixels(pattern: int) -> NDArray[np.uint8]:
    """(256, 256, 3) of pattern 1 to 8: checks, stripes, tiles and grain, coarse and fine."""
    rows, columns = np.mgrid[0:_PIXELS, 0:_PIXELS]
    rng = np.random.default_rng(pattern)
    cell = 8 if pattern % 2 else 24
    kind = (pattern - 1) // 2
    if kind == 0:
        shade = ((rows // cell + columns // cell) % 2).astype(np.float64)
    elif kind == 1:
        shade = ((rows + columns) // cell % 2).astype(np.float64)
    elif kind == 2:
        tiles = rng.random((_PIXELS // cell + 1, _PIXELS // cell + 1))
        shade = tiles[rows // cell, columns // cell]
    else:
        grain = rng.random((_PIXELS, 1) if pattern % 2 else (_PIXELS, _PIXELS))
        shade = np.broadcast_to(grain, (_PIXELS, _PIXELS))
    grey = (90 + 165 * shade).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
