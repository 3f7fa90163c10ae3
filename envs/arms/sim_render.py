"""Pictures of a PyBullet scene: where cameras stand, what an episode changes about them, and which renderer draws.

Two renderers give pictures of the same size and place: PyBullet's EGL plugin, which draws on the graphics card, and
TinyRenderer, which needs none. The plugin is used only where OpenGL is a card's: on Mesa's software rasterizer it was
measured slower than TinyRenderer at the sizes of camera observations, and takes 250 MB a scene.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pybullet
from numpy.typing import NDArray

from understudy.envs.arms.sim_marks import Lens, draw_marks
from understudy.envs.tasks.marks import Mark
from understudy.envs.tasks.scene import Triple
from understudy.errors import InputError, unknown_name

RendererName = Literal["egl", "tiny"]
RENDERERS: tuple[RendererName, ...] = ("egl", "tiny")
RENDERER_VARIABLE = "UNDERSTUDY_RENDERER"
"""Environment variable that chooses the renderer: egl or tiny. Unset, the fastest that works here draws."""
SOFTWARE_OPENGL = ("llvmpipe", "softpipe", "swrast")
PROBE_TIMEOUT_S = 30.0
NEAR_M, FAR_M = 0.02, 4.0
MAX_FOV_DEG = 170.0
STEEPEST_RAD = 1.5
"""Cameras look no steeper: straight up or down there is no telling which way up the picture is."""
LIGHT: Triple = (0.6, -0.8, 2.0)
"""Towards the light, base frame; its length does not matter."""


@dataclass(frozen=True)
class CameraPlacement:
    """Where a simulated camera stands, in the base frame, m; `fov_deg` is its vertical field of view."""

    eye: Triple
    target: Triple
    fov_deg: float = 50.0


CAMERAS: Mapping[str, CameraPlacement] = {
    "front": CameraPlacement((1.25, -0.75, 0.62), (0.36, 0.0, 0.24), 36.0),
    # from the arm's right and far off, so that forwards is to the right and how far is told without perspective
    "side": CameraPlacement((0.5, -2.2, 0.5), (0.5, 0.0, 0.28), 20.0),
}


@dataclass(frozen=True)
class View:
    """What an episode changes about every camera and about the light; as it is made, nothing."""

    shift_m: Triple = (0.0, 0.0, 0.0)
    """How far the cameras stand from where they should, base frame."""
    yaw_rad: float = 0.0
    """Turn of the cameras to their left, about the vertical."""
    pitch_rad: float = 0.0
    """Turn of the cameras upwards."""
    fov_scale: float = 1.0
    """Vertical field of view, times the placement's."""
    light_azimuth_rad: float = 0.0
    """Turn of the light about the vertical."""
    light_elevation_rad: float = 0.0
    """Rise of the light above its nominal height."""
    light_brightness: float = 1.0
    """Times the nominal one."""

    def __post_init__(self) -> None:
        if not self.fov_scale > 0:
            raise InputError(f"A view's fov_scale must be above 0, got {self.fov_scale}.")
        if not self.light_brightness >= 0:
            raise InputError(f"A view's light_brightness must not be negative, got {self.light_brightness}.")

    def stand(self, place: CameraPlacement) -> tuple[Triple, Triple, float]:
        """(eye, target, vertical field of view in degrees) of a camera in this view."""
        eye = np.add(place.eye, self.shift_m)
        ahead = _turned(np.subtract(place.target, place.eye), self.yaw_rad, self.pitch_rad)
        return _triple(eye), _triple(eye + ahead), min(place.fov_deg * self.fov_scale, MAX_FOV_DEG)

    def light(self) -> Triple:
        """Towards the light, base frame."""
        return _triple(_turned(np.array(LIGHT), self.light_azimuth_rad, self.light_elevation_rad))


def _turned(direction: NDArray[np.float64], yaw_rad: float, pitch_rad: float) -> NDArray[np.float64]:
    """A direction turned about the vertical and upwards, never past straight up or down."""
    x, y, z = direction
    azimuth = math.atan2(y, x) + yaw_rad
    elevation = math.atan2(z, math.hypot(x, y)) + pitch_rad
    elevation = max(-STEEPEST_RAD, min(STEEPEST_RAD, elevation))
    flat = math.cos(elevation)
    length = math.sqrt(x * x + y * y + z * z)
    return length * np.array([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)])


def _triple(values: NDArray[np.float64]) -> Triple:
    x, y, z = values.tolist()
    return x, y, z


