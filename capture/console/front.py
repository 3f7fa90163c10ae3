"""What the console needs of a session: to ask, to look, to see. `SessionLoop` has it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.capture.session_view import SessionView, Wish


class Front(Protocol):
    """A session that others drive; everything may be called from any thread."""

    def ask(self, wish: Wish, text: str = "", *, timeout_s: float = 5.0) -> str:
        """Fulfil a wish; returns what happened, one sentence.

        Raises:
            InputError: it cannot be now; says what can.
        """

    def view(self) -> SessionView:
        """The session at this moment."""

    def wait_view(self, after_revision: int, timeout_s: float) -> SessionView:
        """The first view with a greater revision, or the present one after `timeout_s`."""

    def picture(self, camera: str) -> NDArray[np.uint8] | None:
        """The latest picture (height, width, 3) of a camera; None before there is one."""
