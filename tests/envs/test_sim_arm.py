"""The simulated arm: repeatable to the bit, obedient, and changed by what is randomized."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pybullet
import pytest

from understudy.envs.arms.arm import Command, Observation, Pose, Start
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.arms.sim_clock import PHYSICS_HZ
from understudy.envs.randomization import PARAMETERS
from understudy.envs.tasks.lift import Lift
from understudy.errors import InputError

PANDA = load_robot("panda")
CUBE = {"object": Pose(np.array([0.5, 0.05, 0.02]))}
START = Start(PANDA.home, 0.08, CUBE)


@pytest.fixture
def arm():
    made = SimArm(PANDA, Lift.objects)
    yield made
    made.close()


def tick(arm: SimArm, command: Command | None = None, count: int = 1) -> Observation:
    for _ in range(count):
        if command is not None:
            arm.send(command)
        now = arm.clock.now_ns()
        arm.clock.sleep_until(now + round(1e9 / PANDA.rate_hz))
    return arm.observe()


def wander(arm: SimArm, seed: int, ticks: int, start: Start = START) -> list[np.ndarray]:
    """Drive a random walk that pushes into the table and the cube, and return every observed number."""
    rng = np.random.default_rng(seed)
    seen = [np.concatenate([np.ravel(value) for value in arm.reset(start).values.values()])]
    target = np.array(start.joint_position)
    for _ in range(ticks):
        target = target + rng.normal(0.0, 0.03, 7) + [0, 0.02, 0, -0.01, 0, 0, 0]
        seen.append(
            np.concatenate(
                [np.ravel(value) for value in tick(arm, Command(target, rng.uniform(0, 0.08))).values.values()]
            )
        )
        seen.append(arm.simulator_state())
    return seen


NOISY = dataclasses.replace(START, physics={"joint_noise_rad": 0.001, "position_noise_m": 0.002}, seed=4)


def test_an_episode_is_the_same_to_the_bit_whatever_ran_before(arm: SimArm):
    fresh = wander(arm, 7, 40, NOISY)
    # something else in between: other physics, an odd number of physics steps, a closed gripper, commands pending
    wander(arm, 8, 23, dataclasses.replace(START, gripper_position=0.0, physics={"action_delay_s": 0.03}, seed=9))
    arm.clock.sleep_until(arm.clock.now_ns() + round(7.4e9 / PHYSICS_HZ))
    arm.send(Command(PANDA.home + 0.3, 0.0))
    again = wander(arm, 7, 40, NOISY)
    other = SimArm(PANDA, Lift.objects)
    elsewhere = wander(other, 7, 40, NOISY)
    other.close()
    for one, two, three in zip(fresh, again, elsewhere, strict=True):
        assert np.array_equal(one, two)
        assert np.array_equal(one, three)


def test_the_gripper_of_a_start_that_names_none_is_open_whatever_came_before(arm: SimArm):
    tick(arm, Command(PANDA.home, 0.0), 20)
    assert arm.observe()["gripper_position"][0] < 0.01
    assert arm.reset(Start(PANDA.home, objects=CUBE))["gripper_position"][0] == pytest.approx(0.08, abs=1e-6)


def test_two_arms_do_not_disturb_each_other():
    alone = SimArm(PANDA, Lift.objects)
    expected = wander(alone, 3, 20)
    alone.close()
    first, second = SimArm(PANDA, Lift.objects), SimArm(PANDA)
    second.reset(Start(PANDA.home + 0.3))
    first.reset(START)
    rng = np.random.default_rng(3)
    seen = [np.concatenate([np.ravel(value) for value in first.observe().values.values()])]
    target = PANDA.home
    for _ in range(20):
        target = target + rng.normal(0.0, 0.03, 7) + [0, 0.02, 0, -0.01, 0, 0, 0]
        width = rng.uniform(0, 0.08)
        tick(second, Command(PANDA.home - 0.2, 0.01))
        seen.append(np.concatenate([np.ravel(value) for value in tick(first, Command(target, width)).values.values()]))
        seen.append(first.simulator_state())
    second.close()
    first.observe()
    first.close()
    for one, two in zip(expected, seen, strict=True):
        assert np.array_equal(one, two)


def test_a_set_point_is_reached_and_gravity_does_not_pull_the_arm_off_it(arm: SimArm):
    arm.reset(START)
    place = PANDA.home + np.array([0.3, 0.1, -0.2, 0.1, 0.2, -0.1, 0.4])
    for part in np.linspace(0.0, 1.0, 20):
        tick(arm, Command(PANDA.home + part * (place - PANDA.home), 0.02))
    seen = tick(arm, count=20)
    assert seen["joint_position"] == pytest.approx(place, abs=2e-3)
    assert seen["joint_velocity"] == pytest.approx(np.zeros(7), abs=1e-2)
    assert seen["gripper_position"][0] == pytest.approx(0.02, abs=1e-3)


def test_the_gripper_moves_at_its_speed(arm: SimArm):
    arm.reset(START)
    widths = [tick(arm, Command(PANDA.home, 0.0))["gripper_position"][0] for _ in range(12)]
    speeds = -np.diff([0.08, *widths]) * PANDA.rate_hz
    assert max(speeds) <= PANDA.gripper.speed * 1.1
    assert widths[3] > 0.03
    assert widths[-1] < 1e-3


def test_hold_stops_the_arm_and_it_stays(arm: SimArm):
    arm.reset(START)
    for step in range(1, 9):
        tick(arm, Command(PANDA.home + 0.05 * step))
    assert np.abs(arm.observe()["joint_velocity"]).max() > 0.5
    arm.send(Command(PANDA.home + 1.0))
    arm.hold()
    stopped_at = arm.observe()["joint_position"]
    tick(arm, count=6)
    rest = arm.observe()
    assert np.abs(rest["joint_velocity"]).max() < 0.02
    assert rest["joint_position"] == pytest.approx(stopped_at, abs=0.02)
    later = tick(arm, count=20)
    assert later["joint_position"] == pytest.approx(rest["joint_position"], abs=2e-3)


def _rises_at(arm: SimArm, delay_s: float) -> float:
    """When, in s after the command, the arm has begun to move."""
    arm.reset(dataclasses.replace(START, physics={"action_delay_s": delay_s}))
    begin = arm.clock.now_ns()
    arm.send(Command(PANDA.home + 0.1))
    while np.abs(arm.observe()["joint_position"] - PANDA.home).max() < 2e-3:
        arm.clock.sleep_until(arm.clock.now_ns() + 4_000_000)
        assert arm.clock.now_ns() < begin + 10**9
    return (arm.clock.now_ns() - begin) * 1e-9


@pytest.mark.parametrize("delay_s", [0.025, 0.05, 0.1])
def test_an_action_delay_delays_by_that_much(arm: SimArm, delay_s: float):
    assert _rises_at(arm, delay_s) - _rises_at(arm, 0.0) == pytest.approx(delay_s, abs=1.5 / PHYSICS_HZ)


def test_delayed_commands_all_arrive_in_order(arm: SimArm):
    def path(delay_s: float, ticks: int) -> np.ndarray:
        arm.reset(dataclasses.replace(START, physics={"action_delay_s": delay_s}))
        moves = [Command(PANDA.home + 0.2 * np.sin(0.2 * step)) for step in range(ticks)]
        return np.array([tick(arm, move)["joint_position"] for move in moves])

    prompt, late = path(0.0, 30), path(0.1, 32)
    assert late[2:] == pytest.approx(prompt, abs=1e-3)  # two periods later, the same way


def test_randomized_masses_and_frictions_are_what_pybullet_computes_with(arm: SimArm):
    scales = {"object_mass_scale": 2.5, "object_friction_scale": 0.4, "finger_friction_scale": 1.7}
    client, cube = arm._client, arm.scene.body("object")
    box = Lift.objects["object"]

    def read() -> tuple[float, float, float]:
        mass, friction = pybullet.getDynamicsInfo(cube, -1, physicsClientId=client)[:2]
        fingers = [pybullet.getDynamicsInfo(arm._body, one, physicsClientId=client)[1] for one in arm._fingers]
        assert fingers[0] == fingers[1]
        return mass, friction, fingers[0]

    nominal = (box.mass, box.friction, 1.0)
    arm.reset(START)
    assert read() == pytest.approx(nominal)
    arm.reset(dataclasses.replace(START, physics=scales))
    assert read() == pytest.approx((box.mass * 2.5, box.friction * 0.4, 1.7))
    arm.reset(START)  # and the next episode has its own again
    assert read() == pytest.approx(nominal)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("motor_gain_scale", 0.3), ("motor_strength_scale", 0.12), ("joint_damping_scale", 200.0)],
)
def test_randomized_motors_and_joints_move_differently(arm: SimArm, parameter: str, value: float):
    def path(physics: dict[str, float]) -> np.ndarray:
        arm.reset(dataclasses.replace(START, physics=physics))
        return np.array([tick(arm, Command(PANDA.home + 0.08 * step))["joint_position"] for step in range(1, 8)])

    nominal, changed, again = path({}), path({parameter: value}), path({})
    assert np.abs(changed - nominal).max() > 2e-3
    assert np.array_equal(nominal, again)


def test_every_parameter_has_an_effect_on_a_grasp(arm: SimArm):
    """None that moves an arm, a grasp or a reading is forgotten; the others are in test_sim_physics and test_looks."""
    strong = {
        "object_mass_scale": 40.0,
        "object_friction_scale": 0.05,
        "finger_friction_scale": 0.02,
        "motor_gain_scale": 0.3,
        "motor_strength_scale": 0.12,
        "joint_damping_scale": 200.0,
        "action_delay_s": 0.05,
        "position_noise_m": 0.002,
        "position_bias_x_m": 0.01,
        "position_bias_y_m": 0.01,
        "joint_noise_rad": 0.001,
        "object_inertia_scale": 50.0,
        "object_size_scale": 1.2,
        "object_linear_damping": 5.0,
        "object_angular_damping": 5.0,
        "object_spinning_friction_scale": 30.0,
        "finger_spinning_friction_scale": 30.0,
        "object_rolling_friction": 0.01,
        "finger_rolling_friction": 0.01,
        "table_friction_scale": 3.0,
        "link_mass_scale": 2.0,
        "link_inertia_scale": 3.0,
        "joint_friction_nm": 5.0,
        "gripper_strength_scale": 0.1,
        "gravity_m_s2": 5.0,
        "control_jitter_s": 0.03,
        "observation_delay_s": 0.05,
        "position_bias_z_m": 0.01,
        "orientation_noise_rad": 0.1,
        "orientation_bias_rad": 0.1,
        "joint_bias_rad": 0.01,
        "joint_velocity_noise_rad_s": 0.1,
        "joint_velocity_bias_rad_s": 0.1,
        "object_drop_chance": 0.5,
        "joint_drop_chance": 0.5,
    }
    assert strong.keys() <= PARAMETERS.keys()

    kinematics = Kinematics(PANDA)
    down = kinematics.solve(
        Pose(np.array([0.5, 0.05, 0.02]), np.array([1.0, 0.0, 0.0, 0.0])), PANDA.home, iterations=50
    )

    def episode(physics: dict[str, float]) -> np.ndarray:
        """Grasp the cube and turn away with it, jerkily."""
        arm.reset(Start(down, 0.06, CUBE, physics=physics))
        tick(arm, Command(down, 0.0), 10)
        path = [down + step * np.array([0.05, -0.03, 0, 0, 0, 0, 0.05]) for step in range(1, 9)]
        seen = [tick(arm, Command(joints, 0.0)) for joints in path]
        keys = ("joint_position", "joint_velocity", "joint_effort", "object_quaternion", "object_position")
        return np.array([np.concatenate([one[key] for key in keys]) for one in seen])

    nominal = episode({})
    assert nominal[-1, -1] > 0.05  # it was lifted
    for parameter, value in strong.items():
        assert np.abs(episode({parameter: value}) - nominal).max() > 1e-6, parameter


def test_observation_noise_has_the_asked_spread_and_bias_and_is_seeded(arm: SimArm):
    physics = {
        "joint_noise_rad": 0.002,
        "position_noise_m": 0.003,
        "position_bias_x_m": 0.02,
        "position_bias_y_m": -0.01,
    }

    def sample(seed: int) -> tuple[np.ndarray, np.ndarray]:
        arm.reset(dataclasses.replace(START, physics=physics, seed=seed))
        seen, truth = [], []
        for _ in range(2000):
            arm.clock.sleep_until(arm.clock.now_ns() + 4_100_000)
            truth.append(arm.simulator_state())
            seen.append(arm.observe())
            assert np.array_equal(arm.observe()["joint_position"], seen[-1]["joint_position"])  # the same reading
        joints = np.array([one["joint_position"] for one in seen]) - np.array(truth)[:, :7]
        return joints, np.array([one["object_position"] for one in seen]) - np.array(truth)[:, 16:19]

    joints, cubes = sample(1)
    assert joints.std(axis=0) == pytest.approx(np.full(7, 0.002), rel=0.1)
    assert joints.mean(axis=0) == pytest.approx(np.zeros(7), abs=3e-4)
    assert cubes.std(axis=0) == pytest.approx(np.full(3, 0.003), rel=0.1)
    assert cubes.mean(axis=0) == pytest.approx(np.array([0.02, -0.01, 0.0]), abs=4e-4)
    assert np.array_equal(joints, sample(1)[0])
    assert not np.array_equal(joints, sample(2)[0])
    quiet = arm.reset(START)
    assert np.array_equal(quiet["joint_position"], arm.observe()["joint_position"])


def test_goals_and_stamps_are_observed(arm: SimArm):
    seen = arm.reset(dataclasses.replace(START, goals={"goal_position": np.array([0.5, 0.0, 0.3])}))
    assert seen["goal_position"].tolist() == [0.5, 0.0, 0.3]
    assert set(seen.values) == set(seen.stamps_ns)
    before = arm.clock.now_ns()
    later = tick(arm)
    assert later.stamps_ns["joint_position"] == before + 50_000_000
    assert "goal_position" not in arm.reset(START)


@pytest.mark.parametrize(
    "command",
    [
        Command(np.full(7, np.nan)),
        Command(np.full(7, np.inf)),
        Command(np.zeros(6)),
        Command(PANDA.home, float("nan")),
    ],
    ids=["nan", "inf", "short", "gripper"],
)
def test_what_is_not_finite_or_of_the_wrong_size_is_refused(arm: SimArm, command: Command):
    arm.reset(START)
    with pytest.raises(InputError, match=r"Command for 'panda' must (be 7 finite joint|have a finite gripper)"):
        arm.send(command)
    assert tick(arm)["joint_position"] == pytest.approx(PANDA.home, abs=2e-3)


def test_the_callers_array_may_change_after_it_was_sent(arm: SimArm):
    arm.reset(START)
    target = PANDA.home.copy()
    arm.send(Command(target))
    target += 1.0
    assert tick(arm)["joint_position"] == pytest.approx(PANDA.home, abs=2e-3)


def test_unknown_names_are_refused(arm: SimArm):
    with pytest.raises(InputError, match=r"Unknown physical parameter 'object_mass': did you mean 'object_mass_scale'"):
        arm.reset(dataclasses.replace(START, physics={"object_mass": 1.0}))
    with pytest.raises(InputError, match=r"Unknown object 'cube'.*object"):
        arm.reset(Start(PANDA.home, objects={"cube": CUBE["object"]}))
    with pytest.raises(InputError, match=r"Unknown camera 'frnot': did you mean 'front'\?"):
        arm.render("frnot")
    with pytest.raises(InputError, match=r"Unknown camera 'side'.*front"):
        SimArm(PANDA, cameras=("side",))
    wrong = PANDA.model_copy(update={"joints": (PANDA.joints[0].model_copy(update={"name": "elbow"}),)})
    with pytest.raises(InputError, match=r"has no movable joints \['elbow'\]; it has \['panda_finger_joint1'"):
        SimArm(wrong)


def test_a_refused_arm_leaves_no_physics_server_behind():
    """PyBullet has a fixed number of servers: a program that tries robots must not run out of them."""
    wrong = PANDA.model_copy(update={"joints": (PANDA.joints[0].model_copy(update={"name": "elbow"}),)})
    client = pybullet.connect(pybullet.DIRECT)
    pybullet.disconnect(client)
    for _ in range(3):
        with pytest.raises(InputError):
            SimArm(wrong)
    after = pybullet.connect(pybullet.DIRECT)
    pybullet.disconnect(after)
    assert after == client


def test_pictures_have_the_asked_shape_and_show_the_cube():
    arm = SimArm(PANDA, Lift.objects, cameras=("front",))
    seen = arm.reset(START)
    camera = PANDA.ros.cameras["front"]
    assert seen["image_front"].shape == (camera.height, camera.width, 3)
    assert seen["image_front"].dtype == np.uint8
    picture = arm.render("front", 80, 60)
    assert picture.shape == (60, 80, 3)
    far = arm.reset(dataclasses.replace(START, objects={"object": Pose(np.array([0.5, -0.15, 0.02]))}))
    red = [
        np.argwhere((i[..., 0] > 90) & (i[..., 1] < i[..., 0] // 2)) for i in (seen["image_front"], far["image_front"])
    ]
    assert min(map(len, red)) > 5  # the cube is red, and where it lies changes the picture
    assert np.abs(red[0].mean(axis=0) - red[1].mean(axis=0)).max() > 5
    arm.close()


def test_simulator_state_tells_arm_and_cube_apart(arm: SimArm):
    arm.reset(START)
    state = arm.simulator_state()
    assert state.shape == (7 + 7 + 2 + 13,)
    assert state[:7] == pytest.approx(PANDA.home)
    assert state[16:19] == pytest.approx(CUBE["object"].position)


def test_a_robot_without_gripper_or_objects_works_too():
    kuka = load_robot("kuka_iiwa")
    arm = SimArm(kuka)
    seen = arm.reset(Start(kuka.home))
    assert "gripper_position" not in seen
    arm.send(Command(kuka.home + 0.05))
    arm.clock.sleep_until(arm.clock.now_ns() + 300_000_000)
    assert arm.observe()["joint_position"] == pytest.approx(kuka.home + 0.05, abs=3e-3)
    arm.close()


def test_simulated_time_only_moves_by_waiting_and_costs_no_real_time(arm: SimArm):
    arm.reset(START)
    begin, real = arm.clock.now_ns(), time.monotonic()
    arm.observe()
    assert arm.clock.now_ns() == begin
    arm.clock.sleep_until(begin - 10**9)
    assert arm.clock.now_ns() == begin
    arm.clock.sleep_until(begin + 3 * 10**9)
    assert arm.clock.now_ns() == begin + 3 * 10**9
    assert time.monotonic() - real < 2.5


def test_a_realtime_arm_keeps_pace_with_the_wall_clock():
    arm = SimArm(PANDA, realtime=True)
    arm.reset(Start(PANDA.home))
    arm.clock.sleep_until(arm.clock.now_ns() + 20_000_000)  # settles the pace, which building the arm has delayed
    real = time.monotonic()
    arm.clock.sleep_until(arm.clock.now_ns() + 200_000_000)
    assert 0.17 < time.monotonic() - real < 0.6
    arm.close()


def test_close_may_be_called_twice():
    arm = SimArm(PANDA)
    arm.close()
    arm.close()
