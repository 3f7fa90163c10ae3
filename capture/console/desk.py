"""Which page moves the arm: one at a time, the others watch, and control changes hands only by somebody's word.

A page is known by a key that it alone holds and keeps over a reload. Owns no socket; use one thread.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from understudy.envs.arms.clock import Clock
from understudy.errors import InputError

ANSWER_S = 10.0
"""A controller who has not answered a page that asks for this long may be relieved of control, s."""
RETURN_S = 10.0
"""A controller whose page has gone keeps control for this long: it may be reloading, s."""


@dataclass
class Page:
    """A page that is open, or was a moment ago."""

    key: str
    name: str
    """What other pages call it."""
    connected: bool = True
    left_ns: int = 0
    asked_ns: int | None = None
    """When it asked for control; None when it does not."""


class Desk:
    """The pages of a console and the one that is in control."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pages: dict[str, Page] = {}
        self._controller: Page | None = None
        self._count = 0

    def arrive(self, key: str) -> Page:
        """A page opens. One that was here a moment ago is the same again, with control if it had it; a new one is in
        control when nobody is.

        Args:
            key: what an earlier `arrive` gave it; anything unknown makes a new page.
        """
        self._forget_the_gone()
        page = self._pages.get(key)
        if page is None:
            self._count += 1
            page = Page(secrets.token_urlsafe(16), f"page {self._count}")
            self._pages[page.key] = page
        page.connected = True
        if self._controller is None:
            self._controller = page
        return page

    def leave(self, key: str) -> None:
        """A page is gone, perhaps to come back at once."""
        page = self._pages.get(key)
        if page is not None:
            page.connected, page.left_ns, page.asked_ns = False, self._clock.now_ns(), None

    def controls(self, key: str) -> bool:
        """Whether this page is in control."""
        return self._controller is not None and self._controller.key == key

    def require_control(self, key: str) -> None:
        """Refuse a page that only watches.

        Raises:
            InputError: it is not in control.
        """
        if not self.controls(key):
            holder = "nobody is" if self._controller is None else f"{self._controller.name} is"
            raise InputError(f"This page only watches ({holder} in control); take control first.")

    def take(self, key: str) -> str:
        """Take control where it is free; returns what happened.

        Raises:
            InputError: somebody has it and has not let it go.
        """
        page = self._known(key)
        if self._may_take(page):
            self._hand_to(page)
            return f"{page.name} is in control."
        assert self._controller is not None  # else it may be taken
        if self._controller is page:
            return f"{page.name} is in control."
        raise InputError(
            f"{self._controller.name} is in control. Ask for it; if nobody answers within {ANSWER_S:g} s, take it then."
        )

    def ask(self, key: str) -> str:
        """Ask the page in control to hand it over; returns what happened."""
        page = self._known(key)
        if self._controller is None or self._controller is page or not self._controller.connected:
            return self.take(key)
        if page.asked_ns is None:
            page.asked_ns = self._clock.now_ns()
        return f"Asked {self._controller.name} for control."

    def give(self, key: str) -> str:
        """Hand control to the page that asked first; returns what happened.

        Raises:
            InputError: this page has no control, or nobody asks for it.
        """
        self.require_control(key)
        asking = self._asking()
        if not asking:
            raise InputError("Nobody asks for control.")
        self._hand_to(asking[0])
        return f"{asking[0].name} is in control now."

    def refuse(self, key: str) -> str:
        """Keep control; whoever asked has to ask again.

        Raises:
            InputError: this page has no control.
        """
        self.require_control(key)
        for page in self._pages.values():
            page.asked_ns = None
        return "Control stays here."

    def release(self, key: str) -> str:
        """Let control go; the page that asked first gets it, else nobody has it.

        Raises:
            InputError: this page has no control.
        """
        self.require_control(key)
        if self._asking():
            return self.give(key)
        self._controller = None
        return "Nobody is in control now."

    def facts(self, key: str) -> dict[str, Any]:
        """What a page shows about control, as plain data for JSON."""
        self._forget_the_gone()
        page, holder = self._known(key), self._controller
        waited_s = 0.0 if page.asked_ns is None else (self._clock.now_ns() - page.asked_ns) * 1e-9
        return {
            "name": page.name,
            "controlling": holder is page,
            "controller": None if holder is None else holder.name,
            "controller_gone": holder is not None and not holder.connected,
            "asking": [other.name for other in self._asking()],
            "asked": page.asked_ns is not None,
            "may_take": holder is not page and self._may_take(page),
            "wait_s": 0.0 if page.asked_ns is None else max(0.0, ANSWER_S - waited_s),
            "pages": sum(other.connected for other in self._pages.values()),
        }

    def _known(self, key: str) -> Page:
        return self._pages[key]

    def _may_take(self, page: Page) -> bool:
        holder = self._controller
        if holder is None or not holder.connected:
            return True
        return page.asked_ns is not None and self._clock.now_ns() - page.asked_ns >= ANSWER_S * 1e9

    def _hand_to(self, page: Page) -> None:
        self._controller = page
        page.asked_ns = None

    def _asking(self) -> list[Page]:
        asking = [page for page in self._pages.values() if page.asked_ns is not None and page.connected]
        return sorted(asking, key=lambda page: page.asked_ns or 0)

    def _forget_the_gone(self) -> None:
        """A page that does not come back loses control, and in the end its key."""
        now_ns = self._clock.now_ns()
        gone = [p for p in self._pages.values() if not p.connected and now_ns - p.left_ns > RETURN_S * 1e9]
        for page in gone:
            del self._pages[page.key]
            if self._controller is page:
                self._controller = None
