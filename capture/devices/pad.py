"""A game pad by the names of its controls, wherever it is read: SDL on this machine, or `sensor_msgs/Joy`.

The names are those of SDL's game controllers. Buttons are told by where they are (`south` is A on an Xbox pad and the
cross on a PlayStation's), so that one layout drives any pad.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

STICK_AXES = ("left_x", "left_y", "right_x", "right_y")
"""-1 to 1; right and down are positive."""
TRIGGERS = ("left_trigger", "right_trigger")
"""0 released to 1 pressed."""
BUTTONS = (
    "south", "east", "west", "north", "back", "guide", "start", "left_stick", "right_stick", "left_shoulder",
    "right_shoulder", "dpad_up", "dpad_down", "dpad_left", "dpad_right",
)  # fmt: skip
"""In SDL's order."""


@dataclass(frozen=True)
class PadState:
    """A pad at one tick."""

    axes: Mapping[str, float] = field(default_factory=dict)
    """Of `STICK_AXES` and `TRIGGERS`; one that the pad lacks is left out."""
    down: frozenset[str] = frozenset()
    """Buttons that are pressed now."""
    pressed: tuple[str, ...] = ()
    """Buttons that went down since the last tick, in order; one that is up again too."""

    def deflection(self, control: str) -> float:
        """Of an axis its value, of a button 1 while it is pressed; 0 for what the pad lacks."""
        return self.axes.get(control, 1.0 if control in self.down else 0.0)
