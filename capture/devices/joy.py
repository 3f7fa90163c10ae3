"""A joystick over ROS 2: `sensor_msgs/Joy` messages as a pad, by the numbers of a layout.

Nothing of ROS is in here: messages come from a `JoySource` (`capture/ros_joy.py`). The publisher must repeat itself
(joy_node's `autorepeat_rate`, 20 Hz unless changed): when nothing has come for `max_age_s`, everything counts as let go
and the device as lost, because a message that says "pushed" stays true otherwise when the network or the node dies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from understudy.capture.devices.axes import AxisDrive, Pressed
from understudy.capture.devices.device import DeviceReading
from understudy.capture.devices.layout import JoyAxis, JoyButton, JoyNumbers, load_layout
from understudy.capture.devices.pad import TRIGGERS, PadState
from understudy.capture.devices.shaping import ShapingConfig
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.clock import Clock, MonotonicClock
from understudy.errors import InputError

MAX_AGE_S = 0.5


@dataclass(frozen=True)
class JoySample:
    """One message."""

    stamp_ns: int
    """When it came, on the monotonic clock."""
    axes: tuple[float, ...]
    buttons: tuple[int, ...]


class JoySource(Protocol):
    """Where messages come from."""

    def drain(self) -> list[JoySample]:
        """What has come since the last call, oldest first; never waits."""

    def why_silent(self) -> str:
        """Why nothing may be coming, as a clause."""

    def close(self) -> None:
        """Leave the graph; safe to call twice."""


class JoyPad:
    """Messages turned into a pad."""

    def __init__(self, numbers: JoyNumbers) -> None:
        self._numbers = numbers
        self._moved: set[str] = set()
        self._down: frozenset[str] = frozenset()

    def why_unfit(self, sample: JoySample) -> str:
        """Why a message does not fit the layout, as a clause; empty when it does."""
        wanted = [axis.number for axis in self._numbers.axes.values()]
        wanted += [button.axis for button in self._numbers.buttons.values() if button.axis is not None]
        if max(wanted, default=-1) >= len(sample.axes):
            return f"messages have {len(sample.axes)} axes, and the layout uses axis {max(wanted)}"
        pressed = [button.number for button in self._numbers.buttons.values() if button.number is not None]
        if max(pressed, default=-1) >= len(sample.buttons):
            return f"messages have {len(sample.buttons)} buttons, and the layout uses button {max(pressed)}"
        return ""

    def take(self, sample: JoySample) -> PadState:
        """The pad as this message tells it."""
        axes = {name: self._axis(name, where, sample) for name, where in self._numbers.axes.items()}
        down = frozenset(name for name, where in self._numbers.buttons.items() if _is_down(where, sample))
        pressed, self._down = down - self._down, down
        return PadState(axes, down, tuple(name for name in self._numbers.buttons if name in pressed))

    def _axis(self, name: str, where: JoyAxis, sample: JoySample) -> float:
        raw = sample.axes[where.number]
        if name in TRIGGERS and name not in self._moved:
            # joy_node says 0, which is half pressed, of a trigger that was never touched
            if raw == 0.0 and where.released != 0.0:
                return 0.0
            self._moved.add(name)
        value = (raw - where.released) / (where.full - where.released)
        if not math.isfinite(value):
            return 0.0
        return min(max(value, 0.0 if name in TRIGGERS else -1.0), 1.0)


def _is_down(where: JoyButton, sample: JoySample) -> bool:
    if where.number is not None:
        return sample.buttons[where.number] != 0
    assert where.axis is not None  # a JoyButton is one of the two
    return sample.axes[where.axis] / where.at > 0.5


class JoyDevice:
    """Drives an action space of steps from Joy messages."""

    name = "joy"

    def __init__(
        self,
        spec: ActionSpec,
        period_s: float,
        source: JoySource,
        config: ShapingConfig | None = None,
        layout: str = "",
        *,
        max_age_s: float = MAX_AGE_S,
        clock: Clock | None = None,
    ) -> None:
        """Args:
        spec: an action space of steps or speeds, or part of one.
        period_s: time between two readings, s.
        source: where messages come from.
        config: how sticks move the arm.
        layout: shipped name or YAML file; empty is "xbox".
        max_age_s: silence after which everything counts as let go, s.
        clock: what the samples' stamps are measured on; None is the machine's monotonic clock.

        Raises:
            InputError: the layout or the action space does not fit.
        """
        config = config or ShapingConfig()
        if not (math.isfinite(max_age_s) and max_age_s > 0.0):
            raise InputError(f"The oldest Joy message must be a positive number of seconds old, got {max_age_s}.")
        self.layout = load_layout(layout or "xbox", spec, hold_to_move=config.hold_to_move, joy=True)
        self._drive = AxisDrive(self.name, spec, period_s, config, self.layout.sticks)
        self._source = source
        self._max_age_s = max_age_s
        self._clock: Clock = clock or MonotonicClock()
        assert self.layout.joy is not None  # asked for above
        self._pad = JoyPad(self.layout.joy)
        self._state = PadState()
        self._latest: JoySample | None = None
        self._began_ns = self._clock.now_ns()

    @property
    def lost(self) -> bool:
        """See `Device`."""
        return self._drive.lost

    @property
    def help(self) -> str:
        """What each control does."""
        return self.layout.help()

    def reset(self, observation: Mapping[str, NDArray[Any]]) -> None:
        """See `Device`; buttons pressed before are forgotten."""
        self._take()
        self._drive.reset()

    def start_pressed(self) -> None:
        """See `Device`."""
        self._drive.start_pressed()

    def read(self, aligned: Aligned) -> DeviceReading:
        """See `Device`."""
        states = self._take()
        why = self._why_gone()
        if why:
            self._state = PadState()
            return self._drive.answer(aligned, Pressed(), why)
        pressed = tuple(button for state in states for button in state.pressed)
        asked = self.layout.read(PadState(self._state.axes, self._state.down, pressed))
        return self._drive.answer(aligned, asked)

    def close(self) -> None:
        """See `Device`."""
        self._source.close()

    def _take(self) -> Sequence[PadState]:
        samples = self._source.drain()
        self._latest = samples[-1] if samples else self._latest
        states = [self._pad.take(sample) for sample in samples if not self._pad.why_unfit(sample)]
        self._state = states[-1] if states else self._state
        return states

    def _why_gone(self) -> str:
        since_ns = self._began_ns if self._latest is None else self._latest.stamp_ns
        silent_s = (self._clock.now_ns() - since_ns) * 1e-9
        if silent_s > self._max_age_s:
            why = self._source.why_silent()
            return f"No Joy message for {silent_s:.1f} s: {why}. joy_node must repeat itself (autorepeat_rate above 0)."
        if self._latest is not None and (unfit := self._pad.why_unfit(self._latest)):
            return f"This joystick does not fit the layout: {unfit}; choose another with --layout."
        return ""
