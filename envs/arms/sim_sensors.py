"""What an episode's sensors make of the truth: noise, constant errors, delay, readings that do not arrive.

Every random number follows from the episode's seed and the time of the reading, so that the same reading taken twice is
the same, and a replay meets the same noise whatever else was read in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.envs.arms.rotations import quaternion_multiply, yaw_quaternion
from understudy.envs.parameters import NOMINAL

Array = NDArray[Any]
_ONCE, _JOINTS, _OBJECTS, _COMMAND, _DROPS = range(5)
"""What random numbers are for: each has a sequence of its own."""
_PERFECT = (
    "observation_delay_s",
    "position_noise_m",
    "position_bias_x_m",
    "position_bias_y_m",
    "position_bias_z_m",
    "orientation_noise_rad",
    "orientation_bias_rad",
    "joint_noise_rad",
    "joint_bias_rad",
    "joint_velocity_noise_rad_s",
    "joint_velocity_bias_rad_s",
    "object_drop_chance",
    "joint_drop_chance",
)


@dataclass(frozen=True)
class Truth:
    """What there is to be read at one instant."""

    stamp_ns: int
    joints: Mapping[str, Array]
    """joint_position (J,), joint_velocity (J,), joint_effort (J,), gripper_position (1,)."""
    objects: Mapping[str, Array]
    """`<name>_position` (3,), `<name>_quaternion` (4,), `<name>_opening` (1,)."""


@dataclass(frozen=True)
class SensorState:
    """What sensors remember from one reading to the next."""

    begin_ns: int
    seed: int
    physics: Mapping[str, float]
    past: tuple[Truth, ...]
    """Oldest first; only as far back as the delay reaches."""
    arrived: Mapping[str, tuple[int, Mapping[str, Array]]]
    """Chance of being dropped, by name -> the reading of that kind that arrived last, with its stamp."""


class SimSensors:
    """The sensors of one arm."""

    def __init__(self, joints: int, longest_gap_ns: int) -> None:
        """Args:
        joints: how many.
        longest_gap_ns: readings that are dropped never leave a gap longer than this.
        """
        self._count = joints
        self._longest_gap_ns = longest_gap_ns
        self._past: deque[Truth] = deque()
        self._arrived: dict[str, tuple[int, Mapping[str, Array]]] = {}
        self.begin(0, 0, NOMINAL)

    def begin(self, now_ns: int, seed: int, physics: Mapping[str, float]) -> None:
        """An episode begins; `physics` names every parameter."""
        self._begin_ns, self._seed, self._physics = now_ns, seed, physics
        self._delay_ns = round(physics["observation_delay_s"] * 1e9)
        self.delayed = self._delay_ns > 0
        """Whether `remember` must be told the truth of every physics step."""
        self._perfect = all(physics[name] == 0.0 for name in _PERFECT)
        self._past.clear()
        self._arrived = {}
        rng = self._rng(_ONCE, now_ns)
        self._joint_bias = rng.normal(0.0, physics["joint_bias_rad"], self._count)
        self._velocity_bias = rng.normal(0.0, physics["joint_velocity_bias_rad_s"], self._count)

    def remember(self, truth: Truth) -> None:
        """Keep the truth of an instant until the delay has passed."""
        self._past.append(truth)
        while len(self._past) > 1 and self._past[1].stamp_ns <= truth.stamp_ns - self._delay_ns:
            self._past.popleft()

    def read(self, truth: Truth) -> tuple[dict[str, Array], dict[str, int]]:
        """(values, stamps in ns) that arrive now; a delayed reading is stamped as new, one that was dropped as old."""
        now_ns = truth.stamp_ns
        if self._perfect:
            exact = {**truth.joints, **truth.objects}
            return exact, dict.fromkeys(exact, now_ns)
        if self._past:
            # the first of an episode stands for what was before it
            due = [past for past in self._past if past.stamp_ns <= now_ns - self._delay_ns]
            truth = due[-1] if due else self._past[0]
        values: dict[str, Array] = {}
        stamps: dict[str, int] = {}
        drops = self._rng(_DROPS, now_ns).random(2)
        parts = (("joint_drop_chance", self._joints), ("object_drop_chance", self._objects))
        for (chance, read), drawn in zip(parts, drops, strict=True):
            last = self._arrived.get(chance)
            if last is None or drawn >= self._physics[chance] or now_ns - last[0] > self._longest_gap_ns:
                last = self._arrived[chance] = (now_ns, read(now_ns, truth))
            values |= last[1]
            stamps |= dict.fromkeys(last[1], last[0])
        return values, stamps

    def command_lateness_ns(self, now_ns: int) -> int:
        """How much later than its delay a command sent now acts, ns."""
        jitter_s = self._physics["control_jitter_s"]
        return round(float(self._rng(_COMMAND, now_ns).uniform(0.0, jitter_s)) * 1e9) if jitter_s > 0 else 0

    def state(self) -> SensorState:
        """What `restore` needs to go on exactly as from here."""
        return SensorState(self._begin_ns, self._seed, self._physics, tuple(self._past), dict(self._arrived))

    def restore(self, state: SensorState) -> None:
        """Go on from `state`."""
        self.begin(state.begin_ns, state.seed, state.physics)
        self._past, self._arrived = deque(state.past), dict(state.arrived)

    def _joints(self, now_ns: int, truth: Truth) -> dict[str, Array]:
        values, physics = dict(truth.joints), self._physics
        rng = self._rng(_JOINTS, now_ns)
        noise = rng.normal(0.0, physics["joint_noise_rad"], self._count)
        values["joint_position"] = values["joint_position"] + self._joint_bias + noise
        noise = rng.normal(0.0, physics["joint_velocity_noise_rad_s"], self._count)
        values["joint_velocity"] = values["joint_velocity"] + self._velocity_bias + noise
        return values

    def _objects(self, now_ns: int, truth: Truth) -> dict[str, Array]:
        values, physics = dict(truth.objects), self._physics
        rng = self._rng(_OBJECTS, now_ns)
        bias = np.array([physics[f"position_bias_{axis}_m"] for axis in "xyz"])
        turn = yaw_quaternion(physics["orientation_bias_rad"])
        for key, value in truth.objects.items():
            if key.endswith("_position"):
                values[key] = value + bias + rng.normal(0.0, physics["position_noise_m"], 3)
            elif key.endswith("_quaternion"):
                half = 0.5 * rng.normal(0.0, physics["orientation_noise_rad"], 3)
                noise = np.array([*half, 1.0]) / np.sqrt(1.0 + half @ half)  # small angles
                values[key] = quaternion_multiply(noise, quaternion_multiply(turn, value))
        return values

    def _rng(self, purpose: int, now_ns: int) -> np.random.Generator:
        since = max(0, now_ns - self._begin_ns)
        return np.random.Generator(np.random.Philox(key=self._seed, counter=[0, 0, purpose, since]))
