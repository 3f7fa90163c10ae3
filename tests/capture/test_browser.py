"""The page as a device, fed as the server feeds it, on virtual time."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from conformance.device import LIFT, NOW, PERIOD_S, VALUES, AxesConformance

from understudy.capture.devices.browser import SILENT, BrowserConfig, BrowserDevice
from understudy.capture.devices.device import neutral
from understudy.capture.devices.make import DeviceOptions, make_device
from understudy.capture.devices.shaping import ShapingConfig
from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.clock import VirtualClock
from understudy.envs.arms.robot import load_robot
from understudy.errors import InputError

AT_ONCE = BrowserConfig(ShapingConfig(dead_band=0.08, speed=0.5, acceleration_s=0.0))


class PageHand:
    """A person at the page, and the page."""

    speed = 0.5

    def __init__(self, config: BrowserConfig = AT_ONCE) -> None:
        self.clock = VirtualClock()
        self.device = BrowserDevice(LIFT, PERIOD_S, config, self.clock)
        self.asked_m = 0.06

    def push(self, label: str, direction: float) -> None:
        self.device.feed({label: direction}, None, True)

    def let_go(self) -> None:
        self.device.feed({}, None, False)

    def start(self) -> None:
        self.device.start_pressed()

    def toggle(self) -> None:
        self.asked_m = 0.0 if self.asked_m > 0.04 else 0.08
        self.device.feed({}, self.asked_m, False)

    def lose(self) -> None:
        self.clock.advance(1.01)

    def come_back(self) -> bool:
        self.device.feed({}, None, False)
        return True


class TestBrowser(AxesConformance):
    @pytest.fixture
    def hand(self) -> Iterator[PageHand]:
        made = PageHand()
        yield made
        made.device.close()

    def test_start_is_said_once(self, begun: PageHand) -> None:  # type: ignore[override]
        """The page asks the session itself, and hears the answer: as an event it would be asked for twice."""
        begun.start()
        assert self.read(begun).events == ()

    def test_a_page_that_is_silent_counts_as_let_go_before_it_is_lost(self, begun: PageHand) -> None:
        begun.push("x", 1.0)
        begun.clock.advance(0.29)
        assert np.any(self.moves(self.read(begun)))
        begun.clock.advance(0.02)
        reading = self.read(begun)
        assert not np.any(self.moves(reading))
        assert reading.events == ()
        begun.push("x", 1.0)
        assert np.any(self.moves(self.read(begun)))

    def test_the_gripper_stays_where_it_was_asked_to_when_the_page_is_lost(self, begun: PageHand) -> None:
        begun.toggle()
        begun.lose()
        assert self.read(begun).action[-1] == 0.0

    def test_handing_over_lets_go(self, begun: PageHand) -> None:
        begun.push("y", 1.0)
        begun.device.let_go()
        assert not np.any(self.moves(self.read(begun)))

    def test_nonsense_moves_nothing_and_asks_nothing_of_the_gripper(self, begun: PageHand) -> None:
        begun.device.feed({"x": math.nan, "y": math.inf, "warp": 1.0, "gripper": 1.0}, math.nan, True)
        assert np.array_equal(self.read(begun).action[[0, 2, 3, 4, 5, 6]], [0, 0, 0, 0, 0, np.float32(0.06)])
        begun.device.feed({}, 99.0, True)
        assert self.read(begun).action[-1] == LIFT.high[-1]

    def test_what_is_said_counts_from_when_it_was_said(self, begun: PageHand) -> None:
        begun.device.feed({"x": 1.0}, None, True, late_s=0.2)
        assert np.any(self.moves(self.read(begun)))
        begun.clock.advance(0.11)
        assert not np.any(self.moves(self.read(begun)))

    @pytest.mark.parametrize("late_s", [0.31, 5.0, math.nan])
    def test_what_arrives_late_moves_nothing_and_grips_nothing(self, begun: PageHand, late_s: float) -> None:
        begun.push("x", 1.0)
        assert np.any(self.moves(self.read(begun)))
        begun.device.feed({"x": 1.0}, 0.0, True, late_s=late_s)
        reading = self.read(begun)
        assert np.array_equal(reading.action, neutral(LIFT, NOW))
        assert reading.events == ()

    def test_a_page_whose_inputs_keep_coming_late_is_lost_and_it_is_said_how_late(self, begun: PageHand) -> None:
        """A queue on the way: what the person did a while ago moved the arm as if it were done now."""
        readings = []
        for _ in range(40):
            begun.device.feed({"x": 1.0}, None, True, late_s=0.6)
            readings.append(self.read(begun))
            begun.clock.advance(0.033)
        assert not any(np.any(self.moves(reading)) for reading in readings)
        assert [event for reading in readings for event in reading.events] == ["lost"]
        assert all(reading.message.startswith("The page's input arrives 0.6 s late") for reading in readings)
        assert begun.device.lost is True
        begun.push("x", 1.0)
        reading = self.read(begun)
        assert reading.events == ("back",)
        assert not np.any(self.moves(reading))
        begun.start()
        begun.push("x", 1.0)
        assert np.any(self.moves(self.read(begun)))

    def test_a_late_page_that_falls_silent_is_said_to_be_silent(self, begun: PageHand) -> None:
        begun.device.feed({}, None, False, late_s=0.6)
        begun.clock.advance(1.01)
        assert self.read(begun).message == SILENT

    def test_two_threads_agree(self, begun: PageHand) -> None:
        """What is read was fed as a whole: x and y always come from one message."""
        stop = threading.Event()

        def feed() -> None:
            value = 0
            while not stop.is_set():
                value = (value + 1) % 10
                begun.device.feed({"x": 0.1 * value, "y": 0.1 * value}, None, True)

        feeding = threading.Thread(target=feed)
        feeding.start()
        try:
            moved = [self.moves(self.read(begun)) for _ in range(500)]
        finally:
            stop.set()
            feeding.join()
        assert all(shares[0] == pytest.approx(shares[1]) for shares in moved)
        assert len({round(float(shares[0]), 6) for shares in moved}) > 1


def test_hold_to_move_needs_something_pressed() -> None:
    hand = PageHand(BrowserConfig(ShapingConfig(acceleration_s=0.0, hold_to_move=True)))
    hand.device.reset(VALUES)
    hand.device.feed({"x": 1.0}, None, False)
    assert hand.device.read(NOW).action[0] == 0.0
    hand.device.feed({"x": 1.0}, None, True)
    assert hand.device.read(NOW).action[0] > 0.0


def test_it_is_made_by_name_with_the_speed_that_was_asked_for() -> None:
    device = make_device(
        "browser", spec=LIFT, robot=load_robot("panda"), clock=VirtualClock(), period_s=PERIOD_S,
        options=DeviceOptions(speed=0.7),
    )  # fmt: skip
    assert isinstance(device, BrowserDevice)
    assert device.config.shaping.speed == 0.7


@pytest.mark.parametrize(("release_s", "lost_s"), [(0.0, 1.0), (1.0, 1.0), (0.3, math.inf), (math.nan, 1.0)])
def test_silence_is_told_from_loss(release_s: float, lost_s: float) -> None:
    with pytest.raises(InputError, match="A page is lost after it counts as released"):
        BrowserConfig(release_s=release_s, lost_s=lost_s)


def test_a_space_of_places_is_refused() -> None:
    spec = ActionSpec("joint_position", ("a", "b"), ("rad",) * 2, (-1.0,) * 2, (1.0,) * 2)
    with pytest.raises(InputError, match="choose another device"):
        BrowserDevice(spec, PERIOD_S)
