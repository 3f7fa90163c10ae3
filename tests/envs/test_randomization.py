"""Randomization: samples stay where they were asked to, presets nest, and bad files are refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.envs.randomization import (
    PARAMETERS,
    PRESETS,
    SUITES,
    Distribution,
    Randomization,
    load_randomization,
    suite_randomization,
)
from understudy.errors import InputError

seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("preset", PRESETS)
@given(seed=seeds)
@settings(max_examples=30)
def test_samples_of_a_preset_are_inside_its_bounds_and_physical(preset: str, seed: int):
    randomization = load_randomization(preset)
    sample = randomization.sample(np.random.default_rng(seed))
    assert sample.keys() == PARAMETERS.keys()
    for name, value in sample.items():
        distribution = randomization.distributions[name]
        assert distribution.first <= value <= distribution.second
        assert value > 0 or not PARAMETERS[name].positive
    assert sample == randomization.sample(np.random.default_rng(seed))
    assert sample != randomization.sample(np.random.default_rng(seed + 1))


def test_presets_are_nested_and_contain_the_nominal():
    mild, default, hard = (load_randomization(name).distributions for name in ("mild", "default", "hard"))
    for name, parameter in PARAMETERS.items():
        for inner, outer in ((mild, default), (default, hard)):
            assert outer[name].first <= inner[name].first <= parameter.nominal
            assert parameter.nominal <= inner[name].second <= outer[name].second
            assert outer[name].second - outer[name].first > inner[name].second - inner[name].first


def test_suites_are_no_the_default_and_the_hard_randomization():
    assert suite_randomization("nominal") is None
    assert suite_randomization("randomized").distributions == load_randomization("default").distributions
    assert suite_randomization("unseen").distributions == load_randomization("hard").distributions
    assert SUITES == ("nominal", "randomized", "unseen")
    with pytest.raises(InputError, match=r"Unknown suite 'randomised': did you mean 'randomized'\?"):
        suite_randomization("randomised")


@given(seed=seeds, low=st.floats(0.01, 10), width=st.floats(0, 10))
def test_each_shape_draws_what_it_says(seed: int, low: float, width: float):
    rng = np.random.default_rng(seed)
    for shape in ("uniform", "log_uniform"):
        value = Distribution(shape, low, low + width).sample(rng)
        assert low * (1 - 1e-12) <= value <= (low + width) * (1 + 1e-12)


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
    "object_mas_scale: {uniform: [1, 2]}": r"Unknown parameter .*: did you mean 'object_mass_scale'\?",
    "object_mass_scale: {uniform: [2, 1]}": r"'object_mass_scale': bounds are reversed, 2\.0 is above 1\.0; swap them",
    "object_mass_scale: {uniform: [-1, 1]}": r"'object_mass_scale': the lower bound must be above zero, got -1\.0",
    "object_mass_scale: {uniform: [0, 1]}": r"the lower bound must be above zero, got 0\.0",
    "position_bias_x_m: {log_uniform: [-1, 1]}": r"the lower bound must be above zero",
    "object_mass_scale: {normal: [1, 0.1]}": r"must not become negative; use uniform or log_uniform, not normal",
    "action_delay_s: {normal: [0.02, 0.01]}": r"must not become negative; use uniform or log_uniform, not normal",
    "joint_noise_rad: {normal: [0.0, 0.01]}": r"must not become negative",
    "position_bias_x_m: {normal: [0, -1]}": r"standard deviation must not be negative, got -1\.0",
    "action_delay_s: {uniform: [-0.1, 0.1]}": r"'action_delay_s': must not be negative, got -0\.1",
    "action_delay_s: {uniform: [0, .inf]}": r"bounds must be finite, got 0\.0 and inf",
    "action_delay_s: {uniform: [.nan, 1]}": r"bounds must be finite",
    "action_delay_s: {uniform: [0]}": r"action_delay_s: expected one of uniform, log_uniform, normal with two numbers",
    "action_delay_s: {uniform: [a, b]}": r"with two numbers, got \{'uniform': \['a', 'b'\]\}",
    "action_delay_s: {uniform: [false, true]}": r"with two numbers",
    "action_delay_s: {triangle: [0, 1]}": r"expected one of uniform, log_uniform, normal",
    "action_delay_s: 3": r"expected one of .* got 3",
    "[1, 2]": r"expected a mapping of parameters, got list",
    "a: [": r"not readable as YAML",
    "a: 2026-13-45": r"not readable as YAML",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_file_is_refused_by_name(text: str, tmp_path: Path):
    with pytest.raises(InputError, match=BAD[text]) as caught:
        load(tmp_path, text)
    assert "my.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


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
@settings(max_examples=150)
def test_any_mapping_gives_samples_that_are_numbers_or_an_input_error(tmp_path_factory, data: dict):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(yaml.safe_dump(data))
    try:
        randomization = load_randomization(str(path))
    except InputError:
        return
    sample = randomization.sample(np.random.default_rng(0))
    assert all(np.isfinite(value) for value in sample.values())
