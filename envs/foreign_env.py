"""`ForeignEnv`: any other Gymnasium environment (MuJoCo's, gymnasium-robotics', CartPole) as our learners see one.

Observations become a dict of float32 arrays, actions numbers in [-1, 1], and every step says whether the episode has
succeeded. Observations and actions are named as an import of the same environment from Minari names them, so that what
is learned from one can be run in the other. What needs an arm cannot work there: recording by hand, the Guard,
randomized physics, deployment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from understudy.datasets.convert.incoming import foreign_keys, frames_key
from understudy.datasets.schema import ActionSpec, is_image
from understudy.envs.arm_env import Observations
from understudy.envs.tasks.task import known_tasks
from understudy.errors import InputError

NO_ROBOT = "none"
"""What stands for the robot where there is none."""
WHOLE = "observation"
"""Name of an observation that is one array and no dict."""
CHOICE = "choice"
"""Name of the action space of an environment that takes one of n choices."""
DEFAULT_RATE_HZ = 20.0
FOREIGN_WAYS = (
    "Record a policy there from Python (understudy.envs.foreign_recording.record_policy) or import a dataset of it "
    "(understudy dataset import); train bc, finetune and evaluate then take it."
)
"""What works in an environment of others, for those who asked for something else."""
SUCCESS_KEYS = ("is_success", "success")
"""Where environments say in `info` that they are solved, the first that is there."""


def is_foreign(task: str) -> bool:
    """Whether `task` names an environment of Gymnasium's registry rather than a task of ours."""
    return task not in known_tasks() and gymnasium.envs.registration.registry.get(task) is not None


