"""What is wrong with a robot's files: its YAML against its URDF, each finding with file, line and remedy.

Errors are refused when the robot is loaded (`load_robot`, and for what only simulation needs `SimArm`); warnings are
what `understudy doctor --robot` says besides. Nothing here needs a simulator or ROS.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from understudy.envs.arms.findings import Finding, RobotFault
from understudy.envs.arms.urdf import Joint, Urdf, read_urdf
from understudy.envs.arms.urdf_check import (
    LIMIT_ELEMENT,
    ROUNDING,
    check_any_mass,
    check_axes,
    check_limits,
    check_masses,
    check_names,
    check_numbers,
    check_shapes,
    check_tree,
    check_urdf,
)
from understudy.envs.arms.yaml_lines import YamlLines
from understudy.errors import InputError, unknown_name

if TYPE_CHECKING:
    from understudy.envs.arms.robot import JointDescription, RobotDescription

DEGREES_RAD = 20.0
"""Three turns: limits beyond are degrees, most likely."""


def check_files(robot: RobotDescription, path: Path) -> list[Finding]:
    """Check a robot's YAML file at `path` against the URDF that kinematics use.

    Raises:
        RobotFault: the URDF is missing or unreadable.
    """
    lines = YamlLines(path)
    try:
        urdf_path = robot.kinematics_path()
    except InputError as error:
        where = lines.at("urdf" if robot.kinematics is None else "kinematics")
        missing = Finding("URDF", "error", where, str(error).rstrip("."), "mend the path, or put the file there")
        raise RobotFault(f"{missing}.", [missing]) from error
    urdf = read_urdf(urdf_path)
    findings = [*check_names(urdf), *_names(robot, urdf, lines), *check_axes(urdf)]
    for index, described in enumerate(robot.joints):
        if described.name in urdf.joints:
            findings += _arm_joint(described, urdf.joints[described.name], urdf, lines.at("joints", index))
    findings += [*check_tree(urdf), *check_numbers(urdf), *_tool(robot, urdf, lines), *_fingers(robot, urdf, lines)]
    return [*findings, *check_limits(urdf, robot.joint_names), *_others(robot, urdf), *check_masses(urdf)]


def check_full_urdf(robot: RobotDescription) -> list[Finding]:
    """Check the URDF that simulation loads: meshes, and everything again where it is not the kinematics file.

    Raises:
        InputError: the URDF is missing or unreadable.
    """
    urdf = read_urdf(robot.urdf_path())
    findings = [*check_shapes(urdf), *check_any_mass(urdf)]
    if robot.kinematics is not None:
        findings += [*check_urdf(urdf), *_others(robot, urdf)]
    return findings


def _names(robot: RobotDescription, urdf: Urdf, lines: YamlLines) -> Iterator[Finding]:
    """The names of the YAML file that the URDF does not have."""
    if robot.tool_frame not in urdf.links:
        problem = str(unknown_name("link", robot.tool_frame, urdf.links)).rstrip(".")
        yield Finding(
            "tool frame", "error", lines.at("tool_frame"), f"tool_frame: {problem}", "name the link that is the tool"
        )
    named: list[tuple[tuple[str | int, ...], str]]
    named = [(("joints", index, "name"), joint.name) for index, joint in enumerate(robot.joints)]
    named += [(("gripper", "joints", name), name) for name in (robot.gripper.joints if robot.gripper else ())]
    for keys, name in named:
        if name not in urdf.joints:
            problem = str(unknown_name("joint", name, urdf.joints)).rstrip(".")
            yield Finding(
                "joint name", "error", lines.at(*keys), f"joints: {problem}", f"{urdf.path} has no such joint"
            )


def _tool(robot: RobotDescription, urdf: Urdf, lines: YamlLines) -> Iterator[Finding]:
    """A tool that the arm's joints do not move, or not all of them."""
    if robot.tool_frame not in urdf.links:
        return
    carriers = {joint.name for joint in urdf.carriers(robot.tool_frame)}
    idle = [name for name in robot.joint_names if name in urdf.joints and name not in carriers]
    if not idle:
        return
    known = [name for name in robot.joint_names if name in urdf.joints]
    where, remedy = lines.at("tool_frame"), "name the link at the arm's end that is the tool"
    if len(idle) == len(known):
        yield Finding(
            "tool frame", "error", where, f"tool_frame: no joint of the arm moves {robot.tool_frame!r}", remedy
        )
    else:
        told = f"tool_frame: {robot.tool_frame!r} is not moved by {', '.join(idle)} of the arm"
        yield Finding("tool frame", "warning", where, told, remedy)


