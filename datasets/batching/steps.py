"""Which steps of an episode are worth learning from.

Owns what "idle" means. Episodes are never changed: what the operator did is kept as it was, and treated when training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.schema import EpisodeInfo
from understudy.errors import InputError

GRIPPER = "gripper"
"""Label of the action number that opens and closes the gripper; the others are motion."""
NO_MOTION = frozenset(["other", "choice"])
"""Action spaces whose numbers ask for something unknown: zero need not be standing still."""
STILL_RAD = 0.002
"""A `joint_position` target that changes less than this in a tick asks for no motion, rad."""

Array = NDArray[Any]


@dataclass(frozen=True)
class StepConfig:
    """Which steps are drawn."""

    drop_idle: bool = True
    """Leave out steps at which nothing moves: a policy that learns a pause may never leave it."""
    still: float = 0.02
    """A step is idle when every motion number of its action is below this share of its largest."""
    keep_around_gripper: int = 6
    """Idle steps this close to a change of the gripper are kept: the arm waits there for a reason."""

    def __post_init__(self) -> None:
        if self.still < 0 or self.keep_around_gripper < 0:
            raise InputError(
                f"Windows: still and keep_around_gripper must not be negative, got {self.still} and "
                f"{self.keep_around_gripper}."
            )


def worth_learning(info: EpisodeInfo, channel: Array, config: StepConfig) -> NDArray[np.bool_]:
    """(N,) the steps that windows start at, given the training channel (N, A) in units."""
    if not config.drop_idle:
        return np.ones(len(channel), np.bool_)
    return ~idle_steps(info, channel, config.still) | _near_gripper_change(info, channel, config.keep_around_gripper)


def idle_steps(info: EpisodeInfo, channel: Array, still: float = StepConfig.still) -> NDArray[np.bool_]:
    """(N,) steps whose action (N, A), in units, asks for no motion of the arm; the gripper does not count."""
    spec = info.action_spec
    if spec.name in NO_MOTION:
        return np.zeros(len(channel), np.bool_)
    motion = [i for i, label in enumerate(spec.labels) if label != GRIPPER]
    if spec.name == "joint_position":
        target = channel[:, motion]
        moves = np.diff(target, axis=0, prepend=target[:1])
        return np.asarray(np.all(np.abs(moves) < STILL_RAD, axis=1))
    return np.asarray(np.all(np.abs(spec.normalise(channel)[:, motion]) < still, axis=1))


def _near_gripper_change(info: EpisodeInfo, channel: Array, reach: int) -> NDArray[np.bool_]:
    near = np.zeros(len(channel), np.bool_)
    if GRIPPER not in info.action_spec.labels:
        return near
    closed = info.action_spec.normalise(channel)[:, info.action_spec.labels.index(GRIPPER)] < 0
    for change in np.flatnonzero(np.diff(closed)):
        near[max(0, change + 1 - reach) : change + 1 + reach] = True
    return near
