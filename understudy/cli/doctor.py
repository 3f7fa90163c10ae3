"""`understudy doctor`: what works on this machine, what is missing, and how to get it.

This module owns the checks and how they are shown; libraries are tried in processes of their own
(`probes.py`), so a crashing wheel is a finding and not the end of the report.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from understudy import __version__
from understudy.cli.probes import PROBES
from understudy.errors import InputError, extra_of

__all__ = ["Check", "Doctor", "check_packages", "check_ros_mix", "examine", "run_probe"]

State = Literal["ok", "missing", "broken", "note"]

_EXTRAS = ("robot", "sim", "train", "ros", "console", "devices", "scale")
_MARKS: dict[State, str] = {"ok": "ok", "missing": "--", "broken": "!!", "note": "  "}
_PROBE_LIMIT_S = 60.0
_DISK_WARNING_GB = 5.0


@dataclass(frozen=True)
class Check:
    """One finding: a thing in a group, how it is, what was seen, and what to do about it."""

    group: str
    name: str
    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Doctor:
    """Say what works on this machine, what is missing, and how to get it.

    Leaves with 0 when everything that is installed works (an extra that is not installed is no fault), and
    with 1 when something is broken. With --robot, a robot's files are checked from end to end instead: 1 when
    something is wrong with them, also when they cannot be read, and 2 when there is no such robot.

    Example:
        understudy doctor
        understudy doctor --json | python -m json.tool
        understudy doctor --robot my_arm.yaml
        understudy doctor --robot my_arm.urdf --write my_arm.yaml
    """

    json: bool = False
    """Print one JSON object for programs."""
    robot: str | None = None
    """Check a robot instead: a shipped name or a YAML file. Says what is wrong with it and with its URDF, and where.
    Of a bare URDF, a YAML file to begin with is printed."""
    write: Path | None = None
    """Where that file is written, and then checked."""

    def run(self) -> int:
        if self.robot is not None:
            from understudy.cli.doctor_robot import report_robot  # needs what the machine's report may find missing

            return report_robot(self.robot, self.json, self.write)
        if self.write is not None:
            raise InputError("--write needs --robot FILE.urdf: it writes the robot file to begin with for that URDF.")
        checks = examine()
        healthy = not any(check.state == "broken" for check in checks)
        if self.json:
            rows = [dataclasses.asdict(check) for check in checks]
            print(json.dumps({"version": __version__, "ok": healthy, "checks": rows}, indent=2))
        else:
            print(_report(checks))
        return 0 if healthy else 1


def examine() -> list[Check]:
    """Make every check, the cheap ones first."""
    checks = [*check_machine(), *check_packages(importlib.metadata.requires("understudy") or [])]
    of_devices = ("pygame", "hidraw")  # told with what is plugged in, below
    present = [name for name in PROBES if name not in of_devices and importlib.util.find_spec(name) is not None]
    checks += [run_probe(name) for name in present]
    rclpy = importlib.util.find_spec("rclpy")
    checks += check_ros_mix(
        os.environ, rclpy.origin if rclpy is not None else None, sorted(Path("/opt/ros").glob("*/setup.bash"))
    )
    from understudy.cli.doctor_devices import check_devices  # it needs this module

    return [*checks, *check_devices(run_probe)]


def check_machine() -> list[Check]:
    """Python, processors and disk."""
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    enough = free_gb >= _DISK_WARNING_GB
    return [
        Check("machine", "python", "ok", f"{sys.version.split()[0]} at {sys.executable}"),
        Check("machine", "processors", "ok", f"{len(os.sched_getaffinity(0))} usable"),
        Check(
            "machine",
            "disk",
            "ok" if enough else "note",
            f"{free_gb:.1f} GB free under {Path.cwd()}",
            "" if enough else "Recording with cameras fills a gigabyte in minutes: make room or use another --out.",
        ),
    ]


def check_packages(requirements: list[str]) -> list[Check]:
    """Compare our requirements (metadata lines: `pin>=3; extra == "robot"`) with what is installed."""
    checks = []
    for line in requirements:
        requirement = Requirement(line)
        group = _group_of(requirement)
        if group is None or requirement.name == "understudy":
            continue
        checks.append(_check_package(requirement, group))
    return checks


def run_probe(module: str) -> Check:
    """Use a library for real in another process and say what came of it."""
    group = extra_of(module) or "base"
    name = f"{module} works"
    with tempfile.TemporaryDirectory(prefix="understudy-doctor-") as log_folder:
        environment = {
            **os.environ,
            # A private graph: nothing of this reaches a robot on the network, nor the other way round.
            # Domains above 101 would collide with the ports that Linux hands out.
            "ROS_DOMAIN_ID": str(92 + os.getpid() % 10),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": log_folder,
        }
        try:
            finished = subprocess.run(
                [sys.executable, "-m", "understudy.cli.probes", module],
                capture_output=True,
                text=True,
                timeout=_PROBE_LIMIT_S,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Check(group, name, "broken", f"no answer within {_PROBE_LIMIT_S:.0f} s", _reinstall(group, module))
    if finished.returncode != 0:
        last_words = (finished.stderr.strip().splitlines() or ["no message"])[-1]
        return Check(group, name, "broken", f"exit code {finished.returncode}: {last_words}", _reinstall(group, module))
    return Check(group, name, "ok", (finished.stdout.strip().splitlines() or [""])[-1])


def check_ros_mix(environment: Mapping[str, str], rclpy_file: str | None, apt_setups: list[Path]) -> list[Check]:
    """Find an apt ROS 2 and the wheels in one environment: two builds of one library in one process crash."""
    wheels = _version_of("ros-rclpy") is not None
    prefixes = [prefix for prefix in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    sourced = [prefix for prefix in prefixes if not prefix.startswith(sys.prefix)]
    if wheels and sourced:
        return [
            Check(
                "ros",
                "one ROS 2",
                "broken",
                f"the wheels are installed here and a ROS 2 is sourced too ({sourced[0]})",
                "Keep one: use a shell that does not source setup.bash, or make a venv with "
                "--system-site-packages and install without the ros extra.",
            )
        ]
    if wheels and apt_setups:
        return [Check("ros", "one ROS 2", "note", f"the wheels are used; {apt_setups[0].parent} is not sourced")]
    if wheels:
        return [Check("ros", "one ROS 2", "ok", "the wheels")]
    if rclpy_file is not None:
        return [Check("ros", "one ROS 2", "ok", f"from {rclpy_file}, not from the ros extra")]
    if apt_setups:
        return [
            Check(
                "ros",
                "one ROS 2",
                "missing",
                f"{apt_setups[0].parent} is installed but not sourced",
                f"source {apt_setups[0]}, in a venv made with --system-site-packages, without the ros extra.",
            )
        ]
    return []


def _group_of(requirement: Requirement) -> str | None:
    """Return the extra a requirement belongs to, `base` for none, None for those not examined."""
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        return "base"
    return next((extra for extra in _EXTRAS if requirement.marker.evaluate({"extra": extra})), None)


def _check_package(requirement: Requirement, group: str) -> Check:
    version = _version_of(requirement.name)
    if version is None:
        if group == "base":
            return Check(group, requirement.name, "broken", "not installed", _reinstall(group, requirement.name))
        return Check(group, requirement.name, "missing", "not installed", f"pip install 'understudy[{group}]'")
    if not requirement.specifier.contains(version, prereleases=True):
        return Check(
            group,
            requirement.name,
            "broken",
            f"version {version} is installed, {requirement.specifier} is needed",
            _reinstall(group, f"{requirement.name}{requirement.specifier}"),
        )
    return Check(group, requirement.name, "ok", version)


def _version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _reinstall(group: str, package: str) -> str:
    ours = "understudy" if group == "base" else f"understudy[{group}]"
    return f"Install it again ({package}): pip install --force-reinstall '{ours}'"


def _report(checks: list[Check]) -> str:
    width = max(len(check.name) for check in checks)
    lines = [f"understudy {__version__}"]
    for group in dict.fromkeys(check.group for check in checks):
        rows = [check for check in checks if check.group == group]
        lines += ["", group if group not in _EXTRAS else f"{group} (understudy[{group}])"]
        for check in rows:
            lines.append(f"  {_MARKS[check.state]} {check.name:<{width}}  {check.detail}")
        lines += [f"     -> {remedy}" for remedy in dict.fromkeys(row.remedy for row in rows if row.remedy)]
    broken = sum(check.state == "broken" for check in checks)
    missing = {check.group for check in checks if check.state == "missing"}
    lines += [
        "",
        f"{broken} broken." if broken else "Everything that is installed works.",
        *([f"Not (fully) installed: {', '.join(sorted(missing))}."] if missing else []),
    ]
    return "\n".join(lines)
