"""What `dataset check` says: findings, a verdict for each episode, and the report of a dataset, also as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from understudy.datasets.checking.measures import Measures

Level = Literal["ok", "warn", "fail"]
LEVELS: tuple[Level, ...] = ("ok", "warn", "fail")
CLOSED = "permission"
"""The check that an episode fails whose file may not be read: it may be sound, and is never dropped for that."""


@dataclass(frozen=True)
class Finding:
    """One reason: how bad, which check, and a sentence with numbers."""

    level: Level
    check: str
    text: str


@dataclass(frozen=True)
class EpisodeVerdict:
    """What is to be said of one episode."""

    id: str
    file: Path
    findings: tuple[Finding, ...]
    measures: Measures | None
    """None where the file cannot be read."""

    @property
    def level(self) -> Level:
        """The worst of its findings."""
        return max((finding.level for finding in self.findings), key=LEVELS.index, default="ok")


@dataclass(frozen=True)
class Report:
    """What is to be said of a dataset."""

    path: Path
    episodes: tuple[EpisodeVerdict, ...]
    findings: tuple[Finding, ...] = field(default=())
    """About the dataset as a whole."""

    @property
    def trainable(self) -> bool:
        """Whether there are episodes and none of them, nor the whole, fails."""
        levels = [verdict.level for verdict in self.episodes] + [finding.level for finding in self.findings]
        return bool(self.episodes) and "fail" not in levels

    @property
    def droppable(self) -> tuple[str, ...]:
        """Ids of the episodes that fail for what is in them, and not because nobody could look."""
        closed = {verdict.id for verdict in self.episodes if any(f.check == CLOSED for f in verdict.findings)}
        return tuple(id for id in self.failing if id not in closed)

    @property
    def failing(self) -> tuple[str, ...]:
        """Ids of the episodes that fail."""
        return tuple(verdict.id for verdict in self.episodes if verdict.level == "fail")

    def count(self, level: Level) -> int:
        """How many episodes have this verdict."""
        return sum(verdict.level == level for verdict in self.episodes)


def as_dict(report: Report) -> dict[str, Any]:
    """A report as plain data for JSON."""
    return {
        "path": str(report.path),
        "trainable": report.trainable,
        "counts": {level: report.count(level) for level in LEVELS},
        "findings": [_finding_dict(finding) for finding in report.findings],
        "episodes": [
            {
                "id": verdict.id,
                "file": str(verdict.file),
                "verdict": verdict.level,
                "reasons": [_finding_dict(finding) for finding in verdict.findings],
                **({} if verdict.measures is None else _measures_dict(verdict.measures)),
            }
            for verdict in report.episodes
        ],
    }


def _finding_dict(finding: Finding) -> dict[str, str]:
    return {"level": finding.level, "check": finding.check, "text": finding.text}


def _measures_dict(measures: Measures) -> dict[str, Any]:
    names = ["steps", "duration_s", "success", "period_s", "slowest_hz", "jitter", "worst_age_s", "idle", "pause_s"]
    names += ["at_bound", "altered", "lag", "lag_ticks", "jerk", "reach_m"]
    return {
        **{name: getattr(measures, name) for name in names},
        "return": measures.return_,
        "sources": {
            name: {"usual": source.usual, "slowest": source.slowest, "unit": source.unit}
            for name, source in measures.sources.items()
        },
    }
