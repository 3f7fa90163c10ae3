"""Reading what may be damaged or hostile in a process of its own, which may crash, hang or eat memory alone.

The HDF5, Parquet and video libraries are C: a file with one wrong byte can end the process that reads it, or keep it
busy for ever. So other people's files, and recordings that a crash left behind, are read by a child process with a
bound on its memory and on how long it may be silent. The child is told its job in JSON and answers in JSON; nothing is
unpickled on either side. Jobs are the ones in `JOBS`, never names that come from a file.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from understudy.errors import DatasetError, InputError, MissingExtra, UnderstudyError, extra_of

Report = Callable[[Mapping[str, Any]], None]
"""What a job calls now and then: it shows that the job is alive, and what it has done."""

JOBS: Mapping[str, str] = {
    "finish": "understudy.datasets.recovery:finish_interrupted",
    "import": "understudy.datasets.convert.importing:import_here",
    "describe-bag": "understudy.datasets.convert.importing:describe_bag_here",
}
"""Job -> module:function(arguments, report) -> result; arguments and result are plain JSON."""

MEMORY_BYTES = 8 << 30
"""Address space of the child."""
STALL_S = 60.0
"""A child that has reported nothing for this long is ended."""
_ERRORS: Mapping[str, type[Exception]] = {
    "DatasetError": DatasetError,
    "InputError": InputError,
    "UnderstudyError": UnderstudyError,
}
_LINE = 1 << 20


def run_quarantined(
    job: str,
    arguments: Mapping[str, Any],
    *,
    subject: str,
    report: Report | None = None,
    memory_bytes: int = MEMORY_BYTES,
    stall_s: float = STALL_S,
) -> Any:
    """Run a job of `JOBS` in a child process and return its result.

    Args:
        job: which.
        arguments: plain JSON.
        subject: the file that is read, for the sentence when the child dies of it.
        report: called with what the job reports.
        memory_bytes: address space of the child.
        stall_s: the child is ended when it reports nothing for so long.

    Raises:
        DatasetError: the child crashed, hung or ran out of memory; names the subject. What the job raises comes through
            as the same kind of error with the same words.
        MissingExtra: the job needs a package that is not installed.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as errors, os.fdopen(reading, "rb", buffering=0) as answers:
        try:
            # -P: the folder one stands in must not lend modules to the child
            command = [sys.executable, "-P", "-m", "understudy.datasets.quarantine", str(writing), str(memory_bytes)]
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=errors, stderr=errors, pass_fds=(writing,), env=_environment()
            )
        finally:
            os.close(writing)
        with _ended(child):
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps({"job": job, "arguments": dict(arguments)}).encode())
                child.stdin.close()
            for message in _messages(answers, stall_s, subject):
                if "result" in message:
                    return message["result"]
                if "error" in message:
                    _raise(message)
                elif report is not None:
                    report(message["report"])
            code = child.wait()
        raise DatasetError(f"{subject} could not be read: the process reading it {_death(code)}; it is damaged.")


def _environment() -> dict[str, str]:
    """Ours, with the places modules were imported from, and without HDF5's plug-ins."""
    path = os.pathsep.join(part for part in sys.path if part)
    return {**os.environ, "PYTHONPATH": path, "HDF5_PLUGIN_PRELOAD": "::"}


@contextlib.contextmanager
def _ended(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """See to it that the child is gone afterwards."""
    try:
        yield
    finally:
        child.kill()
        child.wait()


def _messages(answers: IO[bytes], stall_s: float, subject: str) -> Iterator[dict[str, Any]]:
    """The child's lines, until it closes its end."""
    waiting = b""
    heard = time.monotonic()
    while True:
        ready, _, _ = select.select([answers], [], [], max(0.0, heard + stall_s - time.monotonic()))
        if not ready:
            raise DatasetError(
                f"{subject} could not be read: nothing came of it for {stall_s:g} s, so reading it was stopped; "
                "it is damaged."
            )
        part = answers.read(_LINE)
        heard = time.monotonic()
        if not part:
            return
        *lines, waiting = (waiting + part).split(b"\n")
        yield from map(json.loads, lines)


def _raise(message: Mapping[str, Any]) -> None:
    if message["kind"] == "OSError":
        if message["errno"] is None:
            raise UnderstudyError(message["error"])
        raise OSError(message["errno"], os.strerror(message["errno"]), message["file"])
    if message["kind"] == "MissingExtra":
        raise MissingExtra(message["package"], message["extra"])
    raise _ERRORS[message["kind"]](message["error"])


def _death(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"left with code {code}"


# --- in the child ------------------------------------------------------------------------------------------------


def perform(job: str, arguments: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Do a job and return the message that ends it: its result, or its error as a sentence."""
    module, _, name = JOBS[job].partition(":")
    try:
        return {"result": getattr(importlib.import_module(module), name)(arguments, report)}
    except MissingExtra as error:
        return {"error": str(error), "kind": "MissingExtra", "package": error.package, "extra": error.extra}
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        return {"error": str(error), "kind": "MissingExtra", "package": package, "extra": extra_of(package) or "all"}
    except OSError as error:
        # Of what is written: readers turn what they meet into DatasetErrors.
        return {"error": str(error), "kind": "OSError", "errno": error.errno, "file": error.filename}
    except MemoryError:
        return {"error": f"{arguments.get('path')}: reading it takes more memory than allowed.", "kind": "DatasetError"}
    except UnderstudyError as error:
        kind = next(name for name in _ERRORS if isinstance(error, _ERRORS[name]))
        return {"error": str(error), "kind": kind}


def _main() -> None:
    answers, memory_bytes = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    told = json.load(sys.stdin)

    def say(message: Mapping[str, Any]) -> None:
        os.write(answers, json.dumps(message).encode() + b"\n")

    say(perform(told["job"], told["arguments"], lambda progress: say({"report": progress})))


if __name__ == "__main__":
    _main()
