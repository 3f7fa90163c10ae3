"""What a deployment came to: every episode, and the success rate with its interval, as JSON and as a table."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from understudy.datasets.statistics import percent, percent_interval, wilson_interval
from understudy.deploy.runner import Outcome


@dataclass(frozen=True)
class EpisodeReport:
    """One episode of a deployment."""

    episode: int
    seed: int | None
    """Where the resetting service told one."""
    success: bool | None
    """None: nobody judged it."""
    outcome: Outcome


@dataclass(frozen=True)
class DeploymentReport:
    """All episodes of one skill on one arm."""

    skill: str
    robot: str
    task: str
    shadow: bool
    software: str
    episodes: tuple[EpisodeReport, ...]

    @property
    def judged(self) -> tuple[EpisodeReport, ...]:
        """The episodes that have a verdict."""
        return tuple(episode for episode in self.episodes if episode.success is not None)

    @property
    def successes(self) -> int:
        """How many of the judged episodes succeeded."""
        return sum(bool(episode.success) for episode in self.judged)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        low, high = wilson_interval(self.successes, len(self.judged))
        return {
            **{field: getattr(self, field) for field in ("skill", "robot", "task", "shadow", "software")},
            "judged": len(self.judged),
            "successes": self.successes,
            "success_rate_low": low,
            "success_rate_high": high,
            "confidence": 0.95,
            "episodes": [dataclasses.asdict(episode) for episode in self.episodes],
        }

    def table(self) -> str:
        """A row for each episode and the closing line, for people."""
        header = ("episode", "seed", "success", "ended by", "steps", "s", "work p50/p99 ms", "overruns", "guard")
        rows = [header, *(_row(episode) for episode in self.episodes)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, "", self._closing_line()])

    def _closing_line(self) -> str:
        what = f"{self.skill} on {self.robot}{' (shadow mode: nothing was sent)' if self.shadow else ''}"
        if not self.judged:
            return f"{what}: {len(self.episodes)} episodes; nobody judged success (--success-topic does)."
        low, high = wilson_interval(self.successes, len(self.judged))
        rate = self.successes / len(self.judged)
        return (
            f"{what}: {self.successes} of {len(self.judged)} succeeded, {percent(rate)} "
            f"(95% interval {percent_interval(low, high)}, Wilson)."
        )


def _row(episode: EpisodeReport) -> tuple[str, ...]:
    outcome = episode.outcome
    work = "-" if outcome.work is None else f"{outcome.work.p50_ms:.2f}/{outcome.work.p99_ms:.2f}"
    return (
        str(episode.episode),
        "-" if episode.seed is None else str(episode.seed),
        {True: "yes", False: "no", None: "-"}[episode.success],
        outcome.ending,
        str(outcome.steps),
        f"{outcome.duration_s:.1f}",
        work,
        str(sum(outcome.overruns.values())),
        ", ".join(f"{name} {count}" for name, count in sorted(outcome.guard.items())) or "-",
    )
