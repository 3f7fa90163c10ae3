"""Replaying an episode: its recorded actions are stepped again in PyBullet, and what happens is held against what was
recorded.

What is played:
- `requested` goes through the Guard again, as it did while recording; a simulated episode comes back to the last bits.
- `sent` goes to the simulated arm without the Guard, whose work is in it already. It is what the Guard sent to the
  joints, written as an action again: where that says less than the arm has joints (a tool step of an arm with seven),
  they find another posture, and what is held or pushed may end elsewhere.

What is compared: with the simulator's own states where they were recorded (a simulated episode), else with the
observations: for hardware the deviation is then the simulator's error and the arm's tracking together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.episode import Episode
from understudy.envs.arms.arm import Pose, Start
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.control import Control
from understudy.envs.tasks.task import Task, Verdict
from understudy.errors import InputError, unknown_name

Vector = NDArray[np.float64]
Channel = Literal["sent", "requested"]
CHANNELS: tuple[Channel, ...] = ("requested", "sent")


@dataclass(frozen=True)
class ReplayConfig:
    """What is played, and how far it may stray.

    Raises:
        InputError: a tolerance is not a positive number, or the channel is none of `CHANNELS`.
    """

    channel: Channel = "requested"
    joint_tolerance_rad: float = 0.1
    tool_tolerance_m: float = 0.01
    object_tolerance_m: float = 0.03

    def __post_init__(self) -> None:
        if self.channel not in CHANNELS:
            raise unknown_name("channel to replay", self.channel, CHANNELS)
        for name in ("joint_tolerance_rad", "tool_tolerance_m", "object_tolerance_m"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be a positive number, got {value}.")


@dataclass(frozen=True)
class Deviation:
    """How far one thing strayed from its recording."""

    name: str
    """joint_position, tool_position, or an object's `<name>_position`."""
    unit: str
    rms: float
    worst: float
    worst_step: int
    """After how many steps it was worst."""
    tolerance: float
    beyond_step: int | None
    """After how many steps it first was beyond the tolerance; None: never."""


@dataclass(frozen=True)
class Replay:
    """What came of one episode."""

    steps: int
    channel: Channel
    compared_with: Literal["simulator states", "observations"]
    deviations: tuple[Deviation, ...]
    success_recorded: bool | None
    success_replayed: bool | None
    """As the task judges it; None where a goal was not recorded."""

    @property
    def within(self) -> bool:
        """Whether everything stayed within its tolerance."""
        return all(deviation.beyond_step is None for deviation in self.deviations)


@dataclass
class _Scene:
    """One simulated arm with the objects of a task, for episodes of one rate and action space."""

    key: tuple[object, ...]
    simulated: SimArm
    control: Control


@dataclass(frozen=True)
class _Track:
    """What is compared, over the rows of an episode after its first."""

    joints: Vector
    """(K, J) rad"""
    objects: Mapping[str, Vector] = field(default_factory=dict)
    """Name -> (K, 3) m."""


