"""The window of human mode, on SDL's display that shows nothing; and what is said where there is none at all."""

from __future__ import annotations

import numpy as np
import pygame
import pytest

from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.fake_arm import FakeArm
from understudy.envs.arms.robot import load_robot
from understudy.envs.make import make_env
from understudy.envs.tasks.task import make_task
from understudy.envs.window import SCALE, Window
from understudy.errors import InputError


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    yield
    pygame.display.quit()


@pytest.mark.usefixtures("display")
def test_a_picture_is_shown_upright_and_larger():
    window = Window("test")
    picture = np.zeros((30, 40, 3), np.uint8)
    picture[:10, :20] = (250, 120, 10)  # the upper left corner
    window.show(picture)
    shown = pygame.display.get_surface()
    assert shown.get_size() == (SCALE * 40, SCALE * 30)
    assert shown.get_at((5, 5))[:3] == (250, 120, 10)
    assert shown.get_at((SCALE * 39, 5))[:3] == (0, 0, 0)
    assert shown.get_at((5, SCALE * 29))[:3] == (0, 0, 0)
    assert pygame.display.get_caption()[0] == "test"
    window.close()
    window.close()


@pytest.mark.usefixtures("display")
def test_closing_it_by_hand_leaves_the_program_running():
    window = Window("test")
    window.show(np.zeros((30, 40, 3), np.uint8))
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    window.show(np.zeros((30, 40, 3), np.uint8))
    assert not pygame.display.get_init()
    window.show(np.zeros((30, 40, 3), np.uint8))
    assert not pygame.display.get_init()


@pytest.mark.usefixtures("display")
def test_human_mode_shows_every_step_by_itself():
    env = make_env("reach", render_mode="human")
    env.reset(seed=0)
    first = pygame.surfarray.array3d(pygame.display.get_surface())
    for _ in range(5):
        env.step(np.array([0.0, 1.0, 1.0], np.float32))
    later = pygame.surfarray.array3d(pygame.display.get_surface())
    assert len(np.unique(first)) > 20
    assert (first != later).any()
    assert env.render() is None
    env.close()
    assert not pygame.display.get_init()


def test_without_a_display_it_says_so_and_what_to_do(monkeypatch: pytest.MonkeyPatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    env = make_env("reach", render_mode="human")
    with pytest.raises(InputError, match=r'no display here\. Use render_mode="rgb_array"'):
        env.reset(seed=0)
    env.close()


def test_modes_there_are_none_of_and_arms_that_draw_nothing_are_refused():
    with pytest.raises(InputError, match="Unknown render mode 'rgb_aray': did you mean 'rgb_array'"):
        make_env("reach", render_mode="rgb_aray")
    env = ArmEnv(FakeArm(load_robot("panda")), make_task("reach"), render_mode="rgb_array")
    with pytest.raises(InputError, match="A FakeArm draws no pictures"):
        env.render()
