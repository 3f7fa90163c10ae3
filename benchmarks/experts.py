"""How often each scripted expert solves its task, on every robot that the task is declared for.

Every episode has a seed of its own and nominal physics; the arm is inside its Guard. `--human` draws another imagined
person for each episode. Prints a table as it goes, with Wilson intervals, and writes JSON.

    python -m understudy.benchmarks.experts --episodes 200
    python -m understudy.benchmarks.experts --episodes 200 --human --task insert --robot panda
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from understudy.datasets.statistics import wilson_interval
from understudy.envs.arms.robot import load_robot
from understudy.envs.experts.trials import play
from understudy.envs.make import make_env
from understudy.envs.tasks.task import known_tasks, make_task


@dataclass(frozen=True)
class Rate:
    """What came of one expert's trials."""

    task: str
    robot: str
    style: str
    episodes: int
    successes: int
    low: float
    high: float
    """95% interval of the share of successes."""
    median_steps: float
    failed_seeds: tuple[int, ...]


def declared(task: str | None, robot: str | None) -> Iterator[tuple[str, str]]:
    """Every pair of task and robot that is declared, or those of one task or robot."""
    for name in known_tasks() if task is None else [task]:
        for other in make_task(name).robots:
            if robot in (None, other):
                yield name, other


def measure(task: str, robot: str, episodes: int, first_seed: int, human: bool) -> Rate:
    """Play `episodes` episodes, seeds counting up from `first_seed`."""
    env = make_env(task, robot)
    try:
        trials = [play(env, seed, seed if human else None) for seed in range(first_seed, first_seed + episodes)]
    finally:
        env.close()
    failed = tuple(trial.seed for trial in trials if not trial.success)
    successes = episodes - len(failed)
    low, high = wilson_interval(successes, episodes)
    median = float(np.median([len(trial.actions) for trial in trials]))
    return Rate(task, robot, "human" if human else "exact", episodes, successes, low, high, median, failed)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--task", choices=known_tasks())
    parser.add_argument("--robot", help="a shipped robot; default: all that a task is declared for")
    parser.add_argument("--human", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.robot is not None:
        load_robot(arguments.robot)  # a wrong name is told before anything runs
    rates = []
    for task, robot in declared(arguments.task, arguments.robot):
        rate = measure(task, robot, arguments.episodes, arguments.first_seed, arguments.human)
        rates.append(rate)
        print(
            f"{task:10} {robot:9} {rate.style} {rate.successes}/{rate.episodes} = {rate.successes / rate.episodes:.1%} "
            f"[{rate.low:.1%}, {rate.high:.1%}], median {rate.median_steps:.0f} steps, "
            f"failed seeds {list(rate.failed_seeds)}",
            flush=True,
        )
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(rate) for rate in rates], indent=2))


if __name__ == "__main__":
    main()
