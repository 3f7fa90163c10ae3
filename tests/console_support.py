"""A console with a simulated arm behind it, and Chromium in front."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from understudy.capture.console.config import ConsoleConfig
from understudy.capture.console.server import serve
from understudy.capture.devices.browser import BrowserConfig, BrowserDevice
from understudy.capture.devices.shaping import ShapingConfig
from understudy.capture.session import Session, SessionConfig
from understudy.capture.session_loop import LoopConfig, SessionLoop
from understudy.datasets.store import Dataset
from understudy.envs.make import make_env

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENT = BrowserConfig(ShapingConfig(speed=0.5), release_s=2.0, lost_s=20.0)
"""A machine that others load may not send for a second; tests of silence use their own."""


@dataclass
class Stand:
    """Everything behind a page."""

    url: str
    loop: SessionLoop
    device: BrowserDevice
    dataset: Dataset
    errors: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        return self.loop.view().state

    def wait(self, true: Callable[[], bool], what: str, timeout_s: float = 15.0) -> None:
        until_s = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < until_s, f"waited {timeout_s} s for: {what}; {self.loop.view()}"
            time.sleep(0.02)

    def wait_state(self, *states: str) -> None:
        self.wait(lambda: self.state in states, " or ".join(states))


@contextlib.contextmanager
def console(
    folder: Path, *, task: str = "lift", config: BrowserConfig = PATIENT, countdown_s: float = 0.0,
    console: ConsoleConfig | None = None, max_s: float = 60.0,
    aim: int | None = None,
) -> Iterator[Stand]:  # fmt: skip
    """A session of a task on the simulated Panda, driven by a page, served on a free port."""
    env = make_env(task, "panda", realtime=True)
    control = env.control
    device = BrowserDevice(control.actions.spec, control.robot.period_s, config)
    dataset = Dataset.open_or_create(folder, robot=control.robot.name, task=task)
    session = Session(env, device, dataset, SessionConfig(operator="ada", max_s=max_s))
    loop = SessionLoop(session, config=LoopConfig(aim=aim, countdown_s=countdown_s))
    try:
        with serve(loop, device, console or ConsoleConfig(port=0)) as url:
            loop.start()
            try:
                yield Stand(url, loop, device, dataset)
            finally:
                loop.close()
    finally:
        env.close()


class Page:
    """A page without a browser: its WebSocket."""

    def __init__(self, url: str, *, key: str = "", **options: Any) -> None:
        address = url.partition("://")[2].partition("/")[0]
        options.setdefault("origin", f"http://{address}")
        self._open = contextlib.ExitStack()
        self.socket: ClientConnection = self._open.enter_context(connect(f"ws://{address}/ws", proxy=None, **options))
        self.say({"do": "hello", "page": key})
        self.hello = self.hear("hello")
        self._count = 0

    def say(self, message: object) -> None:
        self.socket.send(message if isinstance(message, str) else json.dumps(message))

    def hear(self, kind: str, timeout_s: float = 10.0) -> dict[str, Any]:
        until_s = time.monotonic() + timeout_s
        while True:
            message: dict[str, Any] = json.loads(self.socket.recv(timeout=max(0.0, until_s - time.monotonic())))
            if message["type"] == kind:
                return message

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        self._count += 1
        self.say({**message, "n": self._count})
        while (answer := self.hear("answer"))["n"] != self._count:
            pass
        return answer

    def wish(self, wish: str, text: str = "") -> dict[str, Any]:
        return self.ask({"do": "wish", "wish": wish, "text": text})

    def closed(self, timeout_s: float = 10.0) -> ConnectionClosed:
        """How the server closed the conversation."""
        try:
            while True:
                self.socket.recv(timeout=timeout_s)
        except ConnectionClosed as error:
            return error

    def close(self) -> None:
        self._open.close()


NEAR_M, TAP_M = 0.008, 0.05
"""Nearer than this is there; nearer than that a person taps keys instead of holding them."""
KEYS = {"x": ("w", "s"), "y": ("a", "d"), "z": ("r", "f")}


def steer(page: Any, stand: Stand, goal: dict[str, float], until_s: float) -> None:
    """Bring the tool to a place (axis -> m) by the page's keys, as a person does who sees it."""
    held: set[str] = set()
    while stand.state == "recording":
        assert time.monotonic() < until_s, f"on the way to {goal}: {stand.loop.view()}"
        tool = dict(zip("xyz", stand.loop.view().tool_position or (), strict=True))
        off = {axis: place - tool[axis] for axis, place in goal.items() if abs(place - tool[axis]) > NEAR_M}
        if not off:
            break
        wanted = {KEYS[axis][0 if error > 0 else 1] for axis, error in off.items()}
        for key in held - wanted:
            page.keyboard.up(key)
        for key in wanted - held:
            page.keyboard.down(key)
        held = wanted
        if max(map(abs, off.values())) < TAP_M:
            page.wait_for_timeout(40)
            for key in held:
                page.keyboard.up(key)
            held = set()
            page.wait_for_timeout(200)
        page.wait_for_timeout(15)
    for key in held:
        page.keyboard.up(key)


def lift(stand: Stand, page: Any, *, look: Callable[[str], None] = lambda phase: None) -> None:
    """Lift the cube by keys on the page; the task ends the take.

    Args:
        stand: a session of `lift` that is recording.
        page: Playwright's.
        look: called when the tool is "above" the cube, "around" it, and when it is lifted ("up").
    """
    aligned = stand.loop.session.stage.aligned
    assert aligned is not None
    x, y, z = (float(value) for value in aligned.values["object_position"])
    until_s = time.monotonic() + 60.0
    steer(page, stand, {"x": x, "y": y, "z": z + 0.15}, until_s)
    look("above")
    steer(page, stand, {"x": x, "y": y, "z": z}, until_s)
    look("around")
    page.keyboard.press(" ")
    page.wait_for_timeout(800)
    steer(page, stand, {"z": z + 0.25}, until_s)
    look("up")


def chromium() -> str:
    """The browser's path. Skips the test where there is none, but in CI, which must have one."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "there is no chromium on PATH (apt-get install chromium)"
        if os.environ.get("CI") or os.environ.get("UNDERSTUDY_REQUIRE_PEERS"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found
