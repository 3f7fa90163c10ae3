"""How far the joints may lag behind the set point that they are sent: the following error, as drives call it.

A drive in a protective stop, a clutch that slips and a joint that is blocked take no notice of commands. A set point
that went on meanwhile would make the arm leap when the drive comes back, at whatever speed the drive can give. Owns the
limits and the sentence; what is sent instead is the Guard's.
"""

from __future__ import annotations

import math

from understudy.envs.arms.robot import JointDescription, RobotDescription

LATENCY_S = 0.25
"""An arm on hardware may be this late, and a control period, at its fastest: generous for old readings and a slow drive
together, since a point is due a period and a quarter after it was sent."""
SAG_RAD = 0.1
"""And this much on top: what a compliant arm sags under its load, and rounding at joints that hardly move."""


class Following:
    """The limits of one robot's joints."""

    def __init__(self, robot: RobotDescription, *, hardware: bool) -> None:
        """Args:
        robot: its file may say the limits, for a joint or for all of them.
        hardware: where the file says nothing, an arm on hardware is limited to velocity x (`LATENCY_S` + a period) +
            `SAG_RAD`, and a simulated one, whose motors may be weak on purpose, is not.
        """
        self._robot = robot
        self.limits_rad = [_limit(joint, robot, hardware) for joint in robot.joints]
        """(J,) how far each joint may be from its set point; infinite: as far as it likes."""

    @property
    def limits_any(self) -> bool:
        """Whether any joint is limited."""
        return min(self.limits_rad) < math.inf

    def lag(self, set_point: list[float], here: list[float], age_s: float) -> str | None:
        """What is the matter with the joint that is furthest beyond its limit; None: all of them follow.

        Args:
            set_point: (J,) rad, as sent last.
            here: (J,) rad, as read last.
            age_s: of that reading, for the sentence.
        """
        beyond = [abs(wish - is_at) - most for wish, is_at, most in zip(set_point, here, self.limits_rad, strict=True)]
        worst = max(beyond)
        if worst <= 0.0:
            return None
        joint = beyond.index(worst)
        return (
            f"Joint {joint} ({self._robot.joint_names[joint]!r}) lags {worst + self.limits_rad[joint]:.3f} rad behind "
            f"its set point: it is at {here[joint]:.3f} rad (read {age_s:.2f} s ago) and was sent to "
            f"{set_point[joint]:.3f} rad; at most {self.limits_rad[joint]:.3f} rad is allowed. The set point was taken "
            "back to where the arm is. See whether the arm is in a protective stop, disengaged or blocked, clear that, "
            "and begin anew; for an arm that is sound but slow, raise `following_error_rad` in the robot's file."
        )


def _limit(joint: JointDescription, robot: RobotDescription, hardware: bool) -> float:
    for told in (joint.following_error_rad, robot.following_error_rad):
        if told is not None:
            return told
    return joint.velocity * (LATENCY_S + robot.period_s) + SAG_RAD if hardware else math.inf
