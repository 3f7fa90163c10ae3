"""What can be wrong with what was sensed and commanded, in one episode by itself: frozen readings, jumps, bounds,
columns that changed places, rows that are shifted.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.checking.check_config import CheckConfig
from understudy.datasets.checking.defects_in_time import Check
from understudy.datasets.checking.measures import (
    Measures,
    anything_moves,
    motion,
    observed_motion,
    repeats,
    was_not_measured,
    whole,
)
from understudy.datasets.checking.signals import lag_of, longest_run, runs, swapped_columns
from understudy.datasets.checking.verdicts import Finding
from understudy.datasets.episode import Episode
from understudy.datasets.schema import is_image

Vector = NDArray[np.float64]


def frozen_readings(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    """A moving arm's readings change, all of them and each joint's."""
    sent = motion(episode, episode.sent)
    moving = np.any(np.abs(sent) > 2 * config.still, axis=1)
    needed = max(3, round(config.frozen_s * episode.info.rate_hz))
    for key in ("joint_position", "joint_velocity", "tool_position"):
        if key not in episode.observations:
            continue
        same = np.all(np.diff(whole(episode, key), axis=0) == 0.0, axis=1)
        start, length = longest_run(same & moving)
        if length >= needed:
            text = f"{key} repeats its value for {length} ticks from step {start} while commands move"
            yield Finding("fail", "frozen", text)
    yield from _dead_joints(episode, config)


def _dead_joints(episode: Episode, config: CheckConfig) -> Iterator[Finding]:
    """A single joint whose reading never changes at all while its own command does (joint spaces only)."""
    spec = episode.info.action_spec
    if "joint_position" not in episode.observations or not spec.name.startswith("joint_"):
        return
    joints = whole(episode, "joint_position")
    sent = motion(episode, episode.sent)
    if joints.shape[1] != sent.shape[1]:
        return
    for index in range(joints.shape[1]):
        commanded = float(np.max(np.abs(sent[:, index]))) > 2 * config.still
        if len(episode) > 2 and commanded and np.all(joints[:, index] == joints[0, index]):
            text = f"joint {spec.labels[index]!r} is commanded and its reading never changes"
            yield Finding("fail", "frozen", text)


def frozen_cameras(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    """A camera that sees arm or gripper move shows new frames; one with noise shows new frames always."""
    moving = anything_moves(episode, config)[:-1]
    rate_hz = episode.info.rate_hz
    needed = max(3, round(config.frozen_s * rate_hz))
    for key, frames in episode.observations.items():
        if not is_image(key):
            continue
        if not np.any(frames):
            yield Finding("fail", "frozen", f"{key} is black throughout")
            continue
        same = repeats(frames)
        stretches = runs(same)
        # The longest may be a rest before the motion: the one that saw most motion counts.
        told = [(*_counted(same, moving, run), *run) for run in stretches]
        counted, noisy, start, length = max(told, key=lambda row: row[0], default=(0, False, 0, 0))
        # A slow camera shows every frame for some ticks; a frozen one shows one of them for much longer.
        seen = [row[0] for row in told if row[0] > 0]
        usual = float(np.median(seen)) if len(seen) > 2 else 0.0
        if counted + 1 >= needed and counted >= 3 * usual:
            doing = "though it never does otherwise" if noisy and counted == length else "while arm or gripper move"
            text = f"{key} shows one frame for {(length + 1) / rate_hz:.1f} s from step {start} on, {doing}"
            yield Finding("fail", "frozen", text)


def _counted(same: NDArray[np.bool_], moving: NDArray[np.bool_], run: tuple[int, int]) -> tuple[int, bool]:
    """Ticks of a run of one frame that speak against the camera, and whether it is one that never repeats itself."""
    within = slice(run[0], sum(run))
    noisy = _changes_at_rest(same, moving, within)
    return (run[1] if noisy else int(np.count_nonzero(moving[within]))), noisy


def _changes_at_rest(same: NDArray[np.bool_], moving: NDArray[np.bool_], run: slice) -> bool:
    """Whether frames differ although nothing moves, as a real camera's do, leaving out the run in question."""
    outside = ~moving
    outside[run] = False
    return bool(np.count_nonzero(outside) >= 5 and np.mean(same[outside]) < 0.1)


