"""Recording without waiting, and saving without slowing down.

Three measurements, each against what one would do instead:

- handing one step (7 joints, 3 cameras of 640x480) to the writer at 30 Hz, against appending and flushing eight numbers
  to an HDF5 file in SWMR mode on the control thread;
- finishing and committing an episode when the dataset holds 100, 1,000 and 10,000, in turns with one that holds a few;
- packing camera frames: zlib, ISA-L, LZF and nothing, on rendered frames with and without a camera's noise.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from understudy.datasets.episode import Episode, write_episode
from understudy.datasets.frames import frame_storage
from understudy.datasets.index import INDEX
from understudy.datasets.live_file import Step
from understudy.datasets.schema import ActionSpec, EpisodeInfo
from understudy.datasets.store import Dataset
from understudy.errors import InputError

Frame = NDArray[np.uint8]
Row = dict[str, Any]
CAMERAS = ("image_front", "image_side", "image_wrist")
JOINTS = tuple(f"joint{i}" for i in range(1, 8))
SPEC = ActionSpec("joint_position", JOINTS, ("rad",) * 7, (-3.0,) * 7, (3.0,) * 7)
INFO = EpisodeInfo("panda", "lift", SPEC, 30.0, operator="benchmark", device="benchmark", success=True)


@dataclass(frozen=True)
class StoreBench:
    """How long and how much is measured."""

    seconds: float = 60.0
    """Of recording at 30 Hz."""
    episodes: int = 10_000
    """The dataset grows to this."""
    saves: int = 25
    """Saved, one by one, at each size."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.1 <= self.seconds <= 3600 or self.episodes < 1 or self.saves < 1:
            raise InputError(
                "The store benchmark needs 0.1 to 3600 seconds and at least one episode and save, got "
                f"{self.seconds:g}, {self.episodes} and {self.saves}."
            )

    def run(self, progress: Callable[[str], None] = lambda word: None) -> dict[str, list[Row]]:
        """Measure everything; one table a name."""
        rng = np.random.default_rng(self.seed)
        with tempfile.TemporaryDirectory(prefix="understudy-bench-") as scratch:
            progress("handing over")
            handover = measure_handover(Path(scratch), self.seconds, rng)
            progress("saving")
            saving = measure_saving(Path(scratch), self.episodes, self.saves)
            progress("packing")
            packing = measure_packing(Path(scratch), rng)
        return {"handover": handover, "saving": saving, "packing": packing}


# --- handing over ------------------------------------------------------------------------------------------------


def measure_handover(folder: Path, seconds: float, rng: np.random.Generator) -> list[Row]:
    """Record at 30 Hz and time what the control thread spends on it; then the same with eight numbers and SWMR."""
    period_s, ticks = 1.0 / INFO.rate_hz, math.ceil(seconds * INFO.rate_hz)
    pool = [noisy(scene(shift), rng) for shift in range(6)]
    dataset = Dataset.create(folder / "handover", robot="panda", task="lift")
    joints = rng.normal(0, 0.3, (ticks + 1, 7)).astype(np.float32)
    spent_us = np.zeros(ticks)
    started = time.perf_counter()
    with dataset.begin(INFO, _observation(joints[0], pool, 0)) as writer:
        for k in range(ticks):
            seen = _observation(joints[k + 1], pool, k + 1)  # a camera delivers a frame of its own each time
            step = Step(k + 1, joints[k], joints[k], joints[k], 0.0, dict.fromkeys(seen, 0.01), seen)
            _sleep_until(started + (k + 1) * period_s)
            begin = time.perf_counter_ns()
            writer.add(step)
            spent_us[k] = (time.perf_counter_ns() - begin) * 1e-3
        behind = writer.steps - writer.written
        begin_s = time.perf_counter()
        id = dataset.commit(writer.finish())
        saved_s = time.perf_counter() - begin_s
    kept = dataset.summary(id).steps
    size = dataset.file(id).stat().st_size
    shutil.rmtree(dataset.path)
    at_end = {
        "lost": ticks - kept,
        "behind at the end": behind,
        "saved in s": round(saved_s, 2),
        "MB": round(size / 1e6),
    }
    swmr_us = _swmr_us(folder, min(ticks, 2000))
    return [
        {"what": "hand over 7 joints, 3 frames", "steps": ticks, **_spread(spent_us), **at_end},
        {"what": "SWMR: 8 numbers", "steps": len(swmr_us), **_spread(swmr_us), **dict.fromkeys(at_end)},
    ]


