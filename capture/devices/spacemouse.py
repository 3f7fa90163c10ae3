"""A SpaceMouse (3Dconnexion) on this machine, read as raw HID reports: the puck moves and turns the tool.

What the reports say is in `puck.py`; finding and opening the device, and when it is lost, are here. A driver such as
spacenavd need not run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from understudy.capture.devices.axes import AxisDrive, Pressed
from understudy.capture.devices.device import DeviceReading, Event
from understudy.capture.devices.puck import Puck
from understudy.capture.devices.shaping import ShapingConfig
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.clock import Clock, MonotonicClock
from understudy.errors import InputError, MissingExtra

STICKS = (("x", "y", "z"), ("roll", "pitch", "yaw"))
PUCKS: Mapping[tuple[int, int], str] = {
    (0x046D, 0xC625): "SpacePilot", (0x046D, 0xC626): "SpaceNavigator", (0x046D, 0xC627): "SpaceExplorer",
    (0x046D, 0xC628): "SpaceNavigator for Notebooks", (0x046D, 0xC629): "SpacePilot Pro",
    (0x046D, 0xC62B): "SpaceMouse Pro",
    (0x256F, 0xC62E): "SpaceMouse Wireless", (0x256F, 0xC62F): "SpaceMouse Wireless",
    (0x256F, 0xC631): "SpaceMouse Pro Wireless", (0x256F, 0xC632): "SpaceMouse Pro Wireless",
    (0x256F, 0xC633): "SpaceMouse Enterprise", (0x256F, 0xC635): "SpaceMouse Compact",
    (0x256F, 0xC638): "SpaceMouse Pro Wireless BT", (0x256F, 0xC63A): "SpaceMouse Wireless BT",
    (0x256F, 0xC641): "SpaceMouse Module", (0x256F, 0xC652): "Universal Receiver",
}  # fmt: skip
"""(USB vendor, product) -> name."""
GRIPPER_BIT, START_BIT = 0, 1
"""The two buttons that every puck has, left and right (MENU and FIT on large ones)."""
LARGE = ("Pro", "Enterprise")
LARGE_HOLD_BIT = 25
LARGE_EVENTS: Mapping[int, Event] = {12: "success", 13: "failure", 14: "keep", 15: "drop", 22: "stop"}
"""On large ones: buttons 1 to 4 and ESC; CTRL is the hold button. Small ones have no buttons left for these."""
MOST_REPORTS = 400
"""In one reading; a puck sends some 125 a second."""
RETRY_S = 1.0
SILENT_S = 0.25
"""A puck that is off its centre and says nothing for this long is cut off: fifteen reports by radio are missing."""
CUT_OFF = (
    "The SpaceMouse was pushed and has not been heard since: push it once and let it go. If that does not help, look "
    "at its battery, its receiver or its cable."
)
GONE = "The SpaceMouse is gone: plug it in again."


class HidHandle(Protocol):
    """An open HID device (hidapi's `device`)."""

    def read(self, max_length: int) -> Sequence[int]:
        """The next report; empty when there is none. Raises OSError once the device is gone."""

    def close(self) -> None:
        """Let it go."""


Opener = Callable[[], tuple[str, HidHandle] | None]
"""Opens the first puck for reading without waiting: (its name, handle); None when there is none."""


def open_puck() -> tuple[str, HidHandle] | None:
    """Open the first puck that the kernel knows; see `Opener`.

    Raises:
        MissingExtra: hidapi is not installed.
        InputError: there is one and it may not be opened.
    """
    try:
        import hidraw
    except ModuleNotFoundError as error:
        raise MissingExtra("hidapi", "devices") from error
    found = [entry for entry in hidraw.enumerate() if (entry["vendor_id"], entry["product_id"]) in PUCKS]
    # A receiver or a keyboard-like interface beside the puck's own has another usage than 8, multi-axis controller.
    found.sort(key=lambda entry: entry.get("usage") != 8)
    for entry in found:
        name = PUCKS[entry["vendor_id"], entry["product_id"]]
        handle = hidraw.device()
        try:
            handle.open_path(entry["path"])
            handle.set_nonblocking(1)
        except OSError as error:
            raise InputError(
                f"The {name} is there and may not be read ({error}). Write this line to "
                f"/etc/udev/rules.d/70-spacemouse.rules, and plug it in again: "
                f"{udev_rule(entry['vendor_id'], entry['product_id'])}"
            ) from error
        return name, handle
    return None


def udev_rule(vendor: int, product: int) -> str:
    """The udev rule that lets whoever sits at the machine read this device, by cable or Bluetooth, and no other."""
    return f'KERNEL=="hidraw*", KERNELS=="*:{vendor:04X}:{product:04X}.*", MODE="0660", TAG+="uaccess"'


class SpaceMouseDevice:
    """Drives an action space of steps from a SpaceMouse."""

    name = "spacemouse"

    def __init__(
        self,
        spec: ActionSpec,
        period_s: float,
        config: ShapingConfig | None = None,
        opener: Opener = open_puck,
        clock: Clock | None = None,
        *,
        silent_s: float = SILENT_S,
    ) -> None:
        """Args:
        spec: an action space of steps or speeds, or part of one.
        period_s: time between two readings, s.
        config: how the puck moves the arm; with `hold_to_move` the right button (CTRL on large pucks) is held.
        opener: finds and opens the puck.
        clock: measures silence, and says when to look for a lost puck again; None is the machine's monotonic clock.
        silent_s: a puck that is off its centre and says nothing for longer, and for two readings, is lost, s; at
            rest it may be silent.

        Raises:
            MissingExtra: hidapi is not installed.
            InputError: no puck is there, it may not be read, the action space cannot be driven with it, or `silent_s`
                is not positive.
        """
        if not (math.isfinite(silent_s) and silent_s > 0.0):
            raise InputError(f"A SpaceMouse's silence must be a positive number of seconds, got {silent_s}.")
        self._drive = AxisDrive(self.name, spec, period_s, config, STICKS)
        self._hold_to_move = config is not None and config.hold_to_move
        self._opener = opener
        self._clock: Clock = clock or MonotonicClock()
        self._why = ""
        opened = opener()
        if opened is None:
            raise InputError(
                "No SpaceMouse is plugged in: connect one and try again. Inside a container, give it /dev/hidraw*."
            )
        self._handle: HidHandle | None
        self._product, self._handle = opened
        self._puck = Puck()
        self._silent_s = max(silent_s, 2.0 * period_s)
        self._cut_off = False
        self._tried_ns = self._looked_ns = self._heard_ns = self._clock.now_ns()

    @property
    def lost(self) -> bool:
        """See `Device`."""
        return self._drive.lost

    @property
    def help(self) -> str:
        """What the puck and its buttons do."""
        if self._large:
            take = "menu gripper   fit start   esc stop   1 success   2 failure   3 keep   4 drop   ctrl hold"
        else:
            take = "left button gripper   right button " + ("hold" if self._hold_to_move else "start")
        return f"{self._product}\nmove  push, pull, lift and turn the puck\ntake  {take}"

    def reset(self, observation: Mapping[str, NDArray[Any]]) -> None:
        """See `Device`; buttons pressed before are forgotten, the puck's deflection is not."""
        self._drain()
        self._drive.reset()

    def start_pressed(self) -> None:
        """See `Device`."""
        self._drive.start_pressed()

    def read(self, aligned: Aligned) -> DeviceReading:
        """See `Device`."""
        if self._handle is None:
            self._find_again()
        pressed = self._drain()
        return self._drive.answer(aligned, pressed, self._why_gone())

    def close(self) -> None:
        """See `Device`."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
        self._opener = lambda: None  # closed by us, it does not come back
        self._why = "The SpaceMouse is closed."

    @property
    def _large(self) -> bool:
        return any(word in self._product for word in LARGE)

    def _drain(self) -> Pressed:
        """Every report that has come since the last reading."""
        pressed, before = [0], self._puck.reports
        now_ns = self._clock.now_ns()
        waited_s, self._looked_ns = (now_ns - self._looked_ns) * 1e-9, now_ns
        try:
            for _ in range(MOST_REPORTS if self._handle is not None else 0):
                assert self._handle is not None
                report = self._handle.read(64)
                if not report:
                    break
                pressed.append(self._puck.take(report))
        except OSError:  # pulled out, or out of range
            self._leave()
        if self._puck.reports != before:
            self._heard_ns, self._cut_off = now_ns, False
        if waited_s > self._silent_s:
            # Nobody knows how old these are, and the kernel, whose queue may be full by then, drops the newest. A puck
            # that is still off its centre says so anew within 16 ms.
            self._puck.axes.clear()
        return self._pressed(pressed)

    def _pressed(self, pressed: Sequence[int]) -> Pressed:
        hold_bit = LARGE_HOLD_BIT if self._large else START_BIT
        asks: dict[int, Event] = {START_BIT: "start", **(LARGE_EVENTS if self._large else {})}
        if self._hold_to_move and not self._large:
            del asks[START_BIT]  # held to move, it cannot also start
        return Pressed(
            axes=dict(self._puck.axes),
            events=tuple(event for bits in pressed for bit, event in asks.items() if bits >> bit & 1),
            held=bool(self._puck.down >> hold_bit & 1),
            toggled=sum(bits >> GRIPPER_BIT & 1 for bits in pressed),
        )

    def _why_gone(self) -> str:
        """Why the puck cannot be asked, as a sentence; empty while it can."""
        if self._handle is None:
            return self._why
        silent_s = (self._clock.now_ns() - self._heard_ns) * 1e-9
        if self._puck.deflected and silent_s > self._silent_s:
            self._cut_off = True
            self._puck.axes.clear()
        return CUT_OFF if self._cut_off else ""

    def _leave(self) -> None:
        handle, self._handle = self._handle, None
        self._puck, self._why, self._cut_off = Puck(), GONE, False
        self._tried_ns = self._clock.now_ns()
        if handle is not None:
            handle.close()

    def _find_again(self) -> None:
        """Look for a puck, once a second: the kernel's list takes milliseconds to read, and nothing moves meanwhile."""
        now_ns = self._clock.now_ns()
        if now_ns - self._tried_ns < RETRY_S * 1e9:
            return
        self._tried_ns = now_ns
        try:
            opened = self._opener()
        except InputError as error:  # it is there again, and this user may not read it (yet)
            self._why = str(error)
            return
        if opened is not None:
            self._product, self._handle = opened
            self._looked_ns = now_ns
