"""One tick of control, the same everywhere: observe, decode an action, send it, wait.

`Control` joins an arm, an action space and the observation assembler. `ArmEnv` (training), the capture session and the
deployed runner all drive an arm through it, so that what a policy sees and does is the same in all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.align import Aligned, Assembler
from understudy.envs.arms.actions import make_action_space
from understudy.envs.arms.arm import Arm, Command, Observation, Start
from understudy.envs.arms.clock import Ticker
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import RobotDescription
from understudy.errors import InputError

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class ControlState:
    """A moment of a `Control` and its arm."""

    arm: Any
    sent: Command
    raw: Observation
    next_ns: int
    """The next tick."""


class Control:
    """An arm driven tick by tick through an action space."""

    def __init__(
        self,
        arm: Arm,
        action_space: str,
        observation_keys: tuple[str, ...],
        *,
        action_labels: tuple[str, ...] | None = None,
        kinematics: Kinematics | None = None,
    ) -> None:
        """Args:
        arm: usually a Guard around the real arm.
        action_space: name, see `envs/arms/actions.py`.
        observation_keys: what `observe` assembles.
        action_labels: the numbers of a `tool_delta` action that are used; None for all.
        kinematics: shared with the caller, or None to build it.
        """
        self.arm = arm
        self.robot = arm.describe()
        self.kinematics = kinematics or Kinematics(self.robot)
        self.actions = make_action_space(action_space, self.robot, self.kinematics, action_labels)
        self.assembler = Assembler(observation_keys, max_ages(self.robot, observation_keys))
        self.ticker = Ticker(arm.clock, self.robot.period_s)
        self._sent = Command(self.robot.home)
        self._raw = Observation({}, {})
        self._state: Command | None = None

    def reset(self, start: Start) -> Aligned:
        """Bring the arm to `start` and begin an episode there."""
        self.arm.reset(start)
        return self.begin()

    def begin(self) -> Aligned:
        """Begin an episode where the arm stands now; returns the first observation."""
        self.ticker = Ticker(self.arm.clock, self.robot.period_s)
        aligned = self.observe(self.arm.clock.now_ns())
        self._sent = self.state()
        return aligned

    def observe(self, tick_ns: int) -> Aligned:
        """The observation at a tick, tool pose included.

        Raises:
            StaleObservation: something needed is missing, too old, or not finite.
        """
        self._raw, self._state = self.with_tool_pose(self.arm.observe()), None
        return self.assembler.assemble(self._raw.values, self._raw.stamps_ns, tick_ns)

    def state(self) -> Command:
        """Where the arm was at the last observation, written as a command."""
        if self._state is None:
            gripper = float(self._raw["gripper_position"][0]) if "gripper_position" in self._raw else None
            self._state = Command(np.asarray(self._raw["joint_position"], np.float64), gripper)
        return self._state

    def apply(self, action: Vector) -> tuple[Vector, Command]:
        """Decode `action` (A,) in units, send it, and return (what was sent as an action (A,), the sent command).

        Raises:
            InputError: the action has the wrong shape.
        """
        spec = self.actions.spec
        if np.shape(action) != (spec.size,):
            raise InputError(
                f"Action for {spec.name!r} has shape {np.shape(action)}; expected ({spec.size},): {list(spec.labels)}."
            )
        command = self.actions.decode(action, self._sent, self.state().joint_position)
        before, self._sent = self._sent, self.arm.send(command)
        return self.actions.encode(before, self._sent), self._sent

    def wait(self) -> Aligned:
        """Wait for the next tick and observe."""
        return self.observe(self.ticker.wait())

    def save(self) -> ControlState:
        """This moment, the arm's included.

        Raises:
            InputError: the arm cannot go back to a moment, as hardware cannot.
        """
        save = getattr(self.arm, "save", None)
        if save is None:
            raise InputError(f"A {type(self.arm).__name__} cannot go back to a moment; only a simulated arm can.")
        return ControlState(save(), self._sent, self._raw, self.ticker.next_ns)

    def restore(self, state: ControlState) -> None:
        """Go back to a moment that `save` returned."""
        arm: Any = self.arm
        arm.restore(state.arm)
        self._sent, self._raw, self._state = state.sent, state.raw, None
        self.ticker = Ticker(arm.clock, self.robot.period_s)
        self.ticker.next_ns = state.next_ns

    def with_tool_pose(self, raw: Observation) -> Observation:
        """`raw` with `tool_position` and `tool_quaternion` computed from the joints; the one place that does."""
        if "joint_position" not in raw:
            return raw
        pose = self.kinematics.tool_pose(raw["joint_position"])
        stamp = raw.stamps_ns["joint_position"]
        return Observation(
            {**raw.values, "tool_position": pose.position, "tool_quaternion": pose.quaternion},
            {**raw.stamps_ns, "tool_position": stamp, "tool_quaternion": stamp},
        )


def max_ages(robot: RobotDescription, keys: tuple[str, ...]) -> Mapping[str, float]:
    """Key -> age limit in s, from the robot's `ros:` section."""
    limits: dict[str, float] = {}
    for key in keys:
        if key.startswith("image_"):
            camera = robot.ros.cameras.get(key.removeprefix("image_"))
            limits[key] = camera.max_age_s if camera else robot.ros.joint_states.max_age_s
            continue
        name, _, part = key.rpartition("_")
        source = robot.ros.openings if part == "opening" else robot.ros.poses
        topic: Any = source.get(name, robot.ros.joint_states)
        limits[key] = topic.max_age_s
    return limits
