"""`understudy finetune`: improve a trained policy with reinforcement learning, and keep the better of the two."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from understudy.cli.options import require_seed, require_task
from understudy.cli.train import progress_bar
from understudy.envs.curriculum import Curriculum, load_randomizer
from understudy.envs.foreign_env import is_foreign, require_fit
from understudy.errors import InputError
from understudy.learners.evaluate import Setting
from understudy.learners.finetune import FinetuneConfig, Verdict, finetune, judge
from understudy.learners.policies import ChunkMLP, load_policy, save_policy
from understudy.learners.runs import Run, require_free
from understudy.learners.trained_ranges import keep_ranges

__all__ = ["Finetune"]

VERDICT = "verdict.json"
CANDIDATE = "candidate"
RANGES = "curriculum.json"


@dataclass(frozen=True)
class Finetune:
    """Improve a trained policy with RL under domain randomization, and keep the better of the two.

    A correction is learned on top of the frozen policy, which starts at zero. At the end both are judged on held-out
    seeds; the run holds the better one, and says which it is (the other result lies in its folder `candidate`).

    Example:
        understudy finetune runs/bc --algo ppo --randomize default --out runs/finetuned
        understudy finetune runs/bc --randomize hard --steps 200000 --scale 0.2 --out runs/tuned-hard
        understudy finetune runs/bc --randomize curriculum --steps 200000 --out runs/tuned-wide
    """

    start: tyro.conf.Positional[Path]
    """Folder of the run to start from."""
    out: Path
    """Folder of the new run."""
    config: Annotated[FinetuneConfig, tyro.conf.arg(name="")] = field(default_factory=FinetuneConfig)
    randomize: str | None = None
    """Physics to train and judge in: none, mild, default, hard, a YAML file, or `curriculum` (`curriculum:hard`),
    ranges that widen from nominal up to those as success allows. By default `default`; `none` in an environment of
    Gymnasium's own."""
    task: str | None = None
    """Refuse a run of another task. What was trained on a dataset imported from elsewhere is told its Gymnasium id
    (Pendulum-v1) here."""
    json: bool = False
    """Print one JSON object at the end, for programs."""

    def run(self) -> int:
        require_seed(self.config.seed)
        require_free(self.out)
        parent, clone = Run.open(self.start), load_policy(self.start)
        if not isinstance(clone, ChunkMLP):
            raise InputError(
                f"{self.start} is fine-tuned already; start from the run it came from ({parent.config.parent})."
            )
        task = require_task(self.task, parent.config.task, self.start)
        if is_foreign(task):
            require_fit(task, clone.action_spec, clone.shapes)
        randomize = self.randomize or ("none" if is_foreign(task) else "default")
        randomizer = load_randomizer(randomize)
        setting = Setting(task, parent.config.robot, randomizer)
        record = parent.config.child(f"finetune-{self.config.algo}", self.config, self.config.seed, self.start)
        record = dataclasses.replace(record, task=task, options={**record.options, "randomize": randomize})
        run = Run.create(self.out, record)
        with progress_bar("fine-tuning", self.config.steps, quiet=self.json) as advance:

            def log(row: dict[str, float]) -> None:
                run.log(row)
                advance(int(row["step"]))

            tuned = finetune(clone, setting, self.config, log)
        with progress_bar("judging", 2 * self.config.judge_episodes, quiet=self.json) as advance:
            better, verdict = judge(clone, tuned, setting, self.config, advance)
        if isinstance(randomizer, Curriculum):
            (run.path / RANGES).write_text(randomizer.state() + "\n")
        keep_ranges(run, randomizer)
        save_policy(better, run.path)
        (run.path / CANDIDATE).mkdir()
        save_policy(tuned, run.path / CANDIDATE)
        run.write_statistics(parent.statistics())
        return self._report(run, verdict)

    def _report(self, run: Run, verdict: Verdict) -> int:
        facts = verdict.as_dict()
        (run.path / VERDICT).write_text(json.dumps(facts, indent=2) + "\n")
        if self.json:
            print(json.dumps({"run": str(run.path), "kept": verdict.kept, "verdict": facts}))
        else:
            print(f"{run.path}: {verdict.sentence()}")
            suite = "nominal" if is_foreign(run.config.task) else "randomized"
            print(f"Next: understudy evaluate {run.path} --task {run.config.task} --suite {suite}")
        return 0
