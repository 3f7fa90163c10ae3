"""What happens when somebody wishes something of a session: the wish, the gate's word on it, and what is said of it.

Owns the countdown and the operator's second word: a take that the gate finds failing is started or kept only when that
is asked for twice, or with the word "anyway". Used by the session's thread alone; `session_loop.py` brings the wishes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator

import numpy as np

from understudy.capture.gate import Gate, failures
from understudy.capture.loop_config import LoopConfig
from understudy.capture.movers import HELD
from understudy.capture.session import Session
from understudy.capture.session_view import Finding, Wish
from understudy.datasets.index import INDEX
from understudy.datasets.store import Dataset
from understudy.envs.arms.clock import Clock
from understudy.errors import DatasetError, InputError, RecordingError, UnderstudyError

ANYWAY = "anyway"
"""The word with which `keep` and `start` go through at once, whatever the gate found."""

REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Free some space"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Correct the permissions"),
    **dict.fromkeys((errno.EAGAIN, errno.EBUSY, errno.ETXTBSY), "Close the program that holds the file"),
}
"""Why the disk failed -> what to do; for anything else, the disk is to be looked at."""

REFUSALS = ("Not started", "Not kept yet")
"""How an answer begins that asks for the operator's second word."""


class SessionWishes:
    """Grants wishes; `message`, `error` and `findings` are what came of the latest."""

    def __init__(
        self, session: Session, gate: Gate, config: LoopConfig, seeds: Iterator[int] | None, clock: Clock
    ) -> None:
        """Args:
        session: what is driven.
        gate: judges its takes.
        config: countdown and aim.
        seeds: of the episodes to come; None: the next that nobody has claimed.
        clock: measures the countdown.
        """
        self.message = self.error = self.unreadable = ""
        """The last says why the dataset's index cannot be read now."""
        self.failure: UnderstudyError | None = None
        """What went wrong last; None once something has gone right since."""
        self.findings: tuple[Finding, ...] = ()
        self.countdown_ns: int | None = None
        """When recording begins, on the clock; None while nothing counts down."""
        self.closed = False
        self.dropped = 0
        """Takes that were dropped."""
        self.on_saving: Callable[[], None] = lambda: None
        """Called before a take is written for good, which may take a while."""
        self.on_prepared: Callable[[], None] = lambda: None
        """Called when the arm is at the start, before the gate looks."""
        self._session, self._gate, self._config, self._clock = session, gate, config, clock
        self._seeds = seeds or fresh_seeds(session.dataset, 0)
        self._insisting: Wish | None = None
        self._counted = (-1, 0)

    def possible(self) -> tuple[Wish, ...]:
        """What may be asked now."""
        if self.closed:
            return ()
        return ("drop", "hold") if self.countdown_ns is not None else self._session.wishes

    def do(self, wish: Wish, text: str = "") -> str:
        """Do what is asked for, and say what happened.

        Raises:
            InputError: it cannot be now; says what can.
            UnderstudyError: it failed.
        """
        if wish not in self.possible():
            counting = " and counts down" if self.countdown_ns is not None else ""
            raise InputError(
                f"Cannot {wish} while the session is {self._session.state}{counting}; possible now: "
                f"{', '.join(self.possible()) or 'nothing'}."
            )
        if wish != self._insisting:
            self._insisting = None
        acts: dict[Wish, Callable[[str], str]] = {
            "prepare": self._prepare, "start": self._start, "stop": self._stop, "keep": self._keep,
            "drop": self._drop, "undo": self._undo, "redo": self._redo, "success": self._success,
            "failure": self._failure, "unmark": self._unmark, "note": self._note, "intervene": self._intervene,
            "release": self._release, "hold": self._hold,
        }  # fmt: skip
        return self.guarded(lambda: acts[wish](text), wish)

    def guarded(self, act: Callable[[], str], what: str = "go on") -> str:
        """Do something that says what happened, and remember that, or what went wrong.

        Args:
            act: does it.
            what: it is, as in "Could not keep".

        Raises:
            UnderstudyError: it went wrong; a failure of the disk is a RecordingError with what to do.
        """
        try:
            self.message = act()
        except (UnderstudyError, OSError) as error:
            failed = self._failed(what, error)
            self.error, self.failure = str(failed), failed
            raise failed from error.__cause__ if failed is error else error
        self.error, self.failure = "", None
        return self.message

    def _failed(self, what: str, error: UnderstudyError | OSError) -> UnderstudyError:
        """What went wrong, in words that also say where the take is."""
        take = ""
        if what in ("keep", "drop") and not isinstance(error, InputError):
            take = " The take is not lost: it is still in review." if self._session.state == "review" else ""
            take = take or (" What was written of the take waits to be reviewed." if self._session.unfinished else "")
        if isinstance(error, OSError):
            where = f" ({error.filename})" if error.filename else ""
            remedy = REMEDIES.get(error.errno or 0, "Look at the disk")
            reason = error.strerror or " ".join(str(error).split())
            return RecordingError(f"Could not {what}: {reason}{where}. {remedy}, then ask for {what} again.{take}")
        return RecordingError(f"{error}{take}") if take else error

    @property
    def episodes(self) -> int:
        """How many episodes the dataset holds; anybody may change that.

        Counting them is slow, and may fail: while a take is recorded nobody counts, and what cannot be read now is
        `unreadable`, and the number stays as it was.
        """
        if self._session.state != "recording":
            try:
                stamp = os.stat(self._session.dataset.path / INDEX).st_mtime_ns
                if stamp != self._counted[0]:
                    self._counted = (stamp, len(self._session.dataset))
                self.unreadable = ""
            except (OSError, DatasetError) as error:
                self.unreadable = f"The dataset's index cannot be read: {error}"
        return self._counted[1]

    @property
    def aim_reached(self) -> bool:
        """Whether the dataset holds as many as it shall."""
        return self._config.aim is not None and self.episodes >= self._config.aim

    @property
    def why_failing(self) -> str:
        """The failures that the gate has found, as one text; empty where there are none."""
        return "; ".join(failures(self.findings))

    def count_down(self) -> None:
        """Begin to record when the countdown is over.

        Raises:
            UnderstudyError: recording could not begin.
        """
        if self.countdown_ns is not None and self._clock.now_ns() >= self.countdown_ns:
            self.guarded(self._begin, "start")

    def resume(self, id: str) -> str:
        """Take up a take that was left in `recording/`, and judge it; says what it is."""
        self._session.resume(id)
        self.findings = self._gate.after()
        return f"Take {id} was left by an interruption, with {self._session.steps} steps: keep it or drop it."

    def ended(self, why: str) -> str:
        """A take has come to its end: judge it, and say so."""
        self.findings = self._gate.after()
        failing = f" It fails: {self.why_failing}." if self.why_failing else ""
        lost = f" {self._session.device_says}" if why == "device lost" else ""
        return f"Take ended ({why}) after {self._session.steps} steps.{lost}{failing}"

    def broke(self, fault: UnderstudyError) -> None:
        """A fault has ended the take that is in review now: judge it, the fault included."""
        self._gate.broke(str(fault))
        self.guarded(lambda: self.ended("fault"))

    # each wish

    def _prepare(self, text: str) -> str:
        if text:
            return self.resume(text)
        seed = next(self._seeds)
        reseed = getattr(self._session.device, "reseed", None)
        if reseed is not None:
            reseed(np.random.default_rng([seed, 1]))  # another imagined person for every episode
        self._session.prepare(seed=seed)
        self.on_prepared()
        self.findings = self._gate.before()
        return "The next take is prepared."

    def _start(self, text: str) -> str:
        self.findings = self._gate.before()
        if refused := self._refused("start", REFUSALS[0], text):
            return refused
        if self._config.countdown_s > 0:
            self.countdown_ns = self._clock.now_ns() + round(self._config.countdown_s * 1e9)
            return f"Recording begins in {self._config.countdown_s:g} s."
        return self._begin()

    def _begin(self) -> str:
        self.countdown_ns = None
        self._session.start()
        self._gate.begin()
        self.findings = ()
        return "Recording."

    def _stop(self, text: str) -> str:
        self._end(self._session.stop)
        return self.ended("stopped by the operator")

    def _end(self, end: Callable[[], None]) -> None:
        """End the take in hand; it is judged also where the arm could not be told to hold."""
        try:
            end()
        except UnderstudyError as fault:
            if self._session.state == "review":
                self.broke(fault)
            raise

    def _hold(self, text: str) -> str:
        recording, moved_by = self._session.state == "recording", self._session.moved_by
        self.countdown_ns = None
        if not recording:
            self._session.hold()
            return HELD[moved_by]
        self._end(self._session.hold)
        return self.ended("the arm holds") if moved_by == "session" else f"{self.ended('hold')} {HELD[moved_by]}"

    def _keep(self, text: str) -> str:
        failing = self.why_failing
        if refused := self._refused("keep", REFUSALS[1], text):
            return refused
        if failing:
            self._session.note(f"kept in spite of: {failing}")
        self.on_saving()
        id = self._session.keep()
        self._gate.kept(id)
        self.findings = ()
        return self._told(f"Kept {id}; the dataset holds {self.episodes}.")

    def _drop(self, text: str) -> str:
        if self.countdown_ns is not None:
            self.countdown_ns = None
            return "The countdown is cancelled."
        had_steps = self._session.steps > 0
        self._session.drop()
        self.dropped += had_steps
        self.findings = ()
        return self._told("The take was dropped; it is in the trash." if had_steps else "Nothing was recorded.")

    def _undo(self, text: str) -> str:
        return self._told(f"Took back {self._session.undo()}; redo brings it back.")

    def _redo(self, text: str) -> str:
        return self._told(f"Brought back {self._session.redo()}.")

    def _told(self, what: str) -> str:
        """What was done, and what is to be said of how."""
        return " ".join(part for part in (what, self._session.warning) if part)

    def _success(self, text: str) -> str:
        return self._marked(True)

    def _failure(self, text: str) -> str:
        return self._marked(False)

    def _marked(self, success: bool) -> str:
        """A verdict; one that is given while a take is recorded also ends it, as it does from any device."""
        self._session.mark(success)
        word = "success" if success else "failure"
        if self._session.state == "recording":
            self._end(self._session.stop)
            return self.ended(f"marked as {word}")
        return f"Marked as {word}."

    def _unmark(self, text: str) -> str:
        self._session.mark(None)
        return "The mark is taken back; the task judges."

    def _note(self, text: str) -> str:
        if not text.strip():
            raise InputError("A note needs words: ask for 'note' with a text.")
        self._session.note(text.strip())
        return f"Noted: {text.strip()}"

    def _intervene(self, text: str) -> str:
        self._session.intervene()
        return "You have taken over; steps are marked as interventions."

    def _release(self, text: str) -> str:
        self._session.release()
        return "Handed back; steps are no longer marked."

    def _refused(self, wish: Wish, what: str, text: str) -> str:
        """Why a failing take is not started or kept at once; empty when it is, or when the operator insists."""
        failing = self.why_failing
        insisted = self._insisting == wish or text.strip().lower() == ANYWAY
        self._insisting = None
        if not failing or insisted:
            return ""
        self._insisting = wish
        return f"{what}: {failing}. Ask for {wish} once more to do it anyway."


class _FreshSeeds:
    """See `fresh_seeds`. No generator: one that a failing disk has broken off yields nothing ever after."""

    def __init__(self, dataset: Dataset, first: int) -> None:
        self._dataset, self._first = dataset, first
        self._next: int | None = None

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self._next is None:
            used = {self._dataset.summary(id).info.seed for id in self._dataset.select(unreadable={})}
            self._next = max([self._first, *(one + 1 for one in used if one is not None and one >= self._first)])
        seed = self._dataset.claim_seed(self._next)
        self._next = seed + 1
        return seed


def fresh_seeds(dataset: Dataset, first: int) -> Iterator[int]:
    """Seeds that no episode of the dataset used and no other recorder has claimed, from `first` on."""
    return _FreshSeeds(dataset, first)
