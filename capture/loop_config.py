"""How a session is driven: what the loop around it may be told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from understudy.capture.gate import GateConfig
from understudy.errors import InputError


@dataclass(frozen=True)
class LoopConfig:
    """How a session is driven."""

    aim: int | None = None
    """Episodes that the dataset shall hold at the end; None: as many as there come."""
    countdown_s: float = 0.0
    """From the wish to start until recording begins, s."""
    auto_prepare: bool = True
    """Prepare the next take as soon as one was kept or dropped."""
    resume_takes: bool = False
    """Begin with the takes that were left in `recording/`, one after the other, in review."""
    attend_s: float | None = None
    """While recording, the arm holds when no front has asked anything for this long, s; None: nobody needs to."""
    picture_hz: float = 10.0
    """Pictures of a camera are renewed at most this often."""
    view_hz: float = 20.0
    """The view is renewed at most this often while nothing but numbers change."""
    gate: GateConfig = field(default_factory=GateConfig)

    def __post_init__(self) -> None:
        if self.aim is not None and self.aim < 1:
            raise InputError(f"A session's aim must be at least one episode, got {self.aim}.")
        if not (math.isfinite(self.countdown_s) and self.countdown_s >= 0.0):
            raise InputError(f"The countdown must be a number of seconds, at least 0, got {self.countdown_s}.")
        if self.attend_s is not None and not (math.isfinite(self.attend_s) and self.attend_s > 0.0):
            raise InputError(f"The time to attend must be a positive number of seconds or None, got {self.attend_s}.")
        for name in ("picture_hz", "view_hz"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0.0):
                raise InputError(f"A session's {name} must be a positive number of Hz, got {getattr(self, name)}.")
