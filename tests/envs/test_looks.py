"""Looks change pictures the way their names say, change nothing else, and go away again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pybullet
import pytest

from understudy.envs.arms.arm import Pose, Start
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.arms.sim_looks import PATTERNS, pattern_pixels, shifted
from understudy.envs.randomization import load_randomization
from understudy.envs.tasks.scene import RED, SceneObject, Shape, box

PANDA = load_robot("panda")
TWO_COLOURS = SceneObject(
    (
        Shape("box", (0.02, 0.02, 0.02), colour=RED),
        Shape("box", (0.02, 0.02, 0.02), (0.0, 0.0, 0.04), colour=(0.2, 0.3, 0.85, 1.0)),
    ),
    0.1,
)


@pytest.fixture(scope="module")
def arm() -> Iterator[SimArm]:
    made = SimArm(PANDA, {"cube": box((0.05, 0.05, 0.05), 0.1)})
    yield made
    made.close()


def picture(arm: SimArm, **looks: float) -> np.ndarray:
    arm.reset(Start(PANDA.home, 0.08, {"cube": Pose(np.array([0.45, 0.0, 0.05]))}, physics=looks))
    return arm.render("front", 160, 120).astype(int)


def differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(H, W) where two pictures are not the same."""
    return np.abs(one - other).max(axis=2) > 8


def red(image: np.ndarray) -> np.ndarray:
    return (image[..., 0] > 60) & (image[..., 1] < image[..., 0] // 2) & (image[..., 2] < image[..., 0] // 2)


def test_the_object_takes_another_colour_and_nothing_else_does(arm: SimArm):
    plain, blue = picture(arm), picture(arm, object_hue_shift=2 / 3)
    assert red(plain).sum() > 100
    assert red(blue).sum() == 0
    changed = differ(plain, blue)
    assert changed[red(plain)].all()
    assert changed.sum() < 1.3 * red(plain).sum()
    dark = picture(arm, object_brightness_scale=0.4)
    assert dark[red(plain)].mean() < 0.6 * plain[red(plain)].mean()


@pytest.mark.parametrize(
    ("looks", "least"),
    [
        ({"table_hue_shift": 0.5}, 0.3),
        ({"table_brightness_scale": 0.5}, 0.3),
        ({"table_texture": 1.0}, 0.1),
        ({"arm_hue_shift": 0.3}, 0.05),
        ({"arm_brightness_scale": 0.5}, 0.05),
        ({"arm_texture": 3.0}, 0.02),
        ({"object_texture": 4.0}, 0.002),
        ({"light_brightness_scale": 0.5}, 0.3),
        ({"light_azimuth_rad": 2.0}, 0.02),
        ({"light_elevation_rad": -0.5}, 0.02),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_look_changes_its_share_of_the_picture(arm: SimArm, looks: dict[str, float], least: float):
    assert differ(picture(arm), picture(arm, **looks)).mean() > least


def centre(arm: SimArm, **looks: float) -> np.ndarray:
    """(row, column) of the red cube in the picture."""
    return np.argwhere(red(picture(arm, **looks))).mean(axis=0)


def test_cameras_turn_and_shift_the_way_their_parameters_say(arm: SimArm):
    here = centre(arm)
    assert centre(arm, camera_yaw_rad=0.05)[1] > here[1] + 3  # the camera turns left: things go right
    assert centre(arm, camera_pitch_rad=0.05)[0] > here[0] + 3
    assert centre(arm, camera_offset_z_m=0.05)[0] > here[0] + 3
    moved = ({"camera_offset_x_m": 0.05}, {"camera_offset_y_m": 0.05})
    shifts = [centre(arm, **shift)[1] - here[1] for shift in moved]
    assert max(map(abs, shifts)) > 3
    assert min(map(abs, shifts)) > 0.3
    counts = [red(picture(arm, camera_fov_scale=scale)).sum() for scale in (0.7, 1.0, 1.4)]
    assert counts[0] > 1.5 * counts[1] > 1.5 * counts[2]


def test_the_next_episode_looks_as_built(arm: SimArm):
    plain = picture(arm)
    picture(arm, **load_randomization("looks").sample(np.random.default_rng(3)))
    picture(arm, arm_texture=2.0, table_texture=5.0, object_texture=8.0)
    assert np.array_equal(picture(arm), plain)


def test_looks_do_not_touch_physics(arm: SimArm):
    def falls(physics: dict[str, float]) -> np.ndarray:
        arm.reset(Start(PANDA.home, 0.08, {"cube": Pose(np.array([0.45, 0.0, 0.2]))}, physics=physics))
        arm.clock.sleep_until(arm.clock.now_ns() + 300_000_000)
        return arm.simulator_state()

    assert np.array_equal(falls({}), falls(load_randomization("looks").sample(np.random.default_rng(1))))


def test_an_episode_without_pictures_pays_nothing(arm: SimArm, monkeypatch: pytest.MonkeyPatch):
    picture(arm)
    told: list[object] = []
    paint = pybullet.changeVisualShape
    monkeypatch.setattr(pybullet, "changeVisualShape", lambda *a, **k: (told.append(a), paint(*a, **k)))
    arm.reset(Start(PANDA.home, 0.08, physics={"table_hue_shift": 0.2}))
    assert told == []
    arm.render("front", 32, 24)
    assert told != []


def test_each_shape_of_an_object_keeps_its_own_colour():
    arm = SimArm(PANDA, {"cube": TWO_COLOURS})
    plain = picture(arm)
    blue = (plain[..., 2] > 60) & (plain[..., 0] < plain[..., 2] // 2)
    assert blue.sum() > 15
    assert red(plain).sum() > 15
    turned = picture(arm, object_hue_shift=1 / 3)
    assert not differ(plain, turned)[~(blue | red(plain))].mean() > 0.01
    assert (turned[red(plain)][:, 1] > turned[red(plain)][:, 0]).mean() > 0.8  # red has become green
    assert np.array_equal(picture(arm), plain)
    arm.close()


def test_patterns_differ_and_greys_are_tinted():
    seen = {pattern_pixels(number).tobytes() for number in range(1, PATTERNS + 1)}
    assert len(seen) == PATTERNS
    assert shifted((0.8, 0.8, 0.8, 1.0), 0.0, 1.0) == (0.8, 0.8, 0.8, 1.0)
    r, g, b, _ = shifted((0.8, 0.8, 0.8, 1.0), 0.5, 1.0)
    assert max(r, g, b) - min(r, g, b) > 0.1
