"""How late inputs arrive is told by the page's own clock, whatever it counts from and however it drifts."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from console_support import PATIENT, Page, Stand, console
from hypothesis import given
from hypothesis import strategies as st

from understudy.capture.console.lateness import DRIFT, Lateness
from understudy.capture.devices.browser import BrowserConfig
from understudy.envs.arms.clock import VirtualClock

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BRISK = BrowserConfig(PATIENT.shaping, release_s=0.5, lost_s=1.5)
SAY_LATE = """() => {
  const send = WebSocket.prototype.send;
  window.late_ms = 0;
  WebSocket.prototype.send = function (text) { setTimeout(() => send.call(this, text), window.late_ms); };
}"""
"""Everything that the page says takes so long to leave it, as through a network that queues."""


class Journey:
    """A page whose clock began at another moment and runs a little off; each message takes some time."""

    def __init__(self, began_s: float, rate: float = 1.0) -> None:
        self.clock = VirtualClock()
        self.lateness = Lateness(self.clock)
        self.began_s, self.rate = began_s, rate

    def said(self, at_s: float, took_s: float) -> float:
        """How late a message seems that was said then, and took so long."""
        self.clock.sleep_until(round((at_s + took_s) * 1e9))
        return self.lateness.of(self.began_s + self.rate * at_s)


@given(
    began_s=st.floats(0.0, 1e6),
    quickest_s=st.floats(0.0, 0.2),
    above_s=st.lists(st.floats(0.0, 0.09), min_size=1, max_size=20),
)
def test_it_is_what_a_journey_took_above_the_quickest(began_s: float, quickest_s: float, above_s: list[float]) -> None:
    journey = Journey(began_s)
    assert journey.said(0.0, quickest_s) == 0.0
    for number, above in enumerate(above_s, start=1):
        late_s = journey.said(0.1 * number, quickest_s + above)
        assert late_s == pytest.approx(above, abs=1e-6 + DRIFT * (0.1 * number + 0.3))


def test_a_first_message_that_was_slow_is_made_good_by_a_quicker_one() -> None:
    journey = Journey(5.0)
    assert journey.said(0.0, 0.8) == 0.0
    assert journey.said(1.0, 0.1) == 0.0
    assert journey.said(2.0, 0.8) == pytest.approx(0.7, abs=1e-3)


@pytest.mark.parametrize("rate", [1.0 - 1e-4, 1.0 + 1e-4])
def test_a_clock_that_drifts_is_not_late_after_a_day(rate: float) -> None:
    journey = Journey(0.0, rate)
    assert all(journey.said(float(at_s), 0.01) < 0.02 for at_s in range(0, 86_400, 60))


def test_a_delay_that_lasts_is_still_told_after_minutes() -> None:
    journey = Journey(0.0)
    journey.said(0.0, 0.01)
    assert all(journey.said(at_s, 0.61) > 0.4 for at_s in range(1, 900))


@pytest.mark.parametrize("slew", [-5e-4, 5e-4])
@pytest.mark.parametrize("jitter_s", [0.0, 0.04])
def test_a_clock_that_is_slewed_is_not_late_after_an_hour(slew: float, jitter_s: float) -> None:
    """Incident: NTP set the recorder's clock right by half a second; the page moved nothing until it was reloaded."""
    journey, rng = Journey(0.0, 1.0 + slew), np.random.default_rng(0)
    for number in range(72_000):
        above_s = float(rng.uniform(0.0, jitter_s))
        assert journey.said(0.05 * number, 0.01 + above_s) < above_s + 0.06


def test_a_queue_is_told_while_a_clock_is_slewed() -> None:
    journey = Journey(0.0, 1.0 - 5e-4)
    assert all(journey.said(0.1 * number, 0.01) < 0.06 for number in range(6_000))
    assert all(journey.said(600.0 + 0.1 * number, 0.61) > 0.5 for number in range(1, 6_000))


def test_a_page_that_said_nothing_while_a_clock_was_slewed_is_not_late() -> None:
    """A page that only watches says nothing, for as long as it likes."""
    journey = Journey(0.0, 1.0 - 5e-4)
    for number in range(1_000):
        journey.said(0.1 * number, 0.01)
    assert all(journey.said(1_500.0 + 0.1 * number, 0.01) < 0.06 for number in range(6_000))


