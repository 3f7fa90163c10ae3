"""What the tables under meta/ of a LeRobot dataset say: features, episodes and tasks, checked before use.

Owns the look at info.json and the episode tables; no step is read here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.datasets.convert.incoming import FASTEST_HZ, SLOWEST_HZ, plain_text, read_json
from understudy.datasets.convert.lerobot_layout import ACTION, DATA, INFO, MARK, TASKS, VERSION, VIDEO, place
from understudy.datasets.convert.parquet import Rows, open_parquet
from understudy.errors import DatasetError

MOST_EPISODES = 1_000_000
MOST_FEATURES = 1000
_WIDEST = 1 << 27
"""Numbers in one value of a feature: a camera frame of 6000x7000."""
_FIXED = ("episode_index", "length", "data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index")


@dataclass(frozen=True)
class Feature:
    """One column of the steps."""

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    """One for each number, or empty."""

    @property
    def width(self) -> int:
        """How many numbers one value has."""
        return math.prod(self.shape)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a frame, whichever way round LeRobot wrote it."""
        if len(self.shape) != 3:
            raise DatasetError(f"frames have shape {self.shape}; expected height, width and colours.")
        if self.shape[2] == 3:
            return self.shape[0], self.shape[1]
        if self.shape[0] == 3:
            return self.shape[1], self.shape[2]
        raise DatasetError(f"frames have shape {self.shape}; only frames of three colours are read.")


@dataclass(frozen=True)
class Entry:
    """Where an episode is."""

    index: int
    length: int
    first: int
    """Number of its first step, counted over the whole dataset."""
    data: Path
    videos: Mapping[str, tuple[Path, float]]
    """Feature -> file and time of the first frame in it, s."""


@dataclass(frozen=True)
class Meta:
    """Everything under meta/."""

    root: Path
    rate_hz: float
    robot: str
    features: Mapping[str, Feature]
    entries: tuple[Entry, ...]
    tasks: Mapping[int, str]
    mark: Mapping[str, Any] | None
    """What we said of the dataset if we wrote it."""


def read_meta(root: Path) -> Meta:
    """Read and check the tables under meta/.

    Raises:
        DatasetError: not a LeRobot dataset v3.0, or damaged; names the file.
    """
    info = read_json(place(root, INFO, 0, 0))
    version = info.get("codebase_version")
    if version != VERSION:
        raise DatasetError(
            f"{root / INFO}: this is LeRobot {version}, and {VERSION} is read; bring older ones up to it with "
            "LeRobot's own `python -m lerobot.datasets.v30.convert_dataset_v21_to_v30`."
        )
    try:
        rate_hz = float(info["fps"])
        features = _features(info["features"])
        templates = str(info.get("data_path") or DATA), str(info.get("video_path") or VIDEO)
        robot, mark = info.get("robot_type"), info.get(MARK)
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise DatasetError(f"{root / INFO} is not what LeRobot {VERSION} writes ({error!r}).") from error
    except DatasetError as error:
        raise DatasetError(f"{root / INFO}: {error}") from error
    if not SLOWEST_HZ <= rate_hz <= FASTEST_HZ:
        raise DatasetError(f"{root / INFO}: fps is {rate_hz}; expected {SLOWEST_HZ} to {FASTEST_HZ:g}.")
    if mark is not None and not isinstance(mark, dict):
        raise DatasetError(f"{root / INFO}: {MARK!r} is {mark!r}; expected an object.")
    return Meta(
        root=root,
        rate_hz=rate_hz,
        robot=plain_text(robot or "unknown", f"{root / INFO}: robot_type"),
        features=features,
        entries=_entries(root, features, *templates),
        tasks=_tasks(root),
        mark=mark,
    )


