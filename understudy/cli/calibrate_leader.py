"""`understudy calibrate-leader`: how another arm's joints read as the robot's, from two or three poses.

This module owns the conversation; the fit and the file are `capture/devices/leader_calibration.py`'s.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from understudy.cli.signals import noted_signals
from understudy.envs.arms.robot import load_robot
from understudy.errors import InputError

if TYPE_CHECKING:
    from understudy.capture.devices.leader_calibration import GripperLink, LeaderCalibration
    from understudy.capture.ros_leader import RosLeader
    from understudy.envs.arms.robot import RobotDescription

__all__ = ["CalibrateLeader"]

STILL_S = 0.5
"""A pose is the mean over this time."""
STILL_RAD = 0.03
"""An arm that moved more than this meanwhile was not at rest."""
FOLLOWER_S = 2.0
"""The follower's joint states have this long to come."""
SWING_RAD = 0.4
"""How far the listed poses are from home."""
MIN_TRAVEL_RAD = 0.1
"""The leader's gripper must move this much between closed and open."""


@dataclass(frozen=True)
class CalibrateLeader:
    """Calibrate a leader arm: find the sign and the offset of each joint, and write them to a file.

    Asks for a few poses, the same on both arms, and for the leader's gripper closed and open. Where the robot
    publishes its joint states, its poses are read; otherwise poses are listed to bring the leader to. Nothing moves.

    Example:
        understudy calibrate-leader --robot panda --out leader.yaml
        understudy calibrate-leader --robot xarm6 --topic /gello/joint_states --out gello.yaml --poses 2
    """

    out: Path
    """The file to write; `understudy record --device leader --calibration FILE` reads it."""
    robot: str = "panda"
    """The arm that follows: a shipped robot, or the path of a robot's YAML file."""
    topic: str = "/leader/joint_states"
    """Joint states of the leader."""
    poses: int = 3
    """How many poses to ask for, 2 to 9."""
    joints: tuple[str, ...] = ()
    """The leader's joints in the order of the robot's; by default those of the same names, or the first ones."""
    gripper_joint: str = ""
    """The leader's joint that moves the gripper; by default the first one that is left over."""
    gripper: bool = True
    """Ask for the gripper too, where the robot has one."""

    def run(self) -> int:
        if not 2 <= self.poses <= 9:
            raise InputError(f"--poses must be from 2 to 9, got {self.poses}.")
        if not self.out.parent.is_dir():
            raise InputError(f"Cannot write {self.out}: the folder {self.out.parent} does not exist.")
        robot = load_robot(self.robot)
        from understudy.envs.arms.robot import require_ros_name

        require_ros_name(self.topic, "--topic")
        if self.topic == robot.ros.joint_states.topic:
            raise InputError(f"--topic {self.topic} is where {robot.name} itself publishes; name the leader's.")
        with noted_signals() as asked:
            return self._calibrate(robot, asked.is_set)

    def _calibrate(self, robot: RobotDescription, stop: Callable[[], bool]) -> int:
        from understudy.capture.ros_leader import RosLeader

        leader = RosLeader(self.topic)
        try:
            calibration = self._converse(robot, leader, _follower(robot, leader), stop)
        finally:
            leader.close()
        calibration.write(self.out)
        print(f"{self.out}: next, understudy record TASK --device leader --calibration {self.out} --out DIR")
        return 0

    def _converse(
        self, robot: RobotDescription, leader: RosLeader, follower: RosLeader | None, stop: Callable[[], bool]
    ) -> LeaderCalibration:
        from understudy.capture.devices.leader_calibration import SeenPose, fit, pair_joints

        first = leader.latest()
        names = tuple(first.positions) if first is not None else ()
        pairs = pair_joints(robot, names, self.joints)
        listed = listed_poses(robot, self.poses)
        seen: list[SeenPose] = []
        while len(seen) < self.poses:
            _say(_wish(robot, len(seen), self.poses, None if follower is not None else listed[len(seen)]))
            _wait_for_enter(stop)
            at = still_pose(leader, pairs, "leader")
            if isinstance(at, str):
                _say(at)
                continue
            there: NDArray[np.float64] = listed[len(seen)]
            if follower is not None:
                stands = still_pose(follower, robot.joint_names, robot.name)
                if isinstance(stands, str):
                    _say(stands)
                    continue
                there = np.array([stands[name] for name in robot.joint_names])
            seen.append(SeenPose(at, there))
        calibration, left = fit(robot, seen, pairs)
        print(table(calibration, left))
        link = self._gripper(robot, leader, [name for name in names if name not in pairs], stop)
        return calibration.model_copy(update={"gripper": link})

    def _gripper(
        self, robot: RobotDescription, leader: RosLeader, left_over: Sequence[str], stop: Callable[[], bool]
    ) -> GripperLink | None:
        from understudy.capture.devices.leader_calibration import GripperLink

        if robot.gripper is None or not self.gripper:
            return None
        if self.gripper_joint and self.gripper_joint not in left_over:
            raise InputError(
                f"--gripper-joint {self.gripper_joint!r} is none of the leader's other joints: "
                f"{', '.join(left_over) or 'there are none'}."
            )
        if not left_over:
            _say("The leader has no joint for the gripper; it will stay as it is.")
            return None
        name = self.gripper_joint or left_over[0]
        ends: list[float] = []
        while len(ends) < 2:
            _say(f"{'Open' if ends else 'Close'} the leader's gripper ({name}), hold it so, and press Enter.")
            _wait_for_enter(stop)
            at = still_pose(leader, (name,), "leader's gripper")
            if isinstance(at, str):
                _say(at)
            else:
                ends.append(at[name])
        if abs(ends[1] - ends[0]) < MIN_TRAVEL_RAD:
            raise InputError(
                f"The leader's joint {name!r} moved only {abs(ends[1] - ends[0]):.3f} rad between closed and open; "
                "name the right one with --gripper-joint, or leave it out with --no-gripper."
            )
        print(f"gripper  {name}  closed {ends[0]:+.3f} rad  open {ends[1]:+.3f} rad")
        return GripperLink(leader=name, closed_rad=round(ends[0], 6), open_rad=round(ends[1], 6))


