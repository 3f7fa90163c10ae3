"""Game pads that SDL itself makes up: its virtual joysticks, reached in the library that pygame ships.

The kernel is not asked, so they work where /dev/uinput does not exist; everything from SDL's events on is real.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pygame
from pygame._sdl2 import controller

from understudy.capture.devices.pad import BUTTONS, STICK_AXES, TRIGGERS

GAME_CONTROLLER = 1


@functools.cache
def sdl() -> Any:
    """The SDL that pygame has loaded."""
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libSDL2-2" in line}
    assert len(mapped) == 1, f"pygame {pygame.__version__} has loaded {mapped}"
    library = ctypes.CDLL(mapped.pop())
    library.SDL_JoystickOpen.restype = ctypes.c_void_p
    library.SDL_JoystickClose.argtypes = [ctypes.c_void_p]
    library.SDL_JoystickInstanceID.argtypes = [ctypes.c_void_p]
    library.SDL_JoystickSetVirtualAxis.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int16]
    library.SDL_JoystickSetVirtualButton.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint8]
    return library


class VirtualPad:
    """A pad that does as the test says."""

    def __init__(self) -> None:
        index = sdl().SDL_JoystickAttachVirtual(GAME_CONTROLLER, 6, len(BUTTONS), 0)
        assert index >= 0
        self._handle = sdl().SDL_JoystickOpen(index)
        self._id = sdl().SDL_JoystickInstanceID(self._handle)

    def move(self, axis: str, value: float) -> None:
        """A stick to [-1, 1], a trigger to [0, 1]."""
        raw = 2.0 * value - 1.0 if axis in TRIGGERS else value
        number = (*STICK_AXES, *TRIGGERS).index(axis)
        assert sdl().SDL_JoystickSetVirtualAxis(self._handle, number, round(32767 * raw)) == 0

    def press(self, button: str, down: bool = True) -> None:
        assert sdl().SDL_JoystickSetVirtualButton(self._handle, BUTTONS.index(button), int(down)) == 0
        pygame.event.pump()  # SDL keeps only the latest state of a virtual button

    def tap(self, button: str) -> None:
        self.press(button)
        self.press(button, down=False)

    def unplug(self) -> None:
        if self._handle is None:
            return
        for index in range(sdl().SDL_NumJoysticks()):
            if sdl().SDL_JoystickGetDeviceInstanceID(index) == self._id:
                assert sdl().SDL_JoystickDetachVirtual(index) == 0
                break
        sdl().SDL_JoystickClose(self._handle)
        self._handle = None


@contextmanager
def plugged_in() -> Iterator[VirtualPad]:
    """A virtual pad while the block runs."""
    pygame.display.init()
    controller.init()
    pad = VirtualPad()
    try:
        yield pad
    finally:
        pad.unplug()
        pygame.event.clear()  # a pad that came and went unseen would fail in the next one who asks for all events
