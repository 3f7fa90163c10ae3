"""Pictures of a session for people: what its cameras see, and how the start that is wanted on hardware looks.

Recorded cameras are shown as they were observed. A simulated scene is drawn by a process of its own, because a control
thread has no time for that. Called from the session's thread only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.align import Aligned
from understudy.envs.arms.arm import Observation, Start
from understudy.envs.arms.robot import CameraDescription, RobotDescription
from understudy.envs.tasks.task import Task

if TYPE_CHECKING:
    from understudy.envs.arms.sim_camera import CameraProcess

Picture = NDArray[np.uint8]
WANTED = "wanted start"
"""The camera that shows how the scene shall look when an episode starts."""
WIDTH, HEIGHT = 480, 360
"""Size of a drawn picture."""


class SessionPictures:
    """The latest picture of each camera; `turn` often, which never waits."""

    def __init__(
        self,
        robot: RobotDescription,
        task: Task,
        observed: tuple[str, ...],
        *,
        simulated: bool,
        hardware: bool = False,
    ) -> None:
        """Args:
        robot: what is drawn.
        task: its objects are drawn too.
        observed: cameras whose frames are among the observations.
        simulated: the scene is one that PyBullet can draw as it is now; otherwise only the wanted start is drawn.
        """
        self._task, self._observed = task, observed
        drawn = (*(("front",) if simulated else ()), *((WANTED,) if hardware else ()))
        self._drawn = tuple(name for name in drawn if name not in observed) if _can_draw() else ()
        self._robot = _with_camera(robot)
        self._process: CameraProcess | None = None
        self._asked_for: Observation | None = None
        self._latest: dict[str, Picture] = {}
        self._wanted: Start | None = None

    @property
    def cameras(self) -> tuple[str, ...]:
        """Whose pictures there are."""
        return (*self._observed, *self._drawn)

    def want(self, start: Start) -> None:
        """This is how the next episode shall start."""
        if start is not self._wanted:
            self._wanted = start
            self._latest.pop(WANTED, None)
            self._asked_for = None if WANTED in self._drawn else self._asked_for

    def turn(self, wanted: tuple[str, ...], seen: Aligned | None, now_ns: int) -> dict[str, Picture]:
        """Take in what was drawn since, and have the cameras in `wanted` drawn anew; returns the new pictures.

        Args:
            wanted: cameras that somebody looks at.
            seen: the scene now; None before there is one.
            now_ns: any clock.
        """
        fresh: dict[str, Picture] = {}
        for camera in wanted:
            if camera in self._observed and seen is not None and f"image_{camera}" in seen.values:
                fresh[camera] = np.asarray(seen.values[f"image_{camera}"], np.uint8)
            elif camera in self._drawn:
                fresh |= self._draw(camera, seen, now_ns)
        self._latest |= fresh
        return fresh

    def close(self) -> None:
        """End the drawing process."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _draw(self, camera: str, seen: Aligned | None, now_ns: int) -> dict[str, Picture]:
        scene = self._scene(camera, seen)
        if scene is None:
            return {}
        if self._process is None:
            from understudy.envs.arms.sim_camera import CameraProcess

            self._process = CameraProcess(self._robot, self._task.objects, "front")
        fresh: dict[str, Picture] = {}
        if self._process.busy:
            try:
                drawn = self._process.picture()
            except EOFError:  # it has died; another is started with the next turn
                self.close()
                self._asked_for = None
                return {}
            if drawn is not None:
                fresh[camera] = drawn[1]
        if not self._process.busy and not _same(scene, self._asked_for):
            self._process.ask(scene, now_ns)
            self._asked_for = scene
        return fresh

    def _scene(self, camera: str, seen: Aligned | None) -> Observation | None:
        """What is to be drawn; None where that is not known in full."""
        values: Mapping[str, Any] = {}
        if camera == WANTED:
            values = {} if self._wanted is None else self._wanted.numbers()
        elif seen is not None:
            values = {key: value for key, value in seen.values.items() if not key.startswith("image_")}
        needed = [
            "joint_position",
            *(f"{name}_{part}" for name in self._task.objects for part in ("position", "quaternion")),
        ]
        if any(key not in values for key in needed):
            return None
        return Observation({key: np.asarray(value) for key, value in values.items()}, {})


def _same(one: Observation, other: Observation | None) -> bool:
    return (
        other is not None
        and set(one.values) == set(other.values)
        and all(np.array_equal(value, other.values[key]) for key, value in one.values.items())
    )


def _can_draw() -> bool:
    """Whether there is a simulator to draw with."""
    return importlib.util.find_spec("pybullet") is not None


def _with_camera(robot: RobotDescription) -> RobotDescription:
    """The robot with a front camera of a size that people like to look at."""
    known = robot.ros.cameras.get("front")
    front = CameraDescription(topic=known.topic if known else "/camera/front/image_raw", width=WIDTH, height=HEIGHT)
    ros = robot.ros.model_copy(update={"cameras": {**robot.ros.cameras, "front": front}})
    return robot.model_copy(update={"ros": ros})
