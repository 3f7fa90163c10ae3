"""Ctrl-C and SIGTERM are noted and acted on between two steps."""

from __future__ import annotations

import signal
import threading

import pytest

from understudy.cli.signals import noted_signals, uninterrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_noted_and_interrupts_nothing(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with noted_signals() as asked:
        assert not asked.is_set()
        signal.raise_signal(number)
        assert asked.is_set()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", NUMBERS)
def test_what_must_not_be_interrupted_ends_first(number: signal.Signals) -> None:
    """A Ctrl-C inside the import of a compiled module crashed the process, or was a traceback."""
    done = []

    def work() -> None:
        with uninterrupted():
            signal.raise_signal(number)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [True]


def test_other_threads_have_no_signals() -> None:
    seen = []

    def work() -> None:
        with noted_signals() as asked:
            seen.append(asked.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
