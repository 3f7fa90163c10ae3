"""The numbers of one episode that verdicts, tables and pictures are made of; kept when the episode is let go.

An episode becomes a few hundred numbers here, so that a dataset of any size is checked in one pass with one episode in
memory. What the numbers mean is decided elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.checking.check_config import CheckConfig
from understudy.datasets.checking.grip import grip_angle
from understudy.datasets.checking.signals import lag_of, longest_run, lowest_share, rotation_matrices, slowest_rate
from understudy.datasets.episode import Episode
from understudy.datasets.schema import is_image

Vector = NDArray[np.float64]

WINDOW = 20
"""A rate is told over a second, and over no fewer samples than this."""
PRINTS = 16
"""Rows of an episode that its fingerprint holds."""


SKETCH = 64
"""Hashes of rows that are kept of an episode."""


@dataclass(frozen=True)
class Source:
    """How often something new came from one source."""

    usual: float
    """Over the whole episode: Hz of a stream, new samples a tick of an observation."""
    slowest: float
    """In its slowest stretch."""
    start: int
    """Sample or step with which that begins."""
    unit: str
    """"Hz" or "a tick"."""


@dataclass(frozen=True)
class Kinematic:
    """Rows of an episode that tell how joints and tool pose belong together."""

    joints: Vector
    """(K, J) rad"""
    tool: Vector
    """(K, 3) m, or (K, 12) with the nine numbers of the rotation matrix."""


@dataclass(frozen=True)
class Measures:
    """The numbers of one episode that the comparison with the rest, the table and the picture need."""

    steps: int
    duration_s: float
    success: bool | None
    return_: float
    period_s: float
    slowest_hz: float
    """Tick rate in its slowest second."""
    jitter: float
    worst_age_s: float
    idle: float
    pause_s: float
    """Longest stretch in which nothing was asked for and nothing moved."""
    pause_step: int
    """Where that begins."""
    at_bound: float
    altered: float
    lag: float | None
    """Ticks by which motion is measured after it was sent, to a fraction; None where it cannot be told."""
    asked_lag: float | None
    """Ticks by which what was sent follows what was requested; None where it cannot be told."""
    jerk: float
    """Root mean square of the joints' jerk, rad/s^3; 0 where there are no joints."""
    path: float
    """Length of the measured motion, in ranges of its action."""
    start: tuple[float, ...]
    """The first observation's joints (rad), then goals and objects (m)."""
    start_names: tuple[str, ...]
    """What each number of `start` is."""
    reach_m: float | None
    """How near the tool came to any object or goal; None where that is not recorded."""
    grip_rad: float | None
    """How what it carried lay in the grip, see `grip_angle`; None where nothing was, or orientations are missing."""
    joint_low: tuple[float, ...]
    joint_high: tuple[float, ...]
    drawn_delay: float
    """Delay of the arm that was drawn for it with its physics, ticks."""
    sources: Mapping[str, Source]
    """Observation key or stream -> how often it brought something new."""
    action_print: Vector
    """(P,) a few rows of what was requested, in ranges; equal for equal actions."""
    motion_print: Vector
    """(P,) a few rows of the low-dimensional observations; equal for equal observations."""
    rows: NDArray[np.uint64]
    """(R,) sorted hashes of rows of the low-dimensional observations: the `SKETCH` smallest of all different ones, so
    that two episodes that share rows share hashes wherever these rows stand."""
    kinematic: Kinematic | None
    """None where joints or tool pose are not recorded."""
    layout: str
    """Robot, task, action spec, rate and observation shapes as one text: equal within a dataset."""

    @property
    def lag_ticks(self) -> int | None:
        """`lag` in whole ticks."""
        return None if self.lag is None else round(self.lag)


