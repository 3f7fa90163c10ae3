"""`ArmEnv`: an arm and a task as a `gymnasium.Env`. Simulation and hardware are the same class."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from typing import Any, Literal, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from understudy.datasets.align import Aligned
from understudy.datasets.schema import is_image
from understudy.envs.arms.arm import Arm, Start
from understudy.envs.control import Control, ControlState
from understudy.envs.randomization import Randomizer
from understudy.envs.randomized_start import randomized_start
from understudy.envs.tasks.marks import goal_marks
from understudy.envs.tasks.task import Score, Task, Verdict
from understudy.envs.window import Window
from understudy.errors import InputError, unknown_name

Observations = dict[str, NDArray[Any]]
Reward = Literal["shaped", "sparse"]
REWARDS: tuple[Reward, ...] = ("shaped", "sparse")
RENDER_MODES = ("rgb_array", "human")
BOUND = 1e4
"""Observations are declared to lie within this, in SI units, so that Gymnasium's checkers see finite spaces; even what
falls off the table stays inside for 45 s."""


@dataclass(frozen=True)
class Snapshot:
    """A moment of one `ArmEnv`, to go on from exactly; it belongs to the environment that made it."""

    owner: str
    """Drawn by the environment once, as no other ever has it."""
    control: ControlState
    verdict: tuple[int, bool]
    steps: int
    aligned: Aligned
    generator: dict[str, Any]
    reporting: bool


class ArmEnv(gymnasium.Env[Observations, NDArray[np.float32]]):
    """Actions are the task's action space normalised to [-1, 1]; observations a dict of the task's keys and cameras.

    `info` of every step holds `success` (held long enough), `requested`, `sent` and `measured` (A,) in units, and of
    `reset` the `start`. The episode ends on success, unless `fixed_horizon`, and is truncated at the task's horizon.
    """

    def __init__(
        self,
        arm: Arm,
        task: Task,
        *,
        fixed_horizon: bool = False,
        randomization: Randomizer | None = None,
        reward: Reward = "shaped",
        cameras: tuple[str, ...] = (),
        render_mode: str | None = None,
    ) -> None:
        """Args:
        arm: SimArm, RosArm or FakeArm, usually inside a Guard.
        task: what to do.
        fixed_horizon: never end before the horizon (adversarial learners need equal lengths).
        randomization: physical parameters drawn at each reset, and told how the episode ended; None for nominal ones.
        reward: shaped, the task's own; or sparse, 1 in every step whose observation is a success and else 0.
        cameras: those whose `image_<camera>` is observed beside the task's keys; the arm must have them.
        render_mode: rgb_array, or human for a window, where the arm can `render()`.

        Raises:
            InputError: an unknown reward, camera or render mode, a camera named twice, or a fixed horizon that is
                neither True nor False.
        """
        if reward not in REWARDS:
            raise unknown_name("reward", str(reward), REWARDS)
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise unknown_name("render mode", str(render_mode), RENDER_MODES)
        require_flag("fixed_horizon", fixed_horizon)
        robot = arm.describe()
        for index, camera in enumerate(cameras):
            if camera not in robot.ros.cameras:
                raise unknown_name("camera", camera, robot.ros.cameras)
            if camera in cameras[:index]:
                raise InputError(f"Camera {camera!r} is named twice in {cameras}; name each once.")
        self.task = task
        self.observation_keys = tuple(dict.fromkeys([*task.observation_keys, *(f"image_{name}" for name in cameras)]))
        self.control = Control(arm, task.action_space, self.observation_keys, action_labels=task.action_labels)
        self.spec_units = self.control.actions.spec
        self.fixed_horizon = fixed_horizon
        self.randomization = randomization
        self.reward = reward
        self.render_mode = render_mode
        self.metadata = {"render_modes": list(RENDER_MODES), "render_fps": round(robot.rate_hz)}
        self.verdict = Verdict(task, robot.rate_hz)
        self.action_space = spaces.Box(-1.0, 1.0, (self.spec_units.size,), np.float32)
        self.observation_space = spaces.Dict({key: self._space(key) for key in self.observation_keys})
        self._steps = 0
        self._reporting = False
        self._window: Window | None = None
        self._closed = False
        self.owner = uuid.uuid4().hex
        """What its snapshots are known by."""
        self.aligned: Aligned | None = None

    def _space(self, key: str) -> spaces.Box:
        if is_image(key):
            camera = self.control.robot.ros.cameras[key.removeprefix("image_")]
            return spaces.Box(0, 255, (camera.height, camera.width, 3), np.uint8)
        return spaces.Box(-BOUND, BOUND, (self._size(key),), np.float32)

    def _size(self, key: str) -> int:
        """How many numbers an observation of this name has."""
        if key.startswith("joint_"):
            return len(self.control.robot.joints)
        if key == "gripper_position" or key.endswith("_opening"):
            return 1
        return 4 if key.endswith("_quaternion") else 3

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Begin an episode. `options={"start": Start}` sets how; otherwise the task draws it from the seed.

        Raises:
            InputError: there is no such option, the start is none, or the environment is closed.
        """
        if self._closed:
            raise self._refusal()
        super().reset(seed=seed)
        given = _given_start(options)
        start = given or self.draw_start(self.np_random)
        self._reporting = given is None and self.randomization is not None
        self._steps = 0
        self.verdict.reset()
        self.aligned = self.control.reset(start)
        self._show()
        return dict(self.aligned.values), {"start": start}

    def draw_start(self, rng: np.random.Generator) -> Start:
        """The task's start with this environment's randomized physics."""
        start = self.task.start(self.control.robot, rng)
        if self.randomization is None:
            return start
        return randomized_start(start, self.task.objects, self.randomization, rng)

    def step(self, action: NDArray[np.float32]) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """One control period with an action (A,) in [-1, 1]; what is outside is clipped.

        Raises:
            InputError: the action is of another shape or not finite, or there is no episode.
        """
        if self.aligned is None:
            raise self._refusal("There is no episode to step in yet: call reset() first.")
        return self.step_units(self.spec_units.denormalise(self._numbers(action)))

    def _numbers(self, action: NDArray[np.float32]) -> NDArray[np.float64]:
        """An action (A,) as finite numbers, or what is wrong with it."""
        labels = self.spec_units.labels
        try:
            numbers = np.asarray(action, np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"An action is {len(labels)} numbers, each in [-1, 1]: {list(labels)}; got {action!r}."
            ) from error
        if numbers.shape != (len(labels),):
            raise InputError(
                f"An action has shape {numbers.shape}; expected {self.action_space.shape}, each in [-1, 1]: "
                f"{list(labels)}."
            )
        if not all(map(math.isfinite, numbers.tolist())):  # of so few, several times faster than numpy
            wrong = ", ".join(f"{labels[index]} is {numbers[index]}" for index in np.flatnonzero(~np.isfinite(numbers)))
            raise InputError(
                f"An action must be finite numbers in [-1, 1], and of this one {wrong}. Nothing was sent; look at what "
                "computed it."
            )
        return numbers

    def step_units(self, requested: NDArray[np.float64]) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """One control period with an action (A,) in the units of `spec_units`; see `step`."""
        if self.aligned is None:
            raise self._refusal("There is no episode to step in yet: call reset() first.")
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
        if terminated or truncated:
            self._report()
        self._show()
        return dict(self.aligned.values), self._paid(score), terminated, truncated, info

    def _paid(self, score: Score) -> float:
        return score.reward if self.reward == "shaped" else float(score.success)

    def _report(self) -> None:
        """Tell the randomization how the episode that it drew has ended; once."""
        if self._reporting and self.randomization is not None:
            self._reporting = False
            self.randomization.report(self.verdict.success)

    def save(self) -> Snapshot:
        """This moment. From it the same actions give the same observations, rewards and ends, bit by bit.

        Raises:
            InputError: no episode has begun, the arm cannot go back (hardware), or the environment is closed.
        """
        if self.aligned is None:
            raise self._refusal("There is nothing to save before the first reset.")
        return Snapshot(
            self.owner,
            self.control.save(),
            self.verdict.save(),
            self._steps,
            self.aligned,
            dict(self.np_random.bit_generator.state),
            self._reporting,
        )

    def restore(self, snapshot: Snapshot) -> Observations:
        """Go back to a moment that `save` returned, in this or an earlier episode; returns its observation.

        Raises:
            InputError: the snapshot is none, or another environment's, or the environment is closed.
        """
        if self._closed:
            raise self._refusal()
        if not isinstance(snapshot, Snapshot):
            raise InputError(
                f"restore() goes back to a Snapshot, which save() of this environment returns; got {snapshot!r}."
            )
        if snapshot.owner != self.owner:
            raise InputError("A snapshot belongs to the environment that saved it; this one is another environment's.")
        self.control.restore(snapshot.control)
        self.verdict.restore(snapshot.verdict)
        self._steps, self.aligned, self._reporting = snapshot.steps, snapshot.aligned, snapshot.reporting
        self.np_random.bit_generator.state = snapshot.generator
        return dict(snapshot.aligned.values)

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """rgb_array: a picture (H, W, 3); human: draws in the window. A goal is a ball of its tolerance there.

        Raises:
            InputError: this arm draws no pictures, or the environment is closed.
        """
        if self.render_mode == "rgb_array":
            return self._picture()
        self._show()
        return None

    def _show(self) -> None:
        if self.render_mode != "human":
            return
        if self._window is None:
            self._window = Window(f"{self.task.name} on {self.control.robot.name}")
        self._window.show(self._picture())

    def _picture(self) -> NDArray[np.uint8]:
        if self._closed:
            raise self._refusal()
        arm: Any = self.control.arm
        while not hasattr(arm, "render") and hasattr(arm, "inner"):
            arm = arm.inner
        if not hasattr(arm, "render"):
            raise InputError(f"A {type(arm).__name__} draws no pictures; make the environment without a render mode.")
        seen = {} if self.aligned is None else self.aligned.values
        return cast("NDArray[np.uint8]", arm.render(marks=goal_marks(self.task.goal, seen)))

    def close(self) -> None:
        """Close the arm and the window."""
        if self._window is not None:
            self._window.close()
            self._window = None
        self._closed, self.aligned = True, None
        self.control.arm.close()

    def _refusal(self, words: str = "") -> InputError:
        """What to say where there is no episode: `words`, or that the environment is closed."""
        closed = f"This environment ({self.task.name} on {self.control.robot.name}) is closed; make another one."
        return InputError(closed if self._closed else words)


def require_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False: a text such as "no" would count as True."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be True or False, got {value!r}.")


def _given_start(options: dict[str, Any] | None) -> Start | None:
    """What `reset` was told to begin with."""
    if options is None:
        return None
    if not isinstance(options, dict):
        raise InputError(f"options of a reset must be a dict, such as {{'start': Start(...)}}, got {options!r}.")
    for name in options:
        if name != "start":
            raise unknown_name("option of a reset", str(name), ["start"])
    start = options.get("start")
    if start is not None and not isinstance(start, Start):
        raise InputError(f"The start of a reset must be an understudy.envs.arms.arm.Start, got {start!r}.")
    return start
