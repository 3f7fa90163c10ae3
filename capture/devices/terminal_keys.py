"""A terminal whose keys are read one by one, unseen, the moment they are typed.

Owns the terminal's mode from construction to `close`, and puts it back also when the process ends without that.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import sys
import termios
import tty
from typing import Any

from understudy.errors import InputError


class TerminalKeys:
    """What is typed. Never blocks; a terminal that is closed is `gone`."""

    def __init__(self, descriptor: int | None = None, *, who: str = "--device keyboard") -> None:
        """Take over the terminal.

        Args:
            descriptor: its file descriptor; None is standard input.
            who: wants it, for the error.

        Raises:
            InputError: it is not a terminal.
        """
        self._descriptor = _terminal(descriptor, who)
        self.gone = False
        self._saved: list[Any] | None = termios.tcgetattr(self._descriptor)
        atexit.register(self.close)
        # Characters at once and unseen; Ctrl-C keeps its meaning.
        tty.setcbreak(self._descriptor, termios.TCSANOW)

    def typed(self, wait_s: float = 0.0) -> str:
        """Everything typed since the last call; with `wait_s`, wait so long for the first key."""
        received = b""
        while not self.gone:
            try:
                if not select.select([self._descriptor], [], [], 0.0 if received else wait_s)[0]:
                    break
                chunk = os.read(self._descriptor, 1024)
            except OSError:  # EIO: the terminal was closed
                chunk = b""
            self.gone = not chunk
            received += chunk
        return received.decode("ascii", errors="ignore")

    def close(self) -> None:
        """Put the terminal back as it was; safe to call twice."""
        saved, self._saved = self._saved, None
        if saved is None:
            return
        atexit.unregister(self.close)
        try:
            termios.tcsetattr(self._descriptor, termios.TCSANOW, saved)
        except (termios.error, OSError):
            self.gone = True  # the terminal is gone, and its mode with it


def _terminal(descriptor: int | None, who: str) -> int:
    """The descriptor to read keys from.

    Raises:
        InputError: it is not a terminal.
    """
    chosen: int | None = descriptor
    if descriptor is None:
        with contextlib.suppress(OSError, ValueError):  # no standard input at all
            chosen = sys.stdin.fileno()
    if chosen is None or not os.isatty(chosen):
        raise InputError(f"{who} needs a terminal to read keys from, and standard input is not one.")
    return chosen
