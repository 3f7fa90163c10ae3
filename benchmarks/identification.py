"""Does it pay to identify an arm before fine-tuning for it?

A clone is learned from demonstrations on the arm as built. Another arm, whose parameters are hidden, is recorded, and
the simulator is fitted to the recordings. The clone is then fine-tuned twice with the same budget and seed: in the
preset `default`, and in `default` joined by the fitted ranges. All three meet the hidden arm on the same seeds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.datasets.statistics import percent, percent_interval
from understudy.envs.distributions import Choice
from understudy.envs.randomization import Randomization
from understudy.envs.randomization_file import read_distributions, write_distributions
from understudy.errors import InputError, UnderstudyError

Row = dict[str, Any]
HIDDEN = {"motor_gain_scale": 0.35, "action_delay_s": 0.1, "joint_friction_nm": 2.0}
"""Of the arm that is recorded and deployed on; `default` holds the friction only in part, gain and delay not at all."""
EVALUATION_SEED = 700_000
"""First seed on the hidden arm; used for nothing else."""


@dataclass(frozen=True)
class IdentificationBench:
    """How much is recorded, learned and tried.

    Raises:
        InputError: a count that is too small.
    """

    task: str = "lift"
    demonstrations: int = 60
    """On the arm as built, for the clone."""
    updates: int = 6000
    """Gradient steps of the clone."""
    recordings: int = 8
    """On the hidden arm, for the fit."""
    evaluations: int = 120
    """Of the fit's search."""
    steps: int = 40_960
    """Control periods of each fine-tuning."""
    episodes: int = 100
    """On the hidden arm, for each of the three."""
    seed: int = 0
    keep: Path | None = field(default=None)
    """Work in this folder and leave everything there; a temporary one by default."""

    def __post_init__(self) -> None:
        if min(self.demonstrations, self.updates, self.steps, self.episodes) < 1 or self.recordings < 3:
            raise InputError("The identification benchmark needs counts of at least 1, and 3 recordings.")

    def run(self, progress: Callable[[str], None] = lambda word: None) -> dict[str, list[Row]]:
        """Measure everything; one table a name."""
        if self.keep is not None:
            self.keep.mkdir(parents=True, exist_ok=True)
            return self._run(self.keep, progress)
        with tempfile.TemporaryDirectory(prefix="understudy-bench-") as scratch:
            return self._run(Path(scratch), progress)

    def _run(self, folder: Path, progress: Callable[[str], None]) -> dict[str, list[Row]]:
        def command(*words: object) -> None:
            progress(" ".join(map(str, words[:2])))
            ours = [sys.executable, "-m", "understudy.cli.main", *map(str, words), "--json"]
            done = subprocess.run(ours, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                raise UnderstudyError(f"understudy {' '.join(map(str, words))} failed: {done.stderr.strip()}")

        hidden: dict[str, Choice] = {name: Choice((value,)) for name, value in HIDDEN.items()}
        write_distributions(folder / "hidden.yaml", hidden, {"": "The arm that nobody knows."})
        command("record", self.task, "--episodes", self.demonstrations, "--seed", self.seed, "--out", "demos")
        command("train", "bc", "demos", "--updates", self.updates, "--seed", self.seed, "--out", "clone")
        unseen = ("--seed", 50_000 + self.seed, "--keep-failures", "--randomize", "hidden.yaml")
        command("record", self.task, "--episodes", self.recordings, *unseen, "--out", "recordings")
        names = ("--parameters", ",".join(HIDDEN), "--evaluations", self.evaluations)
        command("identify", "recordings", *names, "--out", "fitted.yaml")
        tuned = {"fine-tuned in default": "default", "fine-tuned in the fitted ranges": "default+fitted.yaml"}
        runs = {"clone": folder / "clone"}
        for index, (name, ranges) in enumerate(tuned.items()):
            options = ("--randomize", ranges, "--steps", self.steps, "--seed", self.seed, "--out", f"tuned{index}")
            command("finetune", "clone", *options)
            runs[name] = folder / f"tuned{index}"
        return {"fit": self._fit(folder / "fitted.yaml"), "on the hidden arm": self._try(runs, hidden, progress)}

    def _fit(self, file: Path) -> list[Row]:
        fitted = read_distributions(file)[0]
        rows = []
        for name, value in HIDDEN.items():
            low, high = fitted[name].bounds
            rows.append({"parameter": name, "hidden": value, "fitted from": f"{low:.4g}", "to": f"{high:.4g}"})
        return rows

    def _try(self, runs: dict[str, Path], hidden: dict[str, Choice], progress: Callable[[str], None]) -> list[Row]:
        from understudy.learners.evaluate import Evaluation, Setting, compare, run_episodes  # torch below
        from understudy.learners.policies import RunPolicy
        from understudy.learners.runs import Run

        arm = Randomization("hidden", hidden)
        seeds = range(EVALUATION_SEED, EVALUATION_SEED + self.episodes)
        rows: list[Row] = []
        first: Evaluation | None = None
        for name, path in runs.items():
            progress(f"trying {name}")
            robot = Run.open(path).config.robot
            outcomes = run_episodes(RunPolicy(path), Setting(self.task, robot, arm), seeds)
            found = Evaluation(self.task, robot, "hidden", EVALUATION_SEED, outcomes)
            row: Row = {
                "policy": name,
                "successes": f"{found.successes} of {found.episodes}",
                "rate": percent(found.rate),
                "95% interval": percent_interval(*found.interval),
                "mean steps": round(found.mean_steps, 1),
                "p against default": "",
            }
            if name == "fine-tuned in default":
                first = found
            elif first is not None:
                row["p against default"] = f"{compare(first, found).p_value:.2g}"
            rows.append(row)
        return rows
