"""What is in a window, and that it does not matter where windows come from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from datasets_builders import make_episode
from hypothesis import given, settings
from hypothesis import strategies as st
from learners_support import toy_episode, toy_episodes

from understudy.datasets.batching.episode_files import FileLimits
from understudy.datasets.batching.mapped_source import MappedSource
from understudy.datasets.batching.memory_source import MemorySource
from understudy.datasets.batching.mixture import Mixture
from understudy.datasets.batching.steps import StepConfig
from understudy.datasets.batching.windows import WindowConfig, Windows, require_alike
from understudy.datasets.episode import Episode
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError, InputError

EVERY = StepConfig(drop_idle=False)
KEYS = ("goal_position", "joint_position", "image_front")
LENGTHS = (1, 2, 7, 23)


class World:
    """The same episodes in memory and on disk, in the dataset's order."""

    def __init__(self, folder: Path) -> None:
        made = [make_episode(steps, seed=seed, images=True) for seed, steps in enumerate(LENGTHS)]
        self.dataset = Dataset.create(folder, robot="two_joint", task="reach")
        ids = {self.dataset.add(episode): episode for episode in made}
        self.episodes = [ids[id] for id in self.dataset.ids]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("windows") / "d")


configs = st.builds(
    WindowConfig,
    past=st.integers(1, 9),
    future=st.integers(1, 12),
    observe_ahead=st.integers(0, 9),
    act_behind=st.integers(0, 9),
    keys=st.sampled_from([None, KEYS, ("image_front",), ("joint_velocity",)]),
    steps=st.sampled_from([EVERY, StepConfig(still=0.5)]),
)


def expected_window(episode: Episode, config: WindowConfig, step: int, key: str | None) -> np.ndarray:
    """A window of an observation, or (None) of the actions, row by row."""
    values = episode.actions if key is None else episode.observations[key]
    span = range(*(config.acted if key is None else config.seen))
    return np.stack([values[min(max(step + ahead, 0), len(episode) - 1)] for ahead in span])


