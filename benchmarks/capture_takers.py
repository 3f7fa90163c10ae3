"""Record what `capture_source.py` publishes, by our recorder or by `rosbags` into MCAP, and tell what it cost.

Run by `capture.py` in a process of its own; orders and answers are lines of JSON (see `peer_process.py`).
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.benchmarks.capture import FLAT
from understudy.benchmarks.capture_robot import CAMERAS, bench_robot
from understudy.capture.hardware import HardwareConfig
from understudy.capture.session import Session, SessionConfig
from understudy.capture.watch_stage import WatchedDevice, make_watch_stage
from understudy.datasets.camera_streams import CameraFrame, frames_file, read_frames_of
from understudy.datasets.store import Dataset
from understudy.envs.arms.clock import Clock
from understudy.envs.tasks.free import free_task

Answer = dict[str, Any]
READY_S = 30.0
MEMORY = ("memory at first, MB", "memory at last, MB", "memory at most, MB", FLAT)
STREAMS = {"joints": "joint_position", **{name: f"image_{name}" for name in CAMERAS}}
"""What the source calls a stream, and its observation key."""


def gaps(numbers: Sequence[int] | NDArray[Any]) -> int:
    """How many of the numbers between the first and the last are missing."""
    return int(numbers[-1] - numbers[0] + 1 - len(numbers)) if len(numbers) else 0


def flat(first_mb: float, last_mb: float) -> bool:
    """Whether memory has not grown: by 30 MB, or a tenth, whichever is more."""
    return last_mb - first_mb <= max(30.0, 0.1 * first_mb)


class Woken:
    """A clock that notes when whoever slept on it was woken."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.woken_ns: list[int] = []

    def now_ns(self) -> int:
        """See `Clock`."""
        return self._clock.now_ns()

    def sleep_until(self, stamp_ns: int) -> None:
        """See `Clock`."""
        self._clock.sleep_until(stamp_ns)
        self.woken_ns.append(self._clock.now_ns())


