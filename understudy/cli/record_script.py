"""The loop of a script's recording: one take after the other through the session's loop, kept or dropped by itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from understudy.errors import RecordingError, UnderstudyError

if TYPE_CHECKING:
    from understudy.capture.session_loop import SessionLoop

__all__ = ["record_takes"]

ATTEMPTS_PER_EPISODE = 4
"""A scripted operator that fails more often than this (and 10 more) is given up on."""


def record_takes(
    loop: SessionLoop,
    episodes: int,
    *,
    keep_failures: bool,
    stop: Callable[[], bool],
    quiet: bool,
    remedies: Callable[[], Sequence[str]],
) -> int:
    """Record takes until the dataset holds `episodes`; returns how many were dropped.

    Args:
        loop: of a session whose device needs nobody; it prepares nothing by itself.
        episodes: how many the dataset shall hold.
        keep_failures: also keep takes that did not succeed, or fail the gate.
        stop: whether to leave, asked between two ticks.
        quiet: no progress bar.
        remedies: what may help where the script fails, asked when it does.

    Raises:
        KeyboardInterrupt: `stop` said so.
        UnderstudyError: too few takes succeed, or the arm, the disk or the gate kept one from being recorded.
    """
    dataset, task = loop.session.dataset, loop.session.stage.task.name
    failed = 0
    with _progress(quiet) as progress:
        bar = progress.add_task(f"recording {task}", total=episodes, completed=len(dataset))
        while len(dataset) < episodes:
            if _play(loop, stop) or keep_failures:
                loop.ask("keep", "anyway")
                progress.advance(bar)
            else:
                loop.ask("drop")
                failed += 1
            kept = len(loop.latest.kept)
            if failed > ATTEMPTS_PER_EPISODE * (kept + 1) + 10:
                raise UnderstudyError(
                    f"The scripted operator solved {kept} of {kept + failed} takes of {task!r} here, too few to go "
                    f"on; {', or '.join(remedies())}."
                )
    return failed


def _play(loop: SessionLoop, stop: Callable[[], bool]) -> bool:
    """Record one take up to its review; returns whether it succeeded and passed the gate."""
    loop.ask("prepare")
    told = loop.ask("start")
    if loop.latest.state == "ready" and loop.latest.countdown_s == 0:
        raise RecordingError(told)
    while loop.session.state != "review":
        if stop():  # between two ticks, where nothing is half done; the take in hand stays recoverable
            raise KeyboardInterrupt
        loop.turn()
        if loop.failure is not None:
            raise loop.failure
    view = loop.latest
    return bool(view.success) and not any(finding.severity == "failure" for finding in view.findings)


def _progress(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
    )
