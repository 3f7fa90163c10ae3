"""How late a session's commands are, in simulation at 50 Hz while a take is recorded, without a page and with one open.

The page is in a browser on this machine, and draws the scene from two sides. Both ways take turns, so that what else
the machine does falls on both.

python -m understudy.benchmarks.capture_page --seconds 60
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.benchmarks.capture_latency import TimedDevice, move
from understudy.benchmarks.capture_robot import TICK_HZ
from understudy.capture.console.config import ConsoleConfig
from understudy.capture.console.server import serve
from understudy.capture.session import Session, SessionConfig
from understudy.capture.session_loop import LoopConfig, SessionLoop
from understudy.datasets.store import Dataset
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.arm import Command
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.tasks.task import make_task
from understudy.errors import InputError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
SETTLE_S = 5.0
"""Until a browser has opened, and the process that draws has loaded its scene."""
ROUNDS = 3


class PunctualArm(SimArm):
    """Notes how long after it was due each command came."""

    late_s: list[float]
    _began_ns = 0

    def send(self, command: Command) -> Command:
        """See `Arm`."""
        sent = super().send(command)
        # what the clock gives up when it falls behind is late all the same: so the beginning before this tick counts
        self.late_s.append((time.monotonic_ns() - self._began_ns - self.clock.now_ns()) * 1e-9)
        self._began_ns = self.clock.paced_from_ns
        return sent


class WatchedLoop(SessionLoop):
    """Counts the pictures that it was asked for."""

    asked = 0

    def picture(self, camera: str) -> NDArray[np.uint8] | None:
        """See `SessionLoop`."""
        self.asked += 1
        return super().picture(camera)


def measure(seconds: float, seed: int, browser: str) -> list[dict[str, Any]]:
    """Record takes without and with a page, `seconds` of each: rows of ms."""
    robot, task = load_robot("panda").model_copy(update={"rate_hz": TICK_HZ}), make_task("pick_place")
    arm = PunctualArm(robot, task.objects, realtime=True)
    arm.late_s = []
    env = ArmEnv(Guard(arm), task)
    device = TimedDevice(env.control.actions.spec, robot.period_s)
    stopped = threading.Event()
    late: dict[bool, list[float]] = {False: [], True: []}
    pictures = 0
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as scratch:
        dataset = Dataset.create(Path(scratch) / "demos", robot=robot.name, task=task.name)
        session = Session(env, device, dataset, SessionConfig(max_s=2 * seconds + 60, stop_on_success=False))
        loop = WatchedLoop(session, config=LoopConfig(auto_prepare=False))
        hand = threading.Thread(target=move, args=(device, stopped, np.random.default_rng(seed)))
        hand.start()
        try:
            with serve(loop, device, ConsoleConfig(port=0)) as url:
                loop.start()
                for opened in (False, True) * ROUNDS:
                    with page(browser, url) if opened else contextlib.nullcontext():
                        before = loop.asked
                        late[opened] += take(loop, arm, seconds / ROUNDS)
                        pictures += loop.asked - before
        finally:
            loop.close()
            stopped.set()
            hand.join()
            env.close()
    if pictures == 0:
        raise InputError(f"The page in {browser} asked for no picture: nothing was measured.")
    return [row("no page", late[False]), row("a page open", late[True])]


def take(loop: SessionLoop, arm: PunctualArm, seconds: float) -> list[float]:
    """Record a take and drop it; how late each of its commands was, s."""
    loop.ask("prepare", timeout_s=30.0)
    loop.ask("start", "anyway")
    time.sleep(SETTLE_S)
    first = len(arm.late_s)
    time.sleep(seconds)
    late = arm.late_s[first:]
    loop.ask("stop")
    loop.ask("drop")
    return late


@contextlib.contextmanager
def page(browser: str, url: str) -> Iterator[None]:
    """The console in a browser with no window."""
    with tempfile.TemporaryDirectory(prefix="understudy-bench-", ignore_cleanup_errors=True) as profile:
        started = subprocess.Popen(
            [browser, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", "--window-size=1280,800", url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            started.terminate()
            started.wait()


def row(what: str, late_s: list[float]) -> dict[str, Any]:
    """Of how late commands were."""
    late_ms = 1e3 * np.array(late_s)
    p50, p99 = np.percentile(late_ms, [50, 99])
    told = {"p50 ms": p50, "p99 ms": p99, "at most ms": late_ms.max(), "over 10 ms, %": 100 * (late_ms > 10).mean()}
    return {"what": what, "commands": len(late_ms), **{name: round(float(value), 2) for name, value in told.items()}}


def main() -> None:
    """Measure and print, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"There is no browser on PATH to open a page in: none of {', '.join(BROWSERS)}.")
    print(json.dumps(measure(options.seconds, options.seed, browser), indent=1))


if __name__ == "__main__":
    main()
