"""Persons at devices, for tests: each pushes, lets go, presses start, pulls the cable and plugs it in again."""

from __future__ import annotations

import os
import pty
import select
import struct
import termios
from collections.abc import Callable, Sequence

import numpy as np
from conformance.device import LIFT, PERIOD_S, VALUES
from sdl_pads import VirtualPad

from understudy.capture.devices.gamepad import GamepadDevice
from understudy.capture.devices.joy import JoyDevice, JoySample
from understudy.capture.devices.keyboard import KeyboardConfig, KeyboardDevice
from understudy.capture.devices.leader_calibration import GripperLink, JointLink, LeaderCalibration
from understudy.capture.devices.leader_states import LeaderSample
from understudy.capture.devices.shaping import ShapingConfig
from understudy.capture.devices.spacemouse import HidHandle, SpaceMouseDevice
from understudy.envs.arms.clock import VirtualClock
from understudy.envs.arms.robot import load_robot

PANDA = load_robot("panda")
AT_ONCE = ShapingConfig(dead_band=0.08, speed=0.5, acceleration_s=0.0)


class Terminal:
    """Both ends of a pty and a keyboard on it."""

    def __init__(self) -> None:
        self.person, self.tty = pty.openpty()
        self.before = termios.tcgetattr(self.tty)
        self.clock = VirtualClock()
        self.device = KeyboardDevice(
            LIFT, self.clock, KeyboardConfig(speed=0.5, hold_s=0.1, acceleration_s=0.0), self.tty
        )
        self.device.reset(VALUES)

    def type(self, keys: str) -> None:
        os.write(self.person, keys.encode())
        # a pty hands bytes over before write returns, but only once the line discipline has run
        self.wait_for(keys)

    def wait_for(self, keys: str) -> None:
        assert select.select([self.tty], [], [], 2.0)[0], keys

    def close(self) -> None:
        self.device.close()
        for descriptor in (self.person, self.tty):
            try:
                os.close(descriptor)
            except OSError:
                continue


KEYS = {"x": "ws", "y": "ad", "z": "rf", "roll": "uo", "pitch": "ik", "yaw": "jl"}


class Typist:
    """A person at a terminal; a key that is held is typed again before every reading, as a terminal repeats it."""

    speed = 0.5

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.device = terminal.device

    def push(self, label: str, direction: float) -> None:
        self.terminal.type(KEYS[label][0 if direction > 0 else 1])

    def let_go(self) -> None:
        self.terminal.clock.advance(0.2)

    def start(self) -> None:
        self.terminal.type("\r")

    def press(self, event: str) -> None:
        self.terminal.type({"stop": ".", "keep": "y", "success": "g"}[event])

    def toggle(self) -> None:
        self.terminal.type(" ")

    def lose(self) -> None:
        os.close(self.terminal.person)

    def come_back(self) -> bool:
        return False


PAD_STICKS = {"x": ("left_y", -1.0), "y": ("left_x", -1.0), "pitch": ("right_y", -1.0), "yaw": ("right_x", -1.0)}
PAD_PAIRS = {"z": ("right_trigger", "left_trigger"), "roll": ("dpad_right", "dpad_left")}


class PadHand:
    """A person's hands on a virtual pad."""

    speed = 0.5

    def __init__(self, config: ShapingConfig = AT_ONCE) -> None:
        self.pad = VirtualPad()
        self.device = GamepadDevice(LIFT, PERIOD_S, config)

    def push(self, label: str, direction: float) -> None:
        if label in PAD_STICKS:
            axis, sign = PAD_STICKS[label]
            self.pad.move(axis, sign * direction)
            return
        control = PAD_PAIRS[label][0 if direction > 0 else 1]
        if control.endswith("trigger"):
            self.pad.move(control, 1.0)
        else:
            self.pad.press(control)

    def let_go(self) -> None:
        for axis, _ in PAD_STICKS.values():
            self.pad.move(axis, 0.0)
        for trigger in PAD_PAIRS["z"]:
            self.pad.move(trigger, 0.0)
        for button in PAD_PAIRS["roll"]:
            self.pad.press(button, down=False)

    def start(self) -> None:
        self.pad.tap("start")

    def press(self, event: str) -> None:
        self.pad.tap({"stop": "back", "keep": "dpad_up", "success": "north"}[event])

    def toggle(self) -> None:
        self.pad.tap("south")

    def lose(self) -> None:
        self.pad.unplug()

    def come_back(self) -> bool:
        self.pad = VirtualPad()
        return True


PUCK_RAW = {"x": (0, 1), "y": (0, 0), "z": (0, 2), "roll": (1, 1), "pitch": (1, 0), "yaw": (1, 2)}
"""Label -> (translation or rotation, which of its three numbers); all are counted the other way round."""


class FakePuck:
    """The kernel's end of a puck: reports wait until they are read, and a pulled cable is an OSError."""

    def __init__(self) -> None:
        self.reports: list[bytes] = []
        self.gone = False
        self.closed = 0

    def read(self, max_length: int) -> Sequence[int]:
        if self.gone:
            raise OSError("read error")
        return list(self.reports.pop(0)[:max_length]) if self.reports else []

    def close(self) -> None:
        self.closed += 1

    def buttons(self, bits: int) -> None:
        self.reports.append(struct.pack("<BI", 3, bits))

    def click(self, bit: int) -> None:
        self.buttons(1 << bit)
        self.buttons(0)