def _features(described: Mapping[str, Any]) -> dict[str, Feature]:
    if len(described) > MOST_FEATURES:
        raise DatasetError(f"{len(described)} features; at most {MOST_FEATURES} are read.")
    features = {}
    for name, one in described.items():
        plain_text(name, "the name of a feature")
        shape = tuple(int(size) for size in one["shape"])
        if any(size < 1 for size in shape) or math.prod(shape) > _WIDEST:
            raise DatasetError(f"feature {name!r} has shape {shape}, which is not read.")
        names = one.get("names")
        if isinstance(names, dict):
            # Datasets brought over from older versions group the names: {"motors": [...]}.
            names = [part for group in names.values() if isinstance(group, list) for part in group]
        fits = isinstance(names, list) and len(names) == math.prod(shape)
        features[name] = Feature(str(one["dtype"]), shape, tuple(map(str, names)) if fits and names else ())
    if ACTION not in features:
        raise DatasetError(f"there is no feature {ACTION!r}, without which nothing can be learned.")
    return features


def _entries(root: Path, features: Mapping[str, Feature], data: str, video: str) -> tuple[Entry, ...]:
    videos = [name for name, feature in features.items() if feature.dtype == "video"]
    columns = list(_FIXED)
    for name in videos:
        columns += [f"videos/{name}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
    folder = place(root, "meta/episodes", 0, 0)
    found: list[Entry] = []
    for path in sorted(folder.glob("*/*.parquet")):
        place(root, path.relative_to(root).as_posix(), 0, 0)
        with open_parquet(path) as file:
            if file.metadata.num_rows + len(found) > MOST_EPISODES:
                raise DatasetError(f"more than {MOST_EPISODES} episodes.")
            rows = Rows(file, columns).take(file.metadata.num_rows).to_pylist()
            found += [_entry(root, row, videos, data, video) for row in rows]
    if not found:
        raise DatasetError(f"{folder} holds no table of episodes.")
    found.sort(key=lambda entry: entry.index)
    for number, entry in enumerate(found):
        if entry.index != number:
            raise DatasetError(f"{folder}: episodes are not numbered from 0 on; {entry.index} stands at {number}.")
    return tuple(found)


def _entry(root: Path, row: Mapping[str, Any], videos: list[str], data: str, video: str) -> Entry:
    try:
        index, length, chunk, file, first, end = (_count(row[name]) for name in _FIXED)
        if length < 1 or end - first != length:
            raise DatasetError(f"episode {index} has length {length} and steps {first} to {end}.")
        places = {}
        for name in videos:
            part, number = _count(row[f"videos/{name}/chunk_index"]), _count(row[f"videos/{name}/file_index"])
            start_s = float(row[f"videos/{name}/from_timestamp"])
            if not 0 <= start_s < 1e8:
                raise DatasetError(f"episode {index} begins at {start_s} s of the video of {name!r}.")
            places[name] = (place(root, video, part, number, name), start_s)
        return Entry(index, length, first, place(root, data, chunk, file), places)
    except (ValueError, TypeError, OverflowError) as error:
        raise DatasetError(f"the table of episodes cannot be read ({error}).") from error


def _count(value: Any) -> int:
    number = int(value)
    if not 0 <= number < 1 << 48:
        raise DatasetError(f"the table of episodes says {number}; expected a count.")
    return number


def _tasks(root: Path) -> dict[int, str]:
    path = place(root, TASKS, 0, 0)
    with open_parquet(path) as file:
        if file.metadata.num_rows > MOST_EPISODES:
            raise DatasetError(f"{file.metadata.num_rows} tasks; at most {MOST_EPISODES} are read.")
        names = file.schema_arrow.names
        texts = [name for name in names if name in ("task", "__index_level_0__")]
        if "task_index" not in names or not texts:
            raise DatasetError(f"columns are {names}; expected task_index and the tasks' texts.")
        rows = Rows(file, ["task_index", texts[0]]).take(file.metadata.num_rows).to_pylist()
        return {int(row["task_index"]): plain_text(row[texts[0]], "a task") for row in rows}
