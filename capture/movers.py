"""Who moves the arm of a session, and what is true of the arm when we ask nothing of it: those words, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Mover = Literal["session", "person", "driver"]
"""session: what the device asks for goes to the arm through us; person: somebody has the arm in hand; driver: another
node drives it. In the last two we only record, and can stop nothing."""

HELD: Mapping[Mover, str] = {
    "session": "The arm holds.",
    "person": "We only record: whoever has the arm in hand still moves it.",
    "driver": "We only record: whoever drives the arm still does.",
}
"""Mover -> what is true of the arm when we drive it no further, one sentence."""

PAGED = "browser"
"""The device that is a page."""


def holder(device: str) -> str:
    """What the operator holds, by the name of the session's device."""
    return device.rpartition(" ")[2]


def when_gone(moved_by: Mover, device: str) -> str:
    """What a page may say of the arm when it hears nothing of the session any more."""
    if moved_by != "session":
        return HELD[moved_by]
    if holder(device) == PAGED:
        return (
            "The arm holds: a session that ends, or that hears no page, brakes it; one that is killed leaves it where "
            "its last command ends. Look at the arm: this page cannot."
        )
    return (
        f"A session that ends brakes the arm first; while it goes on, the {holder(device)} still moves the arm. Look "
        "at the arm: this page cannot."
    )
