"""Training windows: how many a second, beside robomimic's `SequenceDataset` on the same file, and beyond memory.

robomimic runs in a process of its own, told what to do by this one; both measure in turns, on the same episodes, with
the same keys and the same windows (checked to be equal, number for number). What is counted is windows in shuffled
batches of arrays, one thread on either side: ours as they leave `Batches`, theirs as they leave a torch `DataLoader`.
Beside it stands what theirs hands out one by one, before batches are made of it: with the cache `all` those are windows
that it made when it was opened, so that nothing but a look-up is left.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy.benchmarks import beyond_memory
from understudy.benchmarks.peer_process import peer_process
from understudy.datasets.batching.batches import BatchConfig, Batches
from understudy.datasets.batching.episode_files import FileLimits
from understudy.datasets.batching.mapped_source import MappedSource
from understudy.datasets.batching.memory_source import MemorySource
from understudy.datasets.batching.steps import StepConfig
from understudy.datasets.batching.windows import WindowConfig, WindowSource
from understudy.datasets.episode import Episode
from understudy.datasets.schema import ActionSpec, EpisodeInfo
from understudy.datasets.store import Dataset
from understudy.errors import InputError, UnderstudyError

Row = dict[str, Any]
KEYS = {
    "joint_position": 7,
    "joint_velocity": 7,
    "gripper_position": 1,
    "tool_position": 3,
    "tool_quaternion": 4,
    "object_position": 3,
    "object_quaternion": 4,
}
LABELS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
SPEC = ActionSpec("tool_delta", LABELS, ("m",) * 3 + ("rad",) * 3 + ("m",), (-1.0,) * 7, (1.0,) * 7)
INFO = EpisodeInfo("panda", "lift", SPEC, 20.0, operator="benchmark", device="benchmark", success=True)
COMPARED: dict[str | None, tuple[str, ...]] = {
    "all": ("memory",),
    "low_dim": ("memory",),
    None: ("files", "files, keeping nothing"),
}
"""What of ours stands beside each cache mode of robomimic's."""
AIMS = {"all": 20.0, "low_dim": 50.0, None: 100.0}


@dataclass(frozen=True)
class LoaderBench:
    """What is measured, and how long."""

    peer: Path = Path(".peers/robomimic/bin/python")
    """The interpreter of robomimic's environment."""
    episodes: int = 200
    steps: int = 200
    """Of an episode."""
    length: int = 10
    """Steps of a window."""
    batch: int = 256
    rounds: int = 7
    seconds: float = 1.0
    """Of one measurement."""
    gigabytes: float = 4.05
    """Of camera frames read within `limit_gb` of memory; written to a temporary folder. 0 leaves this out."""
    limit_gb: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("episodes", "steps", "length", "batch", "rounds", "seconds"):
            if not getattr(self, name) > 0:
                raise InputError(f"Benchmark of windows: {name} must be above 0, got {getattr(self, name)}.")

    def run(self, progress: Callable[[str], None] = lambda word: None) -> dict[str, list[Row]]:
        """Measure everything; one table a name."""
        if not self.peer.exists():
            raise InputError(
                f"{self.peer} does not exist; `make .peers/robomimic/.installed` in a checkout makes robomimic's "
                "environment."
            )
        with tempfile.TemporaryDirectory(prefix="understudy-bench-") as scratch:
            progress("writing episodes")
            dataset = make_dataset(Path(scratch) / "windows", self)
            tables = compare(dataset, self, progress)
            if self.gigabytes:
                tables["beyond memory"] = beyond_memory.measure(
                    Path(scratch) / "large", self.gigabytes, self.limit_gb, self.seed, progress
                )
        return tables

    @property
    def windows(self) -> WindowConfig:
        """The windows that robomimic makes: observations and actions of `length` steps from the window's own."""
        keys, steps = tuple(KEYS), StepConfig(drop_idle=False)
        return WindowConfig(future=self.length, observe_ahead=self.length - 1, keys=keys, steps=steps)


def make_dataset(folder: Path, bench: LoaderBench) -> Dataset:
    """Episodes of an arm with seven joints, a gripper and an object; their numbers do not matter."""
    rng = np.random.default_rng(bench.seed)
    dataset = Dataset.create(folder, robot=INFO.robot, task=INFO.task)
    for _ in range(bench.episodes):
        rows = {key: rng.normal(size=(bench.steps + 1, size)).astype(np.float32) for key, size in KEYS.items()}
        action = rng.uniform(-1, 1, (bench.steps, SPEC.size))
        dataset.add(
            Episode(
                info=INFO,
                observations={key: values[:-1] for key, values in rows.items()},
                final_observation={key: values[-1] for key, values in rows.items()},
                requested=action,
                sent=action,
                measured=action,
                rewards=np.zeros(bench.steps, np.float32),
                tick_ns=np.arange(bench.steps, dtype=np.int64) * 50_000_000,
            )
        )
    return dataset


