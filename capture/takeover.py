"""Taking over from a policy, and handing back: DAgger-style interventions, from any device.

A policy drives; the operator watches with a device in the hand. Moving it takes over at once, and so does the wish
`intervene` (a button, the page, a service). Only `release` hands back: a pause of the hand is not a wish to let go.
The session marks each step that the operator drove, so that training can tell them apart (Ross et al. 2011, who label
all states; Kelly et al. 2019, who mark the expert's own part of an episode, as is done here).

Owns who drives. Recording is the session's, and limits are the Guard's: both see one device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.capture.devices.device import Device, DeviceReading, Event, neutral
from understudy.capture.devices.shaping import SPACES
from understudy.datasets.align import Aligned
from understudy.datasets.schema import POLICY_DRIVES, ActionSpec
from understudy.envs.policy import Policy
from understudy.errors import InputError

HELP = "A policy drives. Move the device, or press intervene, to take over; release hands back."
TAKEN = "You drive; release hands back to the policy."


class TakeoverDevice:
    """A device that lets a policy drive until the operator takes over."""

    def __init__(self, policy: Policy, operator: Device, spec: ActionSpec) -> None:
        """Args:
        policy: drives until the operator does; its actions are `spec`'s, normalised to [-1, 1].
        operator: what the operator holds; closed with this.
        spec: the action space of both.

        Raises:
            InputError: the device is one that commands nothing (guiding by hand).
        """
        if getattr(operator, "derived", False):
            raise InputError(
                f"The device {operator.name!r} commands nothing, so it cannot take over from a policy; choose a game "
                "pad, a keyboard, a leader arm or the browser."
            )
        self.name = f"{POLICY_DRIVES}{operator.name}"
        self.intervening = False
        """Whether the operator drives."""
        self._policy = policy
        self.operator = operator
        self._spec = spec
        self._grip = spec.labels.index("gripper") if "gripper" in spec.labels else None
        self._moves = np.array([index for index in range(spec.size) if index != self._grip], np.intp)
        self._seen: Mapping[str, NDArray[Any]] = {}
        self._asked_m: float | None = None
        """The opening that was asked for last, by whoever drove."""
        self._pressed_m: float | None = None
        """What the operator's device asked of the gripper at the last reading; None while it leaves it alone."""

    @property
    def lost(self) -> bool:
        """See `Device`: whether the operator's is."""
        return self.operator.lost

    @property
    def drives(self) -> bool:
        """Whether the operator's device moves the arm, where they have taken over: a leader follows only when near."""
        return bool(getattr(self.operator, "drives", True))

    @property
    def help(self) -> str:
        """What the operator's controls do, and how to take over."""
        own = getattr(self.operator, "help", "")
        return f"{own}\n{HELP}" if own else HELP

    def reset(self, observation: Mapping[str, NDArray[Any]]) -> None:
        """See `Device`; the policy drives again."""
        self.intervening = False
        self._seen = observation
        self._asked_m = self._pressed_m = None
        self.operator.reset(observation)
        self._policy.reset()

    def start_pressed(self) -> None:
        """See `Device`. A leader follows from a start on, which here is taking over, and not the episode's."""
        pressed = getattr(self.operator, "start_pressed", None)
        if pressed is not None and not getattr(self.operator, "follows", False):
            pressed()

    def take_over(self) -> None:
        """The operator drives from the next reading on; for the operator's device an episode begins now.

        So a leader arm, which follows from `start_pressed` on, must come near the arm first, and then is followed.
        """
        self.intervening = True
        pressed = getattr(self.operator, "start_pressed", None)
        if pressed is not None:
            pressed()

    def hand_back(self) -> None:
        """The policy drives from the next reading on, as if an episode began there."""
        self.intervening = False
        self._pressed_m = None
        self.operator.reset(self._seen)
        self._policy.reset()

    def poll(self, aligned: Aligned) -> DeviceReading:
        """What the operator pressed while nothing moves; the policy is not asked."""
        return self.operator.read(aligned)

    def read(self, aligned: Aligned) -> DeviceReading:
        """See `Device`; `intervening` then says whose action it is. The operator's `intervene` and `release` end here.

        Raises:
            PolicyFault: what the policy answers is no action; the session then holds the arm.
        """
        theirs, still = self.operator.read(aligned), neutral(self._spec, aligned)
        events: list[Event] = [event for event in theirs.events if event not in ("intervene", "release")]
        pressed_m = self._gripper_pressed(theirs.action, still)
        wishes = [event for event in theirs.events if event in ("intervene", "release")]
        if not wishes and (pressed_m is not None or self._moved(theirs.action, still)):
            wishes = ["intervene"]
        if wishes and (wishes[-1] == "intervene") != self.intervening:
            (self.hand_back if self.intervening else self.take_over)()
        self._seen = aligned.values
        if self.operator.lost:
            action = still  # nobody watches: neither drives
        elif self.intervening:
            action = theirs.action.copy()
        else:
            action = self._spec.denormalise(self._policy.act(aligned.values))
        if self._grip is not None:
            self._keep_grip(action, pressed_m)
        return DeviceReading(action, tuple(events), theirs.message or (TAKEN if self.intervening else ""))

    def _keep_grip(self, action: NDArray[np.float64], pressed_m: float | None) -> None:
        """What a policy grips stays gripped while somebody takes over, until the gripper's button is pressed."""
        if not (self.intervening or self.operator.lost):
            self._asked_m = float(action[self._grip])
        elif pressed_m is not None:
            self._asked_m = pressed_m
        if self._asked_m is not None:
            action[self._grip] = self._asked_m

    def _moved(self, action: NDArray[np.float64], still: NDArray[np.float64]) -> bool:
        """Whether the operator moves the device; where every number is a place, that cannot be told."""
        return self._spec.name in SPACES and not np.array_equal(action[self._moves], still[self._moves])

    def _gripper_pressed(self, action: NDArray[np.float64], still: NDArray[np.float64]) -> float | None:
        """The opening (m) that the operator has just asked for; None while the gripper is left alone."""
        if self._grip is None:
            return None
        asked_m, before_m = float(action[self._grip]), self._pressed_m
        self._pressed_m = asked_m
        return asked_m if asked_m not in (before_m, float(still[self._grip])) and before_m is not None else None

    def close(self) -> None:
        """See `Device`."""
        self.operator.close()
