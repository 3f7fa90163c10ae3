"""Publishes what a robot publishes: joint states, and two cameras, each message with a number in it.

Run by `capture.py` in a process of its own; orders and answers are lines of JSON (see `peer_process.py`).
"""

from __future__ import annotations

import bisect
import io
import json
import sys
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, JointState

from understudy.benchmarks.capture_robot import CAMERAS, HEIGHT, JOINT_HZ, WIDTH, bench_robot
from understudy.envs.arms.ros_common import Graph, array_to_image, sensors, to_time

STAMP = slice(4, 12)
"""Where a header's seconds and nanoseconds lie in a message's bytes: behind the four of the encapsulation."""
IMAGE_HZ = 30.0
NUMBER_BYTES = 8


def scene(seed: int) -> NDArray[np.uint8]:
    """A picture (H, W, 3) with shades, edges and a camera's noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    shades = np.stack([x * 255 // WIDTH, y * 255 // HEIGHT, (x // 40 + y // 40) % 2 * 180], axis=2)
    return np.asarray(np.clip(shades + rng.normal(0, 3, shades.shape), 0, 255), np.uint8)


def packed_scene(seed: int) -> bytes:
    """The same as JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(scene(seed)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


class Source:
    """Publishes until told to stop."""

    def __init__(self, compressed: bool) -> None:
        robot = bench_robot(compressed)
        self._graph = Graph("bench_source", spin=False)
        create, ros = self._graph.node.create_publisher, robot.ros
        self._joints = create(JointState, ros.joint_states.topic, 10)  # reliable, as ros2_control's
        kind: Any = CompressedImage if compressed else type(array_to_image(scene(0), 0, ""))
        self._cameras = [create(kind, ros.cameras[name].topic, sensors(5)) for name in CAMERAS]
        self._messages = [bytearray(serialize_message(_message(seed, compressed))) for seed in range(4)]
        names = [*robot.joint_names, *(robot.gripper.joints if robot.gripper else ())]
        self._state = JointState(name=names, position=[0.0] * len(names), velocity=[0.0] * len(names))
        self.published = {"joints": 0, **dict.fromkeys(CAMERAS, 0)}
        self._stamps_ns: dict[str, list[int]] = {name: [] for name in self.published}
        self._stopped = threading.Event()

    def run(self) -> None:
        """The loop: joint states at `JOINT_HZ`, cameras in turns."""
        begun_s, tick = time.monotonic(), 0
        image_every = JOINT_HZ / IMAGE_HZ
        due = [0.0, image_every / 2]
        while not self._stopped.is_set():
            self._publish_joints()
            for index, name in enumerate(CAMERAS):
                if tick >= due[index]:
                    due[index] += image_every
                    self._publish_image(index, name)
            tick += 1
            if (left_s := begun_s + tick / JOINT_HZ - time.monotonic()) > 0:
                time.sleep(left_s)

    def _publish_joints(self) -> None:
        state = self._state
        stamp_ns = time.time_ns()
        self._stamps_ns["joints"].append(stamp_ns)
        state.header.stamp = to_time(stamp_ns)
        state.effort = [float(self.published["joints"])] * len(state.name)
        self._joints.publish(state)
        self.published["joints"] += 1

    def _publish_image(self, index: int, name: str) -> None:
        message = self._messages[self.published[name] % len(self._messages)]
        stamp_ns = time.time_ns()
        self._stamps_ns[name].append(stamp_ns)
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        message[STAMP] = seconds.to_bytes(4, "little") + nanoseconds.to_bytes(4, "little")
        message[-NUMBER_BYTES:] = self.published[name].to_bytes(NUMBER_BYTES, "little")
        self._cameras[index].publish(bytes(message))
        self.published[name] += 1

    def first_since(self, wall_ns: int) -> dict[str, int]:
        """The number of the first message of each stream that was stamped at `wall_ns` or later."""
        return {name: bisect.bisect_left(stamps_ns, wall_ns) for name, stamps_ns in self._stamps_ns.items()}

    def stop(self) -> None:
        """End the loop."""
        self._stopped.set()

    def close(self) -> None:
        """Leave the graph."""
        self._graph.close()


def _message(seed: int, compressed: bool) -> Any:
    if not compressed:
        return array_to_image(scene(seed), 0, "camera")
    data = packed_scene(seed) + bytes(NUMBER_BYTES)  # readers of JPEG stop at its end mark
    message = CompressedImage(format="jpeg", data=data)
    message.header.frame_id = "camera"
    return message


def main() -> None:
    """Publish until there are no more orders; `since_ns` (wall) asks for the first message of each stream since."""
    source = Source(json.loads(sys.argv[1])["compressed"])
    thread = threading.Thread(target=source.run)
    thread.start()
    for line in sys.stdin:
        print(json.dumps(source.first_since(json.loads(line)["since_ns"])), flush=True)
    source.stop()
    thread.join()
    source.close()


if __name__ == "__main__":
    main()
