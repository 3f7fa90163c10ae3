"""Defects to plant in an otherwise sound episode, each as it comes about on real machines; none knows who looks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from understudy.datasets.episode import Episode

Spoil = Callable[[Episode], Episode]


def whole(e: Episode, key: str) -> np.ndarray:
    """An observation with its final row."""
    return np.concatenate([e.observations[key], np.asarray(e.final_observation[key])[None]])


def with_whole(e: Episode, **values: np.ndarray) -> Episode:
    """The episode with other observations (N + 1 rows each)."""
    rows = {key: array.astype(whole(e, key).dtype) for key, array in values.items()}
    return dataclasses.replace(
        e,
        observations={**e.observations, **{key: array[:-1] for key, array in rows.items()}},
        final_observation={**e.final_observation, **{key: array[-1] for key, array in rows.items()}},
    )


def taken(e: Episode, rows: np.ndarray, tick_ns: np.ndarray | None = None) -> Episode:
    """The episode with these of its rows, in this order, their stamps as they were or as given."""
    return dataclasses.replace(
        e,
        observations={key: values[rows] for key, values in e.observations.items()},
        requested=e.requested[rows],
        sent=e.sent[rows],
        measured=e.measured[rows],
        rewards=e.rewards[rows],
        tick_ns=e.tick_ns[rows] if tick_ns is None else tick_ns,
        ages_s={key: ages[rows] for key, ages in e.ages_s.items()},
        states=e.states[rows] if e.states.size else e.states,
        intervention=e.intervention[rows] if e.intervention.size else e.intervention,
    )


def frozen_camera(e: Episode, seconds: float = 0.5, start: int = 12) -> Episode:
    frames = e.observations["image_front"].copy()
    count = round(seconds * e.info.rate_hz)
    frames[start : start + count] = frames[start]
    return dataclasses.replace(e, observations={**e.observations, "image_front": frames})


def slower_ticks(e: Episode, share: float = 0.7, first: float = 0.0, last: float = 1.0) -> Episode:
    """The stamps of a part of the episode come at a share of the rate."""
    periods = np.diff(e.tick_ns).astype(np.float64)
    part = slice(round(first * len(periods)), round(last * len(periods)))
    periods[part] /= share
    ticks = e.tick_ns[0] + np.concatenate([[0], np.cumsum(periods)]).astype(np.int64)
    return dataclasses.replace(e, tick_ns=ticks)


def lost_rows(e: Episode, share: float = 0.3) -> Episode:
    """Ticks were skipped at random."""
    keep = np.random.default_rng(3).uniform(size=len(e)) >= share
    keep[[0, -1]] = True
    return taken(e, np.flatnonzero(keep))


def slower_camera(e: Episode, share: float = 0.7) -> Episode:
    """The camera brings a new frame in a share of the ticks only; its age tells nothing."""
    rows = np.floor(np.floor(np.arange(len(e)) * share) / share + 1e-9).astype(int)
    return dataclasses.replace(e, observations={**e.observations, "image_front": e.observations["image_front"][rows]})


def older_samples(e: Episode, key: str, share: float = 0.7) -> Episode:
    """A source brings a new sample in a share of the ticks only, and its ages tell so."""
    rows = np.floor(np.floor(np.arange(len(e)) * share) / share + 1e-9).astype(int)
    ages = e.ages_s[key][rows] + (e.tick_ns - e.tick_ns[rows]) * 1e-9
    return dataclasses.replace(
        e,
        observations={**e.observations, key: e.observations[key][rows]},
        ages_s={**e.ages_s, key: ages.astype(np.float32)},
    )


def slower_stream(e: Episode, name: str, share: float = 0.7, first: float = 0.0) -> Episode:
    """A stream lost a share of its samples from a point on."""
    stream = e.streams[name]
    index = np.arange(len(stream.stamps_ns))
    keep = (index < first * len(index)) | (np.floor(index * share) != np.floor((index - 1) * share))
    fewer = dataclasses.replace(stream, stamps_ns=stream.stamps_ns[keep], values=stream.values[keep])
    return dataclasses.replace(e, streams={**e.streams, name: fewer})


def stream_clock_reset(e: Episode, name: str, seconds: float = 30.0) -> Episode:
    stream = e.streams[name]
    stamps = stream.stamps_ns.copy()
    stamps[len(stamps) // 2 :] -= round(seconds * 1e9)
    return dataclasses.replace(e, streams={**e.streams, name: dataclasses.replace(stream, stamps_ns=stamps)})


def joint_offset(e: Episode, joint: int = 1, degrees: float = 10.0) -> Episode:
    joints = whole(e, "joint_position").copy()
    joints[:, joint] += np.deg2rad(degrees)
    return with_whole(e, joint_position=joints)


def joint_jump(e: Episode, joint: int = 1, degrees: float = 10.0, row: int = 20) -> Episode:
    joints = whole(e, "joint_position").copy()
    joints[row:, joint] += np.deg2rad(degrees)
    return with_whole(e, joint_position=joints)


def idle_stretch(e: Episode, seconds: float = 2.5, row: int = 15) -> Episode:
    """The operator waits: the row repeats, with a reading's last digits moving, and nothing is asked for."""
    count = round(seconds * e.info.rate_hz)
    rows = np.concatenate([np.arange(row), np.full(count, row), np.arange(row, len(e))])
    period_ns = round(1e9 / e.info.rate_hz)
    longer = taken(e, rows, e.tick_ns[0] + np.arange(len(rows), dtype=np.int64) * period_ns)
    waiting = slice(row, row + count)
    rng = np.random.default_rng(5)
    channels = {}
    for name in ("requested", "sent", "measured"):
        values = longer.channel(name).copy()
        moving = [i for i, label in enumerate(e.info.action_spec.labels) if label != "gripper"]
        values[waiting, moving[0] : moving[-1] + 1] = 0.0
        channels[name] = values
    joints = longer.observations["joint_position"].copy()
    joints[waiting] += rng.normal(0, 1e-5, joints[waiting].shape).astype(joints.dtype)
    return dataclasses.replace(
        longer,
        **channels,
        observations={**longer.observations, "joint_position": joints},
    )


