"""A page that nobody looks at counts as gone: `understudy console` as it is started, its tab really hidden."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conformance.device import LIFT, NOW
from console_support import FLAGS, chromium
from websockets.sync.client import connect

from understudy.capture.devices.browser import BrowserDevice
from understudy.capture.takeover import TakeoverDevice
from understudy.envs.arms.clock import VirtualClock

if TYPE_CHECKING:
    from playwright.sync_api import Browser

STATE = "document.getElementById('state')?.textContent"
IN_CONTROL = """(() => { const take = document.getElementById("control-take");
  if (take && !take.hidden) take.click();
  return document.getElementById("control-words")?.textContent.includes("are in control") === true; })()"""


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The console with every limit as it is by default; the address of its page."""
    folder = tmp_path_factory.mktemp("hidden") / "reach"
    console = subprocess.Popen(
        [sys.executable, "-m", "understudy", "console", "reach", "--out", str(folder), "--port", "0",
         "--countdown", "0", "--episodes", "5"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert console.stderr is not None
        yield next(match[0] for line in console.stderr if (match := re.search(r"http://127\.0\.0\.1:\d+/", line)))
        console.send_signal(signal.SIGINT)
        console.communicate(timeout=30)
    finally:
        console.kill()
        console.wait()


class Tab:
    """A tab of a Chromium that nobody tells to treat each page as if it were looked at, which Playwright does."""

    def __init__(self, port: int, open: contextlib.ExitStack) -> None:
        self._port = port
        page = next(one for one in self._get("json") if one["type"] == "page")
        self._socket = open.enter_context(connect(page["webSocketDebuggerUrl"], proxy=None))
        self._count = itertools.count(1)

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{path}", timeout=5) as answer:
            return json.load(answer)

    def run(self, script: str) -> Any:
        """What a script on the page answers; None while the page is being loaded."""
        n = next(self._count)
        asked = {"expression": script, "returnByValue": True}
        self._socket.send(json.dumps({"id": n, "method": "Runtime.evaluate", "params": asked}))
        while (told := json.loads(self._socket.recv(timeout=15))).get("id") != n:
            pass
        return told.get("result", {"result": {}})["result"].get("value")

    def hide(self) -> None:
        """Open another tab in front of it."""
        with connect(self._get("json/version")["webSocketDebuggerUrl"], proxy=None) as browser:
            browser.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
            browser.recv(timeout=15)

    def show(self) -> None:
        """Bring it to the front again."""
        self._socket.send(json.dumps({"id": next(self._count), "method": "Page.bringToFront"}))


def wait(true: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    until_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until_s, f"waited {timeout_s} s for {what}"
        time.sleep(0.05)


@contextlib.contextmanager
def opened(url: str, profile: Path) -> Iterator[Tab]:
    browser = subprocess.Popen(
        [chromium(), "--headless=new", *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", url],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        listening = profile / "DevToolsActivePort"
        wait(lambda: listening.exists() and len(listening.read_text().splitlines()) == 2, "the browser")
        with contextlib.ExitStack() as open:
            yield Tab(int(listening.read_text().splitlines()[0]), open)
    finally:
        browser.terminate()
        browser.wait()


def test_a_hidden_page_says_one_last_word(command: str, browser: Browser) -> None:
    """Which lets go of everything; shown again, it speaks again."""
    said: list[dict[str, Any]] = []
    page = browser.new_page()
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: said.append(json.loads(frame))))
    page.goto(command)
    page.wait_for_function("() => document.getElementById('control-words').textContent.includes('are in control')")
    page.keyboard.down("w")
    page.wait_for_timeout(300)
    assert said[-1]["axes"] == {"x": 1}
    page.evaluate(
        """() => { window.covered = true;
          Object.defineProperty(document, "hidden", { get: () => window.covered });
          document.dispatchEvent(new Event("visibilitychange")); }"""
    )
    page.wait_for_timeout(100)
    before = len(said)
    assert (said[-1]["axes"], said[-1]["moving"]) == ({}, False)
    page.wait_for_timeout(500)
    assert len(said) == before
    page.evaluate("() => { window.covered = false; document.dispatchEvent(new Event('visibilitychange')); }")
    page.wait_for_timeout(300)
    assert len(said) > before + 2
    page.close()


def test_a_page_that_is_hidden_ends_the_take(command: str, tmp_path: Path) -> None:
    """Incident: a covered tab still runs once a second, which was often enough to count as somebody who looks."""
    with opened(command, tmp_path / "profile") as tab:
        wait(lambda: tab.run(IN_CONTROL) is True, "control")
        wait(lambda: tab.run(STATE) == "ready", "the session")
        tab.run("document.querySelector('[data-wish=start]').click()")
        wait(lambda: tab.run(STATE) == "recording", "the take")
        assert tab.run("document.hidden") is False
        tab.hide()
        wait(lambda: tab.run("document.hidden") is True, "the other tab")
        wait(lambda: tab.run(STATE) != "recording", "the end of the take", timeout_s=8.0)
        assert tab.run(STATE) == "review"
        tab.show()
        wait(lambda: tab.run("document.hidden") is False, "the page")
        tab.run("document.querySelector('[data-wish=drop]').click()")
        wait(lambda: tab.run(STATE) == "ready", "the next take")
        tab.run("document.querySelector('[data-wish=start]').click()")
        wait(lambda: tab.run(STATE) == "recording", "a page that is looked at again")


def test_a_policy_stands_still_once_nobody_looks() -> None:
    """A page that has said its last word: the policy drives for a second more, and not a step after."""

    class Forwards:
        def reset(self) -> None: ...

        def act(self, observation: object) -> np.ndarray:
            return np.array([0.5, 0, 0, 0, 0, 0, 1.0])

    clock = VirtualClock()
    page = BrowserDevice(LIFT, 0.05, clock=clock)
    device = TakeoverDevice(Forwards(), page, LIFT)
    device.reset(NOW.values)
    page.feed({}, None, False)
    moved = []
    for _ in range(200):
        moved.append(bool(device.read(NOW).action[0] > 0))
        clock.advance(0.05)
    assert page.lost
    assert moved == [True] * 21 + [False] * 179
