"""Batches as tensors: the same, from any number of processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets_builders import make_dataset

from understudy.datasets.batching.augmentation import ImageAugmentation
from understudy.datasets.batching.batches import BatchConfig, Batches
from understudy.datasets.batching.mapped_source import MappedSource
from understudy.datasets.batching.steps import StepConfig
from understudy.datasets.batching.windows import WindowConfig
from understudy.learners.loader import TensorWindows, make_loader


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> Batches:
    dataset = make_dataset(tmp_path_factory.mktemp("loader") / Path("d"), 3, images=True)
    keys = ("joint_position", "image_front")
    source = MappedSource(dataset, WindowConfig(past=2, keys=keys, steps=StepConfig(drop_idle=False)))
    return Batches(source, BatchConfig(48, seed=5), transform=ImageAugmentation(2))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_pass_is_the_next_epoch_on_any_number_of_workers(batches: Batches, workers: int) -> None:
    loader = make_loader(batches, workers=workers, persistent_workers=workers > 0)
    assert len(loader) == len(batches)
    for epoch in (0, 1):
        loaded = list(loader)
        assert len(loaded) == len(batches)
        for number, tensors in enumerate(loaded):
            expected = batches.batch(epoch, number)
            assert isinstance(tensors, TensorWindows)
            assert len(tensors) == len(expected)
            for key, values in expected.observations.items():
                np.testing.assert_array_equal(tensors.observations[key].numpy(), values)
            for name in ("actions", "seen", "mask", "episode", "step"):
                np.testing.assert_array_equal(getattr(tensors, name).numpy(), getattr(expected, name))
            assert tensors.observations["image_front"].dtype == torch.uint8
            assert tensors.actions.dtype == torch.float32
