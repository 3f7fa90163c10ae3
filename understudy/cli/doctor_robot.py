"""`understudy doctor --robot`: what is wrong with a robot's files, one line each; and a file to begin with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from understudy import __version__
from understudy.envs.arms.robot_draft import draft_robot
from understudy.envs.arms.robot_examination import Examination, examine_robot
from understudy.errors import InputError

__all__ = ["report_robot"]

_MARKS = {"error": "!!", "warning": "? "}


def report_robot(source: str, as_json: bool, write: Path | None = None) -> int:
    """Print what was found of a robot; 0 when nothing is wrong with it, else 1: also where its files cannot be read.

    For a URDF a robot file to begin with is printed, or written to `write` and checked.

    Raises:
        InputError: there is no such robot, a file cannot be begun from its URDF, or `write` is there already or is no
            place for a robot file.
    """
    if source.endswith(".urdf"):
        if write is None and as_json:
            raise InputError(
                f"--json is for what is wrong with a robot's file, and from {source} one is begun: add --write "
                "FILE.yaml, which is then checked, or leave --json out."
            )
        if write is None:
            print(draft_robot(Path(source), Path.cwd()), end="")
            return 0
        source = _write_draft(Path(source), write)
    elif write is not None:
        raise InputError(f"--write makes a robot file from a URDF; --robot {source} is none.")
    examination = examine_robot(source)
    print(json.dumps(_object(examination), indent=2) if as_json else _lines(examination))
    return 0 if examination.healthy else 1


def _write_draft(urdf: Path, path: Path) -> str:
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"--write {path}: a robot file's name must end in .yaml.")
    if path.exists():
        raise InputError(f"--write {path}: there is such a file already; name another, or take it away.")
    if not path.parent.is_dir():
        raise InputError(f"--write {path}: the folder {path.parent} does not exist.")
    path.write_text(draft_robot(urdf, path.parent))
    return str(path)


def _object(examination: Examination) -> dict[str, object]:
    return {
        "version": __version__,
        "ok": examination.healthy,
        "robot": examination.robot.name if examination.robot else None,
        "file": str(examination.path),
        "findings": [dataclasses.asdict(finding) for finding in examination.findings],
        "checked": list(examination.checked),
        "left_out": list(examination.left_out),
    }


def _lines(examination: Examination) -> str:
    robot = examination.robot
    lines = [f"{examination.path}: cannot be read as a robot's file"]
    if robot is not None:
        gripper = "a gripper" if robot.gripper else "no gripper"
        lines = [f"{robot.name} ({examination.path}): {len(robot.joints)} joints, {gripper}, {robot.rate_hz:g} Hz"]
    lines += [f"  checked: {what}" for what in examination.checked]
    lines += [f"  left out: {what}" for what in examination.left_out]
    lines += [f"  {_MARKS[finding.level]} {finding}" for finding in examination.findings]
    errors = sum(finding.level == "error" for finding in examination.findings)
    others = len(examination.findings) - errors
    look = f" {others} deserve a look." if others > 1 else " 1 deserves a look." if others else ""
    return "\n".join([*lines, "", ("Nothing is wrong." if errors == 0 else f"{errors} to mend.") + look])
