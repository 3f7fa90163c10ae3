"""A plain rclpy listener, domains that no other test uses, and processes, for the ROS tests of deploy/."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Bool, Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

ROOT = Path(__file__).resolve().parents[1]
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
DOMAINS = itertools.count(60 + 20 * (WORKER % 2))
COMMANDS = "/joint_trajectory_controller/joint_trajectory"


def environment(domain: int) -> dict[str, str]:
    """For a process of ours on a domain of its own."""
    return {
        **os.environ,
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
    }


def shared_memory() -> set[Path]:
    """Fast DDS's files in shared memory."""
    return set(Path("/dev/shm").glob("*fastdds_*"))


def remove_abandoned(before: set[Path]) -> None:
    """Remove what killed participants left in shared memory since `before`, and nobody has open."""
    mapped = ""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            mapped += maps.read_text()
        except OSError:  # that process has ended
            continue
    for path in shared_memory() - before:
        if path.name not in mapped:
            path.unlink(missing_ok=True)


class Listener:
    """A node without any code of ours that keeps every message it hears, with when."""

    def __init__(self, domain: int) -> None:
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("plain_listener", context=self.context)
        latched = QoSProfile(depth=20, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.heard: dict[str, list[tuple[float, Any]]] = {}
        topics = {
            "/understudy/state": (String, latched),
            "/understudy/episode": (String, latched),
            "/understudy/requested_action": (Float64MultiArray, 100),
            "/diagnostics": (DiagnosticArray, 100),
            COMMANDS: (JointTrajectory, 100),
        }
        for topic, (kind, quality) in topics.items():
            self.node.create_subscription(kind, topic, self._keep(topic), quality)
        self.done = self.node.create_publisher(Bool, "/task_done", latched)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.running = True
        self.thread = threading.Thread(target=self._spin)
        self.thread.start()

    def _keep(self, topic: str) -> Callable[[Any], None]:
        kept = self.heard.setdefault(topic, [])
        return lambda message: kept.append((time.monotonic(), message))

    def _spin(self) -> None:
        while self.running:
            self.executor.spin_once(timeout_sec=0.05)

    def wait(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds} s; heard states {self.states}"
            time.sleep(0.01)

    @property
    def states(self) -> list[str]:
        return [message.data for _, message in self.heard["/understudy/state"]]

    @property
    def episodes(self) -> list[dict[str, Any]]:
        return [json.loads(message.data) for _, message in self.heard["/understudy/episode"]]

    def close(self) -> None:
        self.running = False
        self.thread.join()
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
