"""The gamepad, through SDL's own virtual joysticks: what SDL reports of them is as real as of a pad in the hand."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pygame
import pytest
from conformance.device import LIFT, NOW, PERIOD_S, VALUES, AxesConformance
from device_hands import AT_ONCE, PadHand
from sdl_pads import plugged_in

from understudy.capture.devices.gamepad import GamepadDevice, layout_of
from understudy.capture.devices.make import DeviceOptions, make_device
from understudy.capture.devices.shaping import ShapingConfig
from understudy.envs.arms.clock import VirtualClock
from understudy.envs.arms.robot import load_robot
from understudy.envs.window import Window
from understudy.errors import InputError


@pytest.fixture
def hand() -> Iterator[PadHand]:
    with plugged_in() as first:
        first.unplug()
        made = PadHand()
        yield made
        made.device.close()
        made.pad.unplug()


class TestGamepad(AxesConformance):
    @pytest.fixture
    def hand(self, hand: PadHand) -> PadHand:
        return hand


def test_every_button_asks_for_what_the_layout_says(hand: PadHand) -> None:
    hand.device.reset(VALUES)
    for button in ("start", "back", "north", "east", "dpad_up", "dpad_down", "west", "right_shoulder", "right_stick"):
        hand.pad.tap(button)
    expected = ("start", "stop", "success", "failure", "keep", "drop", "undo", "intervene", "release")
    assert hand.device.read(NOW).events == expected


def test_a_button_that_was_tapped_between_two_readings_is_not_missed(hand: PadHand) -> None:
    hand.device.reset(VALUES)
    hand.pad.tap("back")
    assert hand.device.read(NOW).events == ("stop",)


def test_the_two_ends_of_the_triggers_cancel(hand: PadHand) -> None:
    hand.device.reset(VALUES)
    hand.pad.move("right_trigger", 1.0)
    hand.pad.move("left_trigger", 1.0)
    assert not np.any(hand.device.read(NOW).action[:6])


def test_hold_to_move_moves_only_while_the_shoulder_is_held(hand: PadHand) -> None:
    hand.device.close()
    device = GamepadDevice(LIFT, PERIOD_S, ShapingConfig(0.0, 0.5, 0.0, hold_to_move=True))
    device.reset(VALUES)
    hand.pad.move("left_y", -1.0)
    hand.pad.tap("south")
    reading = device.read(NOW)
    assert not np.any(reading.action[:6])
    assert reading.action[-1] == pytest.approx(0.06)
    hand.pad.press("left_shoulder")
    hand.pad.tap("south")
    reading = device.read(NOW)
    assert reading.action[0] == pytest.approx(0.015, abs=1e-5)
    assert reading.action[-1] == 0.0
    hand.pad.press("left_shoulder", down=False)
    assert not np.any(device.read(NOW).action[:6])


def test_reading_leaves_the_events_of_a_window_and_none_of_the_pads(hand: PadHand) -> None:
    hand.device.reset(VALUES)
    pygame.event.clear()
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_q))
    hand.pad.move("left_x", 1.0)
    hand.pad.tap("south")
    hand.device.read(NOW)
    assert [event.type for event in pygame.event.get()] == [pygame.KEYDOWN]


def test_a_window_may_see_pads_go(hand: PadHand) -> None:
    """Regression: pygame failed with a SystemError in a window's loop when a pad that nobody used was pulled out."""
    hand.device.reset(VALUES)
    with plugged_in() as other:
        hand.device.read(NOW)
        other.unplug()
        assert pygame.JOYDEVICEREMOVED in [event.type for event in pygame.event.get()]
    assert hand.device.read(NOW).events == ()


def test_a_window_that_closed_does_not_take_the_pad_along(hand: PadHand) -> None:
    hand.device.reset(VALUES)
    pygame.display.quit()
    hand.pad.move("left_y", -1.0)
    reading = hand.device.read(NOW)
    assert reading.events == ()
    assert reading.action[0] > 0.0


def test_an_sdl_that_fails_is_a_lost_pad(hand: PadHand, monkeypatch: pytest.MonkeyPatch) -> None:
    hand.device.reset(VALUES)
    hand.pad.move("left_y", -1.0)

    def fail(*_: object) -> None:
        raise pygame.error("video system not initialized")

    with monkeypatch.context() as patch:
        patch.setattr(pygame.event, "get", fail)
        assert hand.device.read(NOW).events == ("lost",)
    assert hand.device.read(NOW).events == ("back",)


def test_a_display_that_is_gone_does_not_take_the_pads_along(hand: PadHand, monkeypatch: pytest.MonkeyPatch) -> None:
    hand.device.close()
    pygame.display.quit()
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    device = GamepadDevice(LIFT, PERIOD_S, AT_ONCE)
    assert pygame.display.get_driver() == "dummy"
    assert os.environ["SDL_VIDEODRIVER"] == "x11"
    device.close()


def test_without_a_display_pads_work_and_windows_are_still_refused(
    hand: PadHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand.device.close()
    pygame.display.quit()
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    GamepadDevice(LIFT, PERIOD_S, AT_ONCE).close()
    with pytest.raises(InputError, match="opens a window, and there is no display here"):
        Window("test")


def test_it_is_made_by_name_with_the_options(hand: PadHand) -> None:
    hand.device.close()
    device = make_device(
        "gamepad", spec=LIFT, robot=load_robot("panda"), clock=VirtualClock(), period_s=PERIOD_S,
        options=DeviceOptions(speed=1.0, acceleration_s=0.0, layout="ps"),
    )  # fmt: skip
    assert isinstance(device, GamepadDevice)
    assert "cross" in device.help
    device.reset(VALUES)
    hand.pad.move("left_y", -1.0)
    assert device.read(NOW).action[0] == pytest.approx(0.03)
    device.close()


def test_without_a_pad_the_remedy_is_said() -> None:
    with plugged_in() as pad:
        pad.unplug()
        with pytest.raises(InputError, match="No game pad is plugged in: connect one and try again"):
            GamepadDevice(LIFT, PERIOD_S)


@pytest.mark.parametrize(
    ("name", "layout"),
    [("PS5 Controller", "ps"), ("Sony DualSense", "ps"), ("Xbox One S Controller", "xbox"), ("8BitDo Pro 2", "xbox")],
)
def test_the_printed_names_follow_the_pad(name: str, layout: str) -> None:
    assert layout_of(name) == layout
