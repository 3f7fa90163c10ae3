"""A dataset written as LeRobot v3.0: tables of steps, videos, and the tables that say where each episode is.

Owns the files. Layout and names are LeRobot 0.4.4's (lerobot/datasets/{lerobot_dataset,utils}.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.convert import lerobot_statistics as statistics
from understudy.datasets.convert.lerobot_layout import (
    DATA,
    DATA_FILE_MB,
    EPISODES,
    EXTRAS,
    FILES_A_CHUNK,
    IMAGES,
    INFO,
    MARK,
    STATS,
    TASKS,
    VERSION,
    VIDEO,
    VIDEO_FILE_MB,
    LeRobotExport,
    extras_of,
    hub_features,
    place,
)
from understudy.datasets.convert.lerobot_plan import Plan, columns_of, losses_of, plan_of, statistics_of
from understudy.datasets.convert.outgoing import fresh
from understudy.datasets.convert.video import VideoWriter
from understudy.datasets.episode import Episode
from understudy.datasets.store import Dataset

Array = NDArray[Any]
MB = 1 << 20


def write(dataset: Dataset, ids: Sequence[str], out: Path, config: LeRobotExport) -> tuple[str, ...]:
    """Write episodes as a LeRobot dataset v3.0 at `out`, which must not exist; whole or not at all.

    Returns:
        a sentence for each thing that LeRobot's readers do not get as it was.

    Raises:
        DatasetError: there are no episodes, they differ in what they hold, or frames cannot become a video.
        MissingExtra: pyarrow or av is not installed.
    """
    plan = plan_of(dataset, ids, config)
    losses = losses_of(dataset, ids, plan)
    with fresh(Path(out)) as draft:
        draft.mkdir()
        rows: list[dict[str, Any]] = []
        with _Tables(draft, plan) as tables, _Videos(draft, plan) as videos, _Extras(draft) as extras:
            for index, id in enumerate(ids):
                episode = dataset.read(id)
                columns = columns_of(episode, plan, index, tables.steps)
                sets = statistics_of(episode, plan, columns)
                rows.append(
                    {
                        "episode_index": index,
                        "tasks": [config.instruction or dataset.task],
                        "length": len(episode),
                        **tables.add(columns, episode),
                        **videos.add(episode),
                        "sets": sets,
                    }
                )
                extras.add(index, episode)
        _write_meta(draft, dataset, plan, rows)
    return losses


def _file_number(count: int) -> tuple[int, int]:
    """Chunk and file of the file that comes after `count` others."""
    return divmod(count, FILES_A_CHUNK)


class _Tables:
    """The tables of steps, one row group an episode."""

    def __init__(self, root: Path, plan: Plan) -> None:
        import pyarrow as pa

        self._root, self._plan = root, plan
        self.steps = 0
        self._files = 0
        self._path: Path | None = None
        self._writer: Any = None
        stored = {name: feature for name, feature in plan.features.items() if feature["dtype"] != "video"}
        fields = [pa.field(name, _arrow_type(feature)) for name, feature in stored.items()]
        self._schema = pa.schema(fields, metadata={b"huggingface": hub_features(stored)})

    def __enter__(self) -> _Tables:
        return self

    def __exit__(self, *problem: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, columns: Mapping[str, Array], episode: Episode) -> dict[str, int]:
        """Write the rows of an episode; returns where they are."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._path is not None and self._path.stat().st_size >= DATA_FILE_MB * MB:
            self._writer.close()
            self._writer = None
        if self._writer is None:
            chunk, file = _file_number(self._files)
            self._path = place(self._root, DATA, chunk, file)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._path, self._schema, compression="snappy", write_page_checksum=True)
            self._files += 1
        cells = {name: _arrow(values) for name, values in columns.items()}
        if self._plan.config.images == "frames":
            for key in self._plan.layout.cameras:
                cells[IMAGES + key.removeprefix("image_")] = pa.array(
                    [{"bytes": _png(frame), "path": None} for frame in episode.observations[key]],
                    type=_arrow_type({"dtype": "image"}),
                )
        table = pa.table([cells[name] for name in self._schema.names], schema=self._schema)
        self._writer.write_table(table, row_group_size=max(1, len(episode)))
        chunk, file = _file_number(self._files - 1)
        first, self.steps = self.steps, self.steps + len(episode)
        return {
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": first,
            "dataset_to_index": self.steps,
        }


