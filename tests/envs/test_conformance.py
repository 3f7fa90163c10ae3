"""The simulated arm, bare and inside a Guard, owes what every arm owes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conformance.arm import ArmConformance

from understudy.envs.arms.arm import Arm
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.tasks.lift import Lift

PANDA = load_robot("panda")


class TestSimArm(ArmConformance):
    @pytest.fixture
    def arm(self) -> Iterator[Arm]:
        arm = SimArm(PANDA, Lift.objects, cameras=("front",))
        yield arm
        arm.close()


class TestSimArmWithoutGripper(ArmConformance):
    @pytest.fixture
    def arm(self) -> Iterator[Arm]:
        arm = SimArm(load_robot("kuka_iiwa"))
        yield arm
        arm.close()


class TestGuardedSimArm(ArmConformance):
    refuses_not_finite = False

    @pytest.fixture
    def arm(self) -> Iterator[Arm]:
        arm = Guard(SimArm(PANDA))
        yield arm
        arm.close()
