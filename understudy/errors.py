"""What can go wrong, in words that a person can act on.

Every error that a user should see is an `UnderstudyError`; the command line prints its sentence alone and
leaves with its `exit_code`. This module sits below every room and imports only the standard library.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "EXTRA_OF_MODULE",
    "ArmFault",
    "DatasetError",
    "InputError",
    "MissingExtra",
    "PolicyFault",
    "RobotMismatch",
    "StaleObservation",
    "UnderstudyError",
    "extra_of",
    "failed_file_of",
    "missing_extra_of",
    "unknown_name",
]


MOST_LISTED = 40
"""Names listed in an error; a dataset may have ten thousand episodes."""


class UnderstudyError(Exception):
    """Something failed while working; the message says what was expected, what came, and what to do."""

    exit_code: ClassVar[int] = 1


class InputError(UnderstudyError, ValueError):
    """What the user gave is wrong: a name, a file, an option, a missing package."""

    exit_code: ClassVar[int] = 2


class MissingExtra(InputError):
    """A package that an extra installs is not there."""

    def __init__(self, package: str, extra: str) -> None:
        """Name the package that is missing and the extra of `understudy` that brings it."""
        super().__init__(f"This needs {package}, which is not installed: pip install 'understudy[{extra}]'.")
        self.package = package
        self.extra = extra


class DatasetError(InputError):
    """A dataset or an episode is not what it should be."""


class RecordingError(UnderstudyError):
    """An episode could not be recorded: the disk is full or fails, or a step came that does not fit."""


class RobotMismatch(InputError):
    """A skill or a dataset was made for another robot than the one at hand."""


class StaleObservation(UnderstudyError):
    """The latest sample of a source is older than its age limit."""


class ArmFault(UnderstudyError):
    """The arm stopped, refused, or cannot be reached."""


class PolicyFault(UnderstudyError):
    """A policy returned something that is no action; nothing of it may be sent."""


EXTRA_OF_MODULE: dict[str, str] = {
    "pybullet": "sim",
    "pybullet_data": "sim",
    "gymnasium": "sim",
    "cma": "sim",
    "torch": "train",
    "stable_baselines3": "train",
    "imitation": "train",
    "onnx": "train",
    "safetensors": "train",
    "rclpy": "ros",
    "rosbags": "ros",
    "std_srvs": "ros",
    "builtin_interfaces": "ros",
    "pinocchio": "robot",
    "ruckig": "robot",
    "onnxruntime": "robot",
    "pyarrow": "convert",
    "av": "convert",
    "PIL": "convert",
    "fastapi": "console",
    "uvicorn": "console",
    "hidraw": "devices",
    "pygame": "devices",
    "websockets": "console",
    "ray": "scale",
}
"""The extra that installs each optional top-level module; `*_msgs` modules belong to `ros`."""

_MESSAGES_OF_ROS_EXTRA = frozenset(
    {
        "action_msgs",
        "diagnostic_msgs",
        "geometry_msgs",
        "lifecycle_msgs",
        "rosgraph_msgs",
        "sensor_msgs",
        "std_msgs",
        "trajectory_msgs",
    }
)


def extra_of(module: str) -> str | None:
    """Return the extra that installs a module (dotted names count by their first part), or None."""
    top = module.partition(".")[0]
    if top in _MESSAGES_OF_ROS_EXTRA:
        return "ros"
    return EXTRA_OF_MODULE.get(top)


def missing_extra_of(error: ModuleNotFoundError) -> MissingExtra | None:
    """Turn a failed import into the sentence that names the extra; None if no extra brings the module."""
    if error.name is None:
        return None
    extra = extra_of(error.name)
    return None if extra is None else MissingExtra(error.name.partition(".")[0], extra)


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_UNFIT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP})


def failed_file_of(error: OSError) -> UnderstudyError | None:
    """Turn a path that the system refused into a sentence with the remedy; None for other failures of the system."""
    what = f"{error.filename}: {error.strerror}" if error.filename else " ".join(str(error).split())
    if error.errno in _FULL:
        if error.errno == errno.EFBIG:
            return UnderstudyError(
                f"A file would grow too large ({what}): raise the limit (ulimit -f), then run this again."
            )
        return UnderstudyError(f"The disk is full ({what}): free some space, then run this again.")
    if error.errno in _FORBIDDEN:
        return InputError(f"Not allowed here ({what}): give another path, or change its permissions.")
    if error.errno in _UNFIT:
        return InputError(f"This path cannot be used ({what}): give another one.")
    return None


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """Build the error for a name that nothing has, with the nearest valid name and all of them.

    `kind` is the singular noun, as in "Unknown task 'lfit': did you mean 'lift'? Known tasks: lift, reach."
    """
    known = sorted(valid)
    if not known:
        return InputError(f"Unknown {kind} '{name}': there are none.")
    near = difflib.get_close_matches(name, known, n=1)
    suggestion = f": did you mean '{near[0]}'?" if near else "."
    listed = ", ".join(known[:MOST_LISTED])
    more = f", and {len(known) - MOST_LISTED} more" if len(known) > MOST_LISTED else ""
    return InputError(f"Unknown {kind} '{name}'{suggestion} Known {_plural(kind)}: {listed}{more}.")


def _plural(noun: str) -> str:
    """Plural of the plain English nouns used as kinds (task, policy, axis; the first of "parameter to fit")."""
    for word in (" of ", " to "):
        head, found, rest = noun.partition(word)
        if found:
            return f"{_plural(head)}{word}{rest}"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    return noun + "s"
