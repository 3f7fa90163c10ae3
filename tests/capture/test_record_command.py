"""`understudy record`, as people type it."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from understudy.cli.main import main
from understudy.datasets.store import Dataset
from understudy.envs.arms import robot as robots


def run_json(capfd: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["record", *arguments, "--json"]) == 0
    return json.loads(capfd.readouterr().out.splitlines()[-1])


def test_records_continues_and_stops_at_the_number(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "demos")
    first = run_json(capfd, "reach", "--episodes", "2", "--out", out, "--seed", "5")
    assert (first["recorded"], first["episodes"], first["done"]) == (2, 2, True)
    again = run_json(capfd, "reach", "--episodes", "4", "--out", out, "--seed", "5")
    assert (again["recorded"], again["episodes"]) == (2, 4)
    nothing = run_json(capfd, "reach", "--episodes", "4", "--out", out)
    assert nothing["recorded"] == 0
    episodes = list(Dataset.open(out).episodes())
    assert [episode.info.seed for episode in episodes] == [5, 6, 7, 8]
    assert all(episode.info.success for episode in episodes)
    assert main(["dataset", "check", out]) == 0


def test_the_same_seed_records_the_same_numbers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        run_json(capfd, "reach", "--episodes", "2", "--out", str(tmp_path / name), "--randomize", "mild")
    pairs = zip(Dataset.open(tmp_path / "a").episodes(), Dataset.open(tmp_path / "b").episodes(), strict=True)
    for one, other in pairs:
        assert np.array_equal(one.requested, other.requested)
        assert np.array_equal(one.observations["joint_position"], other.observations["joint_position"])
        assert one.info.randomization == other.info.randomization != {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lift",), "holds demonstrations of task 'reach', and 'lift' was asked for"),
        (("reach", "--robot", "kuka_iiwa"), "demonstrations of robot 'panda', and 'kuka_iiwa' was asked for"),
        (("rech",), "Unknown task 'rech': did you mean 'reach'?"),
        (("reach", "--randomize", "wild"), "Unknown randomization 'wild'"),
        (("reach", "--episodes", "0"), "--episodes must be at least 1"),
        (("reach", "--device", "keyboard", "--episodes", "3"), "needs a terminal"),
    ],
)
def test_bad_input_is_said_in_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    Dataset.create(tmp_path / "demos", robot="panda", task="reach")
    assert main(["record", *arguments, "--out", str(tmp_path / "demos")]) == 2
    assert message in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "remedies"),
    [
        ((), "allow longer takes than --max-seconds 0.05, or keep what fails with --keep-failures."),
        (("--randomize", "mild"), "use milder --randomize, or allow longer takes than --max-seconds 0.05, or keep"),
        (
            ("--robot", "mine.yaml"),
            "the robot (the script was made for panda, kuka_iiwa, xarm6, two_joint), record with",
        ),
    ],
)
def test_what_is_advised_where_the_script_fails_is_what_may_help(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    remedies: str,
) -> None:
    """Milder physics were advised where they were nominal already."""
    folder = Path(robots.__file__).parent / "robots"
    text = (folder / "panda.yaml").read_text().replace("name: panda\n", "name: mine\n", 1)
    (tmp_path / "mine.yaml").write_text(text.replace(" panda.urdf", f" {folder}/panda.urdf"))
    monkeypatch.chdir(tmp_path)
    assert main(["record", "reach", "--out", "demos", "--max-seconds", "0.05", *arguments]) == 1
    told = " ".join(capfd.readouterr().err.split())
    assert remedies in told
    assert ("milder" in told) == ("--randomize" in arguments)


def test_sigterm_ends_cleanly_and_keeps_what_was_recorded(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "understudy", "record", "lift", "--episodes", "5000", "--out", str(tmp_path / "d")]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "d" / "episodes").glob("*.hdf5"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    dataset = Dataset.open(tmp_path / "d")
    assert len(list(dataset.episodes())) >= 2
    assert not dataset.recovery.unreadable


class Typist:
    """`understudy record --device keyboard` on a terminal of its own, and somebody who reads and types."""

    def __init__(self, out: Path, *options: str) -> None:
        self.person, terminal = pty.openpty()
        command = [sys.executable, "-m", "understudy", "record", "reach", "--device", "keyboard", "--countdown", "0"]
        command += ["--out", str(out)]
        self.process = subprocess.Popen(
            [*command, *options], stdin=terminal, stdout=terminal, stderr=terminal, cwd=Path(__file__).parents[2]
        )
        os.close(terminal)
        self.seen = ""

    def wait_for(self, words: str, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while words not in self.seen:
            assert time.monotonic() < deadline, f"{words!r} never came; the screen says: {self.seen}"
            if select.select([self.person], [], [], 0.1)[0]:
                self.seen += os.read(self.person, 4096).decode(errors="replace")
        self.seen = self.seen.partition(words)[2]

    def type(self, keys: str) -> None:
        os.write(self.person, keys.encode())


def test_a_person_at_the_keyboard(tmp_path: Path) -> None:
    """Record one take, mark it, keep it; record another, drop it; leave. The motion asked for is in the file."""
    typist = Typist(tmp_path / "demos", "--episodes", "5", "--operator", "ada")
    try:
        typist.wait_for("enter starts")
        typist.type("\r")
        for _ in range(8):
            time.sleep(0.05)
            typist.type("w")
        typist.type("g")
        typist.wait_for("y keeps")
        typist.type("y")
        typist.wait_for("kept; the dataset holds 1 of 5")
        typist.wait_for("enter starts")
        typist.type("\r")
        time.sleep(0.2)
        typist.type(".")
        typist.wait_for("y keeps")
        typist.type("n")
        typist.wait_for("dropped; the dataset holds 1 of 5")
        typist.wait_for("enter starts")
        typist.type("q")
        assert typist.process.wait(timeout=30) == 1  # fewer than asked for
    finally:
        if typist.process.poll() is None:
            typist.process.kill()
        os.close(typist.person)
    dataset = Dataset.open(tmp_path / "demos")
    (episode,) = dataset.episodes()
    assert (episode.info.operator, episode.info.device, episode.info.success) == ("ada", "keyboard", True)
    assert np.count_nonzero(episode.requested[:, 0] > 0) >= 6
    assert not np.any(episode.requested[:, 1:])
    moved = episode.final_observation["tool_position"] - episode.observations["tool_position"][0]
    assert moved[0] > 0.03
    assert abs(moved[1]) < 0.01
    assert len(dataset.dropped) == 1


def test_a_killed_recording_is_taken_up_where_it_was(tmp_path: Path) -> None:
    """SIGKILL in the middle of a take: what was kept is there, and the take in hand is reviewed first thing."""
    out = tmp_path / "demos"
    typist = Typist(out, "--episodes", "3", "--operator", "ada")
    typist.wait_for("enter starts")
    typist.type("\r")
    for _ in range(20):
        time.sleep(0.05)
        typist.type("w")
    typist.type("g")
    typist.wait_for("y keeps")
    typist.type("y")
    typist.wait_for("kept; the dataset holds 1 of 3")
    typist.wait_for("enter starts")
    typist.type("\r")
    for _ in range(25):
        time.sleep(0.05)
        typist.type("r")
    typist.process.kill()
    typist.process.wait()
    os.close(typist.person)

    again = Typist(out, "--episodes", "3", "--operator", "ada")
    try:
        again.wait_for("was left by an interruption")
        again.wait_for("y keeps")
        again.type("y")
        again.wait_for("kept; the dataset holds 2 of 3")
        again.wait_for("enter starts")
        again.type("q")
        assert again.process.wait(timeout=30) == 1
    finally:
        if again.process.poll() is None:
            again.process.kill()
        os.close(again.person)
    dataset = Dataset.open(out)
    kept, left = dataset.episodes()
    assert kept.info.note == ""
    assert "recovered after an interruption" in left.info.note
    assert len(left) >= 10
    assert np.count_nonzero(left.requested[:, 2] > 0) >= 8


def test_session_keys_are_read_beside_any_device(tmp_path: Path) -> None:
    """A pedal types keys while the page has the arm; no page is open here, so the arm holds and the take ends."""
    pytest.importorskip("uvicorn")
    typist = Typist(tmp_path / "demos", "--device", "browser", "--port", "0", "--episodes", "3")
    try:
        typist.wait_for("open http://127.0.0.1:")
        typist.wait_for("ready: start on the page")
        typist.type("y")
        typist.wait_for("Cannot keep while the session is ready; possible now: start")
        typist.type("\r")
        typist.wait_for("Recording.")
        typist.wait_for("Take ended (")
        typist.type("n")
        typist.wait_for("dropped; the dataset holds 0 of 3")
        typist.type("q")
        assert typist.process.wait(timeout=30) == 1
    finally:
        if typist.process.poll() is None:
            typist.process.kill()
        os.close(typist.person)
    assert len(Dataset.open(tmp_path / "demos").dropped) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after_s", [0.4, 0.7, 1.5])
def test_a_signal_ends_a_scripted_recording_at_any_moment(
    tmp_path: Path, number: signal.Signals, after_s: float
) -> None:
    """A signal could crash an import, or vanish in a callback: the recording then went on."""
    process = subprocess.Popen(
        [sys.executable, "-m", "understudy", "record", "reach", "--episodes", "9999", "--out", str(tmp_path / "demos")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        time.sleep(after_s)
        process.send_signal(number)
        told = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert told.endswith("stopped\n")
    assert "Traceback" not in told
    if (tmp_path / "demos/dataset.hdf5").exists():
        dataset = Dataset.open(tmp_path / "demos")
        assert not dataset.recovery.unreadable
        assert len(list(dataset.episodes())) == len(dataset)
