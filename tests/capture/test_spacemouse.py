"""The SpaceMouse through its protocol: a made-up puck sends the bytes of real reports; no kernel device is here."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pytest
from conformance.device import LIFT, NOW, PERIOD_S, VALUES, AxesConformance

from understudy.capture.devices.shaping import ShapingConfig
from understudy.capture.devices.spacemouse import (
    HidHandle,
    Puck,
    SpaceMouseDevice,
    open_puck,
    udev_rule,
)
from understudy.envs.arms.clock import VirtualClock
from understudy.errors import InputError

AT_ONCE = ShapingConfig(dead_band=0.08, speed=0.5, acceleration_s=0.0)
RAW = {"x": (0, 1), "y": (0, 0), "z": (0, 2), "roll": (1, 1), "pitch": (1, 0), "yaw": (1, 2)}
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
        kind, which = RAW[label]
        numbers[kind][which] = round(-350 * direction)
        for report, triple in zip((1, 2), numbers, strict=True):
            self.puck.reports.append(struct.pack("<Bhhh", report, *triple))

    def let_go(self) -> None:
        self.push("x", 0.0)

    def start(self) -> None:
        assert self.puck is not None
        self.puck.click(1)

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
