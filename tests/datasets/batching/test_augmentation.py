"""Frames that vary while training: alike within a window, and within their limits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from datasets_builders import make_episode
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.datasets.batching.augmentation import GREY, ImageAugmentation, recolour, shift
from understudy.datasets.batching.memory_source import MemorySource
from understudy.datasets.batching.steps import StepConfig
from understudy.datasets.batching.windows import WindowConfig
from understudy.errors import InputError

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 2, 10, 12, 3), dtype=np.uint8)
ONES = np.ones(5, np.float32)


@settings(max_examples=30)
@given(st.integers(1, 20), st.integers(0, 1000))
def test_a_shifted_frame_is_a_cut_of_the_frame_with_its_border_repeated(most_px: int, seed: int) -> None:
    moved = shift(FRAMES, most_px, np.random.default_rng(seed))
    padded = np.pad(FRAMES, [(0, 0), (0, 0), (most_px, most_px), (most_px, most_px), (0, 0)], mode="edge")
    cuts = [
        padded[:, :, down : down + 10, right : right + 12]
        for down in range(2 * most_px + 1)
        for right in range(2 * most_px + 1)
    ]
    for window in range(len(FRAMES)):
        assert any(np.array_equal(moved[window], cut[window]) for cut in cuts)


def test_shifts_reach_their_limits_and_differ() -> None:
    dot = np.zeros((400, 1, 11, 11, 3), np.uint8)
    dot[:, :, 5, 5] = 255
    _, _, rows, columns, _ = np.nonzero(shift(dot, 2, np.random.default_rng(0)))
    assert set(rows.tolist()) == set(columns.tolist()) == {3, 4, 5, 6, 7}


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_colours_change_as_said(channel: int) -> None:
    factors = [ONES.copy() for _ in range(3)]
    factors[channel][:] = np.array([1.0, 0.8, 1.2, 0.5, 0.0], np.float32)
    changed = recolour(FRAMES, *factors)
    np.testing.assert_array_equal(changed[0], FRAMES[0])
    pixels = FRAMES.astype(np.float64)
    grey = (pixels @ GREY.astype(np.float64))[..., None]
    mean = grey.mean(axis=(1, 2, 3), keepdims=True)
    factor = factors[channel].reshape(-1, 1, 1, 1, 1).astype(np.float64)
    expected = (pixels * factor, mean + factor * (pixels - mean), grey + factor * (pixels - grey))[channel]
    np.testing.assert_allclose(changed, np.clip(expected, 0, 255), atol=0.51)


def test_a_batch_changes_its_images_alone_and_the_generator_decides() -> None:
    config = WindowConfig(past=2, keys=("image_front", "joint_position"), steps=StepConfig(drop_idle=False))
    windows = MemorySource([make_episode(images=True)], config).all()
    kept = windows.observations["image_front"].copy()
    augment = ImageAugmentation(shift_px=2)
    one, again, other = (augment(windows, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.observations["image_front"], again.observations["image_front"])
    assert not np.array_equal(one.observations["image_front"], other.observations["image_front"])
    np.testing.assert_array_equal(windows.observations["image_front"], kept)
    np.testing.assert_array_equal(one.observations["joint_position"], windows.observations["joint_position"])
    assert one.observations["image_front"].dtype == np.uint8
    # the frames of a window are changed alike: equal ones stay equal
    twins = np.repeat(kept[:, :1], 2, axis=1)
    twin = augment(dataclasses.replace(windows, observations={"image_front": twins}), np.random.default_rng(0))
    np.testing.assert_array_equal(twin.observations["image_front"][:, 0], twin.observations["image_front"][:, 1])
    nothing = ImageAugmentation(0, 0.0, 0.0, 0.0)(windows, np.random.default_rng(0))
    np.testing.assert_array_equal(nothing.observations["image_front"], kept)


@pytest.mark.parametrize("wrong", [{"shift_px": -1}, {"contrast": 1.5}, {"saturation": -0.1}])
def test_impossible_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))} must"):
        ImageAugmentation(**wrong)
