"""The terminal's keyboard as a device: hold a key to move the tool, let go and it stops.

A terminal reports characters, not key releases: a key counts as held for `hold_s` after each character, and the
terminal's own repetition keeps it held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from understudy.capture.devices.axes import AxisDrive, Pressed
from understudy.capture.devices.device import DeviceReading, Event
from understudy.capture.devices.shaping import ShapingConfig
from understudy.capture.devices.terminal_keys import TerminalKeys
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.clock import Clock
from understudy.errors import InputError

MOVES: Mapping[str, tuple[str, float]] = {
    "w": ("x", 1.0), "s": ("x", -1.0),
    "a": ("y", 1.0), "d": ("y", -1.0),
    "r": ("z", 1.0), "f": ("z", -1.0),
    "u": ("roll", 1.0), "o": ("roll", -1.0),
    "i": ("pitch", 1.0), "k": ("pitch", -1.0),
    "j": ("yaw", 1.0), "l": ("yaw", -1.0),
}  # fmt: skip
"""Key -> number of the action and direction."""
EVENTS: Mapping[str, Event] = {
    "\r": "start", "\n": "start", ".": "stop", "g": "success", "b": "failure",
    "y": "keep", "n": "drop", "z": "undo", "Z": "redo", "m": "unmark", "h": "hold", "v": "intervene", "V": "release",
    "q": "quit", "\x04": "quit",
}  # fmt: skip
"""The page's keys (capture/console/static), where a second `v` hands back too."""
GRIPPER_KEY = " "
HELP = (
    "move  w/s x   a/d y   r/f z   u/o roll   i/k pitch   j/l yaw   space gripper\n"
    "take  enter start   . stop   g success   b failure   m unmark   y keep   n drop   z undo last kept   Z redo\n"
    "      h hold the arm   v take over   V hand back   q quit"
)


@dataclass(frozen=True)
class KeyboardConfig:
    """How keys move the arm."""

    speed: float = ShapingConfig.speed
    """Share of the largest step that a held key asks for, above 0 and at most 1."""
    hold_s: float = 0.12
    """A key counts as held this long after each of its characters, s."""
    acceleration_s: float = ShapingConfig.acceleration_s
    """Time from rest to full speed, s; 0 is at once."""

    def __post_init__(self) -> None:
        if not 0.0 < self.speed <= 1.0:
            raise InputError(f"Keyboard speed must be above 0 and at most 1, got {self.speed}.")
        self.shaping()  # refuses an acceleration out of range
        if not 0.0 < self.hold_s < 1.0:
            raise InputError(f"Keyboard hold must be between 0 and 1 s, got {self.hold_s}.")

    def shaping(self) -> ShapingConfig:
        """The part that all devices with axes share; a key has no dead band."""
        return ShapingConfig(dead_band=0.0, speed=self.speed, acceleration_s=self.acceleration_s)


class KeyboardDevice:
    """Drives a `tool_delta` action space from a terminal."""

    name = "keyboard"
    help = HELP

    def __init__(
        self,
        spec: ActionSpec,
        clock: Clock,
        config: KeyboardConfig | None = None,
        descriptor: int | None = None,
        period_s: float = 0.05,
    ) -> None:
        """Take over the terminal.

        Args:
            spec: a `tool_delta` space, or part of one.
            clock: tells how long ago a key came.
            config: speed and hold.
            descriptor: file descriptor of the terminal; None is standard input.
            period_s: time between two readings, s.

        Raises:
            InputError: not a terminal, or an action space that keys cannot drive.
        """
        if spec.name != "tool_delta":
            raise InputError(
                f"The keyboard drives the action space 'tool_delta', and this task uses {spec.name!r}; "
                "choose another device."
            )
        self._config = config or KeyboardConfig()
        self._drive = AxisDrive(self.name, spec, period_s, self._config.shaping())
        self._keys = TerminalKeys(descriptor)
        self._clock = clock
        self._pressed_ns: dict[str, int] = {}

    @property
    def lost(self) -> bool:
        """See `Device`."""
        return self._drive.lost

    def reset(self, observation: Mapping[str, NDArray[Any]]) -> None:
        """See `Device`; keys typed before are forgotten."""
        self._keys.typed()
        self._pressed_ns.clear()
        self._drive.reset()

    def start_pressed(self) -> None:
        """See `Device`."""
        self._drive.start_pressed()

    def read(self, aligned: Aligned) -> DeviceReading:
        """See `Device`. A terminal that is gone asks for no motion and reports `lost` once."""
        characters = self._keys.typed()
        now_ns = self._clock.now_ns()
        self._pressed_ns.update({character: now_ns for character in characters if character in MOVES})
        pressed = Pressed(
            axes=self._axes(now_ns),
            events=tuple(EVENTS[character] for character in characters if character in EVENTS),
            toggled=characters.count(GRIPPER_KEY),
        )
        return self._drive.answer(aligned, pressed, "The terminal is gone." if self._keys.gone else "")

    def close(self) -> None:
        """See `Device`; puts the terminal back as it was."""
        self._keys.close()

    def _axes(self, now_ns: int) -> dict[str, float]:
        """Opposite keys cancel; what was typed longer than `hold_s` ago counts as let go."""
        axes: dict[str, float] = {}
        for key, pressed_ns in self._pressed_ns.items():
            if (now_ns - pressed_ns) * 1e-9 <= self._config.hold_s:
                label, direction = MOVES[key]
                axes[label] = axes.get(label, 0.0) + direction
        return axes
