"""`understudy plot`: pictures of one or several runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from understudy.learners.plots import plot_runs

__all__ = ["Plot"]


@dataclass(frozen=True)
class Plot:
    """Draw the curves of one or several runs: reward and episode length over training, and success rates.

    Writes training.png and, for what was evaluated, success.png.

    Example:
        understudy plot runs/bc runs/finetuned --out pictures
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs."""
    out: Path = Path()
    """Folder for the pictures."""

    def run(self) -> int:
        for file in plot_runs(self.runs, self.out):
            print(file)
        return 0
