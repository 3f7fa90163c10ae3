"""`understudy record`: demonstrations of a task into a dataset, by a script, by hand, or by watching a robot.

This module owns the loops around a session: which seed comes next, when to keep a take, and what is shown.
"""

from __future__ import annotations

import getpass
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from understudy.cli.options import require_seed
from understudy.cli.signals import noted_signals
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import known_robots, load_robot
from understudy.envs.randomization import load_randomization
from understudy.envs.tasks.task import make_task
from understudy.errors import InputError, UnderstudyError

if TYPE_CHECKING:
    from understudy.capture.devices.keyboard import KeyboardDevice
    from understudy.capture.devices.scripted import ScriptedDevice
    from understudy.capture.session import Session
    from understudy.envs.arm_env import ArmEnv
    from understudy.envs.arms.robot import RobotDescription
    from understudy.envs.tasks.task import Task

__all__ = ["Record"]

Stop = Callable[[], bool]
"""Whether Ctrl-C or SIGTERM has come."""

ATTEMPTS_PER_EPISODE = 4
"""A scripted operator that fails more often than this (and 10 more) is given up on."""


@dataclass(frozen=True)
class Record:
    """Record demonstrations of a task into a dataset, until it holds as many episodes as asked for.

    A dataset that exists is continued. In simulation a script or the keyboard drives the built-in arm; with
    --watch the arm is driven by somebody else over ROS 2, and each episode that is announced is recorded.

    Example:
        understudy record lift --device scripted --episodes 50 --out demos/lift
        understudy record lift --device keyboard --episodes 10 --out demos/by-hand
        understudy record lift --watch --robot panda --episodes 10 --out demos/watched
    """

    task: tyro.conf.Positional[str]
    """What is demonstrated: drawer, insert, lift, pick_place, push, reach or stack."""
    out: Path
    """The dataset's folder."""
    device: Literal["scripted", "keyboard"] = "scripted"
    """Who drives the simulated arm."""
    robot: str = "panda"
    """A shipped robot, or the path of a robot's YAML file."""
    episodes: Annotated[int, tyro.conf.arg(metavar="N")] = 50
    """How many episodes the dataset shall hold at the end."""
    seed: int = 0
    """Seed of the first episode; the following count up from it."""
    keep_failures: bool = False
    """Also keep takes that did not succeed, marked as failed. A person at the keyboard decides take by take, and
    watched episodes are all kept."""
    randomize: str = "none"
    """Physics of the simulated arm: none, mild, default, hard, or a YAML file."""
    operator: str = ""
    """Who demonstrates; by default the user's name, or "scripted"."""
    max_seconds: float | None = None
    """Longest take, s; by default the task's horizon for a script, 60 s for a person, 300 s when watching."""
    watch: bool = False
    """Watch a robot over ROS 2 instead of driving the simulated one."""
    json: bool = False
    """Print one JSON object at the end, for programs."""

    def run(self) -> int:
        self._require_numbers()
        with noted_signals() as asked:  # from the first import on
            if not self.watch:
                self._require_arm()
            robot, task = load_robot(self.robot), make_task(self.task)
            if self.device == "scripted" and not self.watch and robot.name not in task.robots:
                _require_solvable(robot, task)
            randomization = load_randomization(self.randomize)
            if self.watch:
                return self._watch(robot, task, asked.is_set)
            from understudy.envs.make import make_env  # pybullet: not needed for watching

            env = make_env(self.task, robot, randomization=randomization, realtime=self.device == "keyboard")
            by = self._by_script if self.device == "scripted" else self._by_hand
            try:
                return by(env, asked.is_set)
            finally:
                env.close()

    def _require_arm(self) -> None:
        from understudy.envs.foreign_env import FOREIGN_WAYS, is_foreign  # gymnasium: not needed for watching

        if is_foreign(self.task):
            raise InputError(
                f"{self.task!r} is an environment of Gymnasium's own: no script of ours solves it, and it has no arm "
                f"that a keyboard could drive. {FOREIGN_WAYS}"
            )

    def _require_numbers(self) -> None:
        if self.episodes < 1:
            raise InputError(f"--episodes must be at least 1, got {self.episodes}.")
        require_seed(self.seed)
        if self.max_seconds is not None and not (math.isfinite(self.max_seconds) and self.max_seconds > 0):
            raise InputError(f"--max-seconds must be a positive number of seconds, got {self.max_seconds}.")

    def _dataset(self, robot: RobotDescription, task: Task) -> Dataset:
        """The dataset to add to. Opened last: what cannot be recorded leaves no empty folder behind."""
        dataset = Dataset.open_or_create(
            self.out, robot=robot.name, task=task.name, env_kwargs={"randomization": self.randomize}
        )
        _report_recovery(dataset)
        return dataset

    def _watch(self, robot: RobotDescription, task: Task, stop: Stop) -> int:
        import understudy.capture.ros_streams  # noqa: F401 - a missing extra is told before a dataset is made
        from understudy.capture.topics import require_topics
        from understudy.capture.watch import WatchConfig, watch

        require_topics(robot, task)
        config = WatchConfig(operator=self.operator or _user(), max_s=self.max_seconds or WatchConfig.max_s)
        dataset = self._dataset(robot, task)
        before = len(dataset)
        if before < self.episodes:
            watch(robot, task, dataset, self.episodes, config, report=_say, stop=stop)
            if stop():
                _say("stopped")
        return self._close(dataset, before, 0)

    def _session(self, env: ArmEnv, device: object, dataset: Dataset) -> Session:
        from understudy.capture.session import Session, SessionConfig

        scripted = self.device == "scripted"
        horizon_s = env.task.horizon / env.control.robot.rate_hz
        longest = self.max_seconds or (horizon_s if scripted else 60.0)
        operator = self.operator or ("scripted" if scripted else _user())
        return Session(env, device, dataset, SessionConfig(operator=operator, max_s=longest))  # type: ignore[arg-type]

    def _by_script(self, env: ArmEnv, stop: Stop) -> int:
        from understudy.capture.devices.scripted import ScriptedDevice

        device = ScriptedDevice(self.task, env.control.robot, env.control.actions.spec, None)
        dataset = self._dataset(env.control.robot, env.task)
        before = len(dataset)
        failed = self._record_scripted(env, device, dataset, stop) if before < self.episodes else 0
        return self._close(dataset, before, failed)

    def _by_hand(self, env: ArmEnv, stop: Stop) -> int:
        from understudy.capture.devices.keyboard import KeyboardDevice

        device = KeyboardDevice(env.control.actions.spec, env.control.arm.clock)
        try:
            dataset = self._dataset(env.control.robot, env.task)
            before = len(dataset)
            dropped = self._record_by_hand(env, device, dataset, stop) if before < self.episodes else 0
        finally:
            device.close()
        return self._close(dataset, before, dropped)

    def _record_scripted(self, env: ArmEnv, device: ScriptedDevice, dataset: Dataset, stop: Stop) -> int:
        """Record scripted takes until there are enough; returns how many failed and were not kept."""
        session = self._session(env, device, dataset)
        failed = 0
        try:
            with _progress(self.json) as progress:
                bar = progress.add_task(f"recording {self.task}", total=self.episodes, completed=len(dataset))
                for seed in _seeds(dataset, self.seed):
                    device.reseed(np.random.default_rng([seed, 1]))
                    session.prepare(seed=seed)
                    if _play(session, stop) or self.keep_failures:
                        session.keep()
                        progress.advance(bar)
                    else:
                        session.drop()
                        failed += 1
                    if len(dataset) >= self.episodes:
                        return failed
                    self._require_progress(env, len(session.kept), failed)
        finally:
            session.close()
        return failed

    def _require_progress(self, env: ArmEnv, kept: int, failed: int) -> None:
        if failed > ATTEMPTS_PER_EPISODE * (kept + 1) + 10:
            raise UnderstudyError(
                f"The scripted operator solved {kept} of {kept + failed} takes of {self.task!r} here, too few to go "
                f"on; {', or '.join(self._remedies(env))}."
            )

    def _remedies(self, env: ArmEnv) -> list[str]:
        """What may help where the script fails."""
        remedies = [] if self.randomize == "none" else ["use milder --randomize"]
        if self.max_seconds is not None:
            remedies.append(f"allow longer takes than --max-seconds {self.max_seconds:g}")
        if env.control.robot.name not in env.task.robots:
            remedies.append(
                f"see what doctor --robot {self.robot} says of the robot (the script was made for "
                f"{', '.join(env.task.robots)}), record with --device keyboard"
            )
        return [*remedies, "keep what fails with --keep-failures"]

    def _record_by_hand(self, env: ArmEnv, device: KeyboardDevice, dataset: Dataset, stop: Stop) -> int:
        """Let a person at the keyboard record until there are enough; returns how many takes were dropped."""
        from understudy.capture.devices.keyboard import HELP

        session = self._session(env, device, dataset)
        dropped = 0
        _say(HELP)
        try:
            for seed in _seeds(dataset, self.seed):
                session.prepare(seed=seed)
                outcome = _take_by_hand(session, device, env, stop)
                dropped += outcome == "dropped"
                _say(f"{outcome}; the dataset holds {len(dataset)} of {self.episodes}")
                if outcome == "quit" or len(dataset) >= self.episodes:
                    break
        finally:
            session.close()
        return dropped

    def _close(self, dataset: Dataset, before: int, dropped: int) -> int:
        """The closing line."""
        total, takes = len(dataset), dataset.takes()
        done = total >= self.episodes
        if self.json:
            row = {"path": str(dataset.path), "recorded": total - before, "dropped": dropped, "episodes": total}
            print(json.dumps({**row, "asked": self.episodes, "takes": list(takes), "done": done}))
            return 0 if done else 1
        waiting = f", {len(takes)} takes wait in {dataset.path / 'recording'}" if takes else ""
        print(
            f"{dataset.path}: {total} episodes of {dataset.task} on {dataset.robot} "
            f"({total - before} new, {dropped} not kept{waiting}). Next: understudy dataset check {dataset.path}"
        )
        return 0 if done else 1


