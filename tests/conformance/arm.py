"""What every Arm owes. A test class for an arm inherits `ArmConformance` and gives the fixture `arm`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest

from understudy.envs.arms.arm import Arm, Command, Observation, Start
from understudy.errors import InputError


class ArmConformance:
    """Laws of `envs/arms/arm.py`. Motions are small, so that any arm and any Guard lets them pass."""

    step_rad = 0.02
    tolerance_rad = 0.02
    """How near an arm settles to where it was sent."""
    refuses_not_finite = True
    """False: it brakes instead of raising (the Guard)."""

    @pytest.fixture
    def arm(self) -> Iterator[Arm]:
        raise NotImplementedError

    def start(self, arm: Arm) -> Start:
        """Where `reset` is to bring the arm."""
        return Start(arm.describe().home + 0.05, 0.02 if arm.describe().gripper else None)

    def begin(self, arm: Arm) -> Observation:
        return arm.reset(self.start(arm))

    @staticmethod
    def wait(arm: Arm, periods: float = 1.0) -> None:
        arm.clock.sleep_until(arm.clock.now_ns() + round(periods * arm.describe().period_s * 1e9))

    def follow(self, arm: Arm, joints: np.ndarray, periods: int) -> None:
        """Send the arm to `joints` again and again, as a control loop would."""
        for _ in range(periods):
            arm.send(Command(joints))
            self.wait(arm)

    def test_the_clock_is_monotonic_and_waits(self, arm: Arm):
        before = arm.clock.now_ns()
        self.wait(arm)
        assert arm.clock.now_ns() >= before + round(arm.describe().period_s * 1e9) - 2000
        arm.clock.sleep_until(before)  # the past: returns at once
        assert arm.clock.now_ns() >= before

    def test_joints_and_gripper_are_observed_in_their_shapes(self, arm: Arm):
        robot, seen = arm.describe(), self.begin(arm)
        for key in ("joint_position", "joint_velocity", "joint_effort"):
            assert seen[key].shape == (len(robot.joints),)
        assert ("gripper_position" in seen) == (robot.gripper is not None)
        for key, value in seen.values.items():
            if key.startswith("image_"):
                camera = robot.ros.cameras[key.removeprefix("image_")]
                assert (value.dtype, value.shape) == (np.uint8, (camera.height, camera.width, 3))
                continue
            assert np.all(np.isfinite(value)), key
            sizes = {"gripper": 1, "joint": len(robot.joints)}
            assert value.shape == (sizes.get(key.split("_")[0], 4 if key.endswith("_quaternion") else 3),)

    def test_every_value_has_a_stamp_on_the_arms_clock_that_never_goes_back(self, arm: Arm):
        seen = self.begin(arm)
        for _ in range(10):
            self.wait(arm, 0.5)
            later, now = arm.observe(), arm.clock.now_ns()
            assert set(later.values) == set(later.stamps_ns)
            assert set(later.values) >= set(seen.values)
            for key, stamp in seen.stamps_ns.items():
                assert stamp <= later.stamps_ns[key] <= now
            seen = later
        assert now - seen.stamps_ns["joint_position"] < 250_000_000

    def test_what_was_observed_is_the_callers_own(self, arm: Arm):
        seen = self.begin(arm)
        seen["joint_position"][:] = 99.0
        assert np.all(np.abs(arm.observe()["joint_position"]) < 10.0)

    def test_reset_brings_the_arm_to_the_start(self, arm: Arm):
        self.follow(arm, np.asarray(self.begin(arm)["joint_position"]) + self.step_rad, 5)
        start = self.start(arm)
        seen = arm.reset(start)
        assert seen["joint_position"] == pytest.approx(start.joint_position, abs=5e-3)
        if start.gripper_position is not None:
            assert seen["gripper_position"] == pytest.approx([start.gripper_position], abs=5e-3)

    def test_the_arm_goes_where_it_is_sent(self, arm: Arm):
        here = np.asarray(self.begin(arm)["joint_position"], np.float64)
        direction = np.where(np.arange(len(here)) % 2, -1.0, 1.0)
        target = here + 5 * self.step_rad * direction
        for tick in range(5):
            way = here + (tick + 1) * self.step_rad * direction
            arm.send(Command(way, None, self.step_rad * direction * arm.describe().rate_hz))
            self.wait(arm)
        halfway = arm.observe()["joint_position"]
        assert np.all((halfway - here) * direction > 2 * self.step_rad)
        self.follow(arm, target, 10)
        assert arm.observe()["joint_position"] == pytest.approx(target, abs=self.tolerance_rad)

    def test_the_gripper_opens_and_closes(self, arm: Arm):
        gripper = arm.describe().gripper
        if gripper is None:
            pytest.skip("this robot has no gripper")
        here = np.asarray(self.begin(arm)["joint_position"], np.float64)
        for width in (gripper.width, 0.0):
            for _ in range(20):
                arm.send(Command(here, width))
                self.wait(arm)
            assert arm.observe()["gripper_position"] == pytest.approx([width], abs=0.01)

    def test_send_returns_what_was_sent_and_leaves_the_callers_arrays(self, arm: Arm):
        here = np.asarray(self.begin(arm)["joint_position"], np.float64)
        position, velocity = here + self.step_rad / 4, np.full(len(here), 0.1)
        kept = position.copy(), velocity.copy()
        sent = arm.send(Command(position, None, velocity))
        assert np.array_equal(position, kept[0])
        assert np.array_equal(velocity, kept[1])
        assert sent.joint_position == pytest.approx(position, abs=self.step_rad)
        position[:] = 99.0  # what the caller does with it afterwards does not reach the arm
        self.wait(arm, 4)
        assert arm.observe()["joint_position"] == pytest.approx(here, abs=3 * self.step_rad)

    def test_hold_stops_the_motion(self, arm: Arm):
        here = np.asarray(self.begin(arm)["joint_position"], np.float64)
        speed = self.step_rad * arm.describe().rate_hz
        for tick in range(6):
            arm.send(Command(here + (tick + 1) * self.step_rad, None, np.full(len(here), speed)))
            self.wait(arm)
        for _ in range(10):
            arm.hold()
            self.wait(arm)
        rest = arm.observe()["joint_position"]
        for _ in range(5):
            arm.hold()
            self.wait(arm)
        assert arm.observe()["joint_position"] == pytest.approx(rest, abs=3e-3)
        assert np.all(np.abs(rest - (here + 6 * self.step_rad)) < 4 * self.step_rad)

    def test_hold_is_safe_before_anything_was_sent(self, arm: Arm):
        here = np.asarray(self.begin(arm)["joint_position"], np.float64)
        arm.hold()
        arm.hold()
        self.wait(arm, 4)
        assert arm.observe()["joint_position"] == pytest.approx(here, abs=self.tolerance_rad)

    @pytest.mark.parametrize("bad", ["position", "velocity", "gripper", "infinite"])
    def test_what_is_not_finite_does_not_move_the_arm(self, arm: Arm, bad: str):
        here = np.asarray(self.begin(arm)["joint_position"], np.float64)
        if bad == "gripper" and arm.describe().gripper is None:
            pytest.skip("this robot has no gripper")
        nothing = np.full(len(here), np.nan)
        command = {
            "position": Command(nothing),
            "infinite": Command(np.where(np.arange(len(here)) == 1, np.inf, here)),
            "velocity": Command(here, None, nothing),
            "gripper": Command(here, float("nan")),
        }[bad]
        if not self.refuses_not_finite:
            assert np.all(np.isfinite(arm.send(command).joint_position))
        elif bad == "velocity":  # an arm that has no use for velocities need not look at them
            with contextlib.suppress(InputError):
                arm.send(command)
        else:
            with pytest.raises(InputError, match="finite"):
                arm.send(command)
        self.wait(arm, 4)
        assert arm.observe()["joint_position"] == pytest.approx(here, abs=self.tolerance_rad)

    def test_a_wrong_number_of_joints_is_refused(self, arm: Arm):
        self.begin(arm)
        with pytest.raises(InputError, match=str(len(arm.describe().joints))):
            arm.send(Command(np.zeros(len(arm.describe().joints) + 1)))

    def test_closing_twice_is_safe(self, arm: Arm):
        arm.close()
        arm.close()
