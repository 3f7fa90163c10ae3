"""The page in Chromium, on a real server and a simulated arm: what an operator does, by every way of doing it."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from console_support import PATIENT, Stand, console, lift

from understudy.capture.console.server import serve
from understudy.capture.devices.browser import BrowserConfig
from understudy.datasets.episode import read_summary
from understudy.datasets.store import Dataset

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

DESK, TABLET = {"width": 1280, "height": 800}, {"width": 768, "height": 1024}
Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with console(tmp_path_factory.mktemp("page") / "lift") as made:
        yield made


@pytest.fixture
def open_page(browser: Browser, stand: Stand) -> Iterator[Open]:
    """Opens pages, and leaves the session ready for the next test. A script error on a page fails its test."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def opened(
        url: str = "", *, context: BrowserContext | None = None, control: bool = True, **options: object
    ) -> Page:
        if context is None:
            context = browser.new_context(**{"viewport": DESK, **options})
            contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(url or stand.url)
        page.wait_for_function("() => document.getElementById('state').textContent !== 'connecting'")
        if control:  # the page of the test before may still be going
            page.wait_for_function(
                """() => { const take = document.getElementById("control-take");
                  if (!take.hidden) take.click();
                  return document.getElementById("control-words").textContent.includes("are in control"); }"""
            )
        return page

    yield opened
    if stand.state in ("recording", "review"):
        stand.loop.ask("drop")
    for context in contexts:
        context.close()
    assert wrong == []


def wait_state(page: Page, word: str) -> None:
    page.wait_for_function("(word) => document.getElementById('state').textContent === word", arg=word)


def begin(stand: Stand, page: Page) -> None:
    wait_state(page, "ready")
    page.keyboard.press("Enter")
    wait_state(page, "recording")


def place(stand: Stand) -> tuple[float, float, float]:
    found = stand.loop.view().tool_position
    assert found is not None
    return found


def moves_to(stand: Stand, index: int, by_m: float) -> None:
    """Wait until the tool has moved along one axis."""
    start = place(stand)[index]
    stand.wait(lambda: (place(stand)[index] - start) / by_m >= 1.0, f"{by_m} m along axis {index} from {start}")


