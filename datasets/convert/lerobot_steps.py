"""The steps of a LeRobot dataset, episode by episode, and the frames that belong to them.

Owns the reading of data files front to back, and of pictures; it does not know what a feature means.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.convert.lerobot_meta import Entry, Meta
from understudy.datasets.convert.parquet import Rows, numbers, open_parquet
from understudy.datasets.convert.video import frames_at
from understudy.errors import DatasetError

Array = NDArray[Any]


def episode_tables(meta: Meta, columns: list[str]) -> Iterator[tuple[Entry, Any]]:
    """Each episode and its rows, reading every file once from front to back.

    Raises:
        DatasetError: rows are missing, or belong to another episode; names the file.
    """
    for path, group in itertools.groupby(meta.entries, key=lambda entry: entry.data):
        entries = list(group)
        with open_parquet(path) as file:
            rows = Rows(file, [*columns, "episode_index", "frame_index"])
            expected = entries[0].first
            for entry in entries:
                if entry.first != expected:
                    raise DatasetError(f"episode {entry.index} begins at step {entry.first}; expected {expected}.")
                expected += entry.length
                table = rows.take(entry.length)
                owners = numbers(table.column("episode_index"), "episode_index", 1)
                if np.any(owners != entry.index):
                    raise DatasetError(f"the rows of episode {entry.index} are marked as of episode {owners.max()}.")
                order = numbers(table.column("frame_index"), "frame_index", 1)[:, 0]
                if not np.array_equal(order, np.arange(entry.length)):
                    raise DatasetError(f"the rows of episode {entry.index} are not in order.")
                yield entry, table


def frames_of(meta: Meta, entry: Entry, table: Any, name: str) -> NDArray[np.uint8]:
    """Frames (N, height, width, 3) of a camera, from the table or from its video."""
    size = meta.features[name].size
    frames = np.empty((entry.length, *size, 3), np.uint8)
    if name in entry.videos:
        path, start_s = entry.videos[name]
        times = [start_s + step / meta.rate_hz for step in range(entry.length)]
        for step, frame in enumerate(frames_at(path, times, size, 0.5 / meta.rate_hz)):
            frames[step] = frame
        return frames
    for step, cell in enumerate(table.column(name).to_pylist()):
        frames[step] = _picture(cell, f"{name!r} of step {step}", size)
    return frames


def _picture(cell: Any, what: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    packed = cell.get("bytes") if isinstance(cell, dict) else None
    if not packed:
        raise DatasetError(f"{what} is not in the table; frames kept in other files are not read.")
    try:
        with Image.open(io.BytesIO(packed), formats=("PNG", "JPEG")) as picture:
            if (picture.height, picture.width) != size:
                raise DatasetError(f"{what} is {picture.height}x{picture.width}; expected {size[0]}x{size[1]}.")
            return np.asarray(picture.convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, MemoryError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{what} is not a readable picture ({error}).") from error


def column_of(meta: Meta, table: Any, name: str) -> Array:
    """A feature of numbers as (N, width)."""
    return numbers(table.column(name), name, meta.features[name].width)


def provenance_of(meta: Meta, entry: Entry) -> str:
    """Where an imported episode says that it is from."""
    return f"LeRobot dataset {meta.root.name}, episode {entry.index}"
