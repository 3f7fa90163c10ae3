"""A run: a folder with everything one training made, and everything needed to say where it came from.

    config.json          what was trained, on what, how (`RunConfig`)
    metrics.jsonl        one JSON object a line, each with `step`
    policy.json, policy.safetensors   the policy (`policies.py`)
    statistics.npz       how the training observations were distributed
    evaluation.json      success rates measured so far

Owns these files except the policy's. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy import __version__
from understudy.datasets.episode import Episode
from understudy.datasets.schema import ActionSpec, is_image
from understudy.datasets.store import Dataset
from understudy.deploy.skill import KeyStatistics
from understudy.errors import DatasetError, InputError
from understudy.learners.evaluate import Evaluation

RUN_SCHEMA_VERSION = 1
CONFIG, METRICS, EVALUATION, STATISTICS = "config.json", "metrics.jsonl", "evaluation.json", "statistics.npz"
_PACKAGES = ("numpy", "torch", "stable-baselines3", "imitation", "gymnasium", "pybullet")


@dataclass(frozen=True)
class RunConfig:
    """What was trained, on what and how."""

    learner: str
    """bc, dagger, gail, airl or finetune-ppo."""
    options: Mapping[str, Any]
    """The learner's resolved settings."""
    seed: int
    robot: str
    task: str
    rate_hz: float
    action_spec: ActionSpec
    observations: Mapping[str, tuple[int, ...]]
    """Key -> shape, of everything that was observed (the policy may look at less)."""
    dataset: str
    """Where the demonstrations lay."""
    dataset_checksum: str
    """Of the demonstrations that were chosen of it."""
    episodes: int
    """How many demonstrations."""
    where: str | None = None
    """The condition that chose them, beside not being judged a failure."""
    split: str | None = None
    """The split they were taken from."""
    parent: str | None = None
    """The run that this one started from."""
    created: str = ""
    """Wall time, ISO 8601: a label."""
    commit: str | None = None
    """Of the source tree that ran, where it is one."""
    versions: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = RUN_SCHEMA_VERSION

    @classmethod
    def of(cls, learner: str, options: Any, seed: int, demonstrations: Demonstrations) -> RunConfig:
        """The record of a training on demonstrations; `options` is the learner's config dataclass."""
        dataset, episodes = demonstrations.dataset, demonstrations.episodes
        info = episodes[0].info
        return cls(
            learner=learner,
            options=dataclasses.asdict(options),
            seed=seed,
            robot=dataset.robot,
            task=dataset.task,
            rate_hz=info.rate_hz,
            action_spec=info.action_spec,
            observations={key: tuple(values.shape[1:]) for key, values in episodes[0].observations.items()},
            dataset=str(dataset.path),
            dataset_checksum=dataset.checksum(demonstrations.ids),
            episodes=len(episodes),
            where=demonstrations.choice.where,
            split=demonstrations.choice.split,
            **_provenance(),
        )

    def child(self, learner: str, options: Any, seed: int, parent: Path) -> RunConfig:
        """The record of a run that goes on from this one."""
        return dataclasses.replace(
            self,
            learner=learner,
            options=dataclasses.asdict(options),
            seed=seed,
            parent=str(parent),
            **_provenance(),
        )


def _provenance() -> dict[str, Any]:
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": source_commit(),
        "versions": _versions(),
    }


class Run:
    """A run's folder; `create` or `open` gives one."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        """Use `create` or `open`; this touches no file."""
        self.path = path
        self.config = config

    @classmethod
    def create(cls, path: str | Path, config: RunConfig) -> Run:
        """Make the folder of a new run.

        Raises:
            InputError: something is there already.
        """
        path = Path(path)
        require_free(path)
        path.mkdir(parents=True, exist_ok=True)
        (path / CONFIG).write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")
        return cls(path, config)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run.

        Raises:
            InputError: there is none, or its `config.json` cannot be read; names the file.
        """
        file = Path(path) / CONFIG
        if not file.is_file():
            raise InputError(f"There is no run at {path}: {file} does not exist; `understudy train` writes one.")
        try:
            data = json.loads(file.read_text())
            version = data.get("schema_version")
            if version != RUN_SCHEMA_VERSION:
                raise ValueError(f"schema version {version}; this software reads {RUN_SCHEMA_VERSION}")
            data["action_spec"] = ActionSpec.from_dict(data["action_spec"])
            data["observations"] = {key: tuple(shape) for key, shape in data["observations"].items()}
            return cls(Path(path), RunConfig(**data))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file}: not the configuration of a run ({error}); train it again.") from error

    # -- metrics

    def log(self, row: Mapping[str, float]) -> None:
        """Append one row of metrics; `step` says when."""
        with (self.path / METRICS).open("a") as file:
            file.write(json.dumps({name: _number(value) for name, value in row.items()}) + "\n")

    def metrics(self) -> list[dict[str, float]]:
        """All rows, in the order they were logged; none for a run that logged nothing.

        Raises:
            InputError: a line is not a JSON object; names the file and the line.
        """
        file = self.path / METRICS
        if not file.is_file():
            return []
        rows = []
        for number, line in enumerate(file.read_text().splitlines(), 1):
            try:
                rows.append({str(name): float(value) for name, value in json.loads(line).items()})
            except (ValueError, AttributeError, TypeError) as error:
                raise InputError(f"{file}, line {number}: not a row of metrics ({error}).") from error
        return rows

    # -- evaluations

    def add_evaluation(self, evaluation: Evaluation) -> None:
        """Keep a measured success rate; an older one of the same task and suite is replaced."""
        kept = [old for old in self.evaluations() if (old.task, old.suite) != (evaluation.task, evaluation.suite)]
        rows = [item.as_dict() for item in [*kept, evaluation]]
        (self.path / EVALUATION).write_text(json.dumps(rows, indent=2) + "\n")

    def evaluations(self) -> list[Evaluation]:
        """Success rates measured so far.

        Raises:
            InputError: the file cannot be read; names it.
        """
        file = self.path / EVALUATION
        if not file.is_file():
            return []
        try:
            return [Evaluation.from_dict(row) for row in json.loads(file.read_text())]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file}: not readable ({error}); remove it and evaluate again.") from error

    # -- statistics

    def write_statistics(self, statistics: Mapping[str, KeyStatistics]) -> None:
        """Keep how the training observations were distributed."""
        arrays = {
            f"{key}.{name}": np.asarray(value)
            for key, entry in statistics.items()
            for name, value in dataclasses.asdict(entry).items()
        }
        np.savez(self.path / STATISTICS, **arrays)  # type: ignore[arg-type]

    def statistics(self) -> dict[str, KeyStatistics]:
        """What `write_statistics` kept, by observation key.

        Raises:
            InputError: the file is missing or cannot be read; names it.
        """
        file = self.path / STATISTICS
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays: dict[str, dict[str, NDArray[np.float64]]] = {}
                for entry in archive.files:
                    key, _, name = entry.partition(".")
                    arrays.setdefault(key, {})[name] = archive[entry]
            return {key: KeyStatistics(**fields) for key, fields in arrays.items()}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{file}: statistics of the run cannot be read ({error}); train it again.") from error


