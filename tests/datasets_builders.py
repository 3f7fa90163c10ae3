"""Episodes made of plain numbers, for tests that need one without an arm."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from understudy.datasets.episode import Episode, Stream
from understudy.datasets.live_file import Step
from understudy.datasets.schema import ActionSpec, EpisodeInfo
from understudy.datasets.store import Dataset

RATE_HZ = 20.0
SPEC = ActionSpec("joint_delta", ("a", "b"), ("rad", "rad"), (-0.1, -0.1), (0.1, 0.1))


def info(**changes: object) -> EpisodeInfo:
    base = EpisodeInfo("two_joint", "reach", SPEC, RATE_HZ, operator="ada", device="keyboard", success=True)
    return dataclasses.replace(base, **changes)


def make_episode(steps: int = 60, *, seed: int = 0, lag: int = 0, images: bool = False, **changes: object) -> Episode:
    """An arm of two joints that is sent smooth steps and follows them `lag` ticks later, with some noise."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6, 2) + np.arange(steps)[:, None] * rng.uniform(0.08, 0.16, 2)
    sent = 0.05 * np.sin(phase) + rng.normal(0, 0.003, (steps, 2))
    moved = np.concatenate([np.zeros((lag, 2)), sent])[:steps] + rng.normal(0, 0.0005, (steps, 2))
    position = np.concatenate([rng.normal(0, 0.1, (1, 2)), moved]).cumsum(axis=0)
    velocity = np.concatenate([np.zeros((1, 2)), moved]) * RATE_HZ
    goal = np.tile(rng.uniform(-1, 1, 3), (steps + 1, 1))
    observations = {"joint_position": position, "joint_velocity": velocity, "goal_position": goal}
    arrays = {key: values.astype(np.float32) for key, values in observations.items()}
    if images:
        arrays["image_front"] = rng.integers(0, 255, (steps + 1, 12, 16, 3), dtype=np.uint8)
    return Episode(
        info=info(**changes),
        observations={key: values[:-1] for key, values in arrays.items()},
        final_observation={key: values[-1] for key, values in arrays.items()},
        requested=sent.copy(),
        sent=sent,
        measured=moved,
        rewards=rng.uniform(0, 1, steps).astype(np.float32),
        tick_ns=10**9 + np.arange(steps, dtype=np.int64) * 50_000_000,
        ages_s={key: np.full(steps, 0.004, np.float32) for key in arrays},
    )


def with_tool(episode: Episode) -> Episode:
    """The episode with the tool pose of a planar arm of two links, 0.4 m and 0.3 m long."""
    joints = np.concatenate([episode.observations["joint_position"], episode.final_observation["joint_position"][None]])
    first, both = joints[:, 0].astype(np.float64), joints.sum(axis=1, dtype=np.float64)
    zero = np.zeros(len(joints))
    poses = {
        "tool_position": np.stack(
            [0.4 * np.cos(first) + 0.3 * np.cos(both), 0.4 * np.sin(first) + 0.3 * np.sin(both), zero + 0.2], axis=1
        ),
        "tool_quaternion": np.stack([zero, zero, np.sin(both / 2), np.cos(both / 2)], axis=1),
    }
    arrays = {key: values.astype(np.float32) for key, values in poses.items()}
    return dataclasses.replace(
        episode,
        observations={**episode.observations, **{key: values[:-1] for key, values in arrays.items()}},
        final_observation={**episode.final_observation, **{key: values[-1] for key, values in arrays.items()}},
    )


def with_stream(episode: Episode, name: str = "joint_position", rate_hz: float = 100.0) -> Episode:
    """The episode with a stream of samples at a steady rate, with a little jitter, over all of it."""
    span_ns = int(episode.tick_ns[-1] - episode.tick_ns[0])
    count = round(span_ns * 1e-9 * rate_hz)
    jitter_ns = np.random.default_rng(count).integers(0, 500_000, count)
    stamps = episode.tick_ns[0] + (np.arange(count) * 1e9 / rate_hz).astype(np.int64) + jitter_ns
    stream = Stream(stamps, np.zeros((count, 2), np.float32))
    return dataclasses.replace(episode, streams={**episode.streams, name: stream})


def steps_of(episode: Episode) -> list[Step]:
    """What a recorder would hand to a writer, one control period after the other."""
    following = {
        key: np.concatenate([values[1:], np.asarray(episode.final_observation[key])[None]])
        for key, values in episode.observations.items()
    }
    return [
        Step(
            int(episode.tick_ns[k]),
            episode.requested[k],
            episode.sent[k],
            episode.measured[k],
            float(episode.rewards[k]),
            {key: float(ages[k]) for key, ages in episode.ages_s.items()},
            {key: values[k] for key, values in following.items()},
        )
        for k in range(len(episode))
    ]


def record(dataset: Dataset, episode: Episode) -> str:
    """Record an episode through the writer and commit it; returns its id."""
    with dataset.begin(episode.info, {key: values[0] for key, values in episode.observations.items()}) as writer:
        for step in steps_of(episode):
            writer.add(step)
        return dataset.commit(writer.finish())


def make_dataset(path: Path, count: int = 3, **options: object) -> Dataset:
    """A dataset of `count` sound episodes of slightly different lengths."""
    dataset = Dataset.create(path, robot="two_joint", task="reach")
    for index in range(count):
        record(dataset, make_episode(55 + 3 * (index % 5), seed=index, **options))
    return dataset
