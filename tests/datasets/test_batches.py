"""Training windows: which steps are drawn, what follows each, and turning the scene."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from datasets_builders import make_episode
from learners_support import SPEC, expert_action, toy_episode, toy_episodes

from understudy.datasets.batches import WindowConfig, idle_steps, make_windows, shuffled, spin, split_episodes
from understudy.datasets.schema import ActionSpec
from understudy.errors import DatasetError, InputError


def test_a_window_is_what_was_seen_and_what_was_done_next() -> None:
    episode = toy_episode(3, steps=20)
    windows = make_windows([episode], WindowConfig(chunk=4, drop_idle=False))
    assert windows.chunks.shape == (20, 4, 4)
    np.testing.assert_array_equal(windows.observations["tool_position"], episode.observations["tool_position"])
    for start in range(17):
        np.testing.assert_array_equal(windows.chunks[start], episode.actions[start : start + 4])
        assert windows.mask[start].all()
    np.testing.assert_array_equal(windows.mask[-1], [True, False, False, False])


def test_idle_steps_are_dropped_except_around_the_gripper() -> None:
    episode = toy_episode(1, steps=60)
    requested = episode.requested.copy()
    requested[:, 3] = 0.08
    requested[:20, :3] = 0.0  # a pause at the start
    requested[40:, :3] = 0.0  # waiting; the gripper closes at 50
    requested[50:, 3] = 0.0
    episode = dataclasses.replace(episode, requested=requested)
    windows = make_windows([episode], WindowConfig(chunk=2, keep_around_gripper=6))
    moving = 20 + np.flatnonzero(~idle_steps(episode)[20:40])
    kept = np.concatenate([moving, np.arange(44, 56)])
    np.testing.assert_array_equal(windows.chunks[:, 0], episode.actions[kept])


def test_windows_know_their_episode() -> None:
    windows = make_windows(toy_episodes(3), WindowConfig(drop_idle=False))
    assert np.bincount(windows.episode).tolist() == [40, 40, 40]


def test_images_are_left_out() -> None:
    windows = make_windows([make_episode(images=True)], WindowConfig(drop_idle=False))
    assert "image_front" not in windows.observations
    assert "joint_position" in windows.observations


def test_what_cannot_be_trained_on_together_is_refused() -> None:
    with pytest.raises(DatasetError, match="no episodes"):
        make_windows([])
    with pytest.raises(DatasetError, match="Episode 1 has action space 'joint_delta'"):
        make_windows([toy_episode(0), make_episode()])
    still = dataclasses.replace(toy_episode(0), requested=np.tile([0.0, 0.0, 0.0, 0.08], (40, 1)))
    with pytest.raises(DatasetError, match="Nothing moves"):
        make_windows([still])
    with pytest.raises(InputError, match="at least 1 action"):
        WindowConfig(chunk=0)


def test_every_pass_visits_every_window_once_and_the_seed_decides_the_order() -> None:
    batches = shuffled(10, 4, np.random.default_rng(0))
    drawn = np.concatenate([next(batches) for _ in range(5)])
    np.testing.assert_array_equal(np.sort(drawn[:10]), np.arange(10))
    np.testing.assert_array_equal(np.sort(drawn[10:]), np.arange(10))
    again = shuffled(10, 4, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, np.concatenate([next(again) for _ in range(5)]))
    other = shuffled(10, 4, np.random.default_rng(1))
    assert not np.array_equal(drawn, np.concatenate([next(other) for _ in range(5)]))


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert np.bincount(next(shuffled(3, 8, np.random.default_rng(0))), minlength=3).min() >= 2


@pytest.mark.parametrize(("count", "share", "held_out"), [(50, 0.1, 5), (50, 0.0, 0), (1, 0.5, 0), (3, 0.99, 2)])
def test_the_split_is_by_episode_and_something_always_trains(count: int, share: float, held_out: int) -> None:
    training, validation = split_episodes(count, share, np.random.default_rng(0))
    assert len(validation) == held_out
    assert sorted([*training, *validation]) == list(range(count))
    with pytest.raises(InputError, match="validation share"):
        split_episodes(count, 1.0, np.random.default_rng(0))


def test_a_turned_scene_shows_what_the_expert_would_do_there() -> None:
    windows = make_windows(toy_episodes(2), WindowConfig(chunk=1, drop_idle=False))
    turned = spin(windows, SPEC, 5, np.random.default_rng(0))
    assert len(turned) == 5 * len(windows)
    np.testing.assert_array_equal(turned.chunks[: len(windows)], windows.chunks)
    directions = set()
    for row in range(len(turned)):
        observation = {key: values[row] for key, values in turned.observations.items()}
        np.testing.assert_allclose(turned.chunks[row, 0], SPEC.normalise(expert_action(observation)), atol=2e-4)
        directions.add(tuple(np.sign(turned.chunks[row, 0, :2])))
    assert {(1, 1), (1, -1), (-1, 1), (-1, -1)} <= directions


def test_orientations_turn_with_the_scene() -> None:
    windows = make_windows([toy_episode(0)], WindowConfig(drop_idle=False))
    turned = spin(windows, SPEC, 3, np.random.default_rng(0)).observations
    x, y, z, w = turned["tool_quaternion"].T
    np.testing.assert_allclose(x * x + y * y + z * z + w * w, 1.0, atol=1e-6)
    # a tool that points down still does: its z axis is (0, 0, -1)
    np.testing.assert_allclose(1 - 2 * (x * x + y * y), -1.0, atol=1e-6)
    heading = np.arctan2(2 * (x * y + z * w), 1 - 2 * (y * y + z * z))
    where = turned["tool_position"] - turned["object_position"]
    came = windows.observations["tool_position"] - windows.observations["object_position"]
    angle = np.arctan2(where[:, 1], where[:, 0]) - np.tile(np.arctan2(came[:, 1], came[:, 0]), 3)
    np.testing.assert_allclose(np.cos(heading - angle), 1.0, atol=1e-3)


def test_actions_that_are_not_tool_steps_are_not_turned() -> None:
    windows = make_windows([make_episode()], WindowConfig(drop_idle=False))
    assert spin(windows, make_episode().info.action_spec, 4, np.random.default_rng(0)) is windows
    uneven = ActionSpec("tool_delta", ("x", "y"), ("m", "m"), (-0.1, -0.2), (0.1, 0.2))
    assert spin(windows, uneven, 4, np.random.default_rng(0)) is windows
