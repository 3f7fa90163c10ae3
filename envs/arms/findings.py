"""What is wrong with a robot's files, one finding a thing: where it is, what is wrong, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from understudy.errors import InputError


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or that deserves a look."""

    check: str
    level: Literal["error", "warning"]
    where: str
    """File, and line where it can be known: `arm.urdf:12`."""
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}; {self.remedy}"


class RobotFault(InputError):
    """A robot's files are not what they should be."""

    def __init__(self, sentence: str, findings: Sequence[Finding]) -> None:
        """`findings` are all of them, `sentence` is about the first."""
        super().__init__(sentence)
        self.findings = tuple(findings)


def refuse(findings: Sequence[Finding], source: str | Path | None = None) -> None:
    """Raise for the first error among findings, if there is one.

    Args:
        findings: of a robot's files.
        source: the robot's file, which doctor can list them all of; None where there is none yet.

    Raises:
        RobotFault: says where, what, what to do, and how many more there are.
    """
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        listed = "" if source is None else f": understudy doctor --robot {source}"
        more = f" ({len(errors) - 1} more{listed})" if len(errors) > 1 else ""
        raise RobotFault(f"{errors[0]}.{more}", findings)
