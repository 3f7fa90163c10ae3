"""The arm in plain numpy keeps the laws of arms, grips, and fails the way it is told to."""

from __future__ import annotations

import numpy as np
import pytest
from conformance.arm import ArmConformance

from understudy.datasets.align import Assembler
from understudy.envs.arms.arm import Command, Pose, Start
from understudy.envs.arms.fake_arm import FakeArm
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.control import Control
from understudy.envs.tasks.drawer import Drawer
from understudy.envs.tasks.lift import Lift
from understudy.envs.tasks.task import known_tasks, make_task
from understudy.errors import InputError, StaleObservation

PANDA, KUKA = load_robot("panda"), load_robot("kuka_iiwa")


class TestFakeArm(ArmConformance):
    @pytest.fixture
    def arm(self):
        return FakeArm(PANDA, Lift.objects)


class TestFakeArmWithoutGripper(ArmConformance):
    @pytest.fixture
    def arm(self):
        return FakeArm(KUKA)


class TestGuardedFakeArm(ArmConformance):
    refuses_not_finite = False

    @pytest.fixture
    def arm(self):
        return Guard(FakeArm(PANDA))


class TestSimArm(ArmConformance):
    @pytest.fixture
    def arm(self):
        arm = SimArm(PANDA, Lift.objects)
        yield arm
        arm.close()


class TestSimArmWithoutGripper(ArmConformance):
    @pytest.fixture
    def arm(self):
        arm = SimArm(KUKA)
        yield arm
        arm.close()


def wait(arm: FakeArm, seconds: float) -> None:
    arm.clock.sleep_until(arm.clock.now_ns() + round(seconds * 1e9))


def test_no_joint_is_faster_than_its_limit():
    arm = FakeArm(PANDA)
    arm.send(Command(PANDA.home + 1.0))
    before, fastest = arm.observe()["joint_position"], np.zeros(7)
    for _ in range(200):
        wait(arm, 0.01)
        seen = arm.observe()
        fastest = np.maximum(fastest, np.abs(seen["joint_position"] - before) / 0.01)
        before = seen["joint_position"]
    assert fastest == pytest.approx(PANDA.joint_array("velocity"))
    assert before == pytest.approx(PANDA.home + 1.0)
    assert not np.any(arm.observe()["joint_velocity"])


def test_motion_does_not_depend_on_how_often_one_looks():
    often, seldom = FakeArm(PANDA), FakeArm(PANDA)
    for arm in (often, seldom):
        arm.send(Command(PANDA.home + 0.3, 0.0))
    for _ in range(30):
        wait(often, 0.005)
        often.observe()
    wait(seldom, 0.15)
    for key, value in seldom.observe().values.items():
        assert often.observe()[key] == pytest.approx(value), key


def lifted_arm() -> tuple[FakeArm, Kinematics]:
    """A panda that has closed its fingers around a cube and taken it up."""
    kinematics = Kinematics(PANDA)
    tool = kinematics.tool_pose(PANDA.home)
    cube = np.array([*tool.position[:2], tool.position[2] - 0.01])
    arm = FakeArm(PANDA, Lift.objects, kinematics=kinematics)
    arm.reset(Start(PANDA.home, 0.08, {"object": Pose(cube)}))
    arm.send(Command(PANDA.home, 0.0))
    wait(arm, 1.0)
    assert arm.observe()["gripper_position"] == pytest.approx([0.04])  # the cube is in the way
    arm.send(Command(PANDA.home + np.array([0.3, 0, 0, 0, 0, 0, 0])))
    wait(arm, 1.0)
    return arm, kinematics


def test_a_gripped_object_goes_with_the_tool_and_falls_when_let_go():
    arm, kinematics = lifted_arm()
    seen = arm.observe()
    tool = kinematics.tool_pose(seen["joint_position"])
    assert np.linalg.norm(seen["object_position"] - tool.position) == pytest.approx(0.01, abs=1e-9)
    assert abs(seen["object_quaternion"][2]) == pytest.approx(np.sin(0.15), abs=1e-6)  # turned with joint 1
    arm.send(Command(seen["joint_position"], 0.08))
    wait(arm, 1.0)
    fallen = arm.observe()["object_position"]
    assert fallen == pytest.approx([*seen["object_position"][:2], 0.02])
    arm.send(Command(PANDA.home))
    wait(arm, 1.0)
    assert arm.observe()["object_position"] == pytest.approx(fallen)


