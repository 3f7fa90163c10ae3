"""Statistics in one pass: what numpy says of all data at once, kept until the data change."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from datasets_builders import make_dataset, make_episode
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from understudy.datasets.batching.normalisation import (
    FILE,
    Moments,
    RunningMoments,
    normalisation_of,
    read_normalisation,
)
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError, InputError


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 3)), elements=st.floats(-1e4, 1e4, width=32)),
    st.lists(st.integers(0, 40), max_size=5),
    st.sampled_from([0.0, 1e6]),
)
def test_blocks_give_what_all_rows_give(rows: np.ndarray, cuts: list[int], far: float) -> None:
    values = rows.astype(np.float64) + far
    running = RunningMoments()
    for block in np.split(values, sorted(cuts)):
        running.update(block)
    moments = running.result()
    assert moments.count == len(values)
    np.testing.assert_allclose(moments.mean, values.mean(axis=0), rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(moments.std, values.std(axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(moments.minimum, values.min(axis=0))
    np.testing.assert_array_equal(moments.maximum, values.max(axis=0))


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.just(3))))
def test_pixels_are_counted_exactly(frames: np.ndarray) -> None:
    running = RunningMoments()
    for frame in frames:
        running.update_frames(frame)
    moments, pixels = running.result(), frames.reshape(-1, 3).astype(np.float64)
    assert moments.count == len(pixels)
    np.testing.assert_allclose(moments.mean, pixels.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(moments.std, pixels.std(axis=0), atol=1e-9)
    np.testing.assert_array_equal(moments.minimum, pixels.min(axis=0))
    np.testing.assert_array_equal(moments.maximum, pixels.max(axis=0))


def test_of_a_dataset(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", 4, images=True)
    found = normalisation_of(dataset, keys=("joint_position", "image_front"), verify=True)
    assert set(found.observations) == {"joint_position", "image_front"}
    episodes = list(dataset.episodes())
    for moments, values in (
        (found.actions, np.concatenate([episode.actions for episode in episodes])),
        (found.observations["joint_position"], np.concatenate([e.observations["joint_position"] for e in episodes])),
        (found.observations["image_front"], np.concatenate([e.observations["image_front"] for e in episodes])),
    ):
        rows = values.astype(np.float64).reshape(-1, values.shape[-1])
        assert moments.count == len(rows)
        np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(moments.std, rows.std(axis=0), rtol=1e-9)
        np.testing.assert_array_equal((moments.minimum, moments.maximum), (rows.min(axis=0), rows.max(axis=0)))


def test_kept_until_the_data_change(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", 3)
    first = normalisation_of(dataset)
    assert first.checksum == dataset.checksum()
    path = dataset.path / FILE
    # what is kept is used: a mean that only the file says comes back
    data = json.loads(path.read_text())
    data["actions"]["mean"] = [0.125, 0.25]
    path.write_text(json.dumps(data))
    np.testing.assert_array_equal(normalisation_of(dataset).actions.mean, [0.125, 0.25])
    # with another episode it is computed anew
    dataset.add(make_episode(40, seed=9))
    second = normalisation_of(dataset)
    assert second.actions.count == first.actions.count + 40
    assert second.checksum == dataset.checksum() != first.checksum
    kept = read_normalisation(path)
    assert kept is not None
    np.testing.assert_array_equal(kept.actions.std, second.actions.std)
    assert not list(dataset.path.glob(".statistics*"))


def test_keys_that_were_not_asked_for_before_are_added(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", 2, images=True)
    assert "image_front" not in normalisation_of(dataset).observations
    assert set(normalisation_of(dataset, keys=("image_front",)).observations) == {"image_front"}
    kept = read_normalisation(dataset.path / FILE)
    assert kept is not None
    assert set(kept.observations) == {"goal_position", "image_front", "joint_position", "joint_velocity"}


def test_of_a_split(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", 5)
    dataset.name_split("some", dataset.ids[1:3])
    found = normalisation_of(dataset, split="some")
    assert found.actions.count == sum(dataset.summary(id).steps for id in dataset.ids[1:3])
    assert (dataset.path / "statistics-some.json").exists()
    with pytest.raises(InputError, match="Unknown split 'sone': did you mean 'some'"):
        normalisation_of(dataset, split="sone")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "checksum": "a"}', "[" * 5000])
def test_a_damaged_file_is_made_anew(tmp_path: Path, text: str) -> None:
    dataset = make_dataset(tmp_path / "d", 1)
    (dataset.path / FILE).write_text(text)
    assert read_normalisation(dataset.path / FILE) is None
    assert normalisation_of(dataset).actions.count == len(dataset.read(dataset.ids[0]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", 1)
    dataset.path.chmod(0o555)
    assert normalisation_of(dataset).actions.count > 0
    dataset.path.chmod(0o755)


def test_normalising_and_back() -> None:
    rows = np.random.default_rng(0).normal([5.0, 1e3], [0.1, 40.0], (500, 2))
    running = RunningMoments()
    running.update(rows)
    moments = running.result()
    scaled = moments.normalise(rows)
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0), 1.0, atol=1e-4)
    np.testing.assert_allclose(moments.denormalise(scaled), rows, rtol=1e-5)
    still = Moments(3, np.array([2.0]), np.zeros(1), np.array([2.0]), np.array([2.0]))
    np.testing.assert_array_equal(still.normalise(np.array([[2.0]])), [[0.0]])


def test_nothing_to_compute(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no episodes"):
        normalisation_of(Dataset.create(tmp_path / "d", robot="a", task="b"))
    with pytest.raises(DatasetError, match="nothing to compute"):
        RunningMoments().result()
    running = RunningMoments()
    running.update(np.zeros((2, 3)))
    with pytest.raises(DatasetError, match=r"shape \(2,\) after rows of shape \(3,\)"):
        running.update(np.zeros((2, 2)))
    with pytest.raises(InputError, match="Unknown observation key 'tool'"):
        normalisation_of(make_dataset(tmp_path / "e", 1), keys=("tool",))
