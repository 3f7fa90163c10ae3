"""The page of the console as a device: what its keys, pads, touches or gamepad ask for, fed in by the server.

The server's thread feeds, the session's thread reads; both are quick and never wait for each other. What a page says
counts for `release_s` from when it was said: a page that is silent for so long, or whose inputs arrive later than that,
counts as one that let go; after `lost_s` of this it is lost, and the arm holds. Owns no socket.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.capture.devices.device import DeviceReading, Event, neutral
from understudy.capture.devices.shaping import Shaping, ShapingConfig
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.clock import Clock, MonotonicClock
from understudy.errors import InputError

SILENT = "No page is in control, or it is silent: open the console and take control."
LATE = "The page's input arrives {late_s:.1f} s late and moves nothing; if this stays, reload the page."
START_AGAIN = "The page is there again; press start, or prepare the next take, before it moves the arm."


@dataclass(frozen=True)
class BrowserConfig:
    """How a page moves the arm."""

    shaping: ShapingConfig = field(default_factory=ShapingConfig)
    release_s: float = 0.3
    """What a page says counts for this long, s: after it the page counts as one that let go of everything, and what
    arrives later than that moves nothing."""
    lost_s: float = 1.0
    """A page that said nothing for this long, or nothing that was in time, is lost, s; longer than `release_s`."""

    def __post_init__(self) -> None:
        if not (0.0 < self.release_s < self.lost_s and math.isfinite(self.lost_s)):
            raise InputError(
                f"A page is lost after it counts as released: expected 0 < release_s < lost_s, got {self.release_s} "
                f"and {self.lost_s}."
            )


class BrowserDevice:
    """Drives an action space of steps from a page."""

    name = "browser"

    def __init__(
        self, spec: ActionSpec, period_s: float, config: BrowserConfig | None = None, clock: Clock | None = None
    ) -> None:
        """Args:
        spec: an action space of steps or speeds, or part of one.
        period_s: time between two readings, s.
        config: speed, and when silence counts.
        clock: measures silence. None is the machine's monotonic clock, and not the arm's: a simulated arm's time may
            stand still while a person is waiting.

        Raises:
            InputError: an action space that keys and sticks cannot drive.
        """
        self.lost = False
        self.config = config or BrowserConfig()
        self.labels = spec.labels
        """Numbers of the action that a page may move, the gripper among them."""
        self._spec = spec
        self._clock: Clock = clock or MonotonicClock()
        self._shaping = Shaping(spec, period_s, self.config.shaping)
        self._lock = threading.Lock()
        self._said_ns = self._heard_ns = self._clock.now_ns()
        self._late_s = 0.0
        self._axes: dict[str, float] = {}
        self._held = False
        self._gripper_m: float | None = None
        self._armed = True
        """False after the page was lost, until start is pressed or an episode is prepared."""

    def feed(self, axes: Mapping[str, float], gripper: float | None, moving: bool, late_s: float = 0.0) -> None:
        """What the page says; it counts until the next feed, and no longer than `release_s`. For any thread.

        Args:
            axes: label -> deflection in [-1, 1]; labels that are not moved may be left out.
            gripper: opening to ask for from now on, m; None leaves it.
            moving: whether a key, pad or hold button is pressed at all.
            late_s: how long ago it was said, s. What is older than `release_s` moves nothing, and neither does what was
                said before it.
        """
        known = {label: float(axes[label]) for label in self._shaping.labels if label in axes}
        with self._lock:
            self._heard_ns, self._late_s = self._clock.now_ns(), late_s
            if not late_s <= self.config.release_s:
                self._axes, self._held = {}, False
                return
            self._axes, self._held = known, bool(moving)
            self._said_ns = self._heard_ns - round(late_s * 1e9)
            if gripper is not None and math.isfinite(gripper) and "gripper" in self._spec.labels:
                index = self._spec.labels.index("gripper")
                self._gripper_m = min(max(float(gripper), self._spec.low[index]), self._spec.high[index])

    def let_go(self) -> None:
        """Nothing is pressed any more: control changes hands, or the page went away. For any thread."""
        with self._lock:
            self._axes, self._held = {}, False

    def start_pressed(self) -> None:
        """Start was pressed: a page that was lost and is back moves the arm again. For any thread."""
        with self._lock:
            self._armed = not self.lost

    def reset(self, observation: Mapping[str, NDArray[Any]]) -> None:
        """See `Device`; the gripper is asked for nothing until the page does."""
        with self._lock:
            self._gripper_m, self._armed = None, True
        self._shaping.reset()

    def read(self, aligned: Aligned) -> DeviceReading:
        """See `Device`."""
        with self._lock:
            now_ns = self._clock.now_ns()
            silent_s = (now_ns - self._said_ns) * 1e-9
            axes, held, gripper_m = self._axes, self._held, self._gripper_m
            events = self._notice(silent_s > self.config.lost_s)
            message = self._message((now_ns - self._heard_ns) * 1e-9)
            armed = self._armed
        if silent_s > self.config.release_s or not armed:
            axes, held = {}, False
        action = neutral(self._spec, aligned, gripper_m) + self._shaping.shape(axes, held)
        return DeviceReading(np.clip(action, self._spec.low, self._spec.high), events, message)

    def close(self) -> None:
        """See `Device`."""
        self.let_go()

    def _message(self, unheard_s: float) -> str:
        """What the operator should know, of a page that was heard this long ago. Called with the lock held."""
        if self._late_s > self.config.release_s and unheard_s <= self.config.lost_s:
            return LATE.format(late_s=self._late_s)
        return SILENT if self.lost else "" if self._armed else START_AGAIN

    def _notice(self, lost: bool) -> tuple[Event, ...]:
        """Remember whether the page is gone; what there is to say about it, once. Called with the lock held."""
        before, self.lost = self.lost, lost
        if lost and not before:
            self._armed = False
            return ("lost",)
        return ("back",) if before and not lost else ()
