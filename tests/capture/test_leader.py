"""The leader: nothing moves before it is near, the arm follows it in every action space, and its loss is told."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from conformance.device import DeviceConformance
from device_hands import CALIBRATION, Leader

from understudy.capture.devices.device import neutral
from understudy.capture.devices.leader import LeaderConfig, LeaderDevice
from understudy.capture.devices.leader_states import SETTLED_S, LeaderSample
from understudy.datasets.align import Aligned
from understudy.envs.arms.actions import make_action_space
from understudy.envs.arms.arm import Start
from understudy.envs.arms.clock import VirtualClock
from understudy.envs.arms.fake_arm import FakeArm
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import load_robot
from understudy.envs.control import Control
from understudy.errors import InputError

PANDA = load_robot("panda")
KINEMATICS = Kinematics(PANDA)
PERIOD_S = PANDA.period_s
SPACES = ("tool_delta", "joint_delta", "joint_position", "joint_velocity")


def aligned_at(joints: np.ndarray) -> Aligned:
    values = {
        "joint_position": joints.astype(np.float32),
        "gripper_position": np.array([0.06], np.float32),
    }
    return Aligned(0, values, {})


HOME = aligned_at(PANDA.home)


class TestLeader(DeviceConformance):
    spec = make_action_space("tool_delta", PANDA, KINEMATICS).spec
    now = HOME

    @pytest.fixture
    def device(self) -> LeaderDevice:
        return made("tool_delta")[0]


def made(space: str, config: LeaderConfig | None = None) -> tuple[LeaderDevice, Leader]:
    clock = VirtualClock()
    leader = Leader(clock)
    spec = make_action_space(space, PANDA, KINEMATICS).spec
    device = LeaderDevice(spec, PANDA, PERIOD_S, leader, CALIBRATION, config, clock=clock, kinematics=KINEMATICS)
    device.reset(HOME.values)
    return device, leader


def still(device: LeaderDevice, aligned: Aligned) -> np.ndarray:
    return neutral(device._spec, aligned)


@pytest.mark.parametrize("space", SPACES)
def test_nothing_moves_before_recording_or_before_the_leader_is_near(space: str) -> None:
    device, leader = made(space)
    leader.pose = PANDA.home + 0.15
    assert np.allclose(device.read(HOME).action, still(device, HOME), atol=1e-6)
    device.start_pressed()
    leader.pose = PANDA.home.copy()
    leader.pose[3] += 0.5
    reading = device.read(HOME)
    assert np.allclose(reading.action, still(device, HOME), atol=1e-6)
    assert reading.message.startswith(
        f"The leader is not near the arm: joint {PANDA.joint_names[3]!r} is +0.50 rad off, at most 0.2 rad is allowed."
    )
    assert reading.events == ()


class Followed:
    """A leader and a guarded fake arm that follows it, tick by tick."""

    def __init__(self, space: str, config: LeaderConfig | None = None) -> None:
        self.arm = FakeArm(PANDA, kinematics=KINEMATICS)
        keys = ("joint_position", "gripper_position")
        self.control = Control(Guard(self.arm), space, keys, kinematics=KINEMATICS)
        self.leader = Leader(self.arm.clock)
        self.device = LeaderDevice(
            self.control.actions.spec, PANDA, PERIOD_S, self.leader, CALIBRATION, config,
            clock=self.arm.clock, kinematics=KINEMATICS,
        )  # fmt: skip
        self.aligned = self.control.reset(Start(PANDA.home, 0.08))
        self.device.reset(self.aligned.values)
        self.device.start_pressed()
        self.events: list[str] = []

    def run(self, ticks: int, way: Callable[[float], np.ndarray] | None = None) -> np.ndarray:
        """Joint positions (ticks, 7) while the leader goes along `way`, a pose for each time in s."""
        seen = []
        for tick in range(ticks):
            if way is not None:
                self.leader.pose = way(tick * PERIOD_S)
            reading = self.device.read(self.aligned)
            self.events += reading.events
            self.control.apply(reading.action)
            self.aligned = self.control.wait()
            seen.append(np.asarray(self.aligned.values["joint_position"], np.float64))
        return np.array(seen)

    def off(self) -> float:
        """How far the arm is from the leader's pose: of the tool, m and rad added, where only that is followed."""
        joints = np.asarray(self.aligned.values["joint_position"], np.float64)
        if self.control.actions.spec.name != "tool_delta":
            return float(np.abs(joints - self.leader.pose).max())
        here, there = KINEMATICS.tool_pose(joints), KINEMATICS.tool_pose(self.leader.pose)
        turned = 2 * math.acos(min(1.0, abs(float(here.quaternion @ there.quaternion))))
        return float(np.abs(here.position - there.position).max()) + turned


