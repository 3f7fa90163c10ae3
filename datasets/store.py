"""A dataset on disk: a folder of episode files, and an index of them that robomimic reads.

    demos/lift/
      dataset.hdf5         the index: /data/demo_<i> are external links to episode files; /mask/<split>
      episodes/<id>.hdf5   one committed episode a file
      recording/<id>.hdf5  takes: in progress, finished and not yet judged, or left by a crash
      trash/<id>.hdf5      dropped episodes and takes
      .seeds               the highest seed that a recorder has claimed

The folder is the truth and the index follows it: committing, dropping and restoring are one rename each, and `recover`
brings an index that a crash left behind up to date. Every change happens under a lock, so that several recorders may
write to one dataset; readers need none, because files only ever appear whole, by rename. Locks are the kernel's: they
end with the process that holds them, and the files they stand on may lie about for ever.

An episode's arrays are never changed. New labels (`relabel`) go into a copy that replaces the file in one rename, so
that they travel with the file and every reader sees them.

This module does not judge what is in an episode (`checks.py`) and does not write steps (`writer.py`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.camera_streams import frames_file
from understudy.datasets.disk import LiveLock, files_in, open_lock, require_space, sync
from understudy.datasets.episode import (
    GROUP,
    Episode,
    Summary,
    create_episode_file,
    read_episode,
    read_summary,
    seal_episode,
    write_episode,
    write_info,
)
from understudy.datasets.hdf5 import open_hdf5
from understudy.datasets.index import INDEX, Index
from understudy.datasets.live_file import is_complete
from understudy.datasets.recovery import Recovery, recover_takes, remove_scraps
from understudy.datasets.schema import EpisodeInfo
from understudy.datasets.where import Where
from understudy.datasets.writer import EpisodeWriter
from understudy.errors import DatasetError, InputError, unknown_name

SEEDS = ".seeds"
"""Holds the highest seed that a recorder has claimed."""
FOLDERS = ("episodes", "recording", "trash")


class Dataset:
    """The episodes of one robot doing one task; `create`, `open` or `open_or_create` gives one."""

    def __init__(self, path: Path, robot: str, task: str) -> None:
        """Use `open` or `create` instead; this reads nothing."""
        self.path = path
        self.robot = robot
        self.task = task
        self.recovery = Recovery()
        """What the last `recover` (also done by `open`) found."""
        self._index = Index(path)

    @classmethod
    def create(cls, path: Path | str, *, robot: str, task: str, env_kwargs: Mapping[str, Any] | None = None) -> Dataset:
        """Make an empty dataset at `path`, a folder that is empty or does not exist.

        Args:
            path: where.
            robot: name of the robot's description.
            task: name of the task.
            env_kwargs: how the environment is made again, kept for robomimic's `env_args`.

        Raises:
            DatasetError: something is there already.
        """
        path = Path(path)
        if path.exists() and not _is_blank(path):
            advice = "choose another folder"
            if path.is_dir() and any(files_in(path / folder) for folder in FOLDERS):
                advice = f"its index is gone: `understudy dataset repair {path}` makes it again"
            raise DatasetError(f"{path} exists and is not empty; {advice}.")
        for folder in FOLDERS:
            (path / folder).mkdir(parents=True, exist_ok=True)
        dataset = cls(path, robot, task)
        with dataset._locked():
            dataset._index.create(robot, task, env_kwargs or {})
        return dataset

    @classmethod
    def open(cls, path: Path | str, *, recover: bool = True) -> Dataset:
        """Open the dataset at `path`; what a crash left there is recovered first, where the folder can be written.

        Raises:
            DatasetError: there is no dataset, it cannot be read, or its schema version is unknown.
        """
        path = Path(path)
        if not (path / INDEX).is_file():
            raise DatasetError(
                f"There is no dataset at {path}: {INDEX} does not exist there. Give the folder that "
                "`understudy record --out` wrote."
            )
        dataset = cls(path, *Index(path).identity())
        if recover and os.access(path, os.W_OK):
            dataset.recover()
        return dataset

    @classmethod
    def open_or_create(
        cls, path: Path | str, *, robot: str, task: str, env_kwargs: Mapping[str, Any] | None = None
    ) -> Dataset:
        """Open the dataset at `path` to add to it, or make it.

        Raises:
            DatasetError: it is of another robot or task, or `path` holds something else.
        """
        path = Path(path)
        if not (path / INDEX).exists():
            return cls.create(path, robot=robot, task=task, env_kwargs=env_kwargs)
        dataset = cls.open(path)
        dataset.require(robot, task)
        return dataset

    @classmethod
    def rebuild(cls, path: Path | str) -> Dataset:
        """Make the index of a folder of episodes anew, where it was lost or damaged. Splits are lost with it.

        A damaged index stays beside the new one as `dataset.hdf5.damaged`.

        Raises:
            DatasetError: there is a sound index already, or no episode can be read.
        """
        path = Path(path)
        if (path / INDEX).exists():
            (path / INDEX).read_bytes()  # one that may not be read is not damaged: the OSError says so
            with contextlib.suppress(DatasetError):
                Index(path).links()
                raise InputError(f"{path / INDEX} is in order; there is nothing to rebuild.")
        files = [file for folder in FOLDERS for file in files_in(path / folder)]
        first = next((summary for _, summary, _ in _summaries(files) if summary), None)
        if first is None:
            raise DatasetError(
                f"{path} holds no readable episode, take or dropped episode; there is nothing to rebuild from."
            )
        for folder in FOLDERS:
            (path / folder).mkdir(exist_ok=True)
        dataset = cls(path, first.info.robot, first.info.task)
        with dataset._locked():
            if (path / INDEX).exists():
                os.replace(path / INDEX, path / f"{INDEX}.damaged")
            dataset._index.create(dataset.robot, dataset.task, {})
        dataset.recover()
        return dataset

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the committed episodes, in the order of the index."""
        return tuple(self._index.links().values())

    def __len__(self) -> int:
        return len(self._index.links())

    def file(self, id: str) -> Path:
        """The file of a committed episode.

        Raises:
            DatasetError: there is no such episode, or its file is missing.
        """
        path = self._place("episodes", id)
        if not path.is_file():
            known = self.ids
            if id not in known:
                raise DatasetError(str(unknown_name("episode", id, known)))
            raise DatasetError(f"Episode file {path} is missing; restore it from a copy, or drop the episode.")
        return path

    def read(self, id: str, *, images: bool = True, streams: bool = True, verify: bool = True) -> Episode:
        """One episode, validated; `images=False` leaves camera frames out, `streams=False` native-rate samples.

        Raises:
            DatasetError: missing, damaged or of an unknown schema version; names the file.
        """
        return read_episode(self.file(id), images=images, streams=streams, verify=verify)

    def episodes(self, *, images: bool = True, streams: bool = True, verify: bool = True) -> Iterator[Episode]:
        """Every committed episode in the order of `ids`, one in memory at a time.

        Raises:
            DatasetError: on reaching an episode that cannot be read; names the file.
        """
        for id in self.ids:
            yield self.read(id, images=images, streams=streams, verify=verify)

    def summary(self, id: str) -> Summary:
        """Length, checksums and metadata of one episode, without its arrays."""
        return read_summary(self.file(id))

    def infos(self) -> dict[str, EpisodeInfo]:
        """Id -> metadata of every committed episode, in order."""
        return {id: self.summary(id).info for id in self.ids}

    def select(
        self, where: str | Where | None = None, split: str | None = None, unreadable: dict[str, str] | None = None
    ) -> tuple[str, ...]:
        """Ids of the episodes that meet a condition and are in a split, in order.

        Args:
            where: such as "success and operator != 'scripted'"; see `where.py`. None: all.
            split: name of a split. None: all.
            unreadable: where to note, id -> reason, the episodes that say nothing of themselves and are passed over;
                None: the first of them is an error.

        Raises:
            InputError: the condition cannot be read, or there is no such split.
            DatasetError: an episode cannot be read; names the file.
        """
        ids = self.ids
        if split is not None:
            splits = self.splits()
            if split not in splits:
                raise unknown_name("split", split, splits)
            chosen = set(splits[split])
            ids = tuple(id for id in ids if id in chosen)
        condition = where if where is None or isinstance(where, Where) else Where(where)
        if condition is None and unreadable is None:
            return ids
        found = []
        for id in ids:
            try:
                summary = self.summary(id)
            except DatasetError as error:
                if unreadable is None:
                    raise
                unreadable[id] = str(error)
                continue
            if condition is None or condition(summary):
                found.append(id)
        return tuple(found)

    def checksum(self, ids: Iterable[str] | None = None) -> str:
        """SHA-256 over the checksums of these episodes (None: all), in order: what a model says it was trained on."""
        digest = hashlib.sha256()
        for id in self.ids if ids is None else ids:
            digest.update(self.summary(id).checksum.encode())
        return digest.hexdigest()

    def damaged(self) -> dict[str, str]:
        """Id -> reason for every committed episode whose bytes are not the ones that were sealed. Reads all of them."""
        files = [self._place("episodes", id) for id in self.ids]
        return {file.stem: reason for file, _, reason in _summaries(files, verify=True) if reason}

    def splits(self) -> dict[str, tuple[str, ...]]:
        """Split name -> ids of its episodes (`/mask/<name>`)."""
        return self._index.splits()

    def require(self, robot: str, task: str) -> None:
        """Refuse to mix robots or tasks.

        Raises:
            DatasetError: this dataset is of another robot or task.
        """
        for word, mine, asked in (("robot", self.robot, robot), ("task", self.task, task)):
            if mine != asked:
                raise DatasetError(
                    f"{self.path} holds demonstrations of {word} {mine!r}, and {asked!r} was asked for; "
                    "choose another folder for it."
                )

    # --- writing -------------------------------------------------------------------------------------------------

    def begin(self, info: EpisodeInfo, observation: Mapping[str, NDArray[Any]]) -> EpisodeWriter:
        """Begin to record an episode with its first observation (key -> array); see `EpisodeWriter`.

        Raises:
            DatasetError: the episode is of another robot or task.
            RecordingError: the file cannot be made.
        """
        self.require(info.robot, info.task)
        return EpisodeWriter(self.new_take(), info, observation)

    def add(self, episode: Episode) -> str:
        """Commit an episode that is in memory, and return its id.

        Raises:
            DatasetError: it is of another robot or task.
            OSError: the disk is full or fails; nothing was added.
        """
        with self.drafted(episode) as draft:
            return self.commit_draft(draft)

    @contextlib.contextmanager
    def drafted(self, episode: Episode) -> Iterator[Path]:
        """An episode in memory as a finished file, to be looked at; gone afterwards, unless `commit_draft` kept it.

        Raises:
            DatasetError: it is of another robot or task.
            OSError: the disk is full or fails.
        """
        self.require(episode.info.robot, episode.info.task)
        path = self.new_take()
        arrays = (*episode.observations.values(), *(stream.values for stream in episode.streams.values()))
        require_space(path.parent, sum(array.nbytes for array in arrays))
        lock = LiveLock(path)
        if not lock.acquire():
            raise DatasetError(f"{path} is being written by another process; try again.")
        draft = path.with_name(f".{path.stem}.new")
        try:
            write_episode(draft, episode)
            yield draft
        finally:
            draft.unlink(missing_ok=True)
            lock.release()

    def commit_draft(self, draft: Path) -> str:
        """Commit what `drafted` gave, and return its id."""
        path = self.take_file(draft.stem.removeprefix("."))
        os.replace(draft, path)
        return self.commit(path)

    def commit(self, recording: Path | str, *, verify: bool = False) -> str:
        """Make a finished take an episode of this dataset for good, and return its id.

        Args:
            recording: the take.
            verify: check its every byte first, for one that was not written just now.

        Raises:
            DatasetError: it is not a finished take, or is of another robot or task.
        """
        recording = Path(recording)
        self.commit_all([recording], verify=verify)
        return recording.stem

    def commit_all(self, recordings: Iterable[Path], *, verify: bool = False) -> tuple[str, ...]:
        """Commit finished takes under `recording/`, all in one change of the index; returns their ids.

        Raises:
            DatasetError: one is not a finished take, or is of another robot or task; none was committed.
        """
        found = [(recording, read_summary(recording, verify=verify)) for recording in recordings]
        for recording, summary in found:
            self.require(summary.info.robot, summary.info.task)
            sync(recording)
        with self._locked():
            for _, summary in found:
                if self._place("episodes", summary.id).exists():
                    raise DatasetError(f"Episode {summary.id!r} is in {self.path} already.")
            with self._moving() as move, self._index.change() as draft:
                for recording, summary in found:
                    move(recording, self._place("episodes", summary.id))
                    draft.link(summary)
        return tuple(summary.id for _, summary in found)

    def drop(self, id: str) -> None:
        """Move an episode to the trash; `restore` brings it back.

        Raises:
            DatasetError: there is no such episode.
        """
        self.drop_all([id])

    def drop_all(self, ids: Iterable[str]) -> None:
        """Move episodes to the trash, all in one change of the index.

        Raises:
            DatasetError: one of them is not there; none was moved.
        """
        with self._locked():
            known, gone = set(self.ids), dict.fromkeys(ids)
            for id in gone:
                # A damaged one may be there and not in the index.
                if id not in known and not self._place("episodes", id).exists():
                    raise DatasetError(str(unknown_name("episode", id, known)))
            left = [self._place("episodes", id) for id in known if id not in gone]
            with self._moving() as move, self._index.change() as draft:
                for id in gone:
                    if (source := self._place("episodes", id)).exists():
                        move(source, _free(self._place("trash", id)))
                draft.unlink(set(gone))
                # Counted anew: a damaged file cannot say how long it was.
                draft.set_total(_steps(left))

    def restore(self, id: str) -> None:
        """Bring a dropped episode back, to the end of the index.

        Raises:
            DatasetError: it is not in the trash, or cannot be read.
        """
        if id not in self.dropped:
            raise DatasetError(str(unknown_name("dropped episode", id, self.dropped)))
        source = self._place("trash", id)
        summary = read_summary(source, verify=True)
        self.require(summary.info.robot, summary.info.task)
        with self._locked():
            if self._place("episodes", id).exists():
                raise DatasetError(f"Episode {id!r} is in {self.path} already.")
            with self._moving() as move, self._index.change() as draft:
                move(source, self._place("episodes", id))
                draft.link(summary)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Ids in the trash."""
        return tuple(file.stem for file in files_in(self.path / "trash"))

    def empty_trash(self) -> tuple[str, ...]:
        """Delete what was dropped, for good; returns the ids."""
        with self._locked():
            gone = self.dropped
            for id in gone:
                self._place("trash", id).unlink(missing_ok=True)
                if not self._place("episodes", id).exists():
                    frames_file(self.path, id).unlink(missing_ok=True)
        return gone

    def relabel(
        self,
        id: str,
        *,
        success: bool | Literal["keep"] | None = "keep",
        note: str | None = None,
        operator: str | None = None,
    ) -> None:
        """Give an episode another verdict (None: not judged), note or operator; what is not given stays.

        The arrays are not touched: a copy with the new metadata and checksum replaces the file in one rename.

        Raises:
            DatasetError: there is no such episode, or its file is damaged (a damaged file is never sealed again).
        """
        source = self.file(id)
        with self._locked():
            info = read_summary(source, verify=True).info
            info = dataclasses.replace(
                info,
                success=info.success if success == "keep" else success,
                note=info.note if note is None else note,
                operator=info.operator if operator is None else operator,
            )
            _put_info(source, info)

    def relabel_take(self, id: str, info: EpisodeInfo) -> None:
        """Give a finished take under `recording/` its final metadata, as `relabel` does; for who holds its lock.

        One that has it already is left as it is.

        Raises:
            DatasetError: there is no such finished take, or its file is damaged.
            OSError: the disk is full or fails; the take is whole, with the metadata it had or with this.
        """
        source = self.take_file(id)
        if read_summary(source).info != info:
            read_summary(source, verify=True)
            _put_info(source, info)

    def split(self, shares: Mapping[str, float], rng: np.random.Generator) -> dict[str, int]:
        """Draw splits anew, whole episodes at random: name -> share (together at most 1); returns their sizes.

        Episodes that are committed later belong to no split until the next draw. Other splits stay as they are.

        Raises:
            DatasetError: a split would be empty.
            InputError: a share is not in (0, 1], or they are more than 1 together.
        """
        _require_shares(shares)
        with self._locked():
            demos = [demo for demo, _ in sorted(self._index.links().items(), key=lambda item: item[1])]
            order = rng.permutation(len(demos))  # over ids in order, so that dropping and restoring changes nothing
            # Rounding the running sum, not each share: the sizes then add up.
            ends = np.rint(np.cumsum([0.0, *shares.values()]) * len(demos)).astype(int)
            drawn = {name: [demos[k] for k in sorted(order[ends[i] : ends[i + 1]])] for i, name in enumerate(shares)}
            for name, chosen in drawn.items():
                if not chosen:
                    raise DatasetError(
                        f"A share of {shares[name]:g} of {len(demos)} episodes leaves the split {name!r} empty; "
                        "record more or choose another share."
                    )
            with self._index.change() as draft:
                for name, chosen in drawn.items():
                    draft.split(name, chosen)
        return {name: len(chosen) for name, chosen in drawn.items()}

    def name_split(self, name: str, ids: Iterable[str]) -> None:
        """Let the split `name` consist of these episodes; without any it is removed.

        Raises:
            DatasetError: one of them is not in the dataset.
        """
        _require_split_name(name)
        with self._locked():
            demos = {id: demo for demo, id in self._index.links().items()}
            chosen = []
            for id in ids:
                if id not in demos:
                    raise DatasetError(str(unknown_name("episode", id, demos)))
                chosen.append(demos[id])
            with self._index.change() as draft:
                draft.split(name, chosen)

    def claim_seed(self, first: int) -> int:
        """The next seed from `first` on that nobody has claimed before; recorders side by side get different ones."""
        with self._locked():
            path = self.path / SEEDS
            fresh = path.with_name(f"{SEEDS}.new")
            claimed = _claimed(path)
            seed = max(first, claimed + 1)
            fresh.write_text(str(seed))
            os.replace(fresh, path)
        return seed

    def takes(self) -> tuple[str, ...]:
        """Ids of finished takes that nobody has kept or dropped, and that no recorder is holding."""
        found = []
        writable = os.access(self.path / "recording", os.W_OK)
        for file in files_in(self.path / "recording"):
            lock = LiveLock(file)
            if not writable or lock.acquire():  # where nothing can be written, nobody records
                with contextlib.suppress(DatasetError, OSError):
                    if is_complete(file):
                        found.append(read_summary(file).id)
                lock.release()
        return tuple(found)

    def take_file(self, id: str) -> Path:
        """Where a take lies."""
        return self._place("recording", id)

    def new_take(self) -> Path:
        """Where a new take may lie; its name sorts by time, and nothing here has it yet."""
        while True:
            id = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
            if not any(self._place(folder, id).exists() for folder in FOLDERS):
                return self._place("recording", id)

    def discard(self, id: str) -> None:
        """Move a take to the trash."""
        with self._locked():
            _move(self._place("recording", id), _free(self._place("trash", id)))

    def recover(self) -> Recovery:
        """Put right what a crash left: finish interrupted takes, and bring the index up to the folder.

        Takes that a living recorder holds are left alone, and no take is deleted.
        """
        with self._locked():
            known = set(self._index.links().values())
            for folder in FOLDERS:  # git and rsync leave empty ones out
                (self.path / folder).mkdir(exist_ok=True)
            there = {file.stem for file in files_in(self.path / "episodes")}
            gone = known - there
            readable, unreadable = self._readable(sorted(there - known))
            if readable or gone:
                with self._index.change() as draft:
                    for summary in readable:
                        draft.link(summary)
                    draft.unlink(gone)
                    ids = (*(known - gone), *(summary.id for summary in readable))
                    draft.set_total(_steps([self._place("episodes", id) for id in ids]))
            takes, empty = [], []
            for file, outcome, reason in recover_takes(self.path / "recording"):
                if outcome == "taken":
                    takes.append(file.stem)
                elif outcome == "empty":
                    _move(file, _free(self._place("trash", file.stem)))
                    empty.append(file.stem)
                else:
                    unreadable[file.stem] = reason
            remove_scraps(self.path)
        linked = tuple(summary.id for summary in readable)
        self.recovery = Recovery(tuple(takes), tuple(empty), unreadable, linked, tuple(sorted(gone)))
        return self.recovery

    def _readable(self, ids: list[str]) -> tuple[list[Summary], dict[str, str]]:
        """What committed episodes that the index does not know say, and why some cannot be taken in."""
        found, refused = [], {}
        for file, summary, reason in _summaries([self._place("episodes", id) for id in ids], verify=True):
            if summary is None:
                refused[file.stem] = reason
                continue
            try:
                self.require(summary.info.robot, summary.info.task)
                found.append(summary)
            except DatasetError as error:
                refused[file.stem] = f"{file}: {error}"
        return found, refused

    def _place(self, folder: str, id: str) -> Path:
        if Path(id).name != id or id.startswith(".") or "\0" in id:  # "../episodes/x" would reach into another folder
            raise DatasetError(f"{id!r} is no episode's id; `understudy dataset list {self.path}` lists them.")
        return self.path / folder / f"{id}.hdf5"

    @contextlib.contextmanager
    def _moving(self) -> Iterator[Callable[[Path, Path], None]]:
        """Moves a file to its place; when the index cannot be changed with it, everything moved is put back."""
        moved: list[tuple[Path, Path]] = []
        before = self._index.state()

        def move(source: Path, target: Path) -> None:
            moved.append((source, target))
            _move(source, target)

        try:
            yield move
        except BaseException:
            if self._index.state() == before:
                for source, target in reversed(moved):
                    if not source.exists():
                        os.replace(target, source)
            raise

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the dataset's lock; other recorders wait."""
        with open_lock(self.path / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _is_blank(path: Path) -> bool:
    """Whether a folder holds nothing but what creating a dataset makes first; a creation may have been interrupted."""
    if not path.is_dir():
        return False
    begun = {*FOLDERS, ".lock", f".{INDEX}.new"}
    return all(entry.name in begun for entry in path.iterdir()) and not any(
        any((path / folder).iterdir()) for folder in FOLDERS if (path / folder).is_dir()
    )


def _free(target: Path) -> Path:
    """The path, or one beside it where something has that name already: nothing in the trash is ever replaced."""
    free, number = target, 1
    while free.exists():
        number += 1
        free = target.with_name(f"{target.stem}-{number}{target.suffix}")
    return free


def _summaries(files: Iterable[Path], *, verify: bool = False) -> Iterator[tuple[Path, Summary | None, str]]:
    """(file, what it says of itself, why that cannot be read) for each file; one of the two is empty."""
    for file in files:
        try:
            yield file, read_summary(file, verify=verify), ""
        except DatasetError as error:
            yield file, None, str(error)


def _steps(files: Iterable[Path]) -> int:
    """Length of all these episodes together; a file that cannot be read counts nothing."""
    return sum(summary.steps for _, summary, _ in _summaries(files) if summary)


def _require_shares(shares: Mapping[str, float]) -> None:
    if not shares:
        raise InputError("Name at least one split and its share, such as train=0.8 valid=0.2.")
    for name, share in shares.items():
        _require_split_name(name)
        if not 0.0 < share <= 1.0:
            raise InputError(f"The share of the split {name!r} must lie in (0, 1], got {share:g}.")
    if sum(shares.values()) > 1.0 + 1e-9:
        raise InputError(f"The shares add up to {sum(shares.values()):g}; expected at most 1.")


def _require_split_name(name: str) -> None:
    if not name.isidentifier() or not name.isascii():
        raise InputError(f"{name!r} cannot name a split; use letters, digits and underscores.")


def _claimed(path: Path) -> int:
    """The highest seed that was claimed; a file that a full disk cut short says none."""
    try:
        return int(path.read_text())
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return -1


def _put_info(source: Path, info: EpisodeInfo) -> None:
    """Replace a finished file, in one rename, by a copy with this metadata; the arrays are not touched."""
    fresh = source.with_name(f".{source.stem}.new")
    fresh.unlink(missing_ok=True)
    require_space(source.parent, source.stat().st_size)
    try:
        with create_episode_file(fresh, info) as new:
            with open_hdf5(source, "episode file") as old:
                old.copy(GROUP, new)
            write_info(new[GROUP], info)
        seal_episode(fresh)
        sync(fresh)
        os.replace(fresh, source)
    finally:
        fresh.unlink(missing_ok=True)
    sync(source.parent)


def _move(source: Path, target: Path) -> None:
    """Rename and have both folders on disk: the instant at which a commit, a drop or a restore counts."""
    target.parent.mkdir(exist_ok=True)
    os.replace(source, target)
    sync(target.parent)
    sync(source.parent)
