"""What is randomized does to bodies what its name says; measured on bodies that fall, slide, roll, spin and bounce."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pybullet
import pytest

from understudy.envs.arms.arm import Command, Pose, Start
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.arms.sim_clock import PHYSICS_HZ
from understudy.envs.arms.sim_scene import TABLE
from understudy.envs.make import make_env
from understudy.envs.parameters import NOMINAL, PARAMETERS
from understudy.envs.randomization import Distribution, Randomization, load_randomization
from understudy.envs.tasks.scene import box, cylinder
from understudy.errors import InputError

PANDA = load_robot("panda")
BALL = "drum"
THINGS = {"cube": box((0.02, 0.02, 0.02), 0.1), BALL: cylinder(0.03, 0.02, 0.2)}
ON_ITS_SIDE = np.array([np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)])
"""xyzw: the cylinder's axis along y."""


@pytest.fixture(scope="module")
def arm() -> Iterator[SimArm]:
    made = SimArm(PANDA, THINGS)
    yield made
    made.close()


def at(x: float, y: float, z: float, quaternion: np.ndarray | None = None) -> Pose:
    return Pose(np.array([x, y, z]), np.array([0.0, 0.0, 0.0, 1.0]) if quaternion is None else quaternion)


def begin(arm: SimArm, physics: dict[str, float], cube: Pose | None = None, drum: Pose | None = None) -> None:
    objects = {"cube": cube or at(0.5, -0.3, 0.02), BALL: drum or at(0.5, 0.3, 0.02)}
    arm.reset(Start(PANDA.home, 0.08, objects, physics=physics))


def push(arm: SimArm, name: str, linear: tuple[float, ...] = (0, 0, 0), angular: tuple[float, ...] = (0, 0, 0)) -> None:
    pybullet.resetBaseVelocity(arm.scene.body(name), linear, angular, physicsClientId=arm._client)


def run(arm: SimArm, seconds: float) -> np.ndarray:
    arm.clock.sleep_until(arm.clock.now_ns() + round(seconds * 1e9))
    return arm.object_pose("cube").position


def speeds(arm: SimArm, name: str) -> tuple[np.ndarray, np.ndarray]:
    linear, angular = pybullet.getBaseVelocity(arm.scene.body(name), physicsClientId=arm._client)
    return np.array(linear), np.array(angular)


@pytest.mark.parametrize("gravity", [3.0, 9.81, 20.0])
def test_things_fall_as_gravity_says(arm: SimArm, gravity: float):
    begin(arm, {"gravity_m_s2": gravity, "object_linear_damping": 0.0}, cube=at(0.5, -0.3, 1.0))
    fallen = 1.0 - run(arm, 0.2)[2]
    assert fallen == pytest.approx(gravity * 0.2**2 / 2, rel=0.03)


@pytest.mark.parametrize("damping", [0.0, 2.0])
def test_damping_slows_what_flies_and_what_turns(arm: SimArm, damping: float):
    physics = {"gravity_m_s2": 0.0, "object_linear_damping": damping, "object_angular_damping": damping}
    begin(arm, physics, cube=at(0.5, -0.3, 0.6))
    push(arm, "cube", (0.0, 0.0, 1.0), (0.0, 0.0, 3.0))
    run(arm, 0.3)
    for speed, begun in zip((speeds(arm, "cube")[0][2], speeds(arm, "cube")[1][2]), (1.0, 3.0), strict=True):
        # Bullet: dv/dt = -d v (1 + |v|), so that v / (1 + v) decays exponentially
        left = begun / (1 + begun) * np.exp(-damping * 0.3)
        assert speed == pytest.approx(left / (1 - left), rel=0.03)


@pytest.mark.parametrize(("parameter", "scale"), [("object_friction_scale", 0.5), ("table_friction_scale", 0.5)])
def test_friction_brakes_what_slides_in_proportion(arm: SimArm, parameter: str, scale: float):
    """Sliding distance is v^2 / (2 mu g)."""

    def slides(physics: dict[str, float]) -> float:
        begin(arm, {"object_linear_damping": 0.0, "object_friction_scale": 0.4} | physics)
        run(arm, 0.1)
        y = arm.object_pose("cube").position[1]
        push(arm, "cube", (0.0, 0.8, 0.0))
        return float(run(arm, 0.8)[1] - y)

    mu = 0.4 * THINGS["cube"].friction * TABLE.friction
    assert slides({}) == pytest.approx(0.8**2 / (2 * mu * 9.81), rel=0.1)
    less = 0.4 * scale if parameter == "object_friction_scale" else scale
    assert slides({parameter: less}) == pytest.approx(slides({}) / scale, rel=0.1)


