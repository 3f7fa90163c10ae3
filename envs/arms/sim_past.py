"""What an episode of a simulated arm has done so far, so that it can be done again to the last bit.

PyBullet's saved states are exact only while nothing touches: a contact that begins with the next step is there one step
early, and contacts of objects made anew are lost. Of thirty moments of a grasp one or two then went on otherwise. So
`SimArm.restore` plays this again.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from understudy.envs.arms.arm import Command, Start

MOST_DEEDS = 20_000
"""Commands that are remembered: a thousand seconds at 20 Hz. An arm that is never reset must not fill the memory."""


@dataclass(frozen=True)
class Deed:
    """Something that was asked of the arm."""

    steps: int
    """Physics steps since the episode began."""
    command: Command | None
    """None: to hold."""
    late_ns: int


@dataclass(frozen=True)
class Past:
    """An episode up to a moment."""

    start: Start
    deeds: tuple[Deed, ...]


class SimPast:
    """Remembers the episode of one arm."""

    def __init__(self) -> None:
        self._start: Start | None = None
        self._deeds: list[Deed] = []

    def begin(self, start: Start) -> None:
        """A new episode; `start` may be changed by others later."""
        self._start, self._deeds = copy.deepcopy(start), []

    def note(self, steps: int, command: Command | None, late_ns: int = 0) -> None:
        """Something was asked of the arm after so many physics steps of the episode."""
        if len(self._deeds) <= MOST_DEEDS:
            self._deeds.append(Deed(steps, command, late_ns))

    def state(self) -> Past | None:
        """What happened until now; None where that is too long, or no episode has begun."""
        if self._start is None or len(self._deeds) > MOST_DEEDS:
            return None
        return Past(self._start, tuple(self._deeds))

    def restore(self, past: Past | None) -> None:
        """Go on from `past`; from None, what comes cannot be done again either."""
        self._start, self._deeds = (None, []) if past is None else (past.start, list(past.deeds))