def measure(episode: Episode, config: CheckConfig, rows: int = 32) -> Measures:
    """All the numbers of one episode; `rows` of it are kept for the comparison of joints and tool pose."""
    periods_s = periods(episode)
    declared_s = 1.0 / episode.info.rate_hz
    joints = whole(episode, "joint_position") if "joint_position" in episode.observations else np.zeros((2, 0))
    asked, sent, moved = (motion(episode, channel) for channel in (episode.requested, episode.sent, episode.measured))
    still = _still(episode, asked, moved, config)
    pause_step, pause = longest_run(still)
    names, start = _start(episode)
    return Measures(
        steps=len(episode),
        duration_s=duration_s(episode),
        success=episode.info.success,
        return_=episode.return_,
        period_s=float(np.median(periods_s)) if len(periods_s) else declared_s,
        slowest_hz=slowest_rate(periods_s, window(episode))[0] if len(periods_s) else episode.info.rate_hz,
        jitter=_percentile(np.abs(periods_s - declared_s) / declared_s, 95),
        worst_age_s=max((float(np.max(ages)) for ages in episode.ages_s.values()), default=0.0),
        idle=float(np.mean(still)),
        pause_s=pause * declared_s,
        pause_step=pause_step,
        at_bound=float(np.mean(_at_bound(episode))),
        altered=float(np.mean(np.any(np.abs(asked - sent) > 0.2, axis=1))),
        lag=_lag(episode, sent, moved),
        asked_lag=lag_of(asked, sent),
        jerk=_jerk(joints, declared_s),
        path=float(np.sum(np.linalg.norm(moved, axis=1))),
        start=start,
        start_names=names,
        reach_m=_reach(episode),
        grip_rad=_grip(episode),
        joint_low=tuple(np.min(joints, axis=0).tolist()),
        joint_high=tuple(np.max(joints, axis=0).tolist()),
        drawn_delay=episode.info.randomization.get("action_delay_s", 0.0) * episode.info.rate_hz,
        sources=_sources(episode, moved, config),
        action_print=_print_of(asked),
        motion_print=_print_of(_numbers(episode)),
        rows=_row_hashes(_numbers(episode)),
        kinematic=_kinematic(episode, rows),
        layout=_layout(episode),
    )


def duration_s(episode: Episode) -> float:
    """How long it took, s: from its first tick to the end of its last."""
    return float(episode.tick_ns[-1] - episode.tick_ns[0]) * 1e-9 + 1.0 / episode.info.rate_hz


def motion(episode: Episode, channel: NDArray[np.floating]) -> Vector:
    """What a channel (N, A) moves, each number divided by its largest step: (N, M), the gripper left out.

    Positions are turned into steps; the first is zero.
    """
    spec = episode.info.action_spec
    index = [i for i, label in enumerate(spec.labels) if label != "gripper"]
    scale = np.maximum(np.abs(spec.low), np.abs(spec.high))[index]
    values = np.asarray(channel, np.float64)[:, index]
    if spec.name == "joint_position":
        # a step of a tenth of a radian is as large as those of joint_delta
        return np.diff(values, axis=0, prepend=values[:1]) / 0.1
    return np.asarray(values / scale)


def grip_motion(episode: Episode, channel: NDArray[np.floating]) -> Vector:
    """(N, G) by how much of its range the gripper's number of a channel changed since the tick before; G is 0 or 1."""
    spec = episode.info.action_spec
    index = [i for i, label in enumerate(spec.labels) if label == "gripper"]
    width = np.subtract(spec.high, spec.low)[index]
    values = np.asarray(channel, np.float64)[:, index]
    return np.asarray(np.diff(values, axis=0, prepend=values[:1]) / width)


def anything_moves(episode: Episode, config: CheckConfig) -> NDArray[np.bool_]:
    """(N,) whether the arm was measured to move, or the gripper sent or measured to move.

    What is sent to the arm does not count: pressed against something it may stand still for long, and a rendered
    camera then rightly shows one frame.
    """
    grips = [grip_motion(episode, channel) for channel in (episode.sent, episode.measured)]
    parts = [np.abs(motion(episode, episode.measured)) > 2 * config.still, *(np.abs(g) > config.still for g in grips)]
    return np.asarray(np.any(np.hstack(parts), axis=1))


def was_not_measured(episode: Episode) -> bool:
    """Whether the measured channel only repeats what was requested, as in imports from tools that have one channel."""
    same = np.array_equal(episode.measured, episode.sent) and np.array_equal(episode.sent, episode.requested)
    return bool(same)


