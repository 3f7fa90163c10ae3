"""The store: what goes in comes out, the index follows robomimic's rules, and damage is named and contained."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from datasets_builders import info, make_dataset, make_episode, record, steps_of

from understudy.datasets import disk
from understudy.datasets.disk import LiveLock
from understudy.datasets.index import INDEX
from understudy.datasets.seal import read_seal, write_seal
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError, RecordingError


def test_episodes_come_back_as_recorded(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 3, images=True)
    for seed, episode in enumerate(Dataset.open(tmp_path / "demos").episodes()):
        source = make_episode(55 + 3 * seed, seed=seed, images=True)
        for key, values in source.observations.items():
            assert np.array_equal(episode.observations[key], values)
            assert np.array_equal(episode.final_observation[key], source.final_observation[key])
        for channel in ("requested", "sent", "measured", "rewards", "tick_ns"):
            assert np.array_equal(getattr(episode, channel), getattr(source, channel))
        assert episode.info == source.info
    assert len(dataset) == 3


def test_index_obeys_the_rules_of_robomimic(tmp_path: Path) -> None:
    """What robomimic 0.3.0 reads: `SequenceDataset` and `get_env_metadata_from_dataset`, rule by rule."""
    dataset = make_dataset(tmp_path / "demos", 5)
    dataset.split({"train": 0.6, "valid": 0.4}, np.random.default_rng(0))
    dataset.drop(dataset.ids[1])
    with h5py.File(tmp_path / "demos" / INDEX, "r") as file:
        demos = list(file["data"])
        assert all(name.startswith("demo_") and name[5:].isdigit() for name in demos)
        env = json.loads(file["data"].attrs["env_args"])
        assert env["env_name"] == "reach"
        assert env["type"] == 2
        assert env["env_kwargs"]["robot"] == "two_joint"
        lengths = []
        for name in demos:
            demo = file[f"data/{name}"]  # follows the external link
            steps = int(demo.attrs["num_samples"])
            lengths.append(steps)
            assert demo["actions"].shape == (steps, 2)
            assert np.abs(demo["actions"][()]).max() <= 1.0
            assert demo["rewards"].shape == demo["dones"].shape == (steps,)
            assert demo["dones"][-1] == 1
            assert len(demo["states"]) == steps
            assert all(len(values) == steps for values in demo["obs"].values())
        assert file["data"].attrs["total"] == sum(lengths)
        masks = {name: list(mask[()]) for name, mask in file["mask"].items()}
        assert set(masks) == {"train", "valid"}
        assert all(isinstance(demo, bytes) for mask in masks.values() for demo in mask)
        assert sorted(demo.decode() for mask in masks.values() for demo in mask) == sorted(demos)


def test_index_keeps_its_links_when_the_folder_moves(tmp_path: Path) -> None:
    make_dataset(tmp_path / "demos", 2)
    (tmp_path / "demos").rename(tmp_path / "elsewhere")
    assert len(list(Dataset.open(tmp_path / "elsewhere").episodes())) == 2


def test_drop_and_restore(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 3)
    before, middle = dataset.checksum(), dataset.ids[1]
    dataset.drop(middle)
    assert middle not in dataset.ids
    assert dataset.dropped == (middle,)
    assert dataset.checksum() != before
    dataset.restore(middle)
    assert dataset.ids[-1] == middle
    with pytest.raises(DatasetError, match="Unknown dropped episode"):
        dataset.restore(middle)
    with pytest.raises(DatasetError, match="Unknown episode 'nothing'"):
        dataset.drop("nothing")


def test_relabel_changes_words_and_no_number(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 1)
    id, before = dataset.ids[0], dataset.checksum()
    source = dataset.read(id)
    dataset.relabel(id, success=False, note="slipped")
    relabelled = dataset.read(id)
    assert (relabelled.info.success, relabelled.info.note) == (False, "slipped")
    assert np.array_equal(relabelled.sent, source.sent)
    assert dataset.checksum() != before
    dataset.relabel(id, success=True, note="")
    assert dataset.checksum() == before


def test_a_crash_between_rename_and_index_is_put_right(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 2)
    index = (tmp_path / "demos" / INDEX).read_bytes()
    late = record(dataset, make_episode(40, seed=9))
    gone = dataset.ids[0]
    (tmp_path / "demos" / INDEX).write_bytes(index)  # as if the machine stopped before the new index
    dataset.file(gone).rename(tmp_path / "demos" / "trash" / f"{gone}.hdf5")
    opened = Dataset.open(tmp_path / "demos")
    assert opened.recovery.linked == (late,)
    assert opened.recovery.unlinked == (gone,)
    assert len(list(opened.episodes())) == 2
    with h5py.File(tmp_path / "demos" / INDEX, "r") as file:
        assert file["data"].attrs["total"] == sum(len(episode) for episode in opened.episodes())


def test_rebuild_of_a_lost_index(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 3)
    ids = dataset.ids
    (tmp_path / "demos" / INDEX).unlink()
    rebuilt = Dataset.rebuild(tmp_path / "demos")
    assert set(rebuilt.ids) == set(ids)
    assert (rebuilt.robot, rebuilt.task) == ("two_joint", "reach")


def test_takes_of_a_living_recorder_are_left_alone(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "demos", robot="two_joint", task="reach")
    episode = make_episode(30)
    first = {key: values[0] for key, values in episode.observations.items()}
    with dataset.begin(episode.info, first) as writer:
        for step in steps_of(episode):
            writer.add(step)
        assert Dataset.open(tmp_path / "demos").takes() == ()
        assert Dataset.open(tmp_path / "demos").recovery.takes == ()
    opened = Dataset.open(tmp_path / "demos")
    assert opened.recovery.takes == opened.takes() == (writer.path.stem,)
    id = opened.commit(opened.take_file(writer.path.stem))
    assert "recovered after an interruption" in opened.read(id).info.note
    assert len(opened.read(id)) == 30


def _record_some(path: str, seed: int) -> None:
    dataset = Dataset.open_or_create(path, robot="two_joint", task="reach")
    for number in range(5):
        record(dataset, make_episode(20, seed=100 * seed + number))


def test_several_recorders_lose_nothing(tmp_path: Path) -> None:
    Dataset.create(tmp_path / "demos", robot="two_joint", task="reach")
    context = multiprocessing.get_context("fork")
    recorders = [context.Process(target=_record_some, args=(str(tmp_path / "demos"), i)) for i in range(3)]
    for recorder in recorders:
        recorder.start()
    for recorder in recorders:
        recorder.join()
        assert recorder.exitcode == 0
    dataset = Dataset.open(tmp_path / "demos")
    assert not dataset.recovery.linked
    assert len({episode.sent.tobytes() for episode in dataset.episodes()}) == 15


class TestBadInput:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"There is no dataset at .*nowhere"):
            Dataset.open(tmp_path / "nowhere")

    def test_folder_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("mine")
        with pytest.raises(DatasetError, match="exists and is not empty"):
            Dataset.create(tmp_path, robot="two_joint", task="reach")

    @pytest.mark.parametrize(("robot", "task", "word"), [("panda", "reach", "robot"), ("two_joint", "lift", "task")])
    def test_another_robot_or_task(self, tmp_path: Path, robot: str, task: str, word: str) -> None:
        make_dataset(tmp_path / "demos", 1)
        with pytest.raises(DatasetError, match=f"demonstrations of {word} .* was asked for"):
            Dataset.open_or_create(tmp_path / "demos", robot=robot, task=task)

    def test_episode_of_another_robot(self, tmp_path: Path) -> None:
        dataset = make_dataset(tmp_path / "demos", 1)
        with pytest.raises(DatasetError, match="robot 'two_joint', and 'panda'"):
            dataset.begin(info(robot="panda"), {"joint_position": np.zeros(2)})

    def test_flipped_byte_and_truncation_are_named_and_the_rest_is_read(self, tmp_path: Path) -> None:
        dataset = make_dataset(tmp_path / "demos", 4)
        flipped, cut, *sound = dataset.ids
        flip_byte_of(dataset.file(flipped), "episode/action/sent")
        cut_file = dataset.file(cut)
        cut_file.write_bytes(cut_file.read_bytes()[: cut_file.stat().st_size // 2])
        opened = Dataset.open(tmp_path / "demos")
        with pytest.raises(DatasetError, match=f"{flipped}.hdf5 is damaged: its bytes are not"):
            opened.read(flipped)
        with pytest.raises(DatasetError, match=f"{cut}.hdf5 is damaged: cut short"):
            opened.read(cut)
        assert all(len(opened.read(id)) > 0 for id in sound)

    def test_unknown_schema_version(self, tmp_path: Path) -> None:
        dataset = make_dataset(tmp_path / "demos", 1)
        episode, index = dataset.file(dataset.ids[0]), tmp_path / "demos" / INDEX
        for path, version, words in ((episode, 7, "episode schema "), (index, 9, "")):
            seal = read_seal(path)
            write_seal(path, {**seal.facts, "schema_version": version}, seal.block)
            with pytest.raises(DatasetError, match=f"{words}version {version} is not readable"):
                Dataset.open(tmp_path / "demos", recover=False).read(episode.stem)

    def test_index_that_is_not_hdf5(self, tmp_path: Path) -> None:
        make_dataset(tmp_path / "demos", 1)
        (tmp_path / "demos" / INDEX).write_text("hello")
        with pytest.raises(
            DatasetError,
            match=r"dataset.hdf5 is damaged: it does not begin with a seal. The episodes beside it are untouched",
        ):
            Dataset.open(tmp_path / "demos")

    def test_split_that_leaves_nothing(self, tmp_path: Path) -> None:
        dataset = make_dataset(tmp_path / "demos", 2)
        with pytest.raises(DatasetError, match="leaves the split 'valid' empty"):
            dataset.split({"valid": 0.01}, np.random.default_rng(0))


def flip_byte_of(path: Path, name: str) -> None:
    """Flip a bit in the middle of an array's bytes on disk."""
    with h5py.File(path, "r") as file:
        dataset = file[name]
        offset = dataset.id.get_offset()
        place = offset + dataset.id.get_storage_size() // 2
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("id", ["../episodes/{}", "../trash/{}", "/tmp/{}", ""])
def test_an_id_reaches_into_no_other_folder(tmp_path: Path, id: str) -> None:
    """`restore ../episodes/ID` once put an episode into the index twice."""
    dataset = make_dataset(tmp_path / "demos", 2)
    wanted = id.format(dataset.ids[0])
    for action in (dataset.restore, dataset.drop, dataset.read, dataset.discard):
        with pytest.raises((DatasetError, FileNotFoundError)):
            action(wanted)
    assert len(Dataset.open(dataset.path)) == 2


