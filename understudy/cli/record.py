"""`understudy record`: demonstrations of a task into a dataset, by a script, by a person, or by watching a robot.

This module owns which arm, device and dataset come together, and the loop of a script; a person's session is driven by
`capture/session_loop.py` and shown by `session_terminal.py`.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import tyro

from understudy.capture.devices.make import (
    AUTOMATIC,
    DEVICES,
    UNCOMMANDED,
    WATCHED,
    DeviceOptions,
    make_device,
    require_used,
)
from understudy.cli.options import require_seed
from understudy.cli.signals import noted_signals
from understudy.datasets.index import INDEX
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import known_robots, load_robot
from understudy.envs.randomization import load_randomization
from understudy.envs.tasks.free import task_on
from understudy.envs.tasks.task import make_task
from understudy.errors import InputError, UnderstudyError, unknown_name

if TYPE_CHECKING:
    from understudy.capture.console.config import ConsoleConfig
    from understudy.capture.devices.device import Device
    from understudy.capture.hardware import ArmStage
    from understudy.capture.session import Session, Stage
    from understudy.capture.session_loop import SessionLoop
    from understudy.envs.arms.robot import RobotDescription
    from understudy.envs.tasks.task import Task

__all__ = ["Record"]

Stop = Callable[[], bool]
"""Whether Ctrl-C, SIGTERM or SIGHUP has come."""

COUNTDOWN_S = 3.0
"""A person has this long from the start key to the first step, unless they say otherwise."""
ATTEND_S = 2.0
"""An arm that is driven from a page holds when no page has been heard for this long."""
LONGEST_S = 60.0
"""Longest take of a person, s."""


@dataclass(frozen=True)
class Ended:
    """What a session leaves beside the episodes it kept."""

    dropped: int = 0
    """Takes that were dropped."""
    left: tuple[str, ...] = ()
    """Ids of takes that nobody has decided on."""


@dataclass(frozen=True)
class Record:
    """Record demonstrations of a task into a dataset, until it holds as many episodes as asked for.

    A dataset that exists is continued; takes that an interruption left are reviewed first. In simulation a script or a
    person drives the built-in arm; with --arm ros a person drives a real one, and with --watch the arm is driven by
    somebody else over ROS 2, and each episode that is announced is recorded.

    Example:
        understudy record lift --device scripted --episodes 50 --out demos/lift
        understudy record lift --device keyboard --episodes 10 --out demos/by-hand
        understudy record lift --device browser --episodes 10 --out demos/lift
        understudy record lift --device gamepad --arm ros --robot franka.yaml --out demos/real
        understudy record lift --policy lift.skill --device gamepad --episodes 10 --out demos/corrected
        understudy record lift --watch --robot panda --episodes 10 --out demos/watched
    """

    task: tyro.conf.Positional[str]
    """What is demonstrated: drawer, insert, lift, pick_place, push, reach or stack; on a real arm any name."""
    out: Path
    """The dataset's folder."""
    device: Annotated[str, tyro.conf.arg(metavar="|".join(DEVICES))] = "scripted"
    """Who drives the arm."""
    arm: Literal["sim", "ros", "watched"] = "sim"
    """sim: the built-in simulator; ros: the arm behind the topics of the robot's file; watched: that arm, which
    somebody else drives, while you say when takes begin and end."""
    robot: str = "panda"
    """A shipped robot, or the path of a robot's YAML file."""
    episodes: Annotated[int, tyro.conf.arg(metavar="N")] = 50
    """How many episodes the dataset shall hold at the end."""
    seed: int = 0
    """Seed of the first episode; the following count up from it."""
    keep_failures: bool = False
    """Also keep takes of a script that did not succeed or fail the check. A person decides take by take, and watched
    episodes are all kept."""
    randomize: str = "none"
    """Physics of the simulated arm: none, mild, default, hard, or a YAML file."""
    operator: str = ""
    """Who demonstrates; by default the user's name, or the script's."""
    max_seconds: float | None = None
    """Longest take, s; by default the task's horizon for a script, 60 s for a person, 300 s when watching."""
    countdown: float | None = None
    """From the wish to start until recording begins, s; by default 3 for a person."""
    cameras: tuple[str, ...] | None = None
    """Cameras of the robot's file that are recorded; by default none in simulation, and all of a real arm."""
    policy: Path | None = None
    """A .skill file or the folder of a run: it drives until the operator takes over with --device, by moving it or by
    intervening, and again when they release; steps that the operator drove are marked."""
    options: tyro.conf.OmitArgPrefixes[DeviceOptions] = field(default_factory=DeviceOptions)
    native: bool = True
    """--arm ros, watched: also keep every sample at its own rate, beside the steps."""
    every_frame: tuple[str, ...] = ()
    """--arm ros, watched: cameras of which every frame is kept, as it came, in a file beside the episode."""
    reset_service: str | None = None
    """--arm ros: std_srvs/Trigger that brings arm and scene to the start, instead of the robot file's."""
    sim_time: bool = False
    """--arm ros, watched: the arm's clock is the topic /clock."""
    services: bool = False
    """Also offer the session as ROS 2 services, /understudy/session/start and so on."""
    console: bool = False
    """Also serve the web page, whatever the device; --device browser does so anyway."""
    host: str = "127.0.0.1"
    """Where the page is served; any other address than this machine's own asks for a token."""
    port: int = 8420
    """0 takes any that is free."""
    token: str = ""
    """What a page must know; empty makes one up where one is needed."""
    watch: bool = False
    """Watch a robot over ROS 2 and record the episodes that are announced there."""
    json: bool = False
    """Print one JSON object at the end, for programs."""

    def run(self) -> int:
        self._require_numbers()
        with noted_signals() as asked:  # from the first import on
            if not self.watch:
                self._require_arm()
            require_used(WATCHED if self.watch or self.arm == "watched" else self.device, self.options)
            robot = load_robot(self.robot)
            task = make_task(self.task) if self.arm == "sim" else task_on(self.task, robot)
            if self.watch:
                return self._watch(robot, task, asked.is_set)
            if self.device == "scripted" and robot.name not in task.robots:
                _require_solvable(robot, task)
            with self._stage(robot, task) as stage:
                if self.device in AUTOMATIC and self.arm != "watched":
                    return self._by_script(stage, asked.is_set)
                return self._by_hand(stage, asked.is_set)

    def _require_arm(self) -> None:
        from understudy.envs.foreign_env import FOREIGN_WAYS, is_foreign  # gymnasium: not needed for watching

        if self.device not in DEVICES:
            raise unknown_name("device", self.device, DEVICES)
        if is_foreign(self.task):
            raise InputError(
                f"{self.task!r} is an environment of Gymnasium's own: no script of ours solves it, and it has no arm "
                f"that a keyboard could drive. {FOREIGN_WAYS}"
            )
        if self.policy is not None and (self.device in (*AUTOMATIC, *UNCOMMANDED) or self.arm == "watched"):
            raise InputError(
                "--policy needs somebody who can take over: a --device that a person holds (browser, keyboard, "
                "gamepad, spacemouse, joy or leader), and an arm that we command (--arm sim or ros)."
            )
        if self.device in UNCOMMANDED and self.arm == "sim":
            raise InputError(
                f"--device {self.device} records an arm that a person moves by hand, and a simulated one cannot be "
                "taken by the hand; add --arm ros and --robot FILE."
            )

    def _require_numbers(self) -> None:
        if self.episodes < 1:
            raise InputError(f"--episodes must be at least 1, got {self.episodes}.")
        require_seed(self.seed)
        if self.max_seconds is not None and not (math.isfinite(self.max_seconds) and self.max_seconds > 0):
            raise InputError(f"--max-seconds must be a positive number of seconds, got {self.max_seconds}.")
        if self.countdown is not None and not (math.isfinite(self.countdown) and self.countdown >= 0):
            raise InputError(f"--countdown must be a number of seconds, at least 0, got {self.countdown}.")
        if self.console or self.device == "browser":
            from understudy.capture.console.server import require_packages

            self._served()
            require_packages()

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
        config = WatchConfig(
            operator=self.operator or _user(),
            max_s=self.max_seconds or WatchConfig.max_s,
            every_frame=self.every_frame,
            sim_time=self.sim_time,
        )
        dataset = self._dataset(robot, task)
        before = len(dataset)
        if before < self.episodes:
            watch(robot, task, dataset, self.episodes, config, report=_say, stop=stop)
            if stop():
                _say("stopped")
        return self._close(dataset, before, Ended())

    # the arm and the device

    @contextlib.contextmanager
    def _stage(self, robot: RobotDescription, task: Task) -> Iterator[Stage]:
        """The arm under control, closed at the end."""
        stage: Any
        if self.arm == "sim":
            from understudy.envs.make import make_env  # pybullet

            stage = make_env(
                self.task,
                robot,
                randomization=load_randomization(self.randomize),
                cameras=self.cameras or (),
                realtime=self.device not in AUTOMATIC,
            )
        else:
            stage = self._real_stage(robot, task)
        try:
            yield stage
        finally:
            stage.close()

    def _real_stage(self, robot: RobotDescription, task: Task) -> Stage:
        from understudy.capture.hardware import HardwareConfig, make_stage
        from understudy.capture.watch_stage import make_watch_stage

        config = HardwareConfig(
            cameras=self.cameras,
            reset_service=self.reset_service,
            native=self.native,
            every_frame=self.every_frame,
            sim_time=self.sim_time,
            observes=self._observed_before(),
        )
        if self.arm == "watched":
            stage: ArmStage = make_watch_stage(robot, task, config)
        else:
            stage = make_stage(robot, task, config, by_hand=self.device in UNCOMMANDED)
        if stage.notice:
            _say(stage.notice)
        return stage

    def _observed_before(self) -> tuple[str, ...] | None:
        """What the episodes observe that this session continues; None where there are none."""
        if not (self.out / INDEX).is_file():
            return None
        dataset = Dataset.open(self.out, recover=False)
        return tuple(dataset.summary(dataset.ids[-1]).keys) if len(dataset) else None

    def _device(self, stage: Stage) -> Device:
        if self.arm == "watched":
            from understudy.capture.watch_stage import WatchedDevice

            return WatchedDevice(stage.control.actions.spec)
        control = stage.control
        device = make_device(
            self.device,
            spec=control.actions.spec,
            robot=control.robot,
            clock=control.arm.clock,
            period_s=control.robot.period_s,
            task=self.task,
            options=self.options,
        )
        if self.policy is None:
            return device
        from understudy.capture.takeover import TakeoverDevice
        from understudy.cli.driving_policy import driving_policy  # what loads a skill: only where there is one

        try:
            return TakeoverDevice(driving_policy(self.policy, control, self.task), device, control.actions.spec)
        except UnderstudyError:
            device.close()
            raise

    def _session(self, stage: Stage, device: Device, dataset: Dataset) -> Session:
        from understudy.capture.session import Session, SessionConfig

        automatic = device.name in AUTOMATIC
        horizon_s = stage.task.horizon / stage.control.robot.rate_hz
        longest = self.max_seconds or (horizon_s if automatic else LONGEST_S)
        operator = self.operator or (device.name if automatic else _user())
        return Session(stage, device, dataset, SessionConfig(operator=operator, max_s=longest))

    # a script

    def _by_script(self, stage: Stage, stop: Stop) -> int:
        device = self._device(stage)
        dataset = self._dataset(stage.control.robot, stage.task)
        before = len(dataset)
        ended = self._record_scripted(stage, device, dataset, stop) if before < self.episodes else Ended()
        return self._close(dataset, before, ended)

    def _record_scripted(self, stage: Stage, device: Device, dataset: Dataset, stop: Stop) -> Ended:
        """Record takes of a script until there are enough; those that fail are not kept."""
        from understudy.capture.session_loop import LoopConfig, SessionLoop, fresh_seeds
        from understudy.cli.record_script import record_takes

        loop = SessionLoop(
            self._session(stage, device, dataset),
            config=LoopConfig(countdown_s=self.countdown or 0.0, auto_prepare=False, view_hz=1.0),
            seeds=fresh_seeds(dataset, self.seed),
        )
        try:
            failed = record_takes(
                loop,
                self.episodes,
                keep_failures=self.keep_failures,
                stop=stop,
                quiet=self.json,
                remedies=lambda: self._remedies(stage),
            )
        finally:
            loop.close()
        return Ended(failed, tuple(loop.session.unfinished))

    def _remedies(self, stage: Stage) -> list[str]:
        """What may help where the script fails."""
        remedies = [] if self.randomize == "none" else ["use milder --randomize"]
        if self.max_seconds is not None:
            remedies.append(f"allow longer takes than --max-seconds {self.max_seconds:g}")
        if stage.control.robot.name not in stage.task.robots:
            remedies.append(
                f"see what doctor --robot {self.robot} says of the robot (the script was made for "
                f"{', '.join(stage.task.robots)}), record with --device keyboard"
            )
        return [*remedies, "keep what fails with --keep-failures"]

    # a person

    def _by_hand(self, stage: Stage, stop: Stop) -> int:
        device = self._device(stage)
        try:
            dataset = self._dataset(stage.control.robot, stage.task)
            before = len(dataset)
            # a dataset that is full is looked at on the page, and what was left is decided on
            wanted = self._paged or before < self.episodes or bool(dataset.takes())
            ended = self._record_by_hand(stage, device, dataset, stop) if wanted else Ended()
        finally:
            device.close()
        return self._close(dataset, before, ended)

    def _record_by_hand(self, stage: Stage, device: Device, dataset: Dataset, stop: Stop) -> Ended:
        """Let a person record until there are enough, by whatever front."""
        from understudy.capture.session_loop import LoopConfig, SessionLoop, fresh_seeds
        from understudy.cli.session_terminal import SessionTerminal

        config = LoopConfig(
            aim=self.episodes,
            countdown_s=COUNTDOWN_S if self.countdown is None else self.countdown,
            # a real arm that its service moves to the start does so only when somebody asks for it
            auto_prepare=self.arm != "ros" or not (self.reset_service or stage.control.robot.ros.reset_service),
            resume_takes=True,
            attend_s=self._attend_s,
        )
        loop = SessionLoop(self._session(stage, device, dataset), config=config, seeds=fresh_seeds(dataset, self.seed))
        with contextlib.ExitStack() as stack:
            stack.callback(loop.close)
            for line in filter(None, [str(getattr(device, "help", ""))]):
                _say(line)
            if self._paged:
                self._tell_where(stack.enter_context(self._page(loop, device)))
            if self.services:
                from understudy.capture.ros_services import SessionServices  # rclpy

                stack.enter_context(SessionServices(loop))
            terminal = stack.enter_context(SessionTerminal(loop, keys=self.device != "keyboard"))
            loop.run(lambda: stop() or terminal.quit.is_set() or (loop.finished and not self._paged))
        if stop():
            _say("stopped")
        return Ended(loop.dropped, tuple(loop.session.unfinished))

    @property
    def _paged(self) -> bool:
        """Whether the page is served: it stays when the last episode is there, to be looked at or taken back."""
        return self.console or self.device == "browser"

    @property
    def _attend_s(self) -> float | None:
        """How long nobody may look at the page, s; None where it does not drive the arm."""
        return ATTEND_S if self.device == "browser" and self.arm != "watched" else None

    def _tell_where(self, address: str) -> None:
        """Say where the page is."""
        from understudy.capture.console.addresses import other_addresses

        _say(f"open {address}")
        for other in other_addresses(address, self.host):
            _say(f"or   {other}")
        if not self._served().local:
            _say("Whoever knows this address can move the arm, and what is sent is not encrypted.")

    def _page(self, loop: SessionLoop, device: Device) -> contextlib.AbstractContextManager[str]:
        from understudy.capture.console.server import serve

        held = getattr(device, "operator", device)  # where a policy drives, what the operator holds
        return serve(loop, held, self._served())

    def _served(self) -> ConsoleConfig:
        from understudy.capture.console.config import ConsoleConfig

        robot = "" if self.robot in known_robots() else self.robot
        return ConsoleConfig(host=self.host, port=self.port, token=self.token, robot=robot)

    def _close(self, dataset: Dataset, before: int, ended: Ended) -> int:
        """The closing line. What was left in mid-take is finished when the dataset is opened next, and counts."""
        left = (id for id in ended.left if dataset.take_file(id).exists())
        total, takes = len(dataset), sorted({*dataset.takes(), *left})
        done = total >= self.episodes
        if self.json:
            row = {"path": str(dataset.path), "recorded": total - before, "dropped": ended.dropped, "episodes": total}
            _say(json.dumps({**row, "asked": self.episodes, "takes": takes, "done": done}), sys.stdout)
            return 0 if done else 1
        waiting = f", {len(takes)} takes wait in {dataset.path / 'recording'}" if takes else ""
        _say(
            f"{dataset.path}: {total} episodes of {dataset.task} on {dataset.robot} "
            f"({total - before} new, {ended.dropped} not kept{waiting}). Next: understudy dataset check {dataset.path}",
            sys.stdout,
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


def _report_recovery(dataset: Dataset) -> None:
    found = dataset.recovery
    if found.takes:
        _say(
            f"Recovered {len(found.takes)} interrupted takes into {dataset.path / 'recording'}: "
            f"{', '.join(found.takes)}. Keep or drop them with: understudy dataset repair {dataset.path}"
        )
    for reason in found.unreadable.values():
        _say(f"warning: {reason}")


def _say(text: str, stream: TextIO | None = None) -> None:
    """Print a line, by default to standard error; a terminal that is closed hears nothing, and ends nothing."""
    try:
        print(text, file=stream or sys.stderr, flush=True)
    except OSError as error:
        if error.errno != errno.EIO:
            raise


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
