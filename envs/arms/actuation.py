"""How a simulated arm's joints are driven: what kind of controller stands between a set point and the motors.

- `position`: each physics step PyBullet's joint motor removes a share of the position error (`position_gain`) and the
  velocity error, with no more than the joint's effort. A stiff industrial arm that hides its torques.
- `velocity`: a motor that keeps a speed: that of the set point, plus `follow_hz` times the position error. An arm that
  takes speeds; it lags a little and never rings.
- `torque`: computed torque (Siciliano et al. 2009, 8.5.2): inverse dynamics of the nominal arm for the acceleration
  `w^2 (q_d - q) + 2 z w (v_d - v)`, cut off at the joint's effort. An arm that yields: what it carries or bumps into
  moves it, and masses other than nominal make it miss.

The hold says where the set point is between two commands: `interpolate` moves it straight from the last to the new one
over a control period, as trajectory controllers do; `zero_order` puts it at the new one at once, as drives without a
trajectory controller do. Latency is the physical parameter `action_delay_s`; gains and efforts are scaled by
`motor_gain_scale` and `motor_strength_scale`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from understudy.errors import InputError, unknown_name

Mode = Literal["position", "velocity", "torque"]
Hold = Literal["interpolate", "zero_order"]


@dataclass(frozen=True)
class Actuation:
    """The controller of every joint of a simulated arm."""

    mode: Mode = "position"
    hold: Hold = "interpolate"
    position_gain: float = 0.2
    """Position control: the share of the position error that a physics step removes, 0 to 1."""
    follow_hz: float = 15.0
    """Velocity control: rad/s asked for each rad of position error."""
    frequency_rad_s: float = 25.0
    """Torque control: w, how fast an error dies away."""
    damping_ratio: float = 1.0
    """Torque control: z; 1 does not overshoot."""

    def __post_init__(self) -> None:
        for name, known in (("mode", get_args(Mode)), ("hold", get_args(Hold))):
            if getattr(self, name) not in known:
                raise unknown_name(f"actuation {name}", str(getattr(self, name)), known)
        for name in ("position_gain", "follow_hz", "frequency_rad_s", "damping_ratio"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"Actuation: {name} must be a number above 0, got {value}.")
        if self.position_gain > 1:
            raise InputError(f"Actuation: position_gain must be at most 1, got {self.position_gain}.")
