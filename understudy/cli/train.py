"""`understudy train ...`: from a dataset to a run.

This module owns options, the progress bar and the run's files; the learners are in `learners/`.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from understudy.cli.options import require_seed
from understudy.datasets.episode import Episode
from understudy.envs.foreign_env import is_foreign
from understudy.envs.make import make_env
from understudy.errors import InputError
from understudy.learners.adversarial import AdversarialConfig, train_adversarial
from understudy.learners.cloning import BCConfig, train_bc
from understudy.learners.policies import ChunkPolicy, save_policy
from understudy.learners.runs import Choice, Run, RunConfig, observation_statistics, read_demonstrations, require_free

__all__ = ["TrainAIRL", "TrainBC", "TrainGAIL", "progress_bar"]


@dataclass(frozen=True)
class TrainBC:
    """Learn by behavioral cloning: predict the next actions of the demonstrator from what is seen.

    Example:
        understudy train bc demos/lift --out runs/bc
        understudy train bc demos/lift --out runs/bc-long --updates 20000 --seed 1
        understudy train bc demos/lift --out runs/bc-ada --split train --where "operator == 'ada'"
    """

    dataset: tyro.conf.Positional[Path]
    """Folder of the demonstrations."""
    out: Path
    """Folder of the new run."""
    config: Annotated[BCConfig, tyro.conf.arg(name="")] = field(default_factory=BCConfig)
    choice: Annotated[Choice, tyro.conf.arg(name="")] = field(default_factory=Choice)
    json: bool = False
    """Print one JSON object at the end, for programs."""

    def run(self) -> int:
        require_seed(self.config.seed)
        require_free(self.out)
        found = read_demonstrations(self.dataset, self.choice)
        run = Run.create(self.out, RunConfig.of("bc", self.config, self.config.seed, found))
        with progress_bar("cloning", self.config.updates, quiet=self.json) as advance:
            started = time.monotonic()
            policy = train_bc(found.episodes, self.config, _logging(run, advance))
        return _finish(run, policy, found.episodes, time.monotonic() - started, as_json=self.json)


@dataclass(frozen=True)
class _Adversarial:
    dataset: tyro.conf.Positional[Path]
    """Folder of the demonstrations."""
    out: Path
    """Folder of the new run."""
    config: Annotated[AdversarialConfig, tyro.conf.arg(name="")] = field(default_factory=AdversarialConfig)
    choice: Annotated[Choice, tyro.conf.arg(name="")] = field(default_factory=Choice)
    json: bool = False
    """Print one JSON object at the end, for programs."""

    def _train(self, algorithm: str) -> int:
        require_seed(self.config.seed)
        require_free(self.out)
        found = read_demonstrations(self.dataset, self.choice)
        if is_foreign(found.dataset.task):
            raise InputError(
                f"{algorithm.upper()} acts in our own tasks only, and {found.dataset.task!r} is an environment of "
                f"Gymnasium's own; take `understudy train bc`, then `understudy finetune`."
            )
        run = Run.create(self.out, RunConfig.of(algorithm, self.config, self.config.seed, found))
        make = functools.partial(make_env, found.dataset.task, found.dataset.robot, fixed_horizon=True)
        with progress_bar(algorithm.upper(), self.config.steps, quiet=self.json) as advance:
            started = time.monotonic()
            policy = train_adversarial(algorithm, found.episodes, make, self.config, _logging(run, advance))
        return _finish(run, policy, found.episodes, time.monotonic() - started, as_json=self.json)


@dataclass(frozen=True)
class TrainGAIL(_Adversarial):
    """Learn by GAIL: act in simulation until a discriminator cannot tell the policy from the demonstrator.

    Example:
        understudy train gail demos/reach --out runs/gail --steps 10240
    """

    def run(self) -> int:
        return self._train("gail")


@dataclass(frozen=True)
class TrainAIRL(_Adversarial):
    """Learn by AIRL: recover a reward that explains the demonstrations, and a policy that earns it.

    Example:
        understudy train airl demos/reach --out runs/airl --steps 10240
    """

    def run(self) -> int:
        return self._train("airl")


def _logging(run: Run, advance: Callable[[int], None]) -> Callable[[dict[str, float]], None]:
    """Log a row into the run, and move the bar to its step."""

    def log(row: dict[str, float]) -> None:
        run.log(row)
        advance(int(row["step"]))

    return log


def _finish(run: Run, policy: ChunkPolicy, episodes: Sequence[Episode], seconds: float, *, as_json: bool) -> int:
    run.write_statistics(observation_statistics(episodes))
    save_policy(policy, run.path)
    last = run.metrics()[-1]
    if as_json:
        print(json.dumps({"run": str(run.path), "episodes": len(episodes), "seconds": seconds, "last": last}))
        return 0
    shown = ", ".join(f"{name} {value:.3g}" for name, value in last.items() if name != "step")
    print(f"{run.path}: {run.config.learner} from {len(episodes)} episodes in {seconds:.0f} s ({shown}).")
    print(f"Next: understudy evaluate {run.path} --task {run.config.task}")
    return 0


@contextmanager
def progress_bar(title: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on the error stream, where it is a terminal; yields what moves it to a count."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
    ) as progress:
        bar = progress.add_task(title, total=total)
        yield lambda done: progress.update(bar, completed=done)