def compare(dataset: Dataset, bench: LoaderBench, progress: Callable[[str], None]) -> dict[str, list[Row]]:
    """Ours and theirs in turns."""
    progress("loading")
    sources, loading = _load(dataset, bench)
    ours = {
        name: Batches(source, BatchConfig(bench.batch, seed=bench.seed)).forever() for name, source in sources.items()
    }
    rows, ratios = [], []
    arguments = [str(dataset.path / "dataset.hdf5"), json.dumps(list(KEYS)), str(bench.length)]
    with peer_process("robomimic", bench.peer, "robomimic_windows.py", arguments) as ask:
        robomimic = f"robomimic {ask(do='versions')['robomimic']}"
        for mode, names in COMPARED.items():
            progress(f"{robomimic}, cache {mode}: loading")
            opened = ask(do="open", mode=mode)
            ask(do="batches", mode=mode, size=bench.batch, seconds=bench.seconds, seed=0)  # opens the files, not timed
            for name in names:
                _require_equal(sources[name], mode, opened["windows"], ask)
            rates: dict[str, list[float]] = {name: [] for name in (*names, "batches", "items")}
            for turn in range(bench.rounds):
                progress(f"{robomimic}, cache {mode}: round {turn + 1} of {bench.rounds}")
                for name in names:
                    rates[name].append(_rate(ours[name], bench.seconds))
                timing = {"mode": mode, "seconds": bench.seconds, "seed": turn}
                rates["batches"].append(_per_second(ask(do="batches", size=bench.batch, **timing)))
                rates["items"].append(_per_second(ask(do="items", **timing)))
            rows += [_rates_row(f"understudy, from {name}", rates[name], loading[name]) for name in names]
            rows.append(_rates_row(f"{robomimic}, cache {mode}", rates["batches"], opened["seconds"]))
            rows.append(_rates_row(f"{robomimic}, cache {mode}, one by one", rates["items"], opened["seconds"]))
            for name in names:
                ratios.append(_ratio_row(f"from {name} / cache {mode}", rates[name], rates["batches"], AIMS[mode]))
                ratios.append(_ratio_row(f"from {name} / cache {mode}, one by one", rates[name], rates["items"], None))
    return {"windows a second": rows, "ours over robomimic's": ratios}


def _load(dataset: Dataset, bench: LoaderBench) -> tuple[dict[str, WindowSource], dict[str, float]]:
    """Our sources, and how long each took until every file had been looked into once (s)."""
    make: dict[str, Callable[[], WindowSource]] = {
        "memory": lambda: MemorySource.of_dataset(dataset, bench.windows),
        "files": lambda: MappedSource(dataset, bench.windows),
        "files, keeping nothing": lambda: MappedSource(dataset, bench.windows, limits=FileLimits(kept_bytes=0)),
    }
    sources, loading = {}, {}
    for name, one in make.items():
        begin = time.perf_counter()
        sources[name] = one()
        sources[name].take(np.arange(0, len(sources[name]), bench.steps))
        loading[name] = time.perf_counter() - begin
    return sources, loading


def _require_equal(source: WindowSource, mode: str | None, count: int, ask: Callable[..., Any]) -> None:
    """Refuse to compare unless both sides hand out the same windows."""
    if count != len(source):
        raise UnderstudyError(f"robomimic has {count} windows and we have {len(source)}; nothing is compared.")
    rng = np.random.default_rng(0)
    indices = np.unique([0, len(source) - 1, *rng.integers(0, len(source), 100)])
    windows = source.take(indices)
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as scratch:
        file = Path(scratch) / "windows.npz"
        ask(do="save", mode=mode, indices=indices.tolist(), file=str(file))
        with np.load(file, allow_pickle=False) as theirs:
            same = np.array_equal(theirs["actions"], windows.actions) and all(
                np.array_equal(theirs[f"obs/{key}"], values) for key, values in windows.observations.items()
            )
    if not same:
        raise UnderstudyError(f"robomimic's windows (cache {mode}) differ from ours; nothing is compared.")


def _rate(batches: Iterator[Any], seconds: float) -> float:
    windows, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        windows += len(next(batches))
    return windows / (time.perf_counter() - begin)


def _per_second(answer: dict[str, float]) -> float:
    return answer["windows"] / answer["seconds"]


def _rates_row(what: str, rates: list[float], loading_s: float) -> Row:
    return {
        "what": what,
        "windows/s, median": round(float(np.median(rates))),
        "least": round(min(rates)),
        "most": round(max(rates)),
        "loading, s": round(loading_s, 2),
    }


def _ratio_row(what: str, ours: list[float], theirs: list[float], aim: float | None) -> Row:
    ratios = np.array(ours) / np.array(theirs)
    return {
        "beside": what,
        "ratio, median": round(float(np.median(ratios)), 2),
        "least": round(float(ratios.min()), 2),
        "most": round(float(ratios.max()), 2),
        "aim": aim,
    }
