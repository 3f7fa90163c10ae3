"""The one alignment rule: the latest sample at or before the tick, if it is young enough."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.datasets.align import Assembler, latest_at
from understudy.errors import StaleObservation

stamps = st.lists(st.integers(-1000, 1000), max_size=40)


@given(stamps, stamps)
def test_latest_at_is_what_looking_one_by_one_finds(samples: list[int], ticks: list[int]):
    samples = sorted(samples)
    found = latest_at(np.array(samples, np.int64), np.array(ticks, np.int64))
    expected = [max((index for index, stamp in enumerate(samples) if stamp <= tick), default=-1) for tick in ticks]
    assert found.tolist() == expected


def test_latest_at_is_exact_where_floats_would_not_be():
    base = 2**60  # about what a monotonic clock in ns shows after years; a float64 cannot tell its neighbours apart
    assert latest_at(np.array([base, base + 1]), np.array([base - 1, base, base + 1])).tolist() == [-1, 0, 1]


VALUES = {"joint_position": np.array([0.1, 0.2]), "object_position": np.zeros(3)}
KEYS = tuple(VALUES)


def assemble(ages_s: dict[str, float], limits: dict[str, float], values: dict = VALUES, default: float = 0.25):
    tick = 10**12
    made = {key: tick - round(ages_s.get(key, 0.0) * 1e9) for key in values}
    return Assembler(KEYS, limits, default).assemble(values, made, tick)


@given(age=st.floats(-1.0, 2.0), limit=st.floats(0.01, 1.0))
def test_a_sample_is_taken_up_to_its_age_limit_and_refused_beyond(age: float, limit: float):
    rounded = round(age * 1e9) * 1e-9
    if rounded <= limit:
        aligned = assemble({"joint_position": age}, {"joint_position": limit})
        assert aligned.ages_s["joint_position"] == pytest.approx(max(0.0, rounded), abs=1e-12)
        assert aligned.ages_s["object_position"] == 0.0
    else:
        with pytest.raises(StaleObservation, match=rf"'joint_position' is .* s old at the tick; at most {limit:.3f} s"):
            assemble({"joint_position": age}, {"joint_position": limit})


def test_the_default_limit_holds_for_keys_without_their_own():
    assemble({"object_position": 0.25}, {})
    with pytest.raises(StaleObservation, match=r"'object_position' is 0\.260 s old at the tick; at most 0\.250 s"):
        assemble({"object_position": 0.26}, {"joint_position": 9.0})
    assemble({"object_position": 0.26}, {}, default=0.3)


def test_a_key_that_never_came_is_named():
    with pytest.raises(StaleObservation, match="No 'object_position' has been received; check that its source is run"):
        assemble({}, {}, {"joint_position": np.zeros(2)})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad: float):
    with pytest.raises(StaleObservation, match="'joint_position' has a value that is not finite"):
        assemble({}, {}, VALUES | {"joint_position": np.array([0.0, bad])})
    with pytest.raises(StaleObservation, match="'joint_position' has a value that is not finite"):
        assemble({}, {}, VALUES | {"joint_position": np.array([0.0, 1e300])})  # too large for what is stored


def test_values_are_float32_copies_images_as_they_are_and_other_keys_left_out():
    image = np.zeros((4, 5, 3), np.uint8)
    values = VALUES | {"image_front": image, "goal_position": np.zeros(3)}
    aligned = Assembler((*KEYS, "image_front"), {}).assemble(values, dict.fromkeys(values, 5), 5)
    assert tuple(aligned.values) == (*KEYS, "image_front")
    assert aligned.values["image_front"].dtype == np.uint8
    assert aligned.values["joint_position"].dtype == np.float32
    assert aligned.tick_ns == 5
    kept = VALUES["joint_position"].copy()
    aligned.values["joint_position"][:] = 7
    assert np.array_equal(VALUES["joint_position"], kept)


def test_a_float32_observation_is_copied_too():
    """An arm may reuse its buffers: what was observed must not change afterwards."""
    buffer = np.zeros(2, np.float32)
    aligned = assemble({}, {}, VALUES | {"joint_position": buffer})
    buffer[:] = 9
    assert aligned.values["joint_position"].tolist() == [0, 0]
