"""Watching: record an arm that somebody else drives over ROS 2, an episode for each one that is announced.

The watcher never commands. It keeps native-rate samples, cuts them into ticks at the robot's control rate, and builds
each tick's observation by the path that a deployed skill uses (`Control.observe`), from the samples that had come by
then. The first tick lies a quarter of a period before the first requested action, so that a commander that runs at the
same rate, with some jitter, has one action in each period.

Owns ticks, and how commands and motion read as actions; the samples are `ros_streams.py`'s, the file `recorder.py`'s.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.capture.recorder import HAND_OVER_S, EpisodeRecorder, Motion, Sample, new_info
from understudy.capture.topics import cameras_of, require_topics
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec, EpisodeInfo, is_image
from understudy.datasets.store import Dataset
from understudy.envs.arms.arm import Command, Observation, Start
from understudy.envs.arms.clock import Clock
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.control import Control
from understudy.envs.tasks.task import Task, Verdict
from understudy.errors import ArmFault, InputError, RecordingError, StaleObservation

Vector = NDArray[np.float64]

COMMAND = "command"
"""Key of the joint targets (J,) on the command topic."""
GRIPPER_COMMAND = "gripper_command"
"""Key of the gripper's target opening (1,), m."""
REQUESTED = "requested_action"
"""Key of the actions (A,) that the operator or policy asked for, in units."""
NOT_SENSED = (COMMAND, "command_velocity", GRIPPER_COMMAND, REQUESTED)
"""Keys that say what was asked of the arm, and are no observations."""
OLD_S = 1.0
"""An announcement older than this when it comes was latched by somebody long ago, and begins nothing."""
REMARK_S = 5.0
"""What is odd about the streams is said this often."""
KEEP_S = 5.0
"""Samples older than this are forgotten between episodes."""


class Announcement(Protocol):
    """Somebody says that an episode is `running`, or has `ended`."""

    @property
    def stamp_ns(self) -> int:
        """When it was said, monotonic."""

    @property
    def state(self) -> Literal["running", "ended"]:
        """Which of the two."""

    @property
    def details(self) -> Mapping[str, Any]:
        """What else was said: success, seed, task, operator, action_spec (as `ActionSpec.as_dict`)."""


class Streams(Protocol):
    """Where samples come from."""

    def drain(self) -> Mapping[str, Sequence[Sample]]:
        """Everything that came since the last call, by key, in order."""

    def episode_events(self) -> Sequence[Announcement]:
        """Announcements since the last call, in order."""


@dataclass(frozen=True)
class WatchConfig:
    """How watched episodes are recorded."""

    operator: str = "unknown"
    """Who drives, where the announcement does not say."""
    anchor_s: float = 0.5
    """How long the first tick waits for a first requested action, s."""
    max_s: float = 300.0
    """An episode that nobody ends is ended after this long, s."""
    every_frame: tuple[str, ...] = ()
    """Cameras of which every frame is kept, beside the latest one that a step has if it is observed."""
    sim_time: bool = False
    """Time is that of the topic /clock (a simulator, a bag)."""


@dataclass
class Track:
    """The samples of one key, in the order they came, as long as a tick may need them."""

    receives_ns: list[int] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    handed: int = 0
    """Those before this one are with the recorder, or came before the take."""

    def add(self, sample: Sample) -> None:
        """Append a sample."""
        self.receives_ns.append(sample.receive_ns)
        self.samples.append(sample)

    def begin(self, begun_ns: int) -> None:
        """A take begins: its samples are those that came from `begun_ns` on."""
        self.handed = bisect.bisect_left(self.receives_ns, begun_ns)

    def hand_over(self, until_ns: int) -> list[Sample]:
        """The samples of the take that came by `until_ns` and were not handed over yet.

        By count, not by time: one that came before the last call may have been put in after it.
        """
        before, self.handed = self.handed, max(self.handed, bisect.bisect_right(self.receives_ns, until_ns))
        return self.samples[before : self.handed]

    def latest(self, tick_ns: int, since_ns: int = 0) -> int | None:
        """Index of the latest sample that had come by `tick_ns`, and not before `since_ns`; None without one."""
        index = bisect.bisect_right(self.receives_ns, tick_ns) - 1
        return index if index >= 0 and self.receives_ns[index] >= since_ns else None

    def forget(self, before_ns: int) -> None:
        """Drop samples that came before `before_ns`, but for the last of them."""
        count = max(0, bisect.bisect_left(self.receives_ns, before_ns) - 1)
        self.handed = max(0, self.handed - count)
        del self.receives_ns[:count]
        del self.samples[:count]


