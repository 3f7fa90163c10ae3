"""Who drove, step by step: recorded where it is told, absent where it is not, never a mixture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
from datasets_builders import make_episode, steps_of

from understudy.datasets.episode import GROUP, read_episode, write_episode
from understudy.datasets.store import Dataset
from understudy.datasets.writer import EpisodeWriter
from understudy.errors import DatasetError, RecordingError

FLAGS = np.arange(60) % 7 < 3


def told_steps() -> list:
    return [dataclasses.replace(s, intervention=bool(f)) for s, f in zip(steps_of(make_episode()), FLAGS, strict=True)]


def begin(path: Path) -> EpisodeWriter:
    episode = make_episode()
    return EpisodeWriter(path, episode.info, {key: values[0] for key, values in episode.observations.items()})


def test_flags_come_back_step_by_step(tmp_path: Path) -> None:
    with begin(tmp_path / "e.hdf5") as writer:
        for step in told_steps():
            writer.add(step)
        writer.finish()
    found = read_episode(tmp_path / "e.hdf5").intervention
    assert found.dtype == np.bool_
    assert np.array_equal(found, FLAGS)


def test_an_episode_in_memory_comes_back_with_them_and_without(tmp_path: Path) -> None:
    write_episode(tmp_path / "with.hdf5", dataclasses.replace(make_episode(), intervention=FLAGS))
    write_episode(tmp_path / "without.hdf5", make_episode())
    assert np.array_equal(read_episode(tmp_path / "with.hdf5").intervention, FLAGS)
    assert read_episode(tmp_path / "without.hdf5").intervention.size == 0
    with h5py.File(tmp_path / "without.hdf5") as file:
        assert "intervention" not in file[GROUP]  # as files of before have it


def test_they_survive_an_interruption_and_a_relabelling(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "d", robot="two_joint", task="reach")
    writer = begin(dataset.new_take())
    for step in told_steps():
        writer.add(step)
    writer.release()  # as a process does that is killed
    opened = Dataset.open(tmp_path / "d")
    (id,) = opened.takes()
    opened.commit(opened.take_file(id))
    opened.relabel(id, note="seen")
    assert np.array_equal(opened.read(id).intervention, FLAGS)


def test_they_are_told_of_every_step_or_of_none(tmp_path: Path) -> None:
    steps = told_steps()
    writer = begin(tmp_path / "e.hdf5")
    writer.add(steps[0])
    writer.add(dataclasses.replace(steps[1], intervention=None))
    with pytest.raises(RecordingError, match="interventions are told of some steps and not of others"):
        writer.finish()
    writer.release()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (FLAGS[:-1], r"intervention has shape \(59,\); expected \(60,\)"),
        (FLAGS.astype(np.uint8), "intervention holds uint8; expected true or false"),
    ],
)
def test_what_are_no_flags_of_these_steps_is_refused(flags: np.ndarray, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        dataclasses.replace(make_episode(), intervention=flags)