class SimRenderer:
    """Draws one PyBullet client's scene. Make it before bodies are loaded: the EGL plugin sees only later ones."""

    def __init__(self, client: int, renderer: RendererName = "tiny") -> None:
        """Args:
        client: PyBullet's number of the connection.
        renderer: see `fastest_renderer`.

        Raises:
            InputError: the EGL plugin was asked for and does not load.
        """
        self._client = client
        self.name = renderer
        self.view = View()
        self._plugin = _load_egl(client) if renderer == "egl" else None
        self._drawn = False
        self.mode = pybullet.ER_TINY_RENDERER if self._plugin is None else pybullet.ER_BULLET_HARDWARE_OPENGL

    def set_view(self, view: View) -> None:
        """Draw like this from now on."""
        self.view = view

    def draw(self, name: str, width: int, height: int, marks: Iterable[Mark] = ()) -> NDArray[np.uint8]:
        """A picture (height, width, 3) from a camera in `CAMERAS`.

        Args:
            name: of the camera.
            width: pixels.
            height: pixels.
            marks: drawn into it; none change the rest of the picture.

        Raises:
            InputError: there is no such camera; lists those there are.
        """
        if name not in CAMERAS:
            raise unknown_name("camera", name, CAMERAS)
        if self._plugin is not None and not self._drawn:
            self._drawn = True
            with _quiet():  # the plugin's first pictures lack shadows, and make it print
                self.draw(name, width, height)
                self.draw(name, width, height)
        eye, target, fov_deg = self.view.stand(CAMERAS[name])
        brightness = self.view.light_brightness
        _, _, pixels, depth, _ = pybullet.getCameraImage(
            width,
            height,
            pybullet.computeViewMatrix(eye, target, (0.0, 0.0, 1.0)),
            pybullet.computeProjectionMatrixFOV(fov_deg, width / height, NEAR_M, FAR_M),
            lightDirection=self.view.light(),
            lightColor=(brightness, brightness, brightness),
            renderer=self.mode,
            flags=pybullet.ER_NO_SEGMENTATION_MASK,
            physicsClientId=self._client,
        )
        picture = np.ascontiguousarray(np.reshape(pixels, (height, width, 4))[:, :, :3], np.uint8)
        if self._plugin is not None and brightness != 1.0:  # the plugin heeds no colour of light
            picture = np.minimum(picture * brightness, 255.0).astype(np.uint8)
        draw_marks(picture, np.reshape(depth, (height, width)), Lens(eye, target, fov_deg, NEAR_M, FAR_M), marks)
        return picture

    def close(self) -> None:
        """Unload the plugin; before the client disconnects."""
        if self._plugin is not None:
            with _quiet():
                pybullet.unloadPlugin(self._plugin, physicsClientId=self._client)
            self._plugin = None


def fastest_renderer() -> RendererName:
    """What `UNDERSTUDY_RENDERER` says; otherwise `egl` where the plugin draws on a graphics card, else `tiny`.

    Raises:
        InputError: the variable names no renderer.
    """
    chosen = os.environ.get(RENDERER_VARIABLE)
    if chosen is None:
        return "egl" if _opengl_is_hardware() else "tiny"
    for name in RENDERERS:
        if chosen == name:
            return name
    raise InputError(f"{RENDERER_VARIABLE}: {unknown_name('renderer', chosen, RENDERERS)}")


@functools.cache
def _opengl_is_hardware() -> bool:
    """Whether the plugin loads and draws, and not by software; tried in another process, because it can kill one."""
    if _egl_path() is None:
        return False
    try:
        done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    words = done.stdout.decode(errors="replace")
    return done.returncode == 0 and "DRAWN" in words and not any(name in words for name in SOFTWARE_OPENGL)


_PROBE = """
import importlib.util, pybullet
client = pybullet.connect(pybullet.DIRECT)
pybullet.loadPlugin(importlib.util.find_spec("eglRenderer").origin, "_eglRendererPlugin")
shape = pybullet.createVisualShape(pybullet.GEOM_BOX, halfExtents=[1, 1, 1], rgbaColor=[1, 0, 0, 1])
pybullet.createMultiBody(0, baseVisualShapeIndex=shape)
view = pybullet.computeViewMatrix([4, 0, 0], [0, 0, 0], [0, 0, 1])
lens = pybullet.computeProjectionMatrixFOV(40, 1, 0.1, 10)
picture = pybullet.getCameraImage(16, 16, view, lens, renderer=pybullet.ER_BULLET_HARDWARE_OPENGL)[2]
red, green, blue = list(picture.reshape(16, 16, 4)[8, 8, :3])
if red > 50 and red > 2 * green:
    print("DRAWN", flush=True)
"""
"""Prints OpenGL's renderer (the plugin does), and DRAWN when a red box came out red."""


def _egl_path() -> str | None:
    found = importlib.util.find_spec("eglRenderer")
    return None if found is None else found.origin


def _load_egl(client: int) -> int:
    path = _egl_path()
    number = -1
    if path is not None:
        with _quiet():
            number = pybullet.loadPlugin(path, "_eglRendererPlugin", physicsClientId=client)
    if number < 0:
        raise InputError(
            "PyBullet's EGL renderer does not load here. "
            f"Use TinyRenderer instead: unset {RENDERER_VARIABLE}, or set it to tiny."
        )
    return int(number)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The plugin prints about OpenGL where programs read our JSON: its words go nowhere."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what it printed may still lie in the C library's buffer
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
