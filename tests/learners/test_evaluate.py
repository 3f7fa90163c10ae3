"""Evaluation: the same seeds give the same outcomes, wherever they run; and paired comparisons."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from learners_support import ExpertPolicy

from understudy.datasets.statistics import wilson_interval
from understudy.envs.randomization import Choice, Randomization, load_randomization
from understudy.errors import InputError
from understudy.learners.comparison import compare, mcnemar_exact
from understudy.learners.evaluate import Evaluation, Outcome, Setting, evaluate, run_episodes, run_settings


def made_up(successes: list[bool], seed: int = 0, suite: str = "nominal") -> Evaluation:
    outcomes = tuple(Outcome(seed + i, success, 10 + i, float(success)) for i, success in enumerate(successes))
    return Evaluation("lift", "panda", suite, seed, outcomes)


@pytest.fixture(scope="module")
def expert() -> Evaluation:
    return evaluate(ExpertPolicy(), "reach", "panda", "randomized", episodes=6, seed=42)


def test_the_expert_succeeds_and_its_opposite_fails(expert: Evaluation) -> None:
    assert expert.successes == 6
    done: list[int] = []
    worst = evaluate(ExpertPolicy(failing=True), "reach", "panda", episodes=2, progress=done.append)
    assert (worst.successes, worst.mean_steps) == (0, 50.0)
    assert done == [1, 2]


def test_no_worker_is_refused() -> None:
    with pytest.raises(InputError, match="needs at least 1 worker process, got 0"):
        run_settings(ExpertPolicy(), [Setting("reach", "panda", None)], range(2), workers=0)


def test_outcomes_do_not_depend_on_workers(expert: Evaluation) -> None:
    again = evaluate(ExpertPolicy(), "reach", "panda", "randomized", episodes=6, seed=42, workers=2)
    assert again == expert


def test_an_outcome_depends_on_its_seed_alone(expert: Evaluation) -> None:
    later = evaluate(ExpertPolicy(), "reach", "panda", "randomized", episodes=2, seed=46)
    assert later.outcomes == expert.outcomes[4:]
    assert len({outcome.return_ for outcome in expert.outcomes}) == 6


def test_settings_run_together_give_what_each_gives_alone() -> None:
    sources: list[Randomization | None] = [None, load_randomization("hard")]
    sources.append(Randomization("slow", {"motor_gain_scale": Choice((0.3,))}))
    settings = [Setting("reach", "panda", randomization) for randomization in sources]
    alone = [run_episodes(ExpertPolicy(), setting, range(42, 45)) for setting in settings]
    assert len(set(alone)) == len(settings)
    told: list[int] = []
    for workers in (1, 2):
        assert run_settings(ExpertPolicy(), settings, range(42, 45), workers=workers, progress=told.append) == alone
    assert told == [*range(1, 10), *range(1, 10)]
    with pytest.raises(InputError, match="must be of one task on one robot"):
        run_settings(ExpertPolicy(), [Setting("reach", "panda"), Setting("push", "panda")], range(2))


def test_physics_differ_between_suites(expert: Evaluation) -> None:
    nominal = evaluate(ExpertPolicy(), "reach", "panda", "nominal", episodes=1, seed=42)
    assert nominal.outcomes[0].return_ != expert.outcomes[0].return_


def test_an_evaluation_counts_and_survives_json() -> None:
    result = made_up([True] * 9 + [False])
    assert (result.successes, result.episodes, result.rate, result.mean_steps) == (9, 10, 0.9, 14.5)
    assert result.interval == wilson_interval(9, 10)
    written = json.loads(json.dumps(result.as_dict()))
    assert (written["successes"], written["low"]) == (9, result.interval[0])
    assert Evaluation.from_dict(written) == result


@pytest.mark.parametrize(
    ("first_only", "second_only", "expected"),
    [(0, 0, 1.0), (5, 5, 1.0), (1, 9, 22 / 1024), (0, 5, 2 / 32), (10, 2, 2 * 79 / 4096)],
)
def test_mcnemar_gives_the_binomial_values(first_only: int, second_only: int, expected: float) -> None:
    assert mcnemar_exact(first_only, second_only) == pytest.approx(expected)
    assert mcnemar_exact(second_only, first_only) == mcnemar_exact(first_only, second_only)


def test_policies_are_compared_seed_by_seed() -> None:
    first = made_up([True, True, False, False] * 10)
    second = made_up([True, False, True, True] * 10)
    found = compare(first, second)
    assert (found.both, found.first_only, found.second_only, found.neither) == (10, 10, 20, 0)
    assert found.difference == pytest.approx(0.25)
    assert found.low < 0.25 < found.high
    assert found.p_value == pytest.approx(mcnemar_exact(10, 20))
    assert compare(first, second) == found
    same = compare(first, first)
    assert (same.difference, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_evaluations_that_do_not_match_are_refused() -> None:
    for other in (made_up([True], seed=1), made_up([True, True]), made_up([True], suite="unseen")):
        with pytest.raises(InputError, match="do not match"):
            compare(made_up([True]), other)


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="Unknown suite 'nominall': did you mean 'nominal'"):
        evaluate(ExpertPolicy(), "reach", "panda", "nominall")
    with pytest.raises(InputError, match="at least 1 episode"):
        evaluate(ExpertPolicy(), "reach", "panda", episodes=0)
    with pytest.raises(InputError, match="at least one episode"):
        made_up([])


def test_evaluating_needs_no_torch() -> None:
    code = "import sys, understudy.learners.evaluate, understudy.learners.runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
