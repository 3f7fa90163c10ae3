"""Our own LeRobot exports read back: with the extras beside its tables, episodes come back as they were.

Owns the way back of `lerobot_writer`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.convert.formats import Foreign
from understudy.datasets.convert.incoming import inside, parse_json
from understudy.datasets.convert.lerobot_layout import (
    COUNTERS,
    EXTRAS,
    IMAGES,
    OBSERVATION,
    OWN,
    REWARD,
    STATE,
    TICKS,
    LeRobotImport,
    place,
    streams_of,
)
from understudy.datasets.convert.lerobot_meta import Entry, Meta
from understudy.datasets.convert.lerobot_steps import column_of, episode_tables, frames_of, provenance_of
from understudy.datasets.convert.parquet import open_parquet
from understudy.datasets.episode import Episode
from understudy.datasets.schema import CHANNELS, EpisodeInfo, is_image
from understudy.errors import DatasetError, InputError

Array = NDArray[Any]
_MARKED_LAYOUT = 1


def read_own(meta: Meta, config: LeRobotImport) -> Foreign:
    """Open our own export: everything comes back as it was, but for frames that became video."""
    mark = meta.mark or {}
    if mark.get("layout") != _MARKED_LAYOUT:
        raise DatasetError(
            f"{meta.root}: written by another version of Understudy (layout {mark.get('layout')}, and {_MARKED_LAYOUT} "
            "is read); update Understudy, or remove the folder understudy/ to read it as any LeRobot dataset."
        )
    robot = config.robot or str(mark.get("robot"))
    task = config.task or str(mark.get("task"))
    if config.keys:
        raise InputError("keys renames features of other people's datasets; this one was written by Understudy.")
    lossy = [name for name, feature in meta.features.items() if feature.dtype == "video"]
    notes = [f"Frames of {', '.join(lossy)} come from lossy video; the rest is as it was."] if lossy else []
    return Foreign(robot, task, len(meta.entries), _own_episodes(meta, mark, robot, task), tuple(notes))


def _own_episodes(meta: Meta, mark: Mapping[str, Any], robot: str, task: str) -> Iterator[Episode]:
    named = {n: f for n, f in meta.features.items() if n not in COUNTERS and f.dtype != "video"}
    with open_parquet(place(meta.root, EXTRAS, 0, 0)) as file:
        if file.num_row_groups != len(meta.entries):
            raise DatasetError(
                f"extras of {file.num_row_groups} episodes beside {len(meta.entries)}: the dataset was changed after "
                "the export; remove the folder understudy/ to read it as any LeRobot dataset."
            )
        for entry, table in episode_tables(meta, list(named)):
            with inside(f"{meta.root}: episode {entry.index}"):
                rows = file.read_row_group(entry.index).to_pylist()
                arrays = _extras(rows, entry.index)
                yield _own_episode(meta, mark, entry, table, arrays, robot, task)


def _extras(rows: list[dict[str, Any]], index: int) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for row in rows:
        name, kind, shape, data = row["name"], row["dtype"], row["shape"], row["data"]
        if row["episode_index"] != index:
            raise DatasetError(f"its extras are of episode {row['episode_index']}.")
        if name == "info":
            arrays[name] = parse_json(data.decode(), "its metadata")
            continue
        dtype = np.dtype(kind)
        if dtype.kind not in "biuf" or any(size < 0 for size in shape):
            raise DatasetError(f"its extra {name!r} holds {dtype}; expected numbers.")
        if len(data) != dtype.itemsize * math.prod(shape):
            raise DatasetError(f"its extra {name!r} has {len(data)} bytes for shape {shape}.")
        arrays[name] = np.frombuffer(data, dtype).reshape(shape)
    return arrays


def _own_episode(
    meta: Meta,
    mark: Mapping[str, Any],
    entry: Entry,
    table: Any,
    arrays: Mapping[str, Any],
    robot: str,
    task: str,
) -> Episode:
    steps = entry.length
    info = EpisodeInfo.from_dict(arrays["info"])
    info = dataclasses.replace(info, robot=robot, task=task, provenance=provenance_of(meta, entry))
    final = {name.partition("/")[2]: value for name, value in arrays.items() if name.startswith("final/")}
    observed: dict[str, Array] = {}
    if mark.get("state"):
        state, start = column_of(meta, table, STATE), 0
        for key, shape in mark["state"].items():
            width = math.prod(int(size) for size in shape)
            observed[key] = state[:, start : start + width]
            start += width
    for key in final:
        name = IMAGES + key.removeprefix("image_")
        if is_image(key):
            observed[key] = frames_of(meta, entry, table, name)
        elif key not in observed:
            observed[key] = column_of(meta, table, OBSERVATION + key) if final[key].size else np.zeros((steps, 0))
    return Episode(
        info=info,
        observations={
            key: np.asarray(values, final[key].dtype).reshape(steps, *final[key].shape)
            for key, values in observed.items()
        },
        final_observation=final,
        **{channel: column_of(meta, table, OWN + channel) for channel in CHANNELS},
        rewards=column_of(meta, table, REWARD)[:, 0],
        tick_ns=column_of(meta, table, TICKS)[:, 0],
        ages_s={name.partition("/")[2]: value for name, value in arrays.items() if name.startswith("age/")},
        states=arrays["states"],
        intervention=arrays.get("intervention", np.zeros(0, np.bool_)),
        streams=streams_of(arrays),
    )
