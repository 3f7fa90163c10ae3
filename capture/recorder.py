"""Turns control periods into the steps of an episode, as they happen.

Owns what is stored of a tick and when: the action with the observation it was decided on, what was sent, what the arm
did, and what was seen next. It judges nothing and drives nothing.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from understudy import __version__
from understudy.datasets.align import Aligned
from understudy.datasets.camera_streams import CameraFrame
from understudy.datasets.episode import Stream
from understudy.datasets.live_file import Step, is_complete
from understudy.datasets.schema import ActionSpec, EpisodeInfo, is_image
from understudy.datasets.store import Dataset
from understudy.errors import RecordingError

Vector = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Motion:
    """The three action channels of one control period, (A,) each, in units."""

    requested: Vector
    sent: Vector
    measured: Vector


HAND_OVER_S = 0.2
"""Samples at their own rate are handed to the disk this often: a kill loses so much of them."""
AHEAD_S = 2.0
"""They are kept up to this long after the latest tick."""


class Sample(Protocol):
    """One value of one stream."""

    @property
    def stamp_ns(self) -> int:
        """When it was measured, on the arm's clock."""

    @property
    def receive_ns(self) -> int:
        """When it came, on the arm's clock."""

    @property
    def value(self) -> NDArray[Any]:
        """What it said."""

    @property
    def packed(self) -> NDArray[Any] | None:
        """(B,) the JPEG or PNG that a picture came as; None for what came otherwise."""


class NativeStreams(Protocol):
    """Where samples at their own rate wait (a `StreamTable`)."""

    def begin(self, until_ns: int) -> None:
        """Forget what waits; keep what comes, up to `until_ns`."""

    def keep_until(self, until_ns: int) -> None:
        """Keep what comes up to then."""

    def drain(self) -> Mapping[str, Sequence[Any]]:
        """What has come since the last call, by key, in order."""


class EpisodeRecorder:
    """Records one episode into a dataset: `tick`..., then `keep` or `drop`."""

    def __init__(
        self, dataset: Dataset, info: EpisodeInfo, first: Aligned, native: NativeStreams | None = None
    ) -> None:
        """Begin with the first observation.

        Args:
            dataset: where the episode goes.
            info: its metadata as known now.
            first: what is seen at its first tick.
            native: samples at their own rate, to be kept beside the steps as they come; None: there are none.

        Raises:
            DatasetError: the dataset is of another robot or task.
            RecordingError: the file cannot be made.
        """
        self._dataset = dataset
        self._latest = first
        self._writer = dataset.begin(info, first.values)
        self._native = native
        self._handed_ns = first.tick_ns
        self.info = info
        if native is not None:
            native.begin(first.tick_ns + round(AHEAD_S * 1e9))

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
        if self._native is not None:
            self._native.keep_until(following.tick_ns + round(AHEAD_S * 1e9))
            if following.tick_ns - self._handed_ns >= HAND_OVER_S * 1e9:
                self._hand_over(self._native.drain())

    def add_samples(self, samples: Mapping[str, Sequence[Sample]]) -> None:
        """Keep samples of streams beside the steps, at their own rate; never waits for the disk.

        Raises:
            RecordingError: the disk failed or is too slow.
        """
        streams = {key: batch(some) for key, some in samples.items() if some and not is_image(key)}
        cameras = {
            key.removeprefix("image_"): [CameraFrame(s.stamp_ns, s.receive_ns, s.value, s.packed) for s in some]
            for key, some in samples.items()
            if some and is_image(key)
        }
        if streams or cameras:
            self._writer.add_samples(streams, cameras)

    def _hand_over(self, samples: Mapping[str, Sequence[Sample]]) -> None:
        self._handed_ns = self._latest.tick_ns
        self.add_samples(samples)

    def _hand_over_rest(self) -> None:
        """What came up to the last tick; what came later belongs to no step."""
        if self._native is not None:
            end_ns = self._latest.tick_ns
            left = {key: [s for s in some if s.receive_ns <= end_ns] for key, some in self._native.drain().items()}
            self._hand_over(left)

    @property
    def broken(self) -> bool:
        """Whether it can neither be kept nor dropped any more: what is on disk must be recovered, or is gone."""
        return self._writer.failed or not self.path.exists()

    def keep(self, info: EpisodeInfo) -> str:
        """Commit the episode with its final metadata; returns its id. What fails may be tried again, or dropped.

        Raises:
            RecordingError: it could not be written; what is on disk stays recoverable.
            DatasetError: it has no steps.
            OSError: it is written, and could not be put into the dataset.
        """
        self._finish(info)
        id = self._dataset.commit(self.path)
        self._writer.release()
        return id

    def drop(self, info: EpisodeInfo) -> None:
        """Move the take to the trash, from where it can be restored; one without steps is deleted.

        Raises:
            RecordingError, OSError: it could not be; it may be tried again.
        """
        if self.steps == 0:
            self._writer.abandon()
            return
        self._finish(info)
        self._dataset.discard(self.path.stem)
        self._writer.release()

    def leave(self) -> None:
        """Stop without a decision: the steps on disk become a take when the dataset is opened next."""
        self._writer.release()

    def _finish(self, info: EpisodeInfo) -> None:
        """Make the file a finished take with this metadata, which may be another than at an attempt before.

        What the attempt before has left is read from the file: one that failed may have been done all the same.
        """
        if self.path.exists() and is_complete(self.path):
            self._dataset.relabel_take(self.path.stem, info)
        else:
            self._hand_over_rest()
            self._writer.finish(info)


def batch(samples: Sequence[Sample]) -> Stream:
    """Samples of one key as arrays.

    Raises:
        RecordingError: they are not of one shape.
    """
    shapes = {sample.value.shape for sample in samples}
    if len(shapes) != 1:
        raise RecordingError(f"The samples of a stream have several shapes: {sorted(shapes)}; its topic is mixed.")
    stamps = np.array([sample.stamp_ns for sample in samples], np.int64)
    receives = np.array([sample.receive_ns for sample in samples], np.int64)
    return Stream(stamps, np.array([sample.value for sample in samples]), receives)


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