def slow(t: float) -> np.ndarray:
    return PANDA.home + 0.3 * np.sin(0.8 * t) * np.array([1.0, -0.5, 0.8, 0.4, 0.6, -0.7, 1.0])


@pytest.mark.parametrize("space", SPACES)
def test_the_arm_follows_a_moving_leader_and_comes_to_rest_on_it(space: str) -> None:
    pair = Followed(space)
    pair.run(60, slow)
    assert pair.off() < 0.08  # on the way: the arm's lag
    pair.run(60)
    assert pair.off() < 0.01
    assert pair.events == []


@pytest.mark.parametrize("space", SPACES)
def test_what_the_guard_held_back_is_made_up_for(space: str) -> None:
    """A leader that is thrown faster than the arm may follow is reached again once it rests."""
    pair = Followed(space)
    pair.run(20, slow)
    target = PANDA.home + np.array([0.9, 0.3, -0.6, 0.4, 0.8, 0.5, -1.0])
    start = pair.leader.pose.copy()
    pair.run(5, lambda t: start + (target - start) * min(1.0, t / 0.15))
    assert pair.off() > 0.1
    pair.leader.pose = target
    pair.run(140)
    assert pair.off() < 0.02


@pytest.mark.parametrize("space", SPACES)
def test_what_is_left_at_the_start_is_taken_up_slowly(space: str) -> None:
    pair = Followed(space, LeaderConfig(start_rad=0.2, ramp_s=2.0))
    pair.leader.pose = PANDA.home + 0.18
    seen = pair.run(100)
    speed = np.abs(np.diff(seen, axis=0)).max() / PERIOD_S
    assert speed < 0.2  # 0.18 rad over 2 s, and what catching up adds
    assert pair.off() < 0.01


def test_the_trigger_moves_the_gripper() -> None:
    pair = Followed("joint_position")
    pair.leader.trigger = 0.25
    pair.run(30)
    assert pair.aligned.values["gripper_position"][0] == pytest.approx(0.06, abs=0.003)


def test_a_silent_leader_is_lost_once_and_comes_back_waiting_for_start() -> None:
    pair = Followed("joint_delta")
    pair.run(10)
    pair.leader.close()
    seen = pair.run(20)
    assert pair.events == ["lost"]
    assert pair.device.lost is True
    assert "silent for" in pair.device.read(pair.aligned).message
    assert np.abs(seen[-1] - seen[6]).max() < 1e-3
    pair.leader.silent_since_ns = None
    pair.leader.pose = PANDA.home + 0.1
    seen = pair.run(20)
    assert pair.events == ["lost", "back"]
    assert np.abs(seen[-1] - seen[0]).max() < 1e-3
    assert "press start" in pair.device.read(pair.aligned).message
    pair.device.start_pressed()
    pair.run(60)
    assert pair.off() < 0.01


