"""A robot is a YAML file: joints, limits, gripper, frames, rate and ROS 2 names, read strictly.

Owns reading and checking these files. Limits come from the file itself; they may narrow what the URDF allows, never
widen it (`load_robot` compares). Nothing here needs a simulator or ROS.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from understudy.envs.arms.findings import Finding, refuse
from understudy.envs.arms.robot_check import check_files
from understudy.envs.arms.validation import Problem, problems
from understudy.envs.arms.yaml_lines import YamlLines
from understudy.errors import InputError, unknown_name

ROBOTS = Path(__file__).parent / "robots"
OURS = ("folder",)
"""Fields that files do not have."""


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {value}; YAML takes yes, no, on and off for that")
    return value


LARGEST, FARTHEST = 1e7, 1e4
"""Of what is positive, and of places and angles, in SI units. No arm comes near: beyond are slips of the pen, which
planning of motions cannot reckon with."""
Number = Annotated[float, BeforeValidator(_no_truth), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0, ge=1e-6, le=LARGEST)]
Finite = Annotated[Number, Field(ge=-FARTHEST, le=FARTHEST)]
Pixels = Annotated[int, BeforeValidator(_no_truth), Field(gt=0, le=8192)]
Triple = tuple[Finite, Finite, Finite]


_ROS_NAME = r"^~?/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$"
RosName = Annotated[str, Field(pattern=_ROS_NAME)]
"""A topic or service that ROS 2 accepts; rclpy would say so only when it is used."""


def require_ros_name(name: str | None, option: str) -> None:
    """Refuse a topic or service name given as an option that ROS 2 would refuse later; None is none.

    Raises:
        InputError: names the option.
    """
    if name is not None and not re.match(_ROS_NAME, name):
        raise InputError(
            f"{option} {name!r} is no ROS 2 name: write letters, digits and '_' between slashes, as in /arm/reset."
        )


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JointDescription(_Strict):
    """One joint: its limits and where home is."""

    name: str
    home: Finite
    """rad"""
    lower: Finite
    upper: Finite
    """rad"""
    velocity: Positive
    """rad/s"""
    acceleration: Positive
    """rad/s^2"""
    jerk: Positive
    """rad/s^3"""
    effort: Positive
    """N m"""
    following_error_rad: Positive | None = None
    """How far it may be from its set point, rad; None: as `RobotDescription.following_error_rad`."""

    @model_validator(mode="after")
    def _ordered(self) -> JointDescription:
        if not self.lower < self.upper:
            raise ValueError(
                f"joint {self.name!r}: lower limit {self.lower} rad is not below upper {self.upper} rad; swap them"
            )
        if not self.lower <= self.home <= self.upper:
            raise ValueError(
                f"joint {self.name!r}: home {self.home} rad lies outside its limits [{self.lower}, {self.upper}] rad; "
                "move it inside"
            )
        return self


class GripperDescription(_Strict):
    """A gripper that opens and closes: finger joints move linearly between `closed` and `open`."""

    joints: dict[str, tuple[Finite, Finite]]
    """Finger joint -> (position when closed, position when open), rad or m."""
    width: Positive
    """Opening when open, m."""
    speed: Positive
    """Fastest change of the opening, m/s."""
    force: Positive
    """Grip force or torque limit of each finger joint's motor, N or N m."""
    coupled: bool = False
    """True: one motor, at the first joint, moves all the others through gears. False: a motor at each joint."""

    @model_validator(mode="after")
    def _moves(self) -> GripperDescription:
        if not self.joints:
            raise ValueError("a gripper needs at least one finger joint; leave `gripper:` out where there is none")
        for name, (closed, opened) in self.joints.items():
            if closed == opened:
                raise ValueError(f"finger joint {name!r} is at {opened} both closed and open; it must move")
        return self


class WorkspaceDescription(_Strict):
    """The box, in the base frame, that the tool must stay in (m)."""

    low: Triple
    high: Triple

    @model_validator(mode="after")
    def _ordered(self) -> WorkspaceDescription:
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"workspace low {self.low} must lie below high {self.high} on every axis; mend the box")
        return self


class TopicDescription(_Strict):
    """A topic this robot publishes and how its samples are judged."""

    topic: RosName
    max_age_s: Positive = 0.25
    """A sample older than this is stale: observing stops and the arm holds."""
    rate_hz: Annotated[Number, Field(gt=0, le=10_000)] | None = None
    """How often it comes; a recording tells when it comes less often. None: as often as at first."""


