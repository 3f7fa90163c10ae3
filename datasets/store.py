"""A dataset on disk: a folder of episode files, and an index of them that robomimic reads.

    demos/lift/
      dataset.hdf5         the index: /data/demo_<i> are external links to episode files; /mask/<split>
      episodes/<id>.hdf5   one committed episode a file
      recording/<id>.hdf5  takes: in progress, finished and not yet judged, or left by a crash
      trash/<id>.hdf5      dropped episodes and takes
      .seeds               the highest seed that a recorder has claimed

The folder is the truth and the index follows it: committing, dropping and restoring are one rename each, and `recover`
brings an index that a crash left behind up to date. Every change happens under a lock, so that several recorders may
write to one dataset; readers need none, because files only ever appear whole, by rename.

An episode's arrays are never changed. A new verdict or note (`relabel`) goes into a copy that replaces the file in one
rename, so that the label travels with the file and every reader sees it.

This module does not judge what is in an episode (`checks.py`) and does not write steps (`writer.py`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from understudy.datasets.episode import GROUP, Episode, checksum, read_episode, read_info
from understudy.datasets.schema import SCHEMA_VERSION, EpisodeInfo
from understudy.datasets.writer import (
    EmptyRecording,
    EpisodeWriter,
    LiveLock,
    finalise,
    is_complete,
    require_space,
    sync,
)
from understudy.errors import DatasetError, unknown_name

INDEX = "dataset.hdf5"
SEEDS = ".seeds"
"""Holds the highest seed that a recorder has claimed."""
FOLDERS = ("episodes", "recording", "trash")
_GYM = 2
"""robomimic's number for environments of the gym family (`env_args["type"]`)."""
_LINK = "episodes/{}.hdf5"


@dataclass(frozen=True)
class Summary:
    """What the attributes of an episode file say, without reading its arrays."""

    id: str
    steps: int
    checksum: str
    info: EpisodeInfo