JUMP_RAD = np.array([0.0, 0.0, 0.0, 0.9, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("stamped", [False, True])
@pytest.mark.parametrize("space", SPACES)
def test_a_leader_that_jumps_in_mid_take_is_lost_and_not_followed(space: str, stamped: bool) -> None:
    """An encoder that was swapped, a driver that was restarted: the arm went there at the Guard's full speed once."""
    pair = Followed(space)
    if stamped:
        pair.leader.driver = lambda: 10**18 + pair.arm.clock.now_ns()
    pair.run(20, slow)
    pair.run(20)
    assert pair.off() < 0.05
    before = np.asarray(pair.aligned.values["joint_position"], np.float64)
    pair.leader.pose = pair.leader.pose + JUMP_RAD
    seen = pair.run(round(0.5 / PERIOD_S))
    assert pair.events == ["lost"]
    assert pair.device.lost is True
    assert np.abs(seen - before).max() < 0.02
    assert pair.device.read(pair.aligned).message.startswith(
        f"The leader's joint 'j3' jumped by +0.90 rad in {PERIOD_S:.3f} s; no arm that is moved by hand is quicker than"
    )


def test_a_leader_that_jumped_comes_back_as_any_lost_device_does() -> None:
    pair = Followed("joint_delta")
    pair.run(10)
    pair.leader.pose = pair.leader.pose + JUMP_RAD
    pair.run(round(SETTLED_S / PERIOD_S))
    assert pair.events == ["lost"]
    pair.run(3)
    assert pair.events == ["lost", "back"]
    assert "press start" in pair.device.read(pair.aligned).message
    pair.device.start_pressed()
    seen = pair.run(20)
    assert np.abs(seen - PANDA.home).max() < 0.02
    assert "joint 'panda_joint4' is +0.90 rad off" in pair.device.read(pair.aligned).message
    pair.leader.pose = PANDA.home + 0.1
    pair.run(2)  # moved in one go: too quick
    assert pair.events == ["lost", "back", "lost"]


def test_two_arms_on_one_topic_stay_lost() -> None:
    """Whichever spoke last is read; each change is a jump, also when their clocks differ by hours."""
    pair = Followed("joint_position")
    pair.run(10)
    here, there = pair.leader.pose, pair.leader.pose + JUMP_RAD
    for tick in range(90):
        pair.leader.pose = (here, there)[tick // 7 % 2]
        pair.leader.driver = lambda tick=tick: 10**18 + pair.arm.clock.now_ns() + (0, 10**13)[tick // 7 % 2]  # type: ignore[misc]
        pair.run(1)
    assert pair.events == ["lost"]


@pytest.mark.parametrize("stamped", [False, True])
@pytest.mark.parametrize("gap_rad", [0.3, 0.44, 0.8, 1.6])
@pytest.mark.parametrize("rate_hz", [5.0, 20.0])
def test_two_arms_that_speak_in_turn_are_lost_whoever_spoke_last(stamped: bool, gap_rad: float, rate_hz: float) -> None:
    """Incident: two arms at 100 Hz, 5 ms apart: only the newest was compared, once a tick, and flips went unseen."""
    device, leader = made("joint_position")
    device.start_pressed()
    if stamped:
        leader.driver = lambda: 10**18 + leader.clock.now_ns()
    here, there = leader.pose, leader.pose + gap_rad * np.eye(len(leader.pose))[2]
    whose, readings = 0, []
    for _ in range(20):
        for _ in range(round(200 / rate_hz) - 1):
            leader.clock.advance(0.005)
            leader.between.append(leader.says((here, there)[whose], leader.clock.now_ns()))
            whose = 1 - whose
        leader.clock.advance(0.005)
        leader.pose = here  # the newest is the same arm's at every tick
        readings.append(device.read(HOME))
    assert device.lost
    assert [event for reading in readings for event in reading.events] == ["lost"]
    assert "or for a second arm on the topic" in readings[-1].message


@pytest.mark.parametrize("stamped", [False, True])
def test_a_leader_whose_messages_come_in_bursts_is_followed(stamped: bool) -> None:
    """A serial line that hands over four readings at once, of a leader that is moved at 3 rad/s."""
    device, leader = made("joint_position")
    device.start_pressed()
    start_ns, at_s = leader.clock.now_ns(), 0.0
    for tick in range(60):
        for part in range(4):
            at_s += PERIOD_S / 4
            leader.pose = PANDA.home + 0.3 * np.sin(10.0 * at_s) * np.eye(len(PANDA.home))[2]
            if stamped:
                leader.driver = lambda part=part, tick=tick: 10**18 + round((tick + 1) * PERIOD_S * 1e9) + 10**5 * part  # type: ignore[misc]
            came_ns = start_ns + round((tick + 1) * PERIOD_S * 1e9) + 10**5 * part
            leader.between.append(leader.says(leader.pose, came_ns))
        leader.clock.sleep_until(came_ns)
        assert device.read(HOME).events == (), tick


def test_a_message_that_was_held_up_is_no_jump() -> None:
    """The driver's stamps say how long the leader took, when the network hands two messages over at once."""
    pair = Followed("joint_position")
    on_time = lambda: 10**18 + pair.arm.clock.now_ns()  # noqa: E731
    pair.leader.driver = on_time
    pair.run(10)
    last_ns = pair.leader.silent_since_ns = pair.arm.clock.now_ns() - round(PERIOD_S * 1e9)
    pair.leader.driver = lambda: 10**18 + last_ns
    pair.run(3)
    pair.leader.silent_since_ns = None
    pair.leader.driver = lambda: 10**18 + last_ns + round(PERIOD_S * 1e9)
    pair.run(1)
    pair.leader.driver = on_time
    pair.leader.pose = pair.leader.pose + 0.6 * JUMP_RAD  # 0.54 rad between two looks, and 0.2 s between two stamps
    pair.run(1)
    assert pair.events == []


def test_a_gripper_may_snap() -> None:
    pair = Followed("joint_position")
    for tick in range(10):
        pair.leader.trigger = float(tick % 2)
        pair.run(1)
    assert pair.events == []


def test_a_driver_that_repeats_one_old_message_is_lost() -> None:
    """Messages come, and say nothing new: the leader's stamp does not advance."""
    pair = Followed("joint_position")
    pair.leader.driver = lambda: 10**18 + pair.arm.clock.now_ns()
    pair.run(10)
    stuck_ns = pair.leader.driver()
    pair.leader.driver = lambda: stuck_ns
    pair.run(3)
    assert pair.events == []
    pair.run(5)
    assert pair.events == ["lost"]
    message = pair.device.read(pair.aligned).message
    assert message.startswith("The leader's driver repeats one old message: its stamps have stood still for 0.")
    pair.leader.driver = lambda: 10**17 + pair.arm.clock.now_ns()  # restarted, with its clock set back
    pair.run(3)
    assert pair.events == ["lost", "back"]


@pytest.mark.parametrize("stamped", [False, True])
def test_a_leader_that_rests_is_there(stamped: bool) -> None:
    """The same pose bit for bit, with stamps that go on or with none at all."""
    pair = Followed("joint_position")
    if stamped:
        pair.leader.driver = lambda: 10**18 + pair.arm.clock.now_ns()
    pair.run(40)
    assert pair.events == []
    assert pair.device.lost is False


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"j2": math.nan}, "The leader says that its joint 'j2' is at nan"),
        ({"trigger": math.inf}, "its joint 'trigger' is at inf"),
    ],
)
def test_what_is_no_number_is_a_lost_leader(extra: dict[str, float], message: str) -> None:
    device, leader = made("joint_position")
    device.start_pressed()
    device.read(HOME)
    leader.extra = extra
    reading = device.read(HOME)
    assert reading.events == ("lost",)
    assert message in reading.message
    assert np.allclose(reading.action[:7], PANDA.home, atol=1e-6)


def test_a_missing_joint_is_named() -> None:
    device, leader = made("joint_position")
    leader.heard = lambda: [LeaderSample(leader.clock.now_ns(), {"other": 0.0})]  # type: ignore[method-assign]
    assert device.read(HOME).message == "The leader's joint states lack 'j0'; they have other."


@pytest.mark.parametrize("name", ["max_age_s", "start_rad", "ramp_s", "max_speed_rad_s"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"Leader: {name} must be a positive number"):
        LeaderConfig(**{name: value})
