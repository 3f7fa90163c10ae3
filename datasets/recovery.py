"""Putting right what a crash left: interrupted takes are finished, and the index is brought up to the folder.

Owns what happens to each thing that a killed process may leave behind. Takes that a living recorder holds are left
alone, nothing that holds a step is deleted, and what cannot be read is named and left where it is.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from understudy.datasets.disk import LiveLock, files_in, require_space
from understudy.datasets.episode import GROUP
from understudy.datasets.live_file import EmptyRecording, finalise, is_complete
from understudy.datasets.quarantine import Report, run_quarantined
from understudy.datasets.schema import EpisodeInfo
from understudy.errors import DatasetError

_LONGEST_TAIL = 1 << 30
"""Bytes that may be missing at the end of an interrupted recording."""


@dataclass(frozen=True)
class Recovery:
    """What recovering found and did."""

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


def recover_takes(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Finish every interrupted recording in `folder` that no living recorder holds.

    Yields (file, outcome, reason): "taken" for one that is a complete take now, "empty" for one without a whole step,
    "unreadable" with the reason; complete takes are passed over.
    """
    for file in files_in(folder):
        lock = LiveLock(file)
        try:
            if not lock.acquire():
                continue
            if not is_complete(file):
                require_space(folder, file.stat().st_size)
                yield file, run_quarantined("finish", {"path": str(file)}, subject=str(file)), ""
        except (DatasetError, OSError) as error:  # a full disk does not keep the rest from being read
            yield file, "unreadable", str(error)
        finally:
            lock.release()


def finish_interrupted(arguments: Mapping[str, Any], report: Report) -> str:
    """The quarantined part: turn the recording `arguments["path"]` into a take; "taken" or "empty".

    Raises:
        DatasetError: it cannot be read, or the disk is full; it is left as it is.
    """
    file = Path(arguments["path"])
    try:
        _lengthen(file)
        finalise(file, _note_interruption(file))
    except EmptyRecording:
        return "empty"
    except (OSError, LookupError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{file}: the recording cannot be finished ({error}).") from error
    return "taken"


def remove_scraps(dataset: Path) -> None:
    """Delete the files that a crash left half written; what they were to replace is still there. Needs the lock."""
    for scrap in (*dataset.glob("recording/.*.begin"), *dataset.glob("recording/.*.new")):
        lock = LiveLock(scrap.with_name(scrap.stem.removeprefix(".") + ".hdf5"))
        if lock.acquire():
            scrap.unlink(missing_ok=True)
            lock.release()
    for scrap in dataset.glob("episodes/.*.new"):
        scrap.unlink(missing_ok=True)
    for lock_file in dataset.glob("recording/*.lock"):
        lock = LiveLock(lock_file)
        if lock.acquire():
            lock.release()


def _lengthen(file: Path) -> None:
    """Give a file that ends before its superblock says the missing bytes: no row lies there that has a tick.

    A write that a full disk or a limit refused leaves that behind, and HDF5 will not open such a file.
    """
    with file.open("rb") as opened:
        head = opened.read(48)
    if len(head) == 48 and head[8] == 0 and head[13] == 8:  # version 0, addresses of 8 bytes, as the recorder writes
        said = int.from_bytes(head[40:48], "little")
        if 0 < said - file.stat().st_size < _LONGEST_TAIL:
            os.truncate(file, said)


def _note_interruption(file: Path) -> EpisodeInfo:
    with h5py.File(file, "r") as opened:
        info = EpisodeInfo.from_json(str(opened[GROUP].attrs["info"]))
    note = "; ".join(part for part in (info.note, "recovered after an interruption") if part)
    return dataclasses.replace(info, note=note)
