"""`understudy bench env`: how fast the simulated environment is. Apart from the others, which need no simulator."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from understudy.benchmarks.environment import EnvironmentBench
from understudy.cli.bench import report

__all__ = ["BenchEnv"]


@dataclass(frozen=True)
class BenchEnv:
    """Steps of the simulated environment a second, in turns with a hand-written loop and with panda-gym; many at once.

    Needs panda-gym's environment (`make .peers/panda_gym/.installed`) and about two minutes.

    Example:
        understudy bench env --out env.json
    """

    bench: tyro.conf.OmitArgPrefixes[EnvironmentBench] = field(default_factory=EnvironmentBench)
    out: Path | None = None
    """Where the figures are written as JSON."""

    def run(self) -> int:
        return report("env", self.bench, self.bench.seed, self.out)