class SeenArm:
    """An arm that is only looked at: observes what the watcher has put there, and refuses to be commanded."""

    def __init__(self, robot: RobotDescription, clock: Clock) -> None:
        self.clock = clock
        self.seen = Observation({}, {})
        self._robot = robot

    def describe(self) -> RobotDescription:
        """See `Arm`."""
        return self._robot

    def observe(self) -> Observation:
        """See `Arm`."""
        return self.seen

    def send(self, command: Command) -> Command:
        """Refuses.

        Raises:
            ArmFault: always.
        """
        raise ArmFault("A watched arm is never commanded; somebody else drives it.")

    def hold(self) -> None:
        """Nothing: whoever drives the arm holds it."""

    def reset(self, start: Start) -> Observation:
        """Refuses, like `send`."""
        raise ArmFault("A watched arm is never reset; somebody else drives it.")

    def close(self) -> None:
        """See `Arm`."""


@dataclass
class _Take:
    """The episode being watched."""

    begun_ns: int
    told: Announcement
    """The last word about it."""
    verdict: Verdict
    next_ns: int | None = None
    """The next tick; None until the first one is fixed."""
    ended_ns: int | None = None
    recorder: EpisodeRecorder | None = None
    streamed_ns: int = -1
    """Samples that came up to then are with the recorder."""
    tick_ns: int = 0
    state: Command | None = None
    commanded: Command | None = None


