"""A change of the dataset that took place although something failed after it: the disk would not confirm a rename.

What is done must not be asked for again: the next undo would take back another take.
"""

from __future__ import annotations

from collections.abc import Callable

from understudy.errors import DatasetError, UnderstudyError

WARNING = "Warning: "
"""How the words begin that tell of it."""


def took_place(change: Callable[[], object], done: Callable[[], bool]) -> str:
    """Make a change; returns a warning in words where something failed after it had taken place, else nothing.

    Args:
        change: makes it.
        done: whether it has taken place.

    Raises:
        UnderstudyError, OSError: as `change` does, where it has not, or where that cannot be told.
    """
    try:
        change()
    except (UnderstudyError, OSError) as error:
        if not _told(done):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split()).rstrip(".")
        return f"{WARNING}it is done, and the disk did not confirm it ({reason}): look at the disk."
    return ""


def _told(done: Callable[[], bool]) -> bool:
    try:
        return done()
    except (DatasetError, OSError):
        return False
