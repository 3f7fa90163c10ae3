"""Steady readings: exact ones are left alone, noisy ones are averaged where they stand still."""

from __future__ import annotations

import numpy as np
import pytest

from understudy.envs.arms.rotations import quaternion_multiply, quaternion_to_matrix, rotvec_to_quaternion
from understudy.envs.experts.steady import Steady
from understudy.envs.experts.trials import play
from understudy.envs.make import make_env
from understudy.envs.randomization import Choice, Randomization

HOLE = np.array([0.5, 0.1, 0.02, *rotvec_to_quaternion(np.array([0.0, 0.0, 0.3]))])
IN_HAND = np.array([0.001, -0.002, 0.03, *rotvec_to_quaternion(np.array([np.pi, 0.0, 0.1]))])


def observed(tick: int, rng: np.random.Generator, noise_m: float, noise_rad: float) -> dict[str, np.ndarray]:
    """A peg in a hand that moves and turns, and a hole; both read with noise."""
    turn = rotvec_to_quaternion(np.array([0.0, 0.2 * np.sin(tick / 20), tick / 50]))
    tool = np.array([0.4 + 0.001 * tick, 0.0, 0.3])
    peg = tool + quaternion_to_matrix(turn) @ IN_HAND[:3], quaternion_multiply(turn, IN_HAND[3:])
    values = {"tool_position": tool, "tool_quaternion": turn}
    for name, (position, quaternion) in {"object": peg, "object_hole": (HOLE[:3], HOLE[3:])}.items():
        values[f"{name}_position"] = position + rng.normal(0.0, noise_m, 3)
        read = quaternion_multiply(rotvec_to_quaternion(rng.normal(0.0, noise_rad, 3)), quaternion)
        values[f"{name}_quaternion"] = read * rng.choice([-1.0, 1.0])  # either says the same rotation
    return values


def angle_rad(one: np.ndarray, other: np.ndarray) -> float:
    return float(2.0 * np.arccos(min(1.0, abs(float(one @ other)))))


def test_exact_readings_are_left_as_they_are():
    steady, rng = Steady("object", "object_hole"), np.random.default_rng(0)
    for tick in range(100):
        seen = observed(tick, rng, 0.0, 0.0)
        seen["object_hole_quaternion"] = HOLE[3:]
        assert steady.look(seen, held=tick > 20) is seen


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_averaged_in_the_hand_and_where_a_thing_stands(seed: int):
    steady, rng = Steady("object", "object_hole"), np.random.default_rng(seed)
    for tick in range(120):
        found = steady.look(observed(tick, rng, 0.003, 0.01), held=tick >= 40)
    truth = observed(119, rng, 0.0, 0.0)
    for name in ("object", "object_hole"):  # of 60 readings: an eighth of the noise, in three axes
        off_m = np.linalg.norm(found[f"{name}_position"] - truth[f"{name}_position"])
        assert off_m < 0.0015
        assert angle_rad(found[f"{name}_quaternion"], truth[f"{name}_quaternion"]) < 0.005


@pytest.mark.parametrize("held", [False, True])
def test_what_was_moved_or_gripped_is_averaged_anew(held: bool):
    steady, rng = Steady("object", "object_hole"), np.random.default_rng(3)
    for _ in range(60):
        before = steady.look(observed(0, rng, 0.002, 0.0), held=False)
    seen = observed(0, rng, 0.002, 0.0)
    if not held:
        seen["object_position"] = seen["object_position"] + 0.1
    after = steady.look(seen, held=held)
    assert after["object_position"] == pytest.approx(seen["object_position"])
    assert after["object_hole_position"] == pytest.approx(before["object_hole_position"], abs=0.0003)


def test_a_peg_is_inserted_though_readings_are_two_millimetres_off():
    """By single readings, of which hardly any is right to half a millimetre, it was hardly ever aligned."""
    env = make_env("insert", randomization=Randomization("noisy", {"position_noise_m": Choice((0.002,))}))
    try:
        assert sum(play(env, seed).success for seed in range(4)) >= 3
    finally:
        env.close()
