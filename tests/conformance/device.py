"""What every device owes. A test class inherits `DeviceConformance`, or `AxesConformance` for one with axes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import pytest

from understudy.capture.devices.device import Device, DeviceReading, neutral
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec

PERIOD_S = 0.05
TWIST = ("x", "y", "z", "roll", "pitch", "yaw")
LIFT = ActionSpec(
    "tool_delta", (*TWIST, "gripper"), ("m",) * 3 + ("rad",) * 3 + ("m",),
    (-0.03,) * 3 + (-0.15,) * 3 + (0.0,), (0.03,) * 3 + (0.15,) * 3 + (0.08,),
)  # fmt: skip
VALUES = {
    "joint_position": np.zeros(7, np.float32),
    "joint_velocity": np.zeros(7, np.float32),
    "gripper_position": np.array([0.06], np.float32),
    "tool_position": np.array([0.4, 0.1, 0.3], np.float32),
    "tool_quaternion": np.array([1.0, 0.0, 0.0, 0.0], np.float32),
    "object_position": np.array([0.5, 0.0, 0.02], np.float32),
    "object_quaternion": np.array([0.0, 0.0, 0.0, 1.0], np.float32),
    "goal_position": np.array([0.5, 0.0, 0.3], np.float32),
}
NOW = Aligned(0, VALUES, {})


class DeviceConformance:
    """Laws of `capture/devices/device.py`."""

    spec = LIFT
    now = NOW
    quick_s = 0.01
    """Half of all readings take less: a tick is 50 ms, and reading is a small part of it."""

    @pytest.fixture
    def device(self) -> Iterator[Device]:
        raise NotImplementedError

    def test_answers_finite_actions_inside_the_bounds(self, device: Device) -> None:
        device.reset(self.now.values)
        for _ in range(50):
            action = device.read(self.now).action
            assert action.shape == (self.spec.size,)
            assert action.dtype == np.float64
            assert np.all(np.isfinite(action))
            assert np.all((action >= self.spec.low) & (action <= self.spec.high))

    def test_does_not_keep_or_change_what_it_is_given(self, device: Device) -> None:
        before = {key: value.copy() for key, value in self.now.values.items()}
        device.reset(self.now.values)
        first = device.read(self.now).action
        first[:] = 1e9
        assert np.all(device.read(self.now).action <= self.spec.high)
        assert all(np.array_equal(self.now.values[key], value) for key, value in before.items())

    def test_has_a_name_is_there_and_closes_twice(self, device: Device) -> None:
        device.reset(self.now.values)
        assert "lost" not in device.read(self.now).events
        assert device.name
        assert device.lost is False
        device.close()
        device.close()

    def test_a_reading_does_not_wait(self, device: Device) -> None:
        device.reset(self.now.values)
        took_s = []
        for _ in range(40):
            began = time.perf_counter()
            device.read(self.now)
            took_s.append(time.perf_counter() - began)
        assert statistics.median(took_s) < self.quick_s


class Hand(Protocol):
    """What a test does to a device with axes, as a person would."""

    device: Device
    speed: float
    """Share of the largest step that full deflection asks for, reached at once."""

    def push(self, label: str, direction: float) -> None:
        """Deflect what moves this label fully, until `let_go`."""

    def let_go(self) -> None:
        """Everything at rest."""

    def start(self) -> None:
        """Press start, and let it go."""

    def toggle(self) -> None:
        """Press the gripper's button, and let it go."""

    def lose(self) -> None:
        """Pull the cable; all that was deflected is let go of."""

    def come_back(self) -> bool:
        """Plug it in again; False where that cannot be."""


class AxesConformance(DeviceConformance):
    """What a device owes that moves the arm by its axes. Its class gives the fixture `hand`."""

    labels: tuple[str, ...] = TWIST

    @pytest.fixture
    def hand(self) -> Iterator[Hand]:
        raise NotImplementedError

    @pytest.fixture
    def device(self, hand: Hand) -> Device:
        return hand.device

    def read(self, hand: Hand) -> DeviceReading:
        return hand.device.read(self.now)

    def moves(self, reading: DeviceReading) -> np.ndarray:
        """Shares of the largest step, by label, the gripper left out."""
        low, high = np.array(self.spec.low), np.array(self.spec.high)
        return (reading.action / np.maximum(-low, high))[[i for i, n in enumerate(self.spec.labels) if n != "gripper"]]

    @pytest.fixture
    def begun(self, hand: Hand) -> Hand:
        hand.device.reset(self.now.values)
        self.read(hand)
        return hand

    def test_at_rest_nothing_moves(self, begun: Hand) -> None:
        assert np.array_equal(self.read(begun).action, neutral(self.spec, self.now))

    @pytest.mark.parametrize("direction", [1.0, -1.0])
    @pytest.mark.parametrize("label", TWIST)
    def test_a_push_moves_its_label_alone_and_letting_go_stops(self, begun: Hand, label: str, direction: float) -> None:
        if label not in self.labels:
            pytest.skip(f"{begun.device.name} does not move {label}")
        begun.push(label, direction)
        expected = np.zeros(6)
        expected[self.spec.labels.index(label)] = direction * begun.speed
        assert self.moves(self.read(begun)) == pytest.approx(expected, abs=1e-3)
        begun.let_go()
        assert not np.any(self.moves(self.read(begun)))

    def test_the_gripper_goes_to_the_other_end_and_stays(self, begun: Hand) -> None:
        begun.toggle()
        assert self.read(begun).action[-1] == 0.0
        assert self.read(begun).action[-1] == 0.0
        begun.toggle()
        assert self.read(begun).action[-1] == pytest.approx(0.08)

    def test_start_is_said_once(self, begun: Hand) -> None:
        begun.start()
        assert self.read(begun).events == ("start",)
        assert self.read(begun).events == ()

    def test_what_was_pressed_before_the_episode_is_forgotten(self, begun: Hand) -> None:
        begun.start()
        begun.toggle()
        begun.device.reset(self.now.values)
        reading = self.read(begun)
        assert reading.events == ()
        assert reading.action[-1] == neutral(self.spec, self.now)[-1]

    def test_a_lost_device_moves_nothing_and_says_so_once(self, begun: Hand) -> None:
        begun.push(self.labels[0], 1.0)
        assert np.any(self.moves(self.read(begun)))
        begun.lose()
        readings = [self.read(begun) for _ in range(4)]
        assert [event for reading in readings for event in reading.events] == ["lost"]
        assert not any(np.any(self.moves(reading)) for reading in readings)
        assert all(reading.message for reading in readings)
        assert begun.device.lost is True

    @pytest.mark.parametrize("way", ["start", "reset"])
    def test_a_device_that_comes_back_says_so_and_waits_for_a_fresh_start(self, begun: Hand, way: str) -> None:
        begun.lose()
        self.read(begun)
        if not begun.come_back():
            pytest.skip(f"a {begun.device.name} that is gone does not come back")
        begun.push(self.labels[0], 1.0)
        readings = [self.read(begun) for _ in range(3)]
        assert [event for reading in readings for event in reading.events] == ["back"]
        assert not any(np.any(self.moves(reading)) for reading in readings)
        assert "press start" in readings[-1].message
        assert begun.device.lost is False
        if way == "start":
            begun.start()
        else:
            begun.device.reset(self.now.values)
        reading = self.read(begun)
        assert np.any(self.moves(reading))
        assert reading.message == ""
