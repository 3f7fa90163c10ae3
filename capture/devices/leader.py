"""A leader arm: a person moves it, and the arm follows its joints.

Nothing of ROS is in here: joint states come from a `LeaderSource` (`capture/ros_leader.py`). The arm does not follow
before the leader is near its pose (soft start), and then takes up what is left between them over `ramp_s`. A leader
that cannot be believed (`leader_states.py`: silent, frozen, jumping, or no number) is lost.

In action spaces of steps the device must know where the arm has been sent, which it cannot see: it reckons with what it
asked for, and leads that estimate back to the measured joints wherever they lie outside of what it asked for lately
(within, they only lag). So what the Guard held back is asked for again instead of being lost.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.capture.devices.axes import WAITING
from understudy.capture.devices.device import DeviceReading, Event, neutral
from understudy.capture.devices.leader_calibration import LeaderCalibration
from understudy.capture.devices.leader_states import LeaderSource, LeaderWatch
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.actions import make_action_space
from understudy.envs.arms.arm import Command
from understudy.envs.arms.clock import Clock, MonotonicClock
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import RobotDescription
from understudy.errors import InputError

LAG_S = 0.3
"""An arm does within this time what it is told; measured joints may be anywhere on the way asked for in it."""
CORRECTION = 0.1
"""Share of what lies outside of that way which the estimate is led back by at every tick; small against the lag."""


@dataclass(frozen=True)
class LeaderConfig:
    """How an arm follows its leader."""

    max_age_s: float = 0.25
    """A leader that was silent for longer, or whose driver's stamps stood still for longer, is lost, s."""
    start_rad: float = 0.2
    """Every joint of the leader must be this near to the arm's before the arm follows, rad."""
    ramp_s: float = 1.0
    """What is left between them then is taken up over this time, s."""
    max_speed_rad_s: float = 8.0
    """A leader of which a joint is quicker has jumped, and is lost, rad/s. A person who throws an arm hardly gets
    there, and most arms are built for 2 to 4 rad/s."""

    def __post_init__(self) -> None:
        for name in ("max_age_s", "start_rad", "ramp_s", "max_speed_rad_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise InputError(f"Leader: {name} must be a positive number, got {value}.")


class LeaderDevice:
    """Drives any action space by following another arm."""

    name = "leader"
    follows = True
    """From `start_pressed` on the arm goes where the leader stands, whether it is moved or not."""

    def __init__(
        self,
        spec: ActionSpec,
        robot: RobotDescription,
        period_s: float,
        source: LeaderSource,
        calibration: LeaderCalibration,
        config: LeaderConfig | None = None,
        *,
        clock: Clock | None = None,
        kinematics: Kinematics | None = None,
    ) -> None:
        """Args:
        spec: the action space to answer in.
        robot: the arm that follows.
        period_s: time between two readings, s.
        source: the leader's joint states.
        calibration: how they read as the robot's.
        config: soft start, age, speed.
        clock: what the samples' stamps are measured on; None is the machine's monotonic clock.
        kinematics: of the robot, shared with the caller; None to build it.
        """
        self.lost = False
        self._spec = spec
        self._space = make_action_space(spec.name, robot, kinematics or Kinematics(robot), spec.labels)
        self._names = robot.joint_names
        self._lower, self._upper = robot.joint_array("lower"), robot.joint_array("upper")
        self._width = robot.gripper.width if robot.gripper else None
        self._source = source
        self._calibration = calibration
        self._config = config or LeaderConfig()
        self._watch = LeaderWatch(source, calibration, self._config.max_age_s, self._config.max_speed_rad_s)
        self._clock: Clock = clock or MonotonicClock()
        self._ramp_step = period_s / self._config.ramp_s
        self._asked: deque[NDArray[np.float64]] = deque(maxlen=max(2, round(LAG_S / period_s)))
        self._recording = self._waiting = False
        self._left = np.zeros(len(self._names))
        self._share = 0.0
        self._opening: float | None = None

    @property
    def drives(self) -> bool:
        """Whether the arm follows, as of the last reading."""
        return bool(self._asked)

    @property
    def help(self) -> str:
        """How to begin."""
        return (
            f"Bring the leader within {self._config.start_rad:g} rad of the arm's pose, joint by joint; the arm "
            "follows it while recording."
        )

    def reset(self, observation: Mapping[str, NDArray[Any]]) -> None:
        """See `Device`; the leader must come near again."""
        self._recording = self._waiting = False
        self._asked.clear()
        self._opening = None

    def start_pressed(self) -> None:
        """See `Device`; from now on the arm follows, once the leader is near."""
        self._recording, self._waiting = True, self.lost
        self._asked.clear()

    def read(self, aligned: Aligned) -> DeviceReading:
        """See `Device`."""
        if why := self._watch.why_gone(self._source.heard(), self._clock.now_ns()):
            events: tuple[Event, ...] = () if self.lost else ("lost",)
            self.lost = self._waiting = True
            self._asked.clear()
            return self._still(aligned, events, why)
        sample = self._watch.latest
        assert sample is not None  # there is one where nothing is wrong with it
        events = ("back",) if self.lost else ()
        self.lost = False
        if self._waiting:
            return self._still(aligned, events, WAITING.format(name=self.name))
        target = np.clip(self._calibration.follow(sample.positions), self._lower, self._upper)
        measured = np.asarray(aligned.values["joint_position"], np.float64)
        if away := "" if self._asked else self._why_away(target - measured):
            return self._still(aligned, events, away)
        if not self._recording:
            return self._still(aligned, events, "")
        if not self._asked:
            self._asked.append(measured)
            self._left, self._share = target - measured, 0.0
        self._opening = self._calibration.opening(sample.positions)
        return DeviceReading(self._follow(aligned, target, measured), events)

    def close(self) -> None:
        """See `Device`."""
        self._source.close()

    def _follow(
        self, aligned: Aligned, target: NDArray[np.float64], measured: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The action (A,) that leads from where the arm was sent to the leader's pose, less what is still ramped."""
        self._share = min(self._share + self._ramp_step, 1.0)
        target = target - (1.0 - self._share) * self._left
        lately = np.array(self._asked)
        outside = measured - np.clip(measured, lately.min(axis=0), lately.max(axis=0))
        before = Command(self._asked[-1] + CORRECTION * outside, self._gripper(aligned))
        action = self._space.encode(before, Command(target, self._gripper(aligned)))
        action = np.clip(np.asarray(action, np.float64), self._spec.low, self._spec.high)
        self._asked.append(self._space.decode(action, before, measured).joint_position)
        return action

    def _gripper(self, aligned: Aligned) -> float | None:
        """The opening to ask for, m: the leader's, or as it is."""
        if self._width is None:
            return None
        if self._opening is not None:
            return self._opening * self._width
        measured = aligned.values.get("gripper_position")
        return None if measured is None else float(np.ravel(measured)[0])

    def _still(self, aligned: Aligned, events: tuple[Event, ...], message: str) -> DeviceReading:
        gripper_m = None if self._opening is None or self._width is None else self._opening * self._width
        return DeviceReading(neutral(self._spec, aligned, gripper_m), events, message)

    def _why_away(self, off: NDArray[np.float64]) -> str:
        """Which joint of the leader is too far from the arm's, as a sentence; empty when all are near."""
        worst = int(np.argmax(np.abs(off)))
        if abs(off[worst]) <= self._config.start_rad:
            return ""
        return (
            f"The leader is not near the arm: joint {self._names[worst]!r} is {off[worst]:+.2f} rad off, at most "
            f"{self._config.start_rad:g} rad is allowed. Bring the leader there; the arm does not move before."
        )
