"""The one place that knows every device by name.

A device's module is imported only when it is asked for: what it needs (pygame, a HID library, ROS 2) may be missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from understudy.capture.devices.device import Device
from understudy.capture.devices.layout import load_layout
from understudy.capture.devices.shaping import Shaping, ShapingConfig
from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.clock import Clock
from understudy.envs.arms.robot import RobotDescription
from understudy.errors import InputError, unknown_name


@dataclass(frozen=True)
class DeviceOptions:
    """What can be said of a device on the command line; each device takes what concerns it."""

    dead_band: float = ShapingConfig.dead_band
    """Deflection of a stick below which nothing moves, at least 0 and below 1."""
    speed: float = ShapingConfig.speed
    """Share of the largest step that a key or full deflection asks for, above 0 and at most 1."""
    acceleration_s: float = ShapingConfig.acceleration_s
    """Time from rest to full speed, s; 0 is at once."""
    hold_to_move: bool = ShapingConfig.hold_to_move
    """Nothing moves unless the device's hold button is pressed."""
    layout: str = ""
    """Which axis and button does what (gamepad, joy): a shipped layout or a YAML file; empty for the device's own."""
    source: Path | None = None
    """replay: the recorded input, `DATASET` or `DATASET:EPISODE` for an episode's requests, or a CSV file."""
    topic: str = ""
    """joy, leader: the ROS 2 topic; empty for /joy and /leader/joint_states."""
    calibration: Path | None = None
    """leader: the file that `understudy calibrate-leader` wrote."""

    def __post_init__(self) -> None:
        self.shaping()

    def shaping(self) -> ShapingConfig:
        """The part of the options that says how axes move the arm.

        Raises:
            InputError: a number is out of its range.
        """
        return ShapingConfig(self.dead_band, self.speed, self.acceleration_s, self.hold_to_move)


@dataclass(frozen=True)
class _Asked:
    """Everything a device may need."""

    spec: ActionSpec
    robot: RobotDescription
    clock: Clock
    period_s: float
    task: str
    rng: np.random.Generator | None
    options: DeviceOptions


def make_device(
    name: str,
    *,
    spec: ActionSpec,
    robot: RobotDescription,
    clock: Clock,
    period_s: float,
    task: str = "",
    rng: np.random.Generator | None = None,
    options: DeviceOptions | None = None,
) -> Device:
    """The device called `name`, ready to be read once a control period.

    Args:
        name: one of `DEVICES`.
        spec: the action space to answer in.
        robot: the arm that is driven.
        clock: the arm's clock.
        period_s: time between two readings, s.
        task: what the scripted operator solves.
        rng: draws the scripted operator's manner; None moves exactly.
        options: what the operator chose.

    Raises:
        InputError: no such device, an option that is missing or wrong, an action space that the device cannot drive,
            or something that it needs is not there (`MissingExtra` for a package).
    """
    if name not in _MAKERS:
        raise unknown_name("device", name, _MAKERS)
    if not (math.isfinite(period_s) and period_s > 0.0):
        raise InputError(f"The period of a device must be a positive number of seconds, got {period_s}.")
    return _MAKERS[name](_Asked(spec, robot, clock, period_s, task, rng, options or DeviceOptions()))


def _scripted(asked: _Asked) -> Device:
    from understudy.capture.devices.scripted import ScriptedDevice

    return ScriptedDevice(asked.task, asked.robot, asked.spec, asked.rng)


def _keyboard(asked: _Asked) -> Device:
    from understudy.capture.devices.keyboard import KeyboardConfig, KeyboardDevice

    config = KeyboardConfig(speed=asked.options.speed, acceleration_s=asked.options.acceleration_s)
    return KeyboardDevice(asked.spec, asked.clock, config, period_s=asked.period_s)


def _browser(asked: _Asked) -> Device:
    from understudy.capture.devices.browser import BrowserConfig, BrowserDevice

    # Silence of a page is measured in real time, whatever the arm's clock does.
    return BrowserDevice(asked.spec, asked.period_s, BrowserConfig(asked.options.shaping()))


def _gamepad(asked: _Asked) -> Device:
    from understudy.capture.devices.gamepad import GamepadDevice

    return GamepadDevice(asked.spec, asked.period_s, asked.options.shaping(), asked.options.layout)


def _spacemouse(asked: _Asked) -> Device:
    from understudy.capture.devices.spacemouse import SpaceMouseDevice

    return SpaceMouseDevice(asked.spec, asked.period_s, asked.options.shaping())


def _joy(asked: _Asked) -> Device:
    from understudy.capture.devices.joy import JoyDevice
    from understudy.capture.ros_joy import TOPIC, RosJoy

    options = asked.options
    # What is wrong with the task or the layout is said before anything joins the graph.
    Shaping(asked.spec, asked.period_s, options.shaping())
    load_layout(options.layout or "xbox", asked.spec, hold_to_move=options.hold_to_move, joy=True)
    source = RosJoy(options.topic or TOPIC)
    return JoyDevice(asked.spec, asked.period_s, source, options.shaping(), options.layout)


def _leader(asked: _Asked) -> Device:
    from understudy.capture.devices.leader import LeaderDevice
    from understudy.capture.devices.leader_calibration import LeaderCalibration, read_calibration
    from understudy.capture.ros_leader import TOPIC, RosLeader

    options, robot = asked.options, asked.robot
    given = None if options.calibration is None else read_calibration(options.calibration, robot)
    source = RosLeader(options.topic or TOPIC)
    try:
        calibration = given or LeaderCalibration.same_joints(robot)
        source.require(calibration)
        return LeaderDevice(asked.spec, robot, asked.period_s, source, calibration)
    except BaseException:
        source.close()
        raise


def _hand(asked: _Asked) -> Device:
    from understudy.capture.devices.hand import HandDevice

    return HandDevice(asked.spec)


def _replay(asked: _Asked) -> Device:
    from understudy.capture.devices.replay import ReplayDevice, load_recordings

    if asked.options.source is None:
        raise InputError("--device replay needs --source: DATASET, DATASET:EPISODE or a CSV file.")
    return ReplayDevice(asked.spec, load_recordings(asked.options.source, asked.spec))


_MAKERS: Mapping[str, Callable[[_Asked], Device]] = {
    "scripted": _scripted,
    "keyboard": _keyboard,
    "gamepad": _gamepad,
    "spacemouse": _spacemouse,
    "joy": _joy,
    "leader": _leader,
    "hand": _hand,
    "replay": _replay,
    "browser": _browser,
}
DEVICES: tuple[str, ...] = tuple(_MAKERS)
"""Every device by name."""
AUTOMATIC = ("scripted", "replay")
"""Nobody holds these: their takes begin by themselves."""
UNCOMMANDED = ("hand",)
"""The arm is moved by other means, and gets no commands (`capture/hand_guided.py`); needs a real arm."""
