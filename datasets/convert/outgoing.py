"""What every export owes: one layout throughout, and a result that is whole or not there.

Owns the look at what is to be written and the place it is written to. It knows no format.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from understudy.datasets.frames import frame_storage, get_chunk, holds_packed_frames, pack_frame, put_frame
from understudy.datasets.schema import ActionSpec, is_image
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError


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

    Raises:
        DatasetError: there is something at `out` already.
    """
    if out.exists() or out.is_symlink():
        raise DatasetError(f"{out} exists; choose another name, or remove it.")
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.new")
    _remove(draft)
    try:
        yield draft
        os.rename(draft, out)
    finally:
        _remove(draft)


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
