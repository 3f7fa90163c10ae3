"""Does it pay to identify an arm before fine-tuning for it?

A clone is learned from demonstrations on the arm as built. Another arm, whose parameters are hidden, is recorded, and
the simulator is fitted to the recordings. The clone is then fine-tuned twice with the same settings and seed: in the
preset `default`, and in the fitted ranges. All three meet the hidden arm on the same seeds.

The hidden arm is one on which it matters: its gripper is so weak that the cube slips out where it is lifted as briskly
as the clone does, and stays in where it is lifted slowly. Noise in the actions does not help, so that wide ranges alone
do not teach it. (An arm that only acts late and follows softly is no test: the clone lifts on it as on its own.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.benchmarks.our_command import our_command, work_folder
from understudy.datasets.statistics import percent, percent_interval
from understudy.envs.distributions import Choice
from understudy.envs.randomization import Randomization
from understudy.envs.randomization_file import write_distributions
from understudy.errors import InputError

Row = dict[str, Any]
ROBOT = "panda"
CANDIDATE = "candidate"
"""Folder, inside that of a fine-tuning, of what was learned."""
HIDDEN = {"motor_gain_scale": 0.35, "action_delay_s": 0.1, "gripper_strength_scale": 0.03}
"""Of the arm that is recorded and deployed on; all are outside of `default`."""
TUNING = ("--reward", "shaped", "--scale", 0.5, "--log-std", -2.0, "--learning-rate", 1e-3, "--target-kl", 0.05)
"""Of both fine-tunings: corrections large enough to halve a speed, exploration that seldom shakes the cube loose."""
DEFAULT, FITTED = "fine-tuned in default", "fine-tuned in the fitted ranges"
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
    steps: int = 30_720
    """Control periods of each fine-tuning."""
    episodes: int = 400
    """On the hidden arm, for each of the three."""
    seed: int = 0
    keep: Path | None = field(default=None)
    """Work in this folder and leave everything there; a temporary one by default."""

    def __post_init__(self) -> None:
        if min(self.demonstrations, self.updates, self.steps, self.episodes) < 1 or self.recordings < 3:
            raise InputError("The identification benchmark needs counts of at least 1, and 3 recordings.")

    def run(self, progress: Callable[[str], None] = lambda word: None) -> dict[str, list[Row]]:
        """Measure everything; one table a name."""
        with work_folder(self.keep) as folder:
            return self._run(folder, progress)

    def _run(self, folder: Path, progress: Callable[[str], None]) -> dict[str, list[Row]]:
        def command(*words: object) -> dict[str, Any]:
            progress(" ".join(map(str, words[:2])))
            return our_command(folder, *words)

        hidden: dict[str, Choice] = {name: Choice((value,)) for name, value in HIDDEN.items()}
        write_distributions(folder / "hidden.yaml", hidden, {"": "The arm that nobody knows."})
        command("record", self.task, "--episodes", self.demonstrations, "--seed", self.seed, "--out", "demos")
        command("train", "bc", "demos", "--updates", self.updates, "--seed", self.seed, "--out", "clone")
        unseen = ("--seed", 50_000 + self.seed, "--keep-failures", "--randomize", "hidden.yaml")
        command("record", self.task, "--episodes", self.recordings, *unseen, "--out", "recordings")
        names = ("--parameters", ",".join(HIDDEN), "--evaluations", self.evaluations)
        fit = command("identify", "recordings", *names, "--out", "fitted.yaml")
        rounds = ("--round-decisions", 256, "--steps", self.steps, "--seed", self.seed)
        runs = {"clone": folder / "clone"}
        for index, (name, ranges) in enumerate({DEFAULT: "default", FITTED: "fitted.yaml"}.items()):
            command("finetune", "clone", "--randomize", ranges, *TUNING, *rounds, "--out", f"tuned{index}")
            # what was learned, also where the verdict, made in the ranges trained in, was to keep the clone
            runs[name] = folder / f"tuned{index}" / CANDIDATE
        return {"fit": self._fit(fit), "on the hidden arm": self._try(runs, hidden, progress)}

    def _fit(self, fit: dict[str, Any]) -> list[Row]:
        return [
            {
                "parameter": one["name"],
                "hidden": HIDDEN[one["name"]],
                "fit": f"{one['value']:.4g}",
                "95% interval": f"{one['low']:.4g} to {one['high']:.4g}",
                "told": "yes" if one["told"] else "no",
            }
            for one in fit["parameters"]
        ]

    def _try(self, runs: dict[str, Path], hidden: dict[str, Choice], progress: Callable[[str], None]) -> list[Row]:
        from understudy.learners.comparison import compare
        from understudy.learners.evaluate import Evaluation, Setting, run_episodes  # torch below
        from understudy.learners.policies import RunPolicy

        arm = Randomization("hidden", hidden)
        seeds = range(EVALUATION_SEED, EVALUATION_SEED + self.episodes)
        rows: list[Row] = []
        first: Evaluation | None = None
        for name, path in runs.items():
            progress(f"trying {name}")
            outcomes = run_episodes(RunPolicy(path), Setting(self.task, ROBOT, arm), seeds)
            found = Evaluation(self.task, ROBOT, "hidden", EVALUATION_SEED, outcomes)
            row: Row = {
                "policy": name,
                "successes": f"{found.successes} of {found.episodes}",
                "rate": percent(found.rate),
                "95% interval": percent_interval(*found.interval),
                "mean steps": round(found.mean_steps, 1),
                "more than in default": "",
                "p": "",
            }
            if name == DEFAULT:
                first = found
            elif first is not None:
                paired = compare(first, found)
                spread = f"({100 * paired.low:+.0f} to {100 * paired.high:+.0f})"
                row["more than in default"] = f"{100 * paired.difference:+.0f} {spread} of 100"
                row["p"] = f"{paired.p_value:.2g}"
            rows.append(row)
        return rows
