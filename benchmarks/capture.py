"""Recording over ROS 2 without losing anything: what arrives, what it costs, and how steadily a session ticks.

A process publishes joint states at 500 Hz and two cameras at 30 Hz over real DDS. Two recorders take them at the same
time, each in a process of its own: ours (a session on the watched arm, steps at 50 Hz, every sample at its own rate)
and `rosbags` writing MCAP the bytes of the messages, which it gets from rclpy's executor or, with `same_reader`, from
our own reader. Every message has a number, and numbers that are missing on disk are counted. Then, without ROS 2, how
long what an operator does takes to become a command of the simulated arm.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.benchmarks.peer_process import peer_process
from understudy.errors import InputError, MissingExtra

Row = dict[str, Any]
LOST, JITTER, CPU, CPU_IN_ALL = "lost of what came", "tick jitter p99, ms", "CPU while recording, %", "CPU in all, s"
FLAT = "memory flat (+10% or 30 MB at most)"
DOMAINS = range(100, 200)
READY_S = 60.0
RAW_MB_S, PACKED_MB_S, STEPS_MB_S = 56.0, 8.0, 70.0
"""What each recorder writes, and what pictures in the steps add to it."""


@dataclass(frozen=True)
class CaptureBench:
    """How long is recorded, and what."""

    seconds: float = 120.0
    """Of raw cameras; 0 leaves them out."""
    compressed_seconds: float = 600.0
    """Of compressed cameras; 0 leaves them out."""
    latency_seconds: float = 60.0
    """Of driving the simulated arm; 0 leaves it out."""
    rosbags: bool = True
    """Record beside it with `rosbags`."""
    same_reader: bool = False
    """Hand it the messages by our own reader, so that what is compared is recording alone, and not rclpy's executor."""
    in_steps: bool = False
    """Also observe both cameras in our steps at 50 Hz, packed without loss, as `record --arm ros` does by default."""
    folder: Path | None = None
    """Where recordings go meanwhile; None: the temporary folder."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("seconds", "compressed_seconds", "latency_seconds"):
            value = getattr(self, name)
            if not (value == 0 or 2.0 <= value <= 3600.0):
                raise InputError(f"The capture benchmark's {name} must be 0, or from 2 to 3600, got {value:g}.")

    def run(self, progress: Callable[[str], None] = lambda word: None) -> dict[str, list[Row]]:
        """Measure everything; one table a name.

        Raises:
            MissingExtra: rclpy is not installed.
            InputError: there is no room for the recordings.
        """
        if (self.seconds or self.compressed_seconds) and importlib.util.find_spec("rclpy") is None:
            raise MissingExtra("rclpy", "ros")
        tables: dict[str, list[Row]] = {}
        for compressed, seconds in ((False, self.seconds), (True, self.compressed_seconds)):
            if seconds:
                kind = "compressed" if compressed else "raw"
                progress(f"recording {kind} cameras for {seconds:g} s")
                tables[f"{kind} cameras, {seconds:g} s"] = table(self._record(seconds, compressed))
        if self.latency_seconds:
            progress(f"driving for {self.latency_seconds:g} s")
            from understudy.benchmarks.capture_latency import measure_latency

            tables["from the operator to the arm, simulation at 50 Hz"] = measure_latency(
                self.latency_seconds, self.seed
            )
        return tables

    def _record(self, seconds: float, compressed: bool) -> list[Row]:
        peer = "same reader" if self.same_reader else "rclpy"
        takers = ("ours", peer) if self.rosbags else ("ours",)
        rate = PACKED_MB_S if compressed else RAW_MB_S
        with tempfile.TemporaryDirectory(prefix="understudy-bench-", dir=self.folder) as scratch:
            needed = 1.2e6 * seconds * (rate * len(takers) + STEPS_MB_S * self.in_steps)
            if (free := shutil.disk_usage(scratch).free) < needed:
                raise InputError(
                    f"{scratch} has {free / 1e9:.1f} GB left; this needs {needed / 1e9:.1f} GB. Record for a shorter "
                    "time (--seconds, --compressed-seconds), or elsewhere (--folder)."
                )
            with own_graph():
                return _run_takers(
                    Path(scratch), takers, seconds, {"compressed": compressed, "in_steps": self.in_steps}
                )


@contextmanager
def own_graph() -> Iterator[None]:
    """A ROS 2 domain that hopefully nobody else uses, on this machine only, for the processes that are started."""
    changes = {"ROS_DOMAIN_ID": str(random.choice(DOMAINS)), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run_takers(folder: Path, takers: tuple[str, ...], seconds: float, form: Row) -> list[Row]:
    """What each recorder tells, all at once."""
    rows: dict[str, Row | BaseException] = {}
    together = threading.Barrier(len(takers))
    with peer_process("source", Path(sys.executable), "capture_source.py", [json.dumps(form)]) as ask:
        threads = [threading.Thread(target=_take, args=(folder, who, seconds, form, together, rows)) for who in takers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for row in rows.values():
            if isinstance(row, dict) and (streams := row.pop("streams", None)):
                row[LOST] = lost_of(streams, ask(since_ns=streams["begun_ns"]))
    for row in rows.values():
        if isinstance(row, BaseException) and not isinstance(row, threading.BrokenBarrierError):
            raise row
    return [row for row in map(rows.get, takers) if isinstance(row, dict)]


def _take(
    folder: Path,
    who: str,
    seconds: float,
    form: Row,
    together: threading.Barrier,
    rows: dict[str, Row | BaseException],
) -> None:
    """In a thread: have one recorder record, and put what it tells, or why it could not, into `rows`."""
    own = folder / who
    own.mkdir()
    wanted = json.dumps({"who": who, "folder": str(own), **form})
    try:
        with peer_process(who, Path(sys.executable), "capture_takers.py", [wanted]) as ask:
            ask(order="ready")
            together.wait(READY_S)
            rows[who] = ask(order="record", seconds=seconds)
    except BaseException as error:  # told by whoever waits for this thread
        together.abort()
        rows[who] = error


def lost_of(streams: Row, first: dict[str, int]) -> int:
    """Messages that DDS delivered and that are not on disk, each stream by itself: drops of one excuse no other.

    Args:
        streams: of each stream the number of the first message on disk (`first`), how many are missing behind it
            (`missing`), and how many DDS says it dropped (`dropped`).
        first: the number of the first message of each that was published once recording had begun.
    """
    lost = 0
    for name, number in first.items():
        absent = max(0, streams["first"][name] - number) + streams["missing"][name]
        lost += max(0, int(absent - streams["dropped"][name]))
    return lost


def table(answers: list[Row]) -> list[Row]:
    """A row a measure, a column a recorder, and what is aimed at."""
    aims = {LOST: "0", JITTER: "2.0", FLAT: "yes"}
    recorders = [answer["recorder"] for answer in answers]
    rows: list[Row] = []
    for measure in (name for name in answers[0] if name != "recorder"):
        told = {recorder: answer.get(measure) for recorder, answer in zip(recorders, answers, strict=True)}
        rows.append({"measure": measure, **told, "aim, at most": aims.get(measure)})
    if len(answers) > 1:
        for measure, what in ((CPU, "CPU, ours over rosbags'"), (CPU_IN_ALL, "CPU with keeping, ours over rosbags'")):
            ratio = round(answers[0][measure] / answers[1][measure], 2)
            rows.append({"measure": what, recorders[0]: ratio, recorders[1]: None, "aim, at most": "1.5"})
    return rows
