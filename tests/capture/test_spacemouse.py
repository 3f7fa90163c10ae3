"""The SpaceMouse through its protocol: a made-up puck sends the bytes of real reports; no kernel device is here."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from conformance.device import LIFT, NOW, PERIOD_S, VALUES, AxesConformance
from device_hands import AT_ONCE, PuckHand
from hypothesis import given
from hypothesis import strategies as st

from understudy.capture.devices.puck import Puck
from understudy.capture.devices.shaping import ShapingConfig
from understudy.capture.devices.spacemouse import CUT_OFF, SILENT_S, SpaceMouseDevice, open_puck, udev_rule
from understudy.errors import InputError


@pytest.fixture
def hand() -> PuckHand:
    return PuckHand()


class TestSpaceMouse(AxesConformance):
    @pytest.fixture
    def hand(self, hand: PuckHand) -> PuckHand:
        return hand


def test_a_puck_of_the_new_kind_sends_all_six_in_one_report() -> None:
    puck = Puck()
    puck.take(struct.pack("<Bhhhhhh", 1, 350, -175, 70, 35, 0, -350))
    assert puck.axes == pytest.approx({"y": -1.0, "x": 0.5, "z": -0.2, "pitch": -0.1, "roll": 0.0, "yaw": 1.0})


def test_the_turn_follows_the_same_axes_as_the_push() -> None:
    """The puck's frame is right-handed; so must be what it is turned into, or turns would be mirrored."""
    columns = []
    for raw in np.eye(3, dtype=int) * 350:
        puck = Puck()
        puck.take(struct.pack("<Bhhhhhh", 1, *raw, *raw))
        moved = [puck.axes[label] for label in ("x", "y", "z")]
        assert moved == [puck.axes[label] for label in ("roll", "pitch", "yaw")]
        columns.append(moved)
    assert np.linalg.det(np.array(columns)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "report", [b"", b"\x01\x02", b"\x02\x00\x00\x00", b"\x03", b"\x17\x01\x02\x03\x04\x05\x06\x07"]
)
def test_reports_that_are_short_or_of_another_kind_change_nothing(report: bytes) -> None:
    puck = Puck()
    assert puck.take(report) == 0
    assert (puck.axes, puck.down) == ({}, 0)


@given(st.lists(st.binary(max_size=20), max_size=30))
def test_whatever_a_device_sends_the_action_stays_inside_the_bounds(reports: list[bytes]) -> None:
    hand = PuckHand()
    hand.device.reset(VALUES)
    assert hand.puck is not None
    hand.puck.reports += reports
    action = hand.device.read(NOW).action
    assert np.all(np.isfinite(action))
    assert np.all((action >= LIFT.low) & (action <= LIFT.high))


def test_reading_takes_all_reports_and_keeps_the_latest(hand: PuckHand) -> None:
    hand.device.reset(VALUES)
    for share in np.linspace(0.1, 1.0, 40):
        hand.push("z", float(share))
    assert hand.device.read(NOW).action[2] == pytest.approx(0.015)


def test_buttons_of_large_pucks_ask_the_session() -> None:
    hand = PuckHand("SpaceMouse Enterprise")
    hand.device.reset(VALUES)
    assert hand.puck is not None
    for bit in (1, 22, 12, 13, 14, 15):
        hand.puck.click(bit)
    assert hand.device.read(NOW).events == ("start", "stop", "success", "failure", "keep", "drop")
    assert "esc stop" in hand.device.help


def test_with_hold_to_move_the_right_button_of_a_small_puck_is_held_and_starts_nothing() -> None:
    hand = PuckHand(config=ShapingConfig(0.0, 0.5, 0.0, hold_to_move=True))
    hand.device.reset(VALUES)
    assert hand.puck is not None
    hand.push("x", 1.0)
    assert not np.any(hand.device.read(NOW).action[:6])
    hand.puck.buttons(1 << 1)
    reading = hand.device.read(NOW)
    assert reading.action[0] == pytest.approx(0.015)
    assert reading.events == ()
    hand.puck.buttons(0)
    assert not np.any(hand.device.read(NOW).action[:6])
    assert "right button hold" in hand.device.help


def test_a_lost_puck_is_looked_for_once_a_second_and_its_refusal_is_told(hand: PuckHand) -> None:
    hand.device.reset(VALUES)
    hand.lose()
    hand.device.read(NOW)
    looked = []

    def refused() -> None:
        looked.append(hand.clock.now_ns())
        raise InputError("The puck may not be read.")

    hand.device._opener = refused
    for _ in range(30):
        hand.clock.advance(0.1)
        reading = hand.device.read(NOW)
    assert 2 <= len(looked) <= 3
    assert reading.message == "The puck may not be read."


