"""HG-DAgger: clone demonstrations, and what a person did where they took over from a policy.

    D = demonstrations + {(o_t, a_t) : the person drove at t}             (Kelly et al. 2019, algorithm 1)
    each batch: a share S from interventions, the rest from demonstrations (Mandlekar et al. 2020)

What the policy did itself teaches nothing: not where it strayed, and not where nobody minded. A window is learned from
where the person drove at its step, and of its chunk the actions up to the first that is the policy's: handing back is
an end, as the end of an episode is. So the last actions of a correction count too, which they would not if whole chunks
had to be the person's. What was seen before, also while the policy drove, stays in the window.

A gripper that the person leaves as the policy had it counts as the person's, too: that is what the arm is sent while
they drive (`capture/takeover.py`), and a correction that carries a held object must teach to hold it.

Owns who drove which step, and what a batch is made of. The network and its optimisation are `cloning.py`'s.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from understudy.datasets.batching.memory_source import MemorySource
from understudy.datasets.batching.order import shuffled, split_episodes
from understudy.datasets.batching.spin import spin
from understudy.datasets.batching.steps import StepConfig
from understudy.datasets.batching.windows import EpisodeForm, WindowConfig, Windows, form_of, require_alike
from understudy.datasets.episode import Episode
from understudy.datasets.schema import ActionSpec
from understudy.errors import DatasetError, InputError
from understudy.learners.cloning import BCConfig, Log, TrainingData, make_policy, optimise
from understudy.learners.features import turns_with_scene
from understudy.learners.policies import ChunkMLP
from understudy.learners.threads import one_thread

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class DaggerConfig(BCConfig):
    """Settings of HG-DAgger: those of behavioral cloning, and what a batch is made of."""

    intervention_share: float = 0.5
    """Share of a batch that is drawn from interventions, above 0 and below 1; where there are no demonstrations, all
    of it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.intervention_share < 1.0:
            raise InputError(f"DAgger: the intervention share must lie in (0, 1), got {self.intervention_share}.")
        if not 0 < self.interventions_in_batch < self.batch_size:
            raise InputError(
                f"DAgger: an intervention share of {self.intervention_share} of {self.batch_size} windows leaves "
                "nothing of the one or the other; take larger batches, or a share nearer to 0.5."
            )

    @property
    def interventions_in_batch(self) -> int:
        """How many windows of a batch are interventions."""
        return round(self.intervention_share * self.batch_size)


@dataclass(frozen=True)
class Aggregate:
    """What is learned from: demonstrations, and episodes of a policy in which a person took over."""

    numbers: tuple[int, ...]
    """Which of the episodes that were given these are."""
    episodes: tuple[Episode, ...]
    driven: tuple[Flags, ...]
    """(N,) of each: the steps that are learned from, which is all of a demonstration."""
    is_takeover: Flags
    """(E,) whether a policy drove it, too."""
    approved: int
    """Episodes that a policy drove to the end by itself; left out."""
    approved_steps: int

    @property
    def counts(self) -> Mapping[str, int]:
        """Steps and episodes, by name."""
        learned = np.array([np.count_nonzero(flags) for flags in self.driven])
        length = np.array([len(flags) for flags in self.driven])
        return {
            "demonstrations": int(np.count_nonzero(~self.is_takeover)),
            "demonstration_steps": int(learned[~self.is_takeover].sum()),
            "takeovers": int(np.count_nonzero(self.is_takeover)),
            "human_steps": int(learned[self.is_takeover].sum()),
            "policy_steps_left_out": int((length - learned).sum()) + self.approved_steps,
            "episodes_left_out": self.approved,
        }

    def sentence(self) -> str:
        """The counts in words."""
        count = {name: f"{value:,}" for name, value in self.counts.items()}
        return (
            f"{count['demonstration_steps']} steps of {count['demonstrations']} demonstrations, "
            f"{count['human_steps']} human steps in {count['takeovers']} takeovers; left out: "
            f"{count['policy_steps_left_out']} steps of the policy's own, among them those of "
            f"{count['episodes_left_out']} episodes in which nobody took over."
        )


