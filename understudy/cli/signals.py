"""Ctrl-C and SIGTERM as something to look at between two steps, not an exception in the middle of one.

An exception raised by a signal handler can appear anywhere: inside the import of a compiled module, which then breaks
or crashes, or inside a callback that swallows it, and then the signal is lost. So signals are noted, and acted on where
it is safe.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["noted_signals", "terminated_as_interrupted", "uninterrupted"]

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def noted_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set instead of what they did before. Never set outside the main thread."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    previous = [signal.signal(number, lambda *_: asked.set()) for number in _NUMBERS]
    try:
        yield asked
    finally:
        for number, handler in zip(_NUMBERS, previous, strict=True):
            signal.signal(number, handler)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as SIGINT does, wherever signals are not noted: both end a command alike."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Finish what is inside, then raise KeyboardInterrupt if a signal came meanwhile; for imports."""
    with noted_signals() as asked:
        yield
    if asked.is_set():
        raise KeyboardInterrupt
