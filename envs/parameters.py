"""The physical parameters that can vary from episode to episode: name, nominal value, unit, legal range, meaning.

A sample of them is a flat `name -> number` record. The simulated arm applies it at reset and the episode keeps it.
The nominal values together are the simulator as it is built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Group = Literal["objects", "contact", "arm", "motors", "world", "timing", "sensors", "looks", "record"]


@dataclass(frozen=True)
class Parameter:
    """A physical parameter that can be randomized."""

    nominal: float
    unit: str
    """SI; "1" for a factor or a share."""
    low: float
    high: float
    """The legal range, ends included."""
    group: Group
    meaning: str
    whole: bool = False
    """Whether it numbers things, so that only whole numbers have a meaning."""

    @property
    def positive(self) -> bool:
        """Whether zero and below make no sense."""
        return self.low > 0

    def allows(self, value: float) -> bool:
        """Whether a value makes sense."""
        return math.isfinite(value) and self.low <= value <= self.high and (not self.whole or value == int(value))


HUNDREDFOLD = 0.01, 100.0
"""Ends of a scale. Beyond them lies a slip of the pen, or what PyBullet's 240 Hz do not compute any more: joints whose
damping is 200 times the nominal one fly apart."""
TENFOLD = 0.1, 10.0
TO_HUNDREDFOLD = 1e-6, 100.0
"""Of what may all but vanish."""
TO_TENFOLD = 1e-6, 10.0
TURN_RAD = 6.3
"""All the way round either way, as people round it."""


def _scale(group: Group, meaning: str, ends: tuple[float, float]) -> Parameter:
    return Parameter(1.0, "1", *ends, group, meaning)


def _from_zero(unit: str, group: Group, meaning: str, high: float) -> Parameter:
    return Parameter(0.0, unit, 0.0, high, group, meaning)


def _either_way(unit: str, group: Group, meaning: str, most: float) -> Parameter:
    return Parameter(0.0, unit, -most, most, group, meaning)


def _texture(meaning: str) -> Parameter:
    return Parameter(0.0, "1", 0.0, 8.0, "looks", meaning, whole=True)


PARAMETERS: Mapping[str, Parameter] = {
    # objects
    "object_mass_scale": _scale(
        "objects", "mass of every object, times its nominal one (inertia grows with it)", HUNDREDFOLD
    ),
    "object_inertia_scale": _scale("objects", "inertia of every object, times what mass and shape give", HUNDREDFOLD),
    "object_size_scale": _scale("objects", "size of what lies loose, times its nominal one, at equal mass", (0.5, 2.0)),
    "object_offset_x_m": _either_way("m", "objects", "shift of every object's start along x", 1.0),
    "object_offset_y_m": _either_way("m", "objects", "shift of every object's start along y", 1.0),
    "object_yaw_rad": _either_way(
        "rad", "objects", "turn of every loose object's start about its own vertical axis", TURN_RAD
    ),
    "object_linear_damping": Parameter(0.04, "1/s", 0.0, 10.0, "objects", "d in dv/dt = -d v (1 + abs v) of objects"),
    "object_angular_damping": Parameter(0.04, "1/s", 0.0, 10.0, "objects", "the same of their turning"),
    # contact
    "object_friction_scale": _scale("contact", "lateral friction of every object, times its nominal one", TO_TENFOLD),
    "object_rolling_friction": _from_zero(
        "m", "contact", "rolling friction of every object: the lever of resistance", 0.1
    ),
    "object_spinning_friction_scale": _scale(
        "contact", "spinning friction of every object, times the nominal one", TO_HUNDREDFOLD
    ),
    "object_restitution": _from_zero("1", "contact", "bounce of objects: speed after an impact over before", 1.0),
    "finger_friction_scale": _scale("contact", "lateral friction of the fingers, times the nominal one", TO_TENFOLD),
    "finger_rolling_friction": _from_zero("m", "contact", "rolling friction of the fingers", 0.1),
    "finger_spinning_friction_scale": _scale(
        "contact", "spinning friction of the fingers, times the nominal one", TO_HUNDREDFOLD
    ),
    "table_friction_scale": _scale("contact", "lateral friction of the table, times its nominal one", TO_TENFOLD),
    "table_rolling_friction": _from_zero("m", "contact", "rolling friction of the table", 0.1),
    "table_spinning_friction": _from_zero("m", "contact", "spinning friction of the table", 0.1),
    # arm
    "link_mass_scale": _scale("arm", "mass of the arm's links, times the URDF's (inertia grows with it)", TENFOLD),
    "link_inertia_scale": _scale(
        "arm", "inertia of the arm's links, times what PyBullet takes from their shapes and mass", HUNDREDFOLD
    ),
    "joint_damping_scale": _scale("arm", "damping of the joints, times the nominal one", TO_HUNDREDFOLD),
    "joint_friction_nm": _from_zero("N m", "arm", "Coulomb friction of every joint", 100.0),
    # motors
    "motor_gain_scale": _scale("motors", "position gain of the joint motors, times the nominal one", (0.01, 5.0)),
    "motor_strength_scale": _scale("motors", "effort limit of the joint motors, times the robot's", (0.01, 10.0)),
    "gripper_strength_scale": _scale("motors", "force of the gripper, times the robot's", (0.01, 10.0)),
    # world
    "gravity_m_s2": Parameter(9.81, "m/s^2", 0.0, 100.0, "world", "gravity, downwards"),
    # timing
    "action_delay_s": _from_zero("s", "timing", "time between sending a command and the arm acting on it", 2.0),
    "control_jitter_s": _from_zero(
        "s", "timing", "each command acts up to this much later, drawn anew for each, so that periods vary", 1.0
    ),
    "observation_delay_s": _from_zero("s", "timing", "how old every reading is when it arrives, stamped as new", 1.0),
    # sensors
    "position_noise_m": _from_zero("m", "sensors", "standard deviation of object position readings", 1.0),
    "position_bias_x_m": _either_way("m", "sensors", "constant error of object position readings along x", 1.0),
    "position_bias_y_m": _either_way("m", "sensors", "constant error of object position readings along y", 1.0),
    "position_bias_z_m": _either_way("m", "sensors", "constant error of object position readings along z", 1.0),
    "orientation_noise_rad": _from_zero("rad", "sensors", "standard deviation of object orientations, each axis", 1.0),
    "orientation_bias_rad": _either_way(
        "rad", "sensors", "constant turn of object orientations about the vertical", TURN_RAD
    ),
    "joint_noise_rad": _from_zero("rad", "sensors", "standard deviation of joint position readings", 1.0),
    "joint_bias_rad": _from_zero("rad", "sensors", "standard deviation, over the joints, of a constant offset", 1.0),
    "joint_velocity_noise_rad_s": _from_zero("rad/s", "sensors", "standard deviation of joint velocity readings", 10.0),
    "joint_velocity_bias_rad_s": _from_zero("rad/s", "sensors", "like joint_bias_rad, of joint velocities", 10.0),
    "object_drop_chance": _from_zero("1", "sensors", "chance that a reading of an object does not arrive", 1.0),
    "joint_drop_chance": _from_zero("1", "sensors", "chance that a reading of the joints does not arrive", 1.0),
    # looks: cameras, lights, colours; they change pictures and nothing else
    "camera_offset_x_m": _either_way("m", "looks", "shift of every camera along x", 1.0),
    "camera_offset_y_m": _either_way("m", "looks", "shift of every camera along y", 1.0),
    "camera_offset_z_m": _either_way("m", "looks", "shift of every camera along z", 1.0),
    "camera_yaw_rad": _either_way("rad", "looks", "turn of every camera to its left", 1.5),
    "camera_pitch_rad": _either_way("rad", "looks", "turn of every camera upwards", 1.0),
    "camera_fov_scale": _scale("looks", "vertical field of view, times the nominal one", (0.3, 2.0)),
    "light_azimuth_rad": _either_way("rad", "looks", "turn of the light about the vertical", TURN_RAD),
    "light_elevation_rad": _either_way("rad", "looks", "rise of the light above its nominal height", 1.5),
    "light_brightness_scale": _scale("looks", "brightness of the light, times the nominal one", (0.0, 10.0)),
    "object_hue_shift": _either_way(
        "1", "looks", "turn of the objects' colours on the colour circle, 1 is all of it", 1.0
    ),
    "object_brightness_scale": _scale("looks", "brightness of the objects' colours", (0.0, 10.0)),
    "object_texture": _texture("texture of the objects: 0 plain, 1 to 8 a pattern (see sim_looks)"),
    "table_hue_shift": _either_way("1", "looks", "as object_hue_shift, of the table", 1.0),
    "table_brightness_scale": _scale("looks", "brightness of the table's colour", (0.0, 10.0)),
    "table_texture": _texture("texture of the table, as object_texture"),
    "arm_hue_shift": _either_way("1", "looks", "as object_hue_shift, of the arm", 1.0),
    "arm_brightness_scale": _scale("looks", "brightness of the arm's colours", (0.0, 10.0)),
    "arm_texture": _texture("texture of the arm, as object_texture"),
    # kept with an episode, so that a replay has the same noise
    "noise_seed": _from_zero("1", "record", "seeds sensor noise, dropped readings and jitter of the episode", 2.0**53),
}
"""Every name that a sample may hold. `noise_seed` is drawn by the environment and cannot be randomized."""

NOMINAL: Mapping[str, float] = {name: parameter.nominal for name, parameter in PARAMETERS.items()}
RANDOMIZABLE: Mapping[str, Parameter] = {
    name: parameter for name, parameter in PARAMETERS.items() if parameter.group != "record"
}
START_PARAMETERS = ("object_offset_x_m", "object_offset_y_m", "object_yaw_rad")
"""Those that move what a `Start` says: where a recorded start is taken up again, they are in it already."""