class Replayer:
    """Plays episodes of one robot and task; keeps the simulator between episodes. Use as a context manager."""

    def __init__(self, robot: RobotDescription, task: Task, config: ReplayConfig | None = None) -> None:
        self.config = config or ReplayConfig()
        self._robot = robot
        self._task = task
        self._scene: _Scene | None = None

    def __enter__(self) -> Replayer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the simulator go; safe to call twice."""
        if self._scene is not None:
            self._scene.simulated.close()
            self._scene = None

    def play(self, episode: Episode) -> Replay:
        """Step an episode's actions again and compare.

        Raises:
            InputError: the episode is of another robot, has no joints, or its actions are not what this robot's would
                be (says which label, unit or bound differs).
            ArmFault: the Guard refuses what was requested.
        """
        scene = self._scene_for(episode)
        simulated = self._simulated_states(episode)
        self._begin(scene, episode, simulated)
        verdict = Verdict(self._task, episode.info.rate_hz)
        judged = set(self._task.observation_keys) <= set(scene.control.assembler.keys)
        played: list[Vector] = []
        success = False
        for action in episode.channel(self.config.channel):
            scene.control.apply(np.asarray(action, np.float64))
            aligned = scene.control.wait()
            played.append(scene.simulated.simulator_state())
            if judged:
                verdict.judge(aligned.values)
                success = success or verdict.success
        recorded = self._recorded_track(episode, simulated)
        replayed = self._track(np.array(played)[: len(recorded.joints)])
        return Replay(
            steps=len(episode),
            channel=self.config.channel,
            compared_with="observations" if simulated is None else "simulator states",
            deviations=tuple(self._deviations(scene.control, recorded, replayed)),
            success_recorded=episode.info.success,
            success_replayed=success if judged else None,
        )

    def observe_again(self, episode: Episode, physics: Mapping[str, float]) -> dict[str, Vector]:
        """What would have been observed after each step under other physics: key -> (N, ...), without pictures.

        The episode is taken up where its first observation says, as for hardware; its own physics are not used.

        Raises:
            InputError, ArmFault: as `play`.
        """
        scene = self._scene_for(episode)
        scene.control.reset(dataclasses.replace(self._start(episode, None), physics=physics))
        seen = []
        for action in episode.channel(self.config.channel):
            scene.control.apply(np.asarray(action, np.float64))
            seen.append(scene.control.wait().values)
        return {key: np.array([values[key] for values in seen], np.float64) for key in seen[0]}

    def _scene_for(self, episode: Episode) -> _Scene:
        """The simulator for an episode like this one; the last one's where it fits."""
        info, spec = episode.info, episode.info.action_spec
        if info.robot != self._robot.name:
            raise InputError(f"The episode was recorded on {info.robot!r}; this robot is {self._robot.name!r}.")
        if "joint_position" not in episode.observations:
            raise InputError(f"Replay needs joint_position; the episode has {sorted(episode.observations)}.")
        goals = {key for key in self._task.observation_keys if key.startswith("goal_")}
        missing = goals - set(episode.observations)
        key = (info.rate_hz, spec, tuple(sorted(missing)))
        if self._scene is not None and self._scene.key == key:
            return self._scene
        self.close()
        robot = self._robot.model_copy(update={"rate_hz": info.rate_hz})
        simulated = SimArm(robot, self._task.objects)
        arm: Any = Guard(simulated) if self.config.channel == "requested" else simulated
        keys = tuple(key for key in self._task.observation_keys if key not in missing and not key.startswith("image_"))
        try:
            control = Control(arm, spec.name, keys, action_labels=spec.labels)
            _require_same_actions(episode, control)
        except InputError:
            simulated.close()
            raise
        self._scene = _Scene(key, simulated, control)
        return self._scene

    def _simulated_states(self, episode: Episode) -> Vector | None:
        """(N, D) true states of a simulated episode; None where there are none of this arm's and task's form."""
        slides = sum(thing.slide is not None for thing in self._task.objects.values())
        expected = 2 * len(self._robot.joints) + self._fingers + 13 * len(self._task.objects) + slides
        fits = episode.states.ndim == 2 and episode.states.shape == (len(episode), expected) and len(episode) > 1
        return np.asarray(episode.states, np.float64) if fits else None

    def _begin(self, scene: _Scene, episode: Episode, states: Vector | None) -> None:
        """Put arm and objects where the episode began: as it was told, where that leads to the recorded state."""
        joints = episode.info.start.get("joint_position", ())
        if states is not None and len(joints) == len(self._robot.joints):
            told = Start.from_numbers(episode.info.start, episode.info.randomization)
            scene.control.reset(told)
            if np.array_equal(scene.simulated.simulator_state(), states[0]):
                return
        start = self._start(episode, states)
        scene.control.reset(start)
        if states is not None:
            for name, pose in start.objects.items():
                scene.simulated.scene.place_again(name, pose, start.openings.get(name, 0.0))
            scene.control.begin()

    @property
    def _fingers(self) -> int:
        return len(self._robot.gripper.joints) if self._robot.gripper else 0

    def _start(self, episode: Episode, states: Vector | None) -> Start:
        """Where the episode began, with the physics that were drawn for it."""
        first = {key: np.asarray(values[0], np.float64) for key, values in episode.observations.items()}
        goals = {key: value for key, value in first.items() if key.startswith("goal_")}
        physics = dict(episode.info.randomization)
        joints = len(self._robot.joints)
        if states is not None:
            row = states[0]
            fingers = row[2 * joints : 2 * joints + self._fingers]
            width = self._robot.gripper_width(fingers) if self._fingers else None
            columns = self._object_columns()
            places = {name: Pose(row[at : at + 3], row[at + 3 : at + 7]) for name, at in columns.items()}
            slides = [name for name, thing in self._task.objects.items() if thing.slide is not None]
            openings = {name: float(row[columns[name] + 13]) for name in slides}
            return Start(row[:joints], width, places, openings, goals, physics)
        opening = float(first["gripper_position"][0]) if "gripper_position" in first else None
        places = {}
        for name in self._task.objects:
            if f"{name}_position" in first:
                quaternion = first.get(f"{name}_quaternion", np.array([0.0, 0.0, 0.0, 1.0]))
                places[name] = Pose(first[f"{name}_position"], quaternion)
        openings = {name: float(first[key][0]) for name in places if (key := f"{name}_opening") in first}
        return Start(first["joint_position"], opening, places, openings, goals, physics)

    def _object_columns(self) -> dict[str, int]:
        """Object name -> first column of its pose in a simulator state."""
        at = 2 * len(self._robot.joints) + self._fingers
        columns = {}
        for name, thing in self._task.objects.items():
            columns[name] = at
            at += 13 if thing.slide is None else 14
        return columns

    def _track(self, states: Vector) -> _Track:
        objects = {name: states[:, at : at + 3] for name, at in self._object_columns().items()}
        return _Track(states[:, : len(self._robot.joints)], objects)

    def _recorded_track(self, episode: Episode, states: Vector | None) -> _Track:
        if states is not None:
            return self._track(states[1:])

        def after(key: str) -> Vector:
            rows = [episode.observations[key][1:], np.asarray(episode.final_observation[key])[None]]
            return np.concatenate(rows).astype(np.float64)

        keys = {name: f"{name}_position" for name in self._task.objects}
        objects = {name: after(key) for name, key in keys.items() if key in episode.observations}
        return _Track(after("joint_position"), objects)

    def _deviations(self, control: Control, recorded: _Track, replayed: _Track) -> list[Deviation]:
        config = self.config
        joints = np.max(np.abs(replayed.joints - recorded.joints), axis=1)
        tools = [np.array([control.kinematics.tool_position(row) for row in t.joints]) for t in (recorded, replayed)]
        found = [
            _deviation("joint_position", "rad", joints, config.joint_tolerance_rad),
            _deviation("tool_position", "m", _distances(*tools), config.tool_tolerance_m),
        ]
        for name, place in recorded.objects.items():
            away = _distances(place, replayed.objects[name])
            found.append(_deviation(f"{name}_position", "m", away, config.object_tolerance_m))
        return found


def _require_same_actions(episode: Episode, control: Control) -> None:
    recorded, ours = episode.info.action_spec, control.actions.spec
    for name in ("labels", "units", "low", "high"):
        theirs, mine = getattr(recorded, name), getattr(ours, name)
        same = theirs == mine if name in ("labels", "units") else np.allclose(theirs, mine)
        if not same:
            raise InputError(
                f"The {name} of the recorded {recorded.name!r} actions are {theirs}; this robot's are {mine}. "
                "Give the robot's own file with --robot."
            )


def _distances(one: Vector, other: Vector) -> Vector:
    return np.asarray(np.linalg.norm(one - other, axis=1))


def _deviation(name: str, unit: str, away: Vector, tolerance: float) -> Deviation:
    """From (K,) deviations after 1, 2, ... steps."""
    beyond = np.flatnonzero(~(away <= tolerance))
    return Deviation(
        name=name,
        unit=unit,
        rms=float(np.sqrt(np.mean(away**2))),
        worst=float(np.max(away)),
        worst_step=int(np.argmax(away)) + 1,
        tolerance=tolerance,
        beyond_step=int(beyond[0]) + 1 if len(beyond) else None,
    )