def _arrow_type(feature: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    if feature["dtype"] == "image":
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kind = pa.from_numpy_dtype(np.dtype(feature["dtype"]))
    return kind if feature["shape"] == [1] else pa.list_(kind, feature["shape"][0])


def _arrow(values: Array) -> Any:
    """An arrow column of (N, width): plain if the width is 1, as LeRobot has it."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return flat if values.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _png(frame: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    packed = io.BytesIO()
    Image.fromarray(frame).save(packed, format="PNG", compress_level=1)
    return packed.getvalue()


class _Videos:
    """One growing video a camera, continued in a new file when it is large."""

    def __init__(self, root: Path, plan: Plan) -> None:
        self._root, self._plan = root, plan
        self._writers: dict[str, VideoWriter] = {}
        self._files = dict.fromkeys(plan.videos, 0)

    def __enter__(self) -> _Videos:
        return self

    def __exit__(self, *problem: object) -> None:
        with contextlib.ExitStack() as closing:
            for writer in self._writers.values():
                closing.callback(writer.close)

    def add(self, episode: Episode) -> dict[str, float]:
        """Write the frames of an episode; returns where they are."""
        found: dict[str, float] = {}
        for key in self._plan.videos:
            name, frames = IMAGES + key.removeprefix("image_"), episode.observations[key]
            writer = self._writer(key, name, frames.shape[1:3])
            first = writer.frames
            for frame in frames:
                writer.add(frame)
            chunk, file = _file_number(self._files[key] - 1)
            found |= {f"videos/{name}/chunk_index": chunk, f"videos/{name}/file_index": file}
            found[f"videos/{name}/from_timestamp"] = first / self._plan.rate_hz
            found[f"videos/{name}/to_timestamp"] = writer.frames / self._plan.rate_hz
        return found

    def _writer(self, key: str, name: str, size: tuple[int, int]) -> VideoWriter:
        if key in self._writers and self._writers[key].size >= VIDEO_FILE_MB * MB:
            self._writers.pop(key).close()
        if key not in self._writers:
            path = place(self._root, VIDEO, *_file_number(self._files[key]), name)
            path.parent.mkdir(parents=True, exist_ok=True)
            config = self._plan.config
            self._writers[key] = VideoWriter(path, *size, self._plan.rate_hz, config.codec, config.quality)
            self._files[key] += 1
        return self._writers[key]


class _Extras:
    """The table beside LeRobot's: one row group an episode, one row an array."""

    def __init__(self, root: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = root / EXTRAS
        path.parent.mkdir()
        kinds = {"episode_index": pa.int64(), "name": pa.string(), "dtype": pa.string()}
        kinds |= {"shape": pa.list_(pa.int64()), "data": pa.binary()}
        self._schema = pa.schema(list(kinds.items()))
        self._writer = pq.ParquetWriter(
            path, self._schema, compression="zstd", use_dictionary=False, write_page_checksum=True
        )

    def __enter__(self) -> _Extras:
        return self

    def __exit__(self, *problem: object) -> None:
        self._writer.close()

    def add(self, index: int, episode: Episode) -> None:
        """Write the extras of an episode."""
        import pyarrow as pa

        info = json.dumps(dataclasses.asdict(episode.info)).encode()
        rows = [{"episode_index": index, "name": "info", "dtype": "json", "shape": [len(info)], "data": info}]
        for name, array in extras_of(episode).items():
            rows.append(
                {
                    "episode_index": index,
                    "name": name,
                    "dtype": array.dtype.str,
                    "shape": list(array.shape),
                    "data": np.ascontiguousarray(array).tobytes(),
                }
            )
        self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema), row_group_size=len(rows))


def _write_meta(root: Path, dataset: Dataset, plan: Plan, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sets = [row.pop("sets") for row in rows]
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
    for name, value in _flat(sets[0]):
        columns[f"stats/{name}/{value}"] = [each[name][value].tolist() for each in sets]
    columns |= {"meta/episodes/chunk_index": [0] * len(rows), "meta/episodes/file_index": [0] * len(rows)}
    path = place(root, EPISODES, 0, 0)
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(columns), path, write_page_checksum=True)
    pq.write_table(_task_table(plan.config.instruction or dataset.task), root / TASKS)
    whole = statistics.together(sets)
    _write_json(
        root / STATS, {name: {key: value.tolist() for key, value in one.items()} for name, one in whole.items()}
    )
    steps = sum(row["length"] for row in rows)
    rate = plan.rate_hz
    shapes = {key: list(plan.layout.keys[key][1]) for key in plan.state}
    info = {
        "codebase_version": VERSION,
        "robot_type": dataset.robot,
        "total_episodes": len(rows),
        "total_frames": steps,
        "total_tasks": 1,
        "chunks_size": FILES_A_CHUNK,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "fps": int(rate) if rate == int(rate) else rate,
        "splits": {"train": f"0:{len(rows)}"},
        "data_path": DATA,
        "video_path": VIDEO if plan.videos else None,
        "features": {name: {**feature, **_video_facts(feature, plan)} for name, feature in plan.features.items()},
        MARK: {"layout": 1, "robot": dataset.robot, "task": dataset.task, "state": shapes},
    }
    _write_json(root / INFO, info)


def _flat(sets: Mapping[str, statistics.Statistics]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, one in sets.items() for value in one)


def _video_facts(feature: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    if feature["dtype"] != "video":
        return {}
    height, width, _ = feature["shape"]
    facts = {"height": height, "width": width, "codec": plan.config.codec, "pix_fmt": "yuv420p", "channels": 3}
    facts |= {"fps": round(plan.rate_hz), "is_depth_map": False}
    return {"info": {**{f"video.{name}": value for name, value in facts.items()}, "has_audio": False}}


def _task_table(task: str) -> Any:
    """One row; the metadata tells pandas that the text is the index, which is how LeRobot looks tasks up."""
    import pyarrow as pa

    index = "__index_level_0__"
    described = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
            | {"metadata": None},
            {"name": None, "field_name": index, "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
        ],
        "pandas_version": "2.3.3",
    }
    table = pa.table({"task_index": pa.array([0], pa.int64()), index: pa.array([task])})
    return table.replace_schema_metadata({b"pandas": json.dumps(described).encode()})


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False), encoding="utf-8")
