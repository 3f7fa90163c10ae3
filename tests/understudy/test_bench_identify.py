"""`understudy bench identify`: the hidden arm lies outside of what training sees anyway."""

from __future__ import annotations

import pytest

pytest.importorskip("cma")

from understudy.benchmarks.identification import HIDDEN, IdentificationBench
from understudy.envs.identification_search import SEARCHED
from understudy.envs.randomization import load_randomization
from understudy.errors import InputError


def test_the_hidden_arm_is_outside_of_the_default_ranges_and_inside_those_searched() -> None:
    default = load_randomization("default")
    assert default is not None
    for name, value in HIDDEN.items():
        low, high = default.distributions[name].bounds
        assert not low <= value <= high, name
        low, high = SEARCHED[name]
        assert low < value < high, name


def test_too_few_recordings_are_refused() -> None:
    with pytest.raises(InputError, match="needs counts of at least 1, and 3 recordings"):
        IdentificationBench(recordings=2)