@dataclass(frozen=True)
class Recovery:
    """What `recover` found and did."""

    takes: tuple[str, ...] = ()
    """Episodes that a crash interrupted, now complete takes under `recording/`."""
    empty: tuple[str, ...] = ()
    """Recordings that had no whole step yet; moved to the trash."""
    unreadable: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Recordings, and episodes not in the index, that could not be read, with the reason; left where they are."""
    linked: tuple[str, ...] = ()
    """Committed episodes that the index did not know."""
    unlinked: tuple[str, ...] = ()
    """Episodes in the index whose file is gone."""


class Dataset:
    """The episodes of one robot doing one task; `create`, `open` or `open_or_create` gives one."""

    def __init__(self, path: Path, robot: str, task: str) -> None:
        """Use `open` or `create` instead; this reads nothing."""
        self.path = path
        self.robot = robot
        self.task = task
        self.recovery = Recovery()
        """What the last `recover` (also done by `open`) found."""

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
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            advice = "choose another folder"
            if path.is_dir() and any(path.glob("episodes/*.hdf5")):
                advice = f"its index is gone: `understudy dataset repair {path}` makes it again"
            raise DatasetError(f"{path} exists and is not empty; {advice}.")
        for folder in FOLDERS:
            (path / folder).mkdir(parents=True, exist_ok=True)
        dataset = cls(path, robot, task)
        dataset._new_index(env_kwargs or {})
        return dataset

    @classmethod
    def open(cls, path: Path | str, *, recover: bool = True) -> Dataset:
        """Open the dataset at `path`; what a crash left there is recovered first, where the folder can be written.

        Raises:
            DatasetError: there is no dataset, it cannot be read, or its schema version is unknown.
        """
        path = Path(path)
        index = path / INDEX
        if not index.is_file():
            raise DatasetError(
                f"There is no dataset at {path}: {INDEX} does not exist there. Give the folder that "
                "`understudy record --out` wrote."
            )
        try:
            with h5py.File(index, "r") as file:
                version = file.attrs.get("schema_version")
                if version != SCHEMA_VERSION:
                    raise DatasetError(
                        f"{index}: schema version {version} is not readable by this software, which reads version "
                        f"{SCHEMA_VERSION}; update Understudy or convert the dataset."
                    )
                dataset = cls(path, str(file.attrs["robot"]), str(file.attrs["task"]))
        except (OSError, KeyError, RuntimeError) as error:
            raise DatasetError(
                f"{index}: not a readable index ({error}). The episodes beside it are untouched; restore the index "
                f"from a copy, or remove it and run `understudy dataset repair {path}`."
            ) from error
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
        """Make the index of a folder of episodes anew; for one that was lost. Splits are lost with it.

        Raises:
            DatasetError: there is an index already, or no episode can be read.
        """
        path = Path(path)
        if (path / INDEX).exists():
            raise DatasetError(f"{path / INDEX} exists; remove it first if it really is damaged.")
        files = sorted((path / "episodes").glob("*.hdf5"))
        if not files:
            raise DatasetError(f"{path / 'episodes'} holds no episodes; there is nothing to rebuild from.")
        first = _summary(files[0])
        for folder in FOLDERS:
            (path / folder).mkdir(exist_ok=True)
        dataset = cls(path, first.info.robot, first.info.task)
        dataset._new_index({})
        dataset.recover()
        return dataset

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the committed episodes, in the order of the index."""
        return tuple(self._links().values())

    def __len__(self) -> int:
        return len(self._links())

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

    def read(self, id: str, *, images: bool = True, verify: bool = True) -> Episode:
        """One episode, validated; `images=False` leaves camera frames out.

        Raises:
            DatasetError: missing, damaged or of an unknown schema version; names the file.
        """
        return read_episode(self.file(id), images=images, verify=verify)

    def episodes(self, *, images: bool = True, verify: bool = True) -> Iterator[Episode]:
        """Every committed episode in the order of `ids`, one in memory at a time.

        Raises:
            DatasetError: on reaching an episode that cannot be read; names the file.
        """
        for id in self.ids:
            yield self.read(id, images=images, verify=verify)

    def summary(self, id: str) -> Summary:
        """Length, checksum and metadata of one episode, without its arrays."""
        return _summary(self.file(id))

    def infos(self) -> dict[str, EpisodeInfo]:
        """Id -> metadata of every committed episode, in order."""
        return {id: self.summary(id).info for id in self.ids}

    def checksum(self) -> str:
        """SHA-256 over the checksums of all episodes, in order: what a model says it was trained on."""
        digest = hashlib.sha256()
        for id in self.ids:
            digest.update(self.summary(id).checksum.encode())
        return digest.hexdigest()

    def splits(self) -> dict[str, tuple[str, ...]]:
        """Split name -> ids of its episodes (`/mask/<name>`)."""
        links = self._links()
        with h5py.File(self.path / INDEX, "r") as file:
            masks = {name: mask[()] for name, mask in file.get("mask", {}).items()}
        return {name: tuple(links[demo.decode()] for demo in mask) for name, mask in masks.items()}

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
        return EpisodeWriter(self._place("recording", new_id()), info, observation)

    def commit(self, recording: Path | str) -> str:
        """Make a finished take an episode of this dataset for good, and return its id.

        Raises:
            DatasetError: it is not a finished take, or is of another robot or task.
        """
        recording = Path(recording)
        summary = _summary(recording)
        self.require(summary.info.robot, summary.info.task)
        target = self._place("episodes", summary.id)
        sync(recording)
        with self._locked():
            if target.exists():
                raise DatasetError(f"Episode {summary.id!r} is in {self.path} already.")
            with self._fresh_index() as file:
                _move(recording, target)
                _link(file, summary)
        return summary.id

    def drop(self, id: str) -> None:
        """Move an episode to the trash; `restore` brings it back.

        Raises:
            DatasetError: there is no such episode.
        """
        with self._locked():
            source = self._place("episodes", id)
            if id not in self.ids:
                raise DatasetError(str(unknown_name("episode", id, self.ids)))
            steps = _steps(source)
            with self._fresh_index() as file:
                if source.exists():
                    _move(source, self._place("trash", id))
                _unlink(file, {id})
                file["data"].attrs["total"] = int(file["data"].attrs["total"]) - steps

    def restore(self, id: str) -> None:
        """Bring a dropped episode back, to the end of the index.

        Raises:
            DatasetError: it is not in the trash, or cannot be read.
        """
        if id not in self.dropped:
            raise DatasetError(str(unknown_name("dropped episode", id, self.dropped)))
        source = self._place("trash", id)
        summary = _summary(source)
        with self._locked(), self._fresh_index() as file:
            _move(source, self._place("episodes", id))
            _link(file, summary)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Ids in the trash."""
        return tuple(sorted(file.stem for file in (self.path / "trash").glob("*.hdf5")))

    def relabel(self, id: str, *, success: bool | None = None, note: str | None = None) -> None:
        """Give an episode another verdict or note (None leaves it as it is).

        The arrays are not touched: a copy with the new metadata and checksum replaces the file in one rename.
        """
        source = self.file(id)
        info = self.summary(id).info
        info = dataclasses.replace(
            info,
            success=info.success if success is None else success,
            note=info.note if note is None else note,
        )
        fresh = source.with_name(f".{id}.new")
        with self._locked():
            try:
                shutil.copyfile(source, fresh)
                with h5py.File(fresh, "r+") as file:
                    file[GROUP].attrs["info"] = info.to_json()
                    file[GROUP].attrs["checksum"] = checksum(file[GROUP])
                sync(fresh)
                os.replace(fresh, source)
            finally:
                fresh.unlink(missing_ok=True)
            sync(source.parent)

    def split(self, valid: float, rng: np.random.Generator) -> None:
        """Draw the splits `train` and `valid` (a share between 0 and 1 of the episodes) anew.

        Episodes that are committed later belong to no split until the next draw.

        Raises:
            DatasetError: a split would be empty.
        """
        with self._locked():
            demos = list(self._links())
            count = round(valid * len(demos))
            if not 0 < count < len(demos):
                raise DatasetError(
                    f"A validation share of {valid} of {len(demos)} episodes leaves a split empty; "
                    "record more or choose another share."
                )
            order = [demos[i] for i in rng.permutation(len(demos))]
            with self._fresh_index() as file:
                _write_mask(file, "valid", order[:count])
                _write_mask(file, "train", order[count:])

    def claim_seed(self, first: int) -> int:
        """The next seed from `first` on that nobody has claimed before; recorders side by side get different ones."""
        with self._locked():
            path = self.path / SEEDS
            claimed = int(path.read_text() or -1) if path.exists() else -1
            seed = max(first, claimed + 1)
            path.write_text(str(seed))
        return seed

    def takes(self) -> tuple[str, ...]:
        """Ids of finished takes that nobody has kept or dropped, and that no recorder is holding."""
        found = []
        writable = os.access(self.path / "recording", os.W_OK)
        for file in sorted((self.path / "recording").glob("*.hdf5")):
            lock = LiveLock(file)
            if not writable or lock.acquire():  # where nothing can be written, nobody records
                with contextlib.suppress(DatasetError):
                    if is_complete(file):
                        found.append(file.stem)
                lock.release()
        return tuple(found)

    def take_file(self, id: str) -> Path:
        """Where a take lies."""
        return self._place("recording", id)

    def discard(self, id: str) -> None:
        """Move a take to the trash."""
        with self._locked():
            _move(self._place("recording", id), self._place("trash", id))

    def recover(self) -> Recovery:
        """Put right what a crash left: finish interrupted takes, and bring the index up to the folder.

        Takes that a living recorder holds are left alone, and no take is deleted.
        """
        with self._locked():
            known = set(self._links().values())
            there = {file.stem for file in (self.path / "episodes").glob("*.hdf5")}
            missing, gone = sorted(there - known), sorted(known - there)
            readable, damaged = self._readable(missing)
            if readable or gone:
                with self._fresh_index() as file:
                    for summary in readable:
                        _link(file, summary)
                    _unlink(file, set(gone))
                    # Counted anew: a file that is gone cannot say how long it was.
                    ids = (*(known - set(gone)), *(summary.id for summary in readable))
                    file["data"].attrs["total"] = sum(_steps(self._place("episodes", id)) for id in ids)
            leftovers = self._recover_takes()
        linked = tuple(summary.id for summary in readable)
        unreadable = {**damaged, **leftovers.unreadable}
        self.recovery = dataclasses.replace(leftovers, linked=linked, unlinked=tuple(gone), unreadable=unreadable)
        return self.recovery

    def _readable(self, ids: list[str]) -> tuple[list[Summary], dict[str, str]]:
        """What committed episodes say, and why some cannot be read."""
        found, damaged = [], {}
        for id in ids:
            try:
                found.append(_summary(self._place("episodes", id)))
            except DatasetError as error:
                damaged[id] = str(error)
        return found, damaged

    def _recover_takes(self) -> Recovery:
        takes, empty, unreadable = [], [], {}
        for file in sorted((self.path / "recording").glob("*.hdf5")):
            lock = LiveLock(file)
            if not lock.acquire():
                continue
            try:
                outcome = _recover_take(file)
                if outcome == "taken":
                    takes.append(file.stem)
                elif outcome == "empty":
                    _move(file, self._place("trash", file.stem))
                    empty.append(file.stem)
            except (DatasetError, OSError) as error:  # a full disk does not keep the rest from being read
                unreadable[file.stem] = str(error)
            finally:
                lock.release()
        self._remove_scraps()
        return Recovery(tuple(takes), tuple(empty), unreadable)

    def _remove_scraps(self) -> None:
        """Delete the files that a crash left half written; what they were to replace is still there."""
        for scrap in (*self.path.glob("recording/.*.begin"), *self.path.glob("recording/.*.new")):
            lock = LiveLock(scrap.with_name(scrap.stem.removeprefix(".") + ".hdf5"))
            if lock.acquire():
                scrap.unlink(missing_ok=True)
                lock.release()
        for scrap in self.path.glob("episodes/.*.new"):
            scrap.unlink()
        for lock_file in self.path.glob("recording/*.lock"):
            lock = LiveLock(lock_file)
            if lock.acquire():
                lock.release()

    # --- the index -----------------------------------------------------------------------------------------------

    def _place(self, folder: str, id: str) -> Path:
        if Path(id).name != id:  # "../episodes/x" would reach into another folder
            raise DatasetError(f"{id!r} is no episode's id; `understudy dataset check {self.path}` lists them.")
        return self.path / folder / f"{id}.hdf5"

    def _links(self) -> dict[str, str]:
        """demo_<i> -> id, in the order of i."""
        with h5py.File(self.path / INDEX, "r") as file:
            data = file["data"]
            links = {name: Path(data.get(name, getlink=True).filename).stem for name in data}
        return dict(sorted(links.items(), key=lambda item: int(item[0].removeprefix("demo_"))))

    def _new_index(self, env_kwargs: Mapping[str, Any]) -> None:
        kwargs = {"task": self.task, "robot": self.robot, **env_kwargs}
        with self._locked(), self._fresh_index(copy=False) as file:
            data = file.create_group("data")
            data.attrs["total"] = 0
            data.attrs["next_index"] = 0
            data.attrs["env_args"] = json.dumps({"env_name": self.task, "type": _GYM, "env_kwargs": kwargs})
            file.create_group("mask")
            file.attrs.update({"schema_version": SCHEMA_VERSION, "robot": self.robot, "task": self.task})

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the dataset's lock; other recorders wait."""
        with (self.path / ".lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _fresh_index(self, *, copy: bool = True) -> Iterator[h5py.File]:
        """An index to change, beside the old one, which it replaces at the end in one rename. Needs the lock."""
        fresh = self.path / f".{INDEX}.new"
        fresh.unlink(missing_ok=True)
        require_space(self.path, (self.path / INDEX).stat().st_size if copy else 0)
        try:
            if copy:
                shutil.copyfile(self.path / INDEX, fresh)
            with h5py.File(fresh, "r+" if copy else "x") as file:
                yield file
            sync(fresh)
            os.replace(fresh, self.path / INDEX)
        finally:
            fresh.unlink(missing_ok=True)
        sync(self.path)


def new_id() -> str:
    """A name for an episode that sorts by time and that no other recorder draws."""
    return f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _summary(path: Path) -> Summary:
    if not path.is_file():
        raise DatasetError(f"Episode file {path} does not exist.")
    try:
        with h5py.File(path, "r") as file:
            group = file[GROUP]
            if "checksum" not in group.attrs:
                raise DatasetError(f"{path}: the episode is not finished; recover the dataset first.")
            info = read_info(group, path)
            return Summary(path.stem, int(group.attrs["num_samples"]), str(group.attrs["checksum"]), info)
    except (OSError, KeyError, RuntimeError) as error:
        raise DatasetError(f"{path}: not a readable episode file ({error}).") from error


def _link(file: h5py.File, summary: Summary) -> None:
    data = file["data"]
    number = int(data.attrs["next_index"])
    data[f"demo_{number}"] = h5py.ExternalLink(_LINK.format(summary.id), f"/{GROUP}")
    data.attrs["next_index"] = number + 1
    data.attrs["total"] = int(data.attrs["total"]) + summary.steps


def _unlink(file: h5py.File, ids: set[str]) -> None:
    """Take episodes out of the index and its splits; the caller puts `total` right."""
    data = file["data"]
    gone = {name for name in data if Path(data.get(name, getlink=True).filename).stem in ids}
    for name in gone:
        del data[name]
    for mask in list(file.get("mask", {})):
        demos = [demo.decode() for demo in file["mask"][mask][()]]
        if gone & set(demos):
            _write_mask(file, mask, [demo for demo in demos if demo not in gone])


def _steps(path: Path) -> int:
    """Length of an episode, 0 where its file cannot be read."""
    try:
        return _summary(path).steps
    except DatasetError:
        return 0


def _write_mask(file: h5py.File, name: str, demos: list[str]) -> None:
    masks = file.require_group("mask")
    if name in masks:
        del masks[name]
    if demos:
        masks.create_dataset(name, data=np.array([demo.encode() for demo in demos]))


def _move(source: Path, target: Path) -> None:
    """Rename and have both folders on disk: the instant at which a commit, a drop or a restore counts."""
    target.parent.mkdir(exist_ok=True)
    os.replace(source, target)
    sync(target.parent)
    sync(source.parent)


def _recover_take(file: Path) -> str:
    """Finish an interrupted recording: "taken", "empty" (no whole step), or "whole" (nothing to do)."""
    if is_complete(file):
        return "whole"
    try:
        finalise(file, _note_interruption(file))
    except EmptyRecording:
        return "empty"
    return "taken"


def _note_interruption(file: Path) -> EpisodeInfo:
    with h5py.File(file, "r") as opened:
        info = EpisodeInfo.from_json(str(opened[GROUP].attrs["info"]))
    note = "; ".join(part for part in (info.note, "recovered after an interruption") if part)
    return dataclasses.replace(info, note=note)
