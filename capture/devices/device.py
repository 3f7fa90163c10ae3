"""What a teleoperation device is: asked once a tick, it answers with an action in units and what was pressed.

A device never blocks and never raises for what a person or a cable does: a device that is lost asks for nothing to move
(`neutral`) and says `lost`, once. One that comes back says `back`, and moves nothing until start is pressed on it anew
or the next episode is prepared (`reset`). What every device owes is proved by `tests/conformance/device.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec

Event = Literal[
    "start", "stop", "keep", "drop", "undo", "redo", "success", "failure", "unmark", "intervene", "release", "hold",
    "quit", "lost", "back",
]  # fmt: skip
"""What an operator can ask of a session, and how the device is: gone (`lost`), there again (`back`)."""
PRESSABLE: tuple[Event, ...] = tuple(event for event in get_args(Event) if event not in ("lost", "back"))
"""Events that a button or key may be given."""


@dataclass(frozen=True)
class DeviceReading:
    """One answer of a device."""

    action: NDArray[np.float64]
    """(A,) in the units of the action spec, inside its bounds."""
    events: tuple[Event, ...] = ()
    """What was pressed since the last reading, in order."""
    message: str = ""
    """What the operator should know now (why nothing moves, what is missing), one sentence; empty for nothing."""


class Device(Protocol):
    """A way for somebody to move the arm.

    A device may also have `start_pressed()`, called when recording has begun whoever asked for it (one that was lost
    and is back moves the arm again, a recorded input begins), `help`, lines that say what its controls do, and
    `drives`, whether it moves the arm as of the last reading, where it may wait to do so.
    """

    name: str

    @property
    def lost(self) -> bool:
        """Whether it is gone (unplugged, closed, silent) as of the last reading."""

    def reset(self, observation: Mapping[str, NDArray[Any]]) -> None:
        """An episode is about to begin with this observation (key -> array)."""

    def read(self, aligned: Aligned) -> DeviceReading:
        """What the operator asks for at this tick; never blocks."""

    def close(self) -> None:
        """Release everything; safe to call twice."""


def neutral(spec: ActionSpec, aligned: Aligned, gripper_m: float | None = None) -> NDArray[np.float64]:
    """The action (A,) that moves nothing: no step, joints where they are, the gripper at `gripper_m` or as it is.

    Args:
        spec: the action space.
        aligned: where the arm is now.
        gripper_m: opening to keep asking for; None takes the measured one.
    """
    action = np.zeros(spec.size)
    if spec.name == "joint_position":
        joints = np.asarray(aligned.values["joint_position"], np.float64)
        action[: len(joints)] = joints
    if "gripper" in spec.labels:
        measured = aligned.values.get("gripper_position", np.zeros(1))
        width = float(np.ravel(measured)[0]) if gripper_m is None else gripper_m
        action[spec.labels.index("gripper")] = width
    return np.clip(action, spec.low, spec.high)
