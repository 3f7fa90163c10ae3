"""Turning the scene about the vertical."""

from __future__ import annotations

import numpy as np
from datasets_builders import make_episode
from learners_support import SPEC, expert_action, toy_episode, toy_episodes

from understudy.datasets.batching.memory_source import MemorySource
from understudy.datasets.batching.spin import spin
from understudy.datasets.batching.steps import StepConfig
from understudy.datasets.batching.windows import WindowConfig, Windows
from understudy.datasets.schema import ActionSpec

EVERY = StepConfig(drop_idle=False)


def windows_of(*episodes: object, future: int = 8, past: int = 1) -> Windows:
    return MemorySource(episodes, WindowConfig(past=past, future=future, steps=EVERY)).all()


def test_a_turned_scene_shows_what_the_expert_would_do_there() -> None:
    windows = windows_of(*toy_episodes(2), future=1)
    turned = spin(windows, SPEC, 5, np.random.default_rng(0))
    assert len(turned) == 5 * len(windows)
    np.testing.assert_array_equal(turned.actions[: len(windows)], windows.actions)
    directions = set()
    for row in range(len(turned)):
        observation = {key: values[row, 0] for key, values in turned.observations.items()}
        np.testing.assert_allclose(turned.actions[row, 0], SPEC.normalise(expert_action(observation)), atol=2e-4)
        directions.add(tuple(np.sign(turned.actions[row, 0, :2])))
    assert {(1, 1), (1, -1), (-1, 1), (-1, -1)} <= directions


def test_all_observations_of_a_window_turn_alike() -> None:
    windows = windows_of(toy_episode(0), past=3)
    turned = spin(windows, SPEC, 3, np.random.default_rng(1))
    for position, steps in (("tool_position", turned), ("tool_position", windows)):
        assert steps.observations[position].shape[1:] == (3, 3)
    came = windows.observations["tool_position"]
    went = turned.observations["tool_position"]
    np.testing.assert_allclose(np.linalg.norm(np.diff(went, axis=1), axis=-1), np.tile(
        np.linalg.norm(np.diff(came, axis=1), axis=-1), (3, 1)), atol=1e-6)  # fmt: skip
    np.testing.assert_array_equal(turned.episode, np.tile(windows.episode, 3))
    np.testing.assert_array_equal(turned.seen, np.tile(windows.seen, (3, 1)))


def test_orientations_turn_with_the_scene() -> None:
    windows = windows_of(toy_episode(0))
    turned = spin(windows, SPEC, 3, np.random.default_rng(0)).observations
    x, y, z, w = turned["tool_quaternion"][:, 0].T
    np.testing.assert_allclose(x * x + y * y + z * z + w * w, 1.0, atol=1e-6)
    # a tool that points down still does: its z axis is (0, 0, -1)
    np.testing.assert_allclose(1 - 2 * (x * x + y * y), -1.0, atol=1e-6)
    heading = np.arctan2(2 * (x * y + z * w), 1 - 2 * (y * y + z * z))
    where = (turned["tool_position"] - turned["object_position"])[:, 0]
    came = (windows.observations["tool_position"] - windows.observations["object_position"])[:, 0]
    angle = np.arctan2(where[:, 1], where[:, 0]) - np.tile(np.arctan2(came[:, 1], came[:, 0]), 3)
    np.testing.assert_allclose(np.cos(heading - angle), 1.0, atol=1e-3)


def test_actions_that_are_not_tool_steps_are_not_turned() -> None:
    windows = windows_of(make_episode())
    assert spin(windows, make_episode().info.action_spec, 4, np.random.default_rng(0)) is windows
    uneven = ActionSpec("tool_delta", ("x", "y"), ("m", "m"), (-0.1, -0.2), (0.1, 0.2))
    assert spin(windows, uneven, 4, np.random.default_rng(0)) is windows
