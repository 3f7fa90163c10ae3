"""Domain randomization: which physical parameters vary from episode to episode, and how much.

Owns the protocol that environments call (`Randomizer`), fixed sets of distributions, the presets and the suites of
evaluations. A sample is a flat `name -> number` record, drawn from a generator, stored with the episode, and applied
by the simulated arm at reset. Parameters are listed in `parameters.py`; a name outside it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from understudy.envs.distributions import AnyDistribution, Choice, Distribution, check_distribution
from understudy.envs.parameters import PARAMETERS, Parameter
from understudy.errors import InputError, unknown_name

__all__ = [
    "PARAMETERS",
    "PRESETS",
    "SUITES",
    "Choice",
    "Distribution",
    "Parameter",
    "Randomization",
    "Randomizer",
    "Unseen",
    "load_randomization",
    "suite_randomization",
]


class Randomizer(Protocol):
    """Where an environment gets the physics of its episodes from."""

    @property
    def name(self) -> str:
        """What people call it."""

    def sample(self, rng: np.random.Generator) -> Mapping[str, float]:
        """The physics of the next episode: parameter -> value; what is not named is nominal."""

    def report(self, success: bool) -> None:
        """How the episode of the last sample ended; called once when it has."""


class Randomization:
    """A checked set of distributions."""

    def __init__(
        self, name: str, distributions: Mapping[str, AnyDistribution], where: Mapping[str, str] | None = None
    ) -> None:
        """Args:
        name: what people call it.
        distributions: parameter -> what it is drawn from.
        where: parameter -> what an error about it begins with (a file and a line).

        Raises:
            InputError: an unknown parameter, reversed bounds, or a range that leaves what is physical.
        """
        self.name = name
        self.distributions = dict(distributions)
        for parameter, distribution in self.distributions.items():
            check_distribution((where or {}).get(parameter, f"Randomization {name!r}"), parameter, distribution)

    def sample(self, rng: np.random.Generator) -> dict[str, float]:
        """Draw every listed parameter."""
        return {name: distribution.sample(rng) for name, distribution in self.distributions.items()}

    def report(self, success: bool) -> None:
        """See `Randomizer`: fixed ranges stay as they are."""


OUTSIDE_SHARE = 1 / 3
"""Chance of each parameter to be outside the training range in an unseen episode; about what `hard` has."""


class Unseen:
    """Physics of which at least one parameter is outside the ranges that were trained in, in every episode.

    Each parameter lies with `OUTSIDE_SHARE` in the shell between the inner range and the outer one, else in the inner
    one; where none came out, one is drawn anew in its shell. So an episode is never one that training could have
    drawn, and few enough things are strange at once for a policy to be told from a poor one.
    """

    def __init__(self, inner: Randomization, outer: Randomization) -> None:
        """Raises:
        InputError: the outer ranges reach nowhere beyond the inner ones.
        """
        self.name = "unseen"
        self.inner, self.outer = inner, outer
        self._shells = {name: shell for name in outer.distributions if (shell := self._shell(name))}
        if not self._shells:
            raise InputError(f"Randomization {outer.name!r} reaches nowhere beyond {inner.name!r}.")

    def sample(self, rng: np.random.Generator) -> dict[str, float]:
        """Draw every parameter of the inner ranges, and at least one outside of them."""
        sample = self.inner.sample(rng)
        names = list(self._shells)
        out = rng.random(len(names)) < OUTSIDE_SHARE
        out[int(rng.integers(len(names)))] |= not out.any()
        for name, outside in zip(names, out, strict=True):
            if outside:
                sample[name] = self._outside(name, rng)
        return sample

    def report(self, success: bool) -> None:
        """See `Randomizer`."""

    def _shell(self, name: str) -> list[Distribution]:
        """What is left of the outer range on either side of the inner one."""
        outer = self.outer.distributions[name]
        if not isinstance(outer, Distribution) or outer.shape == "normal":
            return []
        inner = self.inner.distributions.get(name)
        low, high = inner.bounds if inner is not None else (PARAMETERS[name].nominal,) * 2
        sides = ((outer.first, low), (high, outer.second))
        return [Distribution(outer.shape, first, second) for first, second in sides if first < second]

    def _outside(self, name: str, rng: np.random.Generator) -> float:
        shell = self._shells[name]
        widths = np.array([_width(side) for side in shell])
        return shell[int(rng.choice(len(shell), p=widths / widths.sum()))].sample(rng)


def _width(side: Distribution) -> float:
    if side.shape == "log_uniform":
        return math.log(side.second / side.first)
    return side.second - side.first


PRESETS = {"mild": 0.5, "default": 1.0, "hard": 1.6}
"""Name -> width of the ranges; 1 is `default`."""
LOOKS = "looks"
CURRICULUM = "curriculum"
"""Says that ranges are learned (`curriculum.py`); no randomization of its own."""


def _preset(name: str, width: float) -> Randomization:
    """Ranges that grow with `width`."""
    spread = 1.0 + 0.5 * width
    little = 1.0 + 0.15 * width
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
            # gently, what hardware differs in without anybody having chosen it
            "object_inertia_scale": Distribution("log_uniform", 1.0 / little, little),
            "object_linear_damping": Distribution("uniform", 0.04 - 0.02 * width, 0.04 + 0.04 * width),
            "object_angular_damping": Distribution("uniform", 0.04 - 0.02 * width, 0.04 + 0.04 * width),
            "object_spinning_friction_scale": Distribution("log_uniform", 1.0 / spread, spread),
            "object_restitution": Distribution("uniform", 0.0, 0.1 * width),
            "finger_spinning_friction_scale": Distribution("log_uniform", 1.0 / spread, spread),
            "table_friction_scale": Distribution("log_uniform", 1.0 / little, little),
            "link_mass_scale": Distribution("uniform", 1.0 - 0.1 * width, 1.0 + 0.1 * width),
            "link_inertia_scale": Distribution("log_uniform", 1.0 / little, little),
            "joint_friction_nm": Distribution("uniform", 0.0, 0.5 * width),
            "gripper_strength_scale": Distribution("uniform", 1.0 - 0.2 * width, 1.0 + 0.2 * width),
            "gravity_m_s2": Distribution("uniform", 9.81 - 0.1 * width, 9.81 + 0.1 * width),
            "control_jitter_s": Distribution("uniform", 0.0, 0.004 * width),
            "position_bias_z_m": Distribution("uniform", -0.002 * width, 0.002 * width),
            "orientation_noise_rad": Distribution("uniform", 0.0, 0.01 * width),
            "orientation_bias_rad": Distribution("uniform", -0.02 * width, 0.02 * width),
            "joint_velocity_noise_rad_s": Distribution("uniform", 0.0, 0.005 * width),
            "object_drop_chance": Distribution("uniform", 0.0, 0.03 * width),
        },
    )


def _looks() -> Randomization:
    """Cameras, lights, colours and textures, for policies that see; joined to another with `+looks`."""
    offset = Distribution("uniform", -0.03, 0.03)
    turn = Distribution("uniform", -0.04, 0.04)
    patterns = Choice((0.0, 0.0, 0.0, *(float(index) for index in range(1, 9))))
    looks: dict[str, AnyDistribution] = {f"camera_offset_{axis}_m": offset for axis in "xyz"}
    looks |= {
        "camera_yaw_rad": turn,
        "camera_pitch_rad": turn,
        "camera_fov_scale": Distribution("log_uniform", 0.95, 1.05),
        "light_azimuth_rad": Distribution("uniform", -math.pi, math.pi),
        "light_elevation_rad": Distribution("uniform", -0.6, 0.3),
        "light_brightness_scale": Distribution("log_uniform", 0.6, 1.5),
    }
    for thing, hue in (("object", 0.08), ("table", 0.5), ("arm", 0.5)):
        looks[f"{thing}_hue_shift"] = Distribution("uniform", -hue, hue)
        looks[f"{thing}_brightness_scale"] = Distribution("log_uniform", 0.6, 1.4)
        looks[f"{thing}_texture"] = patterns
    return Randomization(LOOKS, looks)


def load_randomization(source: str) -> Randomization | None:
    """A preset by name, `looks`, `none`, a YAML file (see `randomization_file.py`), or several joined by `+`.

    Of what several name, the last counts.

    Raises:
        InputError: no such preset or file, or the file is not of its form.
    """
    if not isinstance(source, str):
        raise InputError(f"A randomization is named by a text ('none', 'default', a file's path), got {source!r}.")
    if source == "none":
        return None
    parts = [part for part in (_load_part(word) for word in source.split("+")) if part is not None]
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, AnyDistribution] = {}
    for part in parts:
        joined |= part.distributions
    return Randomization(source, joined)


def _load_part(source: str) -> Randomization | None:
    if source == "none":
        return None
    if source == LOOKS:
        return _looks()
    if source in PRESETS:
        return _preset(source, PRESETS[source])
    if source.partition(":")[0] == CURRICULUM:
        raise InputError(
            "A curriculum learns its ranges while a policy trains: it belongs to understudy finetune --randomize "
            f"curriculum. Here give none, a preset ({', '.join(PRESETS)}), looks, or a YAML file."
        )
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        raise unknown_name("randomization", source, ["none", *PRESETS, LOOKS, "path/to/file.yaml"])
    from understudy.envs.randomization_file import read_distributions

    distributions, where = read_distributions(path)
    return Randomization(str(path), distributions, where)


SUITES = ("nominal", "randomized", "unseen")


def suite_randomization(suite: str) -> Randomization | Unseen | None:
    """The physics of an evaluation suite: nominal, as in training (`default`), or always outside of it (`Unseen`).

    Raises:
        InputError: there is no such suite.
    """
    if suite not in SUITES:
        raise unknown_name("suite", suite, SUITES)
    if suite == "nominal":
        return None
    default = _preset("default", PRESETS["default"])
    return default if suite == "randomized" else Unseen(default, _preset("hard", PRESETS["hard"]))
