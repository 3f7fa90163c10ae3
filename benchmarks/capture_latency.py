"""How long what an operator does takes to become a command, in simulation at 50 Hz, while a take is recorded."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from understudy.benchmarks.capture_robot import TICK_HZ
from understudy.capture.devices.browser import BrowserDevice
from understudy.capture.devices.device import DeviceReading
from understudy.capture.session import Session, SessionConfig
from understudy.datasets.align import Aligned
from understudy.datasets.store import Dataset
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.arm import Command
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.tasks.task import make_task

INPUT_HZ = 90.0
"""How often a hand moves a stick; no multiple of the control rate, so that inputs fall anywhere in a period."""


class TimedArm(SimArm):
    """Notes when each command reached the arm."""

    def send(self, command: Command) -> Command:
        """See `Arm`."""
        sent = super().send(command)
        self.sent_ns = time.monotonic_ns()
        return sent


class TimedDevice(BrowserDevice):
    """Notes when it was read, and what had been done at the sticks since it was read before."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As a `BrowserDevice`."""
        super().__init__(*arguments, **options)
        self._both = threading.Lock()  # an input and its time belong together, also for whoever reads just then
        self._since: list[int] = []
        self.read_ns = 0
        self.answered_ns: list[int] = []
        """When each input came that the last read answers."""

    def move(self, axes: Mapping[str, float]) -> None:
        """Somebody moves the sticks of a page, now."""
        with self._both:
            self._since.append(time.monotonic_ns())
            self.feed(axes, None, True)

    def read(self, aligned: Aligned) -> DeviceReading:
        """See `Device`."""
        with self._both:
            self.read_ns = time.monotonic_ns()
            self.answered_ns, self._since = self._since, []
            return super().read(aligned)


def measure_latency(seconds: float, seed: int) -> list[dict[str, Any]]:
    """Move a page's sticks at random moments and time what becomes of it: rows of ms.

    An input counts until the next command is sent. Of several in one period only the newest is in that command; the
    others count all the same, since their time had come by then too.
    """
    robot, task = load_robot("panda").model_copy(update={"rate_hz": TICK_HZ}), make_task("lift")
    arm = TimedArm(robot, task.objects, realtime=True)
    env = ArmEnv(Guard(arm), task)
    device = TimedDevice(env.control.actions.spec, robot.period_s)
    stopped = threading.Event()
    from_read: list[float] = []
    from_input: list[float] = []
    from_newest: list[float] = []
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as scratch:
        dataset = Dataset.create(Path(scratch) / "demos", robot=robot.name, task=task.name)
        session = Session(env, device, dataset, SessionConfig(max_s=2 * seconds + 10, stop_on_success=False))
        session.prepare(seed=seed)
        session.start()
        hand = threading.Thread(target=move, args=(device, stopped, np.random.default_rng(seed)))
        hand.start()
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            session.tick()
            from_read.append((arm.sent_ns - device.read_ns) * 1e-6)
            waited_ms = [(arm.sent_ns - input_ns) * 1e-6 for input_ns in device.answered_ns]
            from_input += waited_ms
            from_newest += waited_ms[-1:]
        stopped.set()
        hand.join()
        session.drop()
        session.close()
    env.close()
    return [
        _row("device input to command sent, every input", from_input, "5 and 15"),
        _row("device input to command sent, only the newest before each read", from_newest, None),
        _row("device read to command sent", from_read, None),
    ]


def move(device: TimedDevice, stopped: threading.Event, rng: np.random.Generator) -> None:
    """Move the sticks of a page until `stopped`, each time at a moment that no earlier one foretells."""
    while not stopped.wait(float(rng.exponential(1.0 / INPUT_HZ))):
        device.move({"x": float(rng.uniform(-0.3, 0.3)), "y": float(rng.uniform(-0.3, 0.3))})


def _row(what: str, values_ms: list[float], aim: str | None) -> dict[str, Any]:
    p50, p99 = np.percentile(values_ms, [50, 99])
    told = {"p50 ms": round(float(p50), 2), "p99 ms": round(float(p99), 2), "at most ms": round(max(values_ms), 2)}
    return {"what": what, "times": len(values_ms), **told, "aim, p50 and p99": aim}
