"""Simulated cameras in a process of their own: drawing takes longer than physics may wait.

The child keeps a copy of the scene, puts it where it is told and draws it by one camera after the other. Scenes go
there as JSON; pixels come back in shared memory, so that who asks never waits for a pipe to empty.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.arm import Observation, Pose, Start
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.tasks.marks import goal_marks
from understudy.envs.tasks.scene import SceneObject
from understudy.envs.tasks.task import Goal
from understudy.errors import InputError

NICENESS = 5
"""Drawing gives way to physics where processors are few."""
STOP_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Drawn:
    """A picture that was asked for."""

    camera: str
    stamp_ns: int
    """Of the scene."""
    pixels: NDArray[np.uint8]
    """(height, width, 3)"""


class CameraProcess:
    """Draws a robot and its objects as a few cameras see them, one picture at a time."""

    def __init__(
        self,
        robot: RobotDescription,
        objects: Mapping[str, SceneObject],
        cameras: tuple[str, ...],
        goal: Goal | None = None,
    ) -> None:
        """Start the child. Its first picture takes as long as loading a scene.

        Args:
            robot: its file says how large each camera's pictures are.
            objects: name -> what it is.
            cameras: those that may be asked for.
            goal: marked in the pictures, which are then for people; None for what cameras see.

        Raises:
            InputError: the robot's file has no such camera.
        """
        for camera in cameras:
            if camera not in robot.ros.cameras:
                raise InputError(f"Robot {robot.name!r} has no camera {camera!r} in `ros.cameras` of its file.")
        self.cameras = cameras
        spawn = multiprocessing.get_context("spawn")
        shapes = {camera: _shape(robot, camera) for camera in cameras}
        shared = {camera: spawn.RawArray(ctypes.c_uint8, int(np.prod(shape))) for camera, shape in shapes.items()}
        self._pixels = {camera: _array(shared[camera], shape) for camera, shape in shapes.items()}
        self._pipe, other = spawn.Pipe()
        scene = robot.model_dump_json(), str(robot.folder), dict(objects), goal
        self._process = spawn.Process(target=_draw, args=(other, *scene, shared), name="sim-camera", daemon=True)
        # Ctrl-C reaches the child too, and would be a traceback while it still imports; the parent ends it.
        resource_tracker.ensure_running()  # it would lift the mask when it starts
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        other.close()
        self._asked_ns = 0
        self._awaited: deque[str] = deque()

    @property
    def busy(self) -> bool:
        """Whether pictures that were asked for are still to come."""
        return bool(self._awaited)

    def ask(self, seen: Observation, stamp_ns: int, cameras: tuple[str, ...] = ()) -> None:
        """Ask for pictures of the scene as seen at `stamp_ns`, in this order, or of all cameras; not while busy.

        Raises:
            EOFError: the child has died.
        """
        scene = {key: np.asarray(value).tolist() for key, value in seen.values.items()}
        wanted = cameras or self.cameras
        with _told_as_end():
            self._pipe.send_bytes(json.dumps({"scene": scene, "cameras": wanted}).encode())
        self._asked_ns = stamp_ns
        self._awaited.extend(wanted)

    def picture(self) -> Drawn | None:
        """The next of the pictures asked for, once it is there; never blocks.

        Raises:
            EOFError: the child has died.
        """
        if not self._awaited or not self._pipe.poll():
            return None
        with _told_as_end():
            self._pipe.recv_bytes()
        camera = self._awaited.popleft()
        return Drawn(camera, self._asked_ns, self._pixels[camera].copy())

    def close(self) -> None:
        """End the child; safe to call twice."""
        self._pipe.close()
        self._process.join(STOP_TIMEOUT_S)
        if self._process.is_alive():
            self._process.terminate()


@contextlib.contextmanager
def _told_as_end() -> Iterator[None]:
    """A child that was killed breaks the pipe where one that ended closes it."""
    try:
        yield
    except ConnectionError as error:
        raise EOFError("The process that draws has died.") from error


def _shape(robot: RobotDescription, camera: str) -> tuple[int, int, int]:
    described = robot.ros.cameras[camera]
    return described.height, described.width, 3


def _array(shared: Any, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.frombuffer(shared, np.uint8).reshape(shape)


def _draw(
    pipe: Connection[Any, Any],
    robot_json: str,
    folder: str,
    objects: Mapping[str, SceneObject],
    goal: Goal | None,
    shared: Mapping[str, Any],
) -> None:
    """The child: draw what is asked for until the parent closes the pipe."""
    import os

    from understudy.envs.arms.sim_arm import SimArm  # pybullet only where pictures are drawn

    os.nice(NICENESS)
    robot = RobotDescription.model_validate({**json.loads(robot_json), "folder": folder})
    arm = SimArm(robot, objects)
    try:
        while True:
            asked = json.loads(pipe.recv_bytes())
            arm.reset(_start(asked["scene"], objects))
            for camera in asked["cameras"]:
                height, width, _ = shape = _shape(robot, camera)
                pixels = arm.render(camera, width, height, goal_marks(goal, asked["scene"]))
                _array(shared[camera], shape)[:] = pixels
                pipe.send_bytes(b"drawn")
    except (EOFError, BrokenPipeError):
        arm.close()


def _start(scene: Mapping[str, list[float]], objects: Mapping[str, SceneObject]) -> Start:
    """The observed scene as a start."""
    poses = {name: Pose(np.array(scene[f"{name}_position"]), np.array(scene[f"{name}_quaternion"])) for name in objects}
    width = scene["gripper_position"][0] if "gripper_position" in scene else None
    openings = {name: scene[f"{name}_opening"][0] for name in objects if f"{name}_opening" in scene}
    return Start(np.array(scene["joint_position"]), width, poses, openings)
