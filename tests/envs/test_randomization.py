"""Randomization: samples stay where they were asked to, presets nest, and bad files are refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.envs.curriculum import Curriculum, CurriculumConfig
from understudy.envs.identification_search import SEARCHED, from_unit
from understudy.envs.parameters import NOMINAL, RANDOMIZABLE
from understudy.envs.randomization import (
    PARAMETERS,
    PRESETS,
    SUITES,
    Choice,
    Distribution,
    Randomization,
    Unseen,
    load_randomization,
    suite_randomization,
)
from understudy.envs.randomization_file import read_distributions, write_distributions
from understudy.errors import InputError

seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("preset", [*PRESETS, "looks", "default+looks"])
@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_samples_of_a_preset_are_inside_its_bounds_and_physical(preset: str, seed: int):
    randomization = load_randomization(preset)
    sample = randomization.sample(np.random.default_rng(seed))
    assert sample.keys() == randomization.distributions.keys()
    for name, value in sample.items():
        low, high = randomization.distributions[name].bounds
        assert low <= value <= high
        assert PARAMETERS[name].allows(value)
    assert sample == randomization.sample(np.random.default_rng(seed))
    assert sample != randomization.sample(np.random.default_rng(seed + 1))


def test_presets_are_nested_and_contain_the_nominal():
    mild, default, hard = (load_randomization(name).distributions for name in ("mild", "default", "hard"))
    assert mild.keys() == default.keys() == hard.keys()
    for name in default:
        parameter = PARAMETERS[name]
        for inner, outer in ((mild, default), (default, hard)):
            assert outer[name].first <= inner[name].first <= parameter.nominal
            assert parameter.nominal <= inner[name].second <= outer[name].second
            assert outer[name].second - outer[name].first > inner[name].second - inner[name].first


ELEVEN = {
    "object_mass_scale": (1.5**-1.5, 1.5**1.5),
    "object_friction_scale": (1 / 1.5, 1.5),
    "finger_friction_scale": (1 / 1.5, 1.5),
    "motor_gain_scale": (1 / 1.4, 1.2),
    "motor_strength_scale": (0.8, 1.1),
    "joint_damping_scale": (1 / 1.5, 1.5),
    "action_delay_s": (0.0, 0.04),
    "position_noise_m": (0.0, 0.003),
    "position_bias_x_m": (-0.006, 0.006),
    "position_bias_y_m": (-0.006, 0.006),
    "joint_noise_rad": (0.0, 0.001),
}


def test_default_has_the_ranges_that_figures_in_the_documents_were_measured_with():
    default = load_randomization("default").distributions
    assert {name: default[name].bounds for name in ELEVEN} == {
        name: pytest.approx(bounds) for name, bounds in ELEVEN.items()
    }


def test_every_parameter_has_a_nominal_value_that_is_legal_and_a_meaning():
    for name, parameter in PARAMETERS.items():
        assert parameter.allows(parameter.nominal), name
        assert parameter.meaning
        unit = {"m": "_m", "s": "_s", "rad": "_rad", "N m": "_nm", "m/s^2": "_m_s2", "rad/s": "_rad_s"}
        assert name.endswith(unit.get(parameter.unit, "")) or "friction" in name, name


def test_looks_change_no_physics_and_physics_no_looks():
    groups = {PARAMETERS[name].group for name in load_randomization("looks").distributions}
    assert groups == {"looks"}
    assert "looks" not in {PARAMETERS[name].group for name in load_randomization("hard").distributions}


def test_sources_are_joined_and_the_last_counts(tmp_path: Path):
    file = tmp_path / "my.yaml"
    file.write_text("gravity_m_s2: {uniform: [1, 2]}")
    joined = load_randomization(f"default+looks+{file}").distributions
    assert joined.keys() == {
        *load_randomization("default").distributions,
        *load_randomization("looks").distributions,
    }
    assert joined["gravity_m_s2"] == Distribution("uniform", 1.0, 2.0)
    assert load_randomization("none+mild").distributions == load_randomization("mild").distributions
    with pytest.raises(InputError, match=r"Unknown randomization 'lokos': did you mean 'looks'\?"):
        load_randomization("default+lokos")


@pytest.mark.parametrize("source", ["curriculum", "curriculum:hard", "default+curriculum"])
def test_a_curriculum_is_said_to_belong_to_finetune(source: str):
    sentence = "A curriculum learns its ranges while a policy trains: it belongs to understudy finetune --randomize"
    with pytest.raises(InputError, match=f"{sentence} curriculum. Here give none, a preset .*, looks, or a YAML file"):
        load_randomization(source)


def test_suites_are_no_the_default_and_what_is_outside_of_it():
    assert suite_randomization("nominal") is None
    assert suite_randomization("randomized").distributions == load_randomization("default").distributions
    unseen = suite_randomization("unseen")
    assert unseen.inner.distributions == load_randomization("default").distributions
    assert unseen.outer.distributions == load_randomization("hard").distributions
    assert SUITES == ("nominal", "randomized", "unseen")
    with pytest.raises(InputError, match=r"Unknown suite 'randomised': did you mean 'randomized'\?"):
        suite_randomization("randomised")


def test_every_unseen_episode_is_one_that_training_cannot_draw_and_stays_inside_hard():
    unseen, rng = suite_randomization("unseen"), np.random.default_rng(0)
    shares = []
    for _ in range(300):
        outside = []
        for name, value in unseen.sample(rng).items():
            (low, high), (least, most) = (r.distributions[name].bounds for r in (unseen.inner, unseen.outer))
            assert least <= value <= most
            outside.append(not low <= value <= high)
        assert any(outside)
        shares.append(np.mean(outside))
    assert np.mean(shares) == pytest.approx(1 / 3, abs=0.03)


def test_an_unseen_suite_needs_an_outer_range_and_always_leaves_a_single_inner_one():
    narrow = Randomization("narrow", {"gravity_m_s2": Distribution("uniform", 9.0, 10.0)})
    wide = Randomization("wide", {"gravity_m_s2": Distribution("uniform", 8.0, 10.0)})
    rng = np.random.default_rng(0)
    assert all(8.0 <= Unseen(narrow, wide).sample(rng)["gravity_m_s2"] <= 9.0 for _ in range(100))
    with pytest.raises(InputError, match="'narrow' reaches nowhere beyond 'wide'"):
        Unseen(wide, narrow)


@given(seed=seeds, low=st.floats(0.01, 10), width=st.floats(0, 10))
def test_each_shape_draws_what_it_says(seed: int, low: float, width: float):
    rng = np.random.default_rng(seed)
    for shape in ("uniform", "log_uniform"):
        value = Distribution(shape, low, low + width).sample(rng)
        assert low * (1 - 1e-12) <= value <= (low + width) * (1 + 1e-12)


def test_a_choice_draws_each_of_its_values():
    rng = np.random.default_rng(0)
    drawn = [Choice((1.0, 2.0, 5.0)).sample(rng) for _ in range(600)]
    assert {value: drawn.count(value) for value in (1.0, 2.0, 5.0)} == dict.fromkeys(
        (1.0, 2.0, 5.0), pytest.approx(200, abs=50)
    )
    assert len(drawn) == 600


def test_shapes_have_their_means():
    rng = np.random.default_rng(0)

    def draw(*distribution: object) -> np.ndarray:
        return np.array([Distribution(*distribution).sample(rng) for _ in range(4000)])

    assert draw("uniform", 1.0, 3.0).mean() == pytest.approx(2.0, abs=0.05)
    assert np.log(draw("log_uniform", 0.1, 10.0)).mean() == pytest.approx(0.0, abs=0.1)
    normal = draw("normal", 0.5, 0.2)
    assert (normal.mean(), normal.std()) == (pytest.approx(0.5, abs=0.02), pytest.approx(0.2, abs=0.02))


def load(tmp_path: Path, text: str) -> Randomization:
    (tmp_path / "my.yaml").write_text(text)
    return load_randomization(str(tmp_path / "my.yaml"))


def test_a_file_says_what_varies(tmp_path: Path):
    ours = load(tmp_path, "object_mass_scale: {uniform: [0.5, 2]}\nposition_bias_x_m: {normal: [0, 0.01]}\n")
    assert ours.distributions == {
        "object_mass_scale": Distribution("uniform", 0.5, 2.0),
        "position_bias_x_m": Distribution("normal", 0.0, 0.01),
    }
    assert set(ours.sample(np.random.default_rng(0))) == set(ours.distributions)


BAD = {
    "object_mas_scale: {uniform: [1, 2]}": r"line 1: Unknown parameter .*: did you mean 'object_mass_scale'\?",
    "noise_seed: {uniform: [1, 2]}": r"line 1: Unknown parameter 'noise_seed'",
    "object_mass_scale: {uniform: [2, 1]}": r"line 1, 'object_mass_scale': bounds are reversed, 2\.0 is above 1\.0",
    "object_mass_scale: {uniform: [-1, 1]}": r"'object_mass_scale': the lower bound must be above zero, got -1\.0",
    "object_mass_scale: {uniform: [0, 1]}": r"the lower bound must be above zero, got 0\.0",
    "# mine\ngravity_m_s2: {uniform: [9, 10]}\nobject_mass_scale: {choice: [1, -2]}": (
        r"line 3, 'object_mass_scale': must be above zero, got -2\.0"
    ),
    "object_restitution: {uniform: [0, 1.5]}": r"the upper bound must be between 0 and 1, got 1\.5 \(bounce",
    "camera_yaw_rad: {normal: [0, 1]}": r"must stay between -1\.5 and 1\.5 rad, also six standard deviations",
    "table_texture: {choice: []}": r"line 1: table_texture: expected one of .* or choice with some.*\{choice: \[0, 3,",
    "table_texture: {choice: [0, 0.5]}": r"line 1, 'table_texture': must be a whole number, got 0\.5 \(texture of",
    "table_texture: {choice: [9]}": r"must be between 0 and 8, got 9\.0 \(texture of .*\); lower it to 8",
    "table_texture: {uniform: [0, 8]}": r"'table_texture': it numbers things.* as in \{choice: \[0, 3, 5\]\}",
    "object_mass_scale: {choice: [.nan]}": r"'object_mass_scale': must be a finite number, got nan",
    "object_mass_scale: {uniform: [1e-4, 1]}": r"the lower bound must be between 0\.01 and 100, .*; raise it to 0\.01",
    "object_mass_scale: {log_uniform: [1, 1e12]}": r"the upper bound must be between 0\.01 and 100, got 1000000000000",
    "joint_damping_scale: {uniform: [1, 1e9]}": r"the upper bound must be between 1e-06 and 100, got 1000000000\.0",
    "position_bias_x_m: {normal: [0, 1e300]}": r"also six standard deviations out, which are -6e\+300 and 6e\+300; use",
    "position_bias_x_m: {log_uniform: [-1, 1]}": r"the lower bound must be above zero",
    "object_mass_scale: {normal: [1, 0.1]}": r"must not become negative; use uniform or log_uniform, not normal",
    "action_delay_s: {normal: [0.02, 0.01]}": r"must not become negative; use uniform or log_uniform, not normal",
    "joint_noise_rad: {normal: [0.0, 0.01]}": r"must not become negative",
    "position_bias_x_m: {normal: [0, -1]}": r"standard deviation must not be negative, got -1\.0",
    "action_delay_s: {uniform: [-0.1, 0.1]}": r"'action_delay_s': the lower bound must not be negative, got -0\.1",
    "action_delay_s: {uniform: [0, .inf]}": r"bounds must be finite, got 0\.0 and inf",
    "action_delay_s: {uniform: [.nan, 1]}": r"bounds must be finite",
    "action_delay_s: {uniform: [0]}": r"action_delay_s: expected one of uniform, log_uniform, normal with two numbers",
    "action_delay_s: {uniform: [a, b]}": r"with two numbers, or choice with some, got .*for example",
    "action_delay_s: {uniform: [false, true]}": r"with two numbers",
    "action_delay_s: {uniform: ['0', '1']}": r"with two numbers",
    "action_delay_s: {uniform: {0: 1}}": r"with two numbers",
    "action_delay_s: {triangle: [0, 1]}": r"expected one of uniform, log_uniform, normal",
    "action_delay_s: 3": r"expected one of .* got 3",
    "action_delay_s: {uniform: [0, 1]}\naction_delay_s: {uniform: [0, 2]}": r"line 2: .* is there already, at line 1",
    "[1, 2]": r"expected a mapping of parameters, got a list",
    "": r"expected a mapping of parameters, got nothing",
    "gravity_m_s2: {uniform: [9, 10]}\na: [": r"line 2: not readable as YAML",
    "a: 2026-13-45": r"line 1: Unknown parameter 'a'",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_file_is_refused_by_name_and_line(text: str, tmp_path: Path):
    with pytest.raises(InputError, match=BAD[text]) as caught:
        load(tmp_path, text)
    assert "my.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_may_be_written_the_way_people_do(tmp_path: Path):
    ours = load(tmp_path, "action_delay_s: {uniform: [1e-3, 2.5e-2]}\ntable_texture: {choice: [0, 4]}\n")
    assert ours.distributions["action_delay_s"] == Distribution("uniform", 0.001, 0.025)
    assert ours.distributions["table_texture"] == Choice((0.0, 4.0))


@given(
    name=st.sampled_from(list(RANDOMIZABLE)),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    shape=st.sampled_from(["uniform", "log_uniform", "choice"]),
)
@settings(deadline=None)
def test_what_is_written_is_read_again_to_the_bit(tmp_path_factory, name: str, shares: list[float], shape: str):
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    parameter = RANDOMIZABLE[name]
    low, high = (min(parameter.high, parameter.low + share * (parameter.high - parameter.low)) for share in shares)
    if parameter.whole:
        one = Choice((float(round(low)), float(round(high))))
    else:
        positive = shape == "choice" or low > 0
        one = Choice((low, high)) if shape == "choice" else Distribution(shape if positive else "uniform", low, high)
    write_distributions(path, {name: one}, {"": "two\nlines", name: "a comment"})
    assert read_distributions(path)[0] == {name: one}
    assert load_randomization(str(path)).distributions == {name: one}
    assert NOMINAL.keys() >= {name}


@pytest.mark.parametrize("name", RANDOMIZABLE)
def test_every_parameter_has_ends_that_are_refused_beyond_with_line_and_remedy(name: str, tmp_path: Path):
    parameter = RANDOMIZABLE[name]
    assert np.isfinite([parameter.low, parameter.high]).all()
    assert parameter.allows(parameter.low)
    assert parameter.allows(parameter.high)
    assert parameter.allows(parameter.nominal)
    load(tmp_path, f"{name}: {{choice: [{parameter.low!r}, {parameter.high!r}]}}")
    beyond = rf"my\.yaml, line 2, '{name}': .*must be between .* got 1000000000000\.0 \(.*\); lower it to "
    with pytest.raises(InputError, match=beyond):
        load(tmp_path, f"# mine\n{name}: {{choice: [1e12]}}")
    with pytest.raises(InputError, match=rf"my\.yaml, line 1, '{name}'.*(of it means nothing|lower it to)"):
        load(tmp_path, f"{name}: {{uniform: [{parameter.low!r}, 1e300]}}")
    with pytest.raises(InputError, match=rf"my\.yaml, line 1, '{name}'.*(negative|means nothing|six standard)"):
        load(tmp_path, f"{name}: {{normal: [{parameter.nominal!r}, 1e300]}}")


@pytest.mark.parametrize("source", [*PRESETS, "looks"])
def test_presets_stay_inside_what_a_file_may_say(source: str, tmp_path: Path):
    preset = load_randomization(source).distributions
    write_distributions(tmp_path / "preset.yaml", preset, {})
    assert load_randomization(str(tmp_path / "preset.yaml")).distributions == preset


@pytest.mark.parametrize("name", SEARCHED)
def test_what_is_fitted_stays_inside_what_a_file_may_say(name: str):
    assert all(RANDOMIZABLE[name].allows(from_unit(name, at)) for at in np.linspace(0.0, 1.0, 1001))


def test_a_curriculum_never_leaves_what_a_file_may_say():
    widest = Curriculum(load_randomization("hard"), CurriculumConfig(boundary_share=1.0, buffer=1))
    rng = np.random.default_rng(0)
    for _ in range(5000):
        assert all(RANDOMIZABLE[name].allows(value) for name, value in widest.sample(rng).items())
        widest.report(True)
    assert widest.width == 1.0


def test_unknown_sources_are_refused():
    with pytest.raises(InputError, match=r"Unknown randomization 'defualt': did you mean 'default'\?"):
        load_randomization("defualt")
    with pytest.raises(InputError, match=r"Randomization file nowhere\.yaml does not exist"):
        load_randomization("nowhere.yaml")
    assert load_randomization("none") is None


names = st.sampled_from([*PARAMETERS, "mass"]) | st.text(max_size=5)
numbers = st.floats() | st.integers() | st.text(max_size=3) | st.none()


@given(
    st.dictionaries(names, st.dictionaries(st.sampled_from(["uniform", "normal", "x"]), st.lists(numbers, max_size=3)))
)
@settings(max_examples=150, deadline=None)
def test_any_mapping_gives_samples_that_are_numbers_or_an_input_error(tmp_path_factory, data: dict):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(yaml.safe_dump(data))
    try:
        randomization = load_randomization(str(path))
    except InputError:
        return
    sample = randomization.sample(np.random.default_rng(0))
    assert all(np.isfinite(value) for value in sample.values())


def test_the_document_lists_every_parameter_with_its_range():
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "randomize.md").read_text()
    default = load_randomization("default").distributions
    for name, parameter in RANDOMIZABLE.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert parameter.meaning in row
        assert f"| {parameter.low:g} to {parameter.high:g}{', whole' * parameter.whole} |" in row
        if name in default:
            low, high = default[name].bounds
            assert f"{low:.3g} to {high:.3g}" in row
