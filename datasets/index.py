"""The index of a dataset: `dataset.hdf5`, which robomimic reads as if all episodes lay in it.

    /data/demo_<i>     external links to episodes/<id>.hdf5, group /episode
    /data              attributes `total`, `env_args` (robomimic's), `next_index`
    /mask/<split>      names of the demos in a split, as bytes

Owns that file. It is never changed in place: a sealed copy with the change replaces it in one rename, so a reader sees
the old index or the new one. It follows the folder of episodes and can be made anew from it; only the splits live here
alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from understudy.datasets.disk import require_space, sync
from understudy.datasets.episode import GROUP, Summary
from understudy.datasets.hdf5 import attribute, members, open_hdf5, read_texts, subgroup
from understudy.datasets.schema import SCHEMA_VERSION
from understudy.datasets.seal import SMALLEST_BLOCK, read_seal, verify_seal, write_seal
from understudy.errors import DatasetError

INDEX = "dataset.hdf5"
_GYM = 2
"""robomimic's number for environments of the gym family (`env_args["type"]`)."""
_LINK = "episodes/{}.hdf5"
_State = tuple[int, int, int]


class Index:
    """The index in one dataset folder. Changing it needs the dataset's lock; reading needs none."""

    def __init__(self, folder: Path) -> None:
        """Reads nothing yet."""
        self.folder = folder
        self.path = folder / INDEX
        self._known: tuple[_State, dict[str, str]] | None = None
        self._sound: tuple[_State, Mapping[str, Any]] | None = None

    def identity(self) -> tuple[str, str]:
        """Robot and task of the dataset.

        Raises:
            DatasetError: there is no index, it is damaged, or its schema version is unknown.
        """
        facts = self._verified()
        return str(facts["robot"]), str(facts["task"])

    def create(self, robot: str, task: str, env_kwargs: Mapping[str, Any]) -> None:
        """Write an index without episodes."""
        kwargs = {"task": task, "robot": robot, **env_kwargs}
        with self._replacing() as fresh:
            with h5py.File(fresh, "x", userblock_size=SMALLEST_BLOCK) as file:
                data = file.create_group("data")
                data.attrs["total"] = 0
                data.attrs["next_index"] = 0
                data.attrs["env_args"] = json.dumps({"env_name": task, "type": _GYM, "env_kwargs": kwargs})
                file.create_group("mask")
            facts = {"kind": "index", "schema_version": SCHEMA_VERSION, "robot": robot, "task": task}
            write_seal(fresh, facts, SMALLEST_BLOCK)

    def links(self) -> dict[str, str]:
        """demo_<i> -> id of its episode, in the order of i.

        Raises:
            DatasetError: the index is damaged, or links to anything but episodes of this folder.
        """
        key = self.state()
        if self._known is None or self._known[0] != key:
            self._verified()
            try:
                with open_hdf5(self.path, "index") as file:
                    _require_whole(file)
                    found = {name: _linked_id(subgroup(file, "data"), name) for name in file["data"]}
                    found = dict(sorted(found.items(), key=lambda item: _number(item[0])))
            except DatasetError as error:
                raise DatasetError(f"{str(error).rstrip('.')}. {self._remedy}") from error
            self._known = (key, found)
        return dict(self._known[1])

    def splits(self) -> dict[str, tuple[str, ...]]:
        """Split name -> ids of its episodes."""
        links = self.links()
        with open_hdf5(self.path, "index") as file:
            masks = subgroup(file, "mask")
            named = {name: read_texts(masks, name) for name in members(masks)}
        return {name: tuple(links[demo] for demo in demos if demo in links) for name, demos in named.items()}

    @contextlib.contextmanager
    def change(self) -> Iterator[Draft]:
        """A draft of the next index, which replaces the present one at the end. Needs the dataset's lock."""
        facts = self._verified()
        with self._replacing() as fresh:
            require_space(self.folder, self.path.stat().st_size)
            shutil.copyfile(self.path, fresh)
            with h5py.File(fresh, "r+") as file:
                yield Draft(file)
                block = int(file.userblock_size)
            write_seal(fresh, {name: facts[name] for name in ("kind", "schema_version", "robot", "task")}, block)
        # What was sealed just now need not be read and checked again by the next change.
        self._sound = (self.state(), read_seal(self.path, self._remedy).facts)

    @contextlib.contextmanager
    def _replacing(self) -> Iterator[Path]:
        """A path beside the index for its successor, which takes its place when the block ends well."""
        fresh = self.folder / f".{INDEX}.new"
        fresh.unlink(missing_ok=True)
        require_space(self.folder, 0)
        try:
            yield fresh
            sync(fresh)
            os.replace(fresh, self.path)
        finally:
            fresh.unlink(missing_ok=True)
        sync(self.folder)

    def _verified(self) -> Mapping[str, Any]:
        """The facts of an index whose every byte is as it was written."""
        state = self.state()
        if self._sound is None or self._sound[0] != state:
            _require_index(read_seal(self.path, self._remedy).facts, self.path)
            self._sound = (state, verify_seal(self.path, self._remedy).facts)
        return self._sound[1]

    def state(self) -> _State:
        """What changes when the file is replaced or written to."""
        if not self.path.is_file():
            return (0, 0, 0)
        found = self.path.stat()
        return (found.st_ino, found.st_mtime_ns, found.st_size)

    @property
    def _remedy(self) -> str:
        return f"The episodes beside it are untouched: `understudy dataset repair {self.folder}` makes the index again."