def driven_by_person(episode: Episode) -> Flags:
    """(N,) the steps that a person drove, or a script in a person's place: all of them where no policy drove.

    A policy drove where device or operator say so (`EpisodeInfo.policy_drove`), and where any step is marked as an
    intervention.
    """
    if np.any(episode.intervention):
        return episode.intervention
    return np.full(len(episode), not episode.info.policy_drove, np.bool_)


def aggregate(episodes: Sequence[Episode]) -> Aggregate:
    """Sort episodes into demonstrations, takeovers, and what a policy did with nobody taking over.

    Raises:
        DatasetError: nobody took over in any of them, or they cannot be trained on together.
    """
    require_alike(episodes)
    driven = [driven_by_person(episode) for episode in episodes]
    numbers = tuple(number for number, flags in enumerate(driven) if np.any(flags))
    takeovers = np.array([bool(np.any(episodes[number].intervention)) for number in numbers], np.bool_)
    approved = [len(flags) for flags in driven if not np.any(flags)]
    if not np.any(takeovers):
        raise DatasetError(
            f"There is no intervention to learn from: in {len(episodes)} episodes ({len(approved)} of them driven by a "
            "policy alone) nobody took over from a policy. Record some where it strays (understudy record TASK "
            "--policy RUN --device gamepad), or learn from demonstrations alone with understudy train bc."
        )
    return Aggregate(
        numbers,
        tuple(episodes[number] for number in numbers),
        tuple(driven[number] for number in numbers),
        takeovers,
        len(approved),
        sum(approved),
    )


def learnable(windows: Windows, driven: Sequence[Flags]) -> Windows:
    """The windows at steps that a person drove, with the actions after handing back masked out.

    Args:
        windows: of M steps, whose actions begin at their own step.
        driven: (N,) of each of the windows' episodes, whether a person drove.

    Returns:
        Windows whose masks are true up to the first action that is not a person's. What is masked out repeats the last
        action that is not, as at the end of an episode.
    """
    future = windows.actions.shape[1]
    padded = [np.append(flags, np.zeros(future, np.bool_)) for flags in driven]  # nobody drives past the end
    first = np.concatenate([[0], np.cumsum([len(flags) for flags in padded])[:-1]])
    rows = (first[windows.episode] + windows.step)[:, None] + np.arange(future)
    mask = windows.mask & np.logical_and.accumulate(np.concatenate(padded)[rows], axis=1)
    kept = np.flatnonzero(mask[:, 0])
    mask = mask[kept]
    repeated = np.minimum(np.arange(future), mask.sum(1, keepdims=True) - 1)
    return Windows(
        {key: values[kept] for key, values in windows.observations.items()},
        windows.actions[kept[:, None], repeated],
        windows.seen[kept],
        mask,
        windows.episode[kept],
        windows.step[kept],
    )


@one_thread()
def train_dagger(
    found: Aggregate, config: DaggerConfig = DaggerConfig(), start: ChunkMLP | None = None, log: Log | None = None
) -> ChunkMLP:
    """Clone the persons of `found`.

    Args:
        found: what to learn from.
        config: settings.
        start: the policy to go on from, which is left as it is; its features, their standardisation and its form are
            kept. None begins anew.
        log: given {"step", "loss", "validation_loss", "learning_rate"} every 100 updates. With `start`,
            the validation loss is also of demonstrations that it may have been trained on, and then is no measure.

    Raises:
        InputError: `start` does not fit what was recorded, or settings ask for another form than it has.
        DatasetError: nothing moves in any intervention.
    """
    if start is not None:
        config = going_on(config, start, found.episodes[0])
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    source = MemorySource(found.episodes, WindowConfig(future=config.chunk, steps=StepConfig(config.drop_idle)))
    windows, spec = learnable(source.all(), found.driven), source.action_spec
    if not np.any(found.is_takeover[windows.episode]):
        raise DatasetError("Nothing moves in any of the interventions, so there is nothing to learn from them.")
    policy = make_policy(windows, spec, config) if start is None else copy.deepcopy(start).requires_grad_(True)
    if turns_with_scene(policy.features.plan):
        windows = spin(windows, spec, config.spins, rng)
    held_out = _held_out(windows, found.is_takeover, config.validation, rng)
    data = TrainingData(policy, windows)
    pools = [np.flatnonzero(~held_out & (found.is_takeover[windows.episode] == kind)) for kind in (False, True)]
    if start is None:
        policy.fit_inputs(data.features[torch.from_numpy(np.sort(np.concatenate(pools)))])
    batches = mixed_batches(pools[0], pools[1], config, rng)
    return optimise(policy, data, batches, torch.from_numpy(np.flatnonzero(held_out)), config, log)


