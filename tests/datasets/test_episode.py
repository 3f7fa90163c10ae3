"""An episode is checked on construction, comes back from its file equal, and damage is noticed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
from datasets_builders import SPEC, info, make_episode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.datasets.episode import GROUP, Episode, read_episode, write_episode
from understudy.datasets.seal import read_seal, write_seal
from understudy.errors import DatasetError, InputError

ARRAYS = ("requested", "sent", "measured", "rewards", "tick_ns", "states")
MAPPINGS = ("observations", "final_observation", "ages_s")


def same(one: Episode, two: Episode) -> bool:
    """Whether two episodes are equal to the bit."""
    arrays = all(np.array_equal(getattr(one, name), getattr(two, name)) for name in ARRAYS)
    mappings = all(
        getattr(one, name).keys() == getattr(two, name).keys()
        and all(
            np.array_equal(value, getattr(two, name)[key]) and value.dtype == getattr(two, name)[key].dtype
            for key, value in getattr(one, name).items()
        )
        for name in MAPPINGS
    )
    return arrays and mappings and one.info == two.info


@given(
    steps=st.integers(1, 30),
    seed=st.integers(0, 1000),
    images=st.booleans(),
    states=st.integers(0, 5),
    channel=st.sampled_from(["requested", "sent", "measured"]),
    note=st.text(max_size=20).filter(lambda text: "\x00" not in text),
)
@settings(max_examples=25, deadline=None)
def test_an_episode_comes_back_equal(tmp_path_factory, steps, seed, images, states, channel, note):
    path = tmp_path_factory.mktemp("episode") / "one.hdf5"
    episode = make_episode(steps, seed=seed, images=images, actions=channel, note=note)
    if states:
        episode = dataclasses.replace(episode, states=np.random.default_rng(seed).normal(size=(steps, states)))
    write_episode(path, episode)
    back = read_episode(path)
    assert same(dataclasses.replace(episode, states=back.states), back)
    assert np.array_equal(back.states, episode.states) or (states == 0 and back.states.size == 0)
    assert np.array_equal(back.actions, SPEC.normalise(episode.channel(channel)))
    assert back.return_ == pytest.approx(episode.return_)
    assert len(back) == steps


@given(steps=st.integers(1, 20), cut=st.integers(1, 20), images=st.booleans(), states=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_first_steps_are_an_episode_that_ends_where_the_rest_begins(steps: int, cut: int, images: bool, states: int):
    episode = dataclasses.replace(
        make_episode(steps, images=images), states=np.ones((steps, states)), intervention=np.arange(steps) % 2 == 0
    )
    if cut > steps:
        with pytest.raises(DatasetError, match=f"An episode of {steps} steps has from 1 to {steps} first ones, not"):
            episode.first(cut)
        return
    begun = episode.first(cut)
    assert len(begun) == cut
    assert begun.info == episode.info
    for name in ("requested", "sent", "measured", "rewards", "tick_ns", "intervention"):
        assert np.array_equal(getattr(begun, name), getattr(episode, name)[:cut])
    for key, values in episode.observations.items():
        after = episode.final_observation[key] if cut == steps else values[cut]
        assert np.array_equal(begun.observations[key], values[:cut])
        assert np.array_equal(begun.final_observation[key], after)


def test_the_file_has_what_robomimic_reads(tmp_path: Path):
    episode = make_episode(20)
    write_episode(tmp_path / "one.hdf5", episode)
    with h5py.File(tmp_path / "one.hdf5") as file:
        group = file[GROUP]
        assert group.attrs["num_samples"] == 20
        assert group["actions"][()] == pytest.approx(episode.actions)
        assert np.abs(group["actions"][()]).max() <= 1.0
        assert group["dones"][()].tolist() == [0] * 19 + [1]
        assert set(group["obs"]) == set(episode.observations)


def test_images_can_be_left_out(tmp_path: Path):
    write_episode(tmp_path / "one.hdf5", make_episode(5, images=True))
    lean = read_episode(tmp_path / "one.hdf5", images=False)
    assert "image_front" not in lean.observations
    assert "image_front" not in lean.final_observation
    assert "image_front" in read_episode(tmp_path / "one.hdf5").observations


def test_an_episode_file_is_never_overwritten(tmp_path: Path):
    write_episode(tmp_path / "one.hdf5", make_episode(5))
    before = (tmp_path / "one.hdf5").read_bytes()
    with pytest.raises(OSError, match="exists"):
        write_episode(tmp_path / "one.hdf5", make_episode(6))
    assert (tmp_path / "one.hdf5").read_bytes() == before


GOOD = make_episode(10, images=True)


def bent(array: np.ndarray, at: object, value: float) -> np.ndarray:
    copy = np.array(array)
    copy[at] = value
    return copy


def observed(**changes: object) -> dict[str, object]:
    return {**GOOD.observations, **changes}


INVALID = {
    "empty": ({"tick_ns": np.zeros(0, np.int64)}, "Episode has no steps"),
    "short channel": ({"sent": GOOD.sent[:-1]}, r"Action channel 'sent' has shape \(9, 2\); expected \(10, 2\)"),
    "wide channel": (
        {"measured": np.zeros((10, 3))},
        r"'measured' has shape \(10, 3\); expected \(10, 2\) for 'joint_d",
    ),
    "nan action": ({"requested": bent(GOOD.requested, (3, 1), np.nan)}, "action/requested .* not finite at row 3"),
    "inf action": ({"measured": bent(GOOD.measured, (4, 0), np.inf)}, "action/measured .* not finite at row 4"),
    "rewards": ({"rewards": np.zeros(9)}, r"rewards has shape \(9,\); expected \(10,\)"),
    "nan reward": ({"rewards": bent(GOOD.rewards, 2, np.nan)}, "rewards has a value that is not finite at row 2"),
    "equal stamps": ({"tick_ns": bent(GOOD.tick_ns, 5, GOOD.tick_ns[4])}, "row 5 does not come after row 4"),
    "stamps back": ({"tick_ns": GOOD.tick_ns[::-1]}, "Tick stamps must increase; row 1 does not come after row 0"),
    "missing final": (
        {"final_observation": {k: v for k, v in GOOD.final_observation.items() if k != "goal_position"}},
        r"these differ: \['goal_position'\]",
    ),
    "observation length": (
        {"observations": observed(joint_position=GOOD.observations["joint_position"][:-1])},
        r"joint_position has shape \(9, 2\); expected \(10, 2\)",
    ),
    "observation width": (
        {"observations": observed(joint_position=np.zeros((10, 3), np.float32))},
        r"joint_position has shape \(10, 3\); expected \(10, 2\)",
    ),
    "nan observation": (
        {"observations": observed(joint_position=bent(GOOD.observations["joint_position"], (7, 0), np.nan))},
        "obs/joint_position has a value that is not finite at row 7",
    ),
    "nan final": (
        {"final_observation": {**GOOD.final_observation, "goal_position": np.full(3, np.nan)}},
        "final_obs/goal_position has a value that is not finite",
    ),
    "float frames": (
        {"observations": observed(image_front=GOOD.observations["image_front"].astype(np.float32))},
        r"obs/image_front is float32 of shape \(10, 12, 16, 3\); camera frames must be uint8",
    ),
    "ages": ({"ages_s": {"joint_position": np.zeros(3)}}, r"age/joint_position has shape \(3,\); expected \(10,\)"),
    "nan age": (
        {"ages_s": {"joint_position": np.full(10, np.nan)}},
        "age/joint_position has a value that is not finite",
    ),
    "states": ({"states": np.zeros((9, 4))}, r"states has shape \(9, 4\); expected \(10, 4\)"),
}


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_episode_is_refused_by_text(case: str):
    change, sentence = INVALID[case]
    with pytest.raises(DatasetError, match=sentence):
        dataclasses.replace(GOOD, **change)


def test_an_unknown_observation_key_is_refused():
    with pytest.raises(InputError, match="Unknown observation key 'joint_postion'"):
        dataclasses.replace(
            GOOD,
            observations=observed(joint_postion=np.zeros((10, 2))),
            final_observation={**GOOD.final_observation, "joint_postion": np.zeros(2)},
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_episode(tmp_path / "one.hdf5", GOOD)
    return tmp_path / "one.hdf5"


@pytest.mark.parametrize("version", [0, 1, 99])
def test_an_unknown_schema_version_is_refused_by_number(path: Path, version: int):
    seal = read_seal(path)
    write_seal(path, {**seal.facts, "schema_version": version}, seal.block)
    with pytest.raises(DatasetError, match=rf"one\.hdf5: episode schema version {version} is not readable.* version 2"):
        read_episode(path)


@pytest.mark.parametrize(
    "name",
    ["actions", "dones", "rewards", "action/sent", "obs/joint_position", "final_obs/goal_position", "stamps/tick"],
)
def test_an_edited_number_is_noticed_and_can_be_looked_at_all_the_same(path: Path, name: str):
    with h5py.File(path, "r+") as file:
        data = file[GROUP][name]
        data[...] = data[()] + (np.arange(data.size).reshape(data.shape) == data.size - 1).astype(data.dtype)
    with pytest.raises(DatasetError, match=r"one\.hdf5 is damaged: .*Restore it from a copy"):
        read_episode(path)
    assert len(read_episode(path, verify=False)) == 10


def test_edited_metadata_is_noticed(path: Path):
    with h5py.File(path, "r+") as file:
        file[GROUP].attrs["info"] = info(operator="eve").to_json()
    with pytest.raises(DatasetError, match=r"one\.hdf5 is damaged"):
        read_episode(path)


@pytest.mark.parametrize("part", ["action/requested", "obs", "final_obs", "rewards", "stamps", "states"])
def test_a_missing_part_is_refused_with_the_files_name(path: Path, part: str):
    """Also in a file that somebody sealed again."""
    with h5py.File(path, "r+") as file:
        del file[GROUP][part]
    seal = read_seal(path)
    for resealed in (False, True):
        if resealed:
            write_seal(path, seal.facts, seal.block)
        with pytest.raises(DatasetError, match=r"one\.hdf5"):
            read_episode(path)
    with pytest.raises(DatasetError, match=rf"one\.hdf5: /episode/{part}.* is not in the file"):
        read_episode(path)


def test_files_that_are_no_episodes_are_refused(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"Episode file .*none\.hdf5 does not exist"):
        read_episode(tmp_path / "none.hdf5")
    (tmp_path / "text.hdf5").write_text("hello")
    (tmp_path / "empty.hdf5").write_bytes(b"")
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["data"] = 1
    with h5py.File(tmp_path / "array.hdf5", "w") as file:
        file[GROUP] = np.zeros(3)
        file[GROUP].attrs["schema_version"] = 1
        file[GROUP].attrs["info"] = info().to_json()
    for name in ("text", "empty", "other", "array"):
        with pytest.raises(DatasetError, match=rf"{name}\.hdf5"):
            read_episode(tmp_path / f"{name}.hdf5")


@given(share=st.floats(0.0, 0.999))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_cut_short_is_refused(path: Path, share: float):
    raw = path.read_bytes()
    cut = path.with_name("cut.hdf5")
    cut.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(DatasetError, match=r"cut\.hdf5"):
        read_episode(cut)


def test_a_flipped_byte_anywhere_is_refused_before_hdf5_sees_it(path: Path):
    """Behind the seal and in its text every byte counts; the padding between them says nothing.

    One wrong length in the text of an attribute once made HDF5 1.14 go round forever inside its own code.
    """
    raw, whole = path.read_bytes(), read_episode(path)
    rng = np.random.default_rng(0)
    damaged, refused = path.with_name("damaged.hdf5"), 0
    block = read_seal(path).block
    written = len(raw[:block].rstrip(b"\0"))
    offsets = sorted({*range(0, len(raw), 97), *rng.integers(0, len(raw), 300).tolist()})
    for offset in offsets:
        flipped = bytearray(raw)
        flipped[offset] ^= int(rng.choice([0xFF, 0x01, 0x80]))
        damaged.write_bytes(flipped)
        if written <= offset < block:
            assert same(read_episode(damaged), whole), offset
            continue
        with pytest.raises(DatasetError, match=r"damaged\.hdf5"):
            read_episode(damaged)
        refused += 1
    assert refused > 300


def test_flipped_text_of_the_metadata_is_noticed(path: Path):
    raw = path.read_bytes()
    begin = raw.index(b'{"action_spec"')
    for offset in range(begin, begin + len(GOOD.info.to_json()), 7):
        flipped = bytearray(raw)
        flipped[offset] ^= 0x01
        path.write_bytes(flipped)
        with pytest.raises(DatasetError, match=r"one\.hdf5"):
            read_episode(path)
