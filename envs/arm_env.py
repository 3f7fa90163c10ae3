"""`ArmEnv`: an arm and a task as a `gymnasium.Env`. Simulation and hardware are the same class."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from understudy.datasets.align import Aligned
from understudy.datasets.schema import is_image
from understudy.envs.arms.arm import Arm, Start
from understudy.envs.control import Control
from understudy.envs.randomization import Randomization
from understudy.envs.tasks.task import Task, Verdict

Observations = dict[str, NDArray[Any]]


class ArmEnv(gymnasium.Env[Observations, NDArray[np.float32]]):
    """Actions are the task's action space normalised to [-1, 1]; observations a dict of the task's keys.

    `info` of every step holds `success` (held long enough), `requested`, `sent` and `measured` (A,) in units, and of
    `reset` the `start`. The episode ends on success, unless `fixed_horizon`, and is truncated at the task's horizon.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - gymnasium's own attribute

    def __init__(
        self,
        arm: Arm,
        task: Task,
        *,
        fixed_horizon: bool = False,
        randomization: Randomization | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Args:
        arm: SimArm, RosArm or FakeArm, usually inside a Guard.
        task: what to do.
        fixed_horizon: never end before the horizon (adversarial learners need equal lengths).
        randomization: physical parameters drawn at each reset; None leaves the nominal ones.
        render_mode: rgb_array, where the arm can `render()`.
        """
        self.task = task
        self.control = Control(arm, task.action_space, task.observation_keys, action_labels=task.action_labels)
        self.spec_units = self.control.actions.spec
        self.fixed_horizon = fixed_horizon
        self.randomization = randomization
        self.render_mode = render_mode
        self.verdict = Verdict(task, self.control.robot.rate_hz)
        self.action_space = spaces.Box(-1.0, 1.0, (self.spec_units.size,), np.float32)
        self.observation_space = spaces.Dict({key: self._space(key) for key in task.observation_keys})
        self._steps = 0
        self.aligned: Aligned | None = None

    def _space(self, key: str) -> spaces.Box:
        if is_image(key):
            camera = self.control.robot.ros.cameras[key.removeprefix("image_")]
            return spaces.Box(0, 255, (camera.height, camera.width, 3), np.uint8)
        size = {"joint": len(self.control.robot.joints), "gripper": 1}.get(key.split("_")[0])
        size = size or (4 if key.endswith("_quaternion") else 3)
        return spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Begin an episode. `options={"start": Start}` sets how; otherwise the task draws it from the seed."""
        super().reset(seed=seed)
        start: Start = (options or {}).get("start") or self.draw_start(self.np_random)
        self._steps = 0
        self.verdict.reset()
        self.aligned = self.control.reset(start)
        return dict(self.aligned.values), {"start": start}

    def draw_start(self, rng: np.random.Generator) -> Start:
        """The task's start with this environment's randomized physics."""
        start = self.task.start(self.control.robot, rng)
        if self.randomization is None:
            return start
        return dataclasses.replace(start, physics=self.randomization.sample(rng), seed=int(rng.integers(2**31)))

    def step(self, action: NDArray[np.float32]) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """One control period with an action (A,) in [-1, 1]."""
        return self.step_units(self.spec_units.denormalise(action))

    def step_units(self, requested: NDArray[np.float64]) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """One control period with an action (A,) in the units of `spec_units`."""
        requested = np.array(requested, np.float64)
        before = self.control.state()
        sent, command = self.control.apply(requested)
        self.aligned = self.control.wait()
        measured = self.control.actions.encode(before, self.control.state())
        self._steps += 1
        score = self.verdict.judge(self.aligned.values)
        info = {
            "success": self.verdict.success,
            "requested": requested,
            "sent": sent,
            "measured": measured,
            "command": command,
        }
        terminated = self.verdict.success and not self.fixed_horizon
        truncated = not terminated and self._steps >= self.task.horizon
        return dict(self.aligned.values), score.reward, terminated, truncated, info

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """An rgb_array (H, W, 3) from the arm's `render()`, where it has one."""
        if self.render_mode != "rgb_array":
            return None
        arm: Any = self.control.arm
        while not hasattr(arm, "render") and hasattr(arm, "inner"):
            arm = arm.inner
        return arm.render() if hasattr(arm, "render") else None

    def close(self) -> None:
        """Close the arm."""
        self.control.arm.close()
