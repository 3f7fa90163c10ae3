"""A real arm as the stage of a session: under control, inside the Guard, with a task to judge it.

Owns how an episode begins on an arm that software cannot put anywhere, and what is known of its streams. Commands go
through the same Guard, and observations through the same assembler, as in simulation and in deployment. Nothing here
simulates.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.capture.hand_guided import HandGuided
from understudy.capture.left_out import leave_out, left_out_text
from understudy.capture.session_view import StreamLight
from understudy.capture.stream_lights import source_of
from understudy.capture.streams import Expected, StreamTable, light, too_fast
from understudy.capture.topics import cameras_of, require_topics, sensed
from understudy.datasets.align import Aligned
from understudy.datasets.schema import is_image
from understudy.envs.arms.arm import Arm, Command, Observation, Start
from understudy.envs.arms.clock import Clock
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import RobotDescription, require_ros_name
from understudy.envs.control import Control, max_ages
from understudy.envs.tasks.task import Task, Verdict
from understudy.errors import ArmFault, InputError

if TYPE_CHECKING:
    from understudy.envs.arms.ros_arm import RosArm

Vector = NDArray[np.float64]

LISTENER_S = 5.0
"""A controller has this long to be found on the graph."""


@dataclass(frozen=True)
class HardwareConfig:
    """How a real arm is recorded."""

    cameras: tuple[str, ...] | None = None
    """Cameras of the robot's file that are observed; None: all of them."""
    reset_service: str | None = None
    """std_srvs/Trigger that brings arm and scene to the start, instead of the robot file's."""
    native: bool = True
    """Also keep every sample at its own rate, beside the steps."""
    every_frame: tuple[str, ...] = ()
    """Cameras of which every frame is kept, beside the latest one that a step has if it is observed."""
    sim_time: bool = False
    """The arm's clock is the topic /clock, as with a simulator or a bag."""
    observes: tuple[str, ...] | None = None
    """Observations of the episodes that are continued; a task of one's own observes the same. None: there are none."""
    ready_s: float = 10.0
    """How long everything that is observed may take to come, s."""

    def __post_init__(self) -> None:
        require_ros_name(self.reset_service, "--reset-service")
        if not (np.isfinite(self.ready_s) and self.ready_s > 0):
            raise InputError(f"The time to get ready must be a positive number of seconds, got {self.ready_s}.")

    def observed(self, robot: RobotDescription, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The cameras that are observed, and every observation key.

        Raises:
            InputError: the robot's file names no topic for an observation, or has no such camera.
        """
        cameras = tuple(robot.ros.cameras) if self.cameras is None else self.cameras
        keys = tuple(dict.fromkeys([*task.observation_keys, *(f"image_{name}" for name in cameras)]))
        require_topics(robot, task, (*keys, *(f"image_{name}" for name in self.every_frame)))
        return cameras_of(keys), keys

    def subscribed(self, observed: tuple[str, ...]) -> tuple[str, ...]:
        """The cameras that are listened to."""
        return tuple(dict.fromkeys([*observed, *self.every_frame]))

    def keeps(self, key: str) -> bool:
        """Whether the samples of a key are kept at their own rate."""
        return self.native and (not is_image(key) or key.removeprefix("image_") in self.every_frame)


class Watched(Protocol):
    """What is known of the topics behind an arm."""

    def why_missing(self, key: str) -> str:
        """Why no (new) sample of a key may have come, as a clause."""

    def lost(self, key: str) -> int:
        """Samples of a key that were published and did not come."""

    def remarks(self) -> list[str]:
        """Sentences on what has happened since the last call: a clock set back, messages refused, samples lost."""

    def expected(self, key: str) -> Expected:
        """What is asked of a key's stream."""


class PlacedByHand:
    """An arm that no software brings to a start: an episode begins where it stands."""

    def __init__(self, arm: Arm) -> None:
        self.inner = arm
        self.clock: Clock = arm.clock
        self.hardware = bool(getattr(arm, "hardware", False))

    def describe(self) -> RobotDescription:
        """See `Arm`."""
        return self.inner.describe()

    def observe(self) -> Observation:
        """See `Arm`."""
        return self.inner.observe()

    def send(self, command: Command) -> Command:
        """See `Arm`."""
        return self.inner.send(command)

    def hold(self) -> None:
        """See `Arm`."""
        self.inner.hold()

    def reset(self, start: Start) -> Observation:
        """Nothing moves; a person has put the arm where it is."""
        return self.inner.observe()

    def close(self) -> None:
        """See `Arm`."""
        self.inner.close()


class ArmStage:
    """An arm under control with a task: what `capture.session.Session` acts on where nothing is simulated."""

    def __init__(
        self,
        arm: Arm,
        task: Task,
        *,
        cameras: tuple[str, ...] = (),
        streams: StreamTable | None = None,
        watched: Watched | None = None,
        guard: bool = True,
        every_frame: tuple[str, ...] = (),
        notice: str = "",
    ) -> None:
        """Args:
        arm: the bare arm; the Guard is put around it here.
        task: what is demonstrated.
        cameras: those that are observed beside the task's keys.
        streams: where the arm's samples go at their own rate; None: they are not kept.
        watched: what is known of the arm's topics; None: no lights.
        guard: False for an arm that lets no command through (`HandGuided`).
        every_frame: cameras that are recorded without being observed; they have lights too.
        notice: what the operator must know of this stage, as sentences.
        """
        self.task = task
        self.notice = notice
        self.observation_keys = tuple(dict.fromkeys([*task.observation_keys, *(f"image_{name}" for name in cameras)]))
        guarded: Arm = Guard(arm) if guard else arm
        self.control = Control(guarded, task.action_space, self.observation_keys, action_labels=task.action_labels)
        self.aligned: Aligned | None = None
        self.streams = streams
        if streams is not None:
            streams.begin(0)  # nothing is kept, and nothing counts as lost, until a recorder begins
        self.watched = watched
        self._lit = tuple(dict.fromkeys([*sensed(self.observation_keys), *(f"image_{name}" for name in every_frame)]))
        self._verdict = Verdict(task, self.control.robot.rate_hz)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode where the arm stands, or where its reset service brings it.

        Raises:
            ArmFault: the reset service fails.
            StaleObservation: something that is observed is missing or old.
        """
        start = (options or {}).get("start") or self.task.start(self.control.robot, np.random.default_rng(seed))
        self._verdict.reset()
        self.aligned = self.control.reset(start)
        return dict(self.aligned.values), {"start": start}

    def step_units(self, requested: NDArray[np.float64]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One control period with an action (A,) in units: send, wait, observe, judge."""
        requested = np.array(requested, np.float64)
        before = self.control.state()
        sent, command = self.control.apply(requested)
        self.aligned = self.control.wait()
        measured = self.control.actions.encode(before, self.control.state())
        score = self._verdict.judge(self.aligned.values)
        details = {
            "success": self._verdict.success,
            "requested": requested,
            "sent": sent,
            "measured": measured,
            "command": command,
        }
        return dict(self.aligned.values), score.reward, self._verdict.success, False, details

    def lights(self) -> tuple[StreamLight, ...]:
        """How every stream that is observed is doing now."""
        if self.streams is None or self.watched is None:
            return ()
        health, watched = self.streams.health(self.control.arm.clock.now_ns()), self.watched
        sources = {source_of(key): key for key in reversed(self._lit)}  # the first key of each
        return tuple(
            dataclasses.replace(
                light(watched.expected(key), health.get(key), watched.why_missing, watched.lost(key)), name=name
            )
            for name, key in reversed(sources.items())
        )

    def frame_bytes_per_s(self) -> float:
        """What the camera frames that are kept at their own rate take on disk (B/s)."""
        return 0.0 if self.streams is None else self.streams.frame_bytes_per_s()

    def remarks(self) -> list[str]:
        """Sentences on what is odd about the streams and has happened since the last call, or is so now."""
        return [] if self.watched is None else [*self.watched.remarks(), *too_fast(self.lights())]

    def close(self) -> None:
        """Leave the arm; it keeps where it was told to be."""
        self.control.arm.close()


def make_stage(
    robot: RobotDescription, task: Task, config: HardwareConfig | None = None, *, by_hand: bool = False
) -> ArmStage:
    """The stage of a real arm: `RosArm` inside the Guard, with everything observed and somebody who takes commands.

    Args:
        robot: names topics and joints.
        task: what is demonstrated.
        config: cameras, services, what is kept.
        by_hand: a person moves the arm and no command reaches it (the device `hand`).

    Raises:
        InputError: the robot's file names no topic for an observation, or has no such camera.
        ArmFault: something that is observed does not come, another node commands the arm, or no controller listens;
            says which and what to do.
        MissingExtra: rclpy is not installed.
    """
    config = config or HardwareConfig()
    cameras, keys = config.observed(robot, task)
    from understudy.envs.arms.ros_arm import RosArm  # rclpy

    table = StreamTable(config.keeps)
    arm = RosArm(
        robot,
        cameras=config.subscribed(cameras),
        unpack=cameras,
        reset_service=config.reset_service,
        also=table.take,
        sim_time=config.sim_time,
    )
    try:
        arm.wait_until_ready(("joint_position",), config.ready_s)
        task, left_out = leave_out(task, arm.published, config.observes)
        arm.wait_until_ready(sensed(tuple(key for key in keys if key not in left_out)), config.ready_s)
        placed: Arm = HandGuided(arm) if by_hand else arm
        if not by_hand:
            _require_driver(arm)
            placed = arm if config.reset_service or robot.ros.reset_service else PlacedByHand(arm)
        return ArmStage(
            placed,
            task,
            cameras=cameras,
            streams=table,
            watched=ArmTopics(arm),
            guard=not by_hand,
            every_frame=config.every_frame,
            notice=left_out_text(robot, left_out, config.observes),
        )
    except BaseException:
        arm.close()
        raise


class ArmTopics:
    """`Watched` of a `RosArm`."""

    def __init__(self, arm: RosArm) -> None:
        self._arm = arm

    def why_missing(self, key: str) -> str:
        """See `Watched`."""
        return self._arm.why_missing(key)

    def lost(self, key: str) -> int:
        """See `Watched`."""
        return self._arm.lost(key)

    def remarks(self) -> list[str]:
        """See `Watched`."""
        return self._arm.remarks()

    def expected(self, key: str) -> Expected:
        """See `Watched`."""
        return Expected(key, max_ages(self._arm.describe(), (key,))[key], self._arm.expected_hz(key))


def _require_driver(arm: RosArm, sleep: Callable[[float], None] = time.sleep) -> None:
    """Refuse an arm that somebody else commands, or whose commands nobody would hear."""
    robot, end_s = arm.describe(), time.monotonic() + LISTENER_S
    while (rivals := arm.rivals) or not arm.listened_to:
        over = time.monotonic() >= end_s
        if rivals and (over or not any("not known yet" in rival for rival in rivals)):
            raise ArmFault(
                f"Another node commands the arm: {', '.join(rivals)}. Stop it, or record what it does with "
                "--arm watched."
            )
        if over:
            raise ArmFault(
                f"Nobody listens on {robot.ros.command_topic}, so the arm cannot be commanded: start and activate its "
                f"controller (command type {robot.ros.command!r}), or correct `ros.command_topic` in the robot's file."
            )
        sleep(0.05)