class PuckHand:
    """A person's hand on a puck of the old kind: translation and rotation in reports of their own."""

    speed = 0.5

    def __init__(self, product: str = "SpaceMouse Compact", config: ShapingConfig = AT_ONCE) -> None:
        self.product = product
        self.clock = VirtualClock()
        self.puck: FakePuck | None = FakePuck()
        self.device = SpaceMouseDevice(LIFT, PERIOD_S, config, self.open, self.clock)

    def open(self) -> tuple[str, HidHandle] | None:
        return None if self.puck is None else (self.product, self.puck)

    def push(self, label: str, direction: float) -> None:
        assert self.puck is not None
        numbers = [[0, 0, 0], [0, 0, 0]]
        kind, which = PUCK_RAW[label]
        numbers[kind][which] = round(-350 * direction)
        for report, triple in zip((1, 2), numbers, strict=True):
            self.puck.reports.append(struct.pack("<Bhhh", report, *triple))

    def let_go(self) -> None:
        self.push("x", 0.0)

    def start(self) -> None:
        assert self.puck is not None
        self.puck.click(1)

    def press(self, event: str) -> None:
        assert self.puck is not None
        self.puck.click({"stop": 22, "keep": 14, "success": 12}[event])  # on large pucks

    def toggle(self) -> None:
        assert self.puck is not None
        self.puck.click(0)

    def lose(self) -> None:
        assert self.puck is not None
        self.puck.gone = True
        self.puck = None

    def come_back(self) -> bool:
        self.puck = FakePuck()
        self.clock.advance(1.1)
        return True


JOY_MOVES = {"x": (1, 1.0), "y": (0, 1.0), "pitch": (4, 1.0), "yaw": (3, 1.0), "roll": (6, -1.0)}
"""Label -> (axis of a Joy message from joy_node with an Xbox pad, value for the positive direction)."""


class Stream:
    """A publisher that repeats itself, as joy_node does: every look finds the latest state anew."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.axes = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
        self.waiting: list[JoySample] = []
        self.silent = False
        self.closed = 0

    def say(self, *pressed: int) -> None:
        buttons = tuple(int(i in pressed) for i in range(11))
        self.waiting.append(JoySample(self.clock.now_ns(), tuple(self.axes), buttons))

    def drain(self) -> list[JoySample]:
        if not self.silent:
            self.say()
        waiting, self.waiting = self.waiting, []
        return waiting

    def why_silent(self) -> str:
        return "nobody publishes /joy"

    def close(self) -> None:
        self.closed += 1


class JoyHand:
    """A person's hands on a joystick behind ROS."""

    speed = 0.5

    def __init__(self, config: ShapingConfig = AT_ONCE, layout: str = "") -> None:
        self.clock = VirtualClock()
        self.stream = Stream(self.clock)
        self.device = JoyDevice(LIFT, PERIOD_S, self.stream, config, layout, clock=self.clock)

    def push(self, label: str, direction: float) -> None:
        if label == "z":
            self.stream.axes[5 if direction > 0 else 2] = -1.0
            return
        axis, positive = JOY_MOVES[label]
        self.stream.axes[axis] = positive * direction

    def let_go(self) -> None:
        self.stream.axes = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]

    def start(self) -> None:
        self.stream.say(7)

    def press(self, event: str) -> None:
        if event == "keep":
            self.stream.axes[7] = 1.0  # the cross of buttons is an axis of joy_node's
            self.stream.say()
            self.stream.axes[7] = 0.0
        else:
            self.stream.say({"stop": 6, "success": 3}[event])

    def toggle(self) -> None:
        self.stream.say(0)
        self.stream.say()

    def lose(self) -> None:
        self.stream.silent = True
        self.clock.advance(0.6)

    def come_back(self) -> bool:
        self.stream.silent = False
        return True


SIGNS = np.array([1, -1, 1, 1, -1, -1, 1])
OFFSETS = np.array([0.1, 0.0, -0.4, 1.5, 0.2, -3.0, 0.7])
CALIBRATION = LeaderCalibration(
    robot="panda",
    joints={
        name: JointLink(leader=f"j{i}", sign=1 if SIGNS[i] > 0 else -1, offset_rad=float(OFFSETS[i]))
        for i, name in enumerate(PANDA.joint_names)
    },
    gripper=GripperLink(leader="trigger", closed_rad=1.0, open_rad=0.0),
)


class Leader:
    """Another arm's joint states, given as where the follower should go."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.pose = PANDA.home.copy()
        self.trigger = 0.0
        self.silent_since_ns: int | None = None
        self.extra: dict[str, float] = {}
        self.driver: Callable[[], int] = lambda: 0
        """The stamp that its driver gives a message, ns; 0 is none."""
        self.between: list[LeaderSample] = []
        """What came between two looks, before the newest."""

    def says(self, pose: np.ndarray, stamp_ns: int) -> LeaderSample:
        """The message of an arm that would lead to this pose."""
        joints = {f"j{i}": float(value) for i, value in enumerate(SIGNS * (pose - OFFSETS))}
        return LeaderSample(stamp_ns, {**joints, "trigger": self.trigger, **self.extra}, self.driver())

    def heard(self) -> list[LeaderSample]:
        between, self.between = self.between, []
        stamp = self.clock.now_ns() if self.silent_since_ns is None else self.silent_since_ns
        return [*between, self.says(self.pose, stamp)]

    def why_silent(self) -> str:
        return "nobody publishes /leader/joint_states"

    def close(self) -> None:
        self.silent_since_ns = self.clock.now_ns()
