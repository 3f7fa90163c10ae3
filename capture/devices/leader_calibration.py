"""How a leader arm's joints read as the follower's: sign, offset and name of each, fitted from poses and kept in YAML.

    q_follower = sign * q_leader + offset

for every joint, with sign 1 or -1. Each pose is seen twice: where the leader's joints are, and where the follower's are
or would be. The offset is the mean of `q_follower - sign * q_leader`, which is the least-squares one, and the sign is
the one that leaves less. Owns the file; it moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from understudy.envs.arms.findings import RobotFault
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.validation import problems
from understudy.envs.arms.yaml_lines import YamlLines
from understudy.errors import InputError, RobotMismatch

MIN_SPREAD_RAD = 0.2
"""A joint must move this much between poses for its sign to be told from noise."""
MAX_RESIDUAL_RAD = 0.15
"""A pose that fits worse than this was not the same pose on both arms."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JointLink(_Strict):
    """One joint of the follower and the leader's joint that moves it."""

    leader: str
    """Name in the leader's joint states."""
    sign: Literal[1, -1] = 1
    offset_rad: Annotated[float, Field(allow_inf_nan=False)] = 0.0


class GripperLink(_Strict):
    """The leader's handle or trigger that moves the gripper."""

    leader: str
    closed_rad: Annotated[float, Field(allow_inf_nan=False)]
    """Its position with the gripper closed."""
    open_rad: Annotated[float, Field(allow_inf_nan=False)]

    @model_validator(mode="after")
    def _moves(self) -> GripperLink:
        if self.closed_rad == self.open_rad:
            raise ValueError(f"closed and open are both {self.open_rad} rad; they must differ")
        return self


class LeaderCalibration(_Strict):
    """A leader's calibration for one robot; `read_calibration` and `fit` are the ways to get one."""

    robot: str
    joints: dict[str, JointLink]
    """Follower joint -> leader joint, in the follower's order."""
    gripper: GripperLink | None = None
    residual_rad: Annotated[float, Field(ge=0.0)] = 0.0
    """The largest, over joints and poses, when it was fitted."""
    poses: Annotated[int, Field(ge=0)] = 0

    @property
    def leader_joints(self) -> tuple[str, ...]:
        """Every name that must be in the leader's joint states."""
        names = [link.leader for link in self.joints.values()]
        return tuple(names if self.gripper is None else [*names, self.gripper.leader])

    def follow(self, leader: Mapping[str, float]) -> NDArray[np.float64]:
        """Where the follower's joints should be (J,), rad, for the leader's joint positions by name."""
        return np.array([link.sign * leader[link.leader] + link.offset_rad for link in self.joints.values()])

    def opening(self, leader: Mapping[str, float]) -> float | None:
        """Share of the gripper's travel, 0 closed to 1 open; None without one."""
        if self.gripper is None:
            return None
        link = self.gripper
        share = (leader[link.leader] - link.closed_rad) / (link.open_rad - link.closed_rad)
        return min(max(share, 0.0), 1.0)

    @classmethod
    def same_joints(cls, robot: RobotDescription) -> LeaderCalibration:
        """Of a leader that is the same arm: equal names, no offset; its gripper is not followed."""
        return cls(robot=robot.name, joints={name: JointLink(leader=name) for name in robot.joint_names})

    def write(self, path: Path) -> None:
        """Write a file that `read_calibration` reads.

        Raises:
            InputError: the folder does not exist.
        """
        if not path.parent.is_dir():
            raise InputError(f"Cannot write {path}: the folder {path.parent} does not exist.")
        text = yaml.safe_dump(self.model_dump(exclude_none=True), sort_keys=False)
        path.write_text(f"# Leader of {self.robot}: q_follower = sign * q_leader + offset_rad\n{text}")


def read_calibration(path: Path, robot: RobotDescription) -> LeaderCalibration:
    """Read a calibration, and check that it is for this robot.

    Raises:
        InputError: not there, not YAML, or unknown, missing or senseless entries; says the line.
        RobotMismatch: it is for another robot, or for other joints.
    """
    if not path.is_file():
        raise InputError(f"Calibration {path} does not exist; make it with: understudy calibrate-leader --out {path}")
    try:
        lines = YamlLines(path)
    except RobotFault as error:
        raise InputError(f"{error.findings[0]}.") from error
    if not isinstance(lines.data, dict):
        raise InputError(f"{path}: expected a mapping, as `understudy calibrate-leader` writes it.")
    try:
        found = LeaderCalibration.model_validate(lines.data)
    except ValidationError as error:
        first = sorted(problems(error, LeaderCalibration), key=lambda problem: problem.missing)[0]
        remedy = f"; {first.remedy}" if first.remedy else ""
        raise InputError(f"{lines.at(*first.at)}: {first.sentence}{remedy}.") from error
    if found.robot != robot.name:
        raise RobotMismatch(f"{lines.at('robot')}: the leader was calibrated for {found.robot!r}, not {robot.name!r}.")
    if tuple(found.joints) != robot.joint_names:
        raise RobotMismatch(
            f"{lines.at('joints')}: expected the joints {', '.join(robot.joint_names)}, got {', '.join(found.joints)}; "
            "calibrate again."
        )
    return found


