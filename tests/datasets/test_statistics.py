"""Wilson's interval against values computed elsewhere, and its laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.datasets.statistics import percent, percent_interval, wilson_interval
from understudy.errors import InputError


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # scipy.stats.binomtest(x, n).proportion_ci(method='wilson')
        (8, 10, 0.4901625, 0.9433178),
        (0, 10, 0.0, 0.2775328),
        (50, 50, 0.9286524, 1.0),
        (1, 2, 0.0945312, 0.9054688),
    ],
)
def test_known_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-6)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_laws(counts: tuple[int, int]) -> None:
    successes, trials = counts
    low, high = wilson_interval(successes, trials)
    assert 0.0 <= low <= successes / trials <= high <= 1.0
    mirrored = wilson_interval(trials - successes, trials)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-12)
    narrower = wilson_interval(successes, trials, 0.5)
    assert low <= narrower[0] <= narrower[1] <= high


def test_nothing_is_known_of_no_trials() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("counts", [(3, 2), (-1, 2), (0, -1)])
def test_impossible_counts(counts: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="expected 0 <= successes <= trials"):
        wilson_interval(*counts)


@pytest.mark.parametrize(("rate", "text"), [(0.8389, "83.8%"), (0.9999, "99.9%"), (0.29, "29.0%"), (1.0, "100.0%")])
def test_a_rate_is_cut_off(rate: float, text: str) -> None:
    assert percent(rate) == text


def test_an_interval_is_widened_to_its_decimals() -> None:
    assert percent_interval(0.83887, 0.94471) == "83.8% to 94.5%"
    assert percent_interval(0.0, 1.0) == "0.0% to 100.0%"
