"""Importing into a dataset that is there: only what is like its episodes, and nothing twice."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from datasets_builders import SPEC, make_episode

from tests.datasets.convert.convert_support import dataset_of
from understudy.datasets.convert.importing import export_dataset, import_here
from understudy.datasets.episode import Episode
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError


def _recording(folder: Path, content: list[Episode]) -> Path:
    """A robomimic file of these episodes."""
    dataset, ids = dataset_of(folder / "source", content)
    export_dataset(dataset, ids, "robomimic", folder / "recording.hdf5")
    return folder / "recording.hdf5"


def _import(path: Path, out: Path, report: Callable[[Mapping[str, Any]], None] = lambda told: None) -> dict[str, Any]:
    return import_here({"format": "robomimic", "path": str(path), "out": str(out), "config": {}}, report)


def _without(episode: Episode, key: str) -> Episode:
    observed = {name: values for name, values in episode.observations.items() if name != key}
    final = {name: values for name, values in episode.final_observation.items() if name != key}
    ages = {name: values for name, values in episode.ages_s.items() if name != key}
    return dataclasses.replace(episode, observations=observed, final_observation=final, ages_s=ages)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (make_episode(20, seed=9, rate_hz=50.0), "rate .*50 Hz there, 20 Hz here"),
        (
            make_episode(20, seed=9, action_spec=dataclasses.replace(SPEC, low=(-0.2, -0.1))),
            "action space .*same bounds",
        ),
        (make_episode(20, seed=9, actions="measured"), "training channel .*measured there, requested here"),
        (_without(make_episode(20, seed=9), "goal_position"), "observations"),
        (make_episode(20, seed=9, images=True), "observations .*image_front"),
    ],
)
def test_what_could_not_be_trained_on_together_is_refused_and_nothing_is_added(
    tmp_path: Path, other: Episode, what: str
) -> None:
    """Incident: an import put episodes of another action space and rate beside those that were there."""
    demos, _ = dataset_of(tmp_path / "demos", [make_episode(20, seed=1)])
    before = demos.ids
    with pytest.raises(DatasetError, match=rf"recording\.hdf5 differs in its {what}"):
        _import(_recording(tmp_path, [other]), demos.path)
    again = Dataset.open(demos.path)
    assert again.ids == before
    assert not list((demos.path / "recording").iterdir())


def test_a_recording_whose_episodes_differ_is_read_up_to_the_first_that_does(tmp_path: Path) -> None:
    content = [make_episode(20, seed=seed, rate_hz=rate_hz) for seed, rate_hz in enumerate((20.0, 20.0, 50.0, 20.0))]
    found = _import(_recording(tmp_path, content), tmp_path / "demos")
    assert len(found["ids"]) == 2
    assert "differs in its rate" in found["failure"]
    assert f"import {tmp_path / 'recording.hdf5'} to another --out" in found["failure"]
    assert Dataset.open(tmp_path / "demos").ids == tuple(found["ids"])


def test_an_import_that_was_killed_and_run_again_has_every_episode_once(tmp_path: Path) -> None:
    """Incident: after a kill, running the import again added what was there already a second time."""
    path, out = _recording(tmp_path, [make_episode(20 + seed, seed=seed) for seed in range(4)]), tmp_path / "demos"

    def die(told: Mapping[str, Any]) -> None:
        if told["done"] == 2:
            os._exit(9)

    child = os.fork()
    if child == 0:
        _import(path, out, die)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(Dataset.open(out)) == 2
    told: list[Mapping[str, Any]] = []
    found = _import(path, out, told.append)
    assert len(found["ids"]) == 2
    assert "2 episodes were there already, and were not added again." in found["notes"]
    assert [each["done"] for each in told] == [1, 2, 3, 4]
    dataset = Dataset.open(out)
    assert sorted(len(episode) for episode in dataset.episodes()) == [20, 21, 22, 23]
    once_more = _import(path, out)
    assert (once_more["ids"], once_more["failure"]) == ([], "")
    assert Dataset.open(out).ids == dataset.ids


def test_a_take_that_a_killed_import_left_is_committed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Incident: killed between putting a file among the takes and committing it, the episode was then added twice."""
    path, out = _recording(tmp_path, [make_episode(20 + seed, seed=seed) for seed in range(2)]), tmp_path / "demos"
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(Dataset, "commit", lambda *_: os._exit(9))
        _import(path, out)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(Dataset.open(out).takes()) == 1
    assert len(_import(path, out)["ids"]) == 2
    dataset = Dataset.open(out)
    assert dataset.takes() == ()
    assert sorted(len(episode) for episode in dataset.episodes()) == [20, 21]


def test_splits_hold_what_was_there_already_and_hold_it_once(tmp_path: Path) -> None:
    dataset, ids = dataset_of(tmp_path / "source", [make_episode(20 + seed, seed=seed) for seed in range(3)])
    dataset.name_split("valid", ids[1:])
    export_dataset(dataset, ids, "robomimic", tmp_path / "recording.hdf5")
    for _ in range(2):
        _import(tmp_path / "recording.hdf5", tmp_path / "demos")
        found = Dataset.open(tmp_path / "demos")
        assert found.splits() == {"valid": found.ids[1:]}
