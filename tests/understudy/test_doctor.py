"""`understudy doctor` tells working, missing and broken apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from understudy.cli import doctor
from understudy.cli.doctor import Check, Doctor, check_packages, check_ros_mix, run_probe
from understudy.cli.probes import PROBES
from understudy.errors import extra_of

WHEELS = {"ros-rclpy": "7.1.6"}


def test_requirements_are_sorted_into_extras() -> None:
    checks = check_packages(
        [
            "numpy>=1.26",
            "no-such-package-at-all>=1; extra == 'sim'",
            "numpy>=1000; extra == 'train'",
            "pytest; extra == 'dev'",
            "understudy[sim]; extra == 'train'",
        ]
    )
    assert checks[0] == Check("base", "numpy", "ok", np.__version__)
    assert checks[1] == Check(
        "sim", "no-such-package-at-all", "missing", "not installed", "pip install 'understudy[sim]'"
    )
    assert (checks[2].group, checks[2].state) == ("train", "broken")
    assert f"version {np.__version__} is installed, >=1000 is needed" in checks[2].detail
    assert len(checks) == 3


def test_a_missing_base_package_is_broken() -> None:
    (check,) = check_packages(["no-such-package-at-all>=1"])
    assert (check.group, check.state) == ("base", "broken")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os; os.abort()", "exit code -6"),
        ("raise ImportError('libstuff.so: cannot open')", "libstuff.so: cannot open"),
    ],
)
def test_a_broken_library_is_found(source: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = run_probe("torch")
    assert (check.group, check.state) == ("train", "broken")
    assert words in check.detail
    assert "understudy[train]" in check.remedy


def test_a_library_that_hangs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("import threading; threading.Event().wait()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(doctor, "_PROBE_LIMIT_S", 1.0)
    check = run_probe("torch")
    assert (check.state, check.detail) == ("broken", "no answer within 1 s")


@pytest.mark.parametrize("module", ["pybullet", "onnxruntime", "pinocchio"])
def test_what_is_installed_works(module: str) -> None:
    pytest.importorskip(module)
    check = run_probe(module)
    assert check.state == "ok", check.detail


@pytest.mark.ros
def test_ros_round_trip() -> None:
    pytest.importorskip("rclpy")
    check = run_probe("rclpy")
    assert check.state == "ok", check.detail
    assert "published and received" in check.detail


@pytest.mark.parametrize(
    ("wheels", "sourced", "rclpy_file", "apt", "state"),
    [
        (True, True, "venv/rclpy", True, "broken"),
        (True, False, "venv/rclpy", True, "note"),
        (True, False, "venv/rclpy", False, "ok"),
        (False, True, "/opt/ros/jazzy/rclpy", True, "ok"),
        (False, False, None, True, "missing"),
        (False, False, None, False, None),
    ],
)
def test_a_mix_of_two_ros_is_found(
    wheels: bool,
    sourced: bool,
    rclpy_file: str | None,
    apt: bool,
    state: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "_version_of", WHEELS.get if wheels else {}.get)
    checks = check_ros_mix(
        {"AMENT_PREFIX_PATH": "/opt/ros/jazzy"} if sourced else {},
        rclpy_file,
        [Path("/opt/ros/jazzy/setup.bash")] if apt else [],
    )
    assert [check.state for check in checks] == ([] if state is None else [state])
    if state == "broken":
        assert "/opt/ros/jazzy" in checks[0].detail
        assert checks[0].remedy


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("missing", 0), ("note", 0), ("broken", 1)])
def test_only_what_is_broken_fails(
    state: doctor.State, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [Check("sim", "pybullet", state, "so it is", "do this")])
    assert Doctor().run() == code
    printed = capsys.readouterr().out
    assert "so it is" in printed
    assert "-> do this" in printed
    assert Doctor(json=True).run() == code
    assert json.loads(capsys.readouterr().out)["ok"] is (code == 0)


def test_every_probe_belongs_to_an_extra() -> None:
    assert all(extra_of(module) for module in PROBES)


def test_the_whole_examination() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "understudy", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "AMENT_PREFIX_PATH"},
    )
    report = json.loads(finished.stdout)
    broken = [check for check in report["checks"] if check["state"] == "broken"]
    assert (finished.returncode, broken) == (0, [])
    assert {"machine", "base", "robot", "sim", "train", "ros", "console", "scale"} <= {
        check["group"] for check in report["checks"]
    }
