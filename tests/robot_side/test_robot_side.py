"""The robot side imports no torch, stable_baselines3, imitation or pybullet.

Runs in two places: in the full environment, where a fresh interpreter refuses those four, and in the bare one
of `make robot-venv`, where they are not installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = ("torch", "stable_baselines3", "imitation", "pybullet")
ROBOT_SIDE = ("datasets", "envs/arms", "capture", "deploy")
SIMULATOR = "understudy.envs.arms.sim_"
"""What the simulated arm is made of needs pybullet,"""
WITHOUT_IT = {"understudy.envs.arms.sim_camera"}
"""but for what only starts it in another process."""
SERVER = {"understudy.capture.console.app", "understudy.capture.console.connection"}
"""What serves the page needs the extra `console`, which a robot may do without."""

PROGRAM = """
import importlib, json, sys, traceback

forbidden = set(sys.argv[1].split(","))

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in forbidden:
            raise ModuleNotFoundError(f"No module named {name!r} on the robot", name=name)

sys.meta_path.insert(0, Refuse())
outcome = {}
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
        outcome[name] = "ok"
    except BaseException:
        outcome[name] = traceback.format_exc()
outcome["loaded"] = sorted(forbidden & set(sys.modules))
print(json.dumps(outcome))
"""


def robot_side_modules() -> list[str]:
    """Return every module of the robot side, by walking its folders."""
    files = [path for folder in ROBOT_SIDE for path in (ROOT / folder).rglob("*.py")]
    names = {".".join(("understudy", *path.relative_to(ROOT).with_suffix("").parts)) for path in files}
    names -= set() if importlib.util.find_spec("fastapi") else SERVER
    return sorted(name for name in names if name in WITHOUT_IT or not name.startswith(SIMULATOR))


def import_on_the_robot(*modules: str) -> dict[str, str]:
    """Import modules in a fresh interpreter that refuses FORBIDDEN; say "ok" or the traceback for each."""
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(FORBIDDEN), *modules],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert finished.returncode == 0, finished.stderr
    outcome: dict[str, str] = json.loads(finished.stdout.splitlines()[-1])
    return outcome


@pytest.fixture(scope="module")
def outcome() -> dict[str, str]:
    return import_on_the_robot(*robot_side_modules())


@pytest.mark.parametrize("module", robot_side_modules())
def test_imports_on_the_robot(module: str, outcome: dict[str, str]) -> None:
    assert outcome[module] == "ok", outcome[module]


def test_there_is_a_robot_side() -> None:
    assert any(name.startswith("understudy.envs.arms.") for name in robot_side_modules())


@pytest.mark.parametrize("module", FORBIDDEN)
def test_the_refusal_refuses(module: str) -> None:
    assert "on the robot" in import_on_the_robot(module)[module]


@pytest.mark.parametrize("command", ["--help", "--version"])
def test_the_command_line_opens_on_the_robot(command: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "understudy", command], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.skipif("UNDERSTUDY_ROBOT_VENV" not in os.environ, reason="only in the environment of `make robot-venv`")
@pytest.mark.parametrize("module", FORBIDDEN)
def test_the_bare_environment_is_bare(module: str) -> None:
    assert importlib.util.find_spec(module) is None
