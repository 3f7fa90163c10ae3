"""Automatic domain randomization, on success functions whose right ranges are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.envs.curriculum import Curriculum, CurriculumConfig, load_randomizer
from understudy.envs.make import make_env
from understudy.envs.parameters import PARAMETERS
from understudy.envs.randomization import Choice, Distribution, Randomization, load_randomization
from understudy.errors import InputError

OUTER = Randomization(
    "outer",
    {
        "gravity_m_s2": Distribution("uniform", 0.0, 19.62),
        "object_mass_scale": Distribution("log_uniform", 0.1, 10.0),
        "action_delay_s": Distribution("uniform", 0.0, 0.2),
    },
)
Rule = Callable[[Mapping[str, float]], float]
"""A sample's chance of success."""


def train(curriculum: Curriculum, rule: Rule, episodes: int, seed: int = 0) -> Curriculum:
    rng = np.random.default_rng(seed)
    for _ in range(episodes):
        sample = curriculum.sample(rng)
        curriculum.report(bool(rng.random() < rule(sample)))
    return curriculum


def test_it_starts_at_nominal_and_reaches_all_where_everything_succeeds():
    curriculum = Curriculum(OUTER)
    assert curriculum.width == 0.0
    assert curriculum.sample(np.random.default_rng(0)) == {
        name: PARAMETERS[name].nominal for name in OUTER.distributions
    }
    train(curriculum, lambda sample: 1.0, 4000)
    assert curriculum.width == pytest.approx(1.0)
    assert curriculum.ranges == {name: one.bounds for name, one in OUTER.distributions.items()}


def test_it_stays_at_nominal_where_nothing_succeeds():
    curriculum = train(Curriculum(OUTER), lambda sample: 0.0, 2000)
    assert curriculum.width == 0.0
    assert all(low == high == PARAMETERS[name].nominal for name, (low, high) in curriculum.ranges.items())


def test_each_boundary_stops_where_success_does():
    """Gravity up to 13, masses from 0.5 on, any delay: what lies inside is all won, beyond all lost."""

    def rule(sample: Mapping[str, float]) -> float:
        return float(sample["gravity_m_s2"] < 13.0 and sample["object_mass_scale"] > 0.5)

    curriculum = train(Curriculum(OUTER), rule, 12_000)
    ranges, step = curriculum.ranges, curriculum.config.step
    low, high = ranges["gravity_m_s2"]
    assert low == 0.0
    assert abs(high - 13.0) <= step * 9.81 + 1e-9
    low, high = ranges["object_mass_scale"]
    assert abs(np.log(low / 0.5)) <= step * np.log(10) + 1e-9
    assert high == pytest.approx(10.0)
    assert ranges["action_delay_s"] == (0.0, 0.2)


def test_it_narrows_when_success_falls():
    curriculum = train(Curriculum(OUTER), lambda sample: 1.0, 4000)
    wide = curriculum.width
    train(curriculum, lambda sample: 0.0, 4000, seed=1)
    assert curriculum.width < 0.1 < wide


def test_between_the_thresholds_nothing_moves():
    config = CurriculumConfig(buffer=400, lower_threshold=0.3, upper_threshold=0.8)
    curriculum = train(Curriculum(OUTER, config), lambda sample: 1.0, 9000)
    before = curriculum.ranges
    assert curriculum.width > 0.0
    train(curriculum, lambda sample: 0.55, 9000, seed=2)
    assert curriculum.ranges == before


def test_half_of_the_episodes_test_a_boundary_each_as_often():
    curriculum = Curriculum(OUTER, CurriculumConfig(buffer=1))
    train(curriculum, lambda sample: 1.0, 2000)
    rng, hits = np.random.default_rng(3), dict.fromkeys(range(5), 0)
    ends = [0.0, 19.62, 0.1, 10.0, 0.2]
    for _ in range(3000):
        sample = list(curriculum.sample(rng).values())
        for index, value in enumerate([sample[0], sample[0], sample[1], sample[1], sample[2]]):
            hits[index] += value == ends[index]
    assert sum(hits.values()) / 3000 == pytest.approx(0.5, abs=0.04)
    assert min(hits.values()) > 0.7 * max(hits.values())


