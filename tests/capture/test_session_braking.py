"""However a take ends, the arm is at rest before anything else is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from session_support import Puppet, fake_stage

from understudy.capture.session import Session, SessionConfig
from understudy.datasets.store import Dataset
from understudy.envs.arms.guard import Guard


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
