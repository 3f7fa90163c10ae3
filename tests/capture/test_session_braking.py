"""However a take ends, the arm is at rest before anything else is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from session_support import Puppet, fake_stage

from understudy.capture.session import Session, SessionConfig
from understudy.datasets.store import Dataset
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.fake_arm import FakeArm
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import load_robot
from understudy.envs.tasks.task import make_task
from understudy.errors import ArmFault


@pytest.mark.parametrize("end", [Session.stop, Session.hold, Session.drop, Session.close])
def test_a_moving_arm_is_braked_to_rest_before_the_take_is_put_away(
    end: Callable[[Session], None], tmp_path: Path
) -> None:
    """Dropping once told the arm to hold a single time: its last set point still moved at 1.3 rad/s."""
    stage = fake_stage("reach")
    puppet = Puppet(stage.control.actions.spec)
    dataset = Dataset.create(tmp_path / "d", robot="panda", task="reach")
    session = Session(stage, puppet, dataset, SessionConfig())
    session.prepare(seed=0)
    session.start()
    puppet.action = np.array(puppet.spec.high)
    for _ in range(6):
        session.tick()
    guard = stage.control.arm
    assert isinstance(guard, Guard)
    assert not guard.at_rest
    end(session)
    assert guard.at_rest
    session.close()


def keep_ticking(session: Session) -> None:
    for _ in range(30):
        session.tick()


def test_an_arm_that_does_not_follow_ends_the_take_at_rest_and_the_next_begins_where_it_is(tmp_path: Path) -> None:
    task, robot = make_task("reach"), load_robot("panda").model_copy(update={"following_error_rad": 0.05})
    arm = FakeArm(robot, task.objects)
    arm.hardware = True
    guard = Guard(arm)
    stage = ArmEnv(guard, task)
    puppet = Puppet(stage.control.actions.spec)
    puppet.action = np.array(puppet.spec.high)
    session = Session(stage, puppet, Dataset.create(tmp_path / "d", robot="panda", task="reach"), SessionConfig())
    session.prepare(seed=0)
    session.start()
    for _ in range(6):
        session.tick()
    arm.jam()
    stood = arm.observe()["joint_position"]
    with pytest.raises(ArmFault, match=r"lags 0\.\d+ rad behind its set point: .*at most 0\.050 rad is allowed"):
        keep_ticking(session)
    assert session.state == "review"
    assert session.take_info is not None
    assert "stopped: Joint" in session.take_info.note
    assert guard.at_rest
    assert session.steps >= 6
    arm.repair()
    arm.clock.advance(1.0)
    assert arm.observe()["joint_position"] == pytest.approx(stood, abs=1e-9)  # no leap when the drive comes back
    session.keep()
    session.prepare(seed=1)
    session.start()
    session.tick()
    session.close()
