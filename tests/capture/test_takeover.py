"""Taking over from a policy: who drives, when it changes, and what stays gripped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from conformance.device import LIFT, NOW, PERIOD_S, DeviceConformance

from understudy.capture.devices.axes import AxisDrive, Pressed
from understudy.capture.devices.device import DeviceReading, Event, neutral
from understudy.capture.devices.hand import HandDevice
from understudy.capture.devices.shaping import ShapingConfig
from understudy.capture.takeover import TAKEN, TakeoverDevice
from understudy.datasets.align import Aligned
from understudy.errors import InputError, PolicyFault

POLICY = np.array([0.5, -0.5, 0.0, 0.0, 0.0, 0.0, -1.0], np.float32)
"""A step, and the gripper shut."""


class Pad:
    """A device with axes in a test's hand."""

    name = "pad"
    help = "sticks move"
    follows = False

    def __init__(self) -> None:
        self.drive = AxisDrive(self.name, LIFT, PERIOD_S, ShapingConfig(acceleration_s=0.0))
        self.axes: dict[str, float] = {}
        self.events: tuple[Event, ...] = ()
        self.toggled = 0
        self.gone = ""
        self.closed = self.started = 0

    @property
    def lost(self) -> bool:
        return self.drive.lost

    def reset(self, observation: Mapping[str, Any]) -> None:
        self.drive.reset()

    def start_pressed(self) -> None:
        self.started += 1
        self.drive.start_pressed()

    def read(self, aligned: Aligned) -> DeviceReading:
        pressed = Pressed(self.axes, self.events, toggled=self.toggled)
        self.events, self.toggled = (), 0
        return self.drive.answer(aligned, pressed, self.gone)

    def close(self) -> None:
        self.closed += 1


class Steady:
    """A policy that always answers the same."""

    def __init__(self) -> None:
        self.resets = self.asked = 0

    def reset(self) -> None:
        self.resets += 1

    def act(self, observation: Mapping[str, Any]) -> np.ndarray:
        self.asked += 1
        return POLICY


@pytest.fixture
def pad() -> Pad:
    return Pad()


@pytest.fixture
def policy() -> Steady:
    return Steady()


@pytest.fixture
def device(pad: Pad, policy: Steady) -> TakeoverDevice:
    made = TakeoverDevice(policy, pad, LIFT)
    made.reset(NOW.values)
    made.read(NOW)
    return made


class TestConformance(DeviceConformance):
    @pytest.fixture
    def device(self, pad: Pad, policy: Steady) -> TakeoverDevice:
        return TakeoverDevice(policy, pad, LIFT)


def test_nobody_touches_it_and_the_policy_drives(device: TakeoverDevice) -> None:
    reading = device.read(NOW)
    assert np.allclose(reading.action, LIFT.denormalise(POLICY))
    assert reading.events == ()
    assert not device.intervening


def test_moving_takes_over_in_the_same_reading_and_only_release_hands_back(device: TakeoverDevice, pad: Pad) -> None:
    pad.axes = {"z": 1.0}
    taken = device.read(NOW)
    assert device.intervening
    assert taken.message == TAKEN
    assert taken.action[2] > 0
    assert taken.action[0] == 0.0
    pad.axes = {}
    for _ in range(20):
        still = device.read(NOW)
        assert not np.any(still.action[:6])
        assert still.events == ()
    pad.events = ("release",)
    handed = device.read(NOW)
    assert not device.intervening
    assert np.allclose(handed.action, LIFT.denormalise(POLICY))


def test_a_wish_takes_over_without_a_push(device: TakeoverDevice, pad: Pad) -> None:
    pad.events = ("intervene",)
    assert device.read(NOW).events == ()
    assert device.intervening
    assert pad.started == 1  # what follows from a start on, as a leader, follows from here
    pad.events = ("intervene", "success")
    assert device.read(NOW).events == ("success",)


