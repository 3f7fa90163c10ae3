"""`understudy record --watch` on a real graph: sim-arm, a driver of its own, and the watcher, three processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("pybullet")

from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import ROBOTS

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).parent / "ros_expert_driver.py"
DOMAIN = 48 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def run() -> Iterator[Run]:
    """Start a process on a domain of its own; whatever still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(DOMAIN),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }

    def begin(*arguments: str | Path) -> subprocess.Popen[str]:
        command = [sys.executable, *map(str, arguments)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


@pytest.fixture
def panda(tmp_path: Path) -> Path:
    """The shipped robot with wider age limits: this machine may be busy with other tests."""
    data = yaml.safe_load((ROBOTS / "panda.yaml").read_text())
    data["ros"]["joint_states"]["max_age_s"] = 1.0
    data["ros"]["poses"]["object"]["max_age_s"] = 1.0
    path = tmp_path / "panda.yaml"
    path.write_text(yaml.safe_dump(data))
    shutil.copy(ROBOTS / "panda.urdf", tmp_path)
    return path


def wait_for(process: subprocess.Popen[str], words: str, stream: str) -> None:
    pipe = getattr(process, stream)
    while words not in (line := pipe.readline()):
        assert line, f"ended before it said {words!r}"


def test_watched_episodes_are_what_the_driver_did(run: Run, panda: Path, tmp_path: Path) -> None:
    arm = run("-m", "understudy", "sim-arm", "--task", "lift", "--seed", "3", "--no-camera")
    wait_for(arm, "sim-arm ready", "stdout")
    out, own = tmp_path / "demos", tmp_path / "own.json"
    watcher = run(
        "-m", "understudy", "record", "lift", "--watch", "--robot", panda, "--episodes", "2", "--out", out, "--json"
    )  # fmt: skip
    wait_for(watcher, "watching panda", "stderr")
    driver = run(DRIVER, panda, "2", own)
    assert driver.wait(timeout=90) == 0, driver.stderr.read()
    told, said = watcher.communicate(timeout=20)
    assert watcher.returncode == 0, said
    assert json.loads(told)["recorded"] == 2
    dataset = Dataset.open(out)
    for episode, mine in zip(dataset.episodes(), json.loads(own.read_text()), strict=True):
        assert episode.info.success is mine["success"] is True
        assert (episode.info.operator, episode.info.device) == ("expert", "watched")
        assert abs(len(episode) - len(mine["asked"])) <= 2
        assert np.all(np.diff(episode.tick_ns) == 50_000_000)
        shared = share_of_rows(episode.requested, np.array(mine["asked"]))
        assert shared > 0.85, f"{shared:.0%} of the driver's actions were recorded, said: {said}"
        path = np.abs(episode.observations["tool_position"][:, None] - np.array(mine["seen"])[None]).max(axis=2)
        assert np.median(path.min(axis=1)) < 0.01


def share_of_rows(recorded: np.ndarray, asked: np.ndarray) -> float:
    """How many of the actions asked for are among the recorded ones, to the bit."""
    known = {row.tobytes() for row in recorded}
    return float(np.mean([row.tobytes() in known for row in asked]))


def test_a_signal_ends_watching_cleanly(run: Run, tmp_path: Path) -> None:
    watcher = run("-m", "understudy", "record", "lift", "--watch", "--episodes", "3", "--out", tmp_path / "demos")
    wait_for(watcher, "watching panda", "stderr")
    watcher.send_signal(signal.SIGTERM)
    told, said = watcher.communicate(timeout=20)
    assert watcher.returncode == 1, said  # fewer than asked for
    assert "stopped" in said
    assert "0 episodes of lift on panda" in told
    assert len(Dataset.open(tmp_path / "demos")) == 0


def test_watching_imports_no_simulator_and_no_learner(tmp_path: Path) -> None:
    code = (
        "import sys, understudy.capture.watch, understudy.capture.ros_streams, understudy.cli.record\n"
        "heavy = {'torch', 'pybullet', 'gymnasium', 'stable_baselines3', 'imitation'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert finished.stdout.strip() == "[]"
