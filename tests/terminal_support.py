"""A process on a terminal of its own, as of somebody who is logged in, and who may hang up."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TAKE_TERMINAL = (
    "import fcntl, os, signal, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL); signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
"""Makes standard input the terminal of a new session of processes: who hangs up then sends SIGHUP,
which tests that are run by `nohup` would have handed down as ignored."""


class Person:
    """Runs `understudy` and reads and types."""

    def __init__(self, *arguments: str | Path, env: dict[str, str] | None = None) -> None:
        self.screen, terminal = pty.openpty()
        command = [sys.executable, "-c", TAKE_TERMINAL, "-m", "understudy", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, cwd=ROOT, env=env)
        os.close(terminal)
        self.seen = ""

    def wait_for(self, words: str, timeout_s: float = 30.0) -> None:
        """Read until the words come."""
        deadline = time.monotonic() + timeout_s
        while words not in self.seen:
            assert time.monotonic() < deadline, f"{words!r} never came; the screen says: {self.seen}"
            self.read(0.1)
        self.seen = self.seen.partition(words)[2]

    def read(self, wait_s: float = 0.0) -> None:
        """Take in what the screen says."""
        if select.select([self.screen], [], [], wait_s)[0]:
            try:
                self.seen += os.read(self.screen, 4096).decode(errors="replace")
            except OSError:  # the process has ended, and its terminal with it
                time.sleep(wait_s)

    def type(self, keys: str, times: int = 1, every_s: float = 0.04) -> None:
        """Press keys, over and over."""
        for _ in range(times):
            os.write(self.screen, keys.encode())
            time.sleep(every_s)
            self.read()

    def hang_up(self) -> None:
        """Close the terminal, as a window that is closed or a connection that drops."""
        if self.screen >= 0:
            os.close(self.screen)
            self.screen = -1

    def wait(self, timeout_s: float = 30.0) -> int:
        """Read on until the process has ended; its exit code."""
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it goes on; the screen says: {self.seen}"
            if self.screen >= 0:
                self.read(0.05)
            else:
                time.sleep(0.05)
        return self.process.returncode

    def close(self) -> None:
        """End the process, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.hang_up()
