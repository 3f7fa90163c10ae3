"""Domain randomization: which physical parameters vary from episode to episode, and how much.

A sample is a flat `name -> number` record, drawn from a generator, stored with the episode, and applied by the
simulated arm at reset. Parameters are listed in `PARAMETERS`; a name outside it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from understudy.errors import InputError, unknown_name


@dataclass(frozen=True)
class Parameter:
    """A physical parameter that can be randomized."""

    nominal: float
    positive: bool
    """Whether zero and below make no sense."""
    meaning: str


PARAMETERS: Mapping[str, Parameter] = {
    "object_mass_scale": Parameter(1.0, True, "mass of every object, times its nominal one"),
    "object_friction_scale": Parameter(1.0, True, "lateral friction of every object, times its nominal one"),
    "finger_friction_scale": Parameter(1.0, True, "lateral friction of the fingers, times the nominal one"),
    "motor_gain_scale": Parameter(1.0, True, "position gain of the joint motors, times the nominal one"),
    "motor_strength_scale": Parameter(1.0, True, "effort limit of the joint motors, times the robot's"),
    "joint_damping_scale": Parameter(1.0, True, "damping of the joints, times the nominal one"),
    "action_delay_s": Parameter(0.0, False, "time between sending a command and the arm acting on it, s"),
    "position_noise_m": Parameter(0.0, False, "standard deviation of object position readings, m"),
    "position_bias_x_m": Parameter(0.0, False, "constant error of object position readings along x, m"),
    "position_bias_y_m": Parameter(0.0, False, "constant error of object position readings along y, m"),
    "joint_noise_rad": Parameter(0.0, False, "standard deviation of joint position readings, rad"),
}

Shape = Literal["uniform", "log_uniform", "normal"]


@dataclass(frozen=True)
class Distribution:
    """How one parameter is drawn: between two numbers, or normal with mean and standard deviation."""

    shape: Shape
    first: float
    second: float

    def sample(self, rng: np.random.Generator) -> float:
        """One draw."""
        if self.shape == "uniform":
            return float(rng.uniform(self.first, self.second))
        if self.shape == "log_uniform":
            return float(np.exp(rng.uniform(np.log(self.first), np.log(self.second))))
        return float(rng.normal(self.first, self.second))


class Randomization:
    """A checked set of distributions over `PARAMETERS`."""

    def __init__(self, name: str, distributions: Mapping[str, Distribution]) -> None:
        """Raises:
        InputError: an unknown parameter, reversed bounds, or a range that leaves what is physical.
        """
        self.name = name
        self.distributions = dict(distributions)
        for parameter, distribution in self.distributions.items():
            _check(name, parameter, distribution)

    def sample(self, rng: np.random.Generator) -> dict[str, float]:
        """Draw every listed parameter."""
        return {name: distribution.sample(rng) for name, distribution in self.distributions.items()}


def _check(name: str, parameter: str, distribution: Distribution) -> None:
    where = f"Randomization {name!r}, {parameter!r}"
    if parameter not in PARAMETERS:
        raise InputError(f"Randomization {name!r}: {unknown_name('parameter', parameter, PARAMETERS)}")
    first, second = distribution.first, distribution.second
    if not (np.isfinite(first) and np.isfinite(second)):
        raise InputError(f"{where}: bounds must be finite, got {first} and {second}.")
    if distribution.shape == "normal":
        if second < 0:
            raise InputError(f"{where}: standard deviation must not be negative, got {second}.")
        if PARAMETERS[parameter].positive or _counts_from_zero(parameter):
            raise InputError(f"{where}: must not become negative; use uniform or log_uniform, not normal.")
        return
    if first > second:
        raise InputError(f"{where}: bounds are reversed, {first} is above {second}; swap them.")
    if first <= 0 and (PARAMETERS[parameter].positive or distribution.shape == "log_uniform"):
        raise InputError(f"{where}: the lower bound must be above zero, got {first}.")
    if _counts_from_zero(parameter) and first < 0:
        raise InputError(f"{where}: must not be negative, got {first}.")


def _counts_from_zero(parameter: str) -> bool:
    """Whether a parameter may be zero and never negative: delays and standard deviations."""
    return parameter.endswith(("_delay_s", "_noise_m", "_noise_rad"))


def _preset(name: str, width: float) -> Randomization:
    """Ranges that grow with `width`: 1 is `default`."""
    spread = 1.0 + 0.5 * width
    return Randomization(
        name,
        {
            "object_mass_scale": Distribution("log_uniform", 1.0 / spread**1.5, spread**1.5),
            "object_friction_scale": Distribution("log_uniform", 1.0 / spread, spread),
            "finger_friction_scale": Distribution("log_uniform", 1.0 / spread, spread),
            "motor_gain_scale": Distribution("log_uniform", 1.0 / (1.0 + 0.4 * width), 1.0 + 0.2 * width),
            "motor_strength_scale": Distribution("uniform", 1.0 - 0.2 * width, 1.0 + 0.1 * width),
            "joint_damping_scale": Distribution("log_uniform", 1.0 / spread, spread),
            "action_delay_s": Distribution("uniform", 0.0, 0.04 * width),
            "position_noise_m": Distribution("uniform", 0.0, 0.003 * width),
            "position_bias_x_m": Distribution("uniform", -0.006 * width, 0.006 * width),
            "position_bias_y_m": Distribution("uniform", -0.006 * width, 0.006 * width),
            "joint_noise_rad": Distribution("uniform", 0.0, 0.001 * width),
        },
    )


PRESETS = {"mild": 0.5, "default": 1.0, "hard": 1.6}


def load_randomization(source: str) -> Randomization | None:
    """A preset by name, `none`, or a YAML file of `parameter: {uniform|log_uniform|normal: [a, b]}`.

    Raises:
        InputError: no such preset or file, or the file is not of that form.
    """
    if source == "none":
        return None
    if source in PRESETS:
        return _preset(source, PRESETS[source])
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        raise unknown_name("randomization", source, ["none", *PRESETS, "path/to/file.yaml"])
    if not path.is_file():
        raise InputError(f"Randomization file {path} does not exist.")
    try:
        data = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a mapping of parameters, got {type(data).__name__}.")
    return Randomization(str(path), {str(name): _parse(path, str(name), entry) for name, entry in data.items()})


def _parse(path: Path, name: str, entry: object) -> Distribution:
    shapes: tuple[Shape, ...] = ("uniform", "log_uniform", "normal")
    if isinstance(entry, dict) and len(entry) == 1:
        shape, bounds = next(iter(entry.items()))
        numbers = bounds if isinstance(bounds, list) else []
        if shape in shapes and len(numbers) == 2 and all(type(n) in (int, float) for n in numbers):
            return Distribution(shape, float(numbers[0]), float(numbers[1]))
    raise InputError(f"{path}: {name}: expected one of {', '.join(shapes)} with two numbers, got {entry!r}.")


SUITES = ("nominal", "randomized", "unseen")


def suite_randomization(suite: str) -> Randomization | None:
    """The physics of an evaluation suite: nominal, as in training (`default`), or harder than trained on (`hard`).

    Raises:
        InputError: there is no such suite.
    """
    if suite not in SUITES:
        raise unknown_name("suite", suite, SUITES)
    return load_randomization({"nominal": "none", "randomized": "default", "unseen": "hard"}[suite])
