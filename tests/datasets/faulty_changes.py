"""A process that changes a dataset again and again, and is killed between two steps of each change.

    faulty_changes.py FOLDER CHANGE COUNT SEED

Every call into C (each system call of Python's, each of HDF5's) is a place where a process may end. They are counted
once; then the change is made COUNT times on a fresh copy of a small dataset, in a child that is killed at the first,
the last or a random one of them. After each kill the dataset must be sound. Prints {"calls", "kills", "before",
"after"}: how often the change had not, and had, taken place.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from datasets_builders import make_dataset, make_episode, steps_of

from understudy.datasets.merge import merge
from understudy.datasets.store import Dataset

Change = Callable[[Dataset, Path], object]


def finished_take(dataset: Dataset) -> Path:
    episode = make_episode(30, seed=9, images=True)
    with dataset.begin(episode.info, {key: values[0] for key, values in episode.observations.items()}) as writer:
        for step in steps_of(episode):
            writer.add(step)
        return writer.finish()


CHANGES: dict[str, Change] = {
    "commit": lambda dataset, other: dataset.commit(dataset.take_file(dataset.takes()[0])),
    "add": lambda dataset, other: dataset.add(make_episode(20, seed=8)),
    "drop": lambda dataset, other: dataset.drop(dataset.ids[1]),
    "restore": lambda dataset, other: dataset.restore(dataset.dropped[0]),
    "relabel": lambda dataset, other: dataset.relabel(dataset.ids[0], success=False, note="slipped" * 2000),
    "split": lambda dataset, other: dataset.split({"train": 0.5, "valid": 0.5}, np.random.default_rng(1)),
    "merge": lambda dataset, other: merge([Dataset.open(other)], dataset),
    "recover": lambda dataset, other: dataset.recover(),
    "discard": lambda dataset, other: dataset.discard(dataset.takes()[0]),
    "empty-trash": lambda dataset, other: dataset.empty_trash(),
}
MAY_VANISH = {"empty-trash"}
HALFWAY = {"add", "merge", "empty-trash"}
"""Changes of several episodes, or in several stages: whole episodes may have arrived when others have not."""


def digests(folder: Path) -> dict[str, str]:
    """Id -> SHA-256 of every finished episode file there is, wherever it lies."""
    found = {}
    for place in ("episodes", "trash", "recording"):
        for file in (folder / place).glob("*.hdf5"):
            found[file.stem] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def state_of(folder: Path) -> str:
    """All that a person sees of a dataset, but for the names of new episodes."""
    dataset = Dataset.open(folder)
    known = {id for id in dataset.ids if id.startswith("known")}
    labels = [dataset.summary(id).info.success for id in sorted(known)]
    splits = {name: sorted(ids) for name, ids in dataset.splits().items()}
    trash = [id for id in dataset.dropped if id.startswith("known")]
    counts = len(dataset), len(dataset.takes()), len(dataset.dropped)
    return json.dumps([sorted(known), labels, splits, trash, counts])


def require_sound(folder: Path, before: dict[str, str], relabelled: bool, may_vanish: bool) -> None:
    dataset = Dataset.open(folder)
    assert not dataset.recovery.unreadable, dataset.recovery.unreadable
    after = digests(folder)
    if not may_vanish:
        assert set(before) <= set(after), set(before) - set(after)
    changed = {id for id in before if id in after and after[id] != before[id]}
    assert len(changed) <= (1 if relabelled else 0), changed
    assert not dataset.damaged()
    assert sum(len(dataset.read(id)) for id in dataset.ids) == total_of(folder)
    assert not list(folder.glob("*/.*.new")), "scraps are left"
    assert not list(folder.glob("recording/*.lock")), "locks are left"
    dataset.split({"again": 1.0}, np.random.default_rng(0))  # and it can be written to
    assert set(dataset.splits()["again"]) == set(dataset.ids)


def total_of(folder: Path) -> int:
    """As robomimic reads it: through the links."""
    with h5py.File(folder / "dataset.hdf5", "r") as file:
        lengths = [int(file["data"][demo].attrs["num_samples"]) for demo in file["data"]]
        assert int(file["data"].attrs["total"]) == sum(lengths)
    return sum(lengths)


def in_child(change: Change, folder: Path, other: Path, kill_at: int | None) -> tuple[int, int]:
    """Make the change in a forked child; returns (calls it made, its exit status)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        calls = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            if event == "c_call":
                calls += 1
                if calls == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        dataset = Dataset.open(folder, recover=False)
        sys.setprofile(count)
        try:
            change(dataset, other)
        finally:
            sys.setprofile(None)
            os.write(writing, str(calls).encode())
            os._exit(0)
    os.close(writing)
    status = os.waitpid(child, 0)[1]
    said = os.read(reading, 100)
    os.close(reading)
    return int(said or -1), status


def pristine(folder: Path, interrupted: bool) -> tuple[Path, Path]:
    """A dataset with committed, dropped, finished and perhaps interrupted episodes and splits; and another to merge."""
    dataset = make_dataset(folder / "pristine", 4)
    for number, id in enumerate(dataset.ids):
        os.rename(dataset.file(id), dataset.path / "episodes" / f"known{number}.hdf5")
    dataset.recover()
    dataset.split({"train": 0.5, "valid": 0.5}, np.random.default_rng(0))
    dataset.drop("known3")
    take = finished_take(dataset)
    os.rename(take, take.with_name("known-take.hdf5"))
    child = os.fork() if interrupted else -1
    if child == 0:  # leaves an interrupted recording behind
        episode = make_episode(25, seed=7, images=True)
        writer = dataset.begin(episode.info, {key: values[0] for key, values in episode.observations.items()})
        for k, step in enumerate(steps_of(episode)):
            writer.add(step)
            while writer.written <= k:
                pass
        os.kill(os.getpid(), signal.SIGKILL)
    if interrupted:
        os.waitpid(child, 0)
    other = Dataset.create(folder / "other", robot="two_joint", task="reach")
    for seed in (20, 21, 22):
        other.add(make_episode(20, seed=seed))
    return dataset.path, other.path


def main(folder: Path, name: str, count: int, seed: int) -> None:
    source, other = pristine(folder, interrupted=name == "recover")
    change = CHANGES[name]
    work = folder / "work"

    def fresh() -> None:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(source, work)

    fresh()
    recovered = state_of(work)
    before = {id: digest for id, digest in digests(source).items() if id.startswith("known")}
    fresh()
    calls, status = in_child(change, work, other, None)
    assert status == 0
    changed = state_of(work)
    rng = np.random.default_rng(seed)
    places = sorted({1, calls, *rng.integers(1, calls + 1, max(0, count - 2)).tolist()})
    outcomes = {"before": 0, "after": 0, "other": 0}
    for place in places:
        fresh()
        _, status = in_child(change, work, other, place)
        assert os.WIFSIGNALED(status), f"call {place} of {calls} was not reached"
        state = state_of(work)
        outcomes["before" if state == recovered else "after" if state == changed else "other"] += 1
        require_sound(work, before, name == "relabel", name in MAY_VANISH)
        halfway = state not in (recovered, changed)
        assert not halfway or name in HALFWAY, f"{name}, call {place} of {calls}: neither before nor after: {state}"
    print(json.dumps({"calls": calls, "kills": len(places), **outcomes}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
