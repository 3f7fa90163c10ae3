"""The commands that change a dataset: what they do, print and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets_builders import make_dataset, make_episode

from understudy.cli.main import main
from understudy.datasets.index import INDEX
from understudy.datasets.store import Dataset


@pytest.fixture
def demos(tmp_path: Path) -> Dataset:
    dataset = make_dataset(tmp_path / "demos", 3)
    dataset.add(make_episode(20, seed=9, operator="bob", success=False, note="slipped"))
    return dataset


def run(*arguments: object) -> int:
    return main(list(map(str, arguments)))


def test_list_by_condition(demos: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("dataset", "list", demos.path, "--json", "--where", "'slip' in note and not success") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["id"], row["operator"], row["steps"], row["success"]) == (demos.ids[3], "bob", 20, False)
    assert run("dataset", "list", demos.path) == 0
    printed = capsys.readouterr()
    assert all(id in printed.out for id in demos.ids)
    assert "4 episodes" in printed.err
    assert run("dataset", "list", demos.path, "--where", "sucess") == 2
    assert "did you mean 'success'" in capsys.readouterr().err


def test_drop_restore_and_empty_the_trash(demos: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    last = demos.ids[3]
    assert run("dataset", "drop", demos.path, "--where", "operator == 'bob'") == 0
    assert demos.dropped == (last,)
    assert run("dataset", "list", demos.path, "--trash", "--json") == 0
    capsys.readouterr()
    assert run("dataset", "restore", demos.path, last) == 0
    assert last in demos.ids
    assert run("dataset", "drop", demos.path) == 2
    assert run("dataset", "drop", demos.path, last, "--where", "success") == 2
    assert capsys.readouterr().err.count("Name at least one episode by its id, or give a condition with --where") == 2
    assert run("dataset", "drop", demos.path, last) == 0
    assert run("dataset", "empty-trash", demos.path) == 2
    assert "Delete 1 dropped episodes" in capsys.readouterr().err
    assert demos.dropped == (last,)
    assert run("dataset", "empty-trash", demos.path, "--yes") == 0
    assert demos.dropped == ()


def test_label(demos: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    first = demos.ids[0]
    before = demos.summary(first)
    assert run("dataset", "label", demos.path, first, "--success", "no", "--note", "late", "--operator", "eve") == 0
    after = demos.summary(first)
    assert (after.info.success, after.info.note, after.info.operator) == (False, "late", "eve")
    assert after.content_checksum == before.content_checksum
    assert after.checksum != before.checksum
    assert run("dataset", "label", demos.path, first, "--success", "unjudged") == 0
    assert demos.summary(first).info.success is None
    assert demos.summary(first).info.note == "late"
    capsys.readouterr()
    assert run("dataset", "label", demos.path, first) == 2
    assert "Say what to write" in capsys.readouterr().err
    assert run("dataset", "label", demos.path, "nobody", "--note", "x") == 2


def test_a_damaged_episode_is_never_sealed_again(demos: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    file = demos.file(demos.ids[0])
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    assert run("dataset", "label", demos.path, demos.ids[0], "--note", "x") == 2
    assert "is damaged" in capsys.readouterr().err
    assert file.read_bytes() == raw


def test_split(demos: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("dataset", "split", demos.path, "--shares", "train=0.75", "valid=0.25", "--seed", 3) == 0
    assert capsys.readouterr().out.split("\n")[:2] == ["train: 3 episodes", "valid: 1 episodes"]
    first = demos.splits()
    assert set(first["train"]) | set(first["valid"]) == set(demos.ids)
    assert run("dataset", "split", demos.path, "--shares", "train=0.75", "valid=0.25", "--seed", 3) == 0
    assert demos.splits() == first
    assert run("dataset", "split", demos.path, "--name", "bobs", "--where", "operator == 'bob'") == 0
    assert demos.splits()["bobs"] == (demos.ids[3],)
    capsys.readouterr()
    for wrong in (["train"], ["train=x"], ["train=1.5"], ["train=0.7", "valid=0.7"], ["tr ain=0.5"], ["train=0.01"]):
        assert run("dataset", "split", demos.path, "--shares", *wrong) == 2
    assert run("dataset", "split", demos.path) == 2
    assert demos.splits()["train"] == first["train"]


def test_merge(demos: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Dataset.create(tmp_path / "other", robot="two_joint", task="reach")
    other.add(make_episode(20, seed=40))
    assert run("dataset", "merge", demos.path, other.path, "--out", tmp_path / "all", "--where", "success") == 0
    assert "4 episodes copied, 0 were there already" in capsys.readouterr().out
    assert len(Dataset.open(tmp_path / "all")) == 4
    assert run("dataset", "merge", demos.path, "--out", demos.path) == 2
    assert "is one of the sources" in capsys.readouterr().err


def test_repair_names_damage_file_by_file_and_makes_a_damaged_index_again(
    demos: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = demos.ids
    assert run("dataset", "repair", demos.path) == 0
    assert "index in order" in capsys.readouterr().out
    file = demos.file(ids[1])
    file.write_bytes(file.read_bytes()[:-100])
    (demos.path / INDEX).write_bytes(b"gone")
    assert run("dataset", "info", demos.path) == 2
    assert "dataset repair" in capsys.readouterr().err
    assert run("dataset", "repair", demos.path) == 1
    printed = capsys.readouterr().out
    assert "index made again" in printed
    assert f"{ids[1]}.hdf5 is damaged: cut short" in printed
    opened = Dataset.open(demos.path)
    assert set(opened.ids) == set(ids) - {ids[1]}
    assert (demos.path / f"{INDEX}.damaged").read_bytes() == b"gone"
    assert run("dataset", "drop", demos.path, ids[1]) == 0
    assert run("dataset", "repair", demos.path) == 0
    assert run("dataset", "restore", demos.path, ids[1]) == 2
    assert "is damaged" in capsys.readouterr().err


def damage_the_seal(dataset: Dataset, id: str) -> None:
    file = dataset.file(id)
    raw = bytearray(file.read_bytes())
    raw[300] ^= 1
    file.write_bytes(raw)


def test_one_damaged_episode_stops_nothing_and_is_named(
    demos: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`list`, `drop --where` and `merge` once ended at the first file whose seal was damaged."""
    damaged, *sound = demos.ids
    damage_the_seal(demos, damaged)
    assert run("dataset", "list", demos.path, "--json") == 0
    told = capsys.readouterr()
    assert [row["id"] for row in json.loads(told.out)] == sound
    assert f"passed over: {demos.path}/episodes/{damaged}.hdf5 is damaged" in told.err
    assert run("dataset", "merge", demos.path, "--out", tmp_path / "all") == 1
    assert f"left out: {demos.path}/episodes/{damaged}.hdf5 is damaged" in capsys.readouterr().out
    assert len(Dataset.open(tmp_path / "all")) == 3
    assert run("dataset", "drop", demos.path, "--where", "operator == 'bob'") == 0
    assert run("dataset", "drop", demos.path, damaged) == 0
    assert run("dataset", "list", demos.path, "--trash") == 0
    assert damaged in capsys.readouterr().err


