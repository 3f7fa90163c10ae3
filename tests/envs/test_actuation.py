"""How joints are driven: every kind of controller follows, within efforts, and differs as it should."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from understudy.envs.arms.actuation import Actuation, Mode
from understudy.envs.arms.arm import Command, Start
from understudy.envs.arms.robot import known_robots, load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.errors import InputError

PANDA = load_robot("panda")
MODES = get_args(Mode)


def drive(arm: SimArm, path: list[np.ndarray], physics: dict[str, float] | None = None) -> list[dict[str, np.ndarray]]:
    """What is observed after each control period of a path of set points."""
    robot = arm.describe()
    arm.reset(Start(path[0], physics=physics or {}))
    seen = []
    for joints in path:
        arm.send(Command(joints))
        arm.clock.sleep_until(arm.clock.now_ns() + round(1e9 / robot.rate_hz))
        seen.append(dict(arm.observe().values))
    return seen


@pytest.mark.parametrize("name", known_robots())
@pytest.mark.parametrize("mode", MODES)
def test_every_robot_follows_and_comes_to_rest_where_it_was_sent(mode: Mode, name: str):
    robot = load_robot(name)
    arm = SimArm(robot, actuation=mode)
    sides = np.where(np.arange(len(robot.joints)) % 2, -1.0, 1.0)
    path = [robot.home + 0.3 * np.sin(0.1 * tick) * sides for tick in range(16)]
    seen = drive(arm, path + 15 * path[-1:])
    lag = max(np.abs(one["joint_position"] - at).max() for one, at in zip(seen, path, strict=False))
    assert lag < 0.01
    assert seen[-1]["joint_position"] == pytest.approx(path[-1], abs=1e-3)
    assert seen[-1]["joint_velocity"] == pytest.approx(np.zeros(len(path[0])), abs=1e-3)
    effort = robot.joint_array("effort")
    assert all(np.all(np.abs(one["joint_effort"]) <= effort + 1e-9) for one in seen)
    assert np.abs(seen[-1]["joint_effort"]).max() > 1.0 or name == "two_joint"  # gravity is held
    arm.close()


@pytest.mark.parametrize("mode", MODES)
def test_the_same_commands_move_the_arm_the_same_after_a_reset(mode: Mode):
    arm = SimArm(PANDA, actuation=mode)
    path = [PANDA.home + 0.02 * tick for tick in range(8)]
    first, _, again = drive(arm, path), drive(arm, path[::-1]), drive(arm, path)
    for one, other in zip(first, again, strict=True):
        assert all(np.array_equal(one[key], other[key]) for key in one)
    arm.close()


@pytest.mark.parametrize("mode", MODES)
def test_between_commands_a_set_point_moves_on_or_waits(mode: Mode):
    """At a constant speed of commands the joints move evenly where set points are interpolated, else in steps."""
    unevenness = {}
    for hold in ("interpolate", "zero_order"):
        arm = SimArm(PANDA, actuation=Actuation(mode, hold))
        drive(arm, [PANDA.home + 0.02 * tick for tick in range(8)])
        speeds = []
        for tick in range(8, 12):
            arm.send(Command(PANDA.home + 0.02 * tick))
            for _ in range(12):
                arm.clock.sleep_until(arm.clock.now_ns() + round(1e9 / 240))
                speeds.append(arm.observe()["joint_velocity"].mean())
        assert np.mean(speeds) == pytest.approx(0.4, rel=0.1)
        unevenness[hold] = np.std(speeds) / 0.4
        arm.close()
    assert unevenness["interpolate"] < 0.005 < 0.05 < unevenness["zero_order"]


@pytest.mark.parametrize("mode", MODES)
def test_efforts_are_cut_off_at_what_the_motors_have_left(mode: Mode):
    arm = SimArm(PANDA, actuation=mode)
    weak = {"motor_strength_scale": 0.15}  # 13 N m, where gravity asks for 20
    seen = drive(arm, 30 * [PANDA.home], weak)
    most = 0.15 * PANDA.joint_array("effort")
    assert all(np.all(np.abs(one["joint_effort"]) <= most * (1 + 1e-6)) for one in seen)
    assert np.abs(seen[-1]["joint_position"] - PANDA.home).max() > 0.05  # and the arm sinks
    arm.close()


def test_only_torque_control_misses_when_masses_are_not_what_it_thinks():
    sagged = {}
    for mode in MODES:
        arm = SimArm(PANDA, actuation=mode)
        sagged[mode] = np.abs(
            drive(arm, 30 * [PANDA.home], {"link_mass_scale": 1.3})[-1]["joint_position"] - PANDA.home
        )
        arm.close()
    assert sagged["torque"].max() > 5e-3
    assert max(sagged["position"].max(), sagged["velocity"].max()) < 1e-3


def test_a_stiffer_torque_controller_misses_less():
    misses = []
    for frequency in (10.0, 20.0, 40.0):
        arm = SimArm(PANDA, actuation=Actuation("torque", frequency_rad_s=frequency))
        misses.append(
            np.abs(drive(arm, 40 * [PANDA.home], {"link_mass_scale": 1.3})[-1]["joint_position"] - PANDA.home)
        )
        arm.close()
    assert misses[0].max() > 2 * misses[1].max() > 4 * misses[2].max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "torqe"}, r"Unknown actuation mode 'torqe': did you mean 'torque'\?"),
        ({"hold": "first_order"}, r"Unknown actuation hold 'first_order'.*zero_order"),
        ({"frequency_rad_s": 0.0}, "frequency_rad_s must be a number above 0, got 0.0"),
        ({"follow_hz": float("nan")}, "follow_hz must be a number above 0, got nan"),
        ({"position_gain": 1.5}, "position_gain must be at most 1, got 1.5"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_out_of_range_are_refused(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        Actuation(**options)
    if "mode" in options:
        with pytest.raises(InputError, match=message):
            SimArm(PANDA, actuation=options["mode"])


def test_torques_are_refused_where_masses_are_unknown(tmp_path: Path):
    text = re.sub(r"<inertial>.*?</inertial>", "", PANDA.kinematics_path().read_text(), flags=re.DOTALL)
    (tmp_path / "panda.urdf").write_text(text)
    massless = PANDA.model_copy(update={"folder": tmp_path})
    with pytest.raises(InputError, match=r"Torque control of 'panda' needs the mass of every link.*panda\.urdf"):
        SimArm(massless, actuation="torque")
    SimArm(massless, actuation="velocity").close()


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Actuation().mode = "torque"  # type: ignore[misc]