class Watcher:
    """Turns streams into episodes. `poll` often; it handles everything that is due by then."""

    def __init__(
        self,
        robot: RobotDescription,
        task: Task,
        dataset: Dataset,
        streams: Streams,
        clock: Clock,
        config: WatchConfig | None = None,
        report: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Args:
        robot: whose topics are watched.
        task: names the observations and judges them.
        dataset: where episodes go.
        streams: the samples.
        clock: the one that the samples' stamps are on.
        config: operator and limits.
        report: told what happens, a line at a time.

        Raises:
            InputError: the task needs an observation that no topic of the robot gives.
        """
        require_topics(robot, task)
        self.kept: list[str] = []
        """Ids of the episodes committed so far."""
        self._task = task
        self._dataset = dataset
        self._streams = streams
        self._config = config or WatchConfig()
        self._report = report
        self._arm = SeenArm(robot, clock)
        self._control = Control(self._arm, task.action_space, task.observation_keys, action_labels=task.action_labels)
        self._period_ns = round(robot.period_s * 1e9)
        self._tracks: dict[str, Track] = {}
        self._take: _Take | None = None

    def poll(self, now_ns: int) -> None:
        """Take in what came and do what is due by `now_ns`.

        Raises:
            RecordingError: the disk failed.
        """
        events = self._streams.episode_events()  # before the samples, so that those that came before an end are here
        for key, samples in self._streams.drain().items():
            track = self._tracks.setdefault(key, Track())
            for sample in samples:
                track.add(sample)
        for event in events:
            self._hear(event, now_ns)
        self._advance(now_ns)
        if self._take is None:
            self._forget(now_ns - round(KEEP_S * 1e9))

    def close(self) -> None:
        """Stop watching; an episode that has not ended stays as a take that can be recovered."""
        if self._take is not None and self._take.recorder is not None:
            self._take.recorder.leave()
            self._report("stopped in the middle of an episode; it waits as a take (understudy dataset repair)")
        self._take = None

    # what is said about episodes

    def _hear(self, event: Announcement, now_ns: int) -> None:
        if event.state == "running":
            self._begin(event, now_ns)
        elif self._take is not None:
            self._take.told = event
            self._take.ended_ns = event.stamp_ns
            self._advance(event.stamp_ns)

    def _begin(self, event: Announcement, now_ns: int) -> None:
        if self._take is not None:
            self._take.ended_ns = event.stamp_ns
            self._advance(event.stamp_ns)
        if now_ns - event.stamp_ns > OLD_S * 1e9:
            self._report("an episode was already running; the next one is recorded")
            return
        task, spec = event.details.get("task"), event.details.get("action_spec")
        if task and task != self._task.name:
            self._report(f"an episode of task {task!r} begins; only {self._task.name!r} is recorded")
            return
        self._require_spec(None if spec is None else ActionSpec.from_dict(spec))
        self._take = _Take(event.stamp_ns, event, Verdict(self._task, self._control.robot.rate_hz))
        for track in self._tracks.values():
            track.begin(event.stamp_ns)
        self._report("an episode begins")

    def _require_spec(self, told: ActionSpec | None) -> None:
        own = self._control.actions.spec
        if told is not None and (told.name, told.labels) != (own.name, own.labels):
            raise InputError(
                f"The episode is driven in {told.name} ({', '.join(told.labels)}), and task {self._task.name!r} is "
                f"recorded in {own.name} ({', '.join(own.labels)}); watch with the task it is driven for."
            )

    # ticks

    def _advance(self, now_ns: int) -> None:
        """Handle every tick that is due, then the end of the episode."""
        take = self._take
        if take is None:
            return
        if take.next_ns is None:
            take.next_ns = self._first_tick(take, now_ns)
        until_ns = now_ns if take.ended_ns is None else min(now_ns, take.ended_ns)
        try:
            while take.next_ns is not None and take.next_ns <= until_ns:
                self._tick(take, take.next_ns)
                take.next_ns += self._period_ns
        except StaleObservation as error:
            self._interrupt(take, str(error))
            return
        self._stream(take, until_ns)
        too_long = now_ns - take.begun_ns > self._config.max_s * 1e9
        if take.ended_ns is not None or too_long:
            self._finish(take)

    def _stream(self, take: _Take, until_ns: int) -> None:
        """Hand what has come by `until_ns` to the recorder, at its own rate, and forget what no tick needs any more."""
        ended = take.ended_ns is not None
        if take.recorder is None or (until_ns - take.streamed_ns < HAND_OVER_S * 1e9 and not ended):
            return
        parts = {key: track.hand_over(until_ns) for key, track in self._tracks.items()}
        every = {f"image_{name}" for name in self._config.every_frame}
        wanted = {key: part for key, part in parts.items() if key in every or not is_image(key)}
        take.recorder.add_samples(wanted)
        take.streamed_ns = until_ns
        self._forget(min(take.tick_ns, until_ns))

    def _forget(self, before_ns: int) -> None:
        for track in self._tracks.values():
            track.forget(before_ns)

    def _first_tick(self, take: _Take, now_ns: int) -> int | None:
        """A quarter of a period before the first requested action, or, without one, when waiting for it is over."""
        track = self._tracks.get(REQUESTED, Track())
        index = bisect.bisect_left(track.receives_ns, take.begun_ns)
        if index < len(track.receives_ns):
            return max(take.begun_ns, track.receives_ns[index] - self._period_ns // 4)
        waited_ns = take.begun_ns + round(self._config.anchor_s * 1e9)
        return waited_ns if now_ns >= waited_ns or take.ended_ns is not None else None

    def _tick(self, take: _Take, tick_ns: int) -> None:
        """Observe at `tick_ns` and record the period that ends there."""
        self._arm.seen = self._seen_at(tick_ns)
        aligned = self._control.observe(tick_ns)
        state = self._control.state()
        commanded = self._commanded_at(take, tick_ns, state)
        if take.recorder is None:
            take.recorder = EpisodeRecorder(self._dataset, self._info(take), aligned)
        else:
            self._record(take, tick_ns, aligned, state, commanded)
        take.tick_ns, take.state, take.commanded = tick_ns, state, commanded

    def _record(self, take: _Take, tick_ns: int, aligned: Aligned, state: Command, commanded: Command) -> None:
        assert take.recorder is not None
        assert take.state is not None
        assert take.commanded is not None
        encode = self._control.actions.encode
        sent = encode(take.commanded, commanded)
        requested = self._requested_in(take.tick_ns, tick_ns)
        motion = Motion(sent if requested is None else requested, sent, encode(take.state, state))
        take.recorder.tick(motion, take.verdict.judge(aligned.values).reward, aligned)

    def _seen_at(self, tick_ns: int) -> Observation:
        """What had come by a tick: the latest sample of every key, with its own stamp."""
        values, stamps = {}, {}
        for key, track in self._tracks.items():
            index = track.latest(tick_ns)
            if index is not None and key not in NOT_SENSED:
                values[key], stamps[key] = track.samples[index].value, track.samples[index].stamp_ns
        return Observation(values, stamps)

    def _commanded_at(self, take: _Take, tick_ns: int, state: Command) -> Command:
        """Where the arm had been told to be by a tick; before the first command of the episode, where it stood."""
        before = take.commanded or state
        joints = self._latest_value(COMMAND, tick_ns, take.begun_ns)
        gripper = self._latest_value(GRIPPER_COMMAND, tick_ns, take.begun_ns)
        return Command(
            before.joint_position if joints is None else joints,
            before.gripper_position if gripper is None else float(gripper[0]),
        )

    def _latest_value(self, key: str, tick_ns: int, since_ns: int) -> Vector | None:
        track = self._tracks.get(key, Track())
        index = track.latest(tick_ns, since_ns)
        return None if index is None else np.asarray(track.samples[index].value, np.float64)

    def _requested_in(self, begin_ns: int, end_ns: int) -> Vector | None:
        """The latest action asked for after `begin_ns` and by `end_ns`; None where nobody asked (sent counts then)."""
        size = self._control.actions.spec.size
        value = self._latest_value(REQUESTED, end_ns, begin_ns + 1)
        if value is not None and value.shape != (size,):
            raise InputError(
                f"A requested action has {value.size} numbers; task {self._task.name!r} takes {size}: "
                f"{', '.join(self._control.actions.spec.labels)}."
            )
        return value

    # ends

    def _finish(self, take: _Take) -> None:
        """Commit an episode that has ended."""
        self._take = None
        if take.recorder is None or take.recorder.steps == 0:
            if take.recorder is not None:
                take.recorder.drop(take.recorder.info)
            self._report("the episode ended before its first step; nothing was recorded")
            return
        told = take.told.details.get("success")
        success = take.verdict.success if told is None else bool(told)
        note = "" if take.ended_ns is not None else f"ended by the watcher after {self._config.max_s:g} s"
        info = dataclasses.replace(self._info(take), success=success, note=note)
        try:
            id = take.recorder.keep(info)
        except (RecordingError, OSError) as error:
            take.recorder.leave()
            raise RecordingError(
                f"The episode could not be kept ({error}). Nothing of it is lost: free some space or look at the disk, "
                f"and review it with: understudy dataset repair {self._dataset.path}"
            ) from error
        self.kept.append(id)
        self._report(f"kept {id}: {take.recorder.steps} steps, {'success' if success else 'no success'}")

    def _interrupt(self, take: _Take, why: str) -> None:
        """Give an episode up whose observations stopped; what there is waits as a take."""
        self._take = None
        if take.recorder is not None:
            take.recorder.leave()
        self._report(f"the episode cannot be recorded further: {why}")

    def _info(self, take: _Take) -> EpisodeInfo:
        return new_info(
            robot=self._control.robot.name,
            task=self._task.name,
            spec=self._control.actions.spec,
            rate_hz=self._control.robot.rate_hz,
            operator=str(take.told.details.get("operator") or "") or self._config.operator,
            device="watched",
            seed=take.told.details.get("seed"),
        )


def watch(
    robot: RobotDescription,
    task: Task,
    dataset: Dataset,
    episodes: int,
    config: WatchConfig,
    report: Callable[[str], None],
    stop: Callable[[], bool],
) -> None:
    """Watch over ROS 2 until the dataset holds `episodes`, or until `stop` says so (asked twice a control period).

    Raises:
        InputError: the task needs an observation that no topic gives, or another action space is driven.
        RecordingError: the disk failed.
    """
    from understudy.capture.ros_streams import RosStreams  # rclpy

    require_topics(robot, task)
    needed = episodes - len(dataset)
    used = cameras_of(task.observation_keys)
    listened = tuple(dict.fromkeys([*used, *config.every_frame]))
    streams = RosStreams(robot, cameras=listened, unpack=used, node_name="understudy_watcher", sim_time=config.sim_time)
    clock = streams.clock
    watcher = Watcher(robot, task, dataset, streams, clock, config, report)
    try:
        report(f"watching {robot.name}: episodes are recorded as they are announced; Ctrl-C ends")
        remark_ns = clock.now_ns()
        while len(watcher.kept) < needed and not stop():
            clock.sleep_until(clock.now_ns() + round(robot.period_s * 0.5e9))
            watcher.poll(clock.now_ns())
            if clock.now_ns() >= remark_ns:
                remark_ns = clock.now_ns() + round(REMARK_S * 1e9)
                for remark in streams.remarks():
                    report(remark)
    finally:
        watcher.close()
        streams.close()
