"""What the operator is told to do next: one sentence for every situation of a session."""

from __future__ import annotations

import math

import numpy as np

from understudy.capture.session_states import State
from understudy.envs.arms.arm import Start
from understudy.envs.arms.rotations import quaternion_to_matrix


def prompt(
    state: State,
    *,
    countdown_s: float = 0.0,
    placing: Start | None = None,
    success: bool | None = None,
    failing: bool = False,
    device_lost: bool = False,
    device_says: str = "",
    finished: bool = False,
    steps: int = 0,
) -> str:
    """What to do next.

    Args:
        state: of the session.
        countdown_s: until recording begins, s; 0 while nothing counts down.
        placing: where a person is to put arm and scene; None where nobody needs to.
        success: the verdict so far.
        failing: the gate found a failure, so that starting or keeping must be asked for twice.
        device_lost: the device is gone.
        device_says: what the device would like the operator to know; empty for nothing.
        finished: nothing more is wanted.
        steps: of the take in hand.
    """
    if state in ("ready", "recording") and device_says:
        return device_says
    if device_lost and state in ("ready", "recording"):
        return "The device is gone and the arm holds; bring it back."
    if state == "recording":
        return "Demonstrate the task; stop when it is done."
    if state == "saving":
        return "The take is being saved."
    if state == "review":
        return _review(success, failing, steps)
    if state == "ready":
        return _ready(countdown_s, placing, failing)
    return "All episodes are recorded." if finished else "Prepare the next take."


def _review(success: bool | None, failing: bool, steps: int) -> str:
    if steps == 0:
        return "The take has no steps; drop it."
    if failing:
        return "This take fails the check; drop it, or keep it twice to keep it anyway."
    if success is None:
        return "Nobody has judged the take; keep it or drop it."
    return f"The take is {'a success' if success else 'no success'}; keep it or drop it."


def _ready(countdown_s: float, placing: Start | None, failing: bool) -> str:
    if countdown_s > 0:
        return f"Recording begins in {math.ceil(countdown_s)} s; drop cancels."
    if placing is not None and (places := placed(placing)):
        return f"Put {places}; then start."
    if failing:
        return "Something is not as it should be; mend it, or start twice to record anyway."
    return "Start when you are ready."


def placed(start: Start) -> str:
    """Where every object of a start is to lie, in words, in the robot's base frame."""
    parts = []
    for name, pose in start.objects.items():
        x, y, z = (float(value) for value in pose.position)
        turn = quaternion_to_matrix(np.asarray(pose.quaternion, np.float64))
        degrees = math.degrees(math.atan2(turn[1, 0], turn[0, 0]))
        turned = f", turned {degrees:.0f} degrees" if abs(degrees) >= 1.0 else ""
        parts.append(f"the {name} back to x {x:.2f} m, y {y:.2f} m, z {z:.2f} m{turned}")
    parts += [f"the {name} {opening * 100:.0f} cm open" for name, opening in start.openings.items()]
    return "; ".join(parts)