def _arm_joint(described: JointDescription, joint: Joint, urdf: Urdf, listed: str) -> Iterator[Finding]:
    """A joint of the arm: that it turns, is limited, is not another's follower, and is not promised too much."""
    where, name = f"{urdf.path}:{joint.line}", f"joint {joint.name!r}"

    def wrong(message: str, remedy: str, at: str = where) -> Finding:
        return Finding("joint limits", "error", at, f"{name}{message}", remedy)

    if joint.kind not in ("revolute", "continuous"):
        yield wrong(
            f" is {joint.kind} in the URDF", "an arm's joints must be revolute or continuous; list another", listed
        )
        return
    numbers = (joint.lower, joint.upper, joint.velocity, joint.effort)
    if any(number is not None and not math.isfinite(number) for number in numbers):
        yield wrong(": its limit in the URDF is not a number", "write finite numbers, in rad, rad/s and N m")
        return
    if joint.velocity is None or joint.effort is None or (joint.kind == "revolute" and joint.lower is None):
        wanted = LIMIT_ELEMENT if joint.kind == "revolute" else '<limit velocity="..." effort="..."/>'
        yield wrong(" is not limited in the URDF", f"give it {wanted} with the maker's numbers")
        return
    if max(abs(described.lower), abs(described.upper)) > DEGREES_RAD:
        told = f"{name}: limits [{described.lower}, {described.upper}] rad are more than three turns"
        yield Finding("joint limits", "warning", listed, told, "write radians, not degrees, here and in the URDF")
    for number, unit in ((joint.velocity, "velocity"), (joint.effort, "effort")):
        if number <= 0:
            yield wrong(f": its {unit} limit in the URDF is {number}, so it could never move", "write the maker's")
    if joint.mimic is not None:
        yield wrong(
            f" follows {joint.mimic.leader!r} (mimic)", "list the joint it follows instead, or take <mimic> out"
        )
    yield from _wider(described, joint, listed)


def _wider(described: JointDescription, joint: Joint, at: str) -> Iterator[Finding]:
    """Limits that the YAML file widens."""
    name = f"joint {joint.name!r}"
    if joint.lower is not None and joint.upper is not None and joint.lower >= joint.upper:
        yield Finding(
            "joint limits", "error", at, f"{name}: the URDF's range [{joint.lower}, {joint.upper}] rad is empty",
            "write its lower limit below its upper one",
        )  # fmt: skip
    elif (
        joint.lower is not None
        and joint.upper is not None
        and (described.lower < joint.lower - ROUNDING or described.upper > joint.upper + ROUNDING)
    ):
        yield Finding(
            "joint limits", "error", at,
            f"{name}: limits [{described.lower}, {described.upper}] rad are wider than the URDF's "
            f"[{joint.lower}, {joint.upper}] rad", "narrow them",
        )  # fmt: skip
    for field, unit in (("velocity", "rad/s"), ("effort", "N m")):
        ours, theirs = getattr(described, field), getattr(joint, field)
        if ours > theirs + ROUNDING and theirs > 0:
            yield Finding(
                "joint limits", "error", at,
                f"{name}: {field} limit {ours} {unit} is above the URDF's {theirs} {unit}", "lower it",
            )  # fmt: skip


def _fingers(robot: RobotDescription, urdf: Urdf, lines: YamlLines) -> Iterator[Finding]:
    """Fingers that are sent where the URDF does not let them go, or not where their leader takes them."""
    if robot.gripper is None:
        return
    ends = robot.gripper.joints
    for name, places in ends.items():
        joint = urdf.joints.get(name)
        if joint is None:
            continue
        at = lines.at("gripper", "joints", name)
        if not joint.moves:
            yield Finding("fingers", "error", at, f"finger joint {name!r} is fixed in the URDF", "list one that moves")
        elif (
            joint.lower is not None
            and joint.upper is not None
            and (min(places) < joint.lower - ROUNDING or max(places) > joint.upper + ROUNDING)
        ):
            yield Finding(
                "fingers", "error", at,
                f"finger joint {name!r} goes from {places[0]} to {places[1]}, and the URDF lets it go from "
                f"{joint.lower} to {joint.upper}", "stay between these",
            )  # fmt: skip
        if joint.mimic is not None and joint.mimic.leader in ends:
            led = _led(joint, ends[joint.mimic.leader])
            if not np.allclose(led, places, atol=1e-3):
                yield Finding(
                    "mimic", "warning", at,
                    f"finger joint {name!r} goes from {places[0]} to {places[1]}, and following "
                    f"{joint.mimic.leader!r} it would go from {led[0]:g} to {led[1]:g}",
                    f"write `{name}: [{led[0]:g}, {led[1]:g}]`",
                )  # fmt: skip


def _others(robot: RobotDescription, urdf: Urdf) -> Iterator[Finding]:
    """Joints that move and that the YAML file does not list."""
    ends = robot.gripper.joints if robot.gripper else {}
    for joint in urdf.joints.values():
        if not joint.moves or joint.name in robot.joint_names or joint.name in ends:
            continue
        if joint.mimic is not None and joint.mimic.leader not in urdf.joints:
            continue  # said of the URDF
        if joint.mimic is None:
            yield Finding(
                "other joints", "warning", f"{urdf.path}:{joint.line}",
                f"joint {joint.name!r} moves and the robot's file does not list it, so it is taken to stand at 0",
                "list it under `joints` or `gripper.joints`, or make it fixed",
            )  # fmt: skip
        else:
            entry = f"`{joint.name}: [closed, open]`"
            if joint.mimic.leader in ends:
                closed, opened = _led(joint, ends[joint.mimic.leader])
                entry = f"`{joint.name}: [{closed:g}, {opened:g}]`"
            yield Finding(
                "mimic", "error", f"{urdf.path}:{joint.mimic.line}",
                f"joint {joint.name!r} follows {joint.mimic.leader!r} (mimic), and nothing drives it",
                f"add {entry} to `gripper.joints`, or make it fixed in the URDF",
            )  # fmt: skip


def _led(joint: Joint, leader: tuple[float, float]) -> tuple[float, float]:
    """Where a mimic joint is when its leader is closed and when it is open."""
    mimic = joint.mimic
    if mimic is None:
        return leader
    closed, opened = (mimic.multiplier * place + mimic.offset for place in leader)
    return closed, opened
