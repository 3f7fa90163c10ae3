"""A game pad on this machine, through SDL (pygame): sticks move the tool, buttons ask the session.

SDL knows the pads of many makers and names their controls alike; pads that it does not know are told to it by
`SDL_GAMECONTROLLERCONFIG`. No window is opened: where there is no display, SDL's dummy video driver is used. A pad
that is pulled out is lost; any pad that is plugged in takes its place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from understudy.capture.devices.axes import AxisDrive, Pressed
from understudy.capture.devices.device import DeviceReading
from understudy.capture.devices.layout import Layout, load_layout
from understudy.capture.devices.pad import BUTTONS, STICK_AXES, TRIGGERS, PadState
from understudy.capture.devices.shaping import Shaping, ShapingConfig
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec
from understudy.errors import InputError, MissingExtra

GONE = "The gamepad is gone: plug it in, or switch it on."
_PLAYSTATION = ("ps3", "ps4", "ps5", "sony", "playstation", "dualshock", "dualsense", "wireless controller")
"""What names of PlayStation pads have in them."""
_FULL = 32767.0


class SdlPad:
    """The first game pad that SDL finds, read without waiting."""

    def __init__(self) -> None:
        """Raises:
        MissingExtra: pygame is not installed.
        InputError: SDL has no game controllers here.
        """
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        # Pads count also while another window, such as the camera's, is in front.
        os.environ.setdefault("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")
        try:
            import pygame
            from pygame._sdl2 import controller
        except ModuleNotFoundError as error:
            raise MissingExtra("pygame", "devices") from error
        self._pygame: Any = pygame
        self._sdl: Any = controller
        try:
            self._begin()
            controller.init()
        except pygame.error as error:
            raise InputError(f"SDL cannot read game pads here: {error}.") from error
        controller.set_eventstate(True)
        self._pad: Any = None
        self._id = -1
        self._find()

    @property
    def name(self) -> str:
        """What the pad calls itself; empty while there is none."""
        return str(self._pad.name) if self._pad is not None else ""

    def seen(self) -> list[str]:
        """Names of what is plugged in and is no pad that SDL knows."""
        joysticks = self._pygame.joystick
        joysticks.init()
        strangers = [i for i in range(self._sdl.get_count()) if not self._sdl.is_controller(i)]
        return [str(joysticks.Joystick(i).get_name()) for i in strangers]

    def _begin(self) -> None:
        """Start SDL's video part, without which it hands out no events; where there is no display, the dummy one."""
        display = self._pygame.display
        if any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")):
            with contextlib.suppress(self._pygame.error):  # it is named and not there
                display.init()
                return
        chosen = os.environ.get("SDL_VIDEODRIVER")
        os.environ["SDL_VIDEODRIVER"] = "dummy"
        try:
            display.init()
        finally:  # whoever opens a window later must still hear that there is no display
            del os.environ["SDL_VIDEODRIVER"]
            if chosen is not None:
                os.environ["SDL_VIDEODRIVER"] = chosen

    def poll(self) -> PadState | None:
        """What the pad says now; None while there is none, or SDL fails."""
        try:
            if not self._pygame.display.get_init():  # a window that closed took SDL's video part along
                self._begin()
            return self._poll()
        except self._pygame.error:
            return None

    def _poll(self) -> PadState | None:
        events = self._pygame
        # pygame must see a joystick come, or it fails in whoever sees it go (a window asks for all events).
        found = events.event.get([events.CONTROLLERBUTTONDOWN, events.JOYDEVICEADDED])
        # The rest that pads send would fill SDL's queue, which a window's own events need.
        events.event.clear(_pad_events(events))
        if self._pad is not None and not self._pad.attached():
            self._pad.quit()
            self._pad = None
            return None  # gone is said, whatever other pad is there: nobody may be holding that one
        if self._pad is None and not self._find():
            return None
        mine = [event for event in found if event.type == events.CONTROLLERBUTTONDOWN]
        pressed = [BUTTONS[event.button] for event in mine if event.instance_id == self._id and event.button < 15]
        sticks = {name: self._pad.get_axis(i) / _FULL for i, name in enumerate(STICK_AXES)}
        triggers = {name: self._pad.get_axis(4 + i) / _FULL for i, name in enumerate(TRIGGERS)}
        down = frozenset(name for i, name in enumerate(BUTTONS) if self._pad.get_button(i))
        return PadState({**sticks, **triggers}, down, tuple(pressed))

    def close(self) -> None:
        """Let the pad go; safe to call twice. SDL itself stays, since a window may be using it."""
        if self._pad is not None:
            self._pad.quit()
            self._pad = None

    def _find(self) -> bool:
        for index in range(self._sdl.get_count()):
            if self._sdl.is_controller(index):
                self._pad = self._sdl.Controller(index)
                self._id = self._pad.as_joystick().get_instance_id()  # a Controller's own id is its index
                return True
        return False


