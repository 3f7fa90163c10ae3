"""A robot file to begin with, from a bare URDF: what the URDF says is filled in, the rest is guessed and marked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from understudy.envs.arms.findings import Finding, refuse
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import FARTHEST, LARGEST, read_robot
from understudy.envs.arms.urdf import Joint, Urdf, read_urdf
from understudy.envs.arms.urdf_check import check_axes, check_limits, check_names, check_numbers, check_tree
from understudy.errors import InputError

SAMPLES = 4000
GRIP_N = 20.0
ENDLESS_RAD = 3.1416
FASTEST_RAD_S = 1000.0
"""Where a URDF gives a speed beyond, it means none."""
TOOL_WORDS = ("tcp", "grasp", "tool", "ee", "tip", "flange", "hand")


def draft_robot(urdf_path: Path, folder: Path) -> str:
    """The text of a robot file in `folder` for the URDF at `urdf_path`.

    The arm is the longest chain of joints that turn; what moves beyond it is taken for the gripper.

    Raises:
        InputError: the URDF is missing or unreadable, is no tree of links and joints, or has no joints that turn and
            are limited.
    """
    if not urdf_path.is_file():
        raise InputError(f"URDF {urdf_path} does not exist.")
    urdf = read_urdf(urdf_path)
    parts = (check_names, check_axes, check_tree, check_limits, check_numbers)
    refuse([finding for part in parts for finding in part(urdf)])
    arm = _longest_chain(urdf)
    refuse(list(_empty(urdf, arm)))
    if not arm:
        raise InputError(
            f"URDF {urdf_path} has no joint that turns, is limited and is free; nothing can be an arm here."
        )
    inside = urdf_path.resolve().is_relative_to(folder.resolve())
    source = os.path.relpath(urdf_path, folder) if inside else str(urdf_path.resolve())
    beyond = _below(urdf, arm[-1].child)
    lines = [
        f"# {urdf.name}, begun from {urdf_path.name}. Check the (guess)es, then: understudy doctor --robot FILE",
        f"name: {_quoted(urdf.name)}",
        f"urdf: {_quoted(source)}",
        f"tool_frame: {_quoted(_tool(urdf, arm[-1].child))}  # (guess) the link that is the tool",
        "rate_hz: 20  # (guess) one command a period",
        "joints:  # limits are the URDF's; acceleration and jerk, and home, are guesses",
        *(_joint_line(joint) for joint in arm),
        *_gripper_lines([joint for joint in beyond if joint.moves]),
    ]
    everywhere = "workspace: {low: [-100, -100, -100], high: [100, 100, 100]}"
    low, high = _reach("\n".join([*lines, everywhere]), folder)
    lines.append(f"workspace: {{low: {low}, high: {high}}}  # (guess) where the tool comes to, above the base, m")
    return "\n".join(lines) + "\n"


def _empty(urdf: Urdf, arm: list[Joint]) -> Iterator[Finding]:
    """Joints that the URDF lets go nowhere."""
    for joint in arm:
        if joint.lower is not None and joint.upper is not None and joint.lower >= joint.upper:
            yield Finding(
                "joint limits", "error", f"{urdf.path}:{joint.line}",
                f"joint {joint.name!r}: its range [{joint.lower}, {joint.upper}] rad is empty",
                "write its lower limit below its upper one",
            )  # fmt: skip


def _longest_chain(urdf: Urdf) -> list[Joint]:
    """The joints that turn, from the base to the link that most of them move."""
    above = {joint.child: joint for joint in urdf.joints.values()}
    best: list[Joint] = []
    for link in urdf.links:
        chain, here = [], link
        while here in above:
            joint = above[here]
            if joint.kind in ("revolute", "continuous") and joint.mimic is None and (joint.effort or 0) > 0:
                chain.append(joint)
            elif joint.moves:
                chain.clear()  # beyond a slide, or a follower, there are fingers
            here = joint.parent
        if len(chain) > len(best):
            best = chain[::-1]
    return _without_fingers(urdf, best)


def _without_fingers(urdf: Urdf, chain: list[Joint]) -> list[Joint]:
    """The chain up to a joint that others follow, or beside which others turn too: that is a gripper's."""
    led = {joint.mimic.leader for joint in urdf.joints.values() if joint.mimic is not None}
    for index, joint in enumerate(chain):
        if joint.name in led:
            return chain[:index]
    return chain