class Draft:
    """An index that is being changed."""

    def __init__(self, file: h5py.File) -> None:
        """Owns nothing; the file is the caller's."""
        self._data = file["data"]
        self._masks = file.require_group("mask")

    def link(self, summary: Summary) -> None:
        """Append an episode."""
        number = int(self._data.attrs["next_index"])
        self._data[f"demo_{number}"] = h5py.ExternalLink(_LINK.format(summary.id), f"/{GROUP}")
        self._data.attrs["next_index"] = number + 1
        self._data.attrs["total"] = int(self._data.attrs["total"]) + summary.steps

    def unlink(self, ids: set[str]) -> None:
        """Take episodes out, also out of the splits; the caller puts `total` right."""
        gone = {name for name in self._data if _linked_id(self._data, name) in ids}
        for name in gone:
            del self._data[name]
        for mask in list(self._masks):
            demos = read_texts(self._masks, mask)
            if gone & set(demos):
                self.split(mask, [demo for demo in demos if demo not in gone])

    def set_total(self, steps: int) -> None:
        """Say how many steps all episodes have together."""
        self._data.attrs["total"] = steps

    def split(self, name: str, demos: Iterable[str]) -> None:
        """Let the split `name` consist of these demos; without any it is removed."""
        if name in self._masks:
            del self._masks[name]
        if chosen := list(demos):
            self._masks.create_dataset(name, data=np.array([demo.encode() for demo in chosen]))


def env_args(path: Path) -> Mapping[str, Any]:
    """robomimic's description of the environment, as the index holds it."""
    with open_hdf5(path, "index") as file:
        loaded = json.loads(str(attribute(subgroup(file, "data"), "env_args")))
    if not isinstance(loaded, dict):
        raise DatasetError(f"{path}: env_args is no JSON object.")
    return loaded


def _require_index(facts: Mapping[str, Any], path: Path) -> None:
    if facts.get("kind") != "index":
        raise DatasetError(f"{path} is no index; its seal says {facts.get('kind')!r}.")
    version = facts.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DatasetError(
            f"{path}: schema version {version} is not readable by this software, which reads version {SCHEMA_VERSION}; "
            "update Understudy or convert the dataset."
        )


def _require_whole(file: h5py.File) -> None:
    """Refuse an index that was sealed without something that changing it needs."""
    data, masks = subgroup(file, "data"), subgroup(file, "mask")
    for name in ("total", "next_index"):
        if not isinstance(attribute(data, name), (int, np.integer)):
            raise DatasetError(f"{file.filename}: {name} is no whole number.")
    attribute(data, "env_args")
    for name in members(masks):
        read_texts(masks, name)


def _linked_id(data: h5py.Group, name: str) -> str:
    """Id of the episode that a demo links to. Low-level on purpose: ten times faster where there are thousands."""
    try:
        file, place = data.id.links.get_val(name.encode())
    except (TypeError, ValueError, RuntimeError) as error:
        raise DatasetError(f"/data/{name} is no link to an episode file.") from error
    id: str = file.decode().removeprefix("episodes/").removesuffix(".hdf5")
    if file.decode() != _LINK.format(id) or Path(id).name != id or place.decode() != f"/{GROUP}":
        raise DatasetError(f"/data/{name} links to {file.decode()!r}, which is no episode of this dataset.")
    return id


def _number(name: str) -> int:
    digits = name.removeprefix("demo_")
    if not (name.startswith("demo_") and digits.isascii() and digits.isdigit()):
        raise DatasetError(f"/data/{name} is no demo; expected demo_<number>.")
    return int(digits)
