"""A robot examined end to end: every check that this machine can make of its files, and which were left out.

`robot_check.py` judges the files, `sim_check.py` what a simulator sees; reach is judged here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from understudy.envs.arms.dynamics import Dynamics
from understudy.envs.arms.findings import Finding, RobotFault
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import RobotDescription, read_robot, robot_file
from understudy.envs.arms.robot_check import check_files, check_full_urdf
from understudy.envs.arms.yaml_lines import YamlLines
from understudy.errors import InputError

SAMPLES = 5000
"""Random arm positions that the tool's reach is judged by."""
SCARCE = 0.005
"""A workspace that fewer of them reach is hardly one."""


@dataclass(frozen=True)
class Examination:
    """What was found, what was checked, and what was not."""

    robot: RobotDescription | None
    """None where its file could not be read."""
    path: Path
    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    left_out: tuple[str, ...]
    """Checks that could not be made, each with why."""

    @property
    def healthy(self) -> bool:
        """Whether there is no error."""
        return not _wrong(self.findings)


def examine_robot(source: str | Path) -> Examination:
    """Make every check of a robot, given as to `load_robot`.

    Raises:
        InputError: there is no such robot.
    """
    path = robot_file(source)
    robot: RobotDescription | None = None
    findings: list[Finding] = []
    checked: tuple[str, ...] = ()
    try:
        robot = read_robot(path)
        findings += check_files(robot, path)
        checked = ("names, limits, masses, mimic joints",)
    except RobotFault as fault:
        findings += fault.findings
    if robot is None or _wrong(findings):
        return Examination(robot, path, tuple(findings), checked, ("reach, meshes, simulation: mend these first",))
    more, further, left_out = _examine_further(robot, path)
    return Examination(robot, path, (*findings, *more), (*checked, *further), left_out)


def _examine_further(robot: RobotDescription, path: Path) -> tuple[list[Finding], tuple[str, ...], tuple[str, ...]]:
    """(findings, checked, left out) of a robot whose files are read without error."""
    try:
        findings = list(_reach(robot, path))
    except InputError as error:  # urdfdom and Pinocchio refuse more than is told from the file alone
        told = Finding("kinematics", "error", str(robot.kinematics_path()), str(error).rstrip("."), "mend it")
        return [told], (), ("meshes, simulation: mend these first",)
    checked: tuple[str, ...] = ("home and workspace",)
    try:
        full = check_full_urdf(robot)
    except RobotFault as fault:
        return [*findings, *fault.findings], checked, ("meshes, simulation: mend these first",)
    except InputError as error:
        return findings, checked, (f"meshes, simulation: {str(error).rstrip('.')}",)
    findings += full
    checked += ("meshes",)
    if _wrong(full):
        return findings, checked, ("simulation: mend these first",)
    if importlib.util.find_spec("pybullet") is None:
        needed = "simulation (self-collision, fingers): needs PyBullet, pip install 'understudy[sim]'"
        return findings, checked, (needed,)
    from understudy.envs.arms.sim_check import check_in_simulation  # pybullet only where it is

    findings += check_in_simulation(robot, path)
    return findings, (*checked, "self-collision and fingers in simulation"), ()


def _wrong(findings: Iterable[Finding]) -> bool:
    return any(finding.level == "error" for finding in findings)


def _reach(robot: RobotDescription, path: Path) -> Iterator[Finding]:
    """Whether the tool comes into the workspace, starts there, and can be held up there."""
    lines, kinematics = YamlLines(path), Kinematics(robot)
    low, high = np.array(robot.workspace.low), np.array(robot.workspace.high)
    home = kinematics.tool_position(robot.home)
    at = lines.at("workspace")
    if np.any(home < low) or np.any(home > high):
        yield Finding(
            "workspace", "error", at, f"at home the tool is at {home.round(3).tolist()} m, outside the workspace",
            "widen the workspace, or choose another `home`",
        )  # fmt: skip
    rng = np.random.default_rng(0)
    joints = rng.uniform(robot.joint_array("lower"), robot.joint_array("upper"), (SAMPLES, len(robot.joints)))
    places = np.array([kinematics.tool_position(sample) for sample in joints])
    inside = np.all((places >= low) & (places <= high), axis=1)
    if np.mean(inside) < SCARCE:
        reach = f"{places.min(axis=0).round(2).tolist()} to {places.max(axis=0).round(2).tolist()}"
        yield Finding(
            "workspace", "error", at,
            f"of {SAMPLES} random arm positions {np.count_nonzero(inside)} bring the tool into the workspace; "
            f"it reaches {reach} m", "move the workspace to where the arm reaches",
        )  # fmt: skip
    yield from _efforts(robot, lines, joints[inside])


def _efforts(robot: RobotDescription, lines: YamlLines, joints: np.ndarray) -> Iterator[Finding]:
    """Joints too weak to hold the arm, and its payload, still somewhere in the workspace; or that this is unknown."""
    dynamics = Dynamics(robot)
    if not dynamics.known:
        yield Finding(
            "efforts", "warning", str(robot.kinematics_path()),
            "it does not give every moving link a mass, so the Guard cannot keep efforts within limits",
            "add <inertial> to its links",
        )  # fmt: skip
        return
    still = np.zeros(len(robot.joints))
    needed = np.array([np.abs(dynamics.torque(sample, still, still)) for sample in [robot.home, *joints]])
    for index, joint in enumerate(robot.joints):
        most = float(needed[:, index].max())
        if most > joint.effort:
            at_home = needed[0, index] > joint.effort
            yield Finding(
                "efforts", "error" if at_home else "warning", lines.at("joints", index),
                f"joint {joint.name!r} needs {most:.1f} N m to hold the arm still "
                f"{'at home' if at_home else 'somewhere in the workspace'}, and its limit is {joint.effort} N m",
                "lower `payload_kg`, narrow the workspace, or check the masses in the URDF",
            )  # fmt: skip
