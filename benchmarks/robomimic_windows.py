"""robomimic's side of `benchmarks/loader.py`: runs in robomimic's own environment and does what it is told.

Each line of standard input is a JSON object with "do"; each answer is a line of JSON on standard output.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import robomimic
import torch
from robomimic.utils import obs_utils
from robomimic.utils.dataset import SequenceDataset
from torch.utils.data import DataLoader

Mode = str | None


class Peer:
    """The datasets that are open, by cache mode ("all", "low_dim" or None)."""

    def __init__(self, path: str, keys: Sequence[str], length: int) -> None:
        self._path, self._keys, self._length = path, tuple(keys), length
        images = [key for key in keys if key.startswith("image_")]
        low_dim = [key for key in keys if key not in images]
        obs_utils.initialize_obs_utils_with_obs_specs([{"obs": {"low_dim": low_dim, "rgb": images}}])
        self._open: dict[Mode, Any] = {}

    def open(self, mode: Mode) -> dict[str, Any]:
        """Open the dataset in a mode; how many windows it has, and how long opening took (s)."""
        begin = time.perf_counter()
        self._open[mode] = SequenceDataset(
            hdf5_path=self._path,
            obs_keys=self._keys,
            dataset_keys=("actions",),
            seq_length=self._length,
            hdf5_cache_mode=mode,
            load_next_obs=False,
        )
        return {"windows": len(self._open[mode]), "seconds": time.perf_counter() - begin}

    def batches(self, mode: Mode, size: int, seconds: float, seed: int) -> dict[str, float]:
        """Shuffled batches from a torch DataLoader for about so long: windows and seconds."""
        shuffle = torch.Generator().manual_seed(seed)
        loader = DataLoader(self._open[mode], batch_size=size, shuffle=True, generator=shuffle, num_workers=0)
        windows, begin = 0, time.perf_counter()
        while True:
            for batch in loader:
                windows += len(batch["actions"])
                if time.perf_counter() - begin > seconds:
                    return {"windows": windows, "seconds": time.perf_counter() - begin}

    def items(self, mode: Mode, seconds: float, seed: int) -> dict[str, float]:
        """Single windows in random order for about so long, not put into batches."""
        dataset = self._open[mode]
        order = np.random.default_rng(seed).permutation(len(dataset)).tolist()
        windows, begin = 0, time.perf_counter()
        while True:
            for index in order:
                dataset[index]
                windows += 1
                if not windows % 16 and time.perf_counter() - begin > seconds:
                    return {"windows": windows, "seconds": time.perf_counter() - begin}

    def save(self, mode: Mode, indices: Sequence[int], file: str) -> dict[str, int]:
        """Write windows of these numbers to an npz file."""
        windows = [self._open[mode][index] for index in indices]
        arrays = {f"obs/{key}": np.stack([window["obs"][key] for window in windows]) for key in self._keys}
        np.savez(file, actions=np.stack([window["actions"] for window in windows]), **arrays)  # type: ignore[arg-type]
        return {"windows": len(windows)}

    def versions(self) -> dict[str, str]:
        """What runs here."""
        found = {module.__name__: str(module.__version__) for module in (robomimic, torch, h5py, np)}
        return {**found, "python": platform.python_version()}


def main() -> None:
    """Answer until the input ends."""
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    sys.stdout = sys.stderr  # robomimic prints what it does
    peer = Peer(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]))
    for line in sys.stdin:
        order = json.loads(line)
        answers.write(json.dumps(getattr(peer, order.pop("do"))(**order)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
