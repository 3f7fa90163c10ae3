"""The terminal as a front of a session: one line of status redrawn in place, and a line for what has happened.

Uses the session's loop as any front does, from a thread of its own. Where the session's device is not the keyboard, the
keys that start, stop and keep takes are read here too: a foot pedal that types keys is one.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from understudy.capture.session_states import meant
from understudy.capture.unconfirmed import WARNING
from understudy.errors import InputError, UnderstudyError

if TYPE_CHECKING:
    from understudy.capture.devices.terminal_keys import TerminalKeys
    from understudy.capture.session_loop import SessionLoop
    from understudy.capture.session_view import SessionView, Wish

__all__ = ["SessionTerminal", "status_line"]

REDRAW_S = 0.2
"""The status is redrawn this often at most."""
KEYS_HELP = (
    "enter prepare, start   . stop   g success   b failure   m unmark   y keep   n drop   z undo last kept   Z redo\n"
    "h {hold}   v take over   V hand back   q quit"
)
ANSWERED = ("idle", "ready", "review")
"""States in which the operator is asked for something."""
ALWAYS: tuple[Wish, ...] = ("hold", "stop")
"""What counts whatever the terminal shows: it ends motion."""
_CLEAR = "\r\x1b[2K"


class SessionTerminal:
    """Shows a session on a stream and reads session keys, while inside a `with` statement."""

    def __init__(self, loop: SessionLoop, *, keys: bool, stream: TextIO | None = None) -> None:
        """Args:
        loop: the session.
        keys: read session keys from standard input, if that is a terminal; False where the device reads it.
        stream: where to write; None is standard error. Only on a terminal is the status redrawn.
        """
        self.quit = threading.Event()
        """Set when the operator has quit by a key."""
        self._loop = loop
        self._stream = stream or sys.stderr
        self._redraws = self._stream.isatty()
        self._shown: SessionView | None = None
        self._keys: TerminalKeys | None = None
        self._reads = keys and sys.stdin is not None and sys.stdin.isatty()
        self._ending = threading.Event()
        self._fulfilling = threading.Lock()
        """Held while a typed wish is fulfilled, and what was typed meanwhile is looked through."""
        self._threads = [threading.Thread(target=self._watch, name="terminal")]
        if self._reads:
            self._threads.append(threading.Thread(target=self._read, name="terminal-keys"))

    def __enter__(self) -> SessionTerminal:
        if self._reads:
            from understudy.capture.devices.terminal_keys import TerminalKeys

            self._keys = TerminalKeys(who="the terminal")
            ours = self._loop.latest.moved_by == "session"
            self._say(KEYS_HELP.format(hold="hold the arm" if ours else "end the take (the arm is not ours to hold)"))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        if self._keys is not None:
            self._keys.close()
        self._show(self._loop.latest)
        if self._redraws:
            self._write(_CLEAR)

    def _watch(self) -> None:
        view = self._loop.latest
        self._show(view)
        while not self._ending.is_set():
            fresh = self._loop.wait_latest(view.revision, REDRAW_S)
            if fresh.revision == view.revision:
                self._ending.wait(REDRAW_S if self._loop.ended else 0.0)
                continue
            view = fresh
            self._show(view)
            if view.state == "recording":
                self._ending.wait(REDRAW_S)  # only numbers change

    def _show(self, view: SessionView) -> None:
        state = None if self._shown is None else self._shown.state
        # what is asked of somebody appears once what they typed before is out of the way
        asks = view.state in ANSWERED and view.state != state
        first: contextlib.AbstractContextManager[Any] = self._fulfilling if asks else contextlib.nullcontext()
        with first:
            self._draw(view)

    def _draw(self, view: SessionView) -> None:
        before, self._shown = self._shown, view  # first: who reads a line may answer it at once
        for line in news(before, view):
            self._say(line)
        if self._redraws and not self._ending.is_set():
            width = shutil.get_terminal_size().columns - 1
            self._write(_CLEAR + status_line(view)[:width])

    def _say(self, text: str) -> None:
        self._write((_CLEAR if self._redraws else "") + text + "\n")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone: the session goes on without it
            self._stream.write(text)
            self._stream.flush()

    def _read(self) -> None:
        from understudy.capture.devices.keyboard import EVENTS

        assert self._keys is not None
        while not self._ending.is_set() and not self._keys.gone:
            keys = self._keys.typed(wait_s=REDRAW_S)
            shown = self._shown
            for key in keys:
                event = EVENTS.get(key)
                if event == "quit":
                    self.quit.set()
                elif event is not None and (event in ALWAYS or self._answers(shown)):
                    self._ask(event)  # type: ignore[arg-type]

    def _answers(self, shown: SessionView | None) -> bool:
        """Whether what was typed when the terminal showed this answers to what the session is."""
        return shown is not None and shown.state == self._loop.latest.state

    def _ask(self, wish: Wish) -> None:
        with self._fulfilling:
            wishes = [wish]
            while wishes:
                wishes += self._fulfil(wishes.pop(0))

    def _fulfil(self, wish: Wish) -> list[Wish]:
        """Have a wish done, and say what hinders it; returns what was typed meanwhile and counts all the same."""
        state = self._loop.latest.state
        try:
            self._loop.ask(meant(wish, self._loop.latest.possible))
        except InputError as error:
            self._say(str(error))
        except UnderstudyError as error:
            self._say(f"error: {error}")
        return self._typed_meanwhile() if self._loop.latest.state != state and self._keys is not None else []

    def _typed_meanwhile(self) -> list[Wish]:
        """What was typed while a wish was fulfilled is no answer to what came of it; what ends motion counts."""
        from understudy.capture.devices.keyboard import EVENTS

        assert self._keys is not None
        events = [EVENTS.get(key) for key in self._keys.typed()]
        if "quit" in events:
            self.quit.set()
        return [wish for wish in ALWAYS if wish in events and wish in self._loop.latest.possible]


def status_line(view: SessionView) -> str:
    """The session in one line: state, time, sources that are not well, episodes, and what to do next."""
    word = {"idle": "IDLE", "ready": "READY", "recording": "RECORDING", "review": "REVIEW", "saving": "SAVING"}
    parts = [word[view.state]]
    if view.countdown_s > 0:
        parts.append(f"starts in {view.countdown_s:.0f} s")
    if view.state in ("recording", "review"):
        parts.append(f"{view.elapsed_s:.1f} of {view.max_s:g} s")
    if view.device_lost:
        parts.append(f"{view.device} LOST")
    unwell = [f"{light.name} {light.state}" for light in view.lights if light.state != "alive"]
    parts.append(", ".join(unwell) if unwell else f"{len(view.lights)} sources alive")
    parts.append(f"{view.episodes} of {view.aim} episodes" if view.aim else f"{view.episodes} episodes")
    return f"{' | '.join(parts)} | {view.prompt}"


def news(before: SessionView | None, view: SessionView) -> list[str]:
    """What has happened between two views, a line each; nothing for what only counts on."""
    if before is None:
        return _ready(view) if view.state == "ready" else []
    lines: list[str] = []
    fresh = view.message if view.message != before.message else ""
    if view.error and view.error != before.error:
        lines.append(f"error: {view.error}")
    if view.state == "review" and before.state != "review":
        lines.append(f"{view.message} Keys: y keeps, n drops")
        lines += [f"{finding.severity}: {finding.text}" for finding in view.findings]
    elif before.state in ("recording", "review", "saving") and view.state in ("idle", "ready"):
        holds = f"{view.episodes} of {view.aim}" if view.aim else f"{view.episodes}"
        lines.append(f"{_became(before, view)}; the dataset holds {holds}")
        if WARNING in fresh:
            lines.append(WARNING + fresh.partition(WARNING)[2])
    elif fresh:
        lines.append(fresh)
    if view.state == "ready" and before.state != "ready":
        lines += _ready(view)
    return lines


def _became(before: SessionView, view: SessionView) -> str:
    """What became of the take that was in hand."""
    if set(view.waiting) - set(before.waiting):
        return "the take waits to be reviewed"
    return "kept" if before.state == "saving" or len(view.kept) > len(before.kept) else "dropped"


def _ready(view: SessionView) -> list[str]:
    found = [f"{finding.severity}: {finding.text}" for finding in view.findings]
    return ["ready: start on the page" if view.device == "browser" else "ready: enter starts", *found]
