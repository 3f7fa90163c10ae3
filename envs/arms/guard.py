"""The Guard: limits around any arm. Teleoperation, evaluation on hardware and deployment all command through it.

What it promises of the set points it sends, one a control period: joint positions inside their limits; their first,
second and third differences inside the velocity, acceleration and jerk limits; the torques that these differences ask
for, payload included, inside the effort limits (where the URDF has masses); the tool inside the workspace box; and that
stopping from any of them stays inside all of these. Smooth limiting is ruckig's.

How: each period ruckig plans the fastest limited motion, to the target at rest or, for a command that carries a
velocity (a step), to that velocity. The Guard accepts the state one period along it only if a stop planned from there
stays inside at every set point; otherwise it takes the next set point of the stop that was checked when the present
state was accepted, and kept. So the arm can always stop (the viability argument of braking-based safety filters).

The set point goes its own way, so on hardware it also looks whether the arm follows (`following.py`). Where it does
not, the set point is taken back to where the arm is and braked from there, within all of the above, and the fault is
told. Only a fresh reading says where the arm is, and it is carried on at the speed that was read: to put the set point
of a healthy arm where it was some periods ago would make it leap back. Without one the set point is braked as it goes.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.arm import Arm, Command, Observation, Start
from understudy.envs.arms.following import Following, Reading, SentLately, fresh_s
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.limited_motion import GENTLE, LimitedMotion, MotionState
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.stop_check import StopCheck
from understudy.errors import ArmFault, InputError

Vector = NDArray[np.float64]

FIRST_JUMP_RAD = 0.35
"""The first command of an episode may ask for no more than this, on any joint, from where the arm stands."""
MOVED_RAD = 0.05
"""An arm further than this, and what it can go in a period, from the set point that it refused was moved otherwise."""
CHANGED_RAD = 5e-3
"""A set point further than this from what was asked counts as changed."""


class Guard:
    """An arm that cannot be commanded outside its limits. `counts` says how often what was asked was changed."""

    def __init__(self, arm: Arm, *, kinematics: Kinematics | None = None, follows: bool = True) -> None:
        """Args:
        arm: what is commanded; its attribute `hardware` (where it has one) says whether it is a real one.
        kinematics: shared with the caller, or None to build it.
        follows: False for an arm that somebody else moves (a rehearsal), whose lag says nothing.
        """
        self.inner = arm
        self.clock = arm.clock
        self.counts: Counter[str] = Counter()
        """joint_position, motion (velocity, acceleration, jerk), workspace, effort, gripper, not_finite -> times;
        following -> how often the arm was found not to follow."""
        robot = arm.describe()
        following = Following(robot, hardware=bool(getattr(arm, "hardware", False)))
        self._following = following if follows and following.limits_any else None
        self._robot = robot
        self._check = StopCheck(robot, kinematics or Kinematics(robot))
        self.limits_effort = self._check.limits_effort
        """False: the URDF has no masses, so efforts are left to the arm's own controller."""
        self._lower, self._upper = robot.joint_array("lower"), robot.joint_array("upper")
        self._speed = robot.joint_array("velocity")
        # one joint's arithmetic in plain floats costs a tenth of a small array's
        self._lows, self._highs, self._speeds = self._lower.tolist(), self._upper.tolist(), self._speed.tolist()
        self._motion = LimitedMotion(robot)
        self._sent_lately = SentLately()
        self._oldest_s, self._fresh_s = robot.ros.joint_states.max_age_s, fresh_s(robot)
        self._width: float | None = None
        self._begun = self._refused = self._lost = False

    def describe(self) -> RobotDescription:
        """See `Arm`."""
        return self._robot

    def observe(self) -> Observation:
        """See `Arm`."""
        return self.inner.observe()

    def reset(self, start: Start) -> Observation:
        """See `Arm`; the Guard forgets its set point and takes the arm's own."""
        self._begun = self._refused = self._lost = False
        return self.inner.reset(start)

    def close(self) -> None:
        """See `Arm`."""
        self.inner.close()

    def save(self) -> GuardState:
        """This moment, the arm's included.

        Raises:
            InputError: the arm cannot go back to a moment, as hardware cannot.
        """
        save = getattr(self.inner, "save", None)
        if save is None:
            raise InputError(f"A {type(self.inner).__name__} cannot go back to a moment; only a simulated arm can.")
        return GuardState(
            save(),
            self.counts.copy(),
            self._width,
            self._begun,
            self._lost,
            self._check.effort,
            self._motion.before,
            self._motion.states,
        )

    def restore(self, state: GuardState) -> None:
        """Go back to a moment that `save` returned."""
        inner: Any = self.inner
        inner.restore(state.arm)
        self.counts = state.counts.copy()
        self._width, self._begun, self._lost = state.width, state.begun, state.lost
        self._check.effort = state.effort
        self._motion.before, self._motion.states = state.before, state.states
        self._sent_lately.clear()

    def send(self, command: Command) -> Command:
        """Limit `command`, send it, and return what was sent; the caller's arrays are left as they are.

        A command with a value that is not finite brakes the arm and is counted.

        Raises:
            InputError: the command has the wrong number of joints.
            ArmFault: the first command of an episode asks for a jump, the arm's joints are unknown, or a joint does not
                follow: then the arm has been sent the first step of a stop from where it is. Later commands brake on,
                and once that has ended, one begins anew, as the first of an episode does. Or the joint states stopped
                and the set point has gone as far as it may without them: then it has been sent a step of its own stop.
        """
        asked = self._joint_numbers(command.joint_position, "positions")
        velocity, width = None, command.gripper_position
        if command.joint_velocity is not None:
            velocity = self._joint_numbers(command.joint_velocity, "velocities")
        self._forget_if_moved()
        if self._following is not None and self._begun:
            self._require_following(self._following)
        if not all(map(math.isfinite, (*asked, *(velocity or ()), 0.0 if width is None else width))):
            self.counts["not_finite"] += 1
            return self._brake()
        if self._lost:
            if not self._motion.at_rest:
                return self._brake()
            self._begun = self._lost = False
        if not self._begun:
            self._begin(np.array(asked))
        target = [max(low, min(one, high)) for low, one, high in zip(self._lows, asked, self._highs, strict=True)]
        if _farthest(target, asked) > CHANGED_RAD:
            self.counts["joint_position"] += 1
        self._advance(self._wanted_speed(velocity, asked, target), target)
        return self._send(width)

    def hold(self) -> None:
        """Brake within the limits, then stay; call once a period until the arm rests, and as long after as you like.

        An arm that rested, and that something else has moved since, stays where it is now. One that does not follow is
        braked from where it is. Both are believed of fresh readings only.
        """
        self._forget_if_moved()
        if self._begun and self._motion.at_rest:
            seen = self.inner.observe()
            self._begun = not (self._is_fresh(seen) and self._is_elsewhere(seen))
        if not self._begun:
            self.inner.hold()
        elif self._following is not None and self._is_lost(seen := self.inner.observe()):
            self._brake_from(seen)
        else:
            self._brake()

    @property
    def at_rest(self) -> bool:
        """Whether the set point has stopped, or none has been sent since the reset."""
        return not self._begun or self._motion.at_rest

    def _require_following(self, following: Following) -> None:
        """Refuse to go on with an arm that does not follow, or that may not for all that is known, and brake it."""
        seen = self.inner.observe()
        fault = following.lag(self._sent_since(seen), self._reading(seen))
        if fault is None:
            return
        if self._is_fresh(seen):
            self._brake_from(seen)
        else:
            self._brake()
        raise ArmFault(fault)

    def _is_lost(self, seen: Observation) -> bool:
        """Whether the arm is known not to follow."""
        if self._following is None or not self._is_fresh(seen):
            return False
        try:
            return self._following.lag(self._sent_since(seen), self._reading(seen)) is not None
        except ArmFault:  # nothing is known: then it is braked along its set points
            return False

    def _is_fresh(self, seen: Observation) -> bool:
        """Whether the joints were read lately enough to say where the arm is."""
        return "joint_position" in seen and self._age_s(seen) <= self._fresh_s

    def _sent_since(self, seen: Observation) -> list[list[float]]:
        """The set points that a reading of the joints may be compared with, the present one first."""
        return self._sent_lately.since(seen.stamps_ns.get("joint_position", 0)) or [self._motion.position]

    def _age_s(self, seen: Observation) -> float:
        return max(0.0, (self.clock.now_ns() - seen.stamps_ns["joint_position"]) * 1e-9)

    def _reading(self, seen: Observation) -> Reading:
        """The joints as the arm told them last, with speeds where it tells J finite ones."""
        here = self._reported(seen)
        velocity = np.asarray(seen.values.get("joint_velocity", ()), np.float64)
        told = velocity.shape == here.shape and bool(np.all(np.isfinite(velocity)))
        speeds = np.clip(velocity, -self._speed, self._speed).tolist() if told else None
        return Reading(here.tolist(), speeds, self._age_s(seen))

    def _brake_from(self, seen: Observation) -> None:
        """Send the first step of a stop from where the arm is, as it moves there; where limits leave no room, stand."""
        self.counts["following"] += 1
        self._lost = True
        reading = self._reading(seen)
        self._take_place(seen, np.array(reading.now()))
        place = np.array(self._motion.position)
        if reading.velocity is not None:
            plan = self._motion.stop_at(place, np.array(reading.velocity))
            if plan is not None and plan.states and self._check.passed(plan, self._motion) is None:
                self._motion.accept(plan)
            else:
                self._motion.set(place)
        self._send(None)

    def _forget_if_moved(self) -> None:
        """After a refused command the arm may have been moved by something else; then begin from where it is."""
        if self._begun and self._refused:
            seen = self.inner.observe()
            self._measured(seen)  # refuses what tells nothing
            self._begun = not self._is_elsewhere(seen)

    def _is_elsewhere(self, seen: Observation) -> bool:
        """Whether readings have the arm further from the set point than its lag and their age explain."""
        try:
            self._measured(seen)  # refuses what tells nothing
            away = np.array(self._reading(seen).distances(self._sent_since(seen)))
        except ArmFault:  # nothing is known: then the set point that is there stays
            return False
        return bool(np.any(away > MOVED_RAD + self._speed * self._robot.period_s))

    def _joint_numbers(self, values: NDArray[Any], what: str) -> list[float]:
        """A command's J numbers, refused by name when there are too few or too many."""
        array = np.asarray(values, np.float64)
        if array.shape != self._lower.shape:
            raise InputError(
                f"Command for {self._robot.name!r} has {array.shape} joint {what}; expected {self._lower.shape}, "
                f"in the order {list(self._robot.joint_names)}."
            )
        numbers: list[float] = array.tolist()
        return numbers

    def _wanted_speed(
        self, velocity: list[float] | None, asked: list[float], target: list[float]
    ) -> list[float] | None:
        """The velocity a step asks for, none into a limit; None where the command is a place to come to rest at."""
        if velocity is None:
            return None
        each = zip(velocity, self._speeds, asked, target, strict=True)
        return [max(-most, min(speed, most)) if wish == goal else 0.0 for speed, most, wish, goal in each]

    def _begin(self, asked: Vector) -> None:
        """Take the arm's measured position as the set point, and refuse a first command far from it."""
        seen = self.inner.observe()
        here = self._measured(seen)
        jump = np.abs(asked - here)
        worst = int(np.argmax(jump))
        if jump[worst] > FIRST_JUMP_RAD:
            raise ArmFault(
                f"The first command asks joint {worst} ({self._robot.joint_names[worst]!r}) to go to "
                f"{asked[worst]:.3f} rad from {here[worst]:.3f} rad; at most {FIRST_JUMP_RAD} rad is allowed. "
                "Bring the arm near the start, or reset the set point to where the arm stands."
            )
        self._take_place(seen, here)
        self._begun = True

    def _take_place(self, seen: Observation, here: Vector) -> None:
        """The set point stands still where the arm is: joints (J,) at `here`, the gripper as it was seen."""
        self._motion.set(np.clip(here, self._lower, self._upper))
        self._sent_lately.clear()
        self._check.begin_at(here)
        self._width = float(seen["gripper_position"][0]) if "gripper_position" in seen else None

    def _measured(self, seen: Observation) -> Vector:
        """The joints (J,) as the arm reports them, refused when it does not, or only did long ago."""
        if "joint_position" not in seen:
            raise ArmFault("The arm has not reported its joint positions yet, so nothing may be sent; is it running?")
        age_s, oldest_s = self._age_s(seen), self._oldest_s
        if age_s > oldest_s:
            raise ArmFault(
                f"The arm's joint positions are {age_s:.2f} s old, at most {oldest_s:g} s is allowed to begin from, so "
                "nothing may be sent. Check the arm's driver."
            )
        return self._reported(seen)

    def _reported(self, seen: Observation) -> Vector:
        """The joints (J,) as the arm reported them last, whenever that was."""
        if "joint_position" not in seen:
            raise ArmFault("The arm has not reported its joint positions yet, so nothing may be sent; is it running?")
        here = np.asarray(seen["joint_position"], np.float64)
        if here.shape != self._lower.shape or not np.all(np.isfinite(here)):
            raise ArmFault(
                f"The arm reports joint positions {here.tolist()}; expected {len(self._lower)} finite numbers in rad, "
                "so nothing may be sent. Check the arm's driver."
            )
        return here

    def _brake(self) -> Command:
        if not self._begun:
            self._begin(self._measured(self.inner.observe()))
        self._motion.brake()
        return self._send(None)

    def _send(self, asked_width: float | None) -> Command:
        now, before, period_s = self._motion.position, self._motion.before, self._robot.period_s
        self._sent_lately.add(self.clock.now_ns(), now)
        velocity = np.array([(here - there) / period_s for here, there in zip(now, before, strict=True)])
        try:
            sent = self.inner.send(Command(np.array(now), self._limit_width(asked_width), velocity))
        except ArmFault:
            self._refused = True
            raise
        self._refused = False
        return sent

    def _limit_width(self, asked: float | None) -> float | None:
        """The gripper's set point: within its opening, no faster than its speed."""
        gripper = self._robot.gripper
        if gripper is None or asked is None:
            return None
        width = max(0.0, min(gripper.width, float(asked)))
        if width != asked:
            self.counts["gripper"] += 1
        step = gripper.speed * self._robot.period_s
        if self._width is not None:
            width = max(self._width - step, min(self._width + step, width))
        self._width = width
        return width

    def _advance(self, velocity: list[float] | None, target: list[float]) -> None:
        """Take the next set point towards what is wanted, or else brake; count which limit was in the way."""
        passed: str | None = "motion"
        for share in (1.0, GENTLE):
            plan = self._motion.follow(velocity, target, share)
            if plan is None:
                break
            passed = self._check.passed(plan, self._motion)
            if passed is None:
                self._motion.accept(plan)
                break
            if passed != "effort":
                break
        if passed is not None:
            self._motion.brake()
        elif _farthest(target, self._motion.position) > CHANGED_RAD:
            passed = "motion" if share == 1.0 else "effort"
        if passed is not None:
            self.counts[passed] += 1


def _farthest(left: list[float], right: list[float]) -> float:
    """The largest difference of any two numbers at the same place."""
    return max(abs(one - other) for one, other in zip(left, right, strict=True))


@dataclass(frozen=True)
class GuardState:
    """A moment of a `Guard` and its arm."""

    arm: Any
    counts: Counter[str]
    width: float | None
    begun: bool
    lost: bool
    effort: Vector
    before: list[float]
    states: tuple[MotionState, ...]
