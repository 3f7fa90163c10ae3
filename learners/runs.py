"""A run: the folder that a training leaves, with everything needed to know what it was.

config.json        learner, its resolved configuration, seed, versions, dataset and its checksum, robot, task, actions
metrics.jsonl      one record a line, as training went
policy.json, policy.safetensors   see `policies.py`
statistics.npz     what the training observations looked like
evaluation.json    success rates, when `understudy evaluate` has run
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from understudy import __version__
from understudy.datasets.schema import ActionSpec
from understudy.errors import InputError

CONFIG = "config.json"
METRICS = "metrics.jsonl"
EVALUATION = "evaluation.json"
VERSIONED = ("numpy", "torch", "stable-baselines3", "imitation", "gymnasium", "pybullet")


@dataclass(frozen=True)
class RunConfig:
    """What a run was made from."""

    learner: str
    robot: str
    task: str
    action_spec: ActionSpec
    dataset: str
    """Path, as it was given."""
    dataset_checksum: str
    config: Mapping[str, Any]
    """The learner's own configuration, every default resolved."""
    versions: Mapping[str, str]


class Run:
    """A run's folder. `create` begins one, `open` reads one."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path = path
        self.config = config

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> Run:
        """Begin a run in a folder that is empty or does not exist.

        Raises:
            InputError: something is there already.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path} exists and is not empty; give another --out, or remove it first.")
        path.mkdir(parents=True, exist_ok=True)
        (path / CONFIG).write_text(json.dumps(asdict(config), indent=2))
        return cls(path, config)

    @classmethod
    def open(cls, path: Path) -> Run:
        """Read a run.

        Raises:
            InputError: there is none, or its config cannot be read.
        """
        file = path / CONFIG
        if not file.is_file():
            raise InputError(
                f"{path} is not a run: {CONFIG} is missing. Give the folder that `understudy train --out` made."
            )
        try:
            data = json.loads(file.read_text())
            data["action_spec"] = ActionSpec.from_dict(data["action_spec"])
            return cls(path, RunConfig(**data))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} cannot be read: {error}.") from error

    def log(self, record: Mapping[str, float | int | str]) -> None:
        """Append one record to the metrics."""
        with (self.path / METRICS).open("a") as file:
            file.write(json.dumps(dict(record)) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Every record so far; a last line that a kill cut short is left out."""
        file = self.path / METRICS
        if not file.is_file():
            return []
        records = []
        for line in file.read_text().splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                break
        return records

    def add_evaluation(self, result: Mapping[str, Any]) -> None:
        """Keep an evaluation beside the run, replacing an earlier one of the same suite, task and seed."""
        kept = [
            other
            for other in self.evaluations()
            if any(other[key] != result[key] for key in ("suite", "task", "seed", "episodes"))
        ]
        (self.path / EVALUATION).write_text(json.dumps([*kept, dict(result)], indent=2))

    def evaluations(self) -> list[dict[str, Any]]:
        """Every evaluation kept so far.

        Raises:
            InputError: the file is damaged.
        """
        file = self.path / EVALUATION
        if not file.is_file():
            return []
        try:
            return list(json.loads(file.read_text()))
        except ValueError as error:
            raise InputError(f"{file} cannot be read: {error}.") from error


def versions() -> dict[str, str]:
    """Python, Understudy, its commit in a checkout, and the libraries that decide a result."""
    found = {"python": platform.python_version(), "understudy": __version__}
    for name in VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    root = Path(__file__).parents[1]
    if (root / ".git").exists():
        done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
        if done.returncode == 0:
            found["commit"] = done.stdout.strip()
    return found
