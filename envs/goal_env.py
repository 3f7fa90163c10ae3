"""`GoalEnv`: a task whose success is a distance, with the interface that hindsight experience replay needs.

Every step is judged from two observations alone, what has been achieved and what is desired, so that a learner can ask
what an episode would have earned with another goal. Episodes end at the horizon only: an end on success would depend
on the goal.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from understudy.envs.arm_env import BOUND, REWARDS, Observations, Reward, Snapshot
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.make import make_env
from understudy.envs.randomization import Randomizer
from understudy.envs.tasks.task import known_tasks, make_task
from understudy.errors import InputError, unknown_name


class GoalEnv(gymnasium.Env[Observations, NDArray[np.float32]]):
    """Observations are `observation` (the task's others, one after the other), `achieved_goal` and `desired_goal`.

    Reward, sparse: 0 where the goal is reached, else -1. Shaped: minus the distance to it, m. `info` is the task's and
    `is_success`: reached in this very step.
    """

    def __init__(
        self,
        task: str,
        robot: str | RobotDescription = "panda",
        *,
        randomization: Randomizer | None = None,
        reward: Reward = "sparse",
        render_mode: str | None = None,
    ) -> None:
        """Args:
        task: name of a task that has a goal.
        robot: shipped name, path of a YAML file, or a description.
        randomization: physics drawn at each reset; None for nominal.
        reward: sparse or shaped.
        render_mode: rgb_array, human or None.

        Raises:
            InputError: the task has no goal; or see `make_env`.
        """
        goal = make_task(task).goal
        if goal is None:
            able = [name for name in known_tasks() if make_task(name).goal is not None]
            raise InputError(
                f"Task {task!r} has no goal of its own to be judged by, so it cannot be learned in hindsight; "
                f"those that can: {', '.join(able)}."
            )
        if reward not in REWARDS:
            raise unknown_name("reward", str(reward), REWARDS)
        self.goal = goal
        self.reward = reward
        self.arm_env = make_env(task, robot, fixed_horizon=True, randomization=randomization, render_mode=render_mode)
        self.render_mode = render_mode
        self.metadata = self.arm_env.metadata
        self.action_space = self.arm_env.action_space
        whole = self.arm_env.observation_space
        assert isinstance(whole, spaces.Dict)
        parts = whole.spaces
        self._keys = [key for key in parts if key != goal.desired]
        size = sum(int(np.prod(parts[key].shape or ())) for key in self._keys)

        def box(count: int) -> spaces.Box:
            return spaces.Box(-BOUND, BOUND, (count,), np.float32)

        self.observation_space = spaces.Dict(
            {"observation": box(size), "achieved_goal": box(3), "desired_goal": box(3)}
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Begin an episode; see `ArmEnv`."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        observation, info = self.arm_env.reset(seed=seed, options=options)
        seen = self._goal_observation(observation)
        return seen, info | {"is_success": self._reached(seen)}

    def step(self, action: NDArray[np.float32]) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """One control period with an action (A,) in [-1, 1]."""
        observation, _, terminated, truncated, info = self.arm_env.step(action)
        seen = self._goal_observation(observation)
        info["is_success"] = self._reached(seen)
        reward = float(self.compute_reward(seen["achieved_goal"], seen["desired_goal"], info))
        return seen, reward, terminated, truncated, info

    def compute_reward(self, achieved_goal: NDArray[Any], desired_goal: NDArray[Any], info: Any) -> NDArray[np.float32]:
        """(...) rewards of goals achieved (..., 3) where (..., 3) were desired; `info` is not needed.

        Raises:
            InputError: the shapes differ, or are not of points.
        """
        shapes = np.shape(achieved_goal), np.shape(desired_goal)
        if shapes[0] != shapes[1] or shapes[0][-1:] != (3,):
            raise InputError(
                f"Goals achieved have shape {shapes[0]} and goals desired {shapes[1]}; expected one shape, (..., 3) m."
            )
        if self.reward == "sparse":
            return self.goal.reached(achieved_goal, desired_goal).astype(np.float32) - np.float32(1.0)
        return -self.goal.distance(achieved_goal, desired_goal).astype(np.float32)

    def save(self) -> Snapshot:
        """See `ArmEnv`."""
        return self.arm_env.save()

    def restore(self, snapshot: Snapshot) -> Observations:
        """See `ArmEnv`; returns the observation of that moment."""
        return self._goal_observation(self.arm_env.restore(snapshot))

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """See `ArmEnv`."""
        return self.arm_env.render()

    def close(self) -> None:
        """Close the arm and the window."""
        self.arm_env.close()

    def _reached(self, seen: Observations) -> bool:
        return bool(self.goal.reached(seen["achieved_goal"], seen["desired_goal"]))

    def _goal_observation(self, observation: Observations) -> Observations:
        return {
            "observation": np.concatenate([observation[key].ravel() for key in self._keys]),
            "achieved_goal": observation[self.goal.achieved].copy(),
            "desired_goal": observation[self.goal.desired].copy(),
        }
