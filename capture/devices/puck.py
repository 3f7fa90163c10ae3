"""What a SpaceMouse's puck says: the reports that all these devices send, and how they read as our axes.

Reports: 1 is the translation as three 16-bit numbers, followed by the rotation on newer ones; 2 is the rotation; 3 is a
bit for each button. Numbers reach about 350. The puck's axes are right, towards the person and down; x is away from the
person here, y to the left and z up, for translation and rotation alike (the frame of ROS's spacenav node).

A puck that is off its centre repeats itself, whether it moves or not: translation and rotation in turn, 125 reports a
second by cable and some 62 by radio, and zeros three times at the end (as listened to on a SpaceNavigator and a
SpaceMouse Wireless: github.com/AndunHH/spacemouse, SpaceNavigator.md and SpaceMouseWireless.md). At rest it says
nothing. So silence after zeros is rest, and silence after anything else is a radio that failed.
"""

from __future__ import annotations

from collections.abc import Sequence

FULL = 350.0
"""What the axes reach when the puck is fully deflected."""
_SENSE = (("y", -1.0), ("x", -1.0), ("z", -1.0))
"""For the puck's first, second and third axis: ours, and the sign."""
_TURNS = (("pitch", -1.0), ("roll", -1.0), ("yaw", -1.0))


class Puck:
    """The state of a puck as its reports tell it."""

    def __init__(self) -> None:
        self.axes: dict[str, float] = {}
        """Label -> deflection, about -1 to 1."""
        self.down = 0
        """A bit for each button."""
        self.reports = 0
        """Of axes and buttons, so far; a receiver also tells of its battery, and does so without the puck."""

    @property
    def deflected(self) -> bool:
        """Whether any axis is off zero."""
        return any(self.axes.values())

    def take(self, report: Sequence[int]) -> int:
        """Read one report; returns the bits of the buttons that went down with it."""
        kind, body = (report[0], report[1:]) if report else (0, ())
        self.reports += kind in (1, 2, 3)
        if kind == 1 and len(body) >= 12:
            self._set(_SENSE, body[:6])
            self._set(_TURNS, body[6:12])
        elif kind == 1 and len(body) >= 6:
            self._set(_SENSE, body[:6])
        elif kind == 2 and len(body) >= 6:
            self._set(_TURNS, body[:6])
        elif kind == 3 and body:
            before, self.down = self.down, int.from_bytes(bytes(body), "little")
            return self.down & ~before
        return 0

    def _set(self, sense: Sequence[tuple[str, float]], body: Sequence[int]) -> None:
        for i, (label, sign) in enumerate(sense):
            raw = int.from_bytes(bytes(body[2 * i : 2 * i + 2]), "little", signed=True)
            self.axes[label] = sign * raw / FULL