class Resident:
    """Memory of this process while something runs, looked at twice a second."""

    def __init__(self) -> None:
        self.mb: list[float] = []
        self._done = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at it meanwhile."""
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _look(self) -> None:
        page_mb = os.sysconf("SC_PAGE_SIZE") / 1e6
        while not self._done.wait(0.5):
            self.mb.append(int(Path("/proc/self/statm").read_text().split()[1]) * page_mb)

    def told(self) -> Answer:
        """Its median in the first and in the last fifth of the time, and the most."""
        if len(self.mb) < 5:
            return dict.fromkeys(MEMORY)
        fifth = max(1, len(self.mb) // 5)
        first, last = float(np.median(self.mb[:fifth])), float(np.median(self.mb[-fifth:]))
        told = (round(first), round(last), round(max(self.mb)), "yes" if flat(first, last) else "no")
        return dict(zip(MEMORY, told, strict=True))


class Ours:
    """A session on the watched arm: steps at 50 Hz, and every sample at its own rate."""

    name = "understudy"

    def __init__(self, folder: Path, compressed: bool, in_steps: bool) -> None:
        robot = bench_robot(compressed)
        task = free_task("bench", robot)
        config = HardwareConfig(cameras=CAMERAS if in_steps else (), every_frame=CAMERAS, ready_s=READY_S)
        self._stage = make_watch_stage(robot, task, config)
        self._dataset = Dataset.create(folder / "demos", robot=robot.name, task=task.name)
        device = WatchedDevice(self._stage.control.actions.spec)
        self._session = Session(self._stage, device, self._dataset, SessionConfig(max_s=3600, stop_on_success=False))
        self._session.prepare()
        time.sleep(2.0)  # what is offered has been found, and the subscriptions suit it

    def record(self, seconds: float) -> Answer:
        """Record for so long, keep, and read back what there is."""
        session, memory, clock = self._session, Resident(), Woken(self._stage.control.arm.clock)
        arm: Any = self._stage.control.arm
        arm.clock = clock
        lost = self._lost()
        cpu_s = time.process_time()
        with memory.watching():
            session.start()
            begun_ns = time.time_ns()
            end_ns = time.monotonic_ns() + round(seconds * 1e9)
            while time.monotonic_ns() < end_ns:
                session.tick()
            session.stop()
        recording_s, dropped = time.process_time() - cpu_s, {name: n - lost[name] for name, n in self._lost().items()}
        cpu_s = time.process_time()
        id = session.keep()
        keeping_s = time.process_time() - cpu_s
        kept, first, missing = self._kept(id)
        off_ms = np.abs(np.diff(clock.woken_ns) * 1e-6 - 1e3 * self._stage.control.robot.period_s)
        return {
            "recorder": self.name,
            **kept,
            "dropped by DDS": sum(dropped.values()),
            "CPU while recording, %": round(100 * recording_s / seconds, 1),
            "CPU to keep it, s": round(keeping_s, 1),
            "CPU in all, s": round(recording_s + keeping_s, 1),
            **memory.told(),
            "streams": {"begun_ns": begun_ns, "first": first, "missing": missing, "dropped": dropped},
            "ticks": len(clock.woken_ns),
            "tick jitter p50, ms": round(float(np.percentile(off_ms, 50)), 3),
            "tick jitter p99, ms": round(float(np.percentile(off_ms, 99)), 3),
            "tick jitter at most, ms": round(float(np.max(off_ms)), 3),
            "ticks missed": sum(self._stage.control.ticker.overruns.values()),
        }

    def _lost(self) -> dict[str, int]:
        watched = self._stage.watched
        assert watched is not None
        return {name: watched.lost(key) for name, key in STREAMS.items()}

    def _kept(self, id: str) -> tuple[Answer, dict[str, int], dict[str, int]]:
        """What is on disk; of each stream the first number, and how many are missing between it and the last."""
        joints = self._dataset.read(id).streams["joint_effort"].values[:, 0].astype(np.int64)
        first, missing, frames = {"joints": int(joints[0])}, {"joints": gaps(joints)}, 0
        for name in CAMERAS:
            path = frames_file(self._dataset.path, id)
            numbers = np.array([_number(frame) for frame in read_frames_of(path, name)], np.int64)
            first[name], missing[name] = int(numbers[0]), gaps(numbers)
            frames += len(numbers)
        size = self._dataset.file(id).stat().st_size + frames_file(self._dataset.path, id).stat().st_size
        return {"joint states": len(joints), "frames": frames, "MB": round(size / 1e6)}, first, missing

    def close(self) -> None:
        """Leave the graph."""
        self._session.close()
        self._stage.close()


def _number(frame: CameraFrame) -> int:
    content = frame.pixels if frame.packed is None else frame.packed
    return int.from_bytes(content.reshape(-1)[-8:].tobytes(), "little")


class Bag:
    """The same messages, as bytes, into MCAP: heard by rclpy's executor, as one would write it, or by our reader.

    With our reader it does as little as a recorder in Python can do.
    """

    def __init__(self, folder: Path, compressed: bool, same_reader: bool) -> None:
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore
        from sensor_msgs.msg import CompressedImage, Image, JointState

        from understudy.envs.arms.ros_common import Graph
        from understudy.envs.arms.ros_subscriptions import Subscriptions

        self.name = f"rosbags, by {'our reader' if same_reader else 'rclpy'}"
        robot, store = bench_robot(compressed), get_typestore(Stores.ROS2_JAZZY)
        self._path = folder / "bag"
        self._writer = Writer(self._path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._graph = Graph("bench_bag")
        self._subscriptions = Subscriptions(self._graph, match=same_reader)
        kind: Any = CompressedImage if compressed else Image
        topics = {robot.ros.joint_states.topic: JointState}
        topics |= {robot.ros.cameras[name].topic: kind for name in CAMERAS}
        self._counts = dict.fromkeys(topics, 0)
        self._writing = False
        for topic, message in topics.items():
            connection = self._writer.add_connection(topic, f"sensor_msgs/msg/{message.__name__}", typestore=store)
            self._subscriptions.add(message, topic, self._take(topic, connection), 100, raw=True)
        self._graph.start()
        self._subscriptions.start()
        time.sleep(2.0)

    def _take(self, topic: str, connection: Any) -> Callable[[bytes, Any], None]:
        def take(data: bytes, info: Any) -> None:
            if self._writing:
                self._writer.write(connection, info["received_timestamp"], data)
                self._counts[topic] += 1

        return take

    def record(self, seconds: float) -> Answer:
        """Record for so long and close the bag."""
        memory, lost, cpu_s = Resident(), self._lost(), time.process_time()
        with memory.watching():
            self._writing = True
            time.sleep(seconds)
            self._writing = False
        recording_s, dds = time.process_time() - cpu_s, self._lost() - lost
        cpu_s = time.process_time()
        self._subscriptions.close()
        self._writer.close()
        joints, *frames = self._counts.values()
        size = sum(path.stat().st_size for path in self._path.iterdir())
        return {
            "recorder": self.name,
            "joint states": joints,
            "frames": sum(frames),
            "MB": round(size / 1e6),
            "dropped by DDS": dds,
            "CPU while recording, %": round(100 * recording_s / seconds, 1),
            "CPU to keep it, s": round((keeping_s := time.process_time() - cpu_s), 1),
            "CPU in all, s": round(recording_s + keeping_s, 1),
            **memory.told(),
        }

    def _lost(self) -> int:
        return sum(self._subscriptions.lost(topic) for topic in self._counts)

    def close(self) -> None:
        """Leave the graph."""
        self._graph.close()


def main() -> None:
    """Take orders until there are no more."""
    wanted = json.loads(sys.argv[1])
    folder, compressed = Path(wanted["folder"]), bool(wanted["compressed"])
    ours = wanted["who"] == "ours"
    in_steps = bool(wanted.get("in_steps"))
    taker: Ours | Bag = (
        Ours(folder, compressed, in_steps) if ours else Bag(folder, compressed, wanted["who"] == "same reader")
    )
    for line in sys.stdin:
        order = json.loads(line)
        answer = taker.record(order["seconds"]) if order["order"] == "record" else {"ready": True}
        print(json.dumps(answer), flush=True)
    taker.close()


if __name__ == "__main__":
    main()
