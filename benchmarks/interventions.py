"""Does it pay to take over from a policy where it strays, rather than to demonstrate more?

A clone learns to lift from few demonstrations. It drives, a scripted operator takes over when it strays
(`watchful_operator.py`), and HG-DAgger learns from both, beginning anew and going on from the clone. Beside it stands a
clone of as many more plain demonstrations as there were takeovers. All meet the same seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.benchmarks.our_command import our_command, work_folder
from understudy.datasets.statistics import percent, percent_interval
from understudy.errors import InputError

Row = dict[str, Any]
TAKEOVER_SEED = 600_000
EVALUATION_SEED = 800_000
"""First seeds of the episodes that the clone drives, and of those that count; used for nothing else."""


@dataclass(frozen=True)
class InterventionBench:
    """How much is recorded, learned and tried.

    Raises:
        InputError: a count below 1.
    """

    demonstrations: int = 5
    """Of lift, by the scripted operator."""
    takeovers: int = 20
    """Episodes in which the operator took over from the clone."""
    updates: int = 5_000
    """Gradient steps of each training."""
    episodes: int = 100
    """For each policy."""
    workers: int = 2
    """Processes that evaluate."""
    seed: int = 0
    keep: Path | None = field(default=None)
    """Work in this folder and leave everything there; a temporary one by default."""

    def __post_init__(self) -> None:
        if min(self.demonstrations, self.takeovers, self.updates, self.episodes, self.workers) < 1:
            raise InputError("The benchmark of interventions needs counts of at least 1.")

    def run(self, progress: Callable[[str], None] = lambda word: None) -> dict[str, list[Row]]:
        """Measure everything; one table a name."""
        with work_folder(self.keep) as folder:
            return self._run(folder, progress)

    def _run(self, folder: Path, progress: Callable[[str], None]) -> dict[str, list[Row]]:
        from understudy.benchmarks.watchful_operator import record_takeovers  # torch

        def command(*words: object) -> dict[str, Any]:
            progress(" ".join(map(str, words[:3])))
            return our_command(folder, *words)

        def train(learner: str, dataset: str, out: str, *more: object) -> dict[str, Any]:
            return command(
                "train", learner, dataset, "--updates", self.updates, "--seed", self.seed, *more, "--out", out
            )

        first, plain = 1_000 * self.seed, self.demonstrations + self.takeovers
        for dataset, count in (("few", self.demonstrations), ("more", plain)):
            command("record", "lift", "--device", "scripted", "--episodes", count, "--seed", first, "--out", dataset)
        train("bc", "few", "clone")
        train("bc", "more", "clone-of-more")
        progress("taking over")
        # into the dataset of the demonstrations: both are learned from
        found = record_takeovers(folder / "clone", folder / "few", count=self.takeovers, seed=TAKEOVER_SEED + first)
        train("dagger", "few", "dagger")
        learned = train("dagger", "few", "dagger-from-clone", "--from", "clone")
        policies = {
            f"bc, {self.demonstrations} demonstrations": "clone",
            f"bc, {plain} demonstrations": "clone-of-more",
            f"dagger, {self.demonstrations} demonstrations and {self.takeovers} takeovers": "dagger",
            "the same, --from the first": "dagger-from-clone",
        }
        told = {name: learned[name] for name in ("demonstration_steps", "human_steps", "policy_steps_left_out")}
        rows = [self._try(name, run, command) for name, run in policies.items()]
        return {"what was recorded": [{**found, **told}], "on unseen starts": rows}

    def _try(self, name: str, run: str, command: Callable[..., dict[str, Any]]) -> Row:
        counts = ("--episodes", self.episodes, "--seed", EVALUATION_SEED, "--workers", self.workers)
        facts = command("evaluate", run, "--task", "lift", *counts)
        return {
            "policy": name,
            "successes": f"{facts['successes']} of {facts['episodes']}",
            "rate": percent(facts["rate"]),
            "95% interval": percent_interval(facts["low"], facts["high"]),
            "mean steps": round(facts["mean_steps"], 1),
        }
