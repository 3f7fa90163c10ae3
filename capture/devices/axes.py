"""What every device with axes shares: shaping, the gripper, and what happens when it is lost and comes back.

A device reads its keys, sticks or puck into a `Pressed`; here that becomes its answer. Owns no clock and reads no
device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from understudy.capture.devices.device import DeviceReading, Event, neutral
from understudy.capture.devices.shaping import STICKS, Shaping, ShapingConfig
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec

WAITING = "The {name} is back: press start on it to go on."


@dataclass(frozen=True)
class Pressed:
    """What a device with axes reads at one tick."""

    axes: Mapping[str, float] = field(default_factory=dict)
    """Label of the action -> deflection in [-1, 1]."""
    events: tuple[Event, ...] = ()
    held: bool = True
    """Whether the hold button is pressed (true for a device without one)."""
    toggled: int = 0
    """How often the gripper's button was pressed since the last tick."""
    opening: float | None = None
    """Share of the gripper's travel asked for, 0 closed and 1 open; None leaves the gripper as it is."""


class AxisDrive:
    """Answers for a device with axes; the device keeps one and asks it once a tick."""

    def __init__(
        self,
        name: str,
        spec: ActionSpec,
        period_s: float,
        config: ShapingConfig | None = None,
        sticks: Sequence[Sequence[str]] = STICKS,
    ) -> None:
        """Args:
        name: of the device, for messages.
        spec: the action space; see `Shaping` for what it may be.
        period_s: time between two answers, s.
        config: how axes move the arm.
        sticks: labels that one stick moves together.

        Raises:
            InputError: an action space that axes cannot drive.
        """
        self._name = name
        self._spec = spec
        self._shaping = Shaping(spec, period_s, config, sticks)
        self._gripper_m: float | None = None
        self._waiting = False
        self.lost = False
        """Whether the device was gone at the last answer."""

    def reset(self) -> None:
        """An episode begins: at rest, the gripper as it is, and no press waited for."""
        self._shaping.reset()
        self._gripper_m = None
        self._waiting = False

    def start_pressed(self) -> None:
        """Start was pressed somewhere: a device that was lost and is back moves the arm again."""
        self._waiting = self.lost

    def answer(self, aligned: Aligned, pressed: Pressed, why_gone: str = "") -> DeviceReading:
        """The device's reading at this tick.

        Args:
            aligned: where the arm is now.
            pressed: what was read; of a device that is gone, what came before it went.
            why_gone: a sentence when the device is gone, empty while it is there.
        """
        if why_gone:
            events = pressed.events if self.lost else (*pressed.events, "lost")
            self.lost, self._waiting = True, True
            return self._still(aligned, events, why_gone)
        events = ("back", *pressed.events) if self.lost else pressed.events
        self.lost = False
        if self._waiting and "start" not in pressed.events:
            return self._still(aligned, events, WAITING.format(name=self._name))
        self._waiting = False
        if pressed.held or not self._shaping.config.hold_to_move:
            self._grip(aligned, pressed)
        action = neutral(self._spec, aligned, self._gripper_m)
        return DeviceReading(action + self._shaping.shape(pressed.axes, pressed.held), events)

    def _still(self, aligned: Aligned, events: tuple[Event, ...], message: str) -> DeviceReading:
        self._shaping.reset()
        return DeviceReading(neutral(self._spec, aligned, self._gripper_m), events, message)

    def _grip(self, aligned: Aligned, pressed: Pressed) -> None:
        """A share asks for that opening; a press asks for the other end of the travel than the gripper is nearer to."""
        if "gripper" not in self._spec.labels:
            return
        index = self._spec.labels.index("gripper")
        low, high = self._spec.low[index], self._spec.high[index]
        if pressed.opening is not None and math.isfinite(pressed.opening):
            self._gripper_m = low + min(max(pressed.opening, 0.0), 1.0) * (high - low)
        for _ in range(pressed.toggled % 2):
            width = float(neutral(self._spec, aligned, self._gripper_m)[index])
            self._gripper_m = low if width > (low + high) / 2 else high
