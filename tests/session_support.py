"""A stage without a simulator, and a device that does as the test says, for the tests of sessions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from understudy.capture.devices.device import DeviceReading, Event, neutral
from understudy.capture.session import Session, SessionConfig
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec
from understudy.datasets.store import Dataset
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.clock import Clock
from understudy.envs.arms.fake_arm import FakeArm
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import load_robot
from understudy.envs.tasks.task import make_task


class Puppet:
    """A device that does as the test says: actions for each tick, and what is pressed next."""

    name = "puppet"

    def __init__(self, spec: ActionSpec) -> None:
        self.spec = spec
        self.pressed: list[Event] = []
        self.asked: list[np.ndarray] = []
        self.action: np.ndarray | None = None
        self.message = ""
        self.lost = False
        self.closed = 0

    def reset(self, observation: Mapping[str, Any]) -> None:
        self.asked.clear()

    def read(self, aligned: Aligned) -> DeviceReading:
        events, self.pressed = tuple(self.pressed), []
        action = neutral(self.spec, aligned) if self.action is None else self.action
        self.asked.append(action.copy())
        return DeviceReading(action, events, self.message)

    def close(self) -> None:
        self.closed += 1


def fake_stage(task: str = "reach", clock: Clock | None = None) -> ArmEnv:
    """A task on an arm in plain numpy, on virtual time unless a clock is given, inside a Guard."""
    chosen = make_task(task)
    return ArmEnv(Guard(FakeArm(load_robot("panda"), chosen.objects, clock=clock)), chosen)


def inner_arm(stage: ArmEnv) -> FakeArm:
    arm = stage.control.arm
    assert isinstance(arm, Guard)
    assert isinstance(arm.inner, FakeArm)
    return arm.inner


def new_session(stage: ArmEnv, folder: Path, **config: Any) -> tuple[Session, Puppet]:
    """A session on a dataset under `folder`, which may exist, and its puppet, which sways so that something moves."""
    dataset = Dataset.open_or_create(folder / "demos", robot=stage.control.robot.name, task=stage.task.name)
    puppet = Puppet(stage.control.actions.spec)
    return Session(stage, puppet, dataset, SessionConfig(**{"operator": "ada", "max_s": 2.0, **config})), puppet
