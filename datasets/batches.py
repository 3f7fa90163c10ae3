"""Training windows: for each step worth learning from, what was seen then and the chunk of actions that followed.

Owns which steps are drawn and in which order. Everything is plain numpy arrays in memory; episodes are never changed
(what the operator did is kept as it was, and treated here, when training).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.episode import Episode
from understudy.datasets.schema import ActionSpec, is_image
from understudy.errors import DatasetError, InputError

GRIPPER = "gripper"
"""Label of the action number that opens and closes the gripper; the others are motion."""
STILL_RAD = 0.002
"""A `joint_position` target that changes less than this in a tick asks for no motion, rad."""


@dataclass(frozen=True)
class WindowConfig:
    """Which windows are made of an episode."""

    chunk: int = 8
    """Actions in a window."""
    drop_idle: bool = True
    """Leave out steps at which nothing moves: a policy that learns a pause may never leave it."""
    still: float = 0.02
    """A step is idle when every motion number of its action is below this share of its largest."""
    keep_around_gripper: int = 6
    """Idle steps this close to a change of the gripper are kept: the arm waits there for a reason."""

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise InputError(f"A window needs a chunk of at least 1 action, got {self.chunk}.")
        if self.still < 0 or self.keep_around_gripper < 0:
            raise InputError(
                f"Windows: still and keep_around_gripper must not be negative, got {self.still} and "
                f"{self.keep_around_gripper}."
            )


@dataclass(frozen=True)
class Windows:
    """M training windows."""

    observations: Mapping[str, NDArray[np.float32]]
    """Key -> (M, ...), without images."""
    chunks: NDArray[np.float32]
    """(M, chunk, A) in [-1, 1]; past the end of the episode its last action is repeated."""
    mask: NDArray[np.bool_]
    """(M, chunk) False past the end of the episode."""
    episode: NDArray[np.int64]
    """(M,) which of the given episodes a window is from."""

    def __len__(self) -> int:
        return len(self.chunks)


def make_windows(episodes: Sequence[Episode], config: WindowConfig = WindowConfig()) -> Windows:
    """Windows of all episodes, in order.

    Raises:
        DatasetError: there are no episodes, they differ in action space or observation keys, or no step is left.
    """
    require_alike(episodes)
    keys = [key for key in episodes[0].observations if not is_image(key)]
    observations: dict[str, list[NDArray[Any]]] = {key: [] for key in keys}
    chunks, masks, numbers = [], [], []
    for number, episode in enumerate(episodes):
        steps = np.flatnonzero(worth_learning(episode, config))
        ahead = steps[:, None] + np.arange(config.chunk)
        chunks.append(episode.actions[np.minimum(ahead, len(episode) - 1)])
        masks.append(ahead < len(episode))
        numbers.append(np.full(len(steps), number, np.int64))
        for key in keys:
            observations[key].append(np.asarray(episode.observations[key][steps], np.float32))
    windows = Windows(
        {key: np.concatenate(values) for key, values in observations.items()},
        np.concatenate(chunks),
        np.concatenate(masks),
        np.concatenate(numbers),
    )
    if not len(windows):
        raise DatasetError(f"Nothing moves in any of the {len(episodes)} episodes, so there is nothing to learn.")
    return windows


def require_alike(episodes: Sequence[Episode]) -> None:
    """Refuse episodes that cannot be trained on together.

    Raises:
        DatasetError: there are none, or they differ in action space or observation keys.
    """
    if not episodes:
        raise DatasetError("There are no episodes to train on; record some, or bring dropped ones back.")
    first = episodes[0]
    for number, episode in enumerate(episodes):
        if episode.info.action_spec != first.info.action_spec:
            raise DatasetError(
                f"Episode {number} has action space {episode.info.action_spec.name!r} with numbers "
                f"{episode.info.action_spec.labels}; the first has {first.info.action_spec.name!r} with "
                f"{first.info.action_spec.labels}, or other bounds. Train on them apart."
            )
        if set(episode.observations) != set(first.observations):
            odd = sorted(set(episode.observations) ^ set(first.observations))
            raise DatasetError(f"Episode {number} and the first differ in observations {odd}; train on them apart.")


def worth_learning(episode: Episode, config: WindowConfig) -> NDArray[np.bool_]:
    """(N,) the steps that windows start at."""
    if not config.drop_idle:
        return np.ones(len(episode), np.bool_)
    return ~idle_steps(episode, config.still) | _near_gripper_change(episode, config.keep_around_gripper)


def idle_steps(episode: Episode, still: float = 0.02) -> NDArray[np.bool_]:
    """(N,) steps whose action asks for no motion of the arm; the gripper does not count."""
    spec = episode.info.action_spec
    motion = [i for i, label in enumerate(spec.labels) if label != GRIPPER]
    if spec.name == "joint_position":
        target = episode.channel(episode.info.actions)[:, motion]
        steps = np.diff(target, axis=0, prepend=target[:1])
        return np.asarray(np.all(np.abs(steps) < STILL_RAD, axis=1))
    return np.asarray(np.all(np.abs(episode.actions[:, motion]) < still, axis=1))


def spin(windows: Windows, spec: ActionSpec, copies: int, rng: np.random.Generator) -> Windows:
    """The windows, and `copies - 1` more of each with the whole scene turned about the vertical by a random angle.

    What the tool does to an object does not depend on where north is: positions, orientations and tool steps are
    turned together, so a few demonstrations show every direction. Holds for `tool_delta` actions, whose axes are the
    base's, and for observations in the base frame; others are returned as they are.
    """
    if not can_spin(spec) or copies <= 1:
        return windows
    count = len(windows)
    angles = np.concatenate([np.zeros(count), rng.uniform(-np.pi, np.pi, (copies - 1) * count)])
    observations = {
        key: _spin_observation(key, np.tile(values, (copies, *[1] * (values.ndim - 1))), angles)
        for key, values in windows.observations.items()
    }
    chunks = np.tile(windows.chunks, (copies, 1, 1))
    for names in (("x", "y"), ("roll", "pitch")):
        if set(names) <= set(spec.labels):
            pair = [spec.labels.index(name) for name in names]
            chunks[..., pair] = _turn(chunks[..., pair], angles[:, None])
    return Windows(observations, chunks, np.tile(windows.mask, (copies, 1)), np.tile(windows.episode, copies))


def can_spin(spec: ActionSpec) -> bool:
    """Whether actions keep their meaning when the scene is turned: tool steps with like bounds on x and y."""
    if spec.name != "tool_delta" or not {"x", "y"} <= set(spec.labels):
        return False
    if ("roll" in spec.labels) != ("pitch" in spec.labels):
        return False
    bounds = {label: (spec.low[i], spec.high[i]) for i, label in enumerate(spec.labels)}
    return bounds["x"] == bounds["y"] and bounds.get("roll") == bounds.get("pitch")


def _spin_observation(key: str, values: NDArray[np.float32], angles: NDArray[np.float64]) -> NDArray[np.float32]:
    if key.endswith("_quaternion"):
        # xyzw of a turn about z, times the orientation
        sin, cos = np.sin(angles / 2), np.cos(angles / 2)
        x, y, z, w = values.T
        turned = np.stack([cos * x - sin * y, cos * y + sin * x, cos * z + sin * w, cos * w - sin * z], -1)
        return turned.astype(np.float32)
    if key.startswith(("tool_", "object", "goal")) and key.endswith("_position"):
        return np.concatenate([_turn(values[:, :2], angles), values[:, 2:]], -1).astype(np.float32)
    return values


def _turn(pairs: NDArray[Any], angles: NDArray[np.float64]) -> NDArray[np.float32]:
    """Pairs (..., 2) turned by angles (...), rad."""
    sin, cos = np.sin(angles), np.cos(angles)
    x, y = pairs[..., 0], pairs[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], -1).astype(np.float32)


def _near_gripper_change(episode: Episode, reach: int) -> NDArray[np.bool_]:
    near = np.zeros(len(episode), np.bool_)
    if GRIPPER not in episode.info.action_spec.labels:
        return near
    closed = episode.actions[:, episode.info.action_spec.labels.index(GRIPPER)] < 0
    for change in np.flatnonzero(np.diff(closed)):
        near[max(0, change + 1 - reach) : change + 1 + reach] = True
    return near


def shuffled(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Batches (size,) of indices below `count`, for ever; each pass visits every index once, in a new order."""
    waiting = np.empty(0, np.int64)
    while True:
        while len(waiting) < size:
            waiting = np.concatenate([waiting, rng.permutation(count)])
        yield waiting[:size]
        waiting = waiting[size:]


def split_episodes(count: int, share: float, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of (training, validation) episodes; whole episodes, because their steps are alike.

    At least one episode always trains; a share of 0 leaves validation empty.

    Raises:
        InputError: the share is not in [0, 1).
    """
    if not 0.0 <= share < 1.0:
        raise InputError(f"The validation share must lie in [0, 1), got {share}.")
    held_out = min(round(share * count), count - 1)
    order = rng.permutation(count)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
