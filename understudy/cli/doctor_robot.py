"""`understudy doctor --robot`: what is wrong with a robot's files, one line each; and a file to begin with."""

from __future__ import annotations

import dataclasses
import json

from understudy import __version__
from understudy.envs.arms.robot_examination import Examination, examine_robot

__all__ = ["report_robot"]

_MARKS = {"error": "!!", "warning": "? "}


def report_robot(source: str, as_json: bool) -> int:
    """Print what was found of a robot; 0 when nothing is wrong with it, else 1.

    Raises:
        InputError: its file or its URDF cannot be read.
    """
    examination = examine_robot(source)
    print(json.dumps(_object(examination), indent=2) if as_json else _lines(examination))
    return 0 if examination.healthy else 1


def _object(examination: Examination) -> dict[str, object]:
    return {
        "version": __version__,
        "ok": examination.healthy,
        "robot": examination.robot.name,
        "file": str(examination.path),
        "findings": [dataclasses.asdict(finding) for finding in examination.findings],
        "checked": list(examination.checked),
        "left_out": list(examination.left_out),
    }


def _lines(examination: Examination) -> str:
    robot = examination.robot
    gripper = "a gripper" if robot.gripper else "no gripper"
    lines = [f"{robot.name} ({examination.path}): {len(robot.joints)} joints, {gripper}, {robot.rate_hz:g} Hz"]
    lines += [f"  checked: {what}" for what in examination.checked]
    lines += [f"  left out: {what}" for what in examination.left_out]
    lines += [f"  {_MARKS[finding.level]} {finding}" for finding in examination.findings]
    errors = sum(finding.level == "error" for finding in examination.findings)
    others = len(examination.findings) - errors
    look = f" {others} deserve a look." if others > 1 else " 1 deserves a look." if others else ""
    return "\n".join([*lines, "", ("Nothing is wrong." if errors == 0 else f"{errors} to mend.") + look])
