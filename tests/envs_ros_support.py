"""A domain for each module, a process that runs `understudy sim-arm`, and a driver in plain rclpy, for ROS tests."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from understudy.envs.arms.robot import RobotDescription

DOMAINS = range(10, 50)
LIMIT_S = 20.0


@contextmanager
def own_domain() -> Iterator[int]:
    """Put this process, and those it starts, on a ROS domain that no other test uses, not even of another run."""
    for domain in random.sample(DOMAINS, len(DOMAINS)):
        with (Path(tempfile.gettempdir()) / f"understudy-test-domain-{domain}").open("w") as claim:
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # in use
                continue
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("ROS_DOMAIN_ID", str(domain))
                patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
                yield domain
            return
    raise RuntimeError(f"all ROS domains of {DOMAINS} are in use")


def shared_memory_of(process: Path) -> set[Path]:
    """Fast DDS's files in shared memory that a process (its folder in /proc) has mapped or open."""
    try:
        words = set((process / "maps").read_text().split())
        words |= {str(link.readlink()) for link in (process / "fd").iterdir()}
    except OSError:  # that process has ended
        return set()
    return {Path(word) for word in words if word.startswith("/dev/shm/") and "fast" in word}


def remove_abandoned(files: set[Path]) -> None:
    """Remove those files of a killed participant that nobody else uses."""
    used = set().union(*(shared_memory_of(process) for process in Path("/proc").glob("[0-9]*")))
    for path in files - used:
        path.unlink(missing_ok=True)


class SimArmProcess:
    """`understudy sim-arm`, as a user runs it, on this process's domain; ready when made."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "understudy", "sim-arm", *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.heard: list[str] = []
        while not (self.heard and self.heard[-1].startswith("sim-arm ready: ")):
            line = self.process.stdout.readline()
            assert line, f"sim-arm ended before it was ready: {self.heard}"
            self.heard.append(line)
        self._files = shared_memory_of(Path(f"/proc/{self.process.pid}"))

    def stop(self, number: int) -> tuple[int, str]:
        """Send a signal and return the exit code and everything it printed."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, "".join(self.heard) + rest

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        remove_abandoned(self._files)


class PlainNode:
    """A node that uses nothing of ours, spun in a thread: publishes, and keeps what it hears."""

    def __init__(self, name: str) -> None:
        self.context = rclpy.Context()
        rclpy.init(args=[], context=self.context)
        self.node = rclpy.create_node(name, context=self.context)
        self.heard: dict[str, list[Any]] = {}
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._running = True
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while self._running:
            self._executor.spin_once(timeout_sec=0.05)

    def listen(self, kind: Any, topic: str, qos: Any = 10) -> list[Any]:
        kept = self.heard.setdefault(topic, [])
        self.node.create_subscription(kind, topic, kept.append, qos)
        return kept

    def close(self) -> None:
        self._running = False
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


def wait_until(condition: Callable[[], Any], what: str, seconds: float = LIMIT_S) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.005)


def joint_state(robot: RobotDescription, position: np.ndarray, *, fingers: float = 0.02, stamp_ns: int | None = None):
    """A joint state as ros2_control would publish it, stamped now."""
    message = JointState(name=list(robot.joint_names), position=[float(value) for value in position])
    message.velocity = [0.1 * index for index in range(len(position))]
    message.effort = [0.0] * len(position)
    if robot.gripper is not None:
        message.name = [*message.name, *robot.gripper.joints]
        message.position = [*message.position, *([fingers] * len(robot.gripper.joints))]
        message.velocity = [*message.velocity, *([0.0] * len(robot.gripper.joints))]
        message.effort = [*message.effort, *([float("nan")] * len(robot.gripper.joints))]
    stamp_ns = time.time_ns() if stamp_ns is None else stamp_ns
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    return message


def positions(messages: list[JointTrajectory]) -> np.ndarray:
    return np.array([message.points[0].positions for message in messages])
