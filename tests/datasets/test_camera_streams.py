"""Samples at their own rate, numbers and camera frames: what was handed over is what is read, also after a kill."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from datasets_builders import make_episode, steps_of
from PIL import Image

from understudy.datasets.camera_streams import CameraFrame, frames_file, kept_frames, read_frames_of
from understudy.datasets.episode import Stream
from understudy.datasets.merge import merge
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError, InputError, RecordingError

EPISODE = make_episode(6)


def jpeg(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")  # without loss, so that it can be compared
    return np.frombuffer(buffer.getvalue(), np.uint8)


def frames(count: int, seed: int, packed: bool) -> list[CameraFrame]:
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (count, 12, 16, 3), np.uint8)
    return [CameraFrame(10 * k, 10 * k + 3, p, jpeg(p) if packed else None) for k, p in enumerate(pictures)]


def numbers(first: int, count: int) -> Stream:
    stamps = np.arange(first, first + count, dtype=np.int64)
    return Stream(stamps, np.stack([stamps, -stamps], axis=1).astype(float), stamps + 7)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.create(tmp_path / "demos", robot="two_joint", task="reach")


def record(dataset: Dataset, *batches: tuple[dict, dict]) -> str:
    first = {key: values[0] for key, values in EPISODE.observations.items()}
    with dataset.begin(EPISODE.info, first) as writer:
        for step in steps_of(EPISODE):
            writer.add(step)
        for streams, cameras in batches:
            writer.add_samples(streams, cameras)
        return dataset.commit(writer.finish())


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_handed_over_is_read_back(dataset: Dataset, packed: bool):
    seen = frames(7, 0, packed)
    id = record(
        dataset,
        ({"command": numbers(0, 600)}, {"front": seen[:3]}),
        ({"command": numbers(600, 3), "other": numbers(0, 1)}, {}),
        ({}, {"front": seen[3:]}),
    )
    streams = dataset.read(id).streams
    assert set(streams) == {"command", "other"}
    for name, count in (("command", 603), ("other", 1)):
        wanted = numbers(0, count)
        assert np.array_equal(streams[name].stamps_ns, wanted.stamps_ns)
        assert np.array_equal(streams[name].receives_ns, wanted.receives_ns)
        assert np.array_equal(streams[name].values, wanted.values)
    path = frames_file(dataset.path, id)
    assert kept_frames(path) == {"front": 7}
    for read, wanted in zip(read_frames_of(path, "front"), seen, strict=True):
        assert (read.stamp_ns, read.receive_ns) == (wanted.stamp_ns, wanted.receive_ns)
        assert np.array_equal(read.pixels, wanted.pixels)
        assert (read.packed is None) is not packed


def test_frames_outlive_dropping_and_restoring_and_go_with_the_trash(dataset: Dataset):
    id = record(dataset, ({}, {"front": frames(2, 0, False)}))
    dataset.drop(id)
    dataset.restore(id)
    assert kept_frames(frames_file(dataset.path, id)) == {"front": 2}
    dataset.drop(id)
    dataset.empty_trash()
    assert not frames_file(dataset.path, id).exists()


def test_frames_are_merged_with_their_episode(dataset: Dataset, tmp_path: Path):
    id = record(dataset, ({}, {"front": (some := frames(2, 0, False))}))
    target = Dataset.create(tmp_path / "target", robot="two_joint", task="reach")
    merge([dataset], target)
    read = read_frames_of(frames_file(target.path, id), "front")
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(read, some, strict=True))


def test_a_damaged_frame_is_named(dataset: Dataset):
    id = record(dataset, ({}, {"front": (some := frames(3, 0, False))}))
    path = frames_file(dataset.path, id)
    data = bytearray(path.read_bytes())
    at = data.index(some[1].pixels.tobytes())
    data[at + 5] ^= 1
    path.write_bytes(bytes(data))
    read = read_frames_of(path, "front")
    next(read)
    with pytest.raises(DatasetError, match="frame 1 of 'front' is damaged"):
        next(read)
    with pytest.raises(InputError, match=r"Unknown camera 'frnt'.*front"):
        next(read_frames_of(path, "frnt"))


def test_samples_of_another_shape_end_the_recording(dataset: Dataset):
    first = {key: values[0] for key, values in EPISODE.observations.items()}
    with dataset.begin(EPISODE.info, first) as writer:
        writer.add(next(iter(steps_of(EPISODE))))
        writer.add_samples({"command": numbers(0, 2)})
        writer.add_samples({"command": Stream(np.zeros(1, np.int64), np.zeros((1, 5)))})
        with pytest.raises(RecordingError, match=r"samples have shape \(5,\)"):
            writer.finish()