class TestByKeyboard:
    def test_a_whole_session(self, stand: Stand, open_page: Open) -> None:
        page = open_page()
        begin(stand, page)
        for key, index, by_m in (("w", 0, 0.02), ("d", 1, -0.02), ("f", 2, -0.02)):
            page.keyboard.down(key)
            moves_to(stand, index, by_m)
            page.keyboard.up(key)
        page.keyboard.press(" ")
        stand.wait(lambda: (stand.loop.view().gripper_m or 0.0) < 0.01, "a closed gripper")
        page.keyboard.press(".")
        wait_state(page, "review")
        page.keyboard.press("g")
        page.wait_for_selector('[data-wish="success"][aria-pressed="true"]')
        page.keyboard.press("t")
        page.keyboard.type("wet gripper")
        page.keyboard.press("Enter")
        stand.wait(lambda: "wet gripper" in stand.loop.view().note, "the note")
        page.keyboard.press("y")
        page.wait_for_timeout(1000)
        if stand.state == "review":  # the gate asks for a second word where it found something
            page.keyboard.press("y")
        stand.wait(lambda: len(stand.loop.view().kept) > 0, "a kept take")
        id = stand.loop.view().kept[-1]
        info = stand.dataset.summary(id).info
        assert (info.success, info.device, info.operator) == (True, "browser", "ada")
        assert "wet gripper" in info.note
        wait_state(page, "ready")
        page.keyboard.press("z")
        stand.wait(lambda: id not in stand.dataset.ids, "undo")
        page.keyboard.press("Shift+Z")
        stand.wait(lambda: id in stand.dataset.ids, "redo")

    @pytest.mark.parametrize("takes", [1, pytest.param(10, marks=pytest.mark.slow)])
    def test_lifts_are_demonstrated(self, tmp_path: Path, open_page: Open, takes: int) -> None:
        """What docs/tutorials/operator.md tells a person to do, done by keys that look at the cube."""
        with console(tmp_path / "lift", aim=takes) as stand:
            page = open_page(stand.url)
            page.set_default_timeout(30_000)
            for take in range(takes):
                begin(stand, page)
                lift(stand, page)
                wait_state(page, "review")
                assert "no success" not in page.inner_text("#numbers")
                page.keyboard.press("y")
                stand.wait(lambda take=take: len(stand.loop.view().kept) == take + 1, "a kept take")  # type: ignore[misc]
            for id in stand.loop.view().kept:
                assert stand.dataset.summary(id).info.success is True
            wait_state(page, "done")
            assert page.inner_text("#aim") == f"{takes} of {takes} episodes"
            page.keyboard.press("e")
            page.click("#check")
            told = f"{takes} ok, 0 with a warning, 0 fail. May one train on this? Yes."
            page.wait_for_function("() => document.getElementById('check-said').textContent.includes('May one train')")
            assert page.inner_text("#check-said") == told
            page.close()

    def test_the_gripper_is_asked_once_for_each_press(self, stand: Stand, open_page: Open) -> None:
        """Incident: a page that kept asking reached into the next take before it saw it, which began by closing."""
        said: list[str] = []
        page = open_page()
        page.on("websocket", lambda socket: socket.on("framesent", lambda frame: said.append(str(frame))))
        page.reload()
        begin(stand, page)
        for times, closed in ((1, True), (2, False)):
            page.keyboard.press(" ")
            stand.wait(lambda closed=closed: ((stand.loop.view().gripper_m or 0.0) < 0.01) == closed, "the gripper")  # type: ignore[misc]
            page.wait_for_timeout(200)
            asked = [frame for frame in said if '"gripper":' in frame and '"gripper":null' not in frame]
            assert len(asked) == times
        assert len(said) > 20

    def test_everything_is_reached_by_tab_and_pressed_by_enter(self, stand: Stand, open_page: Open) -> None:
        page = open_page()
        wait_state(page, "ready")
        reached = set()
        for _ in range(30):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.dataset.wish ?? document.activeElement.id"))
        assert {"prepare", "start", "stop", "keep", "drop", "hold", "tab-episodes", "gripper"} <= reached
        page.focus('[data-wish="start"]')
        page.keyboard.press("Enter")
        wait_state(page, "recording")
        # The focus stays where it was, on a button that is off now: keys are heard all the same.
        page.keyboard.press("h")
        wait_state(page, "review")

    def test_keys_that_are_written_move_nothing(self, stand: Stand, open_page: Open) -> None:
        page = open_page()
        begin(stand, page)
        stand.wait(lambda: stand.loop.view().steps > 3, "steps")
        page.keyboard.press("t")
        before = place(stand)
        page.keyboard.type("wasd. nyh wwwwwwwwww", delay=20)
        assert stand.state == "recording"
        assert max(abs(a - b) for a, b in zip(before, place(stand), strict=True)) < 0.005
        page.keyboard.press("Escape")
        page.keyboard.press(".")
        wait_state(page, "review")

    def test_a_key_that_is_held_when_the_window_loses_focus_is_let_go(self, stand: Stand, open_page: Open) -> None:
        page = open_page()
        begin(stand, page)
        page.keyboard.down("a")
        moves_to(stand, 1, 0.01)
        page.evaluate("window.dispatchEvent(new Event('blur'))")
        time.sleep(0.5)
        before = place(stand)
        time.sleep(0.5)
        assert max(abs(a - b) for a, b in zip(before, place(stand), strict=True)) < 0.002


