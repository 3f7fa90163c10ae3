"""Windows read from files: bounded, verified, and clear about what is wrong with a file."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from datasets_builders import make_dataset

from understudy.datasets.batching.episode_files import EpisodeFiles, FileLimits, find_places
from understudy.datasets.batching.mapped_source import MappedSource
from understudy.datasets.batching.memory_source import MemorySource
from understudy.datasets.batching.steps import StepConfig
from understudy.datasets.batching.windows import WindowConfig, Windows
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError, InputError

CONFIG = WindowConfig(past=2, future=3, keys=("joint_position", "image_front"), steps=StepConfig(drop_idle=False))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return make_dataset(tmp_path / "d", 6, images=True)


def assert_same(one: Windows, other: Windows) -> None:
    np.testing.assert_array_equal(one.actions, other.actions)
    for key, values in one.observations.items():
        np.testing.assert_array_equal(values, other.observations[key])


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_open_files_and_tables_are_bounded(dataset: Dataset) -> None:
    before = open_files()
    source = MappedSource(dataset, CONFIG, limits=FileLimits(open_files=2, table_bytes=1))
    expected = MemorySource.of_dataset(dataset, CONFIG)
    some = np.random.default_rng(0).permutation(len(source))[:100]
    assert_same(source.take(some), expected.take(some))
    assert open_files() <= before + 2
    del source
    assert open_files() == before


def test_many_threads_share_few_files(dataset: Dataset) -> None:
    source = MappedSource(dataset, CONFIG, limits=FileLimits(open_files=1))
    expected = MemorySource.of_dataset(dataset, CONFIG)
    picks = [np.random.default_rng(seed).permutation(len(source))[:60] for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        for pick, windows in zip(picks, pool.map(source.take, picks), strict=True):
            assert_same(windows, expected.take(pick))


def test_it_may_be_pickled_and_used_after_a_fork(dataset: Dataset) -> None:
    source = MappedSource(dataset, CONFIG)
    expected = source.take(np.arange(20))
    assert_same(pickle.loads(pickle.dumps(source)).take(np.arange(20)), expected)  # noqa: S301 (our own)
    child = os.fork()
    if not child:
        try:
            assert_same(source.take(np.arange(20)), expected)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert_same(source.take(np.arange(20)), expected)


def test_a_flipped_byte_is_named_before_it_is_used(dataset: Dataset) -> None:
    file = dataset.file(dataset.ids[2])
    places = find_places(file, ["obs/joint_position"], dataset.summary(dataset.ids[2]).steps)
    data = bytearray(file.read_bytes())
    data[places["obs/joint_position"].offset + 5] ^= 0x40
    file.write_bytes(data)
    first = int(np.sum([dataset.summary(id).steps for id in dataset.ids[:2]]))
    healthy = MappedSource(dataset, CONFIG, verify=True)
    assert len(healthy.take(np.arange(first))) == first
    with pytest.raises(DatasetError, match=f"{file.name} is damaged"):
        healthy.take(np.array([first]))


def test_a_file_that_is_cut_or_gone_is_named(dataset: Dataset) -> None:
    file, steps = dataset.file(dataset.ids[0]), dataset.summary(dataset.ids[0]).steps
    source = MappedSource(dataset, CONFIG, limits=FileLimits(kept_bytes=0))
    assert len(source.take(np.array([0]))) == 1
    files = EpisodeFiles([file], [steps], ["obs/image_front", "obs/joint_position"])
    reader = files.acquire(0)
    with file.open("r+b") as opened:
        opened.truncate(min(place.offset or place.chunks[-1, 0] for place in reader.places.values()))
    with pytest.raises(DatasetError, match=f"{file.name} ends before obs/image_front does"):
        reader.read_frame("obs/image_front", steps - 1)
    with pytest.raises(DatasetError, match=f"{file.name} ends before obs/joint_position does"):
        reader.read_rows("obs/joint_position", 0, memoryview(bytearray(8 * steps)))
    files.release(reader)
    with pytest.raises(DatasetError, match=f"{file.name} ends before"):
        source.take(np.array([steps - 1]))
    with pytest.raises(DatasetError, match=f"{file.name}: not a readable episode file .*truncated"):
        MappedSource(dataset, CONFIG).take(np.array([0]))
    dataset.drop(dataset.ids[1])
    with pytest.raises(DatasetError, match=r"cannot be opened .*if it was dropped meanwhile, start anew"):
        source.take(np.array([steps + 1]))


def test_a_frame_that_cannot_be_unpacked_is_named(dataset: Dataset) -> None:
    file = dataset.file(dataset.ids[0])
    steps = dataset.summary(dataset.ids[0]).steps
    offset, size = find_places(file, ["obs/image_front"], steps)["obs/image_front"].chunks[4]
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(bytes(int(size)))
    with pytest.raises(DatasetError, match=f"{file.name}: obs/image_front, row 4: A camera frame"):
        MappedSource(dataset, CONFIG).take(np.array([4]))


def test_a_new_label_while_training_is_followed(dataset: Dataset) -> None:
    source = MappedSource(dataset, CONFIG, limits=FileLimits(open_files=1))
    before = source.take(np.arange(30))
    dataset.relabel(dataset.ids[0], note="x" * 9000)  # the arrays lie elsewhere in the file that replaces it
    source.take(np.array([len(source) - 1]))
    assert_same(source.take(np.arange(30)), before)


def test_what_is_not_stored_plainly_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "e.hdf5"
    with h5py.File(path, "x") as file:
        file["episode/actions"] = np.zeros((4, 2), np.float32)
        file.create_dataset("episode/obs/joint_position", data=np.zeros((4, 2)), chunks=(2, 2))
        file.create_dataset("episode/obs/image_a", data=np.zeros((4, 2, 2, 3), np.uint8), chunks=(2, 2, 2, 3))
    for name, reason in (("obs/joint_position", "not stored in one piece"), ("obs/image_a", "not stored one frame")):
        with pytest.raises(DatasetError, match=f"e.hdf5: {name} is {reason}"):
            find_places(path, [name], 4)
    with pytest.raises(DatasetError, match=r"actions has shape \(4, 2\); expected 5 rows"):
        find_places(path, ["actions"], 5)
    with pytest.raises(InputError, match="open_files must be at least 1, got 0"):
        FileLimits(open_files=0)


def test_numbers_of_another_type_become_float32(tmp_path: Path) -> None:
    path = tmp_path / "e.hdf5"
    values = np.random.default_rng(0).normal(size=(6, 3))
    with h5py.File(path, "x") as file:
        file["episode/obs/joint_position"] = values
    files = EpisodeFiles([path], [6], ["obs/joint_position"])
    reader = files.acquire(0)
    into = np.empty((2, 3))
    reader.read_rows("obs/joint_position", 3, memoryview(into.view(np.uint8).reshape(-1)))
    files.release(reader)
    np.testing.assert_array_equal(into, values[3:5])
