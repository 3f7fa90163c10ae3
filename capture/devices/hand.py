"""Kinesthetic teaching: a person takes the arm by the hand, and nothing is commanded.

The action of a step is what the arm did in it, by the action space's own `encode`; the session records it as all three
channels (`derived`). Goes with `capture/hand_guided.py`, which keeps commands from the arm. The arm itself must be in
gravity compensation or freedrive: that is the driver's business, and a person's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from understudy.capture.devices.device import DeviceReading, neutral
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec


class HandDevice:
    """Asks for nothing: the arm is moved by hand. Never lost, since it is the arm itself."""

    name = "hand"
    lost = False
    derived = True
    """The recorded actions are derived from the arm's motion."""
    help = "Move the arm by hand; it must be in gravity compensation or freedrive. Nothing is commanded."

    def __init__(self, spec: ActionSpec) -> None:
        """`spec` is the action space that the motion is written in."""
        self._spec = spec

    def reset(self, observation: Mapping[str, NDArray[Any]]) -> None:
        """See `Device`."""

    def read(self, aligned: Aligned) -> DeviceReading:
        """See `Device`."""
        return DeviceReading(neutral(self._spec, aligned))

    def close(self) -> None:
        """See `Device`."""
