"""A command of ours as a user runs it, in a process of its own; what it answers to programs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from understudy.errors import UnderstudyError


@contextmanager
def work_folder(keep: Path | None) -> Iterator[Path]:
    """Where commands work: in `keep`, where everything stays, or in a temporary folder that goes afterwards."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as scratch:
        yield Path(scratch)


def our_command(folder: Path, *words: object) -> dict[str, Any]:
    """Run `understudy WORDS --json` in a folder.

    Raises:
        UnderstudyError: it failed; says what it said.
    """
    ours = [sys.executable, "-m", "understudy.cli.main", *map(str, words), "--json"]
    done = subprocess.run(ours, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnderstudyError(f"understudy {' '.join(map(str, words))} failed: {done.stderr.strip()}")
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts
