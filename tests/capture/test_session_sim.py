"""A session on the simulated arm, in a thread of its own: a scripted person's lift, with pictures, seen by a front."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pybullet")

from understudy.capture.devices.scripted import ScriptedDevice
from understudy.capture.session import Session, SessionConfig
from understudy.capture.session_loop import LoopConfig, SessionLoop, fresh_seeds
from understudy.capture.session_pictures import WANTED, SessionPictures
from understudy.datasets.align import Aligned
from understudy.datasets.store import Dataset
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms import sim_camera
from understudy.envs.arms.robot import load_robot
from understudy.envs.make import make_env
from understudy.envs.tasks.task import make_task
from understudy.errors import InputError

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "drive-a-session.md"
PICTURE_S = 60.0
"""The drawing process has this long to load its scene."""


@pytest.fixture(scope="module")
def env() -> Iterator[ArmEnv]:
    made = make_env("lift", "panda", realtime=False)
    yield made
    made.close()


def new_loop(env: ArmEnv, folder: Path) -> SessionLoop:
    dataset = Dataset.open_or_create(folder, robot="panda", task="lift")
    device = ScriptedDevice("lift", env.control.robot, env.control.actions.spec, None)
    session = Session(env, device, dataset, SessionConfig(operator="scripted", max_s=10.0))
    return SessionLoop(session, config=LoopConfig(auto_prepare=False), seeds=fresh_seeds(dataset, 5))


def test_a_scripted_lift_through_the_loop_is_the_one_that_its_seed_makes(env: ArmEnv, tmp_path: Path) -> None:
    episodes = []
    for name in ("a", "b"):
        loop = new_loop(env, tmp_path / name)
        loop.start()
        try:
            loop.ask("prepare")
            before = loop.view()
            assert before.cameras == ("front", "side")
            assert 0.0 < (before.gripper_m or 0.0) <= (before.gripper_max_m or 0.0) + 1e-6
            time.sleep(0.3 if name == "a" else 0.0)  # a simulated scene stands still while a person thinks
            assert loop.ask("start") == "Recording."
            end = time.monotonic() + 60
            while (view := loop.view()).state != "review":
                assert time.monotonic() < end
                time.sleep(0.05)
            assert (view.success, view.findings) == (True, ())
            loop.ask("keep")
        finally:
            loop.close()
        episodes.append(next(iter(loop.session.dataset.episodes())))
    one, other = episodes
    assert one.info.seed == other.info.seed == 5
    assert np.array_equal(one.requested, other.requested)
    for key, values in one.observations.items():
        assert np.array_equal(values, other.observations[key]), key
    assert not one.intervention.any()


def test_a_picture_of_the_scene_comes_when_somebody_looks(env: ArmEnv, tmp_path: Path) -> None:
    loop = new_loop(env, tmp_path / "d")
    loop.start()
    try:
        loop.ask("prepare")
        with pytest.raises(InputError, match="Unknown camera 'frnt': did you mean 'front'"):
            loop.picture("frnt")
        end = time.monotonic() + PICTURE_S
        while (picture := loop.picture("front")) is None:
            assert time.monotonic() < end, "no picture came"
            time.sleep(0.1)
        assert picture.shape == (360, 480, 3)
        red = (picture[..., 0] > 130) & (picture[..., 1] < 90) & (picture[..., 2] < 90)
        assert 50 < np.count_nonzero(red) < 3000  # the cube
        while (side := loop.picture("side")) is None:
            assert time.monotonic() < end, "no picture came from the side"
            time.sleep(0.1)
        assert side.shape == (360, 288, 3)
    finally:
        loop.close()


def pictures_of(pictures: SessionPictures, wanted: tuple[str, ...], seen: Aligned | None) -> dict[str, np.ndarray]:
    """What is drawn once everything in `wanted` has come."""
    drawn: dict[str, np.ndarray] = {}
    end = time.monotonic() + PICTURE_S
    while set(drawn) != set(wanted):
        assert time.monotonic() < end, f"only {sorted(drawn)} came of {wanted}"
        drawn |= pictures.turn(wanted, seen, 0)
        time.sleep(0.02)
    return drawn


def blue(picture: np.ndarray) -> int:
    """How many pixels of a picture a goal covers."""
    return int(np.count_nonzero(picture[..., 2] > picture[..., 0].astype(int) + 40))


def test_a_simulated_scene_is_drawn_from_two_sides_with_its_goal_and_only_when_it_has_changed() -> None:
    robot, task = load_robot("panda"), make_task("reach")
    start = task.start(robot, np.random.default_rng(0))
    seen = Aligned(0, {key: np.array(value) for key, value in start.numbers().items()}, {})
    pictures = SessionPictures(robot, task, (), simulated=True)
    assert pictures.cameras == ("front", "side")
    try:
        drawn = pictures_of(pictures, ("front", "side"), seen)
        assert drawn["front"].shape == (360, 480, 3)
        assert all(100 < blue(picture) < 4000 for picture in drawn.values())
        for _ in range(5):
            assert pictures.turn(("front", "side"), seen, 0) == {}  # it has not changed
        moved = Aligned(0, {**seen.values, "joint_position": robot.home + 0.1}, {})
        again = pictures_of(pictures, ("side",), moved)  # nobody looks from the front
        assert not np.array_equal(again["side"], drawn["side"])
        other = pictures_of(pictures, ("front",), moved)
        assert not np.array_equal(other["front"], drawn["front"])
    finally:
        pictures.close()


def test_a_camera_that_is_observed_is_shown_as_it_was_observed() -> None:
    robot, task = load_robot("panda"), make_task("reach")
    pictures = SessionPictures(robot, task, ("side",), simulated=True)
    assert pictures.cameras == ("side", "front")
    frame = np.full((4, 6, 3), 7, np.uint8)
    assert np.array_equal(pictures.turn(("side",), Aligned(0, {"image_side": frame}, {}), 0)["side"], frame)
    pictures.close()


def test_a_drawing_process_that_was_killed_is_replaced() -> None:
    robot, task = load_robot("panda"), make_task("reach")
    seen = Aligned(0, {"joint_position": robot.home, "goal_position": np.array([0.5, 0.0, 0.3])}, {})
    pictures = SessionPictures(robot, task, (), simulated=True)
    try:
        first = pictures_of(pictures, ("front",), seen)
        assert pictures._process is not None
        os.kill(pictures._process._process.pid or 0, signal.SIGKILL)
        pictures._process._process.join()
        seen = Aligned(0, {**seen.values, "joint_position": robot.home + 0.1}, {})
        second = pictures_of(pictures, ("front",), seen)
        assert not np.array_equal(first["front"], second["front"])
    finally:
        pictures.close()


def test_on_hardware_the_start_that_is_wanted_is_drawn_once() -> None:
    robot, task = load_robot("panda"), make_task("pick_place")
    pictures = SessionPictures(robot, task, ("wrist",), simulated=False, hardware=True)
    assert pictures.cameras == ("wrist", WANTED)
    assert pictures.turn((WANTED,), None, 0) == {}  # nothing is wanted yet
    pictures.want(task.start(robot, np.random.default_rng(0)))
    try:
        end = time.monotonic() + PICTURE_S
        while not (drawn := pictures.turn((WANTED,), None, 0)):
            assert time.monotonic() < end, "no picture came"
            time.sleep(0.1)
        assert drawn[WANTED].shape == (360, 480, 3)
        assert 100 < blue(drawn[WANTED]) < 4000  # the goal
        assert pictures.turn((WANTED,), None, 0) == {}  # it does not change
    finally:
        pictures.close()


def test_nobody_waits_for_the_drawing_process_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took two control periods of a take that somebody began to look at."""
    robot, task, go_on = load_robot("panda"), make_task("lift"), threading.Event()

    def slow(*_: object) -> None:
        go_on.wait(10.0)
        raise OSError("no process could be started")

    monkeypatch.setattr(sim_camera, "CameraProcess", slow)
    pictures = SessionPictures(robot, task, (), simulated=False, hardware=True)
    pictures.want(task.start(robot, np.random.default_rng(0)))
    began_s = time.monotonic()
    for _ in range(10):
        assert pictures.turn((WANTED,), None, 0) == {}
    assert time.monotonic() - began_s < 0.1
    go_on.set()
    end = time.monotonic() + 10.0
    while not pictures.failure:
        assert time.monotonic() < end
        pictures.turn((WANTED,), None, 0)
        time.sleep(0.01)
    assert pictures.failure == "No pictures of the scene can be drawn: no process could be started"
    pictures.turn((WANTED,), None, 0)
    assert pictures.cameras == ()
    pictures.close()


def test_the_example_of_the_page_runs_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PAGE.read_text()
    monkeypatch.chdir(tmp_path)
    exec(compile(text.split("```python\n")[1].split("```")[0], str(PAGE), "exec"), {})
    prompt, kept = capsys.readouterr().out.splitlines()[-2:]
    assert prompt == "The take is a success; keep it or drop it."
    assert kept.endswith("; the dataset holds 1.")