class ForeignEnv(gymnasium.Env[Observations, NDArray[np.float32]]):
    """One environment by its Gymnasium id.

    Observations: the entries of a Dict space as `other_<name>`, or the one array as `other_observation`; pictures as
    `image_<name>`. Actions: a Box is scaled to [-1, 1]; of n choices the one with the highest of n numbers is taken.
    `info["success"]` is the environment's own
    `is_success` or `success`; where it tells neither, whether the episode has ended with a return of at least the id's
    reward threshold; where there is none, False (`judged_by` says which).
    """

    def __init__(self, id: str, *, render_mode: str | None = None) -> None:
        """Raises:
        InputError: the id is unknown or its package missing, or its spaces are none of those above.
        """
        try:
            self._env = gymnasium.make(id, render_mode=render_mode)
        except gymnasium.error.Error as error:
            raise InputError(f"Gymnasium cannot make {id!r}: {error}") from error
        self.id = id
        self.render_mode = render_mode
        self.metadata = self._env.metadata
        self.threshold = None if self._env.spec is None else self._env.spec.reward_threshold
        self._told = False
        self._return = 0.0
        self._names: dict[str, str] = {}
        self.observation_space = self._observation_space(self._env.observation_space)
        self.action_spec = self._action_spec(self._env.action_space)
        self.action_space = spaces.Box(-1.0, 1.0, (self.action_spec.size,), np.float32)

    @property
    def judged_by(self) -> str:
        """What success is taken from; known after the first step."""
        if self._told:
            return "info"
        return "nothing" if self.threshold is None else f"return of at least {self.threshold:g}"

    @property
    def rate_hz(self) -> float:
        """Steps a second: the environment's `render_fps`, or 20 where it names none."""
        return float(self.metadata.get("render_fps") or DEFAULT_RATE_HZ)

    def require_fit(self, spec: ActionSpec, shapes: Mapping[str, Sequence[int]]) -> None:
        """Refuse a policy of another world.

        Args:
            spec: what its actions mean.
            shapes: observation key -> shape, of what it looks at.

        Raises:
            InputError: it looks at something else, or its actions are others.
        """
        assert isinstance(self.observation_space, spaces.Dict)
        seen = {key: space.shape for key, space in self.observation_space.spaces.items()}
        if wrong := {key: tuple(shape) for key, shape in shapes.items() if seen.get(key) != tuple(shape)}:
            raise InputError(
                f"{self.id!r} observes {seen}, and the policy looks at {wrong}; "
                "train it on demonstrations recorded there."
            )
        mine = self.action_spec
        if spec.size != mine.size or not np.allclose([spec.low, spec.high], [mine.low, mine.high]):
            raise InputError(
                f"{self.id!r} takes actions from {list(mine.low)} to {list(mine.high)}, and the policy's go from "
                f"{list(spec.low)} to {list(spec.high)}; train it on demonstrations recorded there."
            )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """See Gymnasium."""
        super().reset(seed=seed)
        self._return = 0.0
        observation, info = self._env.reset(seed=seed, options=options)
        return self._seen(observation), info

    def step(self, action: NDArray[np.float32]) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """One step with an action (A,) in [-1, 1]; what is outside is clipped."""
        observation, reward, terminated, truncated, info = self._env.step(self._native(np.asarray(action)))
        self._return += float(reward)
        said = [info[key] for key in SUCCESS_KEYS if key in info]
        self._told = bool(said)
        # only at the end: where rewards are negative, the return starts above its threshold
        reached = (terminated or truncated) and self.threshold is not None and self._return >= self.threshold
        info = info | {"success": bool(said[0]) if said else bool(reached)}
        return self._seen(observation), float(reward), bool(terminated), bool(truncated), info

    def render(self) -> Any:
        """See Gymnasium."""
        return self._env.render()

    def close(self) -> None:
        """See Gymnasium."""
        self._env.close()  # type: ignore[no-untyped-call]

    def _observation_space(self, space: spaces.Space[Any]) -> spaces.Dict:
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {WHOLE: space}
        for name, part in parts.items():
            if not isinstance(part, spaces.Box):
                raise InputError(f"{self.id!r} observes {part} ({name!r}); only arrays of numbers can be learned from.")
        known = {name: frames_key(name) for name, part in parts.items() if _are_frames(part)}
        self._names = foreign_keys(list(parts), {}, known)
        made: dict[str, spaces.Space[Any]] = {}
        for name, key in self._names.items():
            part, kind = parts[name], np.uint8 if is_image(key) else np.float32
            assert isinstance(part, spaces.Box)
            made[key] = spaces.Box(part.low.astype(kind), part.high.astype(kind), part.shape, kind)
        return spaces.Dict(made)

    def _seen(self, observation: Any) -> Observations:
        parts = observation if isinstance(observation, dict) else {WHOLE: observation}
        return {
            key: np.asarray(parts[name], np.uint8 if is_image(key) else np.float32) for name, key in self._names.items()
        }

    def _action_spec(self, space: spaces.Space[Any]) -> ActionSpec:
        if isinstance(space, spaces.Discrete):
            size, start = int(space.n), int(space.start)
            labels = tuple(f"choice_{start + index}" for index in range(size))
            return ActionSpec(CHOICE, labels, ("preference",) * size, (-1.0,) * size, (1.0,) * size)
        if isinstance(space, spaces.Box) and len(space.shape) == 1 and np.isfinite([space.low, space.high]).all():
            size = space.shape[0]
            labels, units = tuple(f"action_{index}" for index in range(size)), ("the environment's own",) * size
            return ActionSpec("other", labels, units, tuple(map(float, space.low)), tuple(map(float, space.high)))
        raise InputError(f"{self.id!r} takes {space} as actions; expected a bounded row of numbers, or choices.")

    def _native(self, action: NDArray[Any]) -> Any:
        space = self._env.action_space
        if action.shape != self.action_space.shape:
            raise InputError(f"Action for {self.id!r} has shape {action.shape}; expected {self.action_space.shape}.")
        if isinstance(space, spaces.Discrete):
            return int(space.start) + int(np.argmax(action))
        return self.action_spec.denormalise(action).astype(space.dtype)


def _are_frames(space: spaces.Space[Any]) -> bool:
    return space.dtype == np.uint8 and len(space.shape or ()) == 3 and (space.shape or ())[-1] == 3


def require_fit(task: str, spec: ActionSpec, shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse a policy that cannot act in the environment with this id; see `ForeignEnv.require_fit`."""
    env = ForeignEnv(task)
    try:
        env.require_fit(spec, shapes)
    finally:
        env.close()
