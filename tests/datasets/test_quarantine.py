"""A file that would take the process with it takes another one, and is named."""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from pathlib import Path

import pytest
from datasets_builders import make_episode, steps_of

from understudy.datasets import quarantine, recovery
from understudy.datasets.quarantine import JOBS, perform, run_quarantined
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError, InputError, MissingExtra


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A recording whose process was killed."""
    dataset = Dataset.create(tmp_path / "demos", robot="two_joint", task="reach")
    child = os.fork()
    if child == 0:
        episode = make_episode(20)
        writer = dataset.begin(episode.info, {key: values[0] for key, values in episode.observations.items()})
        for k, step in enumerate(steps_of(episode)):
            writer.add(step)
            while writer.written <= k:
                pass
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (file,) = (dataset.path / "recording").glob("*.hdf5")
    return file


def make_endless(file: Path) -> None:
    """Let one length in HDF5's heap of attributes point back to itself: HDF5 1.14 then never returns."""
    raw = bytearray(file.read_bytes())
    heap = raw.index(b"GCOL")
    raw[heap + 24 : heap + 32] = struct.pack("<Q", 2**64 - 16)
    file.write_bytes(raw)


def test_a_file_that_never_ends_is_given_up_and_named(interrupted: Path) -> None:
    make_endless(interrupted)
    begin = time.monotonic()
    with pytest.raises(DatasetError, match=rf"{interrupted.name} could not be read: nothing came of it for 2 s"):
        run_quarantined("finish", {"path": str(interrupted)}, subject=str(interrupted), stall_s=2.0)
    assert time.monotonic() - begin < 20


def test_recovering_goes_on_after_such_a_file(interrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_endless(interrupted)
    monkeypatch.setattr(recovery, "run_quarantined", lambda *a, **k: run_quarantined(*a, **k, stall_s=2.0))
    opened = Dataset.open(interrupted.parents[1])
    assert "nothing came of it" in opened.recovery.unreadable[interrupted.stem]
    opened.add(make_episode(10))
    assert len(opened) == 1
    assert interrupted.exists()


@pytest.mark.parametrize(
    ("death", "words"),
    [("kill -SEGV $$", "was ended by SIGSEGV"), ("kill -9 $$", "was ended by SIGKILL"), ("exit 3", "left with code 3")],
)
def test_a_reader_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, death: str, words: str) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\n{death}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(DatasetError, match=f"bag could not be read: the process reading it {words}"):
        run_quarantined("finish", {"path": "bag"}, subject="bag")


def test_too_little_memory_is_an_error_and_not_an_end(interrupted: Path) -> None:
    with pytest.raises(DatasetError):
        run_quarantined(
            "finish", {"path": str(interrupted)}, subject=str(interrupted), memory_bytes=100 << 20, stall_s=30.0
        )
    assert run_quarantined("finish", {"path": str(interrupted)}, subject=str(interrupted)) == "taken"


def test_errors_come_through_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none\.hdf5"):
        run_quarantined("finish", {"path": str(tmp_path / "none.hdf5")}, subject="x")
    with pytest.raises(InputError, match="Unknown format 'robmimic': did you mean 'robomimic'"):
        run_quarantined("import", {"format": "robmimic", "path": "a", "out": "b", "config": {}}, subject="x")


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(arguments: object, report: object) -> None:
        raise ModuleNotFoundError("No module named 'pyarrow.parquet'", name="pyarrow.parquet")

    monkeypatch.setattr(recovery, "finish_interrupted", lacks)
    message = perform("finish", {}, lambda told: None)
    assert message["kind"] == "MissingExtra"
    with pytest.raises(MissingExtra, match="needs pyarrow"):
        quarantine._raise(message)


@pytest.mark.parametrize("job", JOBS)
def test_every_job_is_there(job: str) -> None:
    module, _, name = JOBS[job].partition(":")
    assert callable(getattr(__import__(module, fromlist=[name]), name))