def bounds(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    """Actions lie within the bounds they were declared with: beyond them the training label is clipped."""
    spec = episode.info.action_spec
    low, high = np.asarray(spec.low), np.asarray(spec.high)
    ranges = high - low
    for name, values, most in (("sent", episode.sent, 0.0), ("requested", episode.requested, config.beyond_fail)):
        excess = np.maximum(low - values, values - high) / ranges
        rows = np.any(excess > config.beyond, axis=1)
        if not np.any(rows):
            continue
        row, column = np.unravel_index(int(np.argmax(excess)), excess.shape)
        label, unit = spec.labels[column], spec.units[column]
        text = (
            f"{name} action {label!r} is {values[row, column]:.4g} {unit} at step {row}, outside "
            f"[{low[column]:g}, {high[column]:g}]; beyond a bound at {np.mean(rows):.0%} of the ticks"
        )
        surely = float(np.mean(rows)) > most or float(np.max(excess)) > 0.5
        yield Finding("fail" if surely else "warn", "limits", text)
    if measures.at_bound > config.bound_warn:
        text = f"what was asked for lies at or beyond a bound at {measures.at_bound:.0%} of the ticks"
        yield Finding("warn", "limits", text)
    if measures.altered > config.altered_warn:
        text = f"what was sent differs from what was asked for at {measures.altered:.0%} of the ticks"
        yield Finding("warn", "altered", text)


def jumps(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    """Joints move no faster than joints can, nor than their own velocity reading says."""
    if "joint_position" not in episode.observations:
        return
    speed = np.diff(whole(episode, "joint_position"), axis=0) * episode.info.rate_hz
    if not speed.size:
        return
    if float(np.max(np.abs(speed))) > config.speed_fail_rad_s:
        row, joint = np.unravel_index(int(np.argmax(np.abs(speed))), speed.shape)
        text = f"joint {joint} jumps at step {row}: {abs(speed[row, joint]):.1f} rad/s between two ticks"
        yield Finding("fail", "jump", text)
        return
    told = _told_velocity(episode)
    if told is None or told.shape != speed.shape:
        return
    excess = np.abs(speed - told)
    row, joint = np.unravel_index(int(np.argmax(excess)), speed.shape)
    if excess[row, joint] > max(config.jump_rad_s, 8 * float(np.percentile(excess, 90))):
        step_deg, told_deg = np.rad2deg(np.array([speed[row, joint], told[row, joint]]) / episode.info.rate_hz)
        text = f"joint {joint} jumps by {step_deg:.1f} deg at step {row}, its velocity reading tells {told_deg:.1f} deg"
        yield Finding("fail", "jump", text)


def columns(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    """Joint readings, their velocities and the action channels name the same joints in the same order."""
    told = _told_velocity(episode)
    if told is not None:
        seen = np.diff(whole(episode, "joint_position"), axis=0) * episode.info.rate_hz
        if swap := swapped_columns(seen, told):
            text = (
                f"joints {swap.first} and {swap.second} have changed places between joint_position and "
                f"joint_velocity: they differ by {swap.straight:.0%} as they are, by {swap.exchanged:.0%} exchanged"
            )
            yield Finding("fail", "columns", text)
    observed = observed_motion(episode, episode.measured)
    if observed is not None and (swap := swapped_columns(*observed)):
        text = f"columns {swap.first} and {swap.second} of the measured action are each other's in the observations"
        yield Finding("fail", "columns", text)
    labels = [label for label in episode.info.action_spec.labels if label != "gripper"]
    if swap := swapped_columns(motion(episode, episode.sent), motion(episode, episode.measured)):
        text = f"{labels[swap.first]!r} and {labels[swap.second]!r} have changed places between sent and measured"
        yield Finding("fail", "columns", text)


def alignment(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    """Effects follow causes, and the measured channel is what the observations say."""
    for lag, what in (
        (measures.lag, "motion is measured {:.1f} ticks before it was sent"),
        (measures.asked_lag, "actions are sent {:.1f} ticks before they were requested"),
    ):
        if lag is not None and lag < -0.75:
            yield Finding("fail", "alignment", f"{what.format(-lag)}: rows are shifted")
    if measures.lag is not None and measures.lag >= config.lag_warn_ticks:
        yield Finding("warn", "alignment", f"motion follows what was sent {measures.lag:.0f} ticks late")
    observed = None if was_not_measured(episode) else observed_motion(episode, episode.measured)
    if observed is not None:
        scale = max(float(np.max(np.abs(observed[1]))), 1e-6)
        shift = lag_of(observed[0] / scale, observed[1] / scale, most=3)
        if shift is not None and abs(shift) > 0.5:
            text = f"the measured channel is {shift:+.0f} ticks off the observations' motion"
            yield Finding("fail", "alignment", text)
    yield from _offset(episode, config)


def _offset(episode: Episode, config: CheckConfig) -> Iterator[Finding]:
    """Joint readings agree with an action channel that tells joint positions (`joint_position` spaces only)."""
    spec = episode.info.action_spec
    if spec.name != "joint_position" or "joint_position" not in episode.observations or was_not_measured(episode):
        return
    index = [i for i, label in enumerate(spec.labels) if label != "gripper"]
    after = whole(episode, "joint_position")[1:]
    if after.shape[1:] != (len(index),):
        return
    off_deg = np.rad2deg(np.median(after - episode.measured[:, index], axis=0))
    worst = int(np.argmax(np.abs(off_deg)))
    if abs(off_deg[worst]) > config.offset_fail_deg:
        text = f"joint {spec.labels[index[worst]]!r} reads {off_deg[worst]:+.1f} deg off its measured action"
        yield Finding("fail", "offset", text)


def _told_velocity(episode: Episode) -> Vector | None:
    """(N, J) rad/s between ticks as the velocity readings tell it; None where positions or velocities are missing."""
    if not {"joint_position", "joint_velocity"} <= set(episode.observations):
        return None
    velocity = whole(episode, "joint_velocity")
    if velocity.ndim != 2 or velocity.shape != whole(episode, "joint_position").shape:
        return None
    return np.asarray(0.5 * (velocity[:-1] + velocity[1:]))


MOTION_CHECKS: tuple[Check, ...] = (frozen_readings, frozen_cameras, bounds, jumps, columns, alignment)