def assert_equal(one: Windows, other: Windows) -> None:
    assert list(one.observations) == list(other.observations)
    for key, values in one.observations.items():
        np.testing.assert_array_equal(values, other.observations[key])
        assert values.dtype == other.observations[key].dtype
    for name in ("actions", "seen", "mask", "episode", "step"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@settings(max_examples=40, deadline=None)
@given(config=configs, seed=st.integers(0, 1000))
def test_windows_are_rows_of_the_episodes_with_repeated_ends(world: World, config: WindowConfig, seed: int) -> None:
    ordered = world.episodes
    memory, mapped = MemorySource(ordered, config), MappedSource(world.dataset, config)
    assert len(memory) == len(mapped)
    if config.steps.drop_idle is False:
        assert len(memory) == sum(LENGTHS)
    chosen = np.random.default_rng(seed).integers(0, len(memory), 11)
    windows = memory.take(chosen)
    for kept in (mapped, MappedSource(world.dataset, config, limits=FileLimits(kept_bytes=0))):
        assert_equal(windows, kept.take(chosen))
        assert_equal(windows, kept.take(chosen))  # what is used again may be kept
    for row in range(len(chosen)):
        episode, step = ordered[windows.episode[row]], int(windows.step[row])
        for key in windows.observations:
            np.testing.assert_array_equal(windows.observations[key][row], expected_window(episode, config, step, key))
        np.testing.assert_array_equal(windows.actions[row], expected_window(episode, config, step, None))
        # the mask holds exactly where the step exists
        for mask, span in ((windows.seen, config.seen), (windows.mask, config.acted)):
            exists = [0 <= step + ahead < len(episode) for ahead in range(*span)]
            np.testing.assert_array_equal(mask[row], exists)
        assert windows.seen[row, config.past - 1]
        assert windows.mask[row, config.act_behind]


@settings(max_examples=20, deadline=None)
@given(config=configs)
def test_all_windows_are_every_step_of_every_episode_once(world: World, config: WindowConfig) -> None:
    config = dataclasses.replace(config, steps=EVERY)
    windows = MemorySource(world.episodes, config).all()
    steps = np.concatenate([np.arange(len(episode)) for episode in world.episodes])
    np.testing.assert_array_equal(windows.step, steps)
    np.testing.assert_array_equal(np.bincount(windows.episode), [len(e) for e in world.episodes])


def test_a_dataset_is_loaded_one_episode_at_a_time_and_verified(world: World) -> None:
    config = WindowConfig(past=2, keys=KEYS, steps=EVERY)
    loaded = MemorySource.of_dataset(world.dataset, config)
    assert_equal(loaded.all(), MemorySource(world.episodes, config).all())
    some = world.dataset.ids[1:3]
    loaded = MemorySource.of_dataset(world.dataset, config, ids=some)
    mapped = MappedSource(world.dataset, config, ids=some)
    assert_equal(loaded.all(), mapped.take(np.arange(len(mapped))))


def test_a_window_is_what_was_seen_and_what_was_done_next() -> None:
    episode = toy_episode(3, steps=20)
    windows = MemorySource([episode], WindowConfig(future=4, steps=EVERY)).all()
    assert windows.actions.shape == (20, 4, 4)
    np.testing.assert_array_equal(windows.observations["tool_position"][:, 0], episode.observations["tool_position"])
    for start in range(17):
        np.testing.assert_array_equal(windows.actions[start], episode.actions[start : start + 4])
    np.testing.assert_array_equal(windows.mask[-1], [True, False, False, False])


def test_images_must_be_asked_for() -> None:
    episode = make_episode(images=True)
    assert "image_front" not in MemorySource([episode]).shapes
    asked = MemorySource([episode], WindowConfig(keys=("image_front",), steps=EVERY))
    assert asked.shapes == {"image_front": (12, 16, 3)}
    assert asked.all().observations["image_front"].dtype == np.uint8


def test_what_cannot_be_trained_on_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no episodes"):
        MemorySource([])
    with pytest.raises(DatasetError, match="no episodes"):
        MappedSource(Dataset.create(tmp_path / "empty", robot="a", task="b"))
    with pytest.raises(DatasetError, match="Episode 1 has action space 'joint_delta'"):
        MemorySource([toy_episode(0), make_episode()])
    still = dataclasses.replace(toy_episode(0), requested=np.tile([0.0, 0.0, 0.0, 0.08], (40, 1)))
    with pytest.raises(DatasetError, match="Nothing moves"):
        MemorySource([still])
    with pytest.raises(InputError, match="Unknown observation key 'joint_positon': did you mean 'joint_position'"):
        MemorySource([make_episode()], WindowConfig(keys=("joint_positon",)))
    fewer = make_episode()
    fewer = dataclasses.replace(
        fewer,
        observations={key: fewer.observations[key] for key in ("joint_position",)},
        final_observation={key: fewer.final_observation[key] for key in ("joint_position",)},
    )
    with pytest.raises(DatasetError, match=r"Episode 1 and the first differ in observations .*goal_position"):
        require_alike([make_episode(), fewer])


@pytest.mark.parametrize("name", ["past", "future"])
def test_impossible_horizons(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} must be at least 1, got 0"):
        WindowConfig(**{name: 0})


def test_a_mixture_is_its_sources_behind_one_another() -> None:
    config = WindowConfig(past=2, steps=EVERY)
    one, other = MemorySource(toy_episodes(2), config), MemorySource([toy_episode(7, steps=15)], config)
    mixture = Mixture([one, other])
    assert len(mixture) == len(one) + len(other) == 95
    assert mixture.episodes == 3
    assert_equal(mixture.take(np.arange(80, 95)), dataclasses.replace(other.all(), episode=np.full(15, 2)))
    mixed = np.random.default_rng(0).permutation(95)
    together = MemorySource([*toy_episodes(2), toy_episode(7, steps=15)], config)
    assert_equal(mixture.take(mixed), together.take(mixed))
    assert len(mixture.take(np.empty(0, np.int64))) == 0
    with pytest.raises(IndexError, match="95"):
        mixture.take(np.array([95]))
    with pytest.raises(InputError, match="at least one source"):
        Mixture([])
    with pytest.raises(InputError, match="Source 1 makes windows"):
        Mixture([one, MemorySource(toy_episodes(1), WindowConfig(past=3))])
    with pytest.raises(DatasetError, match="Source 1 has action space"):
        Mixture([one, MemorySource([make_episode()], config)])
