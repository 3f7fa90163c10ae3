"""Lines for a person who may have gone."""

from __future__ import annotations

import errno
import io
import os
import pty
from pathlib import Path

import pytest

from understudy.deploy.saying import say


def test_a_line_is_heard(capsys: pytest.CaptureFixture[str]) -> None:
    assert say("the arm holds")
    assert capsys.readouterr().err == "the arm holds\n"


def test_a_terminal_that_was_closed_hears_nothing_and_raises_nothing() -> None:
    person, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream:
        os.close(person)
        with pytest.raises(OSError, match="Input/output error"):
            print("as without it", file=stream, flush=True)
        assert not say("anybody there?", stream)


def test_a_reader_who_left_hears_nothing_and_closing_the_stream_does_not_fail() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        assert not say("anybody there?", stream)


def test_a_disk_that_is_full_is_told() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    stream = io.TextIOWrapper(io.FileIO("/dev/full", "w"))
    with pytest.raises(OSError, match="No space left") as told:
        say("a report", stream)
    assert told.value.errno == errno.ENOSPC
