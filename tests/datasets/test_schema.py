"""The words of a dataset: action specs and episode metadata say what they mean and refuse what they cannot."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from datasets_builders import SPEC, info
from hypothesis import given
from hypothesis import strategies as st

from understudy.datasets.schema import KEY_UNITS, ActionSpec, EpisodeInfo, is_image, key_unit
from understudy.errors import DatasetError, InputError

bounds = st.tuples(st.floats(-100, 99), st.floats(0.01, 100)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@st.composite
def specs(draw: st.DrawFn) -> ActionSpec:
    pairs = draw(st.lists(bounds, min_size=1, max_size=8))
    labels = tuple(f"a{index}" for index in range(len(pairs)))
    low, high = zip(*pairs, strict=True)
    return ActionSpec("joint_delta", labels, ("rad",) * len(pairs), tuple(low), tuple(high))


@given(specs(), st.integers(0, 2**32 - 1))
def test_normalising_maps_bounds_to_one_and_is_undone(spec: ActionSpec, seed: int):
    low, high = np.array(spec.low), np.array(spec.high)
    assert spec.normalise(np.stack([low, high, (low + high) / 2])) == pytest.approx(
        np.array([[-1.0], [1.0], [0.0]]) * np.ones(spec.size), abs=1e-6
    )
    units = np.random.default_rng(seed).uniform(low, high, (4, spec.size))
    assert np.all(np.abs(spec.denormalise(spec.normalise(units)) - units) <= 1e-6 * (high - low))
    outside = spec.normalise(np.stack([low - 1.0, high + 1.0]))
    assert np.array_equal(outside, np.array([[-1.0], [1.0]]) * np.ones(spec.size))
    assert outside.dtype == np.float32
    assert spec.denormalise(np.full(spec.size, 7.0)) == pytest.approx(high)
    assert spec.size == len(spec.labels)


@given(specs())
def test_a_spec_survives_json(spec: ActionSpec):
    assert ActionSpec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": ("a",)}, "one equal, non-zero length, got 1, 2, 2 and 2"),
        ({"labels": (), "units": (), "low": (), "high": ()}, "non-zero length, got 0, 0, 0 and 0"),
        ({"low": (-0.1, 0.1)}, r"bounds of 'b' are \[0\.1, 0\.1\]; expected finite low < high"),
        ({"high": (float("inf"), 0.1)}, r"bounds of 'a' are \[-0\.1, inf\]"),
        ({"low": (float("nan"), -0.1)}, r"bounds of 'a' are \[nan, 0\.1\]"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(change: dict, sentence: str):
    with pytest.raises(InputError, match=sentence):
        dataclasses.replace(SPEC, **change)


@pytest.mark.parametrize("field", ["name", "labels", "units", "low", "high"])
def test_a_spec_read_without_a_field_names_it(field: str):
    data = SPEC.as_dict()
    del data[field]
    with pytest.raises(InputError, match=f"Action spec cannot be read: KeyError.'{field}'"):
        ActionSpec.from_dict(data)


@given(
    st.builds(
        info,
        robot=st.text(),
        note=st.text(),
        success=st.sampled_from([True, False, None]),
        seed=st.none() | st.integers(),
        rate_hz=st.floats(0.1, 1000),
        randomization=st.dictionaries(st.text(), st.floats(allow_nan=False)),
        start=st.dictionaries(st.text(), st.tuples(st.floats(allow_nan=False, allow_infinity=False))),
        actions=st.sampled_from(["requested", "sent", "measured"]),
    )
)
def test_metadata_survives_json(whole: EpisodeInfo):
    assert EpisodeInfo.from_json(whole.to_json()) == whole


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"actions": "asked"}, r"Unknown action channel 'asked'.*measured, requested, sent"),
        ({"rate_hz": 0.0}, "Episode rate must be a positive number of Hz, got 0.0"),
        ({"rate_hz": float("nan")}, "positive number of Hz, got nan"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused(change: dict, sentence: str):
    with pytest.raises(InputError, match=sentence):
        info(**change)


@given(st.text(max_size=30) | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_any_other_text_is_refused_as_metadata(text: str):
    with pytest.raises(DatasetError, match="Episode metadata cannot be read"):
        EpisodeInfo.from_json(text)


@given(st.sampled_from(sorted(json.loads(info().to_json()))), st.none() | st.integers() | st.lists(st.integers()))
def test_one_wrong_field_gives_metadata_or_a_dataset_error(field: str, value: object):
    data = json.loads(info().to_json())
    data[field] = value
    try:
        EpisodeInfo.from_json(json.dumps(data))
    except DatasetError as error:
        assert "Episode metadata cannot be read" in str(error)  # noqa: PT017 - either outcome is right


def test_unknown_fields_are_named():
    data = json.loads(info().to_json()) | {"colour": "red"}
    with pytest.raises(DatasetError, match="unexpected keyword argument 'colour'"):
        EpisodeInfo.from_json(json.dumps(data))


def test_keys_have_units():
    assert key_unit("joint_position") == "rad"
    assert key_unit("object_position") == key_unit("goal_position") == "m, base frame"
    assert key_unit("object_quaternion") == "xyzw, base frame"
    assert key_unit("object_opening") == "m (how far open)"
    assert key_unit("image_wrist").startswith("uint8")
    assert is_image("image_front")
    assert not any(map(is_image, KEY_UNITS))
    for wrong in ("joint_postion", "object_mass", "observation"):
        with pytest.raises(InputError, match=f"Unknown observation key '{wrong}'"):
            key_unit(wrong)


def test_numbers_of_numpy_become_plain_ones() -> None:
    """They passed, and could not be written as JSON afterwards."""
    plain = info(seed=np.int64(3), rate_hz=np.float64(20.0), randomization={"mass": np.float32(0.5)})
    assert EpisodeInfo.from_json(plain.to_json()) == plain
    assert type(plain.seed) is int


@pytest.mark.parametrize(
    "change",
    [
        {"success": 1},
        {"seed": True},
        {"seed": 1.5},
        {"note": ["a"]},
        {"note": "\ud800"},
        {"rate_hz": "20"},
        {"rate_hz": True},
        {"randomization": {"mass": "heavy"}},
        {"randomization": [1]},
        {"randomization": {"mass": 10**400}},
        {"start": {"joint_position": 1.0}},
        {"start": {"joint_position": [float("nan")]}},
        {"start": {"joint_position": ["left"]}},
        {"start": [1]},
    ],
)
def test_metadata_of_another_type_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="Episode"):
        info(**change)


@pytest.mark.parametrize("key", ["object_a/b_position", "other_x/y", "other_a\0b"])
def test_a_key_that_hdf5_would_take_apart_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="contains '/' or a null character"):
        key_unit(key)
