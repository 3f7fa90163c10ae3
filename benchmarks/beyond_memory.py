"""Statistics and an epoch of windows of a dataset that is several times larger than what the process may hold.

A child process limits its own address space (RLIMIT_AS), so that any attempt to hold the data, or to map it, fails. It
proves that by trying: loading the same windows into memory must end in a MemoryError.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from understudy.datasets.batching.batches import BatchConfig, Batches
from understudy.datasets.batching.mapped_source import MappedSource
from understudy.datasets.batching.memory_source import MemorySource
from understudy.datasets.batching.normalisation import normalisation_of
from understudy.datasets.batching.steps import StepConfig
from understudy.datasets.batching.windows import WindowConfig
from understudy.datasets.episode import Episode
from understudy.datasets.schema import ActionSpec, EpisodeInfo
from understudy.datasets.store import Dataset
from understudy.errors import UnderstudyError

Row = dict[str, Any]
FRAME = (240, 320, 3)
KEYS = ("image_front", "joint_position")
SPEC = ActionSpec("joint_delta", ("a", "b"), ("rad", "rad"), (-0.1, -0.1), (0.1, 0.1))
INFO = EpisodeInfo("two_joint", "reach", SPEC, 20.0, operator="benchmark", device="benchmark")
WINDOWS = WindowConfig(past=2, future=10, keys=KEYS, steps=StepConfig(drop_idle=False))
GB = 1e9


def make_dataset(
    folder: Path,
    bytes_: float,
    frame: tuple[int, ...] = FRAME,
    steps: int = 100,
    seed: int = 0,
    progress: Callable[[str], None] = lambda word: None,
) -> Dataset:
    """Episodes with camera frames of noise, which no packing makes smaller, until their files hold `bytes_`."""
    rng = np.random.default_rng(seed)
    dataset = Dataset.create(folder, robot=INFO.robot, task=INFO.task)
    written = 0
    while written < bytes_:
        frames = np.frombuffer(rng.bytes((steps + 1) * int(np.prod(frame))), np.uint8).reshape(steps + 1, *frame)
        position = rng.normal(size=(steps + 1, 2)).astype(np.float32)
        action = rng.uniform(-0.1, 0.1, (steps, 2))
        id = dataset.add(
            Episode(
                info=INFO,
                observations={"image_front": frames[:-1], "joint_position": position[:-1]},
                final_observation={"image_front": frames[-1], "joint_position": position[-1]},
                requested=action,
                sent=action,
                measured=action,
                rewards=np.zeros(steps, np.float32),
                tick_ns=np.arange(steps, dtype=np.int64) * 50_000_000,
            )
        )
        written += dataset.file(id).stat().st_size
        progress(f"writing {written / GB:.1f} of {bytes_ / GB:.1f} GB")
    return dataset


def go_through(folder: Path, limit_bytes: int | None, spare_bytes: int, batch: int, seed: int) -> Row:
    """What the child does: limit itself, then statistics and one epoch; returns figures.

    Args:
        folder: the dataset.
        limit_bytes: of address space; None: `spare_bytes` more than now.
        spare_bytes: see there.
        batch: windows in a batch.
        seed: of the order.

    Raises:
        UnderstudyError: the epoch was not every window once, or the limit does not bind.
    """
    limit = limit_bytes or _status("VmSize") + spare_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    dataset = Dataset.open(folder, recover=False)
    begin = time.perf_counter()
    found = normalisation_of(dataset, keys=KEYS)
    statistics_s = time.perf_counter() - begin
    source = MappedSource(dataset, WINDOWS)
    drawn = np.zeros(len(source), np.int64)
    ends = np.cumsum([0, *(dataset.summary(id).steps for id in dataset.ids)])
    begin = time.perf_counter()
    batches = Batches(source, BatchConfig(batch, seed=seed, workers=2))
    for windows in batches.epoch():
        np.add.at(drawn, ends[windows.episode] + windows.step, 1)
    epoch_s = time.perf_counter() - begin
    if not np.all(drawn == 1) or found.actions.count != len(source):
        raise UnderstudyError("The epoch was not every window once.")
    try:
        MemorySource.of_dataset(dataset, WINDOWS, verify=False)
    except MemoryError:
        pass
    else:
        raise UnderstudyError("All windows fit within the limit, so that it proves nothing.")
    return {
        "data, MB": round(sum(dataset.file(id).stat().st_size for id in dataset.ids) / 1e6),
        "limit of address space, MB": round(limit / 1e6),
        "peak address space, MB": round(_status("VmPeak") / 1e6),
        "peak resident, MB": round(_status("VmHWM") / 1e6),
        "statistics, s": round(statistics_s, 2),
        "windows": len(source),
        "epoch, s": round(epoch_s, 2),
        "windows/s": round(len(source) / epoch_s),
    }


def in_child(
    folder: Path, *, limit_bytes: int | None = None, spare_bytes: int = 0, batch: int = 64, seed: int = 0
) -> Row:
    """`go_through` in a process of its own.

    Raises:
        UnderstudyError: it failed; with what it said.
    """
    arguments = [str(folder), limit_bytes, spare_bytes, batch, seed]
    finished = subprocess.run(
        [sys.executable, "-m", "understudy.benchmarks.beyond_memory", json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise UnderstudyError(f"The limited process failed: {finished.stderr[-2000:]}")
    return dict(json.loads(finished.stdout))


def measure(
    folder: Path, gigabytes: float, limit_gb: float, seed: int, progress: Callable[[str], None] = lambda word: None
) -> list[Row]:
    """Write, then go through in a child with `limit_gb` of address space."""
    make_dataset(folder, gigabytes * GB, seed=seed, progress=progress)
    progress(f"statistics and an epoch within {limit_gb} GB")
    return [in_child(folder, limit_bytes=int(limit_gb * GB), seed=seed)]


def _status(name: str) -> int:
    """Bytes that the kernel reports of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    folder, *rest = json.loads(sys.argv[1])
    print(json.dumps(go_through(Path(folder), *rest)))