@given(seed=st.integers(0, 10_000), rate=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_samples_never_leave_the_ranges_nor_ranges_the_outer_ones(seed: int, rate: float):
    curriculum, rng = Curriculum(OUTER, CurriculumConfig(buffer=2, step=0.3)), np.random.default_rng(seed)
    for _ in range(200):
        ranges = curriculum.ranges
        for name, value in curriculum.sample(rng).items():
            low, high = ranges[name]
            least, most = OUTER.distributions[name].bounds
            assert least <= low <= value * (1 + 1e-12)
            assert value * (1 - 1e-12) <= high <= most
        curriculum.report(bool(rng.random() < rate))


def test_the_same_seed_gives_the_same_curriculum_and_a_state_goes_on_from_there():
    def rule(sample: Mapping[str, float]) -> float:
        return 0.9 if sample["gravity_m_s2"] < 12 else 0.2

    one, other = (train(Curriculum(OUTER), rule, 3000) for _ in range(2))
    assert one.state() == other.state()
    copy = Curriculum(OUTER)
    copy.restore(json.dumps(json.loads(one.state())))
    assert copy.ranges == one.ranges
    assert train(copy, rule, 500, seed=9).state() == train(one, rule, 500, seed=9).state()


def test_an_episode_without_a_report_counts_for_nothing():
    curriculum, rng = Curriculum(OUTER, CurriculumConfig(buffer=1, boundary_share=1.0)), np.random.default_rng(0)
    for _ in range(50):
        curriculum.sample(rng)
    curriculum.sample(rng)
    curriculum.report(True)
    curriculum.report(True)  # twice: the second is of no episode
    assert sum(value > 0 for name, value in curriculum.metrics().items() if name != "curriculum/width") == 1


def test_environments_share_ranges_and_not_the_episode_in_hand():
    """One instance for two environments once credited each with the other's boundary."""
    config = CurriculumConfig(buffer=1, boundary_share=1.0)
    whole = Curriculum(OUTER, config)
    part, rng = whole.share(), np.random.default_rng(0)
    whole.sample(rng)
    part.sample(rng)
    part.report(False)
    assert whole.width == part.width == 0.0
    whole.report(True)
    assert whole.width == part.width > 0.0


def test_what_cannot_be_widened_is_refused():
    with pytest.raises(InputError, match="'table_texture' of 'x' must be uniform or log_uniform"):
        Curriculum(Randomization("x", {"table_texture": Choice((0.0, 1.0))}))
    with pytest.raises(InputError, match=r"'gravity_m_s2' of 'x' is 9\.81, outside of 1 to 2; widen"):
        Curriculum(Randomization("x", {"gravity_m_s2": Distribution("uniform", 1.0, 2.0)}))
    with pytest.raises(InputError, match=r"other parameters than 'outer': \['object_mass_scale.high'"):
        Curriculum(OUTER).restore('{"boundaries": {"object_mass_scale.low": [0, 0, 0], "gravity_m_s2.low": [0, 0, 0], '
                                  '"gravity_m_s2.high": [0, 0, 0], "action_delay_s.high": [0, 0, 0]}}')  # fmt: skip
    with pytest.raises(InputError, match="no state of a curriculum"):
        Curriculum(OUTER).restore("[]")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lower_threshold": 0.8}, "the lower one first, got 0.8 and 0.7"),
        ({"buffer": 0}, "buffer must be at least 1"),
        ({"step": 0.0}, "step must be above 0"),
        ({"boundary_share": float("nan")}, "boundary_share must be above 0"),
    ],
)
def test_settings_are_checked(options: dict[str, float], words: str):
    with pytest.raises(InputError, match=words):
        CurriculumConfig(**options)


def test_it_is_asked_for_by_name():
    assert load_randomizer("curriculum").outer.distributions == load_randomization("hard").distributions
    assert load_randomizer("curriculum:mild").outer.name == "mild"
    assert load_randomizer("none") is None
    assert load_randomizer("default").name == "default"
    with pytest.raises(InputError, match="needs outer ranges"):
        load_randomizer("curriculum:none")
    with pytest.raises(InputError, match="did you mean 'default'"):
        load_randomizer("curriculum:defualt")


def test_an_environment_samples_and_reports():
    curriculum = Curriculum(OUTER, CurriculumConfig(buffer=1, boundary_share=1.0))
    env = make_env("reach", randomization=curriculum)
    for seed in range(3):
        _, info = env.reset(seed=seed)
        assert OUTER.distributions.keys() < info["start"].physics.keys()
        done = False
        while not done:
            tool, goal = (env.aligned.values[key] for key in ("tool_position", "goal_position"))
            *_, terminated, truncated, _ = env.step_units((goal - tool).astype(np.float64).clip(-0.02, 0.02))
            done = terminated or truncated
    env.close()
    assert sum(value > 0 for name, value in curriculum.metrics().items() if name != "curriculum/width") >= 1
