"""`understudy demo`: the whole way on the built-in arm, by the commands a person would type.

Every step is one or more `understudy` commands in processes of their own; the command line is shown, its output goes to
`logs/`. The demo adds nothing but the order, the table at the end and the report.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from understudy.cli import demo_report
from understudy.cli.demo_report import Measured
from understudy.datasets.statistics import percent, percent_interval
from understudy.datasets.store import Dataset
from understudy.errors import InputError, UnderstudyError

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
EVALUATION_SEED = 10_000
"""First seed of every evaluation; recording uses seeds from 0, fine-tuning others again."""
ROS_SEED = 20_000
PICTURES = (
    ("pictures/training.png", "Reward and episode length over training."),
    ("pictures/rates.png", "Success on seeds not trained on, with 95% Wilson intervals."),
    ("pictures/filmstrip.png", "One of the lifts performed over ROS 2, as the second dataset recorded it."),
    ("pictures/joints.png", "Joint set points commanded over ROS 2, and the positions the arm reported."),
    ("pictures/check_lift.png", "The check of the demonstrations."),
)


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    lift_episodes: int
    reach_episodes: int
    adversarial_steps: int
    finetune_steps: int
    evaluation_episodes: int
    ros_episodes: int
    least_clone: float
    """The demo fails if the clone succeeds less often, in nominal physics."""
    least_ros: float
    """The demo fails if the skill over ROS 2 reaches less than this share of what it reached in simulation."""


FULL = Sizes(50, 20, 10_240, 40_960, 100, 20, 0.9, 0.9)
SHORT = Sizes(50, 20, 4_096, 4_096, 20, 3, 0.9, 0.6)


@dataclass(frozen=True)
class Demo:
    """The whole way on the built-in arm: record, check, train, fine-tune, evaluate, export, deploy over ROS 2.

    50 demonstrations of lifting a cube are recorded from a scripted operator, cloned, fine-tuned and evaluated; the
    result is exported as a skill and lifts the cube over a real ROS 2 graph while a second dataset is recorded from it.

    Example:
        understudy demo --out demo
    """

    out: Path = Path("demo")
    """Folder for datasets, runs, the skill, pictures and report.html; must not exist or be empty."""
    short: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """A quick pass over the same way: fewer seeds, shorter training. Its figures mean less."""

    def run(self) -> int:
        """Go the whole way; 0 when every step did what it should."""
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise InputError(f"{self.out} exists and is not empty; give another --out, or remove it first.")
        return _Show(self.out.resolve(), SHORT if self.short else FULL).play()


class StepFailed(UnderstudyError):
    """A command of the demo did not end with 0; says which, and where its output is."""


class _Show:
    """The steps in order, the folder they fill, and what was measured."""

    def __init__(self, out: Path, sizes: Sizes) -> None:
        self.out = out
        self.sizes = sizes
        self.console = Console()
        self.measured: list[Measured] = []
        self._count = 0
        for folder in ("logs", "datasets", "runs", "pictures", "results"):
            (out / folder).mkdir(parents=True, exist_ok=True)

    def play(self) -> int:
        """Run every step, print the table, write the report."""
        steps = [
            ("Record lifts from a scripted operator", self.record),
            ("Check the dataset", self.check),
            ("Clone the operator", self.clone),
            ("Learn reach by GAIL and AIRL", self.adversarial),
            ("Fine-tune with PPO under randomization", self.finetune),
            ("Evaluate on matched seeds", self.evaluate),
            ("Export the skill", self.export),
            ("Deploy over ROS 2 and record it", self.deploy),
            ("Draw the report", self.report),
        ]
        started = time.monotonic()
        columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")]
        with Progress(*columns, TimeElapsedColumn(), console=self.console) as progress:
            task = progress.add_task("", total=len(steps))
            for title, step in steps:
                progress.update(task, description=title)
                progress.console.print(f"[bold]{title}[/bold]")
                step()
                progress.advance(task)
        self.console.print(self.table())
        self.console.print(f"{self.out / 'report.html'} ({time.monotonic() - started:.0f} s)")
        self.require_success()
        return 0

    def require_success(self) -> None:
        """Refuse a result that is not worth showing: what is missed is said, and the demo has failed.

        Raises:
            StepFailed: the clone, or the skill over ROS 2 against simulation, fell short.
        """
        clone, simulated, over_ros = self.measured[0].rate, self.measured[-2].rate, self.measured[-1].rate
        if clone < self.sizes.least_clone:
            raise StepFailed(f"The clone succeeded in {percent(clone)}, less than {percent(self.sizes.least_clone)}.")
        if over_ros < self.sizes.least_ros * simulated:
            raise StepFailed(
                f"Over ROS 2 the skill succeeded in {percent(over_ros)}, less than {percent(self.sizes.least_ros)} "
                f"of the {percent(simulated)} it reached in simulation."
            )

    # -- the steps

    def record(self) -> None:
        """Demonstrations through the same session and recorder that a person uses."""
        for task, episodes in (("lift", self.sizes.lift_episodes), ("reach", self.sizes.reach_episodes)):
            self.command(f"record {task} --device scripted --episodes {episodes} --out datasets/{task}")

    def check(self) -> None:
        """May we train on this?"""
        for task in ("lift", "reach"):
            self.command(f"dataset check datasets/{task} --picture pictures/check_{task}.png")

    def clone(self) -> None:
        """Behavioral cloning."""
        self.command("train bc datasets/lift --out runs/bc")

    def adversarial(self) -> None:
        """GAIL and AIRL, short."""
        for learner in ("gail", "airl"):
            self.command(f"train {learner} datasets/reach --out runs/{learner} --steps {self.sizes.adversarial_steps}")

    def finetune(self) -> None:
        """Residual PPO on the frozen clone."""
        steps = self.sizes.finetune_steps
        self.command(f"finetune runs/bc --algo ppo --randomize default --out runs/finetuned --steps {steps}")

    def evaluate(self) -> None:
        """Every policy on the same seeds, none of which was trained on."""
        verdict = json.loads((self.out / "runs/finetuned/verdict.json").read_text())
        tuned = "finetuned (kept the clone)" if verdict["kept"] == "clone" else "finetuned"
        for suite in ("nominal", "randomized", "unseen"):
            self.measure("bc on lift", "runs/bc", "lift", suite, f"bc_{suite}")
            self.measure(f"{tuned} on lift", "runs/finetuned", "lift", suite, f"finetuned_{suite}")
        for learner in ("gail", "airl"):
            self.measure(f"{learner} on reach", f"runs/{learner}", "reach", "nominal", f"{learner}_nominal")

    def export(self) -> None:
        """The better of clone and fine-tuned, judged under the physics that real arms differ by."""
        clone, tuned = (m.rate for m in self.measured if m.suite == "randomized")
        best = "finetuned" if tuned > clone else "bc"
        self.command(f"export runs/{best} --out lift.skill")
        self.measure(f"skill ({best}) on lift", "lift.skill", "lift", "nominal", "skill_nominal")

    def deploy(self) -> None:
        """The skill on an arm behind ROS 2: one process is the arm, one runs the skill, one records."""
        episodes = self.sizes.ros_episodes
        ros = {"ROS_DOMAIN_ID": str(50 + os.getpid() % 10), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        arm = f"sim-arm --robot panda --task lift --seed {ROS_SEED}"
        watch = f"record lift --watch --robot panda --episodes {episodes} --keep-failures --out datasets/lift_ros"
        with self.background(arm, "sim-arm ready", ros), self.background(watch, "watching", ros) as recorder:
            self.command(
                f"deploy lift.skill --robot panda --episodes {episodes} --reset-service /sim_arm/reset "
                "--success-topic /sim_arm/success --recorded --out results/ros.json",
                ros,
            )
            self.finish(recorder, watch)
        report = json.loads((self.out / "results/ros.json").read_text())
        self.add(
            "skill on lift, ROS 2",
            "nominal",
            report["successes"],
            report["judged"],
            report["success_rate_low"],
            report["success_rate_high"],
        )

    def report(self) -> None:
        """Pictures and report.html."""
        self.command("plot runs/bc runs/finetuned runs/gail runs/airl --out pictures")
        watched = Dataset.open(self.out / "datasets/lift_ros")
        demo_report.draw_rates(self.measured, self.out / "pictures/rates.png")
        demo_report.draw_filmstrip(watched, self.out / "pictures/filmstrip.png")
        demo_report.draw_commanded_against_measured(watched, self.out / "pictures/joints.png")
        demo_report.write_report(self.out, self.rows(), PICTURES)

    # -- running commands

    def measure(self, what: str, source: str, task: str, suite: str, name: str) -> None:
        """Evaluate, keep the JSON, remember the rate."""
        episodes = self.sizes.evaluation_episodes
        output = self.command(
            f"evaluate {source} --task {task} --suite {suite} --seed {EVALUATION_SEED} --episodes {episodes} --json"
        )
        (self.out / f"results/{name}.json").write_text(output)
        result = json.loads(output)
        self.add(what, suite, result["successes"], result["episodes"], result["low"], result["high"])

    def add(self, what: str, suite: str, successes: int, episodes: int, low: float, high: float) -> None:
        """Remember a measured rate."""
        self.measured.append(Measured(what, suite, successes, episodes, low, high))

    def command(self, words: str, environment: Mapping[str, str] | None = None) -> str:
        """Run one `understudy` command to its end and return its standard output.

        Raises:
            StepFailed: it did not end with 0.
        """
        log = self._announce(words)
        with log.open("w") as errors:
            done = subprocess.run(
                _line(words),
                cwd=self.out,
                env=_environment(environment),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            errors.write(done.stdout)
        if done.returncode != 0:
            raise StepFailed(_failure(words, done.returncode, log))
        return done.stdout

    @contextlib.contextmanager
    def background(self, words: str, ready: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        """A command that runs while others do; entered when its output says `ready`, interrupted at the end."""
        log = self._announce(words)
        with log.open("wb") as output:
            process = subprocess.Popen(
                _line(words), cwd=self.out, env=_environment(environment), stdout=output, stderr=subprocess.STDOUT
            )
        try:
            _wait_for(process, log, ready, words)
            yield process
        finally:
            _stop(process)

    def finish(self, process: subprocess.Popen[bytes], words: str) -> None:
        """Wait for a background command that ends by itself."""
        try:
            code = process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise StepFailed(f"`understudy {words}` did not end by itself; see {self.out / 'logs'}.") from error
        if code != 0:
            raise StepFailed(_failure(words, code, self.out / "logs"))

    def _announce(self, words: str) -> Path:
        self._count += 1
        self.console.print(f"  $ understudy {words}", highlight=False, style="dim", soft_wrap=True)
        name = "_".join(words.split()[:2]).replace("/", "_")
        return self.out / "logs" / f"{self._count:02d}_{name}.log"

    def rows(self) -> list[dict[str, str]]:
        """Every measured success rate, with its Wilson interval; no rate is rounded up, no interval narrowed."""
        return [
            {
                "policy": m.what,
                "physics": m.suite,
                "successes": f"{m.successes}/{m.episodes}",
                "rate": percent(m.rate),
                "95% interval": percent_interval(m.low, m.high),
            }
            for m in self.measured
        ]

    def table(self) -> Table:
        """The rows, for the terminal."""
        rows = self.rows()
        table = Table(title="Success on seeds not trained on")
        for column in rows[0]:
            table.add_column(column, justify="left" if column in ("policy", "physics") else "right")
        for row in rows:
            table.add_row(*row.values())
        return table


def _line(words: str) -> list[str]:
    return [sys.executable, "-m", "understudy", *words.split()]


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", **(extra or {})}


def _failure(words: str, code: int, log: Path) -> str:
    last = ""
    if log.is_file():
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        last = f" It said: {lines[-1].strip()}" if lines else ""
    return f"`understudy {words}` ended with {code}; its output is in {log}.{last}"


def _wait_for(process: subprocess.Popen[bytes], log: Path, ready: str, words: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while ready not in log.read_text(errors="replace"):
        if process.poll() is not None:
            raise StepFailed(_failure(words, process.returncode, log))
        if time.monotonic() > deadline:
            raise StepFailed(f"`understudy {words}` was not ready after {READY_TIMEOUT_S:.0f} s; see {log}.")
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt, and insist if it does not listen."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
