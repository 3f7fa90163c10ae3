"""How often the intervals of an identification hold the truth, on simulated arms whose parameters are hidden.

Each arm's parameters are drawn anew, far apart; its joints and objects are read with noise. Scripted people record a
few episodes on it, the simulator is fitted to them, and each 95% interval is compared with what was drawn. Prints a row
for each parameter, then the share of intervals that hold the truth, with its own Wilson interval.

    python -m understudy.benchmarks.identification_intervals --arms 10
    python -m understudy.benchmarks.identification_intervals --task lift --parameters gripper_strength_scale
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from understudy.datasets.statistics import percent_interval, wilson_interval
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import load_robot
from understudy.envs.distributions import Choice
from understudy.envs.identification import IdentifyConfig, identify
from understudy.envs.identification_search import SEARCHED, from_unit
from understudy.envs.randomization_file import write_distributions
from understudy.envs.tasks.task import make_task

NOISE = {"joint_noise_rad": 0.0005, "position_noise_m": 0.001}
"""Of every arm, as of a fair encoder and a fair tracker: without any, a fit would be perfect."""
INNER = (0.1, 0.9)
"""Share of the range searched in which the hidden values lie."""


@dataclass(frozen=True)
class Interval:
    """One parameter of one arm."""

    arm: int
    parameter: str
    hidden: float
    fit: float
    low: float
    high: float
    told: bool

    @property
    def holds(self) -> bool:
        """Whether the interval holds the truth."""
        return self.low <= self.hidden <= self.high


def record(folder: Path, task: str, hidden: Mapping[str, float], episodes: int, seed: int) -> Dataset:
    """Episodes of an arm with hidden parameters."""
    folder.mkdir()
    choices = {name: Choice((value,)) for name, value in {**NOISE, **hidden}.items()}
    write_distributions(folder / "hidden.yaml", choices, {"": "The arm that nobody knows."})
    words = ["record", task, "--episodes", str(episodes), "--seed", str(seed), "--keep-failures", "--json"]
    words += ["--randomize", str(folder / "hidden.yaml"), "--out", str(folder / "episodes")]
    subprocess.run([sys.executable, "-m", "understudy.cli.main", *words], check=True, capture_output=True)
    return Dataset.open(folder / "episodes")


def measure(task: str, names: Sequence[str], arms: int, episodes: int, evaluations: int) -> Iterator[Interval]:
    """Hide, record and fit; the arms are numbered from 0, which is also their seed."""
    config = IdentifyConfig(tuple(names), evaluations=evaluations)
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as scratch:
        for arm in range(arms):
            rng = np.random.default_rng(arm)
            hidden = {name: from_unit(name, float(rng.uniform(*INNER))) for name in names}
            dataset = record(Path(scratch) / str(arm), task, hidden, episodes, seed=100_000 + 1000 * arm)
            fit = identify(load_robot(dataset.robot), make_task(task), list(dataset.episodes()), config)
            for one in fit.parameters:
                yield Interval(arm, one.name, hidden[one.name], one.value, one.low, one.high, one.told)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=int, default=10)
    parser.add_argument("--task", default="reach")
    parser.add_argument("--parameters", nargs="+", choices=tuple(SEARCHED), default=IdentifyConfig.parameters)
    parser.add_argument("--episodes", type=int, default=6)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    for row in measure(given.task, given.parameters, given.arms, given.episodes, given.evaluations):
        rows.append(row)
        verdict = ("holds" if row.holds else "MISSED") if row.told else "the data cannot tell"
        numbers = f"{row.hidden:10.4g} {row.fit:10.4g} {row.low:10.4g} to {row.high:10.4g}"
        print(f"{row.arm:3} {row.parameter:24} {numbers}  {verdict}", flush=True)
    told = [row for row in rows if row.told]
    held = sum(row.holds for row in told)
    if told:
        spread = percent_interval(*wilson_interval(held, len(told)))
        print(f"{held} of {len(told)} intervals hold the truth ({spread}); {len(rows) - len(told)} are not told")
    if given.out is not None:
        given.out.write_text(json.dumps([asdict(row) | {"holds": row.holds} for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
