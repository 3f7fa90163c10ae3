"""`understudy evaluate`: the success rate of a run or a skill, with its interval, on seeds not trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from understudy.cli.options import require_seed
from understudy.cli.train import progress_bar
from understudy.datasets.statistics import percent, percent_interval
from understudy.deploy.skill import check_robot, load_skill
from understudy.envs.arms.robot import RobotDescription, load_robot
from understudy.errors import InputError, RobotMismatch
from understudy.learners.evaluate import FIRST_SEED, Evaluation, PolicyFactory, evaluate

if TYPE_CHECKING:
    from understudy.deploy.runtime import SkillPolicy
    from understudy.learners.runs import Run

__all__ = ["Evaluate", "SkillFile"]


@dataclass(frozen=True)
class SkillFile:
    """Makes the policy of a skill file; can be sent to another process."""

    path: Path

    def __call__(self) -> SkillPolicy:
        from understudy.deploy.runtime import SkillPolicy

        return SkillPolicy(load_skill(self.path))


@dataclass(frozen=True)
class Evaluate:
    """Measure the success rate of a run or a skill in simulation, with its 95% interval.

    Every policy meets the same starts and the same physics for the same seeds, none of which were trained on. What is
    measured of a run is kept in it, and goes into the skill that is exported.

    Example:
        understudy evaluate runs/bc --task lift
        understudy evaluate lift.skill --task lift --suite randomized --episodes 100 --json
    """

    policy: tyro.conf.Positional[Path]
    """Folder of a run, or a .skill file."""
    task: str | None = None
    """The task; by default the one that it was trained on, and no other is accepted."""
    suite: Literal["nominal", "randomized", "unseen"] = "nominal"
    """Physics: as built, randomized as in fine-tuning, or more than that."""
    episodes: int = 100
    """How many seeds."""
    seed: int = FIRST_SEED
    """The first one."""
    robot: str | None = None
    """Robot; by default the one that it was trained on."""
    workers: int = 2
    """Processes. The result does not depend on it."""
    json: bool = False
    """Print one JSON object for programs."""

    def run(self) -> int:
        require_seed(self.seed)
        factory, task, robot, run = self._load()
        if self.task is not None and self.task != task:
            raise InputError(
                f"{self.policy} was trained on task {task!r}, and --task is {self.task!r}; they must agree."
            )
        with progress_bar(f"{task}, {self.suite}", self.episodes, quiet=self.json) as advance:
            result = evaluate(
                factory,
                task,
                robot,
                self.suite,
                episodes=self.episodes,
                seed=self.seed,
                workers=self.workers,
                progress=advance,
            )
        if run is not None:
            run.add_evaluation(result)
        print(json.dumps(result.as_dict(), indent=2) if self.json else describe(result))
        return 0

    def _load(self) -> tuple[PolicyFactory, str, RobotDescription, Run | None]:
        """(what makes the policy, task, robot, the run where it is one)."""
        if self.policy.suffix == ".skill" or self.policy.is_file():
            manifest = load_skill(self.policy).manifest
            robot = load_robot(self.robot or manifest.robot.name)
            check_robot(manifest, robot)
            return SkillFile(self.policy), manifest.task, robot, None
        from understudy.learners.policies import RunPolicy, load_policy  # torch: not needed for a skill
        from understudy.learners.runs import Run

        run = Run.open(self.policy)
        load_policy(self.policy)
        robot = load_robot(self.robot or run.config.robot)
        if robot.name != run.config.robot:
            raise RobotMismatch(
                f"{self.policy} was trained on robot {run.config.robot!r}, and --robot is {robot.name!r}; "
                "they must agree."
            )
        return RunPolicy(self.policy), run.config.task, robot, run


def describe(result: Evaluation) -> str:
    """One line for people."""
    low, high = result.interval
    return (
        f"{result.task} on {result.robot}, {result.suite}: {result.successes} of {result.episodes} succeeded "
        f"({percent(result.rate)}, 95% interval {percent_interval(low, high)}), "
        f"{result.mean_steps:.0f} steps an episode, return {result.mean_return:.2f}"
    )
