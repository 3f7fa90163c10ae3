"""The drawing process draws what the simulator itself would, by each camera that is asked for, in order."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

from understudy.envs.arms.arm import Start
from understudy.envs.arms.robot import CameraDescription, RobotDescription, load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.arms.sim_camera import CameraProcess, Drawn
from understudy.envs.tasks.marks import goal_marks
from understudy.envs.tasks.task import make_task
from understudy.errors import InputError

TASK = make_task("push")
SIZES = {"front": (160, 120), "side": (96, 120)}
FIRST_S = 60.0
"""The child has this long to load its scene."""


def robot_with_cameras() -> RobotDescription:
    robot = load_robot("panda")
    cameras = {
        name: CameraDescription(topic=f"/{name}", width=width, height=height) for name, (width, height) in SIZES.items()
    }
    return robot.model_copy(update={"ros": robot.ros.model_copy(update={"cameras": cameras})})


ROBOT = robot_with_cameras()


@pytest.fixture(scope="module")
def process() -> Iterator[CameraProcess]:
    made = CameraProcess(ROBOT, TASK.objects, tuple(SIZES))
    yield made
    made.close()


@pytest.fixture(scope="module")
def arm() -> Iterator[SimArm]:
    made = SimArm(ROBOT, TASK.objects)
    yield made
    made.close()


def start(seed: int) -> Start:
    return TASK.start(ROBOT, np.random.default_rng(seed))


def next_picture(process: CameraProcess) -> Drawn:
    end = time.monotonic() + FIRST_S
    while (drawn := process.picture()) is None:
        assert time.monotonic() < end, "no picture came"
        time.sleep(0.01)
    return drawn


def test_both_cameras_draw_one_scene_as_the_simulator_would(process: CameraProcess, arm: SimArm) -> None:
    for seed, asked in ((1, ()), (2, ("side",)), (3, ("side", "front")), (4, ("front",))):
        seen = arm.reset(start(seed))
        process.ask(seen, 10 * seed, asked)
        for name in asked or tuple(SIZES):
            assert process.busy
            drawn = next_picture(process)
            assert (drawn.camera, drawn.stamp_ns) == (name, 10 * seed)
            assert np.array_equal(drawn.pixels, arm.render(name, *SIZES[name]))
        assert not process.busy
        assert process.picture() is None


def test_a_picture_stays_as_it_was_when_the_next_is_drawn(process: CameraProcess, arm: SimArm) -> None:
    pictures = []
    for seed in (5, 6):
        process.ask(arm.reset(start(seed)), seed, ("front",))
        pictures.append(next_picture(process).pixels)
        if seed == 5:
            kept = pictures[0].copy()
    assert np.array_equal(pictures[0], kept)
    assert not np.array_equal(*pictures)


def test_the_goal_is_in_pictures_for_people(arm: SimArm) -> None:
    process = CameraProcess(ROBOT, TASK.objects, tuple(SIZES), TASK.goal)
    try:
        begin = start(7)
        seen = arm.reset(begin)
        process.ask(seen, 0)
        for name, size in SIZES.items():
            drawn = next_picture(process).pixels
            assert np.array_equal(drawn, arm.render(name, *size, goal_marks(TASK.goal, begin.goals)))
            assert not np.array_equal(drawn, arm.render(name, *size))
    finally:
        process.close()


def last_pictures(process: CameraProcess) -> None:
    """Read what a child has drawn, which may be the picture that it had just finished."""
    for _ in range(2):
        process.picture()


def test_a_child_that_was_killed_is_told_apart_from_one_that_draws(arm: SimArm) -> None:
    process = CameraProcess(ROBOT, TASK.objects, ("front",))
    try:
        process.ask(arm.reset(start(1)), 0)
        next_picture(process)
        process.ask(arm.reset(start(2)), 0)
        assert process._process.pid is not None
        os.kill(process._process.pid, signal.SIGKILL)
        process._process.join()
        with pytest.raises(EOFError):
            last_pictures(process)
    finally:
        process.close()


def test_a_camera_that_the_robot_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match=r"Robot 'panda' has no camera 'wrist' in `ros.cameras` of its file"):
        CameraProcess(ROBOT, TASK.objects, ("front", "wrist"))
