"""Errors say what was expected, what came and what to do, and carry the right exit code."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from understudy import errors
from understudy.errors import (
    InputError,
    MissingExtra,
    UnderstudyError,
    failed_file_of,
    missing_extra_of,
    unknown_name,
)

FAILED, BAD_INPUT = 1, 2


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UnderstudyError, FAILED),
        (errors.InputError, BAD_INPUT),
        (errors.MissingExtra, BAD_INPUT),
        (errors.DatasetError, BAD_INPUT),
        (errors.RobotMismatch, BAD_INPUT),
        (errors.StaleObservation, FAILED),
        (errors.ArmFault, FAILED),
    ],
)
def test_exit_codes(kind: type[UnderstudyError], code: int) -> None:
    assert issubclass(kind, UnderstudyError)
    assert kind.exit_code == code


def test_bad_input_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="the reason"):
        raise InputError("the reason")


def test_unknown_name_suggests_the_nearest() -> None:
    error = unknown_name("task", "lfit", ["reach", "lift"])
    assert isinstance(error, InputError)
    assert str(error) == "Unknown task 'lfit': did you mean 'lift'? Known tasks: lift, reach."


def test_unknown_name_without_anything_near_lists_all() -> None:
    error = unknown_name("policy", "xyzzy", iter(["mlp", "flow"]))
    assert str(error) == "Unknown policy 'xyzzy'. Known policies: flow, mlp."


@pytest.mark.parametrize(
    ("kind", "known"),
    [("parameter to fit", "Known parameters to fit: a."), ("number of an action", "Known numbers of an action: a.")],
)
def test_of_several_words_the_first_is_plural(kind: str, known: str) -> None:
    assert str(unknown_name(kind, "xyzzy", ["a"])).endswith(known)


def test_unknown_name_where_there_are_none() -> None:
    assert str(unknown_name("split", "train", [])) == "Unknown split 'train': there are none."


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("pybullet", "sim"),
        ("gymnasium.spaces", "sim"),
        ("torch.nn", "train"),
        ("stable_baselines3", "train"),
        ("imitation.data", "train"),
        ("onnx", "train"),
        ("safetensors.torch", "train"),
        ("rclpy.node", "ros"),
        ("sensor_msgs.msg", "ros"),
        ("trajectory_msgs", "ros"),
        ("rosbags.rosbag2", "ros"),
        ("pinocchio", "robot"),
        ("ruckig", "robot"),
        ("onnxruntime", "robot"),
        ("fastapi", "console"),
        ("uvicorn", "console"),
        ("ray.tune", "scale"),
    ],
)
def test_missing_module_names_its_extra(module: str, extra: str) -> None:
    missing = missing_extra_of(ModuleNotFoundError("gone", name=module))
    assert isinstance(missing, MissingExtra)
    assert (missing.package, missing.extra) == (module.partition(".")[0], extra)
    package = module.partition(".")[0]
    assert str(missing) == f"This needs {package}, which is not installed: pip install 'understudy[{extra}]'."


@pytest.mark.parametrize("module", [None, "understudy.nothing", "somebody_elses", "control_msgs"])
def test_module_that_no_extra_brings(module: str | None) -> None:
    assert missing_extra_of(ModuleNotFoundError("gone", name=module)) is None


def test_errors_import_only_the_standard_library() -> None:
    program = (
        "import sys; before = set(sys.modules); import understudy.errors;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    foreign = set(finished.stdout.split()) - sys.stdlib_module_names - {"understudy"}
    assert foreign == set()


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOSPC, FAILED, "The disk is full (demos/x: No space left on device): free some space"),
        (errno.EROFS, BAD_INPUT, "Not allowed here (demos/x: Read-only file system): give another path"),
        (errno.ENOTDIR, BAD_INPUT, "This path cannot be used (demos/x: Not a directory): give another one."),
    ],
)
def test_a_path_that_the_system_refuses_is_a_sentence(number: int, code: int, words: str) -> None:
    told = failed_file_of(OSError(number, os.strerror(number), "demos/x"))
    assert told is not None
    assert words in str(told)
    assert told.exit_code == code


def test_other_failures_of_the_system_are_not_hidden() -> None:
    assert failed_file_of(OSError(errno.ECONNRESET, "reset")) is None


def test_ten_thousand_names_are_not_listed() -> None:
    told = str(unknown_name("episode", "x", [f"e{index:05}" for index in range(10_000)]))
    assert told.endswith("e00039, and 9960 more.")
