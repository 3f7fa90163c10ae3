"""What every export owes: one layout throughout, and a result that is whole or not there.

Owns the look at what is to be written and the place it is written to. It knows no format.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from understudy.datasets.disk import require_space
from understudy.datasets.frames import frame_storage, get_chunk, holds_packed_frames, pack_frame, put_frame
from understudy.datasets.schema import ActionSpec, is_image
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError

_ROW_BYTES = 4096
"""Room for what a row has beside observations: actions, rewards, flags, and places in the indices of the frames."""


@dataclass(frozen=True)
class Layout:
    """What all episodes of an export have in common."""

    spec: ActionSpec
    keys: Mapping[str, tuple[str, tuple[int, ...]]]
    """Observation key -> (type, shape of one observation)."""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Keys of camera frames."""
        return tuple(key for key in sorted(self.keys) if is_image(key))


def one_layout(dataset: Dataset, ids: Sequence[str], tool: str) -> Layout:
    """The layout of the episodes `ids`.

    Raises:
        DatasetError: there are none, or they differ; `tool` cannot have that in one dataset.
    """
    if not ids:
        raise DatasetError(f"{dataset.path}: there are no episodes to export; choose others.")
    first = dataset.summary(ids[0])
    layout = Layout(first.info.action_spec, dict(first.keys))
    for id in ids[1:]:
        other = dataset.summary(id)
        if other.info.action_spec != layout.spec:
            raise DatasetError(
                f"{dataset.path}: episode {id} has actions {other.info.action_spec.name!r} unlike those of {ids[0]} "
                f"({layout.spec.name!r}), and {tool} wants one kind in a dataset; export them one by one."
            )
        if dict(other.keys) != dict(layout.keys):
            odd = sorted(set(other.keys.items()) ^ set(layout.keys.items()))
            raise DatasetError(
                f"{dataset.path}: episode {id} observes other things than {ids[0]} ({odd}), and {tool} wants the same "
                "throughout; export them one by one."
            )
    return layout


@contextlib.contextmanager
def fresh(out: Path) -> Iterator[Path]:
    """A path beside `out` to write a file or folder to, which becomes `out` when the block ends well.

    When it does not, nothing is left: neither the draft nor folders that were made for it.

    Raises:
        DatasetError: there is something at `out` already.
    """
    if out.exists() or out.is_symlink():
        raise DatasetError(f"{out} exists; choose another name, or remove it.")
    made = [folder for folder in out.parents if not folder.exists()]
    out.parent.mkdir(parents=True, exist_ok=True)
    # Two exports to one place once wrote into one draft, and each removed the other's.
    draft = out.with_name(f".{out.name}.{secrets.token_hex(4)}.new")
    try:
        yield draft
        if out.exists():
            raise DatasetError(f"{out} was made by someone else meanwhile; choose another name, or remove it.")
        os.rename(draft, out)
    except BaseException:
        _remove(draft)
        with contextlib.suppress(OSError):  # another export may have put something there meanwhile
            for folder in made:
                folder.rmdir()
        raise


def require_room(draft: Path, source: Path, layout: Layout, rows: int = 0, copies: int = 1) -> None:
    """Refuse to write an episode that would fill the disk: HDF5 crashes when it has to close a file on a full one.

    Args:
        draft: the file that is written to, as far as it is on the disk.
        source: the episode's file, which holds what is copied and is no smaller.
        layout: of the export.
        rows: observations that are written beside those of the source.
        copies: how often those of the source are written.

    Raises:
        OSError: there is no room, or the file would be larger than the process may write.
    """
    row_bytes = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for kind, shape in layout.keys.values())
    size = source.stat().st_size
    # The other formats repeat some numbers and keep an index of the frames of their own.
    needed = size * copies + size // 2 + (rows + 2) * (row_bytes + _ROW_BYTES)
    require_space(draft.parent, needed, written=draft.stat().st_size)


def copy_frames(
    group: h5py.Group, name: str, stored: h5py.Dataset, rows: Sequence[int], final: NDArray[np.uint8] | None = None
) -> None:
    """Store frames of one of our episode files as `name` below `group`, without packing them anew.

    Args:
        group: where to.
        name: a path of names below it.
        stored: frames (N, height, width, 3) of an episode file.
        rows: which of them, in this order.
        final: one more frame behind them.
    """
    shape = stored.shape[1:]
    copy = group.create_dataset(name, (len(rows) + (final is not None), *shape), np.uint8, **frame_storage(shape))
    is_packed = holds_packed_frames(stored)
    for place, row in enumerate(rows):
        put_frame(copy, place, get_chunk(stored, row) if is_packed else pack_frame(stored[row]))
    if final is not None:
        put_frame(copy, len(rows), pack_frame(final))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
