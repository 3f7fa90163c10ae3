"""The states of a session, and what is possible in each. The diagram is in `session.py`."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Literal

State = Literal["idle", "ready", "recording", "review", "saving"]

Wish = Literal[
    "prepare", "start", "stop", "keep", "drop", "undo", "redo", "success", "failure", "unmark", "note", "intervene",
    "release", "hold",
]  # fmt: skip
"""What may be asked of a session, by whatever front."""
WISHES: tuple[Wish, ...] = (
    "prepare", "start", "stop", "keep", "drop", "undo", "redo", "success", "failure", "unmark", "note", "intervene",
    "release", "hold",
)  # fmt: skip

POSSIBLE: Mapping[State, tuple[str, ...]] = {
    "idle": ("prepare", "undo", "redo", "resume", "hold"),
    "ready": ("start", "drop", "prepare", "undo", "redo", "hold"),
    "recording": ("tick", "stop", "drop", "mark", "note", "intervene", "release", "hold"),
    "review": ("keep", "drop", "mark", "note", "hold"),
    "saving": (),
}
"""State -> the methods of a session that may be called in it."""


def meant(wish: Wish, possible: Container[Wish]) -> Wish:
    """What a key or button of a front stands for now: start prepares first, where nothing is prepared."""
    return "prepare" if wish == "start" and "start" not in possible and "prepare" in possible else wish


GRANTED: Mapping[State, tuple[Wish, ...]] = {
    "idle": ("prepare", "undo", "redo", "hold"),
    "ready": ("start", "drop", "prepare", "undo", "redo", "hold"),
    "recording": ("stop", "drop", "success", "failure", "unmark", "note", "intervene", "release", "hold"),
    "review": ("keep", "drop", "success", "failure", "unmark", "note", "hold"),
    "saving": (),
}
"""State -> what an operator may wish in it, where there is something to undo, to unmark and so on."""
