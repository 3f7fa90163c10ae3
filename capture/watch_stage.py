"""An arm that somebody else drives as the stage of a session: the operator says when takes begin and end.

For drivers that announce no episodes (MoveIt Servo, a leader arm, a bag); where they are announced, `watch.py` goes by
that. Nothing is ever sent. What was commanded is what passed on the command topic, and where nothing passes there (the
driver speaks to another controller), what the arm did; what was requested is what a policy published, else the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.capture.devices.device import DeviceReading, neutral
from understudy.capture.hand_guided import HandGuided
from understudy.capture.hardware import ArmStage, HardwareConfig, Watched
from understudy.capture.left_out import leave_out, left_out_text
from understudy.capture.movers import Mover
from understudy.capture.streams import Came, Expected
from understudy.capture.topics import sensed
from understudy.capture.watch import COMMAND, GRIPPER_COMMAND, NOT_SENSED, REQUESTED
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.arm import Command, Observation, Start
from understudy.envs.arms.clock import Clock
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.tasks.task import Task
from understudy.errors import ArmFault

if TYPE_CHECKING:
    from understudy.capture.ros_streams import RosStreams

Vector = NDArray[np.float64]
POLL_S = 0.02


class LiveStreams(Protocol):
    """What passes on an arm's topics, the latest of each (a `RosStreams`)."""

    clock: Clock

    def latest(self) -> Observation:
        """The newest sample of every key that ever came, what is commanded included."""

    def came(self, key: str) -> Came | None:
        """When the newest sample of a key came, and when it says that it was measured or sent; None: none ever did."""

    def close(self) -> None:
        """Stop listening."""


class WatchedArm:
    """An arm that is only looked at; wrapped in `HandGuided`, which keeps commands from it."""

    moved_by: Mover = "driver"
    """Another node moves it."""

    def __init__(self, robot: RobotDescription, streams: LiveStreams) -> None:
        self.clock = streams.clock
        self._robot = robot
        self._streams = streams

    def describe(self) -> RobotDescription:
        """See `Arm`."""
        return self._robot

    def observe(self) -> Observation:
        """See `Arm`: what is sensed, and nothing of what is commanded."""
        seen = self._streams.latest()
        values = {key: value for key, value in seen.values.items() if key not in NOT_SENSED}
        return Observation(values, {key: seen.stamps_ns[key] for key in values})

    def send(self, command: Command) -> Command:
        """Refuses.

        Raises:
            ArmFault: always.
        """
        raise ArmFault("A watched arm is never commanded; somebody else drives it.")

    def hold(self) -> None:
        """Nothing: whoever drives the arm holds it."""

    def reset(self, start: Start) -> Observation:
        """See `Arm`: nothing moves."""
        return self.observe()

    def close(self) -> None:
        """See `Arm`."""
        self._streams.close()


class WatchedDevice:
    """Stands where a device would: somebody else drives, and the session is told by page, terminal or services."""

    name = "watched"
    lost = False
    help = "Somebody else drives the arm; say when a take begins and ends."

    def __init__(self, spec: ActionSpec) -> None:
        """`spec` is the action space that the motion is written in."""
        self._spec = spec

    def reset(self, observation: Mapping[str, NDArray[Any]]) -> None:
        """See `Device`."""

    def read(self, aligned: Aligned) -> DeviceReading:
        """See `Device`."""
        return DeviceReading(neutral(self._spec, aligned))

    def close(self) -> None:
        """See `Device`."""


