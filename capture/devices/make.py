"""The one place that knows every device by name.

A device's module is imported only when it is asked for: what it needs (pygame, a HID library, ROS 2) may be missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
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
    silent_s: float | None = None
    """joy, leader, spacemouse (while it is pushed): silence after which the device is lost and the arm holds, s; by
    default 0.5 for joy and 0.25 for the others. Longer suits a bad network, and the arm then goes on longer too."""

    def __post_init__(self) -> None:
        self.shaping()
        if self.silent_s is not None and not (math.isfinite(self.silent_s) and self.silent_s > 0.0):
            raise InputError(
                f"The silence after which a device is lost must be a positive number of seconds, got {self.silent_s}."
            )

    def shaping(self) -> ShapingConfig:
        """The part of the options that says how axes move the arm.

        Raises:
            InputError: a number is out of its range.
        """
        return ShapingConfig(self.dead_band, self.speed, self.acceleration_s, self.hold_to_move)


_SHAPING = ("dead_band", "speed", "acceleration_s", "hold_to_move")
WATCHED = "watched"
"""In place of a device's name: somebody else drives."""
USED: Mapping[str, tuple[str, ...]] = {
    "scripted": (),
    "keyboard": ("speed", "acceleration_s"),
    "gamepad": (*_SHAPING, "layout"),
    "spacemouse": (*_SHAPING, "silent_s"),
    "joy": (*_SHAPING, "layout", "topic", "silent_s"),
    "leader": ("topic", "calibration", "silent_s"),
    "hand": (),
    "replay": ("source",),
    "browser": _SHAPING,
    WATCHED: (),
}
"""Device -> the fields of `DeviceOptions` that change what it does."""
_INSTEAD: Mapping[tuple[str, str], str] = {
    ("keyboard", "hold_to_move"): "A key moves the arm only while it is held, anyway.",
    ("keyboard", "dead_band"): "A key is pressed or not.",
    ("leader", "hold_to_move"): "A leader has no button to hold. The arm follows it from start to stop only, and not "
    "before it is near; h (terminal, page, pedal) holds the arm at once. With --policy it follows from v to V only.",
    ("leader", "speed"): "The arm goes where the leader is, as quickly as the robot file's limits allow: narrow those.",
    ("hand", "hold_to_move"): "Nothing is commanded, so nothing moves but by your hand.",
    ("hand", "speed"): "Nothing is commanded, so nothing moves but by your hand.",
}
"""What to know where somebody counts on a setting that a device cannot have."""


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


def require_used(name: str, options: DeviceOptions) -> None:
    """Refuse settings that a device would not look at: who asks for `hold_to_move` counts on it.

    Args:
        name: one of `DEVICES`, or `WATCHED`.
        options: what the operator chose; a setting at its default counts as not chosen.

    Raises:
        InputError: names them, what the device does use, and what to do instead.
    """
    chosen = [field.name for field in fields(options) if getattr(options, field.name) != field.default]
    unused = [setting for setting in chosen if setting not in USED[name]]
    if not unused:
        return
    who = "An arm that somebody else drives" if name == WATCHED else f"--device {name}"
    instead = dict.fromkeys(_INSTEAD[name, setting] for setting in unused if (name, setting) in _INSTEAD)
    uses = ", ".join(map(_flag, USED[name])) or "no setting of this kind"
    raise InputError(
        " ".join([f"{who} does not use {', '.join(map(_flag, unused))}; leave it out.", *instead, f"It uses {uses}."])
    )


def _flag(setting: str) -> str:
    return "--" + setting.replace("_", "-")


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
        InputError: no such device, an option that is missing, wrong or of no use to it, an action space that the device
            cannot drive, or something that it needs is not there (`MissingExtra` for a package).
    """
    if name not in _MAKERS:
        raise unknown_name("device", name, _MAKERS)
    if not (math.isfinite(period_s) and period_s > 0.0):
        raise InputError(f"The period of a device must be a positive number of seconds, got {period_s}.")
    options = options or DeviceOptions()
    require_used(name, options)
    return _MAKERS[name](_Asked(spec, robot, clock, period_s, task, rng, options))


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
    from understudy.capture.devices.spacemouse import SILENT_S, SpaceMouseDevice

    options = asked.options
    silent_s = SILENT_S if options.silent_s is None else options.silent_s
    return SpaceMouseDevice(asked.spec, asked.period_s, options.shaping(), silent_s=silent_s)


def _joy(asked: _Asked) -> Device:
    from understudy.capture.devices.joy import MAX_AGE_S, JoyDevice
    from understudy.capture.ros_joy import TOPIC, RosJoy

    options = asked.options
    # What is wrong with the task or the layout is said before anything joins the graph.
    Shaping(asked.spec, asked.period_s, options.shaping())
    load_layout(options.layout or "xbox", asked.spec, hold_to_move=options.hold_to_move, joy=True)
    source = RosJoy(options.topic or TOPIC)
    max_age_s = MAX_AGE_S if options.silent_s is None else options.silent_s
    return JoyDevice(asked.spec, asked.period_s, source, options.shaping(), options.layout, max_age_s=max_age_s)


def _leader(asked: _Asked) -> Device:
    from understudy.capture.devices.leader import LeaderConfig, LeaderDevice
    from understudy.capture.devices.leader_calibration import LeaderCalibration, read_calibration
    from understudy.capture.ros_leader import TOPIC, RosLeader

    options, robot = asked.options, asked.robot
    config = LeaderConfig() if options.silent_s is None else LeaderConfig(max_age_s=options.silent_s)
    given = None if options.calibration is None else read_calibration(options.calibration, robot)
    source = RosLeader(options.topic or TOPIC)
    try:
        calibration = given or LeaderCalibration.same_joints(robot)
        source.require(calibration)
        return LeaderDevice(asked.spec, robot, asked.period_s, source, calibration, config)
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