def _below(urdf: Urdf, link: str) -> list[Joint]:
    found = []
    for joint in urdf.joints.values():
        if joint.parent == link:
            found += [joint, *_below(urdf, joint.child)]
    return found


def _tool(urdf: Urdf, link: str) -> str:
    """The link of a fixed tip whose name says that it is the tool, or else the last fixed one."""
    names = [one.name for one in urdf.rigid_with(link)]
    for word in TOOL_WORDS:
        for name in names:
            if word in name.lower():
                return name
    return names[-1]


def _joint_line(joint: Joint) -> str:
    lower, upper = (-ENDLESS_RAD, ENDLESS_RAD) if joint.lower is None else (joint.lower, joint.upper or 0.0)
    lower, upper = max(lower, -FARTHEST), min(upper, FARTHEST)
    home = 0.0 if lower < 0.0 < upper else 0.5 * (lower + upper)
    speed = min(joint.velocity or 1.0, FASTEST_RAD_S)
    numbers = {"home": home, "lower": lower, "upper": upper, "velocity": speed}
    numbers |= {"acceleration": 4 * speed, "jerk": 40 * speed, "effort": min(joint.effort or 1.0, LARGEST)}
    written = ", ".join(f"{name}: {value:.10g}" for name, value in numbers.items())
    return f"  - {{name: {_quoted(joint.name)}, {written}}}"


def _gripper_lines(fingers: list[Joint]) -> list[str]:
    """Every finger from its own lower to its upper limit, or as its leader: which may be the wrong way round."""
    ends: dict[str, tuple[float, float]] = {}
    for joint in fingers:
        if joint.mimic is None and joint.lower is not None and joint.upper is not None and joint.lower < joint.upper:
            ends[joint.name] = joint.lower, joint.upper
    for joint in fingers:
        if joint.mimic is not None and joint.mimic.leader in ends:
            closed, opened = (joint.mimic.multiplier * end + joint.mimic.offset for end in ends[joint.mimic.leader])
            ends[joint.name] = closed, opened
    if not ends:
        return []
    slides = [joint for joint in fingers if joint.kind == "prismatic" and joint.name in ends]
    width = sum(abs(ends[joint.name][1] - ends[joint.name][0]) for joint in slides) or 0.08
    force = min([GRIP_N, *(joint.effort for joint in fingers if joint.effort)])
    return [
        "gripper:  # (guess) position when closed, when open: the URDF does not say which is which",
        "  joints:",
        *(f"    {_quoted(name)}: [{closed!r}, {opened!r}]" for name, (closed, opened) in ends.items()),
        f"  width: {width:.4g}  # (guess) opening when open, m",
        "  speed: 0.1  # (guess) m/s",
        f"  force: {force:g}  # (guess) N, or N m where the joint turns",
        f"  coupled: {str(any(joint.mimic for joint in fingers)).lower()}  # one motor moves all of them",
    ]


def _reach(text: str, folder: Path) -> tuple[list[float], list[float]]:
    """The box of most places that the tool comes to, not below the base, and of where it is at home."""
    with tempfile.TemporaryDirectory(prefix="understudy-") as away:
        path = Path(away) / "robot.yaml"
        path.write_text(text)
        robot = read_robot(path).model_copy(update={"folder": folder.resolve()})
    kinematics, rng = Kinematics(robot), np.random.default_rng(0)
    joints = rng.uniform(robot.joint_array("lower"), robot.joint_array("upper"), (SAMPLES, len(robot.joints)))
    places = np.array([kinematics.tool_position(sample) for sample in joints])
    low, high = np.quantile(places, 0.02, axis=0), np.quantile(places, 0.98, axis=0)
    low[2] = max(0.0, low[2])
    home = kinematics.tool_position(robot.home)
    low, high = np.minimum(low, home) - 0.02, np.maximum(high, home) + 0.02  # room for what rounding takes
    return [round(float(x), 2) for x in low], [round(float(x), 2) for x in high]


def _quoted(name: str) -> str:
    """A name as YAML takes it for text."""
    plain = name.replace("_", "").replace("-", "").replace(".", "").replace("/", "").replace(":", "")
    safe = plain.isalnum() and not plain[0].isdigit() and not name.endswith(":")
    return name if safe and name.lower() not in ("yes", "no", "on", "off", "true", "false", "null") else repr(name)