def said(page: Page, axes: dict[str, float], said_s: float) -> None:
    page.say({"do": "input", "axes": axes, "gripper": None, "moving": bool(axes), "said_s": said_s})


def test_over_a_real_socket_late_input_moves_nothing_and_is_a_lost_page(tmp_path: Path) -> None:
    with console(tmp_path / "reach", task="reach", config=BRISK) as stand:
        page = Page(stand.url)
        stand.wait_state("ready")
        began_s = time.monotonic() - 100.0

        def push(late_s: float) -> None:
            said(page, {"x": 1.0}, time.monotonic() - began_s - late_s)
            next_s = time.monotonic() + 0.03
            with contextlib.suppress(TimeoutError):
                while (rest_s := next_s - time.monotonic()) > 0:  # what is left unread keeps the socket from closing
                    page.socket.recv(timeout=rest_s)

        stand.wait(lambda: push(0.0) or not stand.device.lost, "the page to be there")
        page.wish("start")
        before = x_of(stand)
        stand.wait(lambda: push(0.0) or abs(x_of(stand) - before) > 0.02, "moving")
        push(0.8)
        stand.wait(lambda: push(0.8) or "0.8 s late and moves nothing" in stand.loop.view().prompt, "it is said")
        stand.wait(lambda: push(0.8) or stand.state == "review", "the take to end")
        assert stand.device.lost
        assert "device lost" in stand.loop.view().message
        assert "The page's input arrives 0.8 s late" in stand.loop.view().message
        page.close()


def x_of(stand: Stand) -> float:
    place = stand.loop.view().tool_position
    assert place is not None
    return place[0]


def test_a_gripper_that_was_asked_too_late_is_asked_for_the_same_again(browser: Browser, tmp_path: Path) -> None:
    """Incident: what came late was dropped, the page thought it done, and the next press opened instead of closing."""
    with console(tmp_path / "lift", config=BRISK) as stand:
        context = browser.new_context()
        page = context.new_page()
        page.add_init_script(f"({SAY_LATE})()")
        page.goto(stand.url)
        shows = "(word) => document.getElementById('state').textContent === word"
        page.wait_for_function(shows, arg="ready")
        page.keyboard.press("Enter")
        page.wait_for_function(shows, arg="recording")
        page.wait_for_timeout(500)
        page.evaluate("() => { window.late_ms = 800; }")
        page.keyboard.press(" ")
        page.wait_for_timeout(100)
        page.evaluate("() => { window.late_ms = 0; }")
        page.wait_for_timeout(1500)
        assert stand.state == "recording"
        assert (stand.loop.view().gripper_m or 0.0) > 0.07
        for closed in (True, False):
            page.keyboard.press(" ")
            stand.wait(
                lambda closed=closed: (
                    page.wait_for_timeout(30) or ((stand.loop.view().gripper_m or 0.0) < 0.01) == closed
                ),  # type: ignore[misc]
                "closed" if closed else "open",
            )
            page.wait_for_timeout(600)
        context.close()


def test_a_page_in_chromium_behind_a_slow_network(browser: Browser, tmp_path: Path) -> None:
    with console(tmp_path / "reach", task="reach", config=BRISK) as stand:
        context = browser.new_context()
        page = context.new_page()
        page.add_init_script(f"({SAY_LATE})()")
        page.goto(stand.url)
        shows = "(word) => document.getElementById('state').textContent === word"
        page.wait_for_function(shows, arg="ready")
        page.keyboard.press("Enter")
        page.wait_for_function(shows, arg="recording")
        before = x_of(stand)
        page.keyboard.down("s")
        stand.wait(lambda: page.wait_for_timeout(30) or x_of(stand) < before - 0.02, "moving")
        page.evaluate("() => { window.late_ms = 1000; }")
        # For a second nothing arrives, then all of it, late.
        stand.wait(lambda: page.wait_for_timeout(30) or stand.state == "review", "the take to end")
        assert stand.device.lost
        said = "() => document.getElementById('said').textContent"
        page.wait_for_function(f"{said[6:]}.includes('device lost')")
        assert re.search(r"Take ended \(device lost\).* The page's input arrives \d\.\d s late", page.evaluate(said))
        stood = x_of(stand)
        page.wait_for_timeout(1500)
        assert x_of(stand) == stood
        page.evaluate("() => { window.late_ms = 0; }")
        stand.wait(lambda: page.wait_for_timeout(30) or not stand.loop.view().device_lost, "the page to be back")
        context.close()
