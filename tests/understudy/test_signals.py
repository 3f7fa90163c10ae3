"""Ctrl-C, SIGTERM and SIGHUP are noted and acted on between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from understudy.cli.signals import noted_signals, terminated_as_interrupted, uninterrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def as_in_a_terminal() -> Iterator[None]:
    """Tests that are run by `nohup`, or in the background, begin with signals that are ignored."""
    usual = dict.fromkeys(NUMBERS, signal.SIG_DFL) | {signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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


def test_under_nohup_a_closed_terminal_is_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminated_as_interrupted(), noted_signals() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert not asked.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", NUMBERS)
def test_where_none_is_noted_all_end_a_command_alike(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), terminated_as_interrupted():
        signal.raise_signal(number)


@pytest.mark.ros
@pytest.mark.parametrize("number", NUMBERS)
def test_a_deployed_skill_notes_them_too(number: signal.Signals) -> None:
    pytest.importorskip("rclpy")
    from understudy.deploy.ros_node import StopSignals

    with StopSignals() as signals:
        signal.raise_signal(number)
        assert signals.why == f"Stopped by {number.name}."
