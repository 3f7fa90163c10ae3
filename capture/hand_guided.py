"""An arm that is guided by hand: it is observed as ever, and no command reaches it.

Not even `hold`: an arm in freedrive that is told to hold its place pulls against the person's hand. So nothing here can
stop the arm; the person who has it in hand does.
"""

from __future__ import annotations

import numpy as np

from understudy.capture.movers import Mover
from understudy.envs.arms.arm import Arm, Command, Observation, Start
from understudy.envs.arms.clock import Clock
from understudy.envs.arms.robot import RobotDescription
from understudy.errors import StaleObservation


class HandGuided:
    """Wraps an arm and keeps every command from it; the outermost wrapper, with no Guard around it."""

    at_rest = True
    """There is no motion of ours to brake."""

    def __init__(self, arm: Arm) -> None:
        self.inner = arm
        self.clock: Clock = arm.clock
        self.moved_by: Mover = getattr(arm, "moved_by", "person")
        """Who has the arm, since we have not."""

    def describe(self) -> RobotDescription:
        """See `Arm`."""
        return self.inner.describe()

    def observe(self) -> Observation:
        """See `Arm`."""
        return self.inner.observe()

    def send(self, command: Command) -> Command:
        """Send nothing; returns where the arm is, as what it was "sent".

        Raises:
            StaleObservation: the arm has not reported its joints.
        """
        seen = self.inner.observe()
        if "joint_position" not in seen:
            raise StaleObservation("The arm has not reported its joints; check that its driver is running.")
        opening = float(seen["gripper_position"][0]) if "gripper_position" in seen else None
        return Command(np.asarray(seen["joint_position"], np.float64), opening)

    def hold(self) -> None:
        """Nothing: whoever has the arm in hand holds it."""

    def reset(self, start: Start) -> Observation:
        """Nothing moves; a person brings the arm to the start."""
        return self.inner.observe()

    def close(self) -> None:
        """See `Arm`."""
        self.inner.close()
