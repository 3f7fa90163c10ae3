"""A plain rclpy listener, domains that no other test uses, and processes, for the ROS tests of deploy/."""

from __future__ import annotations

import fcntl
import json
import os
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Bool, Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

ROOT = Path(__file__).resolve().parents[1]
DOMAINS = range(60, 100)
COMMANDS = "/joint_trajectory_controller/joint_trajectory"


@contextmanager
def own_domain() -> Iterator[int]:
    """A domain that no other test uses, not even of another run on this machine: a locked file claims it."""
    for domain in random.sample(DOMAINS, len(DOMAINS)):
        with (Path(tempfile.gettempdir()) / f"understudy-test-domain-{domain}").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # in use
                continue
            yield domain
            return
    raise RuntimeError(f"all ROS domains of {DOMAINS} are in use")


def environment(domain: int) -> dict[str, str]:
    """For a process of ours on a domain of its own."""
    return {
        **os.environ,
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
    }


def shared_memory_of(pid: int) -> set[Path]:
    """Fast DDS's files in shared memory that a process has mapped or open."""
    try:
        words = set(Path(f"/proc/{pid}/maps").read_text().split())
        words |= {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:  # that process has ended
        return set()
    return {Path(word) for word in words if word.startswith("/dev/shm/") and "fast" in word}


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, and remove the shared memory it leaves that no other process uses (a leftover slows later tests)."""
    left = shared_memory_of(process.pid)
    process.kill()
    process.wait()
    for other in Path("/proc").glob("[0-9]*"):
        left -= shared_memory_of(int(other.name))
    for path in left:
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
