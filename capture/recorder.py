"""Turns control periods into the steps of an episode, as they happen.

Owns what is stored of a tick and when: the action with the observation it was decided on, what was sent, what the arm
did, and what was seen next. It judges nothing and drives nothing.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from understudy import __version__
from understudy.datasets.align import Aligned
from understudy.datasets.episode import Stream
from understudy.datasets.live_file import Step
from understudy.datasets.schema import ActionSpec, EpisodeInfo
from understudy.datasets.store import Dataset

Vector = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Motion:
    """The three action channels of one control period, (A,) each, in units."""

    requested: Vector
    sent: Vector
    measured: Vector


class EpisodeRecorder:
    """Records one episode into a dataset: `tick`..., then `keep` or `drop`."""

    def __init__(self, dataset: Dataset, info: EpisodeInfo, first: Aligned) -> None:
        """Begin with the first observation.

        Raises:
            DatasetError: the dataset is of another robot or task.
            RecordingError: the file cannot be made.
        """
        self._dataset = dataset
        self._latest = first
        self._writer = dataset.begin(info, first.values)
        self.info = info

    @property
    def steps(self) -> int:
        """Steps recorded so far."""
        return self._writer.steps

    @property
    def path(self) -> Path:
        """The file in progress."""
        return self._writer.path

    def tick(
        self,
        motion: Motion,
        reward: float,
        following: Aligned,
        state: Vector | None = None,
        *,
        intervention: bool | None = None,
    ) -> None:
        """Record one control period; never waits for the disk.

        Args:
            motion: what was asked for, sent and done.
            reward: what it earned.
            following: the observation one tick later.
            state: simulator state (D,) at the tick, where there is one.
            intervention: whether a person acted in a policy's place; None where nobody tells.

        Raises:
            RecordingError: the disk failed or is too slow.
        """
        step = Step(
            tick_ns=self._latest.tick_ns,
            requested=motion.requested,
            sent=motion.sent,
            measured=motion.measured,
            reward=reward,
            ages_s=self._latest.ages_s,
            next_observation=following.values,
            state=state,
            intervention=intervention,
        )
        self._writer.add(step)
        self._latest = following

    def keep(self, info: EpisodeInfo, streams: Mapping[str, Stream] | None = None) -> str:
        """Commit the episode with its final metadata; returns its id.

        Raises:
            RecordingError: it could not be written; what is on disk stays recoverable.
            DatasetError: it has no steps.
        """
        try:
            return self._dataset.commit(self._writer.finish(info, streams))
        finally:
            self._writer.release()

    def drop(self, info: EpisodeInfo) -> None:
        """Move the take to the trash, from where it can be restored; one without steps is deleted."""
        if self.steps == 0:
            self._writer.abandon()
            return
        try:
            self._writer.finish(info)
            self._dataset.discard(self.path.stem)
        finally:
            self._writer.release()

    def leave(self) -> None:
        """Stop without a decision: the steps on disk become a take when the dataset is opened next."""
        self._writer.release()


def new_info(
    *, robot: str, task: str, spec: ActionSpec, rate_hz: float, operator: str, device: str, seed: int | None = None,
    randomization: Mapping[str, float] | None = None, start: Mapping[str, tuple[float, ...]] | None = None,
) -> EpisodeInfo:  # fmt: skip
    """The metadata of an episode that begins now."""
    return EpisodeInfo(
        robot=robot,
        task=task,
        action_spec=spec,
        rate_hz=rate_hz,
        operator=operator,
        device=device,
        seed=seed,
        randomization=dict(randomization or {}),
        start=dict(start or {}),
        created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        software=f"understudy {__version__}",
    )
