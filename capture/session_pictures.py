"""Pictures of a session for people: what its cameras see, and how the start that is wanted on hardware looks.

Recorded cameras are shown as they were observed. A simulated scene is drawn by a process of its own, because a control
thread has no time for that: from the front and from the side, because one view does not tell how far away things are,
and with the goal, which nobody could see otherwise. Called from the session's thread only; starting that process takes
longer than a control period has, and is done in a thread of its own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.align import Aligned
from understudy.envs.arms.arm import Observation, Start
from understudy.envs.arms.robot import CameraDescription, RobotDescription
from understudy.envs.tasks.task import Task
from understudy.errors import UnderstudyError

if TYPE_CHECKING:
    from understudy.envs.arms.sim_camera import CameraProcess

Picture = NDArray[np.uint8]
WANTED = "wanted start"
"""The camera that shows how the scene shall look when an episode starts."""
SIZES: Mapping[str, tuple[int, int]] = {"front": (480, 360), "side": (288, 360)}
"""Width and height of what is drawn, by where from: as high as each other, and side by side as wide as a page has."""


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
        task: its objects are drawn too, and its goal.
        observed: cameras whose frames are among the observations.
        simulated: the scene is one that PyBullet can draw as it is now; otherwise only the wanted start is drawn.
        """
        self._task, self._observed = task, observed
        drawn = (*(SIZES if simulated else ()), *((WANTED,) if hardware else ()))
        self._drawn = tuple(name for name in drawn if name not in observed) if _can_draw() else ()
        self._robot = _with_cameras(robot)
        self.failure = ""
        """Why nothing can be drawn, as a sentence; empty while it can, or nobody tried."""
        self._process: CameraProcess | None = None
        self._started: CameraProcess | None = None
        self._starting: threading.Thread | None = None
        self._asked: Mapping[str, str] = {}
        """Where from -> whose picture that will be."""
        self._shows: dict[str, Observation] = {}
        """Camera -> the scene that it was drawn of last."""
        self._wanted: Start | None = None

    @property
    def cameras(self) -> tuple[str, ...]:
        """Whose pictures there are."""
        return (*self._observed, *self._drawn)

    def want(self, start: Start) -> None:
        """This is how the next episode shall start."""
        self._wanted = start

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
        fresh |= self.drawn_since()
        with self._may_die():
            self._draw(tuple(camera for camera in wanted if camera in self._drawn), seen, now_ns)
        return fresh

    def drawn_since(self) -> dict[str, Picture]:
        """The pictures that were drawn since; costs nothing where there are none."""
        fresh: dict[str, Picture] = {}
        with self._may_die():
            while self._process is not None and (drawn := self._process.picture()) is not None:
                fresh[self._asked[drawn.camera]] = drawn.pixels
        return fresh

    def close(self) -> None:
        """End the drawing process."""
        if self._starting is not None:
            self._starting.join()
            self._process = self._begun()
        if self._process is not None:
            self._process.close()
            self._process = None

    @contextlib.contextmanager
    def _may_die(self) -> Iterator[None]:
        """Where the drawing process has died, another is started with the next turn."""
        try:
            yield
        except EOFError:
            self.close()
            self._shows.clear()

    def _draw(self, cameras: tuple[str, ...], seen: Aligned | None, now_ns: int) -> None:
        """Have what has changed since it was drawn last drawn anew: one scene, by all that look at it."""
        if self._process is not None and self._process.busy:
            return
        scenes = {camera: self._scene(camera, seen) for camera in cameras}
        due = {
            name: scene
            for name, scene in scenes.items()
            if scene is not None and not _same(scene, self._shows.get(name))
        }
        if not due:
            return
        if self._process is None:
            self._process = self._begun()
            if self._process is None:
                return
        chosen = (WANTED,) if WANTED in due else tuple(due)
        self._asked = {"front" if name == WANTED else name: name for name in chosen}
        self._process.ask(due[chosen[0]], now_ns, tuple(self._asked))
        self._shows |= {name: due[name] for name in chosen}

    def _begun(self) -> CameraProcess | None:
        """The drawing process once it runs; None while it is being started."""
        if self._starting is None:
            self._starting = threading.Thread(target=self._start, name="pictures", daemon=True)
            self._starting.start()
        if self._starting.is_alive():
            return None
        if self._started is None:  # it could not be: nothing is drawn, and that is told
            self._drawn = ()
            return None
        self._starting, started, self._started = None, self._started, None
        return started

    def _start(self) -> None:
        try:
            from understudy.envs.arms.sim_camera import CameraProcess

            self._started = CameraProcess(self._robot, self._task.objects, tuple(SIZES), self._task.goal)
        except (OSError, ImportError, UnderstudyError) as error:
            self.failure = f"No pictures of the scene can be drawn: {error}"

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


def _with_cameras(robot: RobotDescription) -> RobotDescription:
    """The robot with cameras of a size that people like to look at."""
    cameras = dict(robot.ros.cameras)
    for name, (width, height) in SIZES.items():
        topic = cameras[name].topic if name in cameras else f"/camera/{name}/image_raw"
        cameras[name] = CameraDescription(topic=topic, width=width, height=height)
    return robot.model_copy(update={"ros": robot.ros.model_copy(update={"cameras": cameras})})