@dataclass(frozen=True)
class SeenPose:
    """One pose on both arms."""

    leader: Mapping[str, float]
    """Leader joint -> position, rad."""
    follower: NDArray[np.float64]
    """(J,) rad, in the robot's order."""


def pair_joints(robot: RobotDescription, leader_names: Sequence[str], chosen: Sequence[str] = ()) -> tuple[str, ...]:
    """Which leader joint moves each of the follower's: as chosen, or of the same name, or in the order they come.

    Raises:
        InputError: a chosen joint is not there, or there are too few.
    """
    wanted = robot.joint_names
    if chosen:
        absent = [name for name in chosen if name not in leader_names]
        if absent or len(chosen) != len(wanted):
            raise InputError(
                f"--joints must name {len(wanted)} joints of the leader, one for each of {', '.join(wanted)}; got "
                f"{', '.join(chosen)}, and the leader has {', '.join(leader_names)}."
            )
        return tuple(chosen)
    if set(wanted) <= set(leader_names):
        return tuple(wanted)
    if len(leader_names) < len(wanted):
        raise InputError(
            f"The leader has {len(leader_names)} joints ({', '.join(leader_names)}), and {robot.name} has "
            f"{len(wanted)}; choose which is which with --joints, on a leader with at least as many."
        )
    return tuple(leader_names[: len(wanted)])


def fit(
    robot: RobotDescription, poses: Sequence[SeenPose], leader_joints: Sequence[str]
) -> tuple[LeaderCalibration, NDArray[np.float64]]:
    """The calibration (without a gripper) that fits the poses best, and what it leaves (poses, J), rad.

    Raises:
        InputError: fewer than two poses, a joint hardly moved between them, or a pose does not fit.
    """
    if len(poses) < 2:
        raise InputError(f"Two poses or more are needed to tell signs and offsets, got {len(poses)}.")
    leader = np.array([[pose.leader[name] for name in leader_joints] for pose in poses])
    follower = np.array([pose.follower for pose in poses])
    spread = np.minimum(np.ptp(leader, axis=0), np.ptp(follower, axis=0))
    least = int(np.argmin(spread))
    if spread[least] < MIN_SPREAD_RAD:
        raise InputError(
            f"Joint {robot.joint_names[least]!r} (leader {leader_joints[least]!r}) moved only {spread[least]:.2f} rad "
            f"between the poses; at least {MIN_SPREAD_RAD} rad are needed. Take poses in which every joint differs."
        )
    signs, offsets, left = _best(leader, follower)
    pose, joint = np.unravel_index(int(np.argmax(np.abs(left))), left.shape)
    if abs(left[pose, joint]) > MAX_RESIDUAL_RAD:
        raise InputError(
            f"Joint {robot.joint_names[joint]!r} does not fit: pose {pose + 1} is off by "
            f"{abs(left[pose, joint]):.2f} rad, at most {MAX_RESIDUAL_RAD} rad is allowed. Bring both arms to the same "
            "pose and calibrate again, or pair the joints otherwise with --joints."
        )
    links = {
        name: JointLink(leader=other, sign=1 if sign > 0 else -1, offset_rad=round(float(offset), 6))
        for name, other, sign, offset in zip(robot.joint_names, leader_joints, signs, offsets, strict=True)
    }
    residual = round(float(np.abs(left).max()), 6)
    return LeaderCalibration(robot=robot.name, joints=links, residual_rad=residual, poses=len(poses)), left


def _best(
    leader: NDArray[np.float64], follower: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(signs (J,), offsets (J,), residuals (P, J)) of positions (P, J) on both arms."""
    tried = []
    for sign in (1.0, -1.0):
        offset = (follower - sign * leader).mean(axis=0)
        tried.append((offset, sign * leader + offset - follower))
    (offset, left), (other_offset, other_left) = tried
    mirrored = np.square(other_left).sum(axis=0) < np.square(left).sum(axis=0)
    return (
        np.where(mirrored, -1.0, 1.0),
        np.where(mirrored, other_offset, offset),
        np.where(mirrored, other_left, left),
    )
