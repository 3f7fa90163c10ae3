"""The command `understudy`: finds the command's class, has tyro read its options, turns errors into
sentences.

This module owns the table of commands and the exit codes (0 done, 1 failed, 2 bad input, 130 stopped). It
imports no command before that command is asked for, so that `understudy --help` is quick and works with any
extra missing.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from understudy import __version__
from understudy.cli.signals import terminated_as_interrupted, uninterrupted
from understudy.errors import UnderstudyError, failed_file_of, missing_extra_of, unknown_name

__all__ = ["COMMANDS", "GROUPS", "Command", "Runnable", "main"]

DEBUG_VARIABLE = "UNDERSTUDY_DEBUG"


class Runnable(Protocol):
    """What every command's class is: a frozen dataclass of options with `run`."""

    def run(self) -> int:
        """Do the work and return the exit code."""
        ...


@dataclass(frozen=True)
class Command:
    """Where a command lives, and the line that `--help` prints for it."""

    module: str
    class_name: str
    summary: str

    def load(self) -> type[Runnable]:
        """Import the command's module and return its class."""
        return cast("type[Runnable]", getattr(importlib.import_module(self.module), self.class_name))


COMMANDS: dict[tuple[str, ...], Command] = {
    ("demo",): Command(
        "understudy.cli.demo", "Demo", "the whole way on the built-in arm: record, train, evaluate, deploy"
    ),
    ("record",): Command("understudy.cli.record", "Record", "record demonstrations of a task into a dataset"),
    ("calibrate-leader",): Command(
        "understudy.cli.calibrate_leader", "CalibrateLeader", "how a leader arm's joints read as the robot's"
    ),
    ("console",): Command("understudy.cli.console", "Console", "record from a web page, and look at what there is"),
    ("dataset", "info"): Command("understudy.cli.dataset", "DatasetInfo", "what a dataset holds"),
    ("dataset", "check"): Command("understudy.cli.dataset_look", "DatasetCheck", "may I train on this?"),
    ("dataset", "show"): Command("understudy.cli.dataset_look", "DatasetShow", "draw an episode, or all of it"),
    ("dataset", "replay"): Command("understudy.cli.dataset_look", "DatasetReplay", "step it again in simulation"),
    ("dataset", "list"): Command("understudy.cli.dataset", "DatasetList", "its episodes, all or by a condition"),
    ("dataset", "label"): Command("understudy.cli.dataset_edit", "DatasetLabel", "change verdicts, notes, operators"),
    ("dataset", "drop"): Command("understudy.cli.dataset_edit", "DatasetDrop", "move episodes to the trash"),
    ("dataset", "restore"): Command("understudy.cli.dataset_edit", "DatasetRestore", "bring dropped episodes back"),
    ("dataset", "empty-trash"): Command(
        "understudy.cli.dataset_edit", "DatasetEmptyTrash", "delete dropped episodes for good"
    ),
    ("dataset", "split"): Command("understudy.cli.dataset_edit", "DatasetSplit", "divide it into named splits"),
    ("dataset", "merge"): Command("understudy.cli.dataset_edit", "DatasetMerge", "several datasets into one"),
    ("dataset", "import"): Command("understudy.cli.dataset_convert", "DatasetImport", "read another tool's recording"),
    ("dataset", "export"): Command("understudy.cli.dataset_convert", "DatasetExport", "write another tool's files"),
    ("dataset", "pack"): Command("understudy.cli.dataset_convert", "DatasetPack", "the whole dataset in one file"),
    ("dataset", "describe-bag"): Command(
        "understudy.cli.dataset_convert", "DatasetDescribeBag", "a mapping file for a ROS 2 bag"
    ),
    ("dataset", "repair"): Command("understudy.cli.dataset", "DatasetRepair", "recover what a crash left"),
    ("train", "bc"): Command("understudy.cli.train", "TrainBC", "learn by behavioral cloning"),
    ("train", "dagger"): Command("understudy.cli.train", "TrainDagger", "learn from takeovers too (HG-DAgger)"),
    ("train", "gail"): Command("understudy.cli.train", "TrainGAIL", "learn adversarially (GAIL)"),
    ("train", "airl"): Command("understudy.cli.train", "TrainAIRL", "learn a reward and a policy (AIRL)"),
    ("finetune",): Command("understudy.cli.finetune", "Finetune", "improve a trained policy with RL"),
    ("evaluate",): Command("understudy.cli.evaluate", "Evaluate", "success rates with intervals"),
    ("identify",): Command("understudy.cli.identify", "Identify", "fit the simulator to recorded motion"),
    ("plot",): Command("understudy.cli.plot", "Plot", "draw the curves of one or several runs"),
    ("export",): Command("understudy.cli.export", "Export", "write a run as a skill that can be deployed"),
    ("sim-arm",): Command("understudy.cli.sim_arm", "SimArm", "a simulated arm behind the topics of a real driver"),
    ("deploy",): Command("understudy.cli.deploy", "Deploy", "run a skill on an arm over ROS 2"),
    ("bench", "capture"): Command("understudy.cli.bench_capture", "BenchCapture", "recording over ROS 2, and rosbags'"),
    ("bench", "dagger"): Command(
        "understudy.cli.bench", "BenchDagger", "are takeovers worth more than demonstrations?"
    ),
    ("bench", "env"): Command("understudy.cli.bench_env", "BenchEnv", "the simulated environment, beside panda-gym's"),
    ("bench", "loader"): Command("understudy.cli.bench", "BenchLoader", "training windows, beside robomimic's"),
    ("bench", "identify"): Command("understudy.cli.bench", "BenchIdentify", "is a fitted simulator worth it?"),
    ("bench", "store"): Command("understudy.cli.bench", "BenchStore", "recording and saving, at any size of a dataset"),
    ("doctor",): Command("understudy.cli.doctor", "Doctor", "what works on this machine, and what is missing"),
}
"""Every command, in the order of a day's work; the key is what the user types."""