def test_recorders_side_by_side_never_get_the_same_seed(tmp_path: Path) -> None:
    """Two recorders of one dataset once played the same seeds, and half of the episodes were duplicates."""
    Dataset.create(tmp_path / "demos", robot="two_joint", task="reach")
    one, two = Dataset.open(tmp_path / "demos"), Dataset.open(tmp_path / "demos")
    assert [one.claim_seed(0), two.claim_seed(0), one.claim_seed(1), two.claim_seed(7)] == [0, 1, 2, 7]


def test_a_full_disk_is_met_before_hdf5_meets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 crashed the process when the disk filled up under a file that was being closed."""
    dataset = make_dataset(tmp_path / "demos", 2)
    episode = make_episode(90)
    writer = dataset.begin(episode.info, {key: values[0] for key, values in episode.observations.items()})
    with monkeypatch.context() as patch:
        usage = type("Usage", (), {"free": 1000})
        patch.setattr("understudy.datasets.disk.shutil.disk_usage", lambda folder: usage)
        for step in steps_of(episode)[:20]:
            writer.add(step)
        with pytest.raises(RecordingError, match=r"No space left on device.*Free some space"):
            writer.finish()
        writer.release()
        full = Dataset.open(tmp_path / "demos")
        assert "No space left" in full.recovery.unreadable[writer.path.stem]
        assert len(list(full.episodes())) == 2
        with pytest.raises(OSError, match="No space left"):
            full.drop(full.ids[0])
    roomy = Dataset.open(tmp_path / "demos")
    assert roomy.recovery.takes == (writer.path.stem,)
    assert len(roomy) == 2


def test_an_unreadable_episode_that_the_index_does_not_know_is_told(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 2)
    (dataset.path / "episodes/stray.hdf5").write_text("text")
    assert "does not begin with a seal" in Dataset.open(dataset.path).recovery.unreadable["stray"]


# --- incidents -----------------------------------------------------------------------------------------------------


def test_what_file_managers_leave_is_passed_over(tmp_path: Path) -> None:
    """A `._NAME.hdf5` made every command fail, repair among them; a pipe under recording/ made them hang."""
    dataset = make_dataset(tmp_path / "demos", 2)
    for folder in ("episodes", "recording", "trash"):
        (dataset.path / folder / f"._{dataset.ids[0]}.hdf5").write_bytes(b"")
        os.mkfifo(dataset.path / folder / "pipe.hdf5")
    opened = Dataset.open(dataset.path)
    assert len(opened) == 2
    assert not opened.recovery.unreadable
    assert opened.takes() == opened.dropped == ()


def test_one_damaged_seal_does_not_hide_the_others(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 3)
    damaged = dataset.ids[1]
    raw = bytearray(dataset.file(damaged).read_bytes())
    raw[300] ^= 1
    dataset.file(damaged).write_bytes(raw)
    unreadable: dict[str, str] = {}
    assert dataset.select("success", unreadable=unreadable) == (dataset.ids[0], dataset.ids[2])
    assert set(unreadable) == {damaged}
    with pytest.raises(DatasetError, match=damaged):
        dataset.select("success")
    dataset.drop(damaged)
    assert not dataset.damaged()


def test_a_creation_that_was_interrupted_can_be_done_again(tmp_path: Path) -> None:
    for folder in ("episodes", "recording", "trash"):
        (tmp_path / "demos" / folder).mkdir(parents=True)
    (tmp_path / "demos" / ".lock").touch()
    assert len(Dataset.create(tmp_path / "demos", robot="two_joint", task="reach")) == 0


def test_folders_that_git_left_out_are_made_again(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 1)
    (dataset.path / "recording").rmdir()
    (dataset.path / "trash").rmdir()
    Dataset.open(dataset.path).add(make_episode(20, seed=5))
    assert len(dataset) == 2


def test_splits_depend_on_the_episodes_and_the_seed_alone(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 6)
    dataset.split({"train": 0.5}, np.random.default_rng(1))
    before = set(dataset.splits()["train"])
    first = dataset.ids[0]
    dataset.drop(first)
    dataset.restore(first)
    dataset.split({"train": 0.5}, np.random.default_rng(1))
    assert set(dataset.splits()["train"]) == before


def test_a_damaged_take_is_not_kept(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 2)
    id = dataset.ids[0]
    take = dataset.take_file(id)
    os.rename(dataset.file(id), take)
    take.write_bytes(take.read_bytes()[:-3] + b"xyz")
    opened = Dataset.open(dataset.path)
    with pytest.raises(DatasetError, match="is damaged"):
        opened.commit(take, verify=True)
    assert take.exists()


def test_nothing_in_the_trash_is_replaced(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 1)
    id = dataset.ids[0]
    content = dataset.file(id).read_bytes()
    dataset.drop(id)
    dataset.take_file(id).write_bytes(content + b"another")
    dataset.discard(id)
    assert set(dataset.dropped) == {id, f"{id}-2"}
    assert (dataset.path / "trash" / f"{id}.hdf5").read_bytes() == content


def test_a_lock_whose_name_was_removed_meanwhile_is_not_held_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A released between B's opening and B's locking; then B and C both held it."""
    take = tmp_path / "a.hdf5"
    first, second, third = LiveLock(take), LiveLock(take), LiveLock(take)
    assert first.acquire()
    really = disk.open_lock

    def opened_just_before_the_first_lets_go(path: Path) -> object:
        file = really(path)
        monkeypatch.setattr(disk, "open_lock", really)
        first.release()
        return file

    monkeypatch.setattr(disk, "open_lock", opened_just_before_the_first_lets_go)
    assert second.acquire()
    assert not third.acquire()
    second.release()
