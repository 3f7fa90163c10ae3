"""`understudy bench NAME`: measure how fast something is, beside the tool it is compared with.

This module owns the tables and the JSON; what is measured, and how, is in `benchmarks/`.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import tyro
from rich.console import Console
from rich.table import Table

from understudy import __version__
from understudy.benchmarks.identification import IdentificationBench
from understudy.benchmarks.interventions import InterventionBench
from understudy.benchmarks.loader import LoaderBench
from understudy.benchmarks.store import StoreBench
from understudy.errors import InputError

__all__ = ["BenchDagger", "BenchIdentify", "BenchLoader", "BenchStore"]

_WIDTH = 120
"""Columns of a table that goes into a file."""
_PACKAGES = ("numpy", "h5py", "isal", "torch", "pybullet", "gymnasium", "pin", "ruckig")
Tables = Mapping[str, Sequence[Mapping[str, Any]]]


class Benchmark(Protocol):
    """What `benchmarks/` offers."""

    def run(self, progress: Callable[[str], None]) -> Tables:
        """Measure; a list of rows for each table."""
        ...


@dataclass(frozen=True)
class BenchDagger:
    """Whether taking over from a policy where it strays is worth more than as many plain demonstrations.

    Needs some minutes. `--keep FOLDER` leaves the datasets and the runs there.

    Example:
        understudy bench dagger --out dagger.json
    """

    bench: tyro.conf.OmitArgPrefixes[InterventionBench] = field(default_factory=InterventionBench)
    out: Path | None = None
    """Where the figures are written as JSON."""

    def run(self) -> int:
        return report("dagger", self.bench, self.bench.seed, self.out)


@dataclass(frozen=True)
class BenchLoader:
    """Training windows a second, in turns with robomimic's reader on the same file, and from more data than memory.

    Needs robomimic's environment (`make .peers/robomimic/.installed`), about two minutes, and 4 GB in the temporary
    folder, which are removed again (`--gigabytes 0` leaves that part out).

    Example:
        understudy bench loader --out loader.json
    """

    bench: tyro.conf.OmitArgPrefixes[LoaderBench] = field(default_factory=LoaderBench)
    out: Path | None = None
    """Where the figures are written as JSON."""

    def run(self) -> int:
        return report("loader", self.bench, self.bench.seed, self.out)


@dataclass(frozen=True)
class BenchStore:
    """What recording costs the control thread, what saving costs as the dataset grows, and how frames are best packed.

    Needs about four minutes, and 8 GB in the temporary folder, which are removed again (`--seconds 10` needs 1.5 GB).

    Example:
        understudy bench store --out store.json
    """

    bench: tyro.conf.OmitArgPrefixes[StoreBench] = field(default_factory=StoreBench)
    out: Path | None = None
    """Where the figures are written as JSON."""

    def run(self) -> int:
        return report("store", self.bench, self.bench.seed, self.out)


@dataclass(frozen=True)
class BenchIdentify:
    """Whether it pays to fit the simulator to an arm before fine-tuning for it, on an arm with hidden parameters.

    Needs about half an hour. `--keep FOLDER` leaves the datasets, the fit and the runs there.

    Example:
        understudy bench identify --out identify.json
    """

    bench: tyro.conf.OmitArgPrefixes[IdentificationBench] = field(default_factory=IdentificationBench)
    out: Path | None = None
    """Where the figures are written as JSON."""

    def run(self) -> int:
        return report("identify", self.bench, self.bench.seed, self.out)


def report(name: str, bench: Benchmark, seed: int, out: Path | None) -> int:
    """Run a benchmark, print its tables, and write them with everything that is needed to judge them.

    Raises:
        InputError: `out` cannot be written; said before anything is measured.
    """
    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} does not exist.")
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    with Console(stderr=True).status(name) as status:
        tables = bench.run(lambda word: status.update(f"{name}: {word}"))
    for title, rows in tables.items():
        console.print(_table(title, rows))
    if out is not None:
        command = " ".join(["understudy", *sys.argv[1:]])
        facts = {"benchmark": name, "command": command, "seed": seed, "date": f"{datetime.date.today()}"}
        facts |= {"machine": machine(), "versions": versions(), "tables": tables}
        out.write_text(json.dumps(facts, indent=2) + "\n")
        console.print(f"written to {out}", highlight=False)
    return 0


def machine() -> dict[str, Any]:
    """The processor, how many of its cores we have, and the memory."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": model, "cores": cores, "memory_gb": round(memory / 1e9, 1), "system": platform.platform()}


def versions() -> dict[str, str]:
    """Of what the figures depend on."""
    found = {"understudy": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows with equal columns; a single row is printed upright, where it can be read."""
    table = Table(title=title, title_justify="left", show_header=len(rows) != 1)
    if len(rows) == 1:
        table.add_column()
        table.add_column(justify="right")
        for name, value in rows[0].items():
            table.add_row(name, _text(value))
        return table
    for index, name in enumerate(rows[0] if rows else ()):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        table.add_row(*map(_text, row.values()))
    return table


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{value}"
