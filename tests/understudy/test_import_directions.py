"""Imports point one way, and heavy or hardware libraries stay in the files that own them.

Every import statement counts, also those inside functions and under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("datasets", "envs", "capture", "learners", "deploy")

MAY_IMPORT: dict[str, set[str]] = {
    "front": set(),  # understudy/__init__.py
    "errors": set(),
    "datasets": {"errors"},
    "envs": {"errors", "datasets"},
    "capture": {"errors", "datasets", "envs"},
    "deploy": {"errors", "datasets", "envs", "capture"},
    "learners": {"errors", "datasets", "envs"},
    "cli": {"errors", *ROOMS},
}
"""The rooms each room may import, beside itself."""

ROS = {
    "rclpy", "action_msgs", "builtin_interfaces", "control_msgs", "diagnostic_msgs", "geometry_msgs",
    "lifecycle_msgs", "rosgraph_msgs", "sensor_msgs", "std_msgs", "std_srvs", "trajectory_msgs",
}  # fmt: skip
LEARNING = {"torch", "stable_baselines3", "imitation"}
PROBES = {"understudy/cli/probes.py", "understudy/cli/doctor.py", "understudy/cli/demo.py"}


def room_of_file(path: PurePosixPath) -> str:
    if path.parts[0] in ROOMS:
        return path.parts[0]
    if path.parts[1] == "cli" or path.name == "__main__.py":
        return "cli"
    return {"__init__.py": "front", "errors.py": "errors"}[path.name]


def room_of_module(module: str) -> str | None:
    """Return the room of a module of ours, "front" for names of `understudy` itself, else None."""
    first, _, rest = module.partition(".")
    if first != "understudy":
        return None
    second = rest.partition(".")[0]
    return second if second in (*ROOMS, "errors", "cli") else "front"


def imported_modules(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names of all that is imported; `from a import b` counts as a.b, for b may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def violations(path: PurePosixPath, source: str) -> list[str]:
    """Say which imports of one file (path relative to the root) are not allowed there."""
    room = room_of_file(path)
    folder = ".".join(path.parent.parts)
    package = folder if path.parts[0] == "understudy" else f"understudy.{folder}"
    wrong = []
    for module in imported_modules(ast.parse(source), package):
        target = room_of_module(module)
        if target is None:
            if not may_use(path, room, module.partition(".")[0]):
                wrong.append(f"{path} must not import {module}")
            continue
        skill = room == "learners" and module.startswith("understudy.deploy.skill")
        if target not in {room, "front", *MAY_IMPORT[room]} and not skill:
            wrong.append(f"{path} ({room}) must not import {module}")
    return wrong


def may_use(path: PurePosixPath, room: str, library: str) -> bool:
    """May this file import this foreign library?"""
    if str(path) in PROBES:
        return True
    if library in ROS:
        return path.name.startswith("ros_") and room in ("envs", "capture", "deploy")
    if library in ("pybullet", "pybullet_data", "pybullet_utils"):
        builds_scenes = "scene" in path.stem or path.stem.startswith("sim_")
        return room == "envs" and (builds_scenes or path.parent == PurePosixPath("envs/tasks"))
    if library in LEARNING:
        return room == "learners"
    return True


def our_files() -> list[PurePosixPath]:
    return sorted(
        PurePosixPath(path.relative_to(ROOT).as_posix())
        for top in (*ROOMS, "understudy")
        for path in (ROOT / top).rglob("*.py")
    )


@pytest.mark.parametrize("path", our_files(), ids=str)
def test_imports_point_one_way(path: PurePosixPath) -> None:
    assert violations(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("datasets/store.py", "import understudy.envs.arm_env"),
        ("datasets/store.py", "from understudy import envs"),
        ("datasets/batching/batches.py", "import torch.nn"),
        ("envs/arm_env.py", "def late():\n    from understudy.capture.session import Session"),
        ("envs/arms/guard.py", "from ...capture import session"),
        ("envs/arms/guard.py", "import pybullet as p"),
        ("envs/arms/fake_arm.py", "from sensor_msgs.msg import JointState"),
        ("capture/session.py", "from understudy.deploy.runner import Runner"),
        ("capture/ros_streams.py", "import pybullet"),
        ("learners/bc.py", "from understudy.deploy import runtime"),
        ("learners/bc.py", "from understudy.capture import session"),
        ("learners/ros_thing.py", "import rclpy"),
        ("deploy/runtime.py", "from understudy.learners.policies import Policy"),
        ("deploy/runner.py", "import rclpy.node"),
        ("deploy/runner.py", "from understudy.cli import main"),
        ("understudy/errors.py", "from understudy.datasets import schema"),
        ("understudy/cli/train.py", "import stable_baselines3"),
    ],
)
def test_the_check_catches(path: str, source: str) -> None:
    assert len(violations(PurePosixPath(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("datasets/store.py", "import datasets\nfrom understudy.errors import DatasetError"),
        ("datasets/store.py", "from understudy import __version__"),
        ("envs/arms/guard.py", "from .protocol import Arm\nfrom ...datasets import schema"),
        ("envs/arms/sim_arm.py", "import pybullet"),
        ("envs/tasks/lift.py", "import pybullet"),
        ("envs/arms/ros_arm.py", "import rclpy"),
        ("deploy/ros_node.py", "import rclpy\nfrom std_srvs.srv import Trigger"),
        ("deploy/runner.py", "from understudy.capture.session import Session"),
        ("learners/export.py", "import torch\nfrom understudy.deploy.skill import write_skill"),
        ("understudy/cli/train.py", "from understudy.learners.bc import train"),
        ("understudy/cli/probes.py", "import torch, pybullet, rclpy"),
    ],
)
def test_the_check_lets_pass(path: str, source: str) -> None:
    assert violations(PurePosixPath(path), source) == []
