"""A disk that fails costs nobody a take, and ends no session: what failed is told, and what to do."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from session_support import fake_stage, new_session

from understudy.capture.left_take import LeftTake
from understudy.capture.session_loop import LoopConfig, SessionLoop
from understudy.capture.session_view import SessionView
from understudy.datasets import index, live_file, store
from understudy.datasets.live_file import LiveFile
from understudy.datasets.store import Dataset
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.clock import VirtualClock
from understudy.errors import RecordingError

Fail = Callable[[Any, str], None]


@pytest.fixture(scope="module")
def stage() -> ArmEnv:
    return fake_stage()


class Recorder:
    """A loop on virtual time, driven turn by turn."""

    def __init__(self, stage: ArmEnv, folder: Path, **config: Any) -> None:
        stage.aligned = None
        self.clock = VirtualClock()
        self.session, self.puppet = new_session(stage, folder)
        self.puppet.action = np.array([0.004, 0.0, 0.0])
        self.loop = SessionLoop(self.session, config=LoopConfig(**config), clock=self.clock)
        self.dataset = self.session.dataset

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.clock.advance(0.05)
            self.loop.turn()

    def record(self) -> None:
        self.turn()
        self.loop.ask("start", "anyway")
        self.turn(12)
        self.loop.ask("stop")

    def keep(self) -> str:
        self.record()
        self.loop.ask("keep", "anyway")
        return self.view.kept[-1]

    @property
    def view(self) -> SessionView:
        return self.loop.view()


@pytest.fixture
def recorder(stage: ArmEnv, tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder(stage, tmp_path)
    yield made
    made.loop.close()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fail]:
    """Let a module find the disk full; `monkeypatch.undo` makes room again."""

    def fail(module: Any, name: str = "require_space") -> None:
        def no_room(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/disk")

        monkeypatch.setattr(module, name, no_room)

    return fail


@pytest.fixture
def unconfirmed(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Let a module do what it does, and the disk then not confirm the folder of this name, any number of times."""

    def fail(module: Any, folder: str) -> None:
        sync = module.sync

        def no_word(path: Path) -> None:
            if path.name == folder:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            sync(path)

        monkeypatch.setattr(module, "sync", no_word)

    return fail


def assert_sound(dataset: Dataset, ids: tuple[str, ...]) -> None:
    """What a fresh look at the folder finds: these episodes, whole, and nothing that had to be put right."""
    opened = Dataset.open(dataset.path)
    assert opened.ids == ids
    assert (opened.recovery.linked, opened.recovery.unlinked) == ((), ())
    assert not opened.damaged()


@pytest.mark.parametrize("where", [live_file, index])
def test_a_take_that_cannot_be_kept_stays_in_review_and_is_kept_when_there_is_room(
    recorder: Recorder, full: Fail, monkeypatch: pytest.MonkeyPatch, where: Any
) -> None:
    """Whether its file could not be finished, or the dataset's index not be written."""
    recorder.record()
    full(where, "require_space")
    with pytest.raises(RecordingError, match="The take is not lost: it is still in review"):
        recorder.loop.ask("keep", "anyway")
    view = recorder.view
    assert (view.state, view.steps, view.kept, view.episodes) == ("review", 12, (), 0)
    assert "No space left on device" in view.error
    assert "keep" in view.possible
    recorder.turn(3)
    assert not recorder.loop.ended
    monkeypatch.undo()
    recorder.loop.ask("note", "at the second try")  # what is said of it in between counts
    recorder.loop.ask("success")
    recorder.loop.ask("keep", "anyway")
    assert (recorder.view.error, recorder.view.episodes) == ("", 1)
    (episode,) = recorder.dataset.episodes()
    assert (len(episode), episode.info.success) == (12, True)
    assert "at the second try" in episode.info.note
    assert_sound(recorder.dataset, recorder.view.kept)
    assert not list((recorder.dataset.path / "recording").glob("*.hdf5"))


