"""Every shipped robot owes what every arm owes: simulated, inside a Guard, and faked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conformance.arm import ArmConformance

from understudy.envs.arms.arm import Arm
from understudy.envs.arms.fake_arm import FakeArm
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import known_robots, load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.tasks.lift import Lift

ROBOTS = known_robots()
GUARDED = [name if name in ("panda", "two_joint") else pytest.param(name, marks=pytest.mark.slow) for name in ROBOTS]
"""Inside the Guard two robots stand for the others in the tests of every day."""


class TestSimArm(ArmConformance):
    @pytest.fixture(params=ROBOTS)
    def arm(self, request: pytest.FixtureRequest) -> Iterator[Arm]:
        robot = load_robot(request.param)
        arm = SimArm(robot, Lift.objects if robot.gripper else {}, cameras=("front",))
        yield arm
        arm.close()


class TestDrivenSimArm(ArmConformance):
    """Velocity and torque control owe the same as position control."""

    @pytest.fixture(params=[pytest.param("velocity", marks=pytest.mark.slow), "torque"])
    def arm(self, request: pytest.FixtureRequest) -> Iterator[Arm]:
        arm = SimArm(load_robot("xarm6"), actuation=request.param)
        yield arm
        arm.close()


class TestGuardedSimArm(ArmConformance):
    refuses_not_finite = False

    @pytest.fixture(params=GUARDED)
    def arm(self, request: pytest.FixtureRequest) -> Iterator[Arm]:
        arm = Guard(SimArm(load_robot(request.param)))
        yield arm
        arm.close()


class TestFakeArmOfEveryRobot(ArmConformance):
    @pytest.fixture(params=ROBOTS)
    def arm(self, request: pytest.FixtureRequest) -> Arm:
        return FakeArm(load_robot(request.param))
