"""How one parameter is drawn: uniform, log-uniform, normal, or one of some values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from understudy.envs.parameters import RANDOMIZABLE
from understudy.errors import InputError, unknown_name

Shape = Literal["uniform", "log_uniform", "normal"]
SHAPES: tuple[Shape, ...] = ("uniform", "log_uniform", "normal")


@dataclass(frozen=True)
class Distribution:
    """Between two numbers, or normal with mean and standard deviation."""

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

    @property
    def bounds(self) -> tuple[float, float]:
        """Where draws fall; of a normal, two standard deviations either way."""
        if self.shape == "normal":
            return self.first - 2.0 * self.second, self.first + 2.0 * self.second
        return self.first, self.second


@dataclass(frozen=True)
class Choice:
    """One of some values, each as likely."""

    values: tuple[float, ...]

    def sample(self, rng: np.random.Generator) -> float:
        """One draw."""
        return self.values[int(rng.integers(len(self.values)))]

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest."""
        return min(self.values), max(self.values)


AnyDistribution = Distribution | Choice


def check_distribution(where: str, name: str, distribution: AnyDistribution) -> None:
    """Refuse what is reversed, or could leave what is physical.

    Args:
        where: what the sentence begins with, e.g. a file and a line.
        name: of the parameter.
        distribution: what it is drawn from.

    Raises:
        InputError: says what is wrong with it, and what to do.
    """
    if name not in RANDOMIZABLE:
        raise InputError(f"{where}: {unknown_name('parameter', name, RANDOMIZABLE)}")
    where = f"{where}, {name!r}"
    if isinstance(distribution, Choice):
        if not distribution.values:
            raise InputError(f"{where}: a choice needs at least one value.")
        for value in distribution.values:
            _check_value(where, name, value)
        return
    if RANDOMIZABLE[name].whole:
        raise InputError(
            f"{where}: it numbers things, and a range of it means nothing; write the numbers that it may be, "
            f"as in {{choice: [0, 3, 5]}} ({RANDOMIZABLE[name].meaning})."
        )
    first, second = distribution.first, distribution.second
    if not (np.isfinite(first) and np.isfinite(second)):
        raise InputError(f"{where}: bounds must be finite, got {first} and {second}.")
    if distribution.shape == "normal":
        _check_normal(where, name, distribution)
        return
    if first > second:
        raise InputError(f"{where}: bounds are reversed, {first} is above {second}; swap them.")
    if distribution.shape == "log_uniform" and first <= 0:
        raise InputError(f"{where}: the lower bound must be above zero, got {first}.")
    _check_value(where, name, first, "the lower bound ")
    _check_value(where, name, second, "the upper bound ")


def _check_normal(where: str, name: str, distribution: Distribution) -> None:
    if distribution.second < 0:
        raise InputError(f"{where}: standard deviation must not be negative, got {distribution.second}.")
    parameter = RANDOMIZABLE[name]
    if parameter.low >= 0:
        raise InputError(f"{where}: must not become negative; use uniform or log_uniform, not normal.")
    low, high = distribution.first - 6.0 * distribution.second, distribution.first + 6.0 * distribution.second
    if not (parameter.allows(low) and parameter.allows(high)):
        raise InputError(
            f"{where}: must stay between {parameter.low:g} and {parameter.high:g} {parameter.unit}, also six "
            f"standard deviations out, which are {low:g} and {high:g}; use uniform, or a smaller deviation."
        )


def _check_value(where: str, name: str, value: float, which: str = "") -> None:
    parameter = RANDOMIZABLE[name]
    if parameter.allows(value):
        return
    if not np.isfinite(value):
        raise InputError(f"{where}: {which}must be a finite number, got {value}.")
    if parameter.positive and value <= 0:
        raise InputError(f"{where}: {which}must be above zero, got {value}.")
    if parameter.low == 0 and value < 0:
        raise InputError(f"{where}: {which}must not be negative, got {value}.")
    if parameter.whole and parameter.low <= value <= parameter.high:
        raise InputError(f"{where}: must be a whole number, got {value} ({parameter.meaning}).")
    unit = "" if parameter.unit == "1" else f" {parameter.unit}"
    remedy = f"raise it to {parameter.low:g}" if value < parameter.low else f"lower it to {parameter.high:g}"
    raise InputError(
        f"{where}: {which}must be between {parameter.low:g} and {parameter.high:g}{unit}, got {value} "
        f"({parameter.meaning}); {remedy}."
    )