def observed_motion(episode: Episode, channel: NDArray[np.floating]) -> tuple[Vector, Vector] | None:
    """(an action channel, what the observations moved): (K, D) each, in units of the action. None if not comparable."""
    spec = episode.info.action_spec
    if spec.name == "tool_delta" and "tool_position" in episode.observations:
        axes = [label for label in ("x", "y", "z") if label in spec.labels]
        seen = np.diff(whole(episode, "tool_position"), axis=0)[:, ["xyz".index(axis) for axis in axes]]
        told = channel[:, [spec.labels.index(axis) for axis in axes]]
    elif spec.name.startswith("joint_") and "joint_position" in episode.observations:
        seen = np.diff(whole(episode, "joint_position"), axis=0)
        told = channel[:, [i for i, label in enumerate(spec.labels) if label != "gripper"]]
        if spec.name == "joint_velocity":
            seen = seen * episode.info.rate_hz
        elif spec.name == "joint_position":
            told, seen = np.diff(told, axis=0), seen[1:]
    else:
        return None
    return (np.asarray(told, np.float64), seen) if told.shape == seen.shape and told.size else None


def _lag(episode: Episode, sent: Vector, moved: Vector) -> float | None:
    """Ticks by which motion follows what was sent; where motion was not measured, the observations tell it."""
    if not was_not_measured(episode):
        return lag_of(sent, moved)
    observed = observed_motion(episode, episode.sent)
    if observed is None:
        return None
    scale = max(float(np.max(np.abs(observed[1]))), 1e-6)
    return lag_of(observed[0] / scale, observed[1] / scale)


def periods(episode: Episode) -> Vector:
    """(N - 1,) seconds between ticks."""
    return np.diff(episode.tick_ns).astype(np.float64) * 1e-9


def window(episode: Episode) -> int:
    """Ticks over which a rate is told."""
    return max(WINDOW, round(episode.info.rate_hz))


def whole(episode: Episode, key: str) -> Vector:
    """An observation with its final row: (N + 1, ...)."""
    return np.concatenate([episode.observations[key], episode.final_observation[key][None]]).astype(np.float64)


def sample_stamps(episode: Episode, key: str) -> Vector:
    """(N,) when the sample of an observation was taken, s after the first tick, as its age tells."""
    ticks_s = (episode.tick_ns - episode.tick_ns[0]).astype(np.float64) * 1e-9
    return np.asarray(ticks_s - np.asarray(episode.ages_s[key], np.float64))


