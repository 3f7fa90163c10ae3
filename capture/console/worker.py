"""What takes long and must not keep the arm waiting (filmstrips, plots, the dataset's check), in a process of its own.

Everything here runs in that process and returns plain data. `Worker` owns it, on the side of the server.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing import resource_tracker
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.checking.checks import as_dict, check_dataset
from understudy.datasets.checking.tool_fit import Forward
from understudy.datasets.episode import Episode
from understudy.datasets.schema import is_image
from understudy.datasets.store import Dataset
from understudy.errors import InputError, UnderstudyError

NICENESS = 5
FRAMES = 6
FRAME_WIDTH, FRAME_HEIGHT = 320, 240
POLL_S = 0.1
"""How often whoever waits looks whether the process was ended, s: `multiprocessing` does not say."""
POINTS = 400
"""Of a curve, at most: a page is not wider."""


class Worker:
    """Runs one function of this module after the other."""

    def __init__(self) -> None:
        """Nothing is started before it is needed."""
        self._pool: Pool | None = None
        self._lock = threading.Lock()

    def run(self, function: Callable[..., Any], *arguments: Any, timeout_s: float) -> Any:
        """The function's result. Blocks; for any thread.

        Raises:
            InputError: what the function said.
            UnderstudyError: it took too long, or the process died.
        """
        with self._lock:
            if self._pool is None:
                self._pool = _pool()
            pool = self._pool
        result = pool.apply_async(function, arguments)
        until_s = time.monotonic() + timeout_s
        while not result.ready():
            result.wait(POLL_S)
            if self._pool is not pool:
                raise UnderstudyError("The console is closing.")
            if time.monotonic() > until_s:
                self.close()  # whatever hangs is not worth waiting for; the next call starts anew
                raise UnderstudyError(f"This took longer than {timeout_s:g} s and was given up.")
        return result.get()

    def warm_up(self) -> None:
        """Let the process import what it will need, while nobody waits for it yet."""
        with self._lock:
            if self._pool is None:
                self._pool = _pool()
                self._pool.apply_async(import_all)

    def close(self) -> None:
        """End the process, also in the middle of something."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()


def _pool() -> Pool:
    # Ctrl-C reaches the child too, and would be a traceback while it still imports; the parent ends it.
    resource_tracker.ensure_running()  # it would lift the mask when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return multiprocessing.get_context("spawn").Pool(1, _settle)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _settle() -> None:
    """Give way to the arm's loop where processors are few, and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)


def import_all() -> None:
    """Import what a filmstrip needs; where that is missing, the filmstrip says so."""
    import understudy.envs.filmstrip
    import understudy.envs.tasks.task  # noqa: F401


def film(folder: str, id: str, robot: str, quality: int) -> bytes:
    """A strip of `FRAMES` pictures of an episode, side by side, as JPEG.

    What a camera recorded if there was one, else the simulated arm in the recorded poses.

    Raises:
        InputError: no such episode, or nothing that could be drawn.
    """
    dataset = Dataset.open(Path(folder), recover=False)
    cameras = sorted(key for key in dataset.summary(id).keys if is_image(key))
    if cameras:
        shot = dataset.read(id, streams=False, verify=False).observations[cameras[0]]
        rows = np.linspace(0, len(shot) - 1, FRAMES).round().astype(int)
        return jpeg(np.concatenate(list(_sized(shot[rows])), axis=1), quality)
    from understudy.envs.arms.robot import load_robot
    from understudy.envs.filmstrip import filmstrip  # pybullet
    from understudy.envs.tasks.task import make_task

    episode = dataset.read(id, images=False, streams=False, verify=False)
    frames = filmstrip(
        episode, load_robot(robot or dataset.robot), make_task(dataset.task),
        frames=FRAMES, width=FRAME_WIDTH, height=FRAME_HEIGHT,
    )  # fmt: skip
    return jpeg(np.concatenate(list(frames), axis=1), quality)


def plot(folder: str, id: str) -> dict[str, Any]:
    """Curves of an episode: `time_s`, and for each panel its title, unit and lines (label -> values).

    Raises:
        InputError: no such episode.
    """
    episode = Dataset.open(Path(folder), recover=False).read(id, images=False, streams=False, verify=False)
    rows = np.unique(np.linspace(0, len(episode) - 1, min(POINTS, len(episode))).round().astype(int))
    time_s = (episode.tick_ns[rows] - episode.tick_ns[0]) * 1e-9
    return {"id": id, "time_s": _numbers(time_s), "panels": list(_panels(episode, rows))}


def check(folder: str, robot: str) -> dict[str, Any]:
    """May one train on this? The report of `dataset check` as plain data."""
    dataset = Dataset.open(Path(folder), recover=False)
    return as_dict(check_dataset(dataset, forward=_forward(robot or dataset.robot)))


def jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    """A picture (height, width, 3) as a JPEG file."""
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(written, "JPEG", quality=quality)
    return written.getvalue()


def _sized(frames: NDArray[np.uint8]) -> Iterable[NDArray[np.uint8]]:
    """Frames (n, height, width, 3) at the height of a strip, in their own proportions."""
    from PIL import Image

    width = max(1, round(frames.shape[2] * FRAME_HEIGHT / frames.shape[1]))
    for frame in frames:
        yield np.asarray(Image.fromarray(frame).resize((width, FRAME_HEIGHT)))


def _panels(episode: Episode, rows: NDArray[np.int64]) -> Iterable[dict[str, Any]]:
    observed = episode.observations
    if "joint_position" in observed:
        joints = observed["joint_position"][rows]
        lines = {f"joint {index + 1}": _numbers(joints[:, index]) for index in range(joints.shape[1])}
        yield {"title": "joints", "unit": "rad", "lines": lines}
    if "gripper_position" in observed:
        lines = {"opening": _numbers(observed["gripper_position"][rows, 0])}
        labels = episode.info.action_spec.labels
        if "gripper" in labels:
            lines["requested"] = _numbers(episode.requested[rows, labels.index("gripper")])
        yield {"title": "gripper", "unit": "m", "lines": lines}
    if "tool_position" in observed:
        tool = observed["tool_position"][rows]
        yield {"title": "tool", "unit": "m", "lines": {axis: _numbers(tool[:, i]) for i, axis in enumerate("xyz")}}


def _numbers(values: NDArray[Any]) -> list[float]:
    """Enough digits for a picture, and no more to send."""
    return [round(float(value), 5) for value in values]


def _forward(robot: str) -> Forward | None:
    """The robot's kinematics for the check; None where it or Pinocchio is not known here: the episodes then tell."""
    try:
        from understudy.envs.arms.kinematics import Kinematics
        from understudy.envs.arms.robot import load_robot

        described = load_robot(robot)
    except (InputError, ModuleNotFoundError):
        return None
    return Forward(len(described.joints), Kinematics(described).tool_rows)