def test_the_page_takes_over_and_hands_back(device: TakeoverDevice, policy: Steady) -> None:
    device.take_over()
    assert not np.any(device.read(NOW).action[:6])
    asked, resets = policy.asked, policy.resets
    device.hand_back()
    assert policy.resets == resets + 1  # its chunk of actions was meant for another moment
    device.read(NOW)
    assert policy.asked == asked + 1


def test_what_the_policy_grips_stays_gripped_until_the_button_is_pressed(device: TakeoverDevice, pad: Pad) -> None:
    """The fingers stand open at 0.06 m around something; the policy asks for 0."""
    pad.axes = {"z": 1.0}
    assert device.read(NOW).action[6] == 0.0
    pad.axes = {}
    assert device.read(NOW).action[6] == 0.0
    pad.toggled = 1  # from 0.06 m the other end is shut
    assert device.read(NOW).action[6] == 0.0
    pad.toggled = 1
    assert device.read(NOW).action[6] == pytest.approx(0.08)
    assert device.read(NOW).action[6] == pytest.approx(0.08)


def test_the_grippers_button_takes_over(device: TakeoverDevice, pad: Pad) -> None:
    pad.toggled = 1
    reading = device.read(NOW)
    assert device.intervening
    assert reading.action[6] == 0.0
    pad.events = ("release",)
    assert device.read(NOW).action[6] == 0.0
    for _ in range(5):
        device.read(NOW)
        assert not device.intervening  # the button of before takes over no more


def test_a_lost_device_lets_neither_drive(device: TakeoverDevice, pad: Pad, policy: Steady) -> None:
    pad.gone, asked = "cable pulled", policy.asked
    readings = [device.read(NOW) for _ in range(3)]
    assert [event for reading in readings for event in reading.events] == ["lost"]
    assert device.lost
    assert policy.asked == asked
    assert not any(np.any(reading.action[:6]) for reading in readings)
    assert all(reading.action[6] == 0.0 for reading in readings)  # what was gripped stays so


def test_between_takes_only_buttons_are_read(device: TakeoverDevice, pad: Pad, policy: Steady) -> None:
    asked = policy.asked
    pad.axes, pad.events = {"x": 1.0}, ("keep",)
    assert device.poll(NOW).events == ("keep",)
    assert policy.asked == asked
    assert not device.intervening


def test_a_faulty_policy_is_not_hidden(device: TakeoverDevice, policy: Steady) -> None:
    def broken(observation: Mapping[str, Any]) -> np.ndarray:
        raise PolicyFault("not finite")

    policy.act = broken  # type: ignore[method-assign]
    with pytest.raises(PolicyFault, match="not finite"):
        device.read(NOW)


def test_an_episode_begins_with_the_policy(device: TakeoverDevice, pad: Pad) -> None:
    device.take_over()
    device.reset(NOW.values)
    assert not device.intervening
    assert device.name == "policy and pad"
    assert "take over" in device.help
    device.close()
    assert pad.closed == 1


def test_guiding_by_hand_cannot_take_over(policy: Steady) -> None:
    with pytest.raises(InputError, match="'hand' commands nothing, so it cannot take over"):
        TakeoverDevice(policy, HandDevice(LIFT), LIFT)


def test_neutral_is_what_a_pad_at_rest_answers(pad: Pad) -> None:
    """Upon which taking over by moving rests."""
    assert np.array_equal(pad.read(NOW).action, neutral(LIFT, NOW))


def test_start_arms_a_device_that_came_back_but_starts_no_leader(device: TakeoverDevice, pad: Pad) -> None:
    """A page that was lost before the first take once could not take over in it."""
    pad.gone = "silent"
    device.poll(NOW)
    pad.gone = ""
    device.poll(NOW)
    device.start_pressed()
    pad.axes = {"x": 1.0}
    device.read(NOW)
    assert device.intervening
    pad.follows, started = True, pad.started
    device.start_pressed()
    assert pad.started == started
