"""Ctrl-C, SIGTERM and SIGHUP as something to look at between two steps, not an exception in the middle of one.

An exception raised by a signal handler can appear anywhere: inside the import of a compiled module, which then breaks
or crashes, or inside a callback that swallows it, and then the signal is lost. So signals are noted, and acted on where
it is safe. SIGHUP comes when the terminal is closed or the connection to it drops; under `nohup` it stays ignored.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["noted_signals", "terminated_as_interrupted", "uninterrupted"]

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _heeded() -> list[signal.Signals]:
    """Those to note: SIGHUP only where this process was not started to ignore it."""
    return [number for number in _NUMBERS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


@contextmanager
def noted_signals() -> Iterator[threading.Event]:
    """An event that the three set instead of what they did before. Never set outside the main thread."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    previous = {number: signal.signal(number, lambda *_: asked.set()) for number in _heeded()}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does, where they are not noted: all end a command alike."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in _heeded() if number != signal.SIGINT]
    previous = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Finish what is inside, then raise KeyboardInterrupt if a signal came meanwhile; for imports."""
    with noted_signals() as asked:
        yield
    if asked.is_set():
        raise KeyboardInterrupt