class WatchStage(ArmStage):
    """An `ArmStage` whose actions come from the graph instead of from the session."""

    starts_anywhere = True
    """Where an episode starts is the driver's business."""

    def __init__(
        self,
        robot: RobotDescription,
        task: Task,
        streams: LiveStreams,
        *,
        cameras: tuple[str, ...] = (),
        table: Any = None,
        watched: Watched | None = None,
        every_frame: tuple[str, ...] = (),
        notice: str = "",
    ) -> None:
        """Args:
        robot: whose topics are watched.
        task: names the observations and judges them.
        streams: what passes there.
        cameras: those that are observed beside the task's keys.
        table: where samples at their own rate wait for the recorder; None: they are not kept.
        watched: what is known of the topics; None: no lights.
        every_frame: cameras that are recorded without being observed.
        notice: what the operator must know of this stage, as sentences.
        """
        arm = HandGuided(WatchedArm(robot, streams))
        super().__init__(
            arm,
            task,
            cameras=cameras,
            streams=table,
            watched=watched,
            guard=False,
            every_frame=every_frame,
            notice=notice,
        )
        self._live = streams
        self._commanded: Command | None = None
        self._steps = self._mistimed = 0
        """Steps of the episode, and those of which what was sent is not known because of its stamps."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """An episode begins where the arm stands.

        Raises:
            StaleObservation: something that is observed is missing or old.
        """
        self._verdict.reset()
        self.aligned = self.control.begin()
        self._commanded = None
        self._steps = self._mistimed = 0
        state = self.control.state()
        return dict(self.aligned.values), {"start": Start(state.joint_position, state.gripper_position)}

    def step_units(self, requested: NDArray[np.float64]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One control period; `requested` is nobody's, and what was asked for is heard instead."""
        assert self.aligned is not None  # a session resets first
        began_ns, before = self.aligned.tick_ns, self.control.state()
        told = self._commanded or before
        self.aligned = self.control.wait()
        after, encode = self.control.state(), self.control.actions.encode
        measured = encode(before, after)
        seen = self._live.latest()
        command = self._command(seen, told, began_ns)
        self._steps += 1
        self._mistimed += command is None and self._lag_s(self.aligned.tick_ns) is not None
        sent = measured if command is None else encode(told, command)
        self._commanded = command
        asked = self._asked(seen, began_ns)
        score = self._verdict.judge(self.aligned.values)
        details = {
            "success": self._verdict.success,
            "requested": sent if asked is None else asked,
            "sent": sent,
            "measured": measured,
            "command": command or after,
        }
        return dict(self.aligned.values), score.reward, self._verdict.success, False, details

    def _command(self, seen: Observation, before: Command, since_ns: int) -> Command | None:
        """Where the arm has been told to be; None where nobody has told it anything in this period."""
        if COMMAND not in seen or seen.stamps_ns[COMMAND] < since_ns - self._grace_ns:
            return None
        gripper = float(seen[GRIPPER_COMMAND][0]) if GRIPPER_COMMAND in seen else before.gripper_position
        return Command(np.asarray(seen[COMMAND], np.float64), gripper)

    def doubts_before(self) -> list[str]:
        """What speaks against taking what would be recorded now at its word, as sentences' beginnings."""
        lag_s = self._lag_s(self.control.arm.clock.now_ns())
        return [] if lag_s is None else [self._mistimed_text(lag_s, "what the arm does would stand for what was sent")]

    def doubts_after(self) -> list[str]:
        """What speaks against taking the episode at its word."""
        if not self._mistimed:
            return []
        came = self._live.came(COMMAND)
        lag_s = 0.0 if came is None else came.lag_s
        told = f"in {self._mistimed} of {self._steps} steps what the arm did stands for what was sent"
        return [self._mistimed_text(lag_s, told)]

    def _mistimed_text(self, lag_s: float, what: str) -> str:
        return (
            f"commands on {self.control.robot.ros.command_topic} come stamped {lag_s:.2f} s ago, and count for two "
            f"control periods ({self._grace_ns * 1e-9:g} s): {what}. Set the clock of the machine that sends them (NTP)"
        )

    def _lag_s(self, now_ns: int) -> float | None:
        """How old commands say they are when they come, s, where that makes them useless; None: they are well."""
        came = self._live.came(COMMAND)
        if came is None or now_ns - came.receive_ns > self._grace_ns or came.lag_s * 1e9 <= self._grace_ns:
            return None
        return came.lag_s

    def _asked(self, seen: Observation, since_ns: int) -> Vector | None:
        """What a policy has asked for in this period; None where nobody has."""
        size = self.control.actions.spec.size
        if REQUESTED not in seen or seen.stamps_ns[REQUESTED] <= since_ns or seen[REQUESTED].shape != (size,):
            return None
        return np.asarray(seen[REQUESTED], np.float64)

    @property
    def _grace_ns(self) -> int:
        """A driver that has said nothing for this long has stopped; one slower than the control rate has not."""
        return round(2e9 * self.control.robot.period_s)


class StreamTopics:
    """`Watched` of a `RosStreams`."""

    def __init__(self, streams: RosStreams) -> None:
        self._streams = streams

    def why_missing(self, key: str) -> str:
        """See `Watched`."""
        return self._streams.why_missing(key)

    def lost(self, key: str) -> int:
        """See `Watched`."""
        return self._streams.lost(key)

    def remarks(self) -> list[str]:
        """See `Watched`."""
        return self._streams.remarks()

    def expected(self, key: str) -> Expected:
        """See `Watched`."""
        return self._streams.expected(key)


def make_watch_stage(robot: RobotDescription, task: Task, config: HardwareConfig | None = None) -> WatchStage:
    """The stage of an arm that somebody else drives over ROS 2; goes with a `WatchedDevice`.

    Raises:
        InputError: the robot's file names no topic for an observation, or has no such camera.
        ArmFault: something that is observed does not come; says which and why.
        MissingExtra: rclpy is not installed.
    """
    config = config or HardwareConfig()
    cameras, keys = config.observed(robot, task)
    from understudy.capture.ros_streams import RosStreams  # rclpy

    streams = RosStreams(
        robot,
        cameras=config.subscribed(cameras),
        unpack=cameras,
        node_name="understudy_watcher",
        sim_time=config.sim_time,
        keep=config.keeps,
    )
    try:
        _wait(streams, robot, ("joint_position",), config.ready_s)
        task, left_out = leave_out(task, streams.published, config.observes)
        _wait(streams, robot, sensed(tuple(key for key in keys if key not in left_out)), config.ready_s)
        return WatchStage(
            robot,
            task,
            streams,
            cameras=cameras,
            table=streams.table,
            watched=StreamTopics(streams),
            every_frame=config.every_frame,
            notice=left_out_text(robot, left_out, config.observes),
        )
    except BaseException:
        streams.close()
        raise


def _wait(streams: RosStreams, robot: RobotDescription, keys: tuple[str, ...], timeout_s: float) -> None:
    """Wait until every key has come.

    Raises:
        ArmFault: it took too long; says of each that is missing why.
    """
    end_s = time.monotonic() + timeout_s
    while missing := [key for key in keys if key not in streams.table]:
        if time.monotonic() >= end_s:
            reasons = "; ".join(dict.fromkeys(streams.why_missing(key) for key in missing))
            raise ArmFault(
                f"No {', '.join(missing)} from {robot.name!r} within {timeout_s:g} s: {reasons}. Start the arm's "
                "driver, or correct the `ros:` section of the robot's file."
            )
        time.sleep(POLL_S)
