"""HG-DAgger: only what a person did is learned from, in the share that was asked for, the same way every time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learners_support import GRASP_M, SPEC, ToyWorld, expert_action, play_toy, toy_episode, toy_episodes
from torch import Tensor

from understudy.datasets.batching.memory_source import MemorySource
from understudy.datasets.batching.steps import StepConfig
from understudy.datasets.batching.windows import WindowConfig
from understudy.datasets.episode import Episode
from understudy.errors import DatasetError, InputError
from understudy.learners import dagger
from understudy.learners.cloning import TrainingData, train_bc
from understudy.learners.dagger import (
    DaggerConfig,
    aggregate,
    driven_by_person,
    learnable,
    mixed_batches,
    train_dagger,
)
from understudy.learners.policies import ChunkMLP, TorchPolicy

QUICK = DaggerConfig(updates=400, hidden=(64, 64), spins=4, batch_size=64)
UP_M = 0.03
"""What the policy of these tests does, wherever it drives: up, which no person here ever does so fast."""


def taken_over(seed: int, driven: np.ndarray) -> Episode:
    """The toy, driven by the expert where `driven` holds, and elsewhere by a policy that goes up and closes."""
    world = ToyWorld(seed)
    observations, actions = [world.observe()], []
    for human in driven:
        actions.append(expert_action(observations[-1]) if human else np.array([0.0, 0.0, UP_M, 0.0]))
        world.step(actions[-1])
        observations.append(world.observe())
    done = np.array(actions)
    plain = toy_episode(seed, len(driven))
    return dataclasses.replace(
        plain,
        info=dataclasses.replace(plain.info, device="policy and puppet"),
        observations={key: np.stack([o[key] for o in observations[:-1]]) for key in observations[0]},
        final_observation=observations[-1],
        requested=done,
        sent=done.copy(),
        measured=done.copy(),
        intervention=np.asarray(driven, np.bool_),
    )


def takeovers(count: int = 6, steps: int = 60) -> list[Episode]:
    """The policy drives a while, the person, the policy again, and the person to the end."""
    step = np.arange(steps)
    return [taken_over(100 + i, ((step >= 5) & (step < 20)) | (step >= 24)) for i in range(count)]


def caught(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainingData, Iterator[Tensor], Tensor]]:
    """What the training is given, instead of training."""
    given: list[tuple[TrainingData, Iterator[Tensor], Tensor]] = []

    def optimise(
        policy: ChunkMLP, data: TrainingData, batches: Iterator[Tensor], validation: Tensor, *_: object
    ) -> ChunkMLP:
        given.append((data, batches, validation))
        return policy

    monkeypatch.setattr(dagger, "optimise", optimise)
    return given


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=14), min_size=1, max_size=3), st.integers(1, 6))
def test_windows_begin_where_a_person_drove_and_end_where_they_handed_back(flags: list[list[bool]], chunk: int) -> None:
    driven = [np.array(row) for row in flags]
    episodes = [taken_over(seed, row) for seed, row in enumerate(driven)]
    source = MemorySource(episodes, WindowConfig(future=chunk, past=3, steps=StepConfig(drop_idle=False)))
    found = learnable(source.all(), driven)
    assert list(zip(found.episode, found.step, strict=True)) == [
        (number, step) for number, row in enumerate(driven) for step in np.flatnonzero(row)
    ]
    for row, (number, step) in enumerate(zip(found.episode, found.step, strict=True)):
        stretch = 0
        while step + stretch < len(driven[number]) and driven[number][step + stretch] and stretch < chunk:
            stretch += 1
        assert found.mask[row].tolist() == [k < stretch for k in range(chunk)]
        theirs = episodes[number].actions[step : step + stretch]
        assert np.array_equal(found.actions[row, :stretch], theirs)
        assert np.all(found.actions[row, stretch:] == theirs[-1])
        # what was seen before stays, whoever drove then
        for back in range(3):
            seen = episodes[number].observations["tool_position"][max(0, step - back)]
            assert np.array_equal(found.observations["tool_position"][row, 2 - back], seen)


def test_nothing_that_the_policy_did_is_ever_drawn_and_each_batch_has_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = caught(monkeypatch)
    found = aggregate([*toy_episodes(5), *takeovers()])
    config = dataclasses.replace(QUICK, intervention_share=0.3, validation=0.2)
    train_dagger(found, config)
    ((data, batches, validation),) = given
    up = SPEC.normalise(np.array([0.0, 0.0, UP_M, 0.0]))[2]
    source = MemorySource(found.episodes, WindowConfig(future=config.chunk))
    assert np.any(source.all().actions[..., 2] == up)  # it is there, to be learned by whoever does not look
    assert not torch.any(data.chunks[..., 2] == up)
    plain = learnable(source.all(), found.driven)
    of_takeover = torch.from_numpy(np.tile(found.is_takeover[plain.episode], config.spins))
    for _ in range(100):
        batch = next(batches)
        assert len(batch) == config.batch_size
        assert torch.count_nonzero(of_takeover[batch]) == round(0.3 * config.batch_size)
        assert not np.isin(batch, validation).any()
    held_out = np.unique(np.tile(plain.episode, config.spins)[validation])
    assert found.is_takeover[held_out].tolist() == [False, True]  # of each kind


@pytest.mark.parametrize(("demonstrations", "taken"), [(40, 24), (0, 64)])
def test_every_window_is_drawn_before_any_is_drawn_again(demonstrations: int, taken: int) -> None:
    config = dataclasses.replace(QUICK, intervention_share=0.375)
    pools = np.arange(demonstrations), np.arange(100, 130)
    batches = mixed_batches(*pools, config, np.random.default_rng(0))
    drawn = np.concatenate([next(batches).numpy() for _ in range(20)])
    for pool, times in ((pools[0], 20 * (64 - taken)), (pools[1], 20 * taken)):
        counts = [np.count_nonzero(drawn == index) for index in pool]
        assert sum(counts) == times * bool(len(pool))
        assert max(counts, default=0) - min(counts, default=0) <= 1


def test_it_learns_from_the_person_where_cloning_everything_learns_the_mistake() -> None:
    episodes = [*toy_episodes(3), *takeovers(8)]
    rows: list[dict[str, float]] = []
    config = dataclasses.replace(QUICK, validation=0.15)
    policies = {"all": train_bc(episodes, config), "dagger": train_dagger(aggregate(episodes), config, log=rows.append)}
    arrived = {}
    for name, policy in policies.items():
        left = [play_toy(TorchPolicy(policy), seed) for seed in range(1000, 1020)]
        arrived[name] = sum(world.distance_m < 2 * GRASP_M and world.width == 0.0 for world in left)
    assert arrived["dagger"] >= 18
    assert arrived["all"] < arrived["dagger"]
    assert [row["step"] for row in rows] == [100, 200, 300, 400]
    assert rows[-1]["validation_loss"] < 0.5 * rows[0]["validation_loss"]


def test_the_same_seed_gives_the_same_policy_and_another_seed_another() -> None:
    found, config = aggregate([*toy_episodes(2), *takeovers(2)]), dataclasses.replace(QUICK, updates=30)
    first, second = train_dagger(found, config), train_dagger(found, config)
    other = train_dagger(found, dataclasses.replace(config, seed=1))
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], tensor, rtol=0, atol=0)
    assert not torch.equal(other.head[0].weight, first.head[0].weight)  # type: ignore[arg-type]


def test_going_on_begins_at_the_policy_and_leaves_it_as_it_was() -> None:
    start = train_bc(toy_episodes(3), dataclasses.replace(QUICK, updates=100, chunk=6, execute=3, hidden=(32,)))
    before = {name: tensor.clone() for name, tensor in start.state_dict().items()}
    frozen = start.requires_grad_(False)  # as it comes from a file
    found, config = aggregate(takeovers(3)), dataclasses.replace(QUICK, hidden=DaggerConfig().hidden)
    still = train_dagger(found, dataclasses.replace(config, updates=3, learning_rate=1e-12), frozen)
    seen = {key: torch.from_numpy(found.episodes[0].observations[key]) for key in start.shapes}
    torch.testing.assert_close(still(seen), start(seen), rtol=0, atol=1e-6)
    assert (still.chunk, still.execute, still.describe()) == (6, 3, start.describe())
    moved = train_dagger(found, dataclasses.replace(config, updates=50), frozen)
    assert not torch.allclose(moved(seen), start(seen), atol=1e-2)
    assert torch.equal(moved.standardise.mean, start.standardise.mean)
    assert torch.equal(moved.standardise.std, start.standardise.std)
    for name, tensor in start.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_who_drove_is_told_by_the_device_and_by_the_marks() -> None:
    human = np.array([False, True, True, False])
    marked = taken_over(0, human)
    imported = dataclasses.replace(marked, info=dataclasses.replace(marked.info, device="unknown"))
    approved = taken_over(0, np.zeros(4, np.bool_))
    plain = toy_episode(0, 4)  # as files of before have it: nothing is told of any step
    unmarked = dataclasses.replace(plain, intervention=np.zeros(4, np.bool_))
    silent = dataclasses.replace(plain, info=approved.info)
    expected = {0: human, 1: human, 2: human & False, 3: human | True, 4: human | True, 5: human & False}
    episodes = [marked, imported, approved, plain, unmarked, silent]
    for number, flags in expected.items():
        assert np.array_equal(driven_by_person(episodes[number]), flags), number
    found = aggregate(episodes)
    assert found.numbers == (0, 1, 3, 4)
    assert found.is_takeover.tolist() == [True, True, False, False]
    assert found.sentence() == (
        "8 steps of 2 demonstrations, 4 human steps in 2 takeovers; left out: 12 steps of the policy's own, among them "
        "those of 2 episodes in which nobody took over."
    )


@pytest.mark.parametrize(
    ("device", "operator", "persons"),
    [
        (
            "watched",
            "skill:lift-bc",
            False,
        ),  # incident: `record --watch` beside `deploy` was imitated as a demonstration
        ("policy", "policy", False),
        ("policy and browser", "ada", False),
        ("watched", "expert", True),
        ("scripted", "unknown", True),
        ("policyholder", "skilled", True),
    ],
)
def test_what_a_policy_drove_is_no_demonstration(device: str, operator: str, persons: bool) -> None:
    plain = toy_episode(0, 20)
    told = dataclasses.replace(plain, info=dataclasses.replace(plain.info, device=device, operator=operator))
    assert np.array_equal(driven_by_person(told), np.full(20, persons))
    assert aggregate([told, *takeovers(1)]).counts["demonstrations"] == int(persons)


def test_nothing_to_learn_is_told_with_what_to_do() -> None:
    approved = taken_over(0, np.zeros(20, np.bool_))
    with pytest.raises(
        DatasetError, match=r"in 3 episodes \(1 of them driven by a policy alone\) nobody took over"
    ) as error:
        aggregate([*toy_episodes(2), approved])
    assert "understudy record TASK --policy RUN" in str(error.value)
    assert "understudy train bc" in str(error.value)
    with pytest.raises(DatasetError, match="no episodes"):
        aggregate([])
    still = taken_over(0, np.arange(20) >= 10)
    still.requested[10:] = [0.0, 0.0, 0.0, 0.0]
    with pytest.raises(DatasetError, match="Nothing moves in any of the interventions"):
        train_dagger(aggregate([*toy_episodes(2), still]), QUICK)


def test_a_policy_that_does_not_fit_is_not_gone_on_from() -> None:
    start = train_bc(toy_episodes(2), dataclasses.replace(QUICK, updates=1))
    found = aggregate(takeovers(1))
    blind = [
        dataclasses.replace(
            e,
            observations={k: v for k, v in e.observations.items() if k != "object_position"},
            final_observation={k: v for k, v in e.final_observation.items() if k != "object_position"},
        )
        for e in found.episodes
    ]
    with pytest.raises(InputError, match=r"looks at 'object_position' in shape \(3,\), .* observe it not at all"):
        train_dagger(aggregate(blind), QUICK, start)
    wider = dataclasses.replace(SPEC, high=(0.05, *SPEC.high[1:]))
    others = [dataclasses.replace(e, info=dataclasses.replace(e.info, action_spec=wider)) for e in found.episodes]
    with pytest.raises(InputError, match=r"acts in 'tool_delta' \(x -0.03 to 0.03 m.*x -0.03 to 0.05 m"):
        train_dagger(aggregate(others), QUICK, start)
    with pytest.raises(InputError, match="chunk 5 was asked for, and the policy to go on from has 8, which stays"):
        train_dagger(found, dataclasses.replace(QUICK, chunk=5), start)
    other_features = dataclasses.replace(QUICK.features, directions=False)
    with pytest.raises(InputError, match="features of the policy to go on from stay"):
        train_dagger(found, dataclasses.replace(QUICK, features=other_features), start)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=r"intervention share must lie in \(0, 1\)"):
        DaggerConfig(intervention_share=share)


def test_a_share_that_leaves_nothing_of_a_kind_is_refused() -> None:
    with pytest.raises(InputError, match="of 10 windows leaves nothing of the one or the other"):
        DaggerConfig(intervention_share=0.01, batch_size=10)
    with pytest.raises(InputError, match="updates must be above 0"):
        DaggerConfig(updates=0)
