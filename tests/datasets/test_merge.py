"""Merging: every demonstration once, byte for byte, and only with its like."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from datasets_builders import SPEC, make_episode
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.datasets.merge import merge
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError


def dataset_of(path: Path, *seeds: int, task: str = "reach", **changes: object) -> Dataset:
    dataset = Dataset.create(path, robot="two_joint", task=task)
    for seed in seeds:
        dataset.add(make_episode(12 + seed, seed=seed, task=task, **changes))
    return dataset


def contents(dataset: Dataset) -> list[str]:
    return sorted(dataset.summary(id).content_checksum for id in dataset.ids)


@given(
    sources=st.lists(st.lists(st.integers(0, 5), max_size=4, unique=True), min_size=1, max_size=3),
    there=st.lists(st.integers(0, 5), max_size=3, unique=True),
)
@settings(max_examples=12, deadline=None)
def test_the_union_each_demonstration_once_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, sources: list[list[int]], there: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    opened = [dataset_of(folder / f"source{i}", *seeds) for i, seeds in enumerate(sources)]
    target = dataset_of(folder / "target", *there)
    found = merge(opened, target)
    every = {seed for seeds in (*sources, there) for seed in seeds}
    assert len(target) == len(every) == len(set(contents(target)))
    assert len(found.copied) + len(found.present) == sum(map(len, sources))
    assert set(contents(target)) >= {checksum for source in opened for checksum in contents(source)}
    originals = {source.file(id).read_bytes() for source in opened for id in source.ids}
    assert all(target.file(id).read_bytes() in originals for id in found.copied)
    assert not target.damaged()
    assert merge(opened, target).copied == ()  # and again changes nothing


def test_a_condition_chooses(tmp_path: Path) -> None:
    source = dataset_of(tmp_path / "source", 1, 2, 3)
    target = Dataset.create(tmp_path / "target", robot="two_joint", task="reach")
    assert len(merge([source], target, where="steps > 13").copied) == 2


def test_one_id_for_two_demonstrations_is_no_reason_to_lose_one(tmp_path: Path) -> None:
    one, two = dataset_of(tmp_path / "one", 1), dataset_of(tmp_path / "two", 2)
    two.file(two.ids[0]).rename(two.path / "episodes" / f"{one.ids[0]}.hdf5")
    two = Dataset.open(two.path)
    target = Dataset.create(tmp_path / "target", robot="two_joint", task="reach")
    assert len(set(merge([one, two], target).copied)) == 2
    assert contents(target) == sorted(contents(one) + contents(two))


def test_a_damaged_episode_is_left_out_and_named(tmp_path: Path) -> None:
    source = dataset_of(tmp_path / "source", 1, 2)
    file = source.file(source.ids[0])
    file.write_bytes(file.read_bytes()[:-7])
    target = Dataset.create(tmp_path / "target", robot="two_joint", task="reach")
    found = merge([source], target)
    assert found.copied == (source.ids[1],)
    assert len(found.damaged) == 1
    assert f"{source.ids[0]}.hdf5 is damaged: cut short" in found.damaged[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate_hz": 50.0}, "differs in its rate"),
        ({"actions": "sent"}, "differs in its training channel"),
        ({"action_spec": dataclasses.replace(SPEC, high=(0.2, 0.2))}, "differs in its action space"),
        ({"task": "push"}, "holds demonstrations of task 'reach', and 'push' was asked for"),
    ],
)
def test_unlike_episodes_are_refused_before_anything_is_copied(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    sources = [dataset_of(tmp_path / "one", 1), dataset_of(tmp_path / "two", 2, **changes)]
    target = Dataset.create(tmp_path / "target", robot="two_joint", task="reach")
    with pytest.raises(DatasetError, match=words):
        merge(sources, target)
    assert len(target) == 0
    assert not list((target.path / "recording").iterdir())


def test_other_observations_are_refused(tmp_path: Path) -> None:
    one, two = dataset_of(tmp_path / "one", 1), Dataset.create(tmp_path / "two", robot="two_joint", task="reach")
    two.add(make_episode(12, images=True))
    with pytest.raises(DatasetError, match=r"differs in its observations .*image_front"):
        merge([one, two], Dataset.create(tmp_path / "target", robot="two_joint", task="reach"))
