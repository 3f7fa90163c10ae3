"""Several datasets into one: the episode files are copied as they are, byte for byte.

Owns which episodes belong together. One demonstration that lies in two sources under the same id is copied once;
episodes that could not be trained on together are refused before anything is written.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.datasets.camera_streams import frames_file
from understudy.datasets.disk import LiveLock, require_space
from understudy.datasets.episode import Summary, read_summary
from understudy.datasets.store import Dataset
from understudy.datasets.where import Where
from understudy.errors import DatasetError

_COMMIT_EVERY = 200
"""Copies that enter the index together."""
_ADVICE = "merge a part of them with --where, or keep them apart"


@dataclass(frozen=True)
class Merged:
    """What a merge did."""

    copied: tuple[str, ...]
    """Ids in the target."""
    present: tuple[str, ...]
    """Left out: the target, or an earlier source, has this demonstration already."""
    damaged: tuple[str, ...]
    """Left out: a sentence for each file whose bytes are not the ones that were sealed."""


def merge(
    sources: Sequence[Dataset],
    target: Dataset,
    where: str | Where | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Merged:
    """Copy the episodes of `sources` that meet `where` into `target`; splits are not copied.

    Args:
        sources: datasets of the target's robot and task.
        target: where to; may hold episodes already.
        where: as in `Dataset.select`.
        progress: called with (done, of how many).

    Raises:
        DatasetError: robot, task, action space, rate or observations differ; nothing has been copied.
        OSError: the disk is full or fails; what was copied until then is in the target, or waits there as a take.
    """
    unreadable: dict[str, str] = {}
    condition = Where(where) if isinstance(where, str) else where
    chosen = [(source, source.summary(id)) for source in sources for id in source.select(condition, None, unreadable)]
    for source, _ in chosen:
        target.require(source.robot, source.task)
    mine = [target.summary(id) for id in target.ids]
    found = [*((target, summary) for summary in mine), *chosen]
    require_alike([(dataset.file(summary.id), summary) for dataset, summary in found], _ADVICE)
    known = {summary.content_checksum for summary in mine}
    taken = {summary.id for summary in mine} | set(target.dropped)
    copied: list[str] = []
    present: list[str] = []
    damaged = list(unreadable.values())
    waiting: list[tuple[Path, LiveLock]] = []
    for done, (source, summary) in enumerate(chosen):
        if summary.content_checksum in known:
            present.append(summary.id)
        else:
            try:
                read_summary(source.file(summary.id), verify=True)
            except DatasetError as error:
                damaged.append(str(error))
            else:
                known.add(summary.content_checksum)
                id = summary.id if summary.id not in taken else target.new_take().stem
                taken.add(id)
                _copy_frames(frames_file(source.path, summary.id), frames_file(target.path, id))
                waiting.append(_copy(source.file(summary.id), target.take_file(id)))
        if len(waiting) >= _COMMIT_EVERY or done + 1 == len(chosen):
            copied += _commit(target, waiting)
        if progress is not None:
            progress(done + 1, len(chosen))
    return Merged(tuple(copied), tuple(present), tuple(damaged))


def _copy(source: Path, target: Path) -> tuple[Path, LiveLock]:
    """A copy that appears whole, under `recording/` of the target, and the lock that keeps others from judging it."""
    require_space(target.parent, source.stat().st_size)
    lock = LiveLock(target)
    if not lock.acquire() or target.exists():
        raise DatasetError(f"{target} is there already: a take waits under that name. Decide about it: dataset repair.")
    fresh = target.with_name(f".{target.stem}.new")
    try:
        shutil.copyfile(source, fresh)
        fresh.rename(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        lock.release()
        raise
    return target, lock


def _copy_frames(source: Path, target: Path) -> None:
    """Take the camera frames along that were kept beside an episode, if any; a copy that was cut is replaced."""
    if not source.exists():
        return
    target.parent.mkdir(exist_ok=True)
    require_space(target.parent, source.stat().st_size)
    fresh = target.with_name(f".{target.stem}.new")
    shutil.copyfile(source, fresh)
    fresh.replace(target)


def _commit(target: Dataset, waiting: list[tuple[Path, LiveLock]]) -> tuple[str, ...]:
    """Commit the copies that wait, and let go of them."""
    try:
        return target.commit_all([path for path, _ in waiting]) if waiting else ()
    finally:
        for _, lock in waiting:
            lock.release()
        waiting.clear()


def require_alike(found: Sequence[tuple[Path, Summary]], advice: str) -> None:
    """Refuse episodes that no policy could be trained on together.

    Args:
        found: file (or another name) and summary of each.
        advice: what to do instead, as the end of a sentence.

    Raises:
        DatasetError: two differ; names both and what differs.
    """
    if not found:
        return
    first_name, first = found[0]
    for name, summary in found:
        for what, mine, theirs in (
            ("action space", first.info.action_spec, summary.info.action_spec),
            ("training channel", first.info.actions, summary.info.actions),
            ("rate", f"{first.info.rate_hz:g} Hz", f"{summary.info.rate_hz:g} Hz"),
            ("observations", dict(first.keys), dict(summary.keys)),
        ):
            if mine != theirs:
                raise DatasetError(
                    f"{name} differs in its {what} from {first_name}: {theirs} there, {mine} here. They cannot be "
                    f"trained on together; {advice}."
                )