@pytest.mark.parametrize("name", known_tasks())
def test_everything_that_a_task_observes_is_there_as_the_start_says(name: str):
    task = make_task(name)
    start = task.start(PANDA, np.random.default_rng(2))
    control = Control(FakeArm(PANDA, task.objects), task.action_space, task.observation_keys)
    seen = control.reset(start).values
    assert set(seen) == set(task.observation_keys)
    told = start.numbers()
    assert all(seen[key] == pytest.approx(told[key]) for key in seen if key in told)
    assert {key for key in seen if key.startswith(("object", "goal"))} <= set(told)


def test_a_gripped_drawer_opens_along_its_axis_as_far_as_it_can():
    kinematics = Kinematics(PANDA)
    handle = kinematics.tool_pose(PANDA.home).position
    arm = FakeArm(PANDA, Drawer.objects, kinematics=kinematics)
    arm.reset(Start(PANDA.home, 0.08, {"object": Pose(handle)}, {"object": 0.01}))
    assert arm.observe()["object_opening"] == pytest.approx([0.01])
    arm.send(Command(PANDA.home, 0.0))
    wait(arm, 1.0)
    seen = [arm.observe()]
    for step in range(1, 9):  # the drawer opens towards the base: against x
        arm.send(Command(PANDA.home + step * np.array([0.1, -0.15, 0.0, -0.1, 0.0, 0.0, 0.0])))
        wait(arm, 0.5)
        seen.append(arm.observe())
    moved = np.array([one["object_position"] - handle for one in seen])
    opened = np.array([float(one["object_opening"][0]) for one in seen]) - 0.01
    assert moved[:, 0] == pytest.approx(-opened, abs=1e-12)
    assert moved[:, 1:] == pytest.approx(0.0)
    tool = kinematics.tool_pose(seen[1]["joint_position"]).position
    assert opened[1] == pytest.approx(handle[0] - tool[0], abs=1e-9)
    assert opened[-1] == pytest.approx(0.17)  # its end
    arm.send(Command(seen[-1]["joint_position"], 0.08))
    wait(arm, 1.0)
    assert arm.observe()["object_position"] == pytest.approx(seen[-1]["object_position"])  # it hangs in its cabinet


def test_fingers_that_close_beside_an_object_leave_it():
    arm = FakeArm(PANDA, Lift.objects)
    arm.reset(Start(PANDA.home, 0.08, {"object": Pose(np.array([0.5, 0.2, 0.02]))}))
    arm.send(Command(PANDA.home, 0.0))
    wait(arm, 1.0)
    seen = arm.observe()
    assert seen["gripper_position"] == pytest.approx([0.0])
    assert seen["object_position"] == pytest.approx([0.5, 0.2, 0.02])


@pytest.mark.parametrize(
    ("fault", "why"), [("freeze", "is 0.400 s old"), ("corrupt", "not finite"), ("drop", "No 'joint_velocity'")]
)
def test_faults_are_found_when_an_observation_is_assembled(fault: str, why: str):
    arm = FakeArm(PANDA)
    assembler = Assembler(("joint_position", "joint_velocity"), {})
    getattr(arm, fault)("joint_velocity")
    wait(arm, 0.4)
    seen = arm.observe()
    with pytest.raises(StaleObservation, match=why):
        assembler.assemble(seen.values, seen.stamps_ns, arm.clock.now_ns())
    arm.repair()
    seen = arm.observe()
    assembler.assemble(seen.values, seen.stamps_ns, arm.clock.now_ns())


def test_unknown_names_are_refused():
    arm = FakeArm(PANDA, Lift.objects)
    with pytest.raises(InputError, match="did you mean 'joint_position'"):
        arm.freeze("joint_positon")
    with pytest.raises(InputError, match="Unknown object 'cube'"):
        arm.reset(Start(PANDA.home, objects={"cube": Pose(np.zeros(3))}))