@pytest.mark.parametrize("parameter", ["object_rolling_friction", "table_rolling_friction"])
def test_rolling_friction_stops_what_rolls(arm: SimArm, parameter: str):
    def rolls(value: float) -> float:
        undamped = {"object_linear_damping": 0.0, "object_angular_damping": 0.0}
        begin(arm, undamped | {parameter: value}, drum=at(0.3, 0.3, 0.03, ON_ITS_SIDE))
        run(arm, 0.1)
        push(arm, BALL, (0.3, 0.0, 0.0), (0.0, 10.0, 0.0))
        run(arm, 0.5)
        return float(speeds(arm, BALL)[0][0])

    free, little, much = rolls(0.0), rolls(0.0005), rolls(0.003)
    assert free > 0.25
    assert free > little + 0.02
    assert little > much + 0.02


@pytest.mark.parametrize(
    ("parameter", "value"), [("object_spinning_friction_scale", 20.0), ("table_spinning_friction", 0.02)]
)
def test_spinning_friction_stops_what_spins(arm: SimArm, parameter: str, value: float):
    def spins(physics: dict[str, float]) -> float:
        begin(arm, {"object_friction_scale": 0.02, **physics})
        run(arm, 0.1)
        push(arm, "cube", angular=(0.0, 0.0, 10.0))
        run(arm, 0.1)
        return float(speeds(arm, "cube")[1][2])

    assert spins({parameter: value}) < spins({}) - 0.5


@pytest.mark.parametrize("restitution", [0.0, 0.3, 0.6, 0.9])
def test_restitution_is_the_speed_after_an_impact_over_that_before(arm: SimArm, restitution: float):
    begin(arm, {"object_restitution": restitution, "object_linear_damping": 0.0}, cube=at(0.5, -0.3, 0.27))
    path = []
    for _ in range(80):
        run(arm, 1 / PHYSICS_HZ)
        path.append(speeds(arm, "cube")[0][2])
    impact = int(np.argmin(path))
    assert -max(path[impact:]) / path[impact] == pytest.approx(restitution, abs=0.07)


def test_inertia_resists_turning_and_mass_resists_pushing(arm: SimArm):
    def shoved(physics: dict[str, float], torque: bool) -> float:
        begin(arm, {"gravity_m_s2": 0.0, **physics}, cube=at(0.5, -0.3, 0.6))
        body, client = arm.scene.body("cube"), arm._client
        if torque:
            pybullet.applyExternalTorque(body, -1, (0.0, 0.0, 1e-3), pybullet.WORLD_FRAME, physicsClientId=client)
        else:
            place = arm.object_pose("cube").position
            pybullet.applyExternalForce(body, -1, (0.0, 0.0, 1.0), place, pybullet.WORLD_FRAME, physicsClientId=client)
        run(arm, 1 / PHYSICS_HZ)
        linear, angular = speeds(arm, "cube")
        return float(angular[2] if torque else linear[2])

    for torque, physics, slower in (
        (True, {"object_inertia_scale": 3.0}, 3.0),
        (False, {"object_inertia_scale": 3.0}, 1.0),
        (False, {"object_mass_scale": 4.0}, 4.0),
        (True, {"object_mass_scale": 4.0}, 4.0),
        (True, {"object_mass_scale": 4.0, "object_inertia_scale": 0.5}, 2.0),
    ):
        assert shoved({}, torque) / shoved(physics, torque) == pytest.approx(slower, rel=0.01)


def test_a_larger_object_stands_higher_and_the_next_episode_has_the_built_one(arm: SimArm):
    def rests() -> float:
        return float(run(arm, 0.3)[2])

    begin(arm, {"object_size_scale": 1.5}, cube=at(0.5, -0.3, 0.03))
    assert rests() == pytest.approx(0.03, abs=1e-3)
    begin(arm, {})
    assert rests() == pytest.approx(0.02, abs=1e-3)