PADS = """
window.pad = { id: "virtual pad", connected: true, mapping: "standard", axes: [0, 0, 0, 0],
  buttons: Array.from({ length: 17 }, () => ({ pressed: false, value: 0 })) };
navigator.getGamepads = () => [null, window.pad];
window.press = (index) => { window.pad.buttons[index] = { pressed: true, value: 1 };
  setTimeout(() => { window.pad.buttons[index] = { pressed: false, value: 0 }; }, 150); };
"""
SOUTH, NORTH, BACK, START, UP, RIGHT_TRIGGER = 0, 3, 8, 9, 12, 7


class TestByGamepad:
    def test_a_whole_session(self, stand: Stand, browser: Browser, open_page: Open) -> None:
        context = browser.new_context(viewport=DESK)
        context.add_init_script(PADS)
        page = open_page(context=context)

        def press(button: int) -> None:
            page.evaluate(f"press({button})")
            page.wait_for_timeout(300)

        kept = len(stand.loop.view().kept)
        wait_state(page, "ready")
        press(START)
        wait_state(page, "recording")
        page.evaluate("pad.axes[1] = -1")  # up on the left stick
        moves_to(stand, 0, 0.02)
        page.evaluate("pad.axes[1] = 0; pad.buttons[7] = { pressed: true, value: 1 }")
        moves_to(stand, 2, 0.02)
        page.evaluate("pad.buttons[7] = { pressed: false, value: 0 }; pad.axes[0] = 0.07")  # drift stays in the band
        press(SOUTH)
        stand.wait(lambda: (stand.loop.view().gripper_m or 0.0) < 0.01, "a closed gripper")
        press(BACK)
        wait_state(page, "review")
        press(NORTH)
        press(UP)
        page.wait_for_timeout(1000)
        if stand.state == "review":  # the gate asks for a second word where it found something
            press(UP)
        stand.wait(lambda: len(stand.loop.view().kept) == kept + 1, "a kept take")
        assert stand.dataset.summary(stand.loop.view().kept[-1]).info.success is True
        assert "gamepad" in page.inner_text("#control-words")
        context.close()

    def test_of_another_mapping_it_is_not_used_and_the_page_says_so(
        self, stand: Stand, browser: Browser, open_page: Open
    ) -> None:
        context = browser.new_context(viewport=DESK)
        context.add_init_script(PADS + 'window.pad.mapping = "";')
        page = open_page(context=context)
        wait_state(page, "ready")
        page.wait_for_function("() => document.getElementById('control-words').textContent.includes('cannot be used')")
        page.evaluate(f"press({START})")
        page.wait_for_timeout(400)
        assert stand.state == "ready"
        page.evaluate("window.pad.mapping = 'standard'")
        page.wait_for_function("() => document.getElementById('control-words').textContent.endsWith('· gamepad')")
        context.close()


