"""Kill -9 at any instant loses no committed episode, and of the open one nothing that was on disk."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from datasets_builders import make_episode

from understudy.datasets.camera_streams import frames_file, read_frames_of
from understudy.datasets.episode import Episode
from understudy.datasets.store import Dataset

TESTS = Path(__file__).parents[1]
RECORDER = Path(__file__).parent / "endless_recorder.py"
EVERY = 9
"""Steps after which the recorder hands samples over."""


@dataclass
class Said:
    """What a recorder claimed before it was killed."""

    committed: dict[str, str] = field(default_factory=dict)
    open_id: str | None = None
    steps: int = 0


def record_and_kill(path: Path, delay_s: float, images: bool) -> Said:
    command = [sys.executable, str(RECORDER), str(path), "images" if images else "numbers"]
    paths = os.pathsep.join(map(str, (TESTS.parent, TESTS)))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    time.sleep(delay_s)
    process.kill()
    lines += process.stdout.read().splitlines()
    process.wait()
    process.stdout.close()
    said = Said()
    for words in (line.split() for line in lines if line.endswith("\n") or line):
        if words[0] == "open":
            said.open_id, said.steps = words[1], 0
        elif words[0] == "step":
            said.steps = int(words[1])
        elif words[0] == "commit" and len(words) == 3:
            said.committed[words[1]] = words[2]
            said.open_id, said.steps = None, 0
    return said


def check_after_kill(path: Path, said: Said, before: dict[str, str]) -> None:
    dataset = Dataset.open(path)
    assert not dataset.recovery.unreadable
    for id, digest in {**before, **said.committed}.items():
        assert id in dataset.ids
        if len(digest) == 64:
            assert hashlib.sha256(dataset.file(id).read_bytes()).hexdigest() == digest
    if said.open_id is None or said.steps == 0:
        return
    if said.open_id in dataset.ids:  # killed between the rename and the word about it
        assert len(dataset.read(said.open_id)) == 90
        return
    assert said.open_id in dataset.takes()
    id = dataset.commit(dataset.take_file(said.open_id))
    take = dataset.read(id)
    assert len(take) >= said.steps
    assert "recovered" in take.info.note or len(take) == 90
    assert_is_prefix(take)
    if "image_front" in take.observations:
        assert_samples(dataset, id, take, said.steps)


def assert_samples(dataset: Dataset, id: str, take: Episode, steps: int) -> None:
    """Samples at their own rate, which are handed over after their step, are whole up to the step before."""
    before = (steps - 1) // EVERY * EVERY
    if before == 0:
        return
    command, seen = take.streams["command"], list(read_frames_of(frames_file(dataset.path, id), "front"))
    assert min(len(command.stamps_ns) // 10, len(seen)) >= before
    assert np.array_equal(command.values[:, 0], 0.5 * np.arange(len(command.values)))
    assert np.array_equal(command.receives_ns, np.arange(len(command.values)))
    for frame, pixels in zip(seen, take.observations["image_front"], strict=False):
        assert np.array_equal(frame.pixels, pixels)


def assert_is_prefix(take: object) -> None:
    """The recovered take is the beginning of the one of the three episodes it came from."""
    sources = [make_episode(90, seed=seed, images="image_front" in take.observations) for seed in range(3)]
    source = next(s for s in sources if np.array_equal(s.sent[0], take.sent[0]))
    n = len(take)
    assert np.array_equal(take.measured, source.measured[:n])
    assert np.array_equal(take.tick_ns, source.tick_ns[:n])
    for key, values in take.observations.items():
        assert np.array_equal(values, source.observations[key][:n]), key
        following = source.observations[key][n] if n < 90 else source.final_observation[key]
        assert np.array_equal(take.final_observation[key], following), key


def kill_repeatedly(path: Path, times: int, images: bool, seed: int) -> int:
    rng = np.random.default_rng(seed)
    committed: dict[str, str] = {}
    for _ in range(times):
        said = record_and_kill(path, float(rng.uniform(0.0, 0.8)), images)
        check_after_kill(path, said, committed)
        committed.update(said.committed)
    return len(committed)


@pytest.mark.parametrize("images", [False, True])
def test_killed_recorder_loses_nothing_that_was_on_disk(tmp_path: Path, images: bool) -> None:
    assert kill_repeatedly(tmp_path / "demos", 6, images, seed=7) > 0


@pytest.mark.slow
@pytest.mark.parametrize("images", [False, True])
def test_killed_recorder_many_times(tmp_path: Path, images: bool) -> None:
    assert kill_repeatedly(tmp_path / "demos", 100, images, seed=11) > 0