def _observation(joints: NDArray[np.float32], pool: list[Frame], k: int) -> dict[str, NDArray[Any]]:
    frames = {camera: pool[(k + i) % len(pool)].copy() for i, camera in enumerate(CAMERAS)}
    return {"joint_position": joints, **frames}


def _swmr_us(folder: Path, ticks: int) -> NDArray[np.float64]:
    spent_us = np.zeros(ticks)
    with h5py.File(folder / "swmr.h5", "w", libver="latest") as file:
        rows = file.create_dataset("rows", (0, 8), "f8", maxshape=(None, 8), chunks=(64, 8))
        file.swmr_mode = True
        for k in range(ticks):
            begin = time.perf_counter_ns()
            rows.resize(k + 1, axis=0)
            rows[k] = k
            rows.flush()
            spent_us[k] = (time.perf_counter_ns() - begin) * 1e-3
    return spent_us


def _sleep_until(when_s: float) -> None:
    while (left := when_s - time.perf_counter()) > 0:
        time.sleep(left)


def _spread(values_us: NDArray[np.float64]) -> Row:
    p50, p99 = np.percentile(values_us, [50, 99])
    return {"p50 us": round(float(p50), 1), "p99 us": round(float(p99), 1), "max us": round(float(values_us.max()), 1)}


# --- saving ------------------------------------------------------------------------------------------------------


def measure_saving(folder: Path, largest: int, saves: int) -> list[Row]:
    """Time finish and commit of a 60-step episode in datasets of several sizes, in turns with one of few episodes."""
    large = Dataset.create(folder / "large", robot="panda", task="lift")
    template = folder / "template.hdf5"
    write_episode(template, _episode(60))
    rows: list[Row] = []
    for size in [n for n in (100, 1_000, 10_000) if n < largest] + [largest]:
        _fill(large, template, size - len(large))
        small = Dataset.create(folder / f"small{size}", robot="panda", task="lift")
        _save_ms(small)
        spent_ms = np.array([(_save_ms(large), _save_ms(small)) for _ in range(saves)])
        ratios = spent_ms[:, 0] / spent_ms[:, 1]
        rows.append(
            {
                "episodes in the dataset": size,
                "median ms": round(float(np.median(spent_ms[:, 0])), 2),
                "in turns, first episodes, ms": round(float(np.median(spent_ms[:, 1])), 2),
                "ratio, median of pairs": round(float(np.median(ratios)), 2),
                "p10": round(float(np.percentile(ratios, 10)), 2),
                "p90": round(float(np.percentile(ratios, 90)), 2),
                "index kB": round((large.path / INDEX).stat().st_size / 1000),
            }
        )
        shutil.rmtree(small.path)
    shutil.rmtree(large.path)
    return rows


def _episode(steps: int) -> Episode:
    joints = np.linspace(0, 1, (steps + 1) * 7).reshape(-1, 7)
    observed = joints.astype(np.float32)
    return Episode(
        info=INFO,
        observations={"joint_position": observed[:-1]},
        final_observation={"joint_position": observed[-1]},
        requested=joints[:-1],
        sent=joints[:-1],
        measured=joints[1:],
        rewards=np.zeros(steps, np.float32),
        tick_ns=np.arange(1, steps + 1, dtype=np.int64) * 33_000_000,
    )


def _fill(dataset: Dataset, template: Path, missing: int) -> None:
    """Let the dataset grow quickly, by copies of one episode."""
    for start in range(0, missing, 500):
        takes = []
        for _ in range(min(500, missing - start)):
            takes.append(dataset.new_take())
            shutil.copyfile(template, takes[-1])
        dataset.commit_all(takes)


def _save_ms(dataset: Dataset) -> float:
    """Record an episode as an operator does, and time what comes after its last step."""
    episode = _episode(60)
    following = [*episode.observations["joint_position"][1:], episode.final_observation["joint_position"]]
    with dataset.begin(INFO, {"joint_position": episode.observations["joint_position"][0]}) as writer:
        for k, seen in enumerate(following):
            sent = episode.sent[k]
            writer.add(Step(int(episode.tick_ns[k]), sent, sent, sent, 0.0, {}, {"joint_position": seen}))
        while writer.written < writer.steps:
            time.sleep(0.001)
        begin = time.perf_counter()
        dataset.commit(writer.finish(dataclasses.replace(INFO, note="saved")))
        return (time.perf_counter() - begin) * 1e3


