"""Laws of shaping: what a stick, a key or a puck may make of the arm's step."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.capture.devices.shaping import Shaping, ShapingConfig
from understudy.datasets.schema import ActionSpec
from understudy.errors import InputError

TWIST = ("x", "y", "z", "roll", "pitch", "yaw")
LIFT = ActionSpec(
    "tool_delta", (*TWIST, "gripper"), ("m",) * 3 + ("rad",) * 3 + ("m",),
    (-0.03,) * 3 + (-0.15,) * 3 + (0.0,), (0.03,) * 3 + (0.15,) * 3 + (0.08,),
)  # fmt: skip
FULL = np.array([0.03] * 3 + [0.15] * 3)
PERIOD_S = 0.05
AT_ONCE = ShapingConfig(dead_band=0.1, speed=0.5, acceleration_s=0.0)
AXES = st.dictionaries(st.sampled_from(TWIST), st.floats(-2.0, 2.0))


def shares(shaping: Shaping, axes: Mapping[str, float], held: bool = True) -> np.ndarray:
    """The step as a share of the largest that the device may ask for."""
    return shaping.shape(axes, held)[:6] / FULL / shaping.config.speed


@given(st.lists(AXES, min_size=1, max_size=20), st.floats(0.0, 0.9), st.floats(0.01, 1.0), st.floats(0.0, 2.0))
def test_no_step_is_larger_than_the_speed_and_none_grows_quicker_than_allowed(
    ticks: list[dict[str, float]], band: float, speed: float, acceleration_s: float
) -> None:
    shaping = Shaping(LIFT, PERIOD_S, ShapingConfig(band, speed, acceleration_s))
    before = np.zeros(6)
    for axes in ticks:
        step = shaping.shape(axes)
        assert step.shape == (7,)
        assert step[6] == 0.0
        now = step[:6] / FULL / speed
        assert np.all(np.abs(now) <= 1.0 + 1e-9)
        if acceleration_s > 0.0:
            assert np.all(np.abs(now) - np.abs(before) <= PERIOD_S / acceleration_s + 1e-9)
        before = now


@given(AXES)
def test_opposite_deflection_gives_the_opposite_step(axes: dict[str, float]) -> None:
    there = Shaping(LIFT, PERIOD_S, AT_ONCE).shape(axes)
    back = Shaping(LIFT, PERIOD_S, AT_ONCE).shape({label: -value for label, value in axes.items()})
    assert np.allclose(there, -back)


@given(st.floats(0.0, math.tau))
def test_the_dead_band_is_round_and_continuous_at_its_edge(angle: float) -> None:
    def deflected(radius: float) -> np.ndarray:
        axes = {"x": radius * math.cos(angle), "y": radius * math.sin(angle)}
        return shares(Shaping(LIFT, PERIOD_S, AT_ONCE), axes)

    assert not np.any(deflected(0.0999))
    assert 0.0 < np.linalg.norm(deflected(0.101)) < 0.0012
    full = deflected(1.0)
    assert np.linalg.norm(full) == pytest.approx(1.0)
    assert full[:2] == pytest.approx([math.cos(angle), math.sin(angle)])


def test_a_stick_that_rests_off_centre_does_not_ride_on_another() -> None:
    step = shares(Shaping(LIFT, PERIOD_S, AT_ONCE), {"z": 1.0, "x": 0.06})
    assert step.tolist() == pytest.approx([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])


def test_full_speed_comes_after_the_acceleration_time_in_a_straight_line() -> None:
    shaping = Shaping(LIFT, PERIOD_S, ShapingConfig(dead_band=0.0, speed=1.0, acceleration_s=0.2))
    steps = np.array([shares(shaping, {"x": 1.0, "y": -0.5}) for _ in range(6)])
    assert steps[:, 0] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])
    assert steps[:, 1] == pytest.approx(-0.5 * steps[:, 0])


def test_letting_go_is_never_delayed_and_turning_round_begins_at_rest() -> None:
    shaping = Shaping(LIFT, PERIOD_S, ShapingConfig(dead_band=0.0, speed=1.0, acceleration_s=0.2))
    for _ in range(4):
        shares(shaping, {"x": 1.0})
    assert shares(shaping, {"x": 0.4})[0] == pytest.approx(0.4)
    assert shares(shaping, {"x": -1.0})[0] == pytest.approx(-0.25)
    assert not np.any(shares(shaping, {}))
    assert shares(shaping, {"x": 1.0})[0] == pytest.approx(0.25)


def test_hold_to_move_moves_only_while_held_and_begins_at_rest_again() -> None:
    shaping = Shaping(LIFT, PERIOD_S, ShapingConfig(0.0, 1.0, 0.2, hold_to_move=True))
    assert not np.any(shares(shaping, {"x": 1.0}, held=False))
    assert shares(shaping, {"x": 1.0})[0] == pytest.approx(0.25)
    assert shares(shaping, {"x": 1.0})[0] == pytest.approx(0.5)
    assert not np.any(shares(shaping, {"x": 1.0}, held=False))
    assert shares(shaping, {"x": 1.0})[0] == pytest.approx(0.25)
    free = Shaping(LIFT, PERIOD_S, AT_ONCE)
    assert shares(free, {"x": 1.0}, held=False)[0] == pytest.approx(1.0)


def test_what_is_no_number_and_labels_of_others_count_as_nothing() -> None:
    reach = ActionSpec("tool_delta", ("x", "y"), ("m",) * 2, (-0.03,) * 2, (0.03,) * 2)
    shaping = Shaping(reach, PERIOD_S, AT_ONCE)
    assert shaping.shape({"x": math.nan, "y": math.inf, "yaw": 1.0}).tolist() == [0.0, 0.0]
    assert shaping.shape({"y": 1.0, "yaw": 1.0}).tolist() == pytest.approx([0.0, 0.015])


def test_joints_are_each_judged_alone_and_slow_ones_keep_to_their_own_bound() -> None:
    spec = ActionSpec("joint_velocity", ("a", "b"), ("rad/s",) * 2, (-2.0, -0.5), (2.0, 0.5))
    assert Shaping(spec, PERIOD_S, AT_ONCE).shape({"a": 1.0, "b": 0.09}).tolist() == pytest.approx([1.0, 0.0])
    assert Shaping(spec, PERIOD_S, AT_ONCE).shape({"b": -1.0}).tolist() == pytest.approx([0.0, -0.25])


def test_a_space_of_places_is_refused() -> None:
    spec = ActionSpec("joint_position", ("a",), ("rad",), (-1.0,), (1.0,))
    with pytest.raises(InputError, match="this task uses 'joint_position'; choose another device"):
        Shaping(spec, PERIOD_S)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dead_band": 1.0}, "Dead band must be at least 0 and below 1, got 1.0"),
        ({"dead_band": math.nan}, "Dead band must be"),
        ({"speed": 0.0}, "speed must be above 0 and at most 1, got 0.0"),
        ({"speed": math.nan}, "speed must be above 0"),
        ({"acceleration_s": -0.1}, "Acceleration must take between 0 and 10 s, got -0.1"),
    ],
)
def test_numbers_out_of_range_are_refused(config: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ShapingConfig(**config)  # type: ignore[arg-type]


@pytest.mark.parametrize("period_s", [0.0, -1.0, math.nan])
def test_a_period_is_positive(period_s: float) -> None:
    with pytest.raises(InputError, match="period of a device must be a positive number"):
        Shaping(LIFT, period_s)
