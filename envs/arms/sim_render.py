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
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pybullet
from numpy.typing import NDArray

from understudy.envs.tasks.scene import Triple
from understudy.errors import InputError, unknown_name

RendererName = Literal["egl", "tiny"]
RENDERERS: tuple[RendererName, ...] = ("egl", "tiny")
RENDERER_VARIABLE = "UNDERSTUDY_RENDERER"
"""Environment variable that chooses the renderer: egl or tiny. Unset, the fastest that works here draws."""
SOFTWARE_OPENGL = ("llvmpipe", "softpipe", "swrast")
PROBE_TIMEOUT_S = 30.0
NEAR_M, FAR_M = 0.02, 4.0


@dataclass(frozen=True)
class CameraPlacement:
    """Where a simulated camera stands, in the base frame, m; `fov_deg` is its vertical field of view."""

    eye: Triple
    target: Triple
    fov_deg: float = 50.0


CAMERAS: Mapping[str, CameraPlacement] = {"front": CameraPlacement((1.25, -0.75, 0.62), (0.36, 0.0, 0.24), 36.0)}


@dataclass(frozen=True)
class View:
    """What an episode changes about every camera and about the light."""

    eye_shift_m: Triple = (0.0, 0.0, 0.0)
    """How far the cameras stand from where they should, base frame."""
    target_shift_m: Triple = (0.0, 0.0, 0.0)
    """How far what they look at lies from where it should."""
    fov_scale: float = 1.0
    """Vertical field of view, times the placement's."""
    light_direction: Triple = (0.6, -0.8, 2.0)
    """Towards the light, base frame; its length does not matter."""
    light_colour: Triple = (1.0, 1.0, 1.0)
    """Red, green, blue, each 0 to 1."""

    def __post_init__(self) -> None:
        if not self.fov_scale > 0:
            raise InputError(f"A view's fov_scale must be above 0, got {self.fov_scale}.")
        if not np.linalg.norm(self.light_direction) > 0:
            raise InputError("A view's light_direction must not be zero: it points towards the light.")
        if not all(0.0 <= part <= 1.0 for part in self.light_colour):
            raise InputError(f"A view's light_colour must be three numbers from 0 to 1, got {self.light_colour}.")


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
        self._mode = pybullet.ER_TINY_RENDERER if self._plugin is None else pybullet.ER_BULLET_HARDWARE_OPENGL

    def set_view(self, view: View) -> None:
        """Draw like this from now on."""
        self.view = view

    def draw(self, name: str, width: int, height: int) -> NDArray[np.uint8]:
        """A picture (height, width, 3) from a camera in `CAMERAS`.

        Raises:
            InputError: there is no such camera; lists those there are.
        """
        if name not in CAMERAS:
            raise unknown_name("camera", name, CAMERAS)
        place, view = CAMERAS[name], self.view
        eye, target = np.add(place.eye, view.eye_shift_m), np.add(place.target, view.target_shift_m)
        fov_deg = min(place.fov_deg * view.fov_scale, 170.0)
        pixels = pybullet.getCameraImage(
            width,
            height,
            pybullet.computeViewMatrix(eye.tolist(), target.tolist(), (0.0, 0.0, 1.0)),
            pybullet.computeProjectionMatrixFOV(fov_deg, width / height, NEAR_M, FAR_M),
            lightDirection=view.light_direction,
            lightColor=view.light_colour,
            renderer=self._mode,
            flags=pybullet.ER_NO_SEGMENTATION_MASK,
            physicsClientId=self._client,
        )[2]
        return np.ascontiguousarray(np.reshape(pixels, (height, width, 4))[:, :, :3], np.uint8)

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
            f"PyBullet's EGL renderer does not load here. Use TinyRenderer: unset {RENDERER_VARIABLE}, or set it to tiny."
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