def _pad_events(pygame: Any) -> list[int]:
    return [
        pygame.CONTROLLERAXISMOTION, pygame.CONTROLLERBUTTONUP, pygame.CONTROLLERDEVICEADDED,
        pygame.CONTROLLERDEVICEREMOVED, pygame.JOYAXISMOTION, pygame.JOYBUTTONDOWN, pygame.JOYBUTTONUP,
        pygame.JOYHATMOTION, pygame.JOYDEVICEREMOVED,
    ]  # fmt: skip


class GamepadDevice:
    """Drives an action space of steps from a game pad."""

    name = "gamepad"

    def __init__(
        self, spec: ActionSpec, period_s: float, config: ShapingConfig | None = None, layout: str = ""
    ) -> None:
        """Args:
        spec: an action space of steps or speeds, or part of one.
        period_s: time between two readings, s.
        config: how sticks move the arm.
        layout: shipped name or YAML file; empty takes the shipped one that fits the pad.

        Raises:
            MissingExtra: pygame is not installed.
            InputError: no pad is plugged in, or the layout or the action space does not fit.
        """
        config = config or ShapingConfig()
        Shaping(spec, period_s, config)  # what is wrong with the task or the layout is said before a pad is looked for
        if layout:
            load_layout(layout, spec, hold_to_move=config.hold_to_move)
        self._pad = SdlPad()
        if not self._pad.name:
            raise InputError(_no_pad(self._pad.seen()))
        self.layout: Layout = load_layout(layout or layout_of(self._pad.name), spec, hold_to_move=config.hold_to_move)
        self._drive = AxisDrive(self.name, spec, period_s, config, self.layout.sticks)

    @property
    def lost(self) -> bool:
        """See `Device`."""
        return self._drive.lost

    @property
    def help(self) -> str:
        """What each control does."""
        return f"{self._pad.name}\n{self.layout.help()}"

    def reset(self, observation: Mapping[str, NDArray[Any]]) -> None:
        """See `Device`; buttons pressed before are forgotten."""
        self._pad.poll()
        self._drive.reset()

    def start_pressed(self) -> None:
        """See `Device`."""
        self._drive.start_pressed()

    def read(self, aligned: Aligned) -> DeviceReading:
        """See `Device`."""
        state = self._pad.poll()
        pressed = Pressed() if state is None else self.layout.read(state)
        return self._drive.answer(aligned, pressed, GONE if state is None else "")

    def close(self) -> None:
        """See `Device`."""
        self._pad.close()


def layout_of(pad: str) -> str:
    """The shipped layout whose printed buttons fit a pad of this name."""
    return "ps" if any(word in pad.lower() for word in _PLAYSTATION) else "xbox"


def _no_pad(strangers: list[str]) -> str:
    if strangers:
        return (
            f"No game pad that SDL knows is plugged in, only {', '.join(map(repr, strangers))}; tell SDL its controls "
            "with SDL_GAMECONTROLLERCONFIG (the project SDL_GameControllerDB has lines for most)."
        )
    return (
        "No game pad is plugged in: connect one and try again. Where one is connected, this user may lack the right to "
        "read /dev/input (add the user to the group `input`), or a container may not have been given the device."
    )
