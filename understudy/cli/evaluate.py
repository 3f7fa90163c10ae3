"""`understudy evaluate`: the success rate of a run or a skill, with its interval, on seeds not trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from understudy.cli.options import require_seed, require_task
from understudy.cli.train import progress_bar
from understudy.datasets.drawing.picture_style import require_place
from understudy.datasets.statistics import percent, percent_interval
from understudy.deploy.skill import check_robot, load_skill
from understudy.envs.arms.robot import RobotDescription, load_robot
from understudy.envs.foreign_env import NO_ROBOT, is_foreign, require_fit
from understudy.errors import InputError, RobotMismatch
from understudy.learners.evaluate import FIRST_SEED, Evaluation, PolicyFactory, evaluate

if TYPE_CHECKING:
    from understudy.deploy.runtime import SkillPolicy
    from understudy.learners.robustness import RobustnessConfig
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
        understudy evaluate runs/bc --robustness robustness.png --sweep.episodes 20
    """

    policy: tyro.conf.Positional[Path]
    """Folder of a run, or a .skill file."""
    task: str | None = None
    """The task; by default the one that it was trained on, and no other is accepted. What was trained on a dataset
    imported from elsewhere is told its Gymnasium id (Pendulum-v1) here."""
    suite: Literal["nominal", "randomized", "unseen"] = "nominal"
    """Physics: as built, randomized as in fine-tuning, or always outside of that."""
    episodes: int = 100
    """How many seeds."""
    seed: int = FIRST_SEED
    """The first one."""
    robot: str | None = None
    """Robot; by default the one that it was trained on."""
    workers: int = 2
    """Processes. The result does not depend on it."""
    robustness: Path | None = None
    """Instead of a suite, vary each physical parameter alone, and draw success against it into this file; the figures
    go beside it as .json."""
    sweep: Sweep = field(default_factory=lambda: Sweep())
    json: bool = False
    """Print one JSON object for programs."""

    def run(self) -> int:
        require_seed(self.seed)
        if self.robustness is not None:
            require_place(self.robustness)
        factory, task, robot, run = self._load()
        if self.robustness is not None:
            return self._sweep(factory, task, robot, run, self.robustness)
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
        if is_foreign(task) and not result.successes and not self.json:
            print(f"Where {task} does not tell of success, go by the return.")
        return 0

    def _sweep_config(self, run: Run | None) -> RobustnessConfig:
        from understudy.learners.robustness import RobustnessConfig
        from understudy.learners.trained_ranges import TrainedRanges, trained_ranges

        names = tuple(name.strip() for name in self.sweep.parameters.split(",") if name.strip())
        asked = self.sweep.trained
        trained = trained_ranges(run) if asked is None else TrainedRanges(asked, f"{asked!r}, as asked for")
        return RobustnessConfig(
            self.sweep.values, self.sweep.episodes, self.sweep.ranges, trained.source, trained.words, names, self.seed
        )

    def _sweep(
        self, factory: PolicyFactory, task: str, robot: str | RobotDescription, run: Run | None, picture: Path
    ) -> int:
        from understudy.learners.robustness import measure_robustness, plan_sweep, summary
        from understudy.learners.robustness_picture import draw_robustness  # matplotlib

        config = self._sweep_config(run)
        description = robot if isinstance(robot, RobotDescription) else load_robot(robot)
        plan = plan_sweep(task, description, config)
        with progress_bar(f"{task}, each parameter alone", plan.episodes, quiet=self.json) as advance:
            found = measure_robustness(
                factory, task, description, config, policy=self.policy.name, workers=self.workers, progress=advance
            )
        draw_robustness(found, picture)
        text = json.dumps(found.as_dict(), indent=2)
        picture.with_suffix(".json").write_text(text + "\n")
        if self.json:
            print(text)
            return 0
        for row in summary(found):
            inside = " (in the training range)" if row["in the training range"] else ""
            print(f"{row['parameter']}: least at {row['worst at']:.4g}{inside}, {row['success there']}")
        if found.left_out:
            print(f"left out, as they make no difference to {task} on {found.robot}:")
            for why in dict.fromkeys(found.left_out.values()):
                print(f"  {why}: {', '.join(name for name, one in found.left_out.items() if one == why)}")
        print(f"{picture} and {picture.with_suffix('.json').name} written")
        return 0

    def _load(self) -> tuple[PolicyFactory, str, str | RobotDescription, Run | None]:
        """(what makes the policy, task, robot, the run where it is one)."""
        if self.policy.suffix == ".skill" or self.policy.is_file():
            manifest = load_skill(self.policy).manifest
            robot = load_robot(self.robot or manifest.robot.name)
            check_robot(manifest, robot)
            return SkillFile(self.policy), require_task(self.task, manifest.task, self.policy), robot, None
        from understudy.learners.policies import RunPolicy, load_policy  # torch: not needed for a skill
        from understudy.learners.runs import Run

        run, policy = Run.open(self.policy), load_policy(self.policy)
        task = require_task(self.task, run.config.task, self.policy)
        if is_foreign(task):
            if self.robot is not None:
                raise InputError(f"{task!r} is an environment of Gymnasium's own and has no robot; leave out --robot.")
            if self.robustness is not None:
                raise InputError(f"{task!r} has physics of its own, which cannot be varied; leave out --robustness.")
            require_fit(task, policy.action_spec, policy.shapes)
            return RunPolicy(self.policy), task, NO_ROBOT, run
        robot = load_robot(self.robot or run.config.robot)
        if robot.name != run.config.robot:
            raise RobotMismatch(
                f"{self.policy} was trained on robot {run.config.robot!r}, and --robot is {robot.name!r}; "
                "they must agree."
            )
        return RunPolicy(self.policy), task, robot, run


@dataclass(frozen=True)
class Sweep:
    """What --robustness varies."""

    values: int = 5
    """Values of each parameter, beside its nominal one."""
    episodes: int = 10
    """Seeds at each value."""
    ranges: str = "hard"
    """What is swept: a preset or a YAML file."""
    trained: str | None = None
    """The ranges trained in, which the picture marks: a preset, a YAML file, or none. By default those that the run
    tells (a fine-tuned one does), else `default`; the picture says which."""
    parameters: str = ""
    """Which parameters, with commas between; by default all of the ranges that make a difference to the task."""


def describe(result: Evaluation) -> str:
    """One line for people."""
    low, high = result.interval
    return (
        f"{result.task} on {result.robot}, {result.suite}: {result.successes} of {result.episodes} succeeded "
        f"({percent(result.rate)}, 95% interval {percent_interval(low, high)}), "
        f"{result.mean_steps:.0f} steps an episode, return {result.mean_return:.2f}"
    )