def test_repair_keeps_no_damaged_take(demos: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    id = demos.ids[0]
    take = demos.take_file(id)
    demos.file(id).rename(take)
    take.write_bytes(take.read_bytes()[:-3] + b"xyz")
    run("dataset", "repair", demos.path, "--takes", "keep")
    assert f"take {id}: not kept: {take} is damaged" in capsys.readouterr().out
    assert take.exists()
    assert len(Dataset.open(demos.path)) == 3


def test_what_cannot_be_meant_is_refused_before_anything_is_made(
    demos: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("dataset", "split", demos.path, "--shares", "train=0.5", "train=0.2") == 2
    assert "given two shares" in capsys.readouterr().err
    assert run("dataset", "split", demos.path, "--shares", "train=0.5", "--seed", -1) == 2
    assert run("dataset", "merge", demos.path, "--out", tmp_path / "new", "--where", "bogus == 1") == 2
    assert not (tmp_path / "new").exists()


def test_notes_do_not_steer_the_terminal(demos: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    demos.relabel(demos.ids[0], note="\x1b[2Jgone [bold]b[/]")
    assert run("dataset", "list", demos.path) == 0
    printed = capsys.readouterr().out
    assert "\x1b[2J" not in printed
    assert "[bold]" in printed.replace("\n", "")
