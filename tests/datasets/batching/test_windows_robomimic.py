"""The real robomimic reads our index, and its windows are ours, number for number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from datasets_builders import make_dataset
from peers_support import peer_python, run_in_peer

from understudy.datasets.batching.mapped_source import MappedSource
from understudy.datasets.batching.memory_source import MemorySource
from understudy.datasets.batching.steps import StepConfig
from understudy.datasets.batching.windows import WindowConfig
from understudy.datasets.store import Dataset

KEYS = ("goal_position", "image_front", "joint_position", "joint_velocity")
SHAPES = ((1, 10), (3, 1), (4, 70))
"""(frame_stack, seq_length); the episodes have 55 to 61 steps."""
PROGRAM = """
import json, sys
import numpy as np
from robomimic.utils import obs_utils
from robomimic.utils.dataset import SequenceDataset

path, out, keys, shapes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
low_dim = [key for key in keys if not key.startswith("image_")]
obs_utils.initialize_obs_utils_with_obs_specs([{"obs": {"low_dim": low_dim, "rgb": ["image_front"]}}])
for stack, length in shapes:
    for mode in ("low_dim", None):
        windows = SequenceDataset(
            hdf5_path=path, obs_keys=keys, dataset_keys=("actions",), frame_stack=stack, seq_length=length,
            get_pad_mask=True, hdf5_cache_mode=mode, load_next_obs=False,
        )
        made = [windows[index] for index in range(0, len(windows), 7)]
        arrays = {"obs_" + key: np.stack([window["obs"][key] for window in made]) for key in keys}
        arrays["actions"] = np.stack([window["actions"] for window in made])
        arrays["seen"] = np.stack([window["obs"]["pad_mask"] for window in made])
        arrays["mask"] = np.stack([window["pad_mask"] for window in made])
        np.savez(f"{out}/{stack}-{length}-{mode}.npz", count=len(windows), **arrays)
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    peer_python("robomimic")
    return make_dataset(tmp_path_factory.mktemp("peer") / "d", 3, images=True)


def test_windows_are_robomimics(dataset: Dataset, tmp_path: Path) -> None:
    index = str(dataset.path / "dataset.hdf5")
    run_in_peer("robomimic", PROGRAM, index, str(tmp_path), json.dumps(KEYS), json.dumps(SHAPES))
    for stack, length in SHAPES:
        config = WindowConfig(
            past=stack,
            observe_ahead=length - 1,
            act_behind=stack - 1,
            future=length,
            keys=KEYS,
            steps=StepConfig(drop_idle=False),
        )
        for source in (MemorySource.of_dataset(dataset, config), MappedSource(dataset, config)):
            ours = source.take(np.arange(0, len(source), 7))
            for mode in ("low_dim", None):
                with np.load(tmp_path / f"{stack}-{length}-{mode}.npz", allow_pickle=False) as theirs:
                    assert int(theirs["count"]) == len(source)
                    for key in KEYS:
                        np.testing.assert_array_equal(theirs[f"obs_{key}"], ours.observations[key])
                    np.testing.assert_array_equal(theirs["actions"], ours.actions)
                    np.testing.assert_array_equal(theirs["seen"][..., 0], ours.seen)
                    np.testing.assert_array_equal(theirs["mask"][..., 0], ours.mask)