class CameraDescription(TopicDescription):
    """An image topic: raw (`sensor_msgs/Image`) rgb8 or bgr8, or compressed (`sensor_msgs/CompressedImage`)."""

    width: Pixels
    height: Pixels
    compressed: bool | None = None
    """JPEG or PNG in CompressedImage; None: where the topic's name ends in /compressed."""

    @property
    def is_compressed(self) -> bool:
        """Whether its messages are CompressedImage."""
        return self.topic.endswith("/compressed") if self.compressed is None else self.compressed


class RosDescription(_Strict):
    """Names on the ROS 2 graph. Relative to no namespace: what is written is what is used."""

    joint_states: TopicDescription = TopicDescription(topic="/joint_states")
    command: Literal["joint_trajectory", "position"] = "joint_trajectory"
    """joint_trajectory: trajectory_msgs/JointTrajectory; position: std_msgs/Float64MultiArray in joint order."""
    command_topic: RosName = "/joint_trajectory_controller/joint_trajectory"
    gripper_topic: RosName | None = None
    """std_msgs/Float64MultiArray of finger joint positions, in the order of `gripper.joints`."""
    poses: dict[str, TopicDescription] = {}
    """`object` -> PoseStamped topic: becomes `object_position` and `object_quaternion`."""
    openings: dict[str, TopicDescription] = {}
    """`object` -> JointState topic with one joint, of what slides in it (m): becomes `object_opening`."""
    cameras: dict[str, CameraDescription] = {}
    reset_service: RosName | None = None
    """std_srvs/Trigger that brings arm and scene to the start of an episode, where there is one."""


class RobotDescription(_Strict):
    """A robot as its YAML file states it; `load_robot` is the way to get one."""

    name: Annotated[str, Field(min_length=1)]
    urdf: str
    """Path beside the YAML file, absolute, or `package:path` inside an installed Python package."""
    kinematics: str | None = None
    """A URDF of links and joints only, for machines without the full one; same syntax. None: use `urdf`."""
    joints: tuple[JointDescription, ...]
    tool_frame: str
    """URDF link whose pose is `tool_position` and `tool_quaternion`."""
    gripper: GripperDescription | None = None
    rate_hz: Annotated[Number, Field(ge=1, le=1000)] = 20.0
    """Control rate: one command a period."""
    payload_kg: Annotated[Number, Field(ge=0, le=LARGEST)] = 0.0
    """The heaviest thing the tool carries; the Guard keeps efforts within limits with it in hand."""
    following_error_rad: Positive | None = None
    """How far any joint may be from its set point, on hardware only, rad; None: what `following.py` says."""
    workspace: WorkspaceDescription
    ros: RosDescription = RosDescription()
    folder: Path = ROBOTS
    """Where relative paths start; set by `load_robot`, not written in files."""

    @field_validator("joints")
    @classmethod
    def _distinct(cls, joints: tuple[JointDescription, ...]) -> tuple[JointDescription, ...]:
        names = [joint.name for joint in joints]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"joint names must be distinct and at least one, got {names}; list each joint once")
        return joints

    @field_validator("gripper")
    @classmethod
    def _of_its_own(cls, gripper: GripperDescription | None, info: ValidationInfo) -> GripperDescription | None:
        names = {joint.name for joint in info.data.get("joints", ())}
        shared = sorted(names & set(gripper.joints)) if gripper else []
        if shared:
            raise ValueError(f"joints {shared} are listed both as arm joints and as finger joints; list them once")
        return gripper

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names in command order."""
        return tuple(joint.name for joint in self.joints)

    def joint_array(self, field: str) -> NDArray[np.float64]:
        """A number of every joint as an array (J,): `home`, `lower`, `upper`, `velocity`, ..."""
        return np.array([getattr(joint, field) for joint in self.joints], np.float64)

    @property
    def home(self) -> NDArray[np.float64]:
        """(J,) rad."""
        return self.joint_array("home")

    @property
    def period_s(self) -> float:
        """One control period, s."""
        return 1.0 / self.rate_hz

    def urdf_path(self) -> Path:
        """The full URDF (with meshes), for simulation."""
        return resolve_path(self.urdf, self.folder)

    def kinematics_path(self) -> Path:
        """The URDF to compute kinematics from."""
        return resolve_path(self.kinematics or self.urdf, self.folder)

    def gripper_width(self, finger_positions: Sequence[float] | NDArray[np.float64]) -> float:
        """Opening width in m from the finger joints' positions, in the order of `gripper.joints`."""
        gripper = self.require_gripper()
        ends = zip(finger_positions, gripper.joints.values(), strict=True)
        shares = [(position - closed) / (opened - closed) for position, (closed, opened) in ends]
        return float(sum(shares) / len(shares) * gripper.width)

    def finger_positions(self, width: float) -> NDArray[np.float64]:
        """Finger joint positions for an opening width in m (clipped to what the gripper can do)."""
        gripper = self.require_gripper()
        share = max(0.0, min(1.0, width / gripper.width))
        return np.array([closed + share * (opened - closed) for closed, opened in gripper.joints.values()])

    def require_gripper(self) -> GripperDescription:
        """The gripper, or an InputError that says this robot has none."""
        if self.gripper is None:
            raise InputError(f"Robot {self.name!r} has no gripper, and this needs one; add `gripper:` to its file.")
        return self.gripper