# --- packing -----------------------------------------------------------------------------------------------------


def measure_packing(folder: Path, rng: np.random.Generator) -> list[Row]:
    """Pack and unpack 640x480 frames in each way that any HDF5 library reads."""
    plain = [scene(shift) for shift in range(8)]
    packers: Mapping[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
        "gzip 1 by zlib": (lambda raw: zlib.compress(raw, 1), zlib.decompress),
        "gzip 0 by ISA-L": (lambda raw: isal_zlib.compress(raw, 0), isal_zlib.decompress),
        "gzip 1 by ISA-L (ours)": (lambda raw: isal_zlib.compress(raw, 1), isal_zlib.decompress),
    }
    rows: list[Row] = []
    for kind, frames in (("drawn", plain), ("with a camera's noise", [noisy(frame, rng) for frame in plain])):
        raws = [frame.tobytes() for frame in frames]
        for name, (pack, unpack) in packers.items():
            packed, pack_s = _timed(pack, raws)
            back, unpack_s = _timed(unpack, packed)
            if back != raws:
                raise AssertionError(f"{name} does not give the frames back")
            rows.append(_packing_row(kind, name, raws, sum(map(len, packed)), pack_s, unpack_s))
        for name, options in (("LZF by HDF5", {"compression": "lzf"}), ("none", {})):
            rows.append(_hdf5_row(folder / "packing.h5", kind, name, frames, options))
    return rows


def _timed(call: Callable[[bytes], bytes], pieces: list[bytes], rounds: int = 5) -> tuple[list[bytes], float]:
    """What `call` makes of each piece, and the median of the time that all of them take, s."""
    spent = []
    for _ in range(rounds):
        begin = time.perf_counter()
        result = [call(piece) for piece in pieces]
        spent.append(time.perf_counter() - begin)
    return result, float(np.median(spent))


def _hdf5_row(path: Path, kind: str, name: str, frames: list[Frame], options: Mapping[str, Any]) -> Row:
    raws = [frame.tobytes() for frame in frames]
    storage = {**frame_storage(frames[0].shape), "compression": None, "compression_opts": None, **options}
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("frames", (len(frames), *frames[0].shape), np.uint8, **storage)
        begin = time.perf_counter()
        for row, frame in enumerate(frames):
            stored[row] = frame
        file.flush()
        pack_s = time.perf_counter() - begin
        size = stored.id.get_storage_size()
    with h5py.File(path, "r") as file:
        begin = time.perf_counter()
        for row in range(len(frames)):
            file["frames"][row]
        unpack_s = time.perf_counter() - begin
    return _packing_row(kind, name, raws, size, pack_s, unpack_s)


def _packing_row(kind: str, name: str, raws: list[bytes], size: int, pack_s: float, unpack_s: float) -> Row:
    raw = sum(map(len, raws))
    return {
        "frames": kind,
        "packing": name,
        "raw : packed": round(raw / size, 2),
        "pack MB/s": round(raw / pack_s / 1e6),
        "unpack MB/s": round(raw / unpack_s / 1e6),
    }


def scene(shift: int, height: int = 480, width: int = 640) -> Frame:
    """A table with a few objects under soft light: flat areas, edges and gradients, as a camera at an arm sees."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    light = 0.75 + 0.25 * np.cos((x - 200) / 300) * np.cos((y - 100) / 260)
    image = np.empty((height, width, 3), np.float32)
    image[:] = (120, 105, 92)
    image[y < 0.35 * height] = (196, 200, 204)
    for k, colour in enumerate(((200, 40, 30), (30, 90, 180), (230, 190, 40))):
        left, top, side = 120 + 150 * k + 7 * shift, 250 + 40 * k, 70 - 12 * k
        image[(x > left) & (x < left + side) & (y > top) & (y < top + side)] = colour
    arm = np.abs((y - 60) - 0.7 * (x - 260 - 9 * shift)) < 22
    image[arm & (y < 360)] = (225, 225, 228)
    return np.asarray(np.clip(image * light[..., None], 0, 255), np.uint8)


def noisy(frame: Frame, rng: np.random.Generator, sigma: float = 2.0) -> Frame:
    """The frame with a sensor's noise (standard deviation in grey levels)."""
    return np.asarray(np.clip(np.rint(frame + rng.normal(0, sigma, frame.shape)), 0, 255), np.uint8)