def observation_statistics(
    episodes: Sequence[Episode], steps: Sequence[NDArray[np.bool_]] | None = None
) -> dict[str, KeyStatistics]:
    """Statistics over the observations of the episodes, for every key but images.

    Args:
        episodes: at least one.
        steps: (N,) of each, which of its steps count; None: every one.
    """
    keys = [key for key in episodes[0].observations if not is_image(key)]
    rows = [np.ones(len(e), np.bool_) for e in episodes] if steps is None else steps
    return {
        key: KeyStatistics.of(np.concatenate([e.observations[key][r] for e, r in zip(episodes, rows, strict=True)]))
        for key in keys
    }


def joined_statistics(
    before: Mapping[str, KeyStatistics], since: Mapping[str, KeyStatistics]
) -> dict[str, KeyStatistics]:
    """Statistics of what a run and the run that went on from it were trained on, each counting half.

    Keys that only one of them knows are left out: what the other saw there is not known.
    """
    joined = {}
    for key in before.keys() & since.keys():
        one, other = before[key], since[key]
        spread = 0.5 * (one.std**2 + other.std**2) + 0.25 * (one.mean - other.mean) ** 2
        low, high = np.minimum(one.low, other.low), np.maximum(one.high, other.high)
        joined[key] = KeyStatistics(0.5 * (one.mean + other.mean), np.sqrt(spread), low, high)
    return joined


def require_free(path: Path) -> None:
    """Refuse to write over something.

    Raises:
        InputError: the folder exists and is not empty.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists and is not empty; give another --out, or remove it first.")


@dataclass(frozen=True)
class Choice:
    """Which demonstrations of a dataset are learned from, beside those that nobody judged a failure."""

    task: str | None = None
    """Refuse a dataset of another task."""
    robot: str | None = None
    """Refuse a dataset of another robot."""
    where: str | None = None
    """Only episodes that meet this condition; see `understudy dataset list --help`."""
    split: str | None = None
    """Only episodes of this split."""


@dataclass(frozen=True)
class Demonstrations:
    """Episodes to learn from, and where they are from."""

    dataset: Dataset
    ids: tuple[str, ...]
    episodes: list[Episode]
    """Without camera frames."""
    choice: Choice


def read_demonstrations(path: str | Path, choice: Choice = Choice()) -> Demonstrations:
    """The demonstrations of a dataset to learn from: those chosen that nobody judged a failure.

    Raises:
        DatasetError: it cannot be read, is of another task or robot than asked for, or holds nothing to learn from.
        InputError: the condition cannot be read, or there is no such split.
    """
    dataset = Dataset.open(path)
    for word, asked, held in (("task", choice.task, dataset.task), ("robot", choice.robot, dataset.robot)):
        if asked is not None and asked != held:
            raise DatasetError(
                f"{path} holds demonstrations of {word} {held!r}, and {asked!r} was asked for; give a dataset of it."
            )
    chosen = dataset.select(choice.where, choice.split)
    ids = tuple(id for id in chosen if dataset.summary(id).info.success is not False)
    if not ids:
        raise DatasetError(
            f"{path} holds no episode to learn from: {len(dataset)} in all, {len(chosen)} chosen, each of those judged "
            "a failure. Record some, choose others, or take the verdicts back (understudy dataset label --success "
            "unjudged)."
        )
    return Demonstrations(dataset, ids, [dataset.read(id, images=False) for id in ids], choice)


def source_commit() -> str | None:
    """Commit of the source tree this package runs from; None where it is not in a git work tree."""
    folder = Path(__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _versions() -> dict[str, str]:
    found = {"understudy": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _number(value: float) -> float | int:
    return int(value) if float(value).is_integer() else float(value)
