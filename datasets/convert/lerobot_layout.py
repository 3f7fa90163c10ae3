"""Names and places in a LeRobot dataset v3.0, and the file that we lay beside it.

Owns the words: features, paths, and the table of extras under `understudy/`, which LeRobot never opens and which holds
what its rows cannot: metadata, last observations, ages, simulator states, streams at their native rate.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.convert.incoming import require_rate
from understudy.datasets.convert.video import Codec
from understudy.datasets.episode import Episode, Stream
from understudy.datasets.schema import OTHER, is_image
from understudy.errors import DatasetError, InputError

VERSION = "v3.0"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EXTRAS = "understudy/episodes.parquet"
MARK = "understudy"
"""Key in info.json that says we wrote the dataset, and how `observation.state` is put together."""

FILES_A_CHUNK = 1000
DATA_FILE_MB, VIDEO_FILE_MB = 100, 200
STATE, ACTION, IMAGES, OBSERVATION = "observation.state", "action", "observation.images.", "observation."
REWARD, DONE, SUCCESS = "next.reward", "next.done", "next.success"
COUNTERS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
OWN = "understudy."
"""Prefix of features that only we know. Not `action` or `observation`: policies would take them for theirs."""
TICKS = f"{OWN}tick_ns"

_PLACE = re.compile(r"\{(chunk_index|file_index|video_key)(?::0([1-9])d)?\}")


@dataclass(frozen=True)
class LeRobotExport:
    """How a dataset becomes a LeRobot one."""

    images: Literal["video", "frames"] = "video"
    """video: MP4, small and lossy, what LeRobot makes itself. frames: PNG in the tables, without loss."""
    codec: Codec = "h264"
    """Of videos: h264 opens everywhere, av1 is what LeRobot makes itself."""
    quality: int = 18
    """Of videos: constant rate factor from 0 to 50, lower is better and larger."""
    instruction: str = ""
    """The task in words, for policies that read; the task's name if empty."""

    def __post_init__(self) -> None:
        if self.images not in ("video", "frames"):
            raise InputError(f"images is {self.images!r}; expected 'video' or 'frames'.")
        if self.codec not in ("h264", "av1"):
            raise InputError(f"codec is {self.codec!r}; expected 'h264' or 'av1'.")
        if not 0 <= self.quality <= 50:
            raise InputError(f"quality is {self.quality}; expected 0 (best) to 50.")


@dataclass(frozen=True)
class LeRobotImport:
    """How a LeRobot dataset becomes ours."""

    robot: str = ""
    """Name of the robot; empty: the dataset's own."""
    task: str = ""
    """Name of the task; empty: the dataset's own words."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Feature -> our observation key, where you know meaning and unit: observation.state:joint_position."""
    max_episode_bytes: int = 8 << 30
    """Largest episode that is taken into memory."""

    def __post_init__(self) -> None:
        require_rate(None, self.keys)
        if self.max_episode_bytes < 1:
            raise InputError(f"max_episode_bytes is {self.max_episode_bytes}; expected a positive number.")


def state_keys(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Which observations make `observation.state`: the arm's own position, else what was imported, else all numbers."""
    vectors = [key for key in sorted(shapes) if not is_image(key) and np.prod(shapes[key]) > 0]
    arm = [key for key in ("joint_position", "gripper_position") if key in vectors]
    return tuple(arm or [key for key in vectors if key.startswith(OTHER)] or vectors)


def place(root: Path, template: str, chunk: int, file: int, video_key: str = "") -> Path:
    """The file that a path template of info.json means.

    Raises:
        DatasetError: the template says anything but plain names below the dataset, or the file is a link.
    """
    values: dict[str, Any] = {"chunk_index": chunk, "file_index": file, "video_key": video_key}

    def fill(match: re.Match[str]) -> str:
        value = values[match[1]]
        return f"{value:0{match[2]}d}" if match[2] and isinstance(value, int) else str(value)

    filled = _PLACE.sub(fill, template)
    parts = filled.split("/")
    if any(character in filled for character in "{}\\\0") or any(part in ("", ".", "..") for part in parts):
        raise DatasetError(
            f"{root / INFO}: the path template {template!r} leads to {filled!r}; expected names below the dataset with "
            "{chunk_index}, {file_index} and {video_key}, as LeRobot v3.0 has them."
        )
    path = root
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise DatasetError(f"{path} is a link; expected the file itself, so copy the dataset with its contents.")
    return path


def extras_of(episode: Episode) -> dict[str, NDArray[Any]]:
    """Name -> array of everything in an episode that LeRobot's rows have no place for."""
    arrays = {f"final/{key}": np.asarray(value) for key, value in episode.final_observation.items()}
    arrays |= {f"age/{key}": np.asarray(ages) for key, ages in episode.ages_s.items()}
    arrays["states"] = np.asarray(episode.states)
    if episode.intervention.size:
        arrays["intervention"] = np.asarray(episode.intervention)
    for name, stream in episode.streams.items():
        arrays[f"stream_stamps/{name}"] = np.asarray(stream.stamps_ns)
        arrays[f"stream_values/{name}"] = np.asarray(stream.values)
    return arrays


def streams_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Stream]:
    """The streams among the arrays of `extras_of`.

    Raises:
        DatasetError: stamps without values, or the other way round.
    """
    streams = {}
    for full, stamps in arrays.items():
        kind, _, name = full.partition("/")
        if kind == "stream_stamps":
            if f"stream_values/{name}" not in arrays:
                raise DatasetError(f"stream {name!r} has stamps and no values.")
            streams[name] = Stream(np.asarray(stamps, np.int64), arrays[f"stream_values/{name}"])
    return streams


def hub_features(features: Mapping[str, Mapping[str, Any]]) -> bytes:
    """What Hugging Face's `datasets` looks for in a table, so that it knows frames from bytes."""
    described: dict[str, Any] = {}
    for name, feature in features.items():
        value = {"dtype": feature["dtype"], "_type": "Value"}
        if feature["dtype"] == "image":
            described[name] = {"_type": "Image"}
        elif feature["shape"] == [1]:
            described[name] = value
        elif feature["dtype"] != "video":
            described[name] = {"feature": value, "length": feature["shape"][0], "_type": "Sequence"}
    return json.dumps({"info": {"features": described}}).encode()
