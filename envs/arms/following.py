"""How far the joints may lag behind the set point that they are sent: the following error, as drives call it.

A drive in a protective stop, a clutch that slips and a joint that is blocked take no notice of commands. A set point
that went on meanwhile would make the arm leap when the drive comes back, at whatever speed the drive can give. Owns the
limits and the sentences; what is sent instead is the Guard's.

A reading tells where a joint was, not where it is: an arm that goes on at a speed v while its joint states are a
seconds late is v a from its set point, and does not lag by it. So a reading is compared with what was sent at its own
time and since, and where the arm is now is told by a fresh one alone. In simulation no drive comes back, and a policy
may lean on weak motors: no limit.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from understudy.envs.arms.robot import JointDescription, RobotDescription

LATENCY_S = 0.25
"""An arm on hardware may be this late, and a control period, at its fastest: generous for old readings and a slow drive
together, since a point is due a period and a quarter after it was sent."""
SAG_RAD = 0.1
"""And this much on top: what a compliant arm sags under its load, and rounding at joints that hardly move."""
FRESH_PERIODS = 2.0
"""A reading this many periods old, of control or of the joint states themselves (the longer), still tells where an arm
is: one of them may be late or lost on the way, and the place is carried on at the speed that was read."""
COUNTED_S = LATENCY_S
"""An arm is believed to have followed since it was read for this long, s; not for ever."""


@dataclass(frozen=True)
class Reading:
    """The joints as the arm told them last."""

    position: list[float]
    """(J,) rad"""
    velocity: list[float] | None
    """(J,) rad/s, within the joints' limits; None: the arm does not tell."""
    age_s: float

    def now(self) -> list[float]:
        """(J,) rad: where the joints are if they went on as they were read; the reading, where speeds are not told."""
        if self.velocity is None:
            return self.position
        each = zip(self.position, self.velocity, strict=True)
        return [place + speed * self.age_s for place, speed in each]

    def distances(self, set_points: list[list[float]]) -> list[float]:
        """(J,) rad: how far each joint was from the way between the lowest and the highest of some set points (J,)."""
        each = zip(self.position, zip(*set_points, strict=True), strict=True)
        return [max(min(wishes) - place, place - max(wishes), 0.0) for place, wishes in each]


class SentLately:
    """What was sent and when, as long as a reading may be compared with it."""

    def __init__(self) -> None:
        self._each: deque[tuple[int, list[float]]] = deque()

    def clear(self) -> None:
        """Begin anew: the set point was put elsewhere."""
        self._each.clear()

    def add(self, stamp_ns: int, set_point: list[float]) -> None:
        """A set point (J,), rad, takes effect."""
        self._each.append((stamp_ns, set_point))
        while len(self._each) > 1 and self._each[1][0] <= stamp_ns - round(COUNTED_S * 1e9):
            self._each.popleft()

    def since(self, stamp_ns: int) -> list[list[float]]:
        """The set point in force at a moment, and all after it, no further back than `COUNTED_S`; at least the last."""
        found = []
        for sent_ns, set_point in reversed(self._each):
            found.append(set_point)
            if sent_ns <= stamp_ns:
                break
        return found


def fresh_s(robot: RobotDescription) -> float:
    """How old a reading may be to tell where the arm is, s."""
    rate_hz = robot.ros.joint_states.rate_hz
    return FRESH_PERIODS * max(robot.period_s, 0.0 if rate_hz is None else 1.0 / rate_hz)


class Following:
    """The limits of one robot's joints."""

    def __init__(self, robot: RobotDescription, *, hardware: bool) -> None:
        """Args:
        robot: its file may say the limits, for a joint or for all of them; where it says nothing, a joint is limited
            to velocity x (`LATENCY_S` + a period) + `SAG_RAD`.
        hardware: an arm on hardware is limited. A simulated one, whose motors may be weak on purpose, never is.
        """
        self._robot = robot
        self._fresh_s = fresh_s(robot)
        self.limits_rad = [_limit(joint, robot) if hardware else math.inf for joint in robot.joints]
        """(J,) how far each joint may be from its set point; infinite: as far as it likes."""

    @property
    def limits_any(self) -> bool:
        """Whether any joint is limited."""
        return min(self.limits_rad) < math.inf

    def lag(self, sent: list[list[float]], reading: Reading) -> str | None:
        """What is the matter with the joint that is furthest beyond its limit; None: all of them may be following.

        Args:
            sent: (J,) rad each: the set point in force when the arm was read and those after it, the last one first.
            reading: the arm's last. One that is not fresh says nothing of the arm, only that the joint states stopped.
        """
        away = reading.distances(sent)
        beyond = [one - most for one, most in zip(away, self.limits_rad, strict=True)]
        worst = max(beyond)
        if worst <= 0.0:
            return None
        joint = beyond.index(worst)
        name, here, wish = self._robot.joint_names[joint], reading.position[joint], sent[0][joint]
        most = f"at most {self.limits_rad[joint]:.3f} rad is allowed"
        if reading.age_s > self._fresh_s:
            return (
                f"The joint states stopped: the last came {reading.age_s:.2f} s ago. Joint {joint} ({name!r}) was at "
                f"{here:.3f} rad then and was sent to {wish:.3f} rad since, {away[joint]:.3f} rad of it longer ago "
                f"than may go unseen ({most}); nobody knows whether the arm follows. The set point is braked. Check "
                "the arm's driver and the connection to it, and begin anew."
            )
        return (
            f"Joint {joint} ({name!r}) lags {away[joint]:.3f} rad behind its set point: it is at {here:.3f} rad (read "
            f"{reading.age_s:.2f} s ago) and was sent to {wish:.3f} rad; {most}. The set point was taken "
            "back to where the arm is. See whether the arm is in a protective stop, disengaged or blocked, clear that, "
            "and begin anew; for an arm that is sound but slow, raise `following_error_rad` in the robot's file."
        )


def _limit(joint: JointDescription, robot: RobotDescription) -> float:
    for told in (joint.following_error_rad, robot.following_error_rad):
        if told is not None:
            return told
    return joint.velocity * (LATENCY_S + robot.period_s) + SAG_RAD
