"""The clock of a simulated arm: waiting on it steps the physics."""

from __future__ import annotations

import time
from collections.abc import Callable

PHYSICS_HZ = 240
"""PyBullet's own default; its contact solver is tuned for it."""


class SimClock:
    """Simulated time. Waiting steps the physics, as fast as it goes or paced to real time."""

    def __init__(self, step_physics: Callable[[int], None], realtime: bool) -> None:
        """Args:
        step_physics: takes one step, which begins at the stamp (ns) it is given.
        realtime: pace it to the wall clock.
        """
        self._step_physics = step_physics
        self._realtime = realtime
        self._steps = 0
        self._start_ns = 0
        self._wall_start_ns = time.monotonic_ns()
        self.late_steps = 0
        """Physics steps that began more than 10 ms behind real time (only when paced)."""

    def now_ns(self) -> int:
        """See `Clock`."""
        return self._start_ns + self._steps * 1_000_000_000 // PHYSICS_HZ

    def restart_count(self) -> None:
        """Count physics steps from now on, so that an episode's stamps are rounded the same whatever came before."""
        self._start_ns, self._steps = self.now_ns(), 0

    @property
    def paced_from_ns(self) -> int:
        """Where stamps begin on the machine's monotonic clock: later, each time that a paced clock fell behind."""
        return self._wall_start_ns

    @property
    def steps(self) -> int:
        """Physics steps since the count was restarted."""
        return self._steps

    def run_to(self, steps: int) -> None:
        """Step the physics until there are so many, as fast as it goes."""
        while self._steps < steps:
            self._step_physics(self.now_ns())
            self._steps += 1

    def save(self) -> tuple[int, int]:
        """What `restore` needs to go back to now."""
        return self._start_ns, self._steps

    def restore(self, state: tuple[int, int]) -> None:
        """Go back to what `save` returned; a paced clock is paced from now on."""
        self._start_ns, self._steps = state
        self._wall_start_ns = time.monotonic_ns() - self.now_ns()

    def sleep_until(self, stamp_ns: int) -> None:
        """Step the physics until `stamp_ns` (to within a microsecond)."""
        step, start_ns, paced = self._step_physics, self._start_ns, self._realtime
        while (now_ns := start_ns + self._steps * 1_000_000_000 // PHYSICS_HZ) + 1000 < stamp_ns:
            step(now_ns)
            self._steps += 1
            if paced:
                self._pace()

    def _pace(self) -> None:
        ahead_ns = self._wall_start_ns + self.now_ns() - time.monotonic_ns()
        if ahead_ns > 0:
            time.sleep(ahead_ns * 1e-9)
        elif ahead_ns < -10_000_000:
            self.late_steps += 1
            self._wall_start_ns -= ahead_ns