def _require_solvable(robot: RobotDescription, task: Task) -> None:
    """Refuse a shipped robot that the script is known not to manage; a user's own may try."""
    if "gripper_position" in task.observation_keys:
        robot.require_gripper()
    if robot.name in known_robots():
        raise InputError(
            f"The scripted operator of {task.name!r} does not manage it on {robot.name!r}; "
            f"it does on {', '.join(task.robots)}. Other devices, and robots of your own, may try."
        )


def _play(session: Session, stop: Stop) -> bool:
    """Record one take from `ready` until the session stops it; returns whether it succeeded."""
    session.start()
    while session.state == "recording":
        _leave_if(stop)
        session.tick()
    return bool(session.success)


def _take_by_hand(session: Session, device: KeyboardDevice, env: ArmEnv, stop: Stop) -> str:
    """One prepared take, driven by keys: returns "kept", "dropped" or "quit"."""
    period_ns = round(env.control.robot.period_s * 1e9)
    _say("ready: enter starts")
    while session.state != "idle":
        _leave_if(stop)
        if session.state == "recording":
            tick = session.tick()
            if tick.stopped:
                verdict = "success" if session.success else "no success"
                _say(f"stopped ({tick.stopped}) after {session.steps} steps, {verdict}: y keeps, n drops")
            continue
        # Nothing moves between takes: only keys are read, at the control rate.
        env.control.arm.clock.sleep_until(env.control.arm.clock.now_ns() + period_ns)
        for event in session.poll():
            if event in ("quit", "lost"):
                return "quit"
            if event == "start" and session.state == "ready":
                session.start()
            elif event in ("success", "failure") and session.state == "review":
                session.mark(event == "success")
                _say(f"marked as {event}")
            elif event == "keep" and session.state == "review":
                session.keep()
                return "kept"
            elif event == "drop" and session.state == "review":
                session.drop()
                return "dropped"
            elif event == "undo" and session.state == "ready" and session.kept:
                session.drop()
                _say(f"took back {session.undo()}")
                return "undone"
    return "dropped"


def _leave_if(stop: Stop) -> None:
    """Leave between two ticks, where nothing is half done. The take in hand stays recoverable."""
    if stop():
        raise KeyboardInterrupt


def _seeds(dataset: Dataset, first: int) -> Iterator[int]:
    """Seeds that no episode of the dataset used and no other recorder has claimed, from `first` on."""
    used = {dataset.summary(id).info.seed for id in dataset.select(unreadable={})}
    seed = max([first, *(known + 1 for known in used if known is not None and known >= first)])
    while True:
        seed = dataset.claim_seed(seed)
        yield seed
        seed += 1


def _report_recovery(dataset: Dataset) -> None:
    found = dataset.recovery
    if found.takes:
        _say(
            f"Recovered {len(found.takes)} interrupted takes into {dataset.path / 'recording'}: "
            f"{', '.join(found.takes)}. Keep or drop them with: understudy dataset repair {dataset.path}"
        )
    for reason in found.unreadable.values():
        _say(f"warning: {reason}")


def _progress(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
