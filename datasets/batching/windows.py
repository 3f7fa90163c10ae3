"""Training windows: what was seen around a step, and the actions around it.

A window belongs to one step t of one episode. It shows the observations of steps t - past + 1 ... t + observe_ahead and
the actions of steps t - act_behind ... t + future - 1. Where these reach over an end of the episode, its first or last
row is repeated, and a mask says so.

Owns the words: the settings, the arrays of a window, and what a source of windows owes. The sources are
`memory_source.py`, `mapped_source.py` and `mixture.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.batching.steps import StepConfig
from understudy.datasets.episode import Episode
from understudy.datasets.schema import ActionSpec, EpisodeInfo, is_image
from understudy.errors import DatasetError, InputError, unknown_name

Array = NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]
"""Observation key -> shape of one observation."""


@dataclass(frozen=True)
class WindowConfig:
    """Which windows are made of an episode."""

    past: int = 1
    """Observations up to and including the one at the window's step."""
    future: int = 8
    """Actions from the window's step on."""
    observe_ahead: int = 0
    """Observations after the window's step, for learners that are shown a whole stretch (recurrent networks)."""
    act_behind: int = 0
    """Actions before the window's step."""
    keys: tuple[str, ...] | None = None
    """Observations in a window; None: all but images, which must be asked for."""
    steps: StepConfig = field(default_factory=StepConfig)
    """Which steps have a window."""

    def __post_init__(self) -> None:
        for name, least in (("past", 1), ("future", 1), ("observe_ahead", 0), ("act_behind", 0)):
            if getattr(self, name) < least:
                raise InputError(f"Windows: {name} must be at least {least}, got {getattr(self, name)}.")

    @property
    def seen(self) -> tuple[int, int]:
        """First and one after the last observed step, counted from the window's own."""
        return 1 - self.past, 1 + self.observe_ahead

    @property
    def acted(self) -> tuple[int, int]:
        """First and one after the last step with an action, counted from the window's own."""
        return -self.act_behind, self.future


@dataclass(frozen=True)
class Windows:
    """M training windows; S observations and F actions in each."""

    observations: Mapping[str, Array]
    """Key -> (M, S, ...) float32, images uint8."""
    actions: NDArray[np.float32]
    """(M, F, A) in [-1, 1]."""
    seen: NDArray[np.bool_]
    """(M, S) False where an observation is a repeated one, beyond an end of the episode."""
    mask: NDArray[np.bool_]
    """(M, F) the same for actions."""
    episode: NDArray[np.int64]
    """(M,) which of the source's episodes a window is from."""
    step: NDArray[np.int64]
    """(M,) the step of the episode that a window belongs to."""

    def __len__(self) -> int:
        return len(self.actions)


class WindowSource(Protocol):
    """Where windows come from. `take` is a pure function, and may be called from several threads."""

    @property
    def config(self) -> WindowConfig:
        """Which windows these are."""
        ...

    @property
    def shapes(self) -> Shapes:
        """Observation key -> shape of one observation."""
        ...

    @property
    def action_spec(self) -> ActionSpec:
        """What the actions mean."""
        ...

    @property
    def episodes(self) -> int:
        """How many episodes the windows are from."""
        ...

    def __len__(self) -> int:
        """How many windows there are."""
        ...

    def take(self, indices: NDArray[np.integer[Any]]) -> Windows:
        """The windows (M,) of these numbers, each in [0, len), in this order."""
        ...


@dataclass(frozen=True)
class EpisodeForm:
    """What must be alike in all episodes that are trained on together."""

    spec: ActionSpec
    shapes: Shapes

    @classmethod
    def of(cls, info: EpisodeInfo, shapes: Shapes, keys: Sequence[str] | None) -> EpisodeForm:
        """The form of an episode, as far as the keys that are used (None: all but images) have a part in it.

        Raises:
            InputError: a key is not observed.
        """
        for key in keys or ():
            if key not in shapes:
                raise unknown_name("observation key", key, shapes)
        used = keys if keys is not None else sorted(key for key in shapes if not is_image(key))
        return cls(info.action_spec, {key: tuple(shapes[key]) for key in used})

    def require(self, other: EpisodeForm, name: str) -> None:
        """Refuse an episode that cannot be trained on together with the first.

        Raises:
            DatasetError: it differs in action space or observations; `name` says which it is.
        """
        if other.spec != self.spec:
            raise DatasetError(
                f"{name} has action space {other.spec.name!r} with numbers {other.spec.labels}; the first has "
                f"{self.spec.name!r} with {self.spec.labels}, or other bounds. Train on them apart."
            )
        odd = sorted(set(self.shapes) ^ set(other.shapes))
        if odd:
            raise DatasetError(f"{name} and the first differ in observations {odd}; train on them apart.")
        for key, shape in self.shapes.items():
            if other.shapes[key] != shape:
                raise DatasetError(
                    f"{name} observes {key!r} in shape {other.shapes[key]}, the first in {shape}; train on them apart."
                )


def form_of(episode: Episode, keys: Sequence[str] | None = None) -> EpisodeForm:
    """The form of an episode in memory; see `EpisodeForm.of`."""
    return EpisodeForm.of(episode.info, {key: values.shape[1:] for key, values in episode.observations.items()}, keys)


def require_alike(episodes: Sequence[Episode]) -> None:
    """Refuse episodes that cannot be trained on together.

    Raises:
        DatasetError: there are none, or they differ in action space or observations (images aside).
    """
    if not episodes:
        raise DatasetError(NO_EPISODES)
    first = form_of(episodes[0])
    for number, episode in enumerate(episodes):
        first.require(form_of(episode), f"Episode {number}")


def within(step: NDArray[np.int64], length: NDArray[np.int64], span: tuple[int, int]) -> NDArray[np.bool_]:
    """(M, span) whether steps `step + span` lie in episodes of these lengths; `step` and `length` are (M,)."""
    ahead = step[:, None] + np.arange(*span)
    return np.asarray((ahead >= 0) & (ahead < length[:, None]))


def smallest_type(largest: int) -> np.dtype[Any]:
    """The smallest integer type that holds 0 ... `largest`: tables of windows are what grows with the data."""
    return np.min_scalar_type(max(largest, 0))


NO_EPISODES = "There are no episodes to train on; record some, or bring dropped ones back."


def require_windows(count: int, episodes: int) -> None:
    """Refuse to train on nothing.

    Raises:
        DatasetError: no step was worth a window.
    """
    if not count:
        raise DatasetError(f"Nothing moves in any of the {episodes} episodes, so there is nothing to learn.")