def repeats(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(N - 1,) whether each frame is the one before it, to the last bit."""
    return np.array([np.array_equal(frames[k], frames[k + 1]) for k in range(len(frames) - 1)], bool)


def _still(episode: Episode, asked: Vector, moved: Vector, config: CheckConfig) -> NDArray[np.bool_]:
    """(N,) whether nothing was asked for and nothing moved, the gripper included."""
    grips = (grip_motion(episode, channel) for channel in (episode.requested, episode.measured))
    return np.asarray(np.all(np.abs(np.hstack([asked, moved, *grips])) < config.still, axis=1))


def _sources(episode: Episode, moved: Vector, config: CheckConfig) -> dict[str, Source]:
    """How often every observation and stream brought something new.

    Ages say when a sample was taken; cameras are also believed by their frames, while the arm moves.
    """
    found: dict[str, Source] = {}
    for key in episode.ages_s:
        fresh = np.diff(sample_stamps(episode, key)) > 0.05 / episode.info.rate_hz
        found[key] = _of_flags(fresh, window(episode))
    moving = np.any(np.abs(moved) > 2 * config.still, axis=1)[:-1]
    for key, frames in episode.observations.items():
        if is_image(key) and np.count_nonzero(moving) >= WINDOW:
            shown = _of_flags(~repeats(frames)[moving], window(episode))
            place = int(np.flatnonzero(moving)[shown.start])
            found[f"frames of {key}"] = Source(shown.usual, shown.slowest, place, shown.unit)
    for name, stream in episode.streams.items():
        gaps_s = np.diff(stream.stamps_ns).astype(np.float64) * 1e-9
        if len(gaps_s) >= WINDOW and np.all(gaps_s >= 0) and float(np.sum(gaps_s)) > 0:
            usual = len(gaps_s) / float(np.sum(gaps_s))
            slowest, start = slowest_rate(gaps_s, max(WINDOW, round(usual)))
            found[f"stream {name}"] = Source(usual, slowest, start, "Hz")
    return found


def _of_flags(fresh: NDArray[np.bool_], size: int) -> Source:
    slowest, start = lowest_share(fresh, size)
    return Source(float(np.mean(fresh)) if len(fresh) else 0.0, slowest, start, "a tick")


def _at_bound(episode: Episode) -> NDArray[np.bool_]:
    """(N,) whether any number but the gripper's lies at or beyond its bound."""
    spec = episode.info.action_spec
    index = [i for i, label in enumerate(spec.labels) if label != "gripper"]
    low, high = np.asarray(spec.low)[index], np.asarray(spec.high)[index]
    asked = episode.requested[:, index]
    slack = 1e-6 * (high - low)
    return np.asarray(np.any((asked <= low + slack) | (asked >= high - slack), axis=1))


def _jerk(joints: Vector, period_s: float) -> float:
    if len(joints) < 4 or joints.shape[1] == 0:
        return 0.0
    return float(np.sqrt(np.mean((np.diff(joints, n=3, axis=0) / period_s**3) ** 2)))


def _placed(episode: Episode) -> list[str]:
    """Keys of what lies or is aimed at in the scene."""
    return sorted(k for k in episode.observations if k.startswith(("goal_", "object_")) and k.endswith("_position"))


def _start(episode: Episode) -> tuple[tuple[str, ...], tuple[float, ...]]:
    names, numbers = [], []
    for key in (*(key for key in ("joint_position",) if key in episode.observations), *_placed(episode)):
        row = np.ravel(episode.observations[key][0])
        labels = "xyz" if len(row) == 3 and key != "joint_position" else range(len(row))
        names += [f"{key} {label}" for label in labels]
        numbers += [float(number) for number in row]
    return tuple(names), tuple(numbers)


def _reach(episode: Episode) -> float | None:
    if "tool_position" not in episode.observations:
        return None
    tool = whole(episode, "tool_position")
    near = [
        float(np.min(np.linalg.norm(tool - whole(episode, key), axis=1)))
        for key in _placed(episode)
        if episode.observations[key].shape[1:] == (3,)
    ]
    return min(near, default=None)


def _grip(episode: Episode) -> float | None:
    for place in _placed(episode):
        keys = ("tool_position", "tool_quaternion", place, place.replace("_position", "_quaternion"))
        seen = [whole(episode, key) for key in keys if key in episode.observations]
        if [values.shape[1:] for values in seen] == [(3,), (4,), (3,), (4,)]:
            angle = grip_angle(*seen)
            if angle is not None:
                return angle
    return None


def _numbers(episode: Episode) -> Vector:
    """(N, D) every observation but the cameras', side by side."""
    parts = [np.reshape(v, (len(episode), -1)) for k, v in sorted(episode.observations.items()) if not is_image(k)]
    return np.hstack(parts).astype(np.float64) if parts else np.zeros((len(episode), 0))


def _print_of(values: Vector) -> Vector:
    rows = np.linspace(0, len(values) - 1, PRINTS).round().astype(int)
    return np.asarray(values[rows].ravel())


def _row_hashes(values: Vector) -> NDArray[np.uint64]:
    if not values.shape[1]:
        return np.zeros(0, np.uint64)
    # As they are stored at most exactly everywhere: a copy may have been through another width.
    lines = np.ascontiguousarray(values, np.float32)
    hashes = {hashlib.blake2b(line.tobytes(), digest_size=8).digest() for line in lines}
    return np.sort(np.frombuffer(b"".join(hashes), np.uint64))[:SKETCH]


def _kinematic(episode: Episode, rows: int) -> Kinematic | None:
    if not {"joint_position", "tool_position"} <= set(episode.observations):
        return None
    joints, tool = episode.observations["joint_position"], episode.observations["tool_position"]
    if joints.ndim != 2 or tool.shape[1:] != (3,):
        return None
    chosen = np.unique(np.linspace(0, len(episode) - 1, rows).round().astype(int))
    parts = [np.asarray(tool[chosen], np.float64)]
    quaternion = episode.observations.get("tool_quaternion")
    if quaternion is not None and quaternion.shape[1:] == (4,):
        parts.append(rotation_matrices(np.asarray(quaternion[chosen], np.float64)).reshape(-1, 9))
    return Kinematic(np.asarray(joints[chosen], np.float64), np.hstack(parts))


def _layout(episode: Episode) -> str:
    info = episode.info
    shapes = {key: np.shape(value) for key, value in sorted(episode.final_observation.items())}
    return f"robot {info.robot}, task {info.task}, {info.rate_hz:g} Hz, {info.actions} {info.action_spec}, {shapes}"


def _percentile(values: Vector, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else 0.0
