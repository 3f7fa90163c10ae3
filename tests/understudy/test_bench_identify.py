"""`understudy bench identify`: the hidden arm lies outside of what training sees anyway, and fitting to it pays."""

from __future__ import annotations

import pytest

pytest.importorskip("cma")

from understudy.benchmarks.identification import DEFAULT, FITTED, HIDDEN, IdentificationBench
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


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_policy_fine_tuned_in_the_fitted_ranges_does_better_on_the_hidden_arm() -> None:
    tables = IdentificationBench(recordings=6, evaluations=80, episodes=50).run()
    rows = {str(row["policy"]): row for row in tables["on the hidden arm"]}
    successes = {name: int(row["successes"].split()[0]) for name, row in rows.items()}
    assert successes[FITTED] > successes[DEFAULT]
    assert float(rows[FITTED]["p"]) < 0.01  # McNemar's, on matched seeds
    for row in tables["fit"]:
        low, high = map(float, row["95% interval"].split(" to "))
        assert low <= row["hidden"] <= high or row["told"] == "no", row
