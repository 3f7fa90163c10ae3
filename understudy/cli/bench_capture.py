"""`understudy bench capture`: whether recording over ROS 2 loses anything, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from understudy.benchmarks.capture import CaptureBench
from understudy.cli.bench import report

__all__ = ["BenchCapture"]


@dataclass(frozen=True)
class BenchCapture:
    """What arrives on disk of joint states at 500 Hz and two cameras at 30 Hz over real DDS, beside rosbags.

    Needs about 13 minutes and 17 GB in the temporary folder, which are removed again; a short form is
    `--seconds 20 --compressed-seconds 20 --latency-seconds 10`, with 3 GB.

    Example:
        understudy bench capture --out capture.json
    """

    bench: tyro.conf.OmitArgPrefixes[CaptureBench] = field(default_factory=CaptureBench)
    out: Path | None = None
    """Where the figures are written as JSON."""

    def run(self) -> int:
        return report("capture", self.bench, self.bench.seed, self.out)
