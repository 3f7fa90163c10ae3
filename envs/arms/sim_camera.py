"""A simulated camera in a process of its own: drawing takes longer than physics may wait.

The child keeps a copy of the scene, puts it where it is told, draws, and sends the pixels back. Requests and answers
are plain bytes (JSON there, pixels back).
"""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Mapping
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.arm import Observation, Pose, Start
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.tasks.scene import SceneObject
from understudy.errors import InputError

NICENESS = 5
"""Drawing gives way to physics where processors are few."""
STOP_TIMEOUT_S = 2.0


class CameraProcess:
    """Draws one camera's pictures of a robot and its objects, one at a time."""

    def __init__(self, robot: RobotDescription, objects: Mapping[str, SceneObject], camera: str) -> None:
        """Start the child. Its first picture takes as long as loading a scene.

        Raises:
            InputError: the robot's file has no such camera.
        """
        if camera not in robot.ros.cameras:
            raise InputError(f"Robot {robot.name!r} has no camera {camera!r} in `ros.cameras` of its file.")
        self.camera = camera
        described = robot.ros.cameras[camera]
        self._shape = (described.height, described.width, 3)
        spawn = multiprocessing.get_context("spawn")
        self._pipe, other = spawn.Pipe()
        scene = robot.model_dump_json(), str(robot.folder), dict(objects), camera
        self._process = spawn.Process(target=_draw, args=(other, *scene), name="sim-camera", daemon=True)
        # Ctrl-C reaches the child too, and would be a traceback while it still imports; the parent ends it.
        resource_tracker.ensure_running()  # it would lift the mask when it starts
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        other.close()
        self._asked_ns: int | None = None

    @property
    def busy(self) -> bool:
        """Whether a picture is being drawn."""
        return self._asked_ns is not None

    def ask(self, seen: Observation, stamp_ns: int) -> None:
        """Ask for a picture of the scene as seen at `stamp_ns`; not while busy."""
        scene = {key: np.asarray(value).tolist() for key, value in seen.values.items()}
        self._pipe.send_bytes(json.dumps(scene).encode())
        self._asked_ns = stamp_ns

    def picture(self) -> tuple[int, NDArray[np.uint8]] | None:
        """The stamp and the pixels (height, width, 3) of the picture asked for, once it is there; never blocks.

        Raises:
            EOFError: the child has died.
        """
        if self._asked_ns is None or not self._pipe.poll():
            return None
        stamp_ns, self._asked_ns = self._asked_ns, None
        return stamp_ns, np.frombuffer(self._pipe.recv_bytes(), np.uint8).reshape(self._shape)

    def close(self) -> None:
        """End the child; safe to call twice."""
        self._pipe.close()
        self._process.join(STOP_TIMEOUT_S)
        if self._process.is_alive():
            self._process.terminate()


def _draw(
    pipe: Connection[Any, Any], robot_json: str, folder: str, objects: Mapping[str, SceneObject], camera: str
) -> None:
    """The child: draw what is asked for until the parent closes the pipe."""
    import os

    from understudy.envs.arms.sim_arm import SimArm  # pybullet only where pictures are drawn

    os.nice(NICENESS)
    robot = RobotDescription.model_validate({**json.loads(robot_json), "folder": folder})
    described = robot.ros.cameras[camera]
    arm = SimArm(robot, objects)
    try:
        while True:
            arm.reset(_start(json.loads(pipe.recv_bytes()), objects))
            pipe.send_bytes(arm.render(camera, described.width, described.height).tobytes())
    except (EOFError, BrokenPipeError):
        arm.close()


def _start(scene: Mapping[str, list[float]], objects: Mapping[str, SceneObject]) -> Start:
    """The observed scene as a start."""
    poses = {name: Pose(np.array(scene[f"{name}_position"]), np.array(scene[f"{name}_quaternion"])) for name in objects}
    width = scene["gripper_position"][0] if "gripper_position" in scene else None
    openings = {name: scene[f"{name}_opening"][0] for name in objects if f"{name}_opening" in scene}
    return Start(np.array(scene["joint_position"]), width, poses, openings)
