"""A scripted operator who watches a policy lift, takes over when it strays, and hands back when it is on its way again.

It strays where the policy, looking anew, would do something far from what the operator would (the rule of SafeDAgger,
Zhang and Cho 2017), for longer than a person hesitates; and where it is at it for longer than a lift takes, because one
that hovers over the cube is never far off. The operator is the expert of `lift` with human manners, whose phase follows
what the arm does whoever drives it.

They are more particular than the task: a grip more than a centimetre beside the cube's middle they open again, though
it may well hold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.capture.devices.device import DeviceReading, neutral
from understudy.capture.session import Session, SessionConfig
from understudy.capture.takeover import TakeoverDevice
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.experts.expert import ObservationDict
from understudy.envs.experts.hand import HumanStyle
from understudy.envs.experts.lift import LiftExpert
from understudy.envs.make import make_env
from understudy.errors import InputError, UnderstudyError
from understudy.learners.policies import RunPolicy, TorchPolicy

GRIPPED_M = 0.06
"""A gripper that is open wider has not closed on the cube, which is 4 cm wide."""
ATTEMPTS = 20
"""Episodes for each takeover that is wanted, before the policy is found to need none."""


@dataclass(frozen=True)
class WatchConfig:
    """When the operator takes over, and when they hand back."""

    far: float = 0.8
    """Largest difference between a number of the policy's action and the operator's that is let pass, in normalised
    units, whose range is 2."""
    patience: int = 8
    """Control periods in a row that the policy may be far off."""
    slow: int = 80
    """Control periods that the policy may drive without having lifted; demonstrations take 35 to 70."""
    trust: int = 20
    """Control periods in a row that the policy must not be far off for the operator to hand back."""

    def __post_init__(self) -> None:
        if not (0.0 < self.far < 2.0 and min(self.patience, self.slow, self.trust) >= 1):
            raise InputError(f"The watchful operator needs 0 < far < 2, and the others from 1 on, got {self}.")


class LiftWatcher(LiftExpert):
    """The expert of lift, who waits until the gripper has closed, whoever closes it, and sees when the cube is gone."""

    def gripped(self, observation: ObservationDict) -> bool:
        """See `Picking`."""
        return super().gripped(observation) and float(observation["gripper_position"][0]) < GRIPPED_M

    def advance(self, observation: ObservationDict) -> None:
        """See `Routine`."""
        if self.phase == "close" and self.lost(observation):
            self.enter(self.first)
        super().advance(observation)


class WatchfulOperator:
    """A device that moves nothing while the policy does well; see the module."""

    name = "scripted"
    lost = False

    def __init__(
        self, robot: RobotDescription, spec: ActionSpec, policy: TorchPolicy, rng: np.random.Generator,
        config: WatchConfig = WatchConfig(),
    ) -> None:  # fmt: skip
        """Args:
        robot: the arm that is driven.
        spec: its action space, and the policy's.
        policy: another instance of the one that drives, asked at every tick what it would do.
        rng: draws each episode's manner.
        config: when to take over.
        """
        self.driving = False
        self._robot, self._spec, self._policy, self._rng, self._config = robot, spec, policy, rng, config
        self._expert = LiftWatcher(robot, HumanStyle(), rng)
        self._disagreed = 0
        """Ticks in a row that speak for a change of who drives."""
        self._alone = 0
        """Ticks that the policy has driven for by now."""
        self._handing_back = False

    def reset(self, observation: Mapping[str, NDArray[Any]]) -> None:
        """See `Device`. Handing back resets the device too, and the episode goes on."""
        self._disagreed = self._alone = 0
        if self._handing_back:
            self._handing_back = False
            return
        # whoever watched until now does not begin with a wrong start
        style = dataclasses.replace(HumanStyle.sample(self._rng), wrong_start_m=(0.0, 0.0))
        self._expert = LiftWatcher(self._robot, style, self._rng)
        self._expert.reset(observation)
        self.driving = False

    def read(self, aligned: Aligned) -> DeviceReading:
        """See `Device`."""
        wanted = np.clip(self._expert.act(aligned.values), self._spec.low, self._spec.high)
        off = np.abs(self._spec.normalise(wanted) - self._policy.predict(aligned.values)[0]).max()
        far = bool(off > self._config.far)
        self._disagreed = self._disagreed + 1 if far != self.driving else 0
        self._alone += 1
        if self.driving:
            if self._disagreed < self._config.trust:
                return DeviceReading(wanted)
            self.driving, self._handing_back = False, True
            return DeviceReading(neutral(self._spec, aligned), ("release",))
        if self._disagreed < self._config.patience and self._alone < self._config.slow:
            return DeviceReading(neutral(self._spec, aligned))
        self.driving, self._disagreed = True, 0
        return DeviceReading(wanted, ("intervene",))

    def close(self) -> None:
        """See `Device`."""


def record_takeovers(
    run: Path, out: Path, *, count: int, seed: int, robot: str = "panda", config: WatchConfig = WatchConfig()
) -> dict[str, int]:
    """Let the policy of a run lift, and record until `count` episodes in which the operator took over have succeeded.

    Args:
        run: folder of the run that drives.
        out: dataset that the episodes are added to, those without a takeover too.
        count: takeovers wanted.
        seed: of the first episode; the others count up from it.
        robot: shipped name.
        config: when the operator takes over.

    Returns:
        How many were `episodes`, `takeovers` kept, driven by the policy `alone` to success, and `failed` (not kept);
        and of the `steps` of the takeovers how many the operator drove (`human_steps`).

    Raises:
        UnderstudyError: the policy hardly ever needs anybody.
    """
    made, env = RunPolicy(run), make_env("lift", robot)
    spec = env.control.actions.spec
    operator = WatchfulOperator(env.control.robot, spec, made(), np.random.default_rng([seed, 2]), config)
    dataset = Dataset.open_or_create(out, robot=robot, task="lift")
    session = Session(
        env, TakeoverDevice(made(), operator, spec), dataset,
        SessionConfig(operator="scripted", max_s=3 * env.task.horizon / env.control.robot.rate_hz),
    )  # fmt: skip
    found = dict.fromkeys(("episodes", "takeovers", "alone", "failed", "steps", "human_steps"), 0)
    try:
        while found["takeovers"] < count:
            if found["episodes"] >= ATTEMPTS * count:
                raise UnderstudyError(
                    f"In {found['episodes']} episodes the operator took over and succeeded in {found['takeovers']}, "
                    f"too few to go on; {count} were wanted. Take a policy that strays more."
                )
            _record_one(session, seed + found["episodes"], found)
    finally:
        session.close()
        env.close()
    return found


def _record_one(session: Session, seed: int, found: dict[str, int]) -> None:
    session.prepare(seed=seed)
    session.start()
    while session.state == "recording":
        session.tick()
    found["episodes"] += 1
    if not session.success:
        session.drop()
        found["failed"] += 1
        return
    episode = session.dataset.read(session.keep(), images=False)
    human = int(np.count_nonzero(episode.intervention))
    found["takeovers" if human else "alone"] += 1
    found["human_steps"] += human
    found["steps"] += len(episode) if human else 0