def _trace(arm: SimArm, physics: dict[str, float], seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    start = Start(PANDA.home, 0.08, {"cube": at(0.5, 0.0, 0.02), BALL: at(0.5, 0.02, 0.07)}, physics=physics)
    arm.reset(start)
    target, rows = PANDA.home, []
    for _ in range(25):
        target = target + rng.normal(0.0, 0.03, 7) + [0, 0.04, 0, -0.02, 0, 0, 0]
        arm.send(Command(target, rng.uniform(0, 0.08)))
        arm.clock.sleep_until(arm.clock.now_ns() + 50_000_000)
        rows.append(arm.simulator_state())
    return np.array(rows)


def test_nominal_physics_are_the_same_to_the_bit_after_any_others(arm: SimArm):
    """Two objects on each other, with all parameters away from nominal in between, sizes too."""
    fresh_arm = SimArm(PANDA, THINGS)
    fresh = _trace(fresh_arm, {})
    fresh_arm.close()
    everything = load_randomization("hard").sample(np.random.default_rng(0)) | {"object_size_scale": 1.3}
    strange = _trace(arm, everything, seed=5)
    assert np.array_equal(_trace(arm, {}), fresh)
    assert np.array_equal(_trace(arm, dict(NOMINAL)), fresh)
    assert np.array_equal(_trace(arm, everything, seed=5), strange)


def _efforts(arm: SimArm, physics: dict[str, float]) -> np.ndarray:
    arm.reset(Start(PANDA.home, 0.08, physics=physics))
    arm.clock.sleep_until(arm.clock.now_ns() + 300_000_000)
    return arm.observe()["joint_effort"]


def test_heavier_links_and_more_gravity_take_more_effort_to_hold(arm: SimArm):
    nominal = _efforts(arm, {})
    assert np.abs(nominal).max() > 10.0
    assert _efforts(arm, {"link_mass_scale": 1.5}) == pytest.approx(1.5 * nominal, abs=0.5)
    assert _efforts(arm, {"gravity_m_s2": 2 * 9.81}) == pytest.approx(2 * nominal, abs=0.5)
    assert np.abs(_efforts(arm, {"gravity_m_s2": 0.0})).max() < 0.5


def _turning(arm: SimArm, physics: dict[str, float], speed: float = 0.5) -> tuple[float, float]:
    """(effort, position) of the last joint, which gravity leaves alone, turning steadily for half a second."""
    arm.reset(Start(PANDA.home, 0.08, physics=physics))
    target = PANDA.home.copy()
    for _ in range(10):
        target = target + np.array([0, 0, 0, 0, 0, 0, speed / PANDA.rate_hz])
        arm.send(Command(target))
        arm.clock.sleep_until(arm.clock.now_ns() + 50_000_000)
    seen = arm.observe()
    return float(seen["joint_effort"][6]), float(seen["joint_position"][6] - PANDA.home[6])


def test_joint_friction_is_an_effort_against_the_motion_and_stalls_a_weak_motor(arm: SimArm):
    free, moved = _turning(arm, {})
    for speed in (0.5, -0.5):
        effort, _ = _turning(arm, {"joint_friction_nm": 2.0}, speed)
        assert effort - np.sign(speed) * free == pytest.approx(np.sign(speed) * 2.0, abs=0.2)
    weak = {"motor_strength_scale": 0.15}  # of 12 N m
    assert _turning(arm, weak)[1] == pytest.approx(moved, abs=0.02)
    assert abs(_turning(arm, weak | {"joint_friction_nm": 2.5})[1]) < 0.02 * moved


ONE_JOINT = """<robot name="one"><link name="base"/>
<joint name="turn" type="revolute"><parent link="base"/><child link="bar"/><origin xyz="0 0 0.3"/><axis xyz="0 0 1"/>
<limit lower="-3" upper="3" velocity="3" effort="20"/></joint>
<link name="bar"><inertial><origin xyz="0.2 0 0"/><mass value="1"/>
<inertia ixx="0.001" ixy="0" ixz="0" iyy="0.01" iyz="0" izz="0.01"/></inertial></link>
<joint name="tip" type="fixed"><parent link="bar"/><child link="tool"/><origin xyz="0.4 0 0"/></joint>
<link name="tool"/></robot>
"""


def test_an_only_joint_has_friction_too(tmp_path: Path):
    """It once had no other joint to be braked against, and the arm could not be reset."""
    (tmp_path / "one.urdf").write_text(ONE_JOINT)
    (tmp_path / "one.yaml").write_text(
        "{name: one, urdf: one.urdf, tool_frame: tool, workspace: {low: [-1, -1, 0], high: [1, 1, 1]}, joints: [{name: "
        "turn, home: 0, lower: -3, upper: 3, velocity: 3, acceleration: 30, jerk: 300, effort: 20}]}"
    )
    robot = load_robot(tmp_path / "one.yaml")
    arm = SimArm(robot)

    def turning(physics: dict[str, float], speed: float = 0.5) -> tuple[float, float]:
        arm.reset(Start(robot.home, physics=physics))
        for tick in range(1, 11):
            arm.send(Command(robot.home + tick * speed / robot.rate_hz))
            arm.clock.sleep_until(arm.clock.now_ns() + 50_000_000)
        seen = arm.observe()
        return float(seen["joint_effort"][0]), float(seen["joint_position"][0])

    free, moved = turning({})
    assert moved == pytest.approx(0.25, abs=0.01)
    for sign in (1.0, -1.0):
        effort, _ = turning({"joint_friction_nm": 2.0}, 0.5 * sign)
        assert effort - sign * free == pytest.approx(sign * 2.0, abs=0.05)
    assert abs(turning({"motor_strength_scale": 0.1, "joint_friction_nm": 2.5})[1]) < 0.01
    assert turning({}) == (free, moved)
    arm.close()


def test_inertia_of_links_takes_effort_to_speed_up(arm: SimArm):
    def lag(physics: dict[str, float]) -> float:
        arm.reset(Start(PANDA.home, 0.08, physics={"motor_strength_scale": 0.05, "gravity_m_s2": 0.0, **physics}))
        arm.send(Command(PANDA.home + np.array([0.3, 0, 0, 0, 0, 0, 0])))
        arm.clock.sleep_until(arm.clock.now_ns() + 100_000_000)
        return float(PANDA.home[0] + 0.3 - arm.observe()["joint_position"][0])

    assert lag({"link_inertia_scale": 10.0}) > lag({}) + 0.005


def test_a_weak_gripper_holds_with_less(arm: SimArm):
    nominal, weak = (_grip(arm, scale) for scale in (1.0, 0.2))
    assert weak == pytest.approx(0.2 * nominal, rel=0.2)


def _grip(arm: SimArm, scale: float) -> float:
    """How hard the fingers press on a box as wide as the gripper half open, N."""
    arm.reset(Start(PANDA.home, 0.08, physics={"gripper_strength_scale": scale, "gravity_m_s2": 0.0}))
    client, tool = arm._client, arm._fingers[0] + 2
    link = pybullet.getLinkState(arm._body, tool, computeForwardKinematics=1, physicsClientId=client)
    arm.scene.place("cube", Pose(np.array(link[4]), np.array(link[5])))
    arm.send(Command(PANDA.home, 0.0))
    arm.clock.sleep_until(arm.clock.now_ns() + 1_000_000_000)
    cube, finger = arm.scene.body("cube"), arm._fingers[0]
    contacts = pybullet.getContactPoints(arm._body, cube, finger, -1, physicsClientId=client)
    return sum(contact[9] for contact in contacts)


def _response(arm: SimArm, physics: dict[str, float], seed: int = 1) -> np.ndarray:
    """Positions read of the first joint each physics step after a command."""
    arm.reset(Start(PANDA.home, 0.08, physics=physics, seed=seed))
    arm.send(Command(PANDA.home + np.array([0.2, 0, 0, 0, 0, 0, 0])))
    rows = []
    for _ in range(60):
        arm.clock.sleep_until(arm.clock.now_ns() + 4_166_667)
        rows.append(arm.observe()["joint_position"][0])
    return np.array(rows)


def test_an_observation_delay_shifts_what_is_read_and_stamps_it_as_new(arm: SimArm):
    prompt = _response(arm, {})
    late = _response(arm, {"observation_delay_s": 10 / PHYSICS_HZ})
    assert late[:10] == pytest.approx(np.full(10, PANDA.home[0]), abs=1e-3)
    assert np.array_equal(late[10:], prompt[:-10])
    now = arm.clock.now_ns()
    assert set(arm.observe().stamps_ns.values()) == {now}


def test_jitter_makes_commands_late_by_up_to_that_much_and_keeps_their_order(arm: SimArm):
    rises = []
    for seed in range(30):
        moved = np.abs(_response(arm, {"control_jitter_s": 0.05}, seed) - PANDA.home[0]) > 2e-3
        rises.append(int(np.argmax(moved)) / PHYSICS_HZ)
    prompt = int(np.argmax(np.abs(_response(arm, {}) - PANDA.home[0]) > 2e-3)) / PHYSICS_HZ
    late = np.array(rises) - prompt
    assert late.min() >= 0.0
    assert late.max() <= 0.05 + 1 / PHYSICS_HZ
    assert late.mean() == pytest.approx(0.025, abs=0.01)
    arm.reset(Start(PANDA.home, 0.08, physics={"control_jitter_s": 0.5}, seed=3))
    for step in range(20):
        arm.send(Command(PANDA.home + 0.001 * step))
        arm.clock.sleep_until(arm.clock.now_ns() + 5_000_000)
    due = [stamp for stamp, _ in arm.motors.state().waiting]
    assert due == sorted(due)


def test_dropped_readings_are_old_ones_with_their_stamps_and_never_too_old(arm: SimArm):
    def read(chance: float) -> list[float]:
        arm.reset(Start(PANDA.home, 0.08, physics={"object_drop_chance": chance}, seed=2))
        ages = []
        for _ in range(400):
            arm.clock.sleep_until(arm.clock.now_ns() + 50_000_000 // 2)
            seen = arm.observe()
            assert seen.stamps_ns["joint_position"] == arm.clock.now_ns()
            ages.append((arm.clock.now_ns() - seen.stamps_ns["cube_position"]) * 1e-9)
        return ages

    assert np.mean(np.array(read(0.3)) > 0) == pytest.approx(0.3, abs=0.07)
    limit_s = min([PANDA.ros.joint_states.max_age_s, *(pose.max_age_s for pose in PANDA.ros.poses.values())])
    longest = max(read(1.0))
    assert 0.05 < longest < limit_s - PANDA.period_s
    assert max(read(0.0)) == 0.0


def test_joint_offsets_are_constant_in_an_episode_and_differ_between_joints(arm: SimArm):
    def offsets(seed: int) -> np.ndarray:
        physics = {"joint_bias_rad": 0.01, "joint_velocity_bias_rad_s": 0.1}
        arm.reset(Start(PANDA.home, 0.08, physics=physics, seed=seed))
        rows = []
        for _ in range(3):
            arm.clock.sleep_until(arm.clock.now_ns() + 50_000_000)
            seen = arm.observe()
            read = np.concatenate([seen["joint_position"], seen["joint_velocity"]])
            rows.append(read - arm.simulator_state()[:14])
        assert rows[0] == pytest.approx(rows[2], abs=1e-12)
        return rows[0]

    drawn = np.array([offsets(seed) for seed in range(60)])
    assert drawn[:, :7].std() == pytest.approx(0.01, rel=0.15)
    assert drawn[:, 7:].std() == pytest.approx(0.1, rel=0.15)


def test_orientation_errors_turn_what_is_read(arm: SimArm):
    begin(arm, {"orientation_bias_rad": 0.3})
    x, y, z, w = arm.observe()["cube_quaternion"]
    assert 2 * np.arctan2(z, w) == pytest.approx(0.3, abs=1e-6)
    arm.reset(Start(PANDA.home, 0.08, physics={"orientation_noise_rad": 0.05}, seed=1))
    turns = []
    for _ in range(400):
        arm.clock.sleep_until(arm.clock.now_ns() + 4_200_000)
        truth, read = arm.object_pose("cube").quaternion, arm.observe()["cube_quaternion"]
        assert np.linalg.norm(read) == pytest.approx(1.0)
        turns.append(2 * np.arccos(min(1.0, abs(truth @ read))))
    assert np.mean(np.square(turns)) == pytest.approx(3 * 0.05**2, rel=0.2)
    assert (x, y) == pytest.approx((0.0, 0.0), abs=1e-3)


def test_where_objects_start_is_shifted_turned_and_recorded():
    exact = {
        "object_offset_x_m": 0.03,
        "object_offset_y_m": -0.02,
        "object_yaw_rad": 0.5,
        "object_size_scale": 1.25,
    }
    fixed = Randomization("fixed", {name: Distribution("uniform", value, value) for name, value in exact.items()})
    plain, moved = make_env("lift"), make_env("lift", randomization=fixed)
    try:
        one, two = (env.reset(seed=4)[1]["start"].objects["object"] for env in (plain, moved))
        assert two.position - one.position == pytest.approx([0.03, -0.02, 0.005])
        yaw = [2 * np.arctan2(pose.quaternion[2], pose.quaternion[3]) for pose in (one, two)]
        assert yaw[1] - yaw[0] == pytest.approx(0.5)
        _, info = moved.reset(seed=4)
        assert dict(info["start"].physics) == exact | {"noise_seed": float(info["start"].seed)}
    finally:
        plain.close()
        moved.close()


def test_a_moment_can_be_gone_back_to_with_late_readings_and_friction(arm: SimArm):
    physics = load_randomization("hard").sample(np.random.default_rng(4))
    physics |= {"observation_delay_s": 0.03, "joint_drop_chance": 0.3, "control_jitter_s": 0.03}

    def go_on(steps: int) -> list[np.ndarray]:
        rows = []
        for step in range(steps):
            arm.send(Command(PANDA.home + 0.03 * step, 0.02))
            arm.clock.sleep_until(arm.clock.now_ns() + 50_000_000)
            seen = arm.observe()
            rows.append(np.concatenate([np.ravel(value) for value in seen.values.values()]))
            rows.append(np.array([arm.clock.now_ns() - stamp for stamp in seen.stamps_ns.values()]))
            rows.append(arm.simulator_state())
        return rows

    objects = {"cube": at(0.5, 0.0, 0.02), BALL: at(0.5, 0.02, 0.07)}
    arm.reset(Start(PANDA.home, 0.08, objects, physics=physics, seed=7))
    go_on(4)
    moment = arm.save()
    first = go_on(8)
    begin(arm, {})
    arm.restore(moment)
    for one, two in zip(first, go_on(8), strict=True):
        assert np.array_equal(one, two)


def test_unknown_parameters_are_refused_by_the_arm(arm: SimArm):
    with pytest.raises(InputError, match="did you mean 'gravity_m_s2'"):
        begin(arm, {"gravity": 1.0})


def test_a_reset_without_randomization_tells_pybullet_nothing(arm: SimArm, monkeypatch: pytest.MonkeyPatch):
    begin(arm, {"object_mass_scale": 2.0})
    begin(arm, {})
    told: list[object] = []
    monkeypatch.setattr(pybullet, "changeDynamics", lambda *args, **kwargs: told.append(args))
    begin(arm, {})
    assert told == []
    begin(arm, {"table_friction_scale": 0.9})
    assert len(told) == 1


@pytest.mark.slow
def test_a_reset_takes_below_half_a_millisecond(arm: SimArm):
    start = Start(PANDA.home, 0.08, {"cube": at(0.5, -0.3, 0.02), BALL: at(0.5, 0.3, 0.02)})
    times = []
    for _ in range(200):
        before = time.perf_counter()
        arm.reset(start)
        times.append(time.perf_counter() - before)
    assert np.median(times) < 0.5e-3


def test_every_parameter_belongs_to_a_test():
    """A parameter that is added without a test of its effect fails here."""
    folder = Path(__file__).parent
    text = "".join((folder / name).read_text() for name in ("test_sim_physics.py", "test_sim_arm.py", "test_looks.py"))
    assert [name for name in PARAMETERS if not re.search(rf"\b{name}\b", text)] == []
