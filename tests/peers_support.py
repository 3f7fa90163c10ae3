"""Other people's libraries, each in an environment of its own (`make peers`), to let them read our files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def peer_python(name: str) -> Path:
    """The interpreter of a peer's environment; skips where there is none, fails where CI says there must be."""
    python = ROOT / ".peers" / name / "bin" / "python"
    if (python.parents[1] / ".installed").exists():
        return python
    reason = f"{name} is not installed in .peers/{name}: run `make peers`"
    if os.environ.get("UNDERSTUDY_REQUIRE_PEERS"):
        pytest.fail(reason)
    pytest.skip(reason)


def run_in_peer(name: str, program: str, *arguments: str, timeout_s: float = 150.0) -> str:
    """Run a Python program in a peer's environment and return what it printed; its errors fail the test."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "LD_LIBRARY_PATH")}
    finished = subprocess.run(
        [str(peer_python(name)), "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env={**kept, "HF_HUB_OFFLINE": "1"},
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    return finished.stdout