class TestByPointer:
    @pytest.mark.parametrize(
        ("way", "pad", "to", "index", "by_m"),
        [("mouse", "move", (0.5, 0.05), 0, 0.02), ("touch", "height", (0.5, 0.95), 2, -0.02)],
    )
    def test_a_pad_is_dragged(
        self, stand: Stand, open_page: Open, way: str, pad: str, to: tuple[float, float], index: int, by_m: float
    ) -> None:
        page = open_page(viewport=TABLET, has_touch=True)
        wait_state(page, "ready")
        page.tap('[data-wish="start"]')
        wait_state(page, "recording")
        page.locator(f'[data-pad="{pad}"]').scroll_into_view_if_needed()
        box = page.locator(f'[data-pad="{pad}"]').bounding_box()
        assert box is not None
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        end = (box["x"] + box["width"] * to[0], box["y"] + box["height"] * to[1])
        finger = page.context.new_cdp_session(page)

        def touch(kind: str, *points: tuple[float, float]) -> None:
            told = {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]}
            finger.send("Input.dispatchTouchEvent", told)

        if way == "mouse":
            page.mouse.move(*middle)
            page.mouse.down()
            page.mouse.move(*end, steps=4)
        else:
            touch("touchStart", middle)
            touch("touchMove", end)
        moves_to(stand, index, by_m)
        assert "held" in str(page.get_attribute(f'[data-pad="{pad}"]', "class"))
        if way == "mouse":
            page.mouse.up()
        else:
            touch("touchEnd")
        time.sleep(0.5)
        before = place(stand)
        time.sleep(0.4)
        assert max(abs(a - b) for a, b in zip(before, place(stand), strict=True)) < 0.002

    def test_a_double_click_does_not_insist(self, stand: Stand, open_page: Open) -> None:
        """A take that fails the check is kept on the operator's second word, and a double click is one word."""
        page = open_page()
        begin(stand, page)
        stand.wait(lambda: stand.loop.view().steps >= 30, "steps in which nothing happens")
        page.keyboard.press(".")
        wait_state(page, "review")
        page.wait_for_selector("#findings .failure")
        kept = len(stand.loop.view().kept)
        page.dblclick('[data-wish="keep"]')
        page.wait_for_timeout(900)
        assert stand.state == "review"
        assert len(stand.loop.view().kept) == kept
        page.click('[data-wish="keep"]')
        stand.wait(lambda: len(stand.loop.view().kept) == kept + 1, "the second word")
        assert "kept in spite of" in stand.dataset.summary(stand.loop.view().kept[-1]).info.note

    def test_a_thousand_rapid_clicks(self, stand: Stand, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """No take is lost or doubled, nothing breaks, and the page answers afterwards."""
        page = open_page()
        wait_state(page, "ready")
        before, dropped = set(stand.dataset.ids), set(stand.dataset.dropped)
        session = stand.loop.session
        began: set[str] = set()

        def noted(tick: Callable[[], object]) -> object:
            try:
                return tick()
            finally:
                if session.steps and session.take_path is not None:
                    began.add(session.take_path.stem)

        monkeypatch.setattr(session, "tick", functools.partial(noted, session.tick))
        page.evaluate(
            """async () => {
              const words = ["prepare", "start", "stop", "keep", "keep", "drop", "success", "failure", "unmark"];
              let seed = 7;
              for (let click = 0; click < 1000; click++) {
                seed = (seed * 16807) % 2147483647;
                document.querySelector(`[data-wish="${words[seed % words.length]}"]`).click();
                if (click % 5 === 0) await new Promise((done) => setTimeout(done, 8));
              }
            }"""
        )
        page.wait_for_timeout(1000)
        stand.wait(lambda: stand.state != "saving", "the last wish")
        view = stand.loop.view()
        assert view.state == page.inner_text("#state").lower()
        assert set(stand.dataset.ids) - before <= set(view.kept)
        assert not set(view.kept) & (set(stand.dataset.dropped) - dropped)
        assert len(set(stand.dataset.ids)) == len(stand.dataset.ids)
        assert page.locator("#gone").is_hidden()
        if stand.state != "idle":
            page.wait_for_timeout(1500)  # the rate limit forgets
            page.keyboard.press("h")
            stand.wait_state("ready", "review")
            if stand.state == "review":  # nothing is in hand, so that each take that began is somewhere
                stand.loop.ask("drop")
        kept, trash = set(stand.dataset.ids) - before, set(stand.dataset.dropped) - dropped
        assert began
        assert kept | trash == began
        assert not kept & trash
        assert list((stand.dataset.path / "recording").glob("*.hdf5")) == []


def pictures(page: Page) -> list[list[float]]:
    """(x, y, width, height) of the pictures that are shown, without the bars that fill their frames."""
    found: list[list[float]] = page.evaluate(
        """() => [...document.querySelectorAll("#camera-main img, .thumb:not([hidden]) img")].map((one) => {
          const box = one.getBoundingClientRect();
          const scale = Math.min(box.width / one.naturalWidth, box.height / one.naturalHeight);
          const [width, height] = [scale * one.naturalWidth, scale * one.naturalHeight];
          return [box.x + (box.width - width) / 2, box.y + (box.height - height) / 2, width, height];
        })"""
    )
    return found


class TestWhatItShows:
    def test_a_reload_in_mid_take_changes_nothing(self, stand: Stand, open_page: Open) -> None:
        page = open_page()
        begin(stand, page)
        stand.wait(lambda: stand.loop.view().steps > 5, "steps")
        page.reload()
        wait_state(page, "recording")
        page.wait_for_function("() => document.getElementById('control-words').textContent.includes('You')")
        assert stand.state == "recording"
        page.keyboard.down("w")
        moves_to(stand, 0, 0.01)
        page.keyboard.up("w")
        page.keyboard.press(".")
        wait_state(page, "review")

    def test_two_pages_agree_and_hand_over(self, stand: Stand, open_page: Open) -> None:
        one, two = open_page(), open_page(viewport=TABLET, control=False)
        begin(stand, one)
        wait_state(two, "recording")
        assert "watch" in two.inner_text("#control-words")
        two.keyboard.press(".")
        two.wait_for_selector("#said.error")
        assert "only watches" in two.inner_text("#said")
        assert stand.state == "recording"
        two.click("#control-ask")
        one.click("#asking-give")
        two.wait_for_function("() => document.getElementById('control-words').textContent.includes('are in control')")
        two.keyboard.press(".")
        for page in (one, two):
            wait_state(page, "review")
        for element in ("#numbers", "#clock", "#aim"):
            assert one.inner_text(element) == two.inner_text(element)
        assert one.inner_text("#prompt") == "Watching. " + two.inner_text("#prompt")

    def test_states_are_told_by_word_and_shape_and_to_a_screen_reader(self, stand: Stand, open_page: Open) -> None:
        page = open_page()
        seen = {}

        def look(word: str) -> None:
            wait_state(page, word)
            seen[word] = page.get_attribute("#banner use", "href")
            assert page.inner_text("#announce").startswith(f"{word}.")
            assert word in page.title()

        look("ready")
        page.keyboard.press("Enter")
        look("recording")
        page.keyboard.press(".")
        look("review")
        assert len(set(seen.values())) == 3
        assert page.get_attribute("#announce", "aria-live") == "assertive"
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("button, input, [role=meter], canvas")].filter((one) =>
              !(one.textContent.trim() || one.ariaLabel || one.labels?.length || one.getAttribute("aria-labelledby")))
              .map((one) => one.outerHTML)"""
        )
        assert nameless == []
        keyed = page.locator("[data-wish][aria-keyshortcuts]")
        assert keyed.count() == page.locator("[data-wish]").count() >= 13

    @pytest.mark.parametrize("size", [DESK, TABLET], ids=["desk", "tablet"])
    def test_it_fits(self, stand: Stand, open_page: Open, size: dict[str, int]) -> None:
        page = open_page(viewport=size)
        begin(stand, page)
        page.wait_for_selector("#lights li")
        for tab in ("session", "episodes"):
            page.click(f"#tab-{tab}")
            width = page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
            assert width <= size["width"]
        page.click("#tab-session")
        for selector in (
            "#state",
            "#prompt",
            "#clock",
            "#camera-main",
            *(f'[data-wish="{w}"]' for w in ("hold", "stop", "keep")),
        ):
            box = page.locator(selector).bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= size["width"]
            assert box["y"] + box["height"] <= size["height"]
        assert page.evaluate("parseFloat(getComputedStyle(document.getElementById('state')).fontSize)") >= 40
        assert page.evaluate("parseFloat(getComputedStyle(document.getElementById('prompt')).fontSize)") >= 24

    def test_a_picture_of_the_scene_is_shown(self, stand: Stand, open_page: Open) -> None:
        page = open_page()
        page.wait_for_function("() => document.querySelector('#camera-main img').naturalWidth === 480")

    @pytest.mark.parametrize("size", [DESK, TABLET], ids=["desk", "tablet"])
    def test_two_views_are_equally_high_beside_each_other(
        self, stand: Stand, open_page: Open, size: dict[str, int]
    ) -> None:
        """One view does not tell how far away things are."""
        page = open_page(viewport=size)
        page.wait_for_function(
            """() => [["#camera-main img", 480], [".thumb:not([hidden]) img", 288]]
              .every(([where, width]) => document.querySelector(where).naturalWidth === width)"""
        )
        (x, y, width, height), (other_x, other_y, other_width, other_height) = shown = pictures(page)
        assert x + width <= other_x + 1
        assert other_x + other_width <= size["width"]
        assert (y, height) == pytest.approx((other_y, other_height), abs=2)
        assert height >= 255
        page.click("#camera-large")
        assert pictures(page)[0][2] >= width  # on the tablet it is as high as it can be already
        assert pictures(page)[1][2] < other_width
        page.reload()  # as it was left
        page.wait_for_function("() => document.querySelector('#camera-main img').naturalWidth === 480")
        assert page.inner_text("#camera-main figcaption") == "front"
        page.click(".thumb:not([hidden])")
        assert page.inner_text("#camera-main figcaption") == "side"
        assert page.inner_text("#camera-large") == "Show both"
        page.click(".thumb:not([hidden])")
        page.click("#camera-large")
        page.wait_for_function("() => document.querySelector('.thumb:not([hidden]) img').naturalWidth === 288")
        assert np.allclose(pictures(page), shown, atol=2.0)

    def test_nothing_comes_from_elsewhere(self, stand: Stand, browser: Browser, open_page: Open) -> None:
        asked: list[str] = []
        context = browser.new_context(viewport=DESK)
        context.on("request", lambda request: asked.append(request.url))
        page = open_page(context=context)
        page.keyboard.press("e")
        page.wait_for_timeout(500)
        context.close()
        assert asked
        assert all(url.startswith((stand.url, f"blob:{stand.url}")) for url in asked)

    def test_episodes_are_looked_at_judged_dropped_and_restored(self, stand: Stand, open_page: Open) -> None:
        page = open_page()
        begin(stand, page)
        stand.wait(lambda: stand.loop.view().steps > 8, "steps")
        stand.loop.ask("stop")
        stand.loop.ask("keep", "anyway")
        id = stand.loop.view().kept[-1]
        page.keyboard.press("e")
        page.wait_for_selector(f"#row-{id}[aria-selected=true]")
        page.set_default_timeout(60_000)
        page.wait_for_function("() => document.getElementById('film').naturalWidth === 1920")
        assert page.locator("#plots canvas").count() == 3
        assert "joint 7 from" in str(page.get_attribute("#plots canvas", "aria-label"))
        page.check('#verdict input[value="true"]')
        stand.wait(lambda: stand.dataset.summary(id).info.success is True, "the verdict")
        page.click("#detail-drop")
        stand.wait(lambda: id in stand.dataset.dropped, "the drop")
        page.wait_for_selector("#detail-restore:visible", timeout=15_000)
        page.click("#detail-restore")
        stand.wait(lambda: id in stand.dataset.ids, "the restore")
        page.click("#check")
        page.wait_for_function("() => document.getElementById('check-said').textContent.includes('May one train')")
        # Keys of the session are off here, where a person reads.
        before = stand.loop.view()
        page.keyboard.press("Enter")
        page.keyboard.press("w")
        assert stand.loop.view().state == before.state


class TestTheServerGoesAway:
    def test_the_page_says_so_and_comes_back(self, stand: Stand, browser: Browser, open_page: Open) -> None:
        """A second server on the same session goes, as a server does whose thread dies, and comes back."""
        from understudy.capture.console.config import ConsoleConfig

        with serve(stand.loop, None, ConsoleConfig(port=0)) as url:
            page = open_page(url)
            port = int(url.rstrip("/").rpartition(":")[2])
        page.wait_for_selector("#gone:visible")
        assert page.inner_text("#gone-title") == "The server is gone"
        assert "The arm holds" in page.inner_text("#gone-words")
        assert page.evaluate("parseFloat(getComputedStyle(document.getElementById('gone-title')).fontSize)") >= 60
        with serve(stand.loop, None, ConsoleConfig(port=port)):
            page.wait_for_selector("#gone", state="hidden")
            assert "there again" in page.inner_text("#said")

    def test_killed_in_mid_take(self, browser: Browser, tmp_path: Path) -> None:
        """The recorder is killed: the page says so, and of the take all but the last second is recovered."""
        folder = tmp_path / "lift"
        recorder = subprocess.Popen(
            [sys.executable, "-m", "capture.console.recorder_process", str(folder)],
            cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        context = browser.new_context(viewport=DESK)
        try:
            assert recorder.stdout is not None
            url = next(line.strip() for line in recorder.stdout if line.startswith("http"))
            page = context.new_page()
            page.goto(url)
            wait_state(page, "ready")
            page.keyboard.press("Enter")
            wait_state(page, "recording")
            page.keyboard.down("w")
            page.wait_for_function("() => parseFloat(document.getElementById('clock').textContent) > 2.5")
            recorded_s = float(page.inner_text("#clock").split()[0])
            recorder.send_signal(signal.SIGKILL)
            page.wait_for_selector("#gone:visible")
            assert page.inner_text("#gone-title") == "The server is gone"
        finally:
            recorder.kill()
            recorder.wait()
            context.close()
        recovered = Dataset.open(folder)
        (id,) = recovered.takes()
        assert recovered.recovery.takes == (id,)
        take = read_summary(recovered.take_file(id))
        assert take.steps >= (recorded_s - 1.0) * take.info.rate_hz


def test_a_reload_with_the_limits_that_a_person_has(browser: Browser, tmp_path: Path) -> None:
    """The take goes on where the page was silent for less than a second, and ends in review where it was longer."""
    said_s: list[float] = []
    with console(tmp_path / "reach", task="reach", config=BrowserConfig()) as stand:
        context = browser.new_context(viewport=DESK)
        page = context.new_page()
        page.on("websocket", lambda socket: socket.on("framesent", lambda _: said_s.append(time.monotonic())))
        page.goto(stand.url)
        begin(stand, page)
        page.wait_for_timeout(300)
        assert stand.state == "recording"
        page.reload()
        page.wait_for_function("() => document.getElementById('control-words').textContent.includes('are in control')")
        page.wait_for_timeout(300)
        silent_s = max(after - before for before, after in itertools.pairwise(said_s))
        if silent_s < 0.7:
            assert stand.state == "recording"
        if silent_s > 1.3:
            assert stand.loop.view().message.startswith("Take ended (device lost)")
        if stand.state == "recording":
            page.keyboard.press(".")
        wait_state(page, "review")
        context.close()


def test_a_page_that_hangs_lets_the_arm_hold(browser: Browser, tmp_path: Path) -> None:
    """A page whose script stands still sends nothing: after 0.3 s nothing moves, after 1 s the take ends."""
    config = BrowserConfig(PATIENT.shaping, release_s=0.3, lost_s=1.0)
    with console(tmp_path / "reach", task="reach", config=config) as stand:
        context = browser.new_context(viewport=DESK)
        page = context.new_page()
        page.goto(stand.url)
        wait_state(page, "ready")
        page.keyboard.press("Enter")
        wait_state(page, "recording")
        page.keyboard.down("s")
        deadline = time.monotonic() + 20.0
        while stand.loop.view().steps < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert stand.state == "recording"
        page.evaluate("() => { const end = performance.now() + 2500; while (performance.now() < end); }")
        assert stand.state == "review"
        assert stand.loop.view().steps >= 5
        context.close()