GROUPS: dict[str, str] = {
    "dataset": "look into datasets",
    "train": "learn a policy from a dataset",
    "bench": "measure speed, beside the tools it is compared with",
}
"""One line for each first word that has several commands below it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with terminated_as_interrupted():
            return _dispatch(arguments)
    except UnderstudyError as error:
        return _fail(error, error.exit_code)
    except ModuleNotFoundError as error:
        missing = missing_extra_of(error)
        if missing is None:
            raise
        return _fail(missing, missing.exit_code)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) left; stdout must not be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        failed = failed_file_of(error)
        if failed is None:
            raise
        return _fail(failed, failed.exit_code)


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        print(_overview(), file=sys.stderr)
        return 2
    if arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"understudy {__version__}")
        return 0
    first = arguments[0]
    if (first,) in COMMANDS:
        return _run((first,), arguments[1:])
    if first not in GROUPS:
        raise unknown_name("command", first, {key[0] for key in COMMANDS})
    if len(arguments) == 1:
        print(_group_help(first), file=sys.stderr)
        return 2
    second = arguments[1]
    if second in ("-h", "--help"):
        print(_group_help(first))
        return 0
    if (first, second) not in COMMANDS:
        raise unknown_name(f"{first} command", second, {key[1] for key in COMMANDS if key[0] == first})
    return _run((first, second), arguments[2:])


def _run(key: tuple[str, ...], arguments: list[str]) -> int:
    """Parse the options of one command with tyro, where a signal counts once they are parsed, and run it."""
    with uninterrupted():
        import tyro  # not needed, and not quick, for the tables above

        command = COMMANDS[key].load()
        try:
            options = tyro.cli(
                command,
                prog=" ".join(("understudy", *key)),
                # tyro would drop the Example block of the docstring.
                description=inspect.getdoc(command) or "",
                args=arguments,
            )
        except SystemExit as leaving:  # tyro leaves with 0 after --help and with 2 after wrong options
            return leaving.code if isinstance(leaving.code, int) else 2
    return options.run()


def _overview() -> str:
    rows: dict[str, str] = {}
    for key, command in COMMANDS.items():
        if len(key) == 1:
            rows[key[0]] = command.summary
        else:
            names = "|".join(other[1] for other in COMMANDS if other[0] == key[0])
            rows[f"{key[0]} {names}"] = GROUPS[key[0]]
    return "\n".join(
        [
            "usage: understudy COMMAND [OPTIONS]",
            "",
            "Record demonstrations on a robot arm, learn from them, and put the result back on the arm.",
            "",
            *_table(rows),
            "",
            "understudy COMMAND --help   options and an example",
            "understudy --version        the version",
            f"{DEBUG_VARIABLE}=1          show tracebacks",
        ]
    )


def _group_help(group: str) -> str:
    rows = {key[1]: command.summary for key, command in COMMANDS.items() if key[0] == group}
    return "\n".join(
        [
            f"usage: understudy {group} COMMAND [OPTIONS]",
            "",
            f"{GROUPS[group].capitalize()}.",
            "",
            *_table(rows),
            "",
            f"understudy {group} COMMAND --help   options and an example",
        ]
    )


def _table(rows: dict[str, str]) -> list[str]:
    width = max(map(len, rows))
    return [f"  {name:<{width}}  {summary}" for name, summary in rows.items()]


def _fail(error: UnderstudyError, exit_code: int) -> int:
    if os.environ.get(DEBUG_VARIABLE, "") not in ("", "0"):
        traceback.print_exc()
    print(f"error: {error}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