class TestSilence:
    """A puck that is pushed repeats itself; one that is let go of says zeros, and then nothing."""

    def test_a_puck_at_rest_may_be_silent(self, hand: PuckHand) -> None:
        hand.device.reset(VALUES)
        hand.push("x", 1.0)
        hand.device.read(NOW)
        hand.let_go()
        for _ in range(200):
            reading = hand.device.read(NOW)
            hand.clock.advance(PERIOD_S)
        assert (reading.events, reading.message, hand.device.lost) == ((), "", False)

    def test_a_puck_that_is_held_still_off_its_centre_goes_on_moving_the_arm(self, hand: PuckHand) -> None:
        hand.device.reset(VALUES)
        for _ in range(200):
            hand.push("x", 1.0)
            reading = hand.device.read(NOW)
            hand.clock.advance(PERIOD_S)
            assert reading.action[0] == pytest.approx(0.015)
            assert reading.events == ()

    def test_a_radio_that_fails_in_mid_push_is_a_lost_puck(self, hand: PuckHand) -> None:
        """It kept the last deflection, and the arm its speed, until the take ended."""
        hand.device.reset(VALUES)
        hand.push("x", 1.0)
        readings = []
        for _ in range(20):
            readings.append(hand.device.read(NOW))
            hand.clock.advance(PERIOD_S)
        moving = [bool(np.any(reading.action[:6])) for reading in readings]
        assert moving == [True] * 6 + [False] * 14  # 0 to 0.25 s
        assert [event for reading in readings for event in reading.events] == ["lost"]
        assert {reading.message for reading in readings[6:]} == {CUT_OFF}
        assert hand.device.lost is True

    def test_it_is_back_when_it_is_heard_again_and_then_waits_for_start(self, hand: PuckHand) -> None:
        hand.device.reset(VALUES)
        hand.push("x", 1.0)
        events = []
        for _ in range(round(SILENT_S / PERIOD_S) + 2):
            events += hand.device.read(NOW).events
            hand.clock.advance(PERIOD_S)
        assert events == ["lost"]
        assert hand.puck is not None
        hand.puck.reports.append(bytes([0x17, 100]))  # the receiver tells of the battery: not the puck
        assert hand.device.read(NOW).events == ()
        hand.push("x", 1.0)
        reading = hand.device.read(NOW)
        assert reading.events == ("back",)
        assert not np.any(reading.action[:6])
        hand.start()
        reading = hand.device.read(NOW)
        assert reading.events == ("start",)
        assert reading.action[0] == pytest.approx(0.015)

    def test_what_waited_while_nobody_looked_moves_nothing(self, hand: PuckHand) -> None:
        """The kernel keeps the oldest 64 reports: after a pause the last one that is read may be long over."""
        hand.device.reset(VALUES)
        hand.device.read(NOW)
        hand.push("x", 1.0)
        hand.clock.advance(2.0)
        reading = hand.device.read(NOW)
        assert not np.any(reading.action[:6])
        assert reading.events == ()
        hand.clock.advance(PERIOD_S)
        hand.push("x", 1.0)
        assert hand.device.read(NOW).action[0] == pytest.approx(0.015)

    def test_slow_readings_do_not_make_it_silent(self) -> None:
        hand = PuckHand()
        hand.device = SpaceMouseDevice(LIFT, 0.5, AT_ONCE, hand.open, hand.clock)
        for _ in range(10):
            hand.push("x", 1.0)
            reading = hand.device.read(NOW)
            hand.clock.advance(0.5)
            assert reading.action[0] > 0.0
            assert reading.events == ()

    @pytest.mark.parametrize("silent_s", [0.0, -1.0, float("nan"), float("inf")])
    def test_the_limit_is_a_positive_number(self, silent_s: float) -> None:
        with pytest.raises(InputError, match="silence must be a positive number of seconds"):
            SpaceMouseDevice(LIFT, PERIOD_S, opener=PuckHand().open, silent_s=silent_s)


def test_without_a_puck_the_remedy_is_said() -> None:
    with pytest.raises(InputError, match="No SpaceMouse is plugged in: connect one"):
        SpaceMouseDevice(LIFT, PERIOD_S, opener=lambda: None)


def test_the_rule_names_one_device() -> None:
    assert udev_rule(0x256F, 0xC635) == ('KERNEL=="hidraw*", KERNELS=="*:256F:C635.*", MODE="0660", TAG+="uaccess"')


def test_the_real_library_is_asked_for_what_is_plugged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """hidapi itself lists the machine's devices; none of the pucks is among the ones that a test machine has."""
    hidraw = pytest.importorskip("hidraw")
    known = [entry for entry in hidraw.enumerate() if entry["vendor_id"] == 0x256F]
    if known:
        pytest.skip("a SpaceMouse is plugged in here")
    assert open_puck() is None
    entry = {"vendor_id": 0x256F, "product_id": 0xC635, "usage": 8, "path": b"/dev/no-such-puck"}
    monkeypatch.setattr(hidraw, "enumerate", lambda *_: [entry])
    with pytest.raises(InputError, match=r"SpaceMouse Compact is there and may not be read.*70-spacemouse\.rules"):
        open_puck()
