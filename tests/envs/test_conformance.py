"""Every shipped robot owes what every arm owes: simulated, inside a Guard, and faked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest
from conformance.arm import ArmConformance

from understudy.envs.arms.actuation import Mode
from understudy.envs.arms.arm import Arm
from understudy.envs.arms.fake_arm import FakeArm
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import known_robots, load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.tasks.lift import Lift

ROBOTS = known_robots()


class TestSimArm(ArmConformance):
    @pytest.fixture(params=ROBOTS)
    def arm(self, request: pytest.FixtureRequest) -> Iterator[Arm]:
        robot = load_robot(request.param)
        arm = SimArm(robot, Lift.objects if robot.gripper else {}, cameras=("front",))
        yield arm
        arm.close()


class TestDrivenSimArm(ArmConformance):
    """Velocity and torque control owe the same as position control."""

    @pytest.fixture(params=[mode for mode in get_args(Mode) if mode != "position"])
    def arm(self, request: pytest.FixtureRequest) -> Iterator[Arm]:
        arm = SimArm(load_robot("xarm6"), actuation=request.param)
        yield arm
        arm.close()


class TestGuardedSimArm(ArmConformance):
    refuses_not_finite = False

    @pytest.fixture(params=ROBOTS)
    def arm(self, request: pytest.FixtureRequest) -> Iterator[Arm]:
        arm = Guard(SimArm(load_robot(request.param)))
        yield arm
        arm.close()


class TestFakeArmOfEveryRobot(ArmConformance):
    @pytest.fixture(params=ROBOTS)
    def arm(self, request: pytest.FixtureRequest) -> Arm:
        return FakeArm(load_robot(request.param))
