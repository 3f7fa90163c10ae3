"""What every import owes: keys that are ours or marked, bounds that hold the data, stamps that increase."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from understudy.datasets.convert.incoming import (
    FASTEST_HZ,
    SLOWEST_HZ,
    Bounds,
    as_observation,
    foreign_keys,
    is_rounded,
    made_ticks,
    parse_json,
    read_json,
    require_plain_file,
)
from understudy.datasets.schema import key_unit
from understudy.errors import DatasetError

_NUMBERS = st.floats(-1e6, 1e6)
_ACTIONS = st.tuples(st.integers(1, 6), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=_NUMBERS)
)


@given(actions=_ACTIONS)
def test_bounds_hold_the_data_and_normalising_loses_none_of_it(actions: np.ndarray) -> None:
    bounds = Bounds(actions.shape[1])
    for row in actions:
        bounds.include(row[None])
    spec = bounds.spec("other", ["a"] * actions.shape[1], ["?"] * actions.shape[1])
    low, high = np.array(spec.low), np.array(spec.high)
    assert np.all((actions >= low) & (actions <= high))
    back = spec.denormalise(spec.normalise(actions))
    assert np.all(np.abs(back - actions) <= 1e-6 * (high - low))


@given(actions=_ACTIONS)
def test_declared_bounds_are_kept_where_they_hold_the_data(actions: np.ndarray) -> None:
    width = actions.shape[1]
    bounds = Bounds(width, np.full(width, -2e6), np.full(width, 2e6))
    bounds.include(actions)
    assert not bounds.widened
    assert set(bounds.spec("other", ["a"] * width, ["?"] * width).low) == {-2e6}
    narrow = Bounds(width, np.full(width, -1e-9), np.full(width, 1e-9))
    narrow.include(actions)
    assert narrow.widened == bool(np.any(np.abs(actions) > 1e-9))


def test_bounds_that_no_arm_means_are_refused() -> None:
    bounds = Bounds(1)
    bounds.include(np.array([[-1.7e308], [1.7e308]]))
    with np.errstate(over="ignore"), pytest.raises(DatasetError, match="which no arm means"):
        bounds.spec("other", ["a"], ["?"])


@given(names=st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=5))
def test_every_foreign_name_becomes_a_word_of_ours_or_is_refused_by_name(names: list[str]) -> None:
    try:
        keys = foreign_keys(names, {}, {})
    except DatasetError as error:
        assert "would both become" in str(error)  # noqa: PT017
        return
    assert set(keys) == set(names)
    assert len(set(keys.values())) == len(names)
    for key in keys.values():
        assert key_unit(key) == "as imported"
        assert "/" not in key
        assert key.isascii()


@given(steps=st.integers(1, 300), rate_hz=st.floats(SLOWEST_HZ, FASTEST_HZ))
def test_made_stamps_increase_evenly(steps: int, rate_hz: float) -> None:
    ticks = made_ticks(steps, rate_hz)
    assert ticks[0] == 0
    assert np.all(np.abs(np.diff(ticks) - 1e9 / rate_hz) <= 1.5)
    assert np.all(np.diff(ticks) > 0)


@given(
    values=st.sampled_from(["bool", "i1", "u1", "i2", "u2", "f2", "f4"]).flatmap(
        lambda kind: arrays(kind, st.integers(1, 9))
    )
)
def test_types_that_are_called_exact_survive(values: np.ndarray) -> None:
    assert not is_rounded(values.dtype)
    kept = as_observation("other_x", values)
    assert kept.dtype == np.float32
    assert np.array_equal(kept.astype(values.dtype), values, equal_nan=values.dtype.kind == "f")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "a JSON list"),
        ("{", "not readable JSON"),
        ("[" * 100_000, "not readable JSON"),
        ('{"a": 1' + "0" * 9999 + "}", "not readable JSON"),
    ],
)
def test_bad_json_is_refused_by_the_name_of_its_place(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"env_args is .*{said}"):
        parse_json(text, "env_args")
    (tmp_path / "metadata.json").write_text(text)
    with pytest.raises(DatasetError, match=r"metadata\.json"):
        read_json(tmp_path / "metadata.json")


def test_a_folder_where_a_file_is_expected_is_called_a_folder(tmp_path: Path) -> None:
    """Incident: the folder that was given "does not exist"."""
    with pytest.raises(DatasetError, match="is a folder; expected a file"):
        require_plain_file(tmp_path)
    with pytest.raises(DatasetError, match="does not exist; expected a file"):
        require_plain_file(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DatasetError, match="is no plain file; expected a file"):
        require_plain_file(tmp_path / "pipe")
