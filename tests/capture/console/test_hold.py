"""Holding the arm from the page waits behind nothing: no wish that takes long, no job of the dataset's."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from console_support import Page
from session_support import fake_stage, new_session

from understudy.capture.console.app import THREADS
from understudy.capture.console.config import ConsoleConfig
from understudy.capture.console.library import Library
from understudy.capture.console.server import serve
from understudy.capture.session_loop import SessionLoop
from understudy.capture.session_view import SessionView, Wish
from understudy.envs.arms.clock import MonotonicClock

SOON_S = 0.2


class Slow:
    """A session that is long at keeping, and holds at once."""

    def __init__(self, view: SessionView) -> None:
        self._view = view
        self.go_on, self.began = threading.Event(), threading.Event()

    def ask(self, wish: Wish, text: str = "", *, timeout_s: float = 5.0) -> str:
        if wish != "hold":
            self.began.set()
            self.go_on.wait(30.0)
        return f"{wish} is done."

    def view(self) -> SessionView:
        return self._view

    def wait_view(self, after_revision: int, timeout_s: float) -> SessionView:
        self.go_on.wait(timeout_s)
        return self._view

    def picture(self, camera: str) -> np.ndarray | None:
        return None


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    session, _ = new_session(fake_stage(), tmp_path)
    made = Slow(dataclasses.replace(SessionLoop(session).view(), possible=("keep", "hold")))
    yield made
    made.go_on.set()
    session.close()


def answer_to(page: Page, n: int) -> dict[str, object]:
    while (answer := page.hear("answer"))["n"] != n:
        pass
    return answer


def test_hold_is_answered_while_a_wish_of_the_same_page_takes_long(slow: Slow) -> None:
    with serve(slow, None, ConsoleConfig(port=0)) as url:
        page = Page(url)
        page.say({"do": "wish", "n": 1, "wish": "keep", "text": ""})
        assert slow.began.wait(10.0)
        began_s = time.monotonic()
        page.say({"do": "wish", "n": 2, "wish": "hold", "text": ""})
        assert answer_to(page, 2)["text"] == "hold is done."
        assert time.monotonic() - began_s < SOON_S
        slow.go_on.set()
        assert answer_to(page, 1)["ok"]
        page.close()


def test_hold_is_answered_while_every_thread_is_busy_with_the_dataset(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = threading.Semaphore(0)

    def blocks(library: Library, offset: int = 0) -> dict[str, object]:
        began.release()
        slow.go_on.wait(30.0)
        return {}

    monkeypatch.setattr(Library, "rows", blocks)
    with serve(slow, None, ConsoleConfig(port=0)) as url:
        page = Page(url)
        readers = [
            threading.Thread(target=httpx.get, args=(f"{url}api/episodes",), kwargs={"timeout": 40.0})
            for _ in range(THREADS)
        ]
        for reader in readers:
            reader.start()
        for _ in range(THREADS - 2):  # the rest wait for views
            assert began.acquire(timeout=20.0)
        began_s = time.monotonic()
        page.say({"do": "wish", "n": 7, "wish": "hold", "text": ""})
        assert answer_to(page, 7)["ok"]
        assert time.monotonic() - began_s < SOON_S
        slow.go_on.set()
        for reader in readers:
            reader.join()
        page.close()


def test_a_session_that_saves_answers_hold_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks: the arm rests since the take ended, and the disk need not be waited for to say so."""
    session, puppet = new_session(fake_stage(clock=MonotonicClock()), tmp_path, max_s=60.0)
    puppet.action = np.array([0.004, 0.0, 0.0])
    loop, saving, go_on = SessionLoop(session), threading.Event(), threading.Event()
    commit = session.dataset.commit
    monkeypatch.setattr(session.dataset, "commit", lambda path: (saving.set(), go_on.wait(20.0), commit(path))[2])
    loop.start()
    try:
        loop.ask("prepare", timeout_s=30.0)
        loop.ask("start", "anyway")
        view = loop.view()
        while view.steps < 5:
            view = loop.wait_view(view.revision, 1.0)
        loop.ask("stop")
        keeping = threading.Thread(target=loop.ask, args=("keep", "anyway"), kwargs={"timeout_s": 30.0})
        keeping.start()
        assert saving.wait(10.0)
        began_s = time.monotonic()
        assert loop.ask("hold") == "The arm holds. The take is being saved."
        assert time.monotonic() - began_s < SOON_S
        go_on.set()
        keeping.join()
    finally:
        go_on.set()
        loop.close()
    assert len(session.dataset) == 1
