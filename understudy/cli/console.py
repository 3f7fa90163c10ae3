"""`understudy console`: the web page at which an operator records, looks through what was recorded, and judges it.

This module owns the command's options and what is printed; the session is `capture/session_loop.py`'s, the page
`capture/console/`'s.
"""

from __future__ import annotations

import getpass
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from understudy.capture.console.config import LOOPBACK, PORT, ConsoleConfig
from understudy.capture.devices.shaping import ShapingConfig
from understudy.cli.options import require_seed
from understudy.cli.signals import noted_signals
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import load_robot
from understudy.envs.randomization import load_randomization
from understudy.errors import InputError

if TYPE_CHECKING:
    from understudy.capture.devices.device import Device
    from understudy.capture.session_loop import SessionLoop
    from understudy.envs.arm_env import ArmEnv

__all__ = ["Console", "attend"]


@dataclass(frozen=True)
class Console:
    """Record demonstrations of a task from a web page, on the simulated arm.

    Keys, mouse, touch or a gamepad at the page move the arm; its buttons prepare, start, stop, keep and drop takes. One
    page is in control, others watch. The dataset is continued if it exists. Leaves with 0 when the dataset holds as
    many episodes as asked for, else with 1. Ctrl-C ends it; a take in hand is there again the next time.

    Example:
        understudy console lift --episodes 10 --out demos/lift
        understudy console lift --out demos/lift --host 0.0.0.0
    """

    task: tyro.conf.Positional[str]
    """What is demonstrated: drawer, insert, lift, pick_place, push, reach or stack."""
    out: Path
    """The dataset's folder."""
    robot: str = "panda"
    """A shipped robot, or the path of a robot's YAML file."""
    episodes: Annotated[int, tyro.conf.arg(metavar="N")] = 50
    """How many episodes the dataset shall hold at the end."""
    operator: str = ""
    """Who demonstrates; by default the user's name."""
    countdown_s: float = 3.0
    """Seconds from start until recording begins."""
    max_seconds: float = 60.0
    """Longest take, s."""
    speed: float = ShapingConfig.speed
    """Share of the largest step that a key or full deflection asks for, above 0 and at most 1."""
    hold_to_move: bool = False
    """A gamepad moves the arm only while its left shoulder button is pressed."""
    randomize: str = "none"
    """Physics of the simulated arm: none, mild, default, hard, or a YAML file."""
    seed: int = 0
    """Seed of the first episode; the following count up from it."""
    host: str = LOOPBACK
    """Address to listen on. With any but this machine's own, such as 0.0.0.0 for a tablet in the same network, the page
    asks for a token, which is printed with the address."""
    port: int = PORT
    """Port to listen on; 0 takes any that is free."""
    token: str = ""
    """The token that pages must know, at least 16 letters and digits; by default one is made up where it is needed."""

    def run(self) -> int:
        served = ConsoleConfig(host=self.host, port=self.port, token=self.token, robot=self._robot_file())
        self._require_numbers()
        with noted_signals() as asked:  # from the first import on
            from understudy.envs.make import make_env  # pybullet

            randomization = load_randomization(self.randomize)
            env = make_env(self.task, load_robot(self.robot), randomization=randomization, realtime=True)
            try:
                return self._record(env, served, asked.is_set)
            finally:
                env.close()

    def _record(self, env: ArmEnv, served: ConsoleConfig, stop: Callable[[], bool]) -> int:
        from understudy.capture.devices.make import DeviceOptions, make_device
        from understudy.capture.session import Session, SessionConfig
        from understudy.capture.session_loop import LoopConfig, SessionLoop, fresh_seeds

        control = env.control
        device = make_device(
            "browser", spec=control.actions.spec, robot=control.robot, clock=control.arm.clock,
            period_s=control.robot.period_s, options=DeviceOptions(speed=self.speed, hold_to_move=self.hold_to_move),
        )  # fmt: skip
        dataset = Dataset.open_or_create(
            self.out, robot=control.robot.name, task=env.task.name, env_kwargs={"randomization": self.randomize}
        )
        session = Session(env, device, dataset, SessionConfig(self.operator or _user(), self.max_seconds))
        config = LoopConfig(aim=self.episodes, countdown_s=self.countdown_s, resume_takes=True)
        loop = SessionLoop(session, config=config, seeds=fresh_seeds(dataset, self.seed))
        attend(loop, device, served, stop)
        total, takes = len(dataset), len(dataset.takes())
        waiting = f"; {takes} takes wait for the next session" if takes else ""
        print(
            f"{dataset.path}: {total} of {self.episodes} episodes{waiting}. "
            f"Next: understudy dataset check {dataset.path}"
        )
        return 0 if total >= self.episodes else 1

    def _robot_file(self) -> str:
        return self.robot if self.robot.endswith((".yaml", ".yml")) else ""

    def _require_numbers(self) -> None:
        if self.episodes < 1:
            raise InputError(f"--episodes must be at least 1, got {self.episodes}.")
        require_seed(self.seed)
        if not (math.isfinite(self.max_seconds) and self.max_seconds > 0):
            raise InputError(f"--max-seconds must be a positive number of seconds, got {self.max_seconds}.")
        if not (math.isfinite(self.countdown_s) and self.countdown_s >= 0):
            raise InputError(f"--countdown-s must be a number of seconds, at least 0, got {self.countdown_s}.")
        ShapingConfig(speed=self.speed)


def attend(loop: SessionLoop, device: Device | None, config: ConsoleConfig, stop: Callable[[], bool]) -> None:
    """Drive a session in this thread with the console beside it, and tell where it is.

    Args:
        loop: the session.
        device: its device; the page moves it if it is the browser's.
        config: where the console listens.
        stop: whether to end; asked once a tick.

    Raises:
        InputError: the console cannot listen there, or needs a package.
    """
    from understudy.capture.console.server import serve

    with serve(loop, device, config) as address:
        print(f"The console is at {address} (Ctrl-C ends it)", file=sys.stderr, flush=True)
        if not config.local:
            print("Whoever knows this address can move the arm, and what is sent is not encrypted.", file=sys.stderr)
        loop.run(stop)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
