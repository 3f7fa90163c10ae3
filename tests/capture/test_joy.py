"""The joystick by its messages, without a graph: numbers, triggers, silence; laws as for every device with axes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from conformance.device import LIFT, NOW, PERIOD_S, VALUES, AxesConformance
from device_hands import JoyHand, Stream
from hypothesis import given
from hypothesis import strategies as st

from understudy.capture.devices.joy import JoyDevice, JoyPad, JoySample
from understudy.capture.devices.layout import load_layout
from understudy.envs.arms.clock import VirtualClock
from understudy.errors import InputError


@pytest.fixture
def hand() -> JoyHand:
    return JoyHand()


class TestJoy(AxesConformance):
    @pytest.fixture
    def hand(self, hand: JoyHand) -> JoyHand:
        return hand


def test_an_old_message_counts_as_let_go_at_half_a_second_and_says_why(hand: JoyHand) -> None:
    hand.device.reset(VALUES)
    hand.push("x", 1.0)
    assert hand.device.read(NOW).action[0] > 0.0
    hand.stream.silent = True
    hand.clock.advance(0.49)
    assert hand.device.read(NOW).action[0] > 0.0
    hand.clock.advance(0.02)
    reading = hand.device.read(NOW)
    assert not np.any(reading.action[:6])
    assert reading.events == ("lost",)
    assert reading.message.startswith("No Joy message for 0.5 s: nobody publishes /joy. joy_node must repeat itself")


def test_a_trigger_that_was_never_touched_reads_zero_which_is_not_half_pressed(hand: JoyHand) -> None:
    hand.stream.axes[2] = hand.stream.axes[5] = 0.0
    hand.device.reset(VALUES)
    assert not np.any(hand.device.read(NOW).action[:6])
    hand.stream.axes[5] = 0.2
    hand.device.read(NOW)
    hand.stream.axes[5] = 0.0  # passing through the middle counts, once it was moved
    moved = hand.device.read(NOW).action[2]
    assert 0.0 < moved < 0.015


@given(
    st.lists(st.floats(width=32), max_size=10),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=14),
)
def test_whatever_is_published_the_action_stays_inside_the_bounds(axes: list[float], buttons: list[int]) -> None:
    hand = JoyHand()
    hand.device.reset(VALUES)
    for _ in range(3):
        hand.stream.silent = True
        hand.stream.waiting = [JoySample(hand.clock.now_ns(), tuple(axes), tuple(buttons))]
        action = hand.device.read(NOW).action
        assert np.all(np.isfinite(action))
        assert np.all((action >= LIFT.low) & (action <= LIFT.high))


def test_a_button_counts_once_however_often_it_is_repeated(hand: JoyHand) -> None:
    hand.device.reset(VALUES)
    for _ in range(5):
        hand.stream.say(7)
    assert hand.device.read(NOW).events == ("start",)


def test_messages_that_do_not_fit_the_layout_move_nothing_and_say_so(hand: JoyHand) -> None:
    hand.device.reset(VALUES)
    hand.stream.axes = [1.0, 1.0, 1.0, 1.0]
    reading = hand.device.read(NOW)
    assert not np.any(reading.action[:6])
    assert reading.message == (
        "This joystick does not fit the layout: messages have 4 axes, and the layout uses axis 7; "
        "choose another with --layout."
    )


def test_what_is_no_number_counts_as_zero(hand: JoyHand) -> None:
    hand.device.reset(VALUES)
    hand.stream.axes[1] = math.nan
    hand.stream.axes[5] = math.nan
    assert not np.any(hand.device.read(NOW).action[:6])


def test_the_ps_layout_numbers_a_pad_otherwise() -> None:
    layout = load_layout("ps", LIFT, joy=True)
    assert layout.joy is not None
    sample = JoySample(0, (0.0, 0.0, -1.0, 0.0, 1.0, -1.0), tuple(int(i == 11) for i in range(16)))
    state = JoyPad(layout.joy).take(sample)
    assert state.axes["right_x"] == pytest.approx(1.0)
    assert state.axes["right_trigger"] == pytest.approx(1.0)
    assert state.pressed == ("dpad_up",)


def test_a_layout_without_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("moves:\n  x: {axis: left_y}\n")
    with pytest.raises(InputError, match="--device joy needs `joy:`, the numbers of the controls"):
        JoyHand(layout=str(path))


@pytest.mark.parametrize("age", [0.0, -1.0, math.nan])
def test_the_oldest_message_is_a_positive_age(age: float) -> None:
    clock = VirtualClock()
    with pytest.raises(InputError, match="oldest Joy message must be a positive number"):
        JoyDevice(LIFT, PERIOD_S, Stream(clock), max_age_s=age)
