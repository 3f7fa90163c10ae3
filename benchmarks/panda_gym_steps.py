"""panda-gym's side of `benchmarks/environment.py`: runs in panda-gym's own environment and does what it is told.

Each line of standard input is a JSON object with "do"; each answer is a line of JSON on standard output.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import gymnasium
import panda_gym  # noqa: F401 (registers its environments)


class Peer:
    """One environment, stepped with random actions from episode to episode."""

    def __init__(self, name: str) -> None:
        self._env = gymnasium.make(name)
        self._env.action_space.seed(0)
        self._env.reset(seed=0)

    def facts(self) -> dict[str, Any]:
        """The version, and how much is simulated in a step."""
        simulator: Any = self._env.unwrapped
        substeps, substep_s = simulator.sim.n_substeps, simulator.sim.timestep
        return {"version": metadata.version("panda-gym"), "substeps": substeps, "step_s": substeps * substep_s}

    def run(self, seconds: float, episode: int) -> dict[str, float]:
        """Episodes of so many steps, resets included, for about so long."""
        steps, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            self._env.reset()
            for _ in range(episode):
                self._env.step(self._env.action_space.sample())
            steps += episode
        return {"steps": steps, "seconds": time.perf_counter() - begin}


def main() -> None:
    """Answer orders until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # PyBullet prints; answers go where the orders came from
    peer = Peer(sys.argv[1])
    orders: dict[str, Callable[..., Any]] = {"facts": peer.facts, "run": peer.run}
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(orders[order.pop("do")](**order)), file=answers, flush=True)


if __name__ == "__main__":
    main()
