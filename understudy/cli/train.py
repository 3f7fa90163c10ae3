"""`understudy train ...`: from a dataset to a run.

This module owns options, the progress bar and the run's files; the learners are in `learners/`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
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
from understudy.learners.dagger import (
    Aggregate,
    DaggerConfig,
    aggregate,
    driven_by_person,
    going_on,
    train_dagger,
)
from understudy.learners.policies import ChunkMLP, ChunkPolicy, load_policy, save_policy
from understudy.learners.runs import (
    CONFIG,
    Choice,
    Demonstrations,
    Run,
    RunConfig,
    joined_statistics,
    observation_statistics,
    read_demonstrations,
    require_free,
)

__all__ = ["TrainAIRL", "TrainBC", "TrainDagger", "TrainGAIL", "progress_bar"]


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
        _tell_of_policies(found.episodes)
        run = Run.create(self.out, RunConfig.of("bc", self.config, self.config.seed, found))
        with progress_bar("cloning", self.config.updates, quiet=self.json) as advance:
            started = time.monotonic()
            policy = train_bc(found.episodes, self.config, _logging(run, advance))
        return _finish(run, policy, found.episodes, time.monotonic() - started, as_json=self.json)


@dataclass(frozen=True)
class TrainDagger:
    """Learn by HG-DAgger: from demonstrations, and from what a person did where they took over from a policy.

    Takeovers are recorded with `understudy record --policy RUN`. The policy's own steps are not learned from, and
    episodes in which nobody took over are left out.

    Example:
        understudy train dagger demos/both --out runs/dagger
        understudy train dagger demos/both --from runs/bc --intervention-share 0.5 --out runs/dagger
        understudy train dagger demos/corrected --from runs/bc --updates 2000 --out runs/corrected
    """

    dataset: tyro.conf.Positional[Path]
    """Folder of takeovers, and of demonstrations among them (`understudy dataset merge`)."""
    out: Path
    """Folder of the new run."""
    start: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Go on from the policy of this run, usually the one that was driven: its weights, form and standardisation."""
    config: Annotated[DaggerConfig, tyro.conf.arg(name="")] = field(default_factory=DaggerConfig)
    choice: Annotated[Choice, tyro.conf.arg(name="")] = field(default_factory=Choice)
    json: bool = False
    """Print one JSON object at the end, for programs."""

    def run(self) -> int:
        require_seed(self.config.seed)
        require_free(self.out)
        found = read_demonstrations(self.dataset, self.choice)
        learned = aggregate(found.episodes)
        clone = None if self.start is None else _start(self.start, found)
        config = self.config if clone is None else going_on(self.config, clone, learned.episodes[0])
        if not self.json:
            print(f"Learning from {learned.sentence()}")
            if self.start is not None and config.validation and not np.all(learned.is_takeover):
                print(f"The validation loss is also of demonstrations that {self.start} may have been trained on.")
        run = Run.create(self.out, self._record(found, learned, config))
        with progress_bar("DAgger", config.updates, quiet=self.json) as advance:
            started = time.monotonic()
            policy = train_dagger(learned, config, clone, _logging(run, advance))
        seconds = time.monotonic() - started
        seen = observation_statistics(learned.episodes, learned.driven)
        statistics = seen if self.start is None else joined_statistics(Run.open(self.start).statistics(), seen)
        run.write_statistics(statistics)
        return _save(run, policy, len(learned.episodes), seconds, as_json=self.json, more=learned.counts)

    def _record(self, found: Demonstrations, learned: Aggregate, config: DaggerConfig) -> RunConfig:
        ids = tuple(found.ids[number] for number in learned.numbers)
        record = RunConfig.of(
            "dagger", config, config.seed, Demonstrations(found.dataset, ids, list(learned.episodes), found.choice)
        )
        if self.start is None:
            return record
        # the features are the policy's, whatever the settings say
        options = {**record.options, "features": _features_of(self.start)}
        return dataclasses.replace(record, options=options, parent=str(self.start))


def _features_of(path: Path) -> object:
    """Settings of the features of a run's policy, as its record or that of the run it came from says; None: neither."""
    config = Run.open(path).config
    while "features" not in config.options:
        if config.parent is None or not (Path(config.parent) / CONFIG).is_file():
            return None
        config = Run.open(config.parent).config
    return config.options["features"]


def _start(path: Path, found: Demonstrations) -> ChunkMLP:
    """The policy of the run to go on from.

    Raises:
        InputError: it is of another task or robot than the dataset, or fine-tuned.
    """
    run, policy = Run.open(path), load_policy(path)
    for word, trained, recorded in (
        ("task", run.config.task, found.dataset.task),
        ("robot", run.config.robot, found.dataset.robot),
    ):
        if trained != recorded:
            raise InputError(
                f"--from {path} was trained on {word} {trained!r}, and {found.dataset.path} is of {recorded!r}; both "
                "must be the same."
            )
    if not isinstance(policy, ChunkMLP):
        raise InputError(
            f"--from {path} holds a correction on a frozen policy (understudy finetune), which cannot be cloned on; "
            f"go on from the run it came from ({run.config.parent})."
        )
    return policy


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
        _tell_of_policies(found.episodes)
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


def _tell_of_policies(episodes: Sequence[Episode]) -> None:
    """Say on the error stream what else than persons is imitated."""
    driven = [driven_by_person(episode) for episode in episodes]
    others = sum(not np.all(flags) for flags in driven)
    if others:
        steps = sum(int(np.count_nonzero(~flags)) for flags in driven)
        remedy = "; understudy train dagger leaves them out" if any(np.any(flags) for flags in driven) else ""
        print(
            f"note: in {others} of {len(episodes)} episodes a policy drove, and its {steps:,} steps are imitated "
            f"too{remedy}.",
            file=sys.stderr,
        )


def _logging(run: Run, advance: Callable[[int], None]) -> Callable[[dict[str, float]], None]:
    """Log a row into the run, and move the bar to its step."""

    def log(row: dict[str, float]) -> None:
        run.log(row)
        advance(int(row["step"]))

    return log


def _finish(run: Run, policy: ChunkPolicy, episodes: Sequence[Episode], seconds: float, *, as_json: bool) -> int:
    run.write_statistics(observation_statistics(episodes))
    return _save(run, policy, len(episodes), seconds, as_json=as_json)


def _save(
    run: Run,
    policy: ChunkPolicy,
    episodes: int,
    seconds: float,
    *,
    as_json: bool,
    more: Mapping[str, int] | None = None,
) -> int:
    """Keep the policy, and say how it went; `more` are numbers for programs."""
    save_policy(policy, run.path)
    last = run.metrics()[-1]
    if as_json:
        facts = {"run": str(run.path), "episodes": episodes, "seconds": seconds, "last": last, **(more or {})}
        print(json.dumps(facts))
        return 0
    shown = ", ".join(f"{name} {value:.3g}" for name, value in last.items() if name != "step")
    print(f"{run.path}: {run.config.learner} from {episodes} episodes in {seconds:.0f} s ({shown}).")
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
