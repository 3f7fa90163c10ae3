"""A domain for each module, a process that runs `understudy sim-arm`, and a driver in plain rclpy, for ROS tests."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
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

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_DOMAINS = itertools.count(10 + 20 * (WORKER % 2))
LIMIT_S = 20.0


@contextmanager
def own_domain() -> Iterator[int]:
    """Put this process, and those it starts, on a ROS domain that no other test uses."""
    domain = next(_DOMAINS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        yield domain


def shared_memory() -> set[Path]:
    return set(Path("/dev/shm").glob("*fastdds_*")) | set(Path("/dev/shm").glob("*fastrtps_*"))


def remove_abandoned(before: set[Path]) -> None:
    """Remove what killed participants left in shared memory since `before`, and no process has mapped."""
    mapped = ""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            mapped += maps.read_text()
        except OSError:  # that process has ended
            continue
    for path in shared_memory() - before:
        if path.name not in mapped:
            path.unlink(missing_ok=True)


class SimArmProcess:
    """`understudy sim-arm`, as a user runs it, on this process's domain; ready when made."""

    def __init__(self, *arguments: str) -> None:
        self._before = shared_memory()
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

    def stop(self, number: int) -> tuple[int, str]:
        """Send a signal and return the exit code and everything it printed."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, "".join(self.heard) + rest

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        remove_abandoned(self._before)


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
