"""Wishes on their way from any thread to the one that drives a session, and the answers on their way back."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from understudy.capture.session_states import Wish
from understudy.errors import RecordingError, UnderstudyError


class Request:
    """A wish that somebody waits for."""

    def __init__(self, wish: Wish, text: str) -> None:
        self.wish, self.text = wish, text
        self.answer = ""
        self.error: UnderstudyError | None = None
        self.given = threading.Event()
        self.taken_up = self.given_up = False

    def answer_by(self, do: Callable[[Wish, str], str]) -> None:
        """Have the wish done; what goes wrong is the answer, and a fault in the software is raised here as well."""
        try:
            self.answer = do(self.wish, self.text)
        except UnderstudyError as error:
            self.error = error
        except BaseException as error:
            self.error = RecordingError(f"The session broke off over {self.wish!r}: {error!r}.")
            raise

    def give(self) -> None:
        """Let who asked have the answer."""
        self.given.set()


class Mailbox:
    """Holds wishes until the session's thread takes them up."""

    def __init__(self, changed: threading.Condition) -> None:
        """`changed` is notified when a wish comes."""
        self._changed = changed
        self._waiting: deque[Request] = deque()
        self._closed = False

    @property
    def empty(self) -> bool:
        """Whether nobody waits."""
        return not self._waiting

    def ask(self, wish: Wish, text: str, timeout_s: float) -> str:
        """Put a wish in and wait for its answer.

        Raises:
            RecordingError: no answer came in time, and a wish that was not taken up will not be done later; or the
                session has ended.
            UnderstudyError: what went wrong.
        """
        request = Request(wish, text)
        with self._changed:
            if self._closed:
                raise RecordingError("The session has ended; start another one.")
            self._waiting.append(request)
            self._changed.notify_all()
        if not request.given.wait(timeout_s):
            with self._changed:
                request.given_up = not request.taken_up
            still = "it is still at it" if request.taken_up else "it was not done"
            raise RecordingError(f"The session did not answer to {wish!r} within {timeout_s:g} s; {still}.")
        if request.error is not None:
            raise request.error
        return request.answer

    def take(self) -> list[Request]:
        """The wishes that somebody still waits for, in order; each must be given its answer."""
        with self._changed:
            taken = [request for request in self._waiting if not request.given_up]
            self._waiting.clear()
            for request in taken:
                request.taken_up = True
        return taken

    def close(self) -> None:
        """Answer all who wait, and who will ask, that the session has ended."""
        with self._changed:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
        for request in waiting:
            request.error = RecordingError(f"The session ended before it came to {request.wish!r}.")
            request.give()
