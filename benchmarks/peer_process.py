"""Another tool's side of a benchmark: a program that runs in that tool's own environment and does what it is told.

An order is a line of JSON on its standard input, the answer a line of JSON on its standard output.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from understudy.errors import UnderstudyError


@contextmanager
def peer_process(name: str, python: Path, program: str, arguments: Sequence[str]) -> Iterator[Callable[..., Any]]:
    """A function that has the peer do something and returns the answer; the process ends with the context.

    Args:
        name: of the peer, for errors.
        python: the interpreter of its environment.
        program: the file beside this one that it runs.
        arguments: the program's.

    Raises:
        UnderstudyError: (by the function) the process ended, with its last words, or answered something else.
    """
    command = [str(python.absolute()), str(Path(__file__).with_name(program)), *arguments]
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True)

        def ask(**order: Any) -> Any:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                process.wait()
                complaints.seek(0)
                raise UnderstudyError(f"{name}'s process ended: {complaints.read()[-2000:]}")
            try:
                return json.loads(answer)
            except ValueError as error:
                raise UnderstudyError(f"{name}'s process answered no JSON: {answer[:500]!r}") from error

        try:
            yield ask
        finally:
            process.communicate()
