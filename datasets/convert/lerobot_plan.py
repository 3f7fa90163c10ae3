"""What of an episode becomes which LeRobot feature, and what is lost on the way.

Owns the choice of features, their columns and statistics, and the sentences about losses. It touches no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.convert import lerobot_statistics as statistics
from understudy.datasets.convert.lerobot_layout import (
    ACTION,
    COUNTERS,
    DONE,
    EXTRAS,
    IMAGES,
    OBSERVATION,
    OWN,
    REWARD,
    STATE,
    SUCCESS,
    TICKS,
    LeRobotExport,
    state_keys,
)
from understudy.datasets.convert.outgoing import Layout, one_layout
from understudy.datasets.episode import Episode
from understudy.datasets.schema import CHANNELS, key_unit
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError

Array = NDArray[Any]


@dataclass(frozen=True)
class Plan:
    """What every episode of the export has in common."""

    layout: Layout
    rate_hz: float
    state: tuple[str, ...]
    others: tuple[str, ...]
    features: Mapping[str, Mapping[str, Any]]
    """In the order of the tables' columns."""
    config: LeRobotExport

    @property
    def videos(self) -> tuple[str, ...]:
        """Keys of cameras whose frames go into videos."""
        return self.layout.cameras if self.config.images == "video" else ()


def plan_of(dataset: Dataset, ids: Sequence[str], config: LeRobotExport) -> Plan:
    """See what the episodes have in common.

    Raises:
        DatasetError: there are none, or they differ in what they hold.
    """
    layout = one_layout(dataset, ids, "LeRobot")
    rates = {dataset.summary(id).info.rate_hz for id in ids}
    if len(rates) > 1:
        raise DatasetError(
            f"{dataset.path}: episodes have rates of {sorted(rates)} Hz, and LeRobot wants one; export them one by one."
        )
    shapes = {key: shape for key, (_, shape) in layout.keys.items()}
    state = state_keys(shapes)
    numbers = [key for key in sorted(shapes) if key not in layout.cameras and np.prod(shapes[key]) > 0]
    others = tuple(key for key in numbers if key not in state)
    return Plan(layout, rates.pop(), state, others, _features(layout, state, others, config), config)


def _features(
    layout: Layout, state: tuple[str, ...], others: tuple[str, ...], config: LeRobotExport
) -> dict[str, dict[str, Any]]:
    spec = layout.spec
    features: dict[str, dict[str, Any]] = {}
    names = [name for key in state for name in _names(key, layout.keys[key][1])]
    if state:
        units = [unit for key in state for unit in [key_unit(key)] * _width(layout.keys[key][1])]
        features[STATE] = _feature("float32", len(names), names, units)
    for key in others:
        dtype, shape = layout.keys[key]
        width = _width(shape)
        features[OBSERVATION + key] = _feature(np.dtype(dtype).name, width, _names(key, shape), [key_unit(key)] * width)
    for key in layout.cameras:
        features[IMAGES + key.removeprefix("image_")] = {
            "dtype": "video" if config.images == "video" else "image",
            "shape": list(layout.keys[key][1]),
            "names": ["height", "width", "channels"],
        }
    features[ACTION] = _feature("float32", spec.size, list(spec.labels), list(spec.units))
    features[REWARD] = _feature("float32", 1, None)
    features[DONE], features[SUCCESS] = _feature("bool", 1, None), _feature("bool", 1, None)
    for channel in CHANNELS:
        features[OWN + channel] = _feature("float64", spec.size, list(spec.labels), list(spec.units))
    features[TICKS] = _feature("int64", 1, None, ["ns"])
    for counter in COUNTERS:
        features[counter] = _feature("float32" if counter == "timestamp" else "int64", 1, None)
    return features


def _feature(dtype: str, width: int, names: list[str] | None, units: list[str] | None = None) -> dict[str, Any]:
    feature: dict[str, Any] = {"dtype": dtype, "shape": [width], "names": names}
    return feature if units is None else feature | {"units": units}


def _width(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _names(key: str, shape: tuple[int, ...]) -> list[str]:
    width = _width(shape)
    return [key] if width == 1 else [f"{key}_{number}" for number in range(width)]


def columns_of(episode: Episode, plan: Plan, index: int, first: int) -> dict[str, Array]:
    """Feature -> (N, width) of everything but frames."""
    steps = len(episode)
    seen = {key: np.asarray(episode.observations[key]).reshape(steps, -1) for key in (*plan.state, *plan.others)}
    columns: dict[str, Array] = {}
    if plan.state:
        columns[STATE] = np.concatenate([seen[key] for key in plan.state], axis=1)
    columns |= {OBSERVATION + key: seen[key] for key in plan.others}
    columns[ACTION] = episode.channel(episode.info.actions)
    columns[REWARD] = episode.rewards
    last = np.arange(steps) == steps - 1
    columns[DONE] = last
    columns[SUCCESS] = last & bool(episode.info.success)
    columns |= {OWN + channel: episode.channel(channel) for channel in CHANNELS}
    columns[TICKS] = episode.tick_ns
    columns["frame_index"] = np.arange(steps)
    columns["timestamp"] = columns["frame_index"] / plan.rate_hz
    columns["episode_index"] = np.full(steps, index)
    columns["index"] = first + columns["frame_index"]
    columns["task_index"] = np.zeros(steps)
    return {
        name: np.asarray(columns[name], plan.features[name]["dtype"]).reshape(steps, -1)
        for name in plan.features
        if name in columns
    }


def statistics_of(episode: Episode, plan: Plan, columns: Mapping[str, Array]) -> dict[str, statistics.Statistics]:
    """Feature -> statistics of one episode; `columns` is what `columns_of` gave."""
    sets = {name: statistics.of_numbers(values) for name, values in columns.items()}
    for key in plan.layout.cameras:
        sets[IMAGES + key.removeprefix("image_")] = statistics.of_frames(episode.observations[key])
    return sets


def losses_of(dataset: Dataset, ids: Sequence[str], plan: Plan) -> tuple[str, ...]:
    """A sentence for each thing that LeRobot's readers do not get as it was."""
    losses = [
        "LeRobot's timestamps are frame_index / fps, by its rule; the true ones are in the feature understudy.tick_ns.",
        "Its rows have no place for the last observation, ages, simulator states, streams at their native rate and an "
        f"episode's metadata: they are in {EXTRAS}, which Understudy reads back and LeRobot does not open.",
        "`action` is the channel that trains, in units and as float32; understudy.requested, understudy.sent and "
        "understudy.measured hold all three in full.",
    ]
    if plan.videos:
        size = f"{plan.config.codec}, quality {plan.config.quality}"
        losses.append(f"Camera frames became lossy video ({size}); choose --images frames to keep them exactly.")
    infos = [dataset.summary(id).info for id in ids]
    if any(info.success is None for info in infos):
        losses.append("Episodes that nobody has judged have next.success false, like failed ones.")
    if rounded := [key for key in plan.state if np.dtype(plan.layout.keys[key][0]) != np.float32]:
        losses.append(f"{', '.join(rounded)} became float32 in observation.state.")
    if flat := [key for key in (*plan.state, *plan.others) if len(plan.layout.keys[key][1]) > 1]:
        losses.append(f"{', '.join(flat)} became flat vectors.")
    if plan.rate_hz != int(plan.rate_hz):
        losses.append(f"fps is {plan.rate_hz}; some of LeRobot's tools expect a whole number.")
    if dataset.splits():
        losses.append("Splits are not written: LeRobot's are ranges of episode numbers.")
    return tuple(losses)