def listed_poses(robot: RobotDescription, count: int) -> list[NDArray[np.float64]]:
    """Poses (J,) for a leader whose follower says nothing: around home, every joint different, inside the limits."""
    pattern = np.where(np.arange(len(robot.joints)) % 2, -1.0, 1.0)
    lower, upper = robot.joint_array("lower"), robot.joint_array("upper")
    room = np.minimum(SWING_RAD, 0.45 * (upper - lower))
    middle = np.clip(robot.home, lower + room, upper - room)
    return [middle + share * room * pattern for share in np.linspace(1.0, -1.0, count)]


def still_pose(source: RosLeader, names: Sequence[str], whose: str) -> Mapping[str, float] | str:
    """Where an arm rests: the mean of its joints over `STILL_S`, or a sentence why there is none."""
    seen: list[list[float]] = []
    latest_ns, until = -1, time.monotonic() + STILL_S
    while time.monotonic() < until:
        sample = source.latest()
        if sample is not None and sample.stamp_ns != latest_ns:
            latest_ns = sample.stamp_ns
            absent = [name for name in names if name not in sample.positions]
            if absent:
                return f"The joint states of the {whose} lack {', '.join(absent)}. Try again."
            seen.append([sample.positions[name] for name in names])
        time.sleep(0.002)
    rows = np.array(seen)
    if len(rows) < 2:
        return f"The {whose} was silent: {source.why_silent()}. Try again."
    if not np.all(np.isfinite(rows)):
        return f"The {whose} sent a position that is not finite. Try again."
    moved = np.ptp(rows, axis=0)
    if moved.max() > STILL_RAD:
        return (
            f"The {whose} moved: {names[int(moved.argmax())]} by {moved.max():.2f} rad. Hold it still, and try again."
        )
    return dict(zip(names, map(float, rows.mean(axis=0)), strict=True))


def table(calibration: LeaderCalibration, left: NDArray[np.float64]) -> str:
    """What was found, joint by joint, with what it leaves over the poses (P, J), rad."""
    rows = [("joint", "leader", "sign", "offset", "residual")]
    for index, (name, link) in enumerate(calibration.joints.items()):
        worst = float(np.abs(left[:, index]).max())
        rows.append((name, link.leader, f"{link.sign:+d}", f"{link.offset_rad:+.3f} rad", f"{worst:.3f} rad"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, f"largest residual {calibration.residual_rad:.3f} rad over {calibration.poses} poses"])


def _follower(robot: RobotDescription, leader: RosLeader) -> RosLeader | None:
    """The robot's own joint states, where it publishes them."""
    from understudy.capture.ros_leader import RosLeader

    try:
        return RosLeader(robot.ros.joint_states.topic, FOLLOWER_S, robot.name, leader)
    except InputError as error:
        _say(f"{error} Poses are listed instead: bring the leader to each of them.")
        return None


def _wish(robot: RobotDescription, done: int, poses: int, listed: NDArray[np.float64] | None) -> str:
    if listed is None:
        again = "another pose, in which every joint is different" if done else "one pose"
        return f"Pose {done + 1} of {poses}: bring {robot.name} and the leader to {again}, and press Enter."
    angles = "  ".join(
        f"{name} {np.degrees(angle):+.0f}" for name, angle in zip(robot.joint_names, listed, strict=True)
    )
    return f"Pose {done + 1} of {poses}: bring the leader to where {robot.name} has (degrees) {angles}; press Enter."


def _wait_for_enter(stop: Callable[[], bool]) -> None:
    """Wait for a line on standard input.

    Raises:
        InputError: it has ended.
        KeyboardInterrupt: a signal came.
    """
    # Byte by byte, and never waiting long: a signal that is only noted does not end a read of a whole line.
    try:
        descriptor = sys.stdin.fileno()
    except (OSError, ValueError) as error:
        raise InputError("This asks for poses, one after the other, and there is no standard input.") from error
    while not stop():
        if select.select([descriptor], [], [], 0.1)[0]:
            byte = os.read(descriptor, 1)
            if byte == b"\n":
                return
            if not byte:
                raise InputError("Standard input ended before all poses were taken; nothing was written.")
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
