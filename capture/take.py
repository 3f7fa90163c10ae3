"""The take in hand: what is known of it, who judged it, where its steps go. Its session says what may happen when."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from understudy.capture.left_take import LeftTake
from understudy.capture.recorder import EpisodeRecorder, Motion, NativeStreams
from understudy.capture.take_memory import TakeMemory
from understudy.datasets.align import Aligned
from understudy.datasets.episode import Episode
from understudy.datasets.schema import EpisodeInfo
from understudy.datasets.store import Dataset


class Take:
    """Prepared, then recorded (`begin`, `record`...), or taken up from `recording/`; then kept, dropped or left."""

    def __init__(self, info: EpisodeInfo, left: LeftTake | None = None) -> None:
        """Args:
        info: what is known of it beforehand.
        left: a take that an interruption left, with all its steps.
        """
        self.info = info
        self.marked: bool | None = None
        """The operator's own verdict; None while there is none."""
        self._judged = None if left is None else info.success
        self._recorder: EpisodeRecorder | LeftTake | None = left
        self._memory: TakeMemory | None = None

    @property
    def steps(self) -> int:
        """Steps so far."""
        return 0 if self._recorder is None else self._recorder.steps

    @property
    def path(self) -> Path | None:
        """Its file; None before it is recorded."""
        return None if self._recorder is None else self._recorder.path

    @property
    def broken(self) -> bool:
        """Whether it can neither be kept nor dropped any more; what there is of it can be recovered."""
        return self._recorder is not None and self._recorder.broken

    def episode(self) -> Episode | None:
        """All of it as it would be kept now, with prints for camera frames; None while it has no steps.

        Raises:
            DatasetError: the file of a take that was left cannot be read.
        """
        if isinstance(self._recorder, LeftTake):
            return self._recorder.episode()
        return None if self._memory is None else self._memory.episode(self.info)

    def begin(self, dataset: Dataset, first: Aligned, native: NativeStreams | None) -> None:
        """Recording begins, with the observation `first`; `native` brings samples at their own rate.

        Raises:
            RecordingError: the file cannot be made.
        """
        self._recorder = EpisodeRecorder(dataset, self.info, first, native)
        self._memory = TakeMemory(first)

    def record(
        self,
        seen: Aligned,
        motion: Motion,
        reward: float,
        following: Aligned,
        state: NDArray[np.float64] | None,
        *,
        intervention: bool,
    ) -> None:
        """One control period; as `EpisodeRecorder.tick`, with the observation `seen` that it was decided on.

        Raises:
            RecordingError: the disk failed or is too slow.
        """
        assert isinstance(self._recorder, EpisodeRecorder)  # what was left is never recorded on
        assert self._memory is not None
        self._recorder.tick(motion, reward, following, state, intervention=intervention)
        self._memory.add(seen, motion, reward, following)

    def judge(self, success: bool) -> None:
        """The task's verdict on it so far; the operator's stands above it."""
        self._judged = success
        self._decide()

    def mark(self, success: bool | None) -> None:
        """The operator's verdict; after None the task's counts again."""
        self.marked = success
        self._decide()

    def note(self, text: str) -> None:
        """Add words to it."""
        self.info = dataclasses.replace(self.info, note="; ".join(part for part in (self.info.note, text) if part))

    def keep(self) -> str:
        """Commit it; returns its id. What fails may be tried again, or dropped, unless it is `broken` then.

        Raises:
            RecordingError: it could not be written; what is on disk stays recoverable.
            DatasetError: it has no steps.
            OSError: the disk fails.
        """
        assert self._recorder is not None  # only what was recorded is kept
        return self._recorder.keep(self.info)

    def drop(self) -> None:
        """Move it to the trash; what has no steps is not kept at all.

        Raises:
            RecordingError, OSError: it could not be moved; it may be tried again, unless it is `broken` then.
        """
        if self._recorder is not None:
            self._recorder.drop(self.info)

    def leave(self) -> None:
        """Let go of it without a decision; its steps can be recovered."""
        if self._recorder is not None:
            self._recorder.leave()

    def _decide(self) -> None:
        self.info = dataclasses.replace(self.info, success=self._judged if self.marked is None else self.marked)