def resolve_path(source: str, folder: Path) -> Path:
    """Turn `package:path`, an absolute path or a path beside `folder` into an existing file.

    Raises:
        InputError: the package or the file is missing.
    """
    package, colon, inside = source.partition(":")
    if colon:
        # a dotted or empty name would make find_spec import things or raise
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise InputError(
                f"URDF {source!r} lies in the Python package {package!r}, which is not installed; "
                "install it (pybullet_data comes with understudy[sim]) or give a path."
            )
        path = Path(next(iter(spec.submodule_search_locations))) / inside
    else:
        path = folder / source
    if not path.is_file():
        raise InputError(f"URDF {source!r} was looked for at {path} and is not there.")
    return path


def known_robots() -> list[str]:
    """Names of the robots that come with Understudy."""
    return sorted(path.stem for path in ROBOTS.glob("*.yaml"))


def load_robot(source: str | Path) -> RobotDescription:
    """Read a robot by its shipped name ('panda') or from a YAML file, and check it against its URDF.

    Raises:
        InputError: no such name or file, not YAML, unknown or missing keys, or one of the errors of `robot_check.py`.
    """
    path = robot_file(source)
    robot = read_robot(path)
    refuse(check_files(robot, path), source)
    return robot


def robot_file(source: str | Path) -> Path:
    """The YAML file of a shipped robot's name, or of the file that `source` is.

    Raises:
        InputError: no such name or file.
    """
    text_source = str(source)
    if text_source.endswith((".yaml", ".yml")):
        path = Path(source)
        if not path.is_file():
            raise InputError(f"Robot file {path} does not exist.")
        return path
    if text_source not in known_robots():
        raise unknown_name("robot", text_source, [*known_robots(), "path/to/robot.yaml"])
    return ROBOTS / f"{text_source}.yaml"


def read_robot(path: Path) -> RobotDescription:
    """Read a robot's file alone, without its URDF.

    Raises:
        RobotFault: not YAML, or unknown, missing or senseless keys; each with its line.
    """
    lines = YamlLines(path)
    data = lines.data
    if not isinstance(data, dict):
        got = f"expected a mapping of robot fields, got {type(data).__name__}"
        refuse([Finding("YAML", "error", str(path), got, "begin with `name:`, as the shipped files do")], path)
    if "folder" in data:
        told = str(unknown_name("key", "folder", [name for name in RobotDescription.model_fields if name not in OURS]))
        refuse([Finding("keys", "error", lines.at("folder"), told.rstrip("."), "take it out")], path)
    try:
        return RobotDescription.model_validate({**data, "folder": path.resolve().parent})
    except ValidationError as error:
        found = problems(error, RobotDescription, OURS)
        # a misspelt key is also missing: what was written is said first
        found.sort(key=lambda problem: problem.missing)
        refuse([_finding(problem, lines) for problem in found], path)
        raise


def _finding(problem: Problem, lines: YamlLines) -> Finding:
    where = lines.at(*problem.at)
    if problem.missing:
        return Finding("keys", "error", where, "a key is left out", f"write it: {problem.sentence}")
    message, _, own = problem.sentence.partition("; ")
    return Finding("values", "error", where, message, own or problem.remedy or "mend it")
