"""What a session looks like at one moment, for whoever shows or drives it: the page, the terminal, ROS 2.

Owns the words of a wish and of a view. Everything here is plain data that nobody can change.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from understudy.capture.movers import Mover
from understudy.capture.session_states import WISHES, State, Wish

__all__ = ["WISHES", "Finding", "SessionView", "State", "StreamLight", "Wish"]


@dataclass(frozen=True)
class StreamLight:
    """How one stream (an observation key, a camera, a topic) is doing."""

    name: str
    state: Literal["alive", "slow", "stale", "missing"]
    rate_hz: float
    """Over the latest samples; 0 before two have come."""
    expected_hz: float | None
    """What it should be; None where nobody knows."""
    age_s: float
    """Of the latest sample, now."""
    longest_gap_s: float
    lost: int
    """Samples that are known to be lost."""
    why: str = ""
    """Why it is not alive, as a clause; empty for one that is."""


@dataclass(frozen=True)
class Finding:
    """Something the gate has to say about a take."""

    severity: Literal["warning", "failure"]
    """A failure keeps a take from being started or kept, unless the operator insists."""
    where: Literal["before", "during", "after"]
    text: str


@dataclass(frozen=True)
class SessionView:
    """One moment of a session."""

    revision: int
    """Grows with every change; two views with the same revision are the same."""
    state: State
    possible: tuple[Wish, ...]
    """What may be asked now."""
    task: str
    robot: str
    device: str
    operator: str
    device_lost: bool = False
    moved_by: Mover = "session"
    """Who moves the arm; where it is not the session, nothing here can hold it."""
    holding: bool = True
    """The arm is told to stay where it is, and nothing that the device says moves it."""
    when_gone: str = ""
    """What is true of the arm once a front hears nothing of the session any more, for people."""
    dataset: str = ""
    """The folder of the dataset."""
    episodes: int = 0
    """How many the dataset holds."""
    aim: int | None = None
    """How many it shall hold at the end; None: as many as there come."""
    kept: tuple[str, ...] = ()
    """Ids kept in this session, the latest last."""
    waiting: tuple[str, ...] = ()
    """Ids of takes of this session that nobody has decided on: offered again later."""
    steps: int = 0
    """Of the take in hand."""
    elapsed_s: float = 0.0
    """Length of the take in hand, on the arm's clock, s."""
    max_s: float = 0.0
    """A take stops by itself after this long, s."""
    countdown_s: float = 0.0
    """Until recording begins, s; 0 while nothing counts down."""
    success: bool | None = None
    """The verdict on the take in hand, the operator's if there is one."""
    marked: bool | None = None
    """The operator's own verdict; None while there is none."""
    intervening: bool = False
    """The operator has taken over; steps recorded now are marked as interventions."""
    note: str = ""
    prompt: str = ""
    """What the operator should do next, one sentence."""
    message: str = ""
    """What has just happened, one sentence."""
    lights: tuple[StreamLight, ...] = ()
    findings: tuple[Finding, ...] = ()
    cameras: tuple[str, ...] = ()
    """Cameras whose picture can be had."""
    joint_position: tuple[float, ...] = ()
    """(J,) rad."""
    joint_names: tuple[str, ...] = ()
    joint_lower: tuple[float, ...] = ()
    joint_upper: tuple[float, ...] = ()
    gripper_m: float | None = None
    """Opening, m."""
    gripper_max_m: float | None = None
    gripper_asked_m: float | None = None
    """Opening asked for at the latest step of the take, by whoever drove, m; None while nothing is recorded."""
    tool_position: tuple[float, float, float] | None = None
    """m, base frame."""
    finished: bool = False
    """The dataset holds what was aimed at, or the operator has quit."""
    error: str = ""
    """What went wrong last; empty once something has gone right since."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, field by field."""
        return dataclasses.asdict(self)