def mixed_batches(
    demonstrations: NDArray[np.int64], interventions: NDArray[np.int64], config: DaggerConfig, rng: np.random.Generator
) -> Iterator[Tensor]:
    """Batches (config.batch_size,) of windows, for ever: `config.intervention_share` of each from interventions.

    Args:
        demonstrations: windows (D,) of demonstrations; none leaves whole batches to interventions.
        interventions: windows (I,) of interventions, at least one.
        config: settings.
        rng: draws the order; every window of a kind is drawn before any of that kind is drawn again.
    """
    taken = config.interventions_in_batch if len(demonstrations) else config.batch_size
    corrections = shuffled(len(interventions), taken, rng)
    rest = shuffled(len(demonstrations), config.batch_size - taken, rng)
    while True:
        batch = interventions[next(corrections)]
        if len(demonstrations):
            batch = np.concatenate([batch, demonstrations[next(rest)]])
        yield torch.from_numpy(batch)


def going_on(config: DaggerConfig, start: ChunkMLP, episode: Episode) -> DaggerConfig:
    """The settings of a training that goes on from `start`, whose form they take over.

    Args:
        config: settings as asked for.
        start: the policy to go on from.
        episode: one of those that are learned from.

    Raises:
        InputError: the policy looks at what `episode` lacks, acts otherwise, or `config` asks for another form.
    """
    _require_fit(start, form_of(episode))
    kept: dict[str, Any] = {"chunk": start.chunk, "execute": start.execute, "hidden": tuple(start.config.hidden)}
    defaults = DaggerConfig()
    for name, value in kept.items():
        asked = getattr(config, name)
        if asked not in (value, getattr(defaults, name)):
            raise InputError(
                f"{name} {asked} was asked for, and the policy to go on from has {value}, which stays; leave it out, "
                "or begin without --from."
            )
    if config.features != defaults.features:
        raise InputError("The features of the policy to go on from stay as they are; leave those settings out.")
    return dataclasses.replace(config, **kept)


def _require_fit(start: ChunkMLP, form: EpisodeForm) -> None:
    remedy = "give episodes that were recorded with it, or begin without --from"
    for key, shape in start.shapes.items():
        if form.shapes.get(key) != shape:
            there = f"in shape {form.shapes[key]}" if key in form.shapes else "not at all"
            raise InputError(
                f"The policy to go on from looks at {key!r} in shape {shape}, and the episodes observe it {there} "
                f"(they observe {', '.join(form.shapes)}); {remedy}."
            )
    if start.action_spec != form.spec:
        raise InputError(
            f"The policy to go on from acts in {_words(start.action_spec)}, and the episodes in {_words(form.spec)}; "
            f"{remedy}."
        )


def _words(spec: ActionSpec) -> str:
    bounds = ", ".join(
        f"{label} {low:g} to {high:g} {unit}"
        for label, low, high, unit in zip(spec.labels, spec.low, spec.high, spec.units, strict=True)
    )
    return f"{spec.name!r} ({bounds})"


def _held_out(windows: Windows, is_takeover: Flags, share: float, rng: np.random.Generator) -> Flags:
    """(M,) windows to measure the loss on: of a share of the demonstrations, and of the takeovers, whole episodes."""
    held_out: list[NDArray[np.int64]] = []
    for kind in (False, True):
        shown = np.unique(windows.episode[is_takeover[windows.episode] == kind])
        if len(shown):
            _, some = split_episodes(len(shown), share, rng)
            held_out.append(shown[some])
    return np.isin(windows.episode, np.concatenate(held_out))