def test_what_is_to_be_done_is_said(recorder: Recorder, full: Fail) -> None:
    recorder.record()
    full(index, "require_space")
    with pytest.raises(
        RecordingError,
        match=r"Could not keep: No space left on device \(/disk\)\. Free some space, then ask for keep again\.",
    ):
        recorder.loop.ask("keep", "anyway")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "Correct the permissions"),
        (errno.EAGAIN, "Close the program that holds"),
        (errno.EIO, "Look at the"),
    ],
)
def test_an_index_that_is_locked_or_unreadable_is_no_end(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    id = recorder.keep()
    recorder.turn()

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(recorder.dataset._index, "change", refuse)
    with pytest.raises(RecordingError, match=f"Could not undo: .*{remedy}.* ask for undo again"):
        recorder.loop.ask("undo")
    assert recorder.view.kept == (id,)
    monkeypatch.undo()
    assert id in recorder.loop.ask("undo")
    monkeypatch.setattr(recorder.dataset._index, "change", refuse)
    with pytest.raises(RecordingError, match=f"Could not redo: .*{remedy}"):
        recorder.loop.ask("redo")
    monkeypatch.undo()
    assert id in recorder.loop.ask("redo")
    assert_sound(recorder.dataset, (id,))


DOUBT = r"Warning: it is done, and the disk did not confirm it \(Input/output error\): look at the disk\."


def test_a_take_that_is_kept_though_the_disk_does_not_confirm_it_is_kept_and_can_be_taken_back(
    recorder: Recorder, unconfirmed: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.record()
    unconfirmed(index, "demos")
    told = recorder.loop.ask("keep", "anyway")
    assert re.search(f"^Kept .*{DOUBT}$", told)
    assert (recorder.view.kept, recorder.view.error) == (recorder.dataset.ids, "")
    assert len(recorder.dataset.ids) == 1
    monkeypatch.undo()
    assert "Warning" not in recorder.loop.ask("undo")
    assert_sound(recorder.dataset, ())


@pytest.mark.parametrize("left", [False, True])
def test_a_take_that_is_in_the_trash_though_the_disk_does_not_confirm_it_was_dropped(
    stage: ArmEnv, tmp_path: Path, unconfirmed: Fail, left: bool
) -> None:
    recorder = Recorder(stage, tmp_path)
    recorder.record()
    if left:
        recorder.loop.close()
        recorder = Recorder(stage, tmp_path, resume_takes=True)
        recorder.turn()
        assert recorder.view.state == "review"
    unconfirmed(store, "trash")
    assert re.search(f"it is in the trash. {DOUBT}$", recorder.loop.ask("drop"))
    assert (len(recorder.dataset.dropped), recorder.loop.dropped, recorder.dataset.takes()) == (1, 1, ())
    recorder.loop.close()


def test_an_undo_that_the_disk_does_not_confirm_is_done_and_the_next_takes_back_the_take_before_it(
    recorder: Recorder, unconfirmed: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told to have failed, and whoever asked again, as told, lost another take."""
    first, second = recorder.keep(), recorder.keep()
    recorder.turn()
    unconfirmed(index, "demos")
    assert re.search(f"Took back {second}.*{DOUBT}$", recorder.loop.ask("undo"))
    assert (recorder.dataset.ids, recorder.dataset.dropped) == ((first,), (second,))
    assert re.search(f"Brought back {second}.*{DOUBT}$", recorder.loop.ask("redo"))
    assert recorder.view.kept == recorder.dataset.ids == (first, second)
    monkeypatch.undo()
    assert recorder.loop.ask("undo") == f"Took back {second}; redo brings it back."
    assert_sound(recorder.dataset, (first,))


@pytest.mark.parametrize("wish", ["keep", "drop"])
def test_a_take_that_was_finished_though_the_disk_did_not_confirm_it_is_not_finished_again(
    recorder: Recorder, unconfirmed: Fail, monkeypatch: pytest.MonkeyPatch, wish: Any
) -> None:
    recorder.record()
    unconfirmed(live_file, "recording")
    with pytest.raises(RecordingError, match="still in review"):
        recorder.loop.ask(wish, "anyway")
    monkeypatch.undo()
    recorder.loop.ask("note", "at the second try")
    recorder.loop.ask(wish, "anyway")
    assert recorder.view.state != "review"
    if wish == "drop":
        assert len(recorder.dataset.dropped) == 1
        return
    (episode,) = recorder.dataset.episodes()
    assert (len(episode), episode.info.note.endswith("at the second try")) == (12, True)
    assert_sound(recorder.dataset, recorder.view.kept)


@pytest.mark.parametrize("left", [False, True])
def test_a_verdict_that_was_taken_back_after_the_disk_did_not_confirm_it_is_not_kept(
    stage: ArmEnv, tmp_path: Path, full: Fail, unconfirmed: Fail, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    """The file has it by then, whatever the recorder believes."""
    recorder = Recorder(stage, tmp_path)
    recorder.record()
    if left:
        recorder.loop.close()
        recorder = Recorder(stage, tmp_path, resume_takes=True)
        recorder.turn()
    recorder.loop.ask("failure")
    full(index, "require_space")
    with pytest.raises(RecordingError, match="still in review"):
        recorder.loop.ask("keep", "anyway")
    recorder.loop.ask("success")
    unconfirmed(store, "recording")
    with pytest.raises(RecordingError, match="still in review"):
        recorder.loop.ask("keep", "anyway")
    monkeypatch.undo()
    recorder.loop.ask("failure")
    recorder.loop.ask("keep", "anyway")
    assert [info.success for info in recorder.dataset.infos().values()] == [False]
    recorder.loop.close()


def test_a_key_of_the_device_is_answered_in_the_view(recorder: Recorder, full: Fail) -> None:
    recorder.record()
    recorder.loop.ask("success")
    full(index, "require_space")
    recorder.puppet.pressed = ["keep"]
    recorder.turn()
    assert recorder.view.error.startswith("Could not keep: No space left on device")
    assert recorder.view.state == "review"


def test_a_take_that_cannot_be_dropped_is_still_there(
    recorder: Recorder, full: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.record()
    full(live_file, "require_space")
    with pytest.raises(RecordingError, match="still in review"):
        recorder.loop.ask("drop")
    assert recorder.view.state == "review"
    monkeypatch.undo()
    recorder.loop.ask("drop")
    assert recorder.view.state in ("idle", "ready")
    assert len(recorder.dataset.dropped) == 1


def test_a_take_whose_disk_failed_in_the_middle_is_finished_and_reviewed_next(
    stage: ArmEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(stage, tmp_path, resume_takes=True)
    recorder.turn()
    recorder.loop.ask("start")
    recorder.turn(8)
    write = LiveFile.write

    def fail(file: LiveFile, step: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    while recorder.session._take._recorder._writer.written < 8:  # type: ignore[union-attr]
        pass
    monkeypatch.setattr(LiveFile, "write", fail)
    monkeypatch.setattr(Dataset, "recover", lambda self: self.recovery)  # no room for that either
    while recorder.view.state == "recording":
        recorder.turn()
    assert recorder.session.unfinished
    monkeypatch.setattr(LiveFile, "write", write)
    monkeypatch.undo()
    recorder.turn(3)
    assert recorder.view.state == "review", recorder.view
    assert recorder.view.steps >= 8
    assert "recovered after an interruption" in recorder.view.note
    recorder.loop.ask("keep", "anyway")
    assert_sound(recorder.dataset, recorder.view.kept)
    recorder.loop.close()


def test_an_index_that_is_gone_for_a_while_is_told_and_counted_again_when_it_is_back(recorder: Recorder) -> None:
    recorder.keep()
    there, away = recorder.dataset.path / "dataset.hdf5", recorder.dataset.path / "elsewhere"
    there.rename(away)
    recorder.turn(3)
    assert recorder.view.error.startswith("The dataset's index cannot be read: ")
    assert recorder.view.episodes == 1
    assert not recorder.loop.ended
    away.rename(there)
    recorder.turn(3)
    assert (recorder.view.error, recorder.view.episodes) == ("", 1)


def test_nobody_reads_the_index_while_the_arm_is_driven(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder.turn()
    recorder.loop.ask("start")
    reads: list[int] = []
    links = recorder.dataset._index.links
    monkeypatch.setattr(recorder.dataset._index, "links", lambda: (reads.append(1), links())[1])
    os.utime(recorder.dataset.path / "dataset.hdf5")  # as if another recorder had added something
    recorder.turn(10)
    assert not reads
    recorder.loop.ask("stop")
    assert reads


def test_a_seed_that_cannot_be_claimed_is_claimed_the_next_time(
    stage: ArmEnv, tmp_path: Path, full: Fail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator that was broken off by an error would have no seed ever again."""
    recorder = Recorder(stage, tmp_path, auto_prepare=False)
    full(recorder.dataset, "claim_seed")
    with pytest.raises(RecordingError, match="Could not prepare: No space left"):
        recorder.loop.ask("prepare")
    monkeypatch.undo()
    recorder.loop.ask("prepare")
    assert recorder.view.state == "ready"
    recorder.loop.close()


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("at", ["relabel_take", "commit"])
def test_a_kill_while_a_left_take_is_kept_leaves_the_old_or_the_new_and_no_mislabelled_episode(
    stage: ArmEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    recorder = Recorder(stage, tmp_path)
    recorder.record()
    recorder.loop.close()
    dataset = Dataset.open(recorder.dataset.path)
    (id,) = dataset.takes()

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    left = LeftTake(dataset, id)
    wanted = store.dataclasses.replace(left.info, success=True, note="it was")
    monkeypatch.setattr(dataset, at, killed)
    with pytest.raises(Killed):
        left.keep(wanted)
    left.leave()
    monkeypatch.undo()
    assert dataset.ids == ()
    assert dataset.takes() == (id,)
    again = LeftTake(dataset, id)
    assert (again.info == wanted) == (at == "commit")
    again.keep(wanted)
    assert dataset.summary(id).info == wanted
    assert_sound(dataset, (id,))