def relabelled(e: Episode) -> Episode:
    changed = dataclasses.replace(e.info, operator="somebody else", note="mine", success=True, seed=None)
    return dataclasses.replace(e, info=changed)


def restamped(e: Episode) -> Episode:
    rng = np.random.default_rng(1)
    jitter = rng.integers(0, 100_000, len(e))
    later_ns = 77 * 10**9
    streams = {name: dataclasses.replace(s, stamps_ns=s.stamps_ns + later_ns) for name, s in e.streams.items()}
    return dataclasses.replace(relabelled(e), tick_ns=e.tick_ns + later_ns + np.sort(jitter), streams=streams)


def swapped_positions(e: Episode, first: int = 0, second: int = 1) -> Episode:
    return swapped_readings(e, first, second, keys=("joint_position",))


def swapped_readings(
    e: Episode, first: int = 0, second: int = 1, keys: tuple[str, ...] = ("joint_position", "joint_velocity")
) -> Episode:
    order = np.arange(e.observations["joint_position"].shape[1])
    order[[first, second]] = order[[second, first]]
    return with_whole(e, **{key: whole(e, key)[:, order] for key in keys})


def swapped_actions(e: Episode, first: int = 0, second: int = 1) -> Episode:
    order = np.arange(e.info.action_spec.size)
    order[[first, second]] = order[[second, first]]
    return dataclasses.replace(e, requested=e.requested[:, order], sent=e.sent[:, order])


def requested_beyond(e: Episode) -> Episode:
    high = np.asarray(e.info.action_spec.high)
    requested = e.requested.copy()
    requested[10:14, 0] = 1.3 * high[0]
    return dataclasses.replace(e, requested=requested)


def sent_beyond(e: Episode) -> Episode:
    sent = e.sent.copy()
    sent[12, 0] = 1.2 * e.info.action_spec.high[0]
    return dataclasses.replace(e, sent=sent)


def actions_late(e: Episode, ticks: int = 1) -> Episode:
    """Every action stands `ticks` rows after the motion it caused (before it where negative)."""
    return dataclasses.replace(e, requested=np.roll(e.requested, ticks, axis=0), sent=np.roll(e.sent, ticks, axis=0))


def measured_shifted(e: Episode, ticks: int = 1) -> Episode:
    return dataclasses.replace(e, measured=np.roll(e.measured, ticks, axis=0))


def observations_late(e: Episode, ticks: int = 1) -> Episode:
    """Every observation stands a row late."""
    moved = {}
    for key in e.observations:
        values = whole(e, key)
        moved[key] = np.concatenate([np.repeat(values[:1], ticks, axis=0), values[:-ticks]])
    return with_whole(e, **moved)
