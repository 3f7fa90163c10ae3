"""Watching an arm that somebody else drives: what is recorded is what the driver would have recorded himself."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from understudy.capture.devices.scripted import ScriptedDevice
from understudy.capture.session import Session, SessionConfig
from understudy.capture.topics import require_topics
from understudy.capture.watch import COMMAND, GRIPPER_COMMAND, REQUESTED, WatchConfig, Watcher
from understudy.datasets import index
from understudy.datasets.camera_streams import frames_file, read_frames_of
from understudy.datasets.checking.checks import check_dataset
from understudy.datasets.episode import Episode
from understudy.datasets.schema import ActionSpec
from understudy.datasets.store import Dataset
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.arm import Command
from understudy.envs.arms.clock import VirtualClock
from understudy.envs.arms.robot import load_robot
from understudy.envs.make import make_env
from understudy.envs.tasks.task import known_tasks, make_task
from understudy.errors import InputError, RecordingError

PERIOD_NS = 50_000_000
PANDA = load_robot("panda")
LIFT = make_task("lift")


@dataclass(frozen=True)
class Said:
    stamp_ns: int
    receive_ns: int
    value: np.ndarray
    packed: None = None


DETAILS = {"task": "lift", "operator": "ada", "seed": 4}


@dataclass(frozen=True)
class Told:
    stamp_ns: int
    state: Literal["running", "ended"]
    details: Mapping[str, Any] = field(default_factory=lambda: DETAILS)


class Replay:
    """Streams that hand out, poll by poll, what had come by then."""

    def __init__(self, samples: dict[str, list[Said]], events: list[Told], clock: VirtualClock) -> None:
        self.samples, self.events, self.clock = samples, events, clock
        self._given = dict.fromkeys(samples, 0)
        self._told = 0

    def drain(self) -> dict[str, list[Said]]:
        came = {}
        for key, samples in self.samples.items():
            first = self._given[key]
            came[key] = [sample for sample in samples[first:] if sample.receive_ns <= self.clock.now_ns()]
            self._given[key] += len(came[key])
        return came

    def episode_events(self) -> list[Told]:
        came = [event for event in self.events[self._told :] if event.stamp_ns <= self.clock.now_ns()]
        self._told += len(came)
        return came


@dataclass
class Driven:
    """A driver's own record of an episode, and what it put on the graph meanwhile."""

    episode: Episode
    commands: list[Command]


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    env = make_env("lift", "panda")
    dataset = Dataset.create(tmp_path_factory.mktemp("driven") / "demos", robot="panda", task="lift")
    device = ScriptedDevice("lift", env.control.robot, env.control.actions.spec, np.random.default_rng(4))
    session = Session(Listening(env), device, dataset, SessionConfig(max_s=8.0))
    session.prepare(seed=4)
    session.start()
    while session.state == "recording":
        session.tick()
    yield Driven(dataset.read(session.keep()), session.stage.commands)  # type: ignore[attr-defined]
    env.close()


class Listening:
    """The environment, keeping the commands that it sends."""

    def __init__(self, env: ArmEnv) -> None:
        self._env, self.commands = env, []
        self.task, self.control = env.task, env.control

    aligned = property(lambda self: self._env.aligned, lambda self, value: setattr(self._env, "aligned", value))

    def reset(self, **options: Any) -> Any:
        return self._env.reset(**options)

    def step_units(self, requested: np.ndarray) -> Any:
        result = self._env.step_units(requested)
        self.commands.append(result[-1]["command"])
        return result


def on_the_graph(driven: Driven, jitter: np.random.Generator | None = None, success: bool | None = True) -> Replay:
    """The episode as its driver would publish it: sensed 2 ms, asked 20 ms and sent 21 ms after each tick."""
    episode, steps = driven.episode, len(driven.episode)
    late = [0 if jitter is None else int(jitter.integers(-6_000_000, 6_000_000)) for _ in range(steps)]
    ticks = [10**10 + k * PERIOD_NS for k in range(steps + 1)]
    samples: dict[str, list[Said]] = {COMMAND: [], GRIPPER_COMMAND: [], REQUESTED: []}
    for key, values in episode.observations.items():
        if not key.startswith("tool_"):
            rows = [*values, episode.final_observation[key]]
            samples[key] = [Said(t, t + 2_000_000, row) for t, row in zip(ticks, rows, strict=True)]
    for k, command in enumerate(driven.commands):
        asked = ticks[k] + 20_000_000 + late[k]
        samples[REQUESTED].append(Said(asked, asked, episode.requested[k]))
        samples[COMMAND].append(Said(asked, asked + 1_000_000, command.joint_position))
        samples[GRIPPER_COMMAND].append(Said(asked, asked + 1_000_000, np.array([command.gripper_position])))
    events = [
        Told(ticks[0] - 1_000_000, "running"),
        Told(ticks[-1] + 30_000_000, "ended", {**DETAILS, "success": success}),
    ]
    return Replay(samples, events, VirtualClock(10**10 - 10**9))


def run(replay: Replay, path: Path, *, seconds: float = 12.0, poll_s: float = 0.025, **config: Any) -> Watched:
    dataset = Dataset.create(path, robot="panda", task="lift")
    said: list[str] = []
    watcher = Watcher(PANDA, LIFT, dataset, replay, replay.clock, WatchConfig(**config), said.append)
    for _ in range(round(seconds / poll_s)):
        replay.clock.advance(poll_s)
        watcher.poll(replay.clock.now_ns())
    watcher.close()
    return Watched(dataset, said)


@dataclass
class Watched:
    dataset: Dataset
    said: list[str]


@pytest.mark.parametrize("poll_s", [0.005, 0.025, 0.4])
def test_what_is_watched_is_what_was_driven(driven: Driven, tmp_path: Path, poll_s: float) -> None:
    """However rarely the watcher looks, for it goes by what had come at each tick."""
    dataset = run(on_the_graph(driven), tmp_path / "demos", poll_s=poll_s).dataset
    (watched,) = dataset.episodes()
    source = driven.episode
    assert len(watched) == len(source)
    for key, values in source.observations.items():
        np.testing.assert_allclose(watched.observations[key], values, atol=2e-6, err_msg=key)
        np.testing.assert_allclose(watched.final_observation[key], source.final_observation[key], atol=2e-6)
    assert np.array_equal(watched.requested, source.requested)
    np.testing.assert_allclose(watched.sent, source.sent, atol=2e-6)
    np.testing.assert_allclose(watched.measured, source.measured, atol=2e-6)
    np.testing.assert_allclose(watched.rewards, source.rewards, atol=1e-5)
    assert (watched.info.success, watched.info.seed, watched.info.operator) == (True, 4, "ada")
    assert watched.info.device == "watched"
    assert max(float(np.max(ages)) for ages in watched.ages_s.values()) == pytest.approx(0.0075, abs=1e-6)
    assert check_dataset(dataset).trainable


def test_a_commander_with_jitter_still_has_one_action_a_tick(driven: Driven, tmp_path: Path) -> None:
    replay = on_the_graph(driven, np.random.default_rng(0))
    (watched,) = run(replay, tmp_path / "demos").dataset.episodes()
    rows = len(watched)
    assert rows >= len(driven.episode) - 1
    assert np.array_equal(watched.requested, driven.episode.requested[:rows])
    np.testing.assert_allclose(watched.sent, driven.episode.sent[:rows], atol=2e-6)


def test_without_requests_what_was_sent_counts(driven: Driven, tmp_path: Path) -> None:
    replay = on_the_graph(driven)
    replay.samples[REQUESTED] = []
    replay.clock = VirtualClock(10**10 - 10**9)
    (watched,) = run(replay, tmp_path / "demos", anchor_s=0.0075).dataset.episodes()
    assert np.array_equal(watched.requested, watched.sent)
    assert np.ptp(watched.sent[:, 2]) > 0.01


def test_native_rate_samples_are_kept_beside_the_episode(driven: Driven, tmp_path: Path) -> None:
    import h5py

    dataset = run(on_the_graph(driven), tmp_path / "demos").dataset
    with h5py.File(dataset.file(dataset.ids[0])) as file:
        streams = file["episode/streams"]
        assert {COMMAND, REQUESTED, "joint_position"} <= set(streams)
        assert streams[f"{COMMAND}/value"].shape == (len(driven.commands), 7)


def test_every_frame_of_a_camera_is_kept_on_request(driven: Driven, tmp_path: Path) -> None:
    replay = on_the_graph(driven)
    first, last = replay.events[0].stamp_ns, replay.events[-1].stamp_ns
    stamps = range(first - 10**9, last + 10**9, 33_333_333)
    pixels = np.zeros((2, 3, 3), np.uint8)
    replay.samples["image_front"] = [Said(stamp, stamp + 5_000_000, pixels + k % 256) for k, stamp in enumerate(stamps)]
    replay._given["image_front"] = 0
    dataset = run(replay, tmp_path / "demos", every_frame=("front",)).dataset
    kept = list(read_frames_of(frames_file(dataset.path, dataset.ids[0]), "front"))
    wanted = [sample for sample in replay.samples["image_front"] if first <= sample.receive_ns <= last]
    assert [frame.stamp_ns for frame in kept] == [sample.stamp_ns for sample in wanted]
    assert all(np.array_equal(frame.pixels, sample.value) for frame, sample in zip(kept, wanted, strict=True))


@pytest.mark.parametrize(("told", "kept"), [(False, False), (None, True)])
def test_the_announced_verdict_stands_above_the_tasks(
    driven: Driven, tmp_path: Path, told: bool | None, kept: bool
) -> None:
    dataset = run(on_the_graph(driven, success=told), tmp_path / "demos").dataset
    assert dataset.summary(dataset.ids[0]).info.success is kept


def test_a_source_that_stops_leaves_a_take_and_a_reason(driven: Driven, tmp_path: Path) -> None:
    replay = on_the_graph(driven)
    replay.samples["object_position"] = replay.samples["object_position"][:15]
    watched = run(replay, tmp_path / "demos")
    assert len(watched.dataset) == 0
    assert any("'object_position' is 0.5" in line for line in watched.said)
    opened = Dataset.open(tmp_path / "demos")
    (id,) = opened.recovery.takes
    assert 15 < len(opened.read(opened.commit(opened.take_file(id)))) < 30


def test_an_episode_that_the_disk_does_not_take_waits_as_a_take(
    driven: Driven, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(index, "require_space", lambda folder, needed: no_room() if needed else None)
    with pytest.raises(RecordingError, match=r"could not be kept .*No space left.*understudy dataset repair"):
        run(on_the_graph(driven), tmp_path / "demos")
    monkeypatch.undo()
    dataset = Dataset.open(tmp_path / "demos")
    (id,) = dataset.takes()
    assert dataset.ids == ()
    assert len(dataset.read(dataset.commit(dataset.take_file(id)))) == len(driven.episode)


def test_an_episode_that_nobody_ends_is_ended(driven: Driven, tmp_path: Path) -> None:
    replay = on_the_graph(driven)
    replay.events.pop()
    (watched,) = run(replay, tmp_path / "demos", max_s=1.0).dataset.episodes()
    assert 18 <= len(watched) <= 21
    assert "ended by the watcher after 1 s" in watched.info.note


def test_stopping_in_the_middle_leaves_a_take(driven: Driven, tmp_path: Path) -> None:
    watched = run(on_the_graph(driven), tmp_path / "demos", seconds=2.0)
    assert len(watched.dataset) == 0
    assert "waits as a take" in watched.said[-1]
    assert len(Dataset.open(tmp_path / "demos").recovery.takes) == 1


def test_an_episode_of_another_task_is_passed_over(driven: Driven, tmp_path: Path) -> None:
    replay = on_the_graph(driven)
    replay.events[0] = Told(replay.events[0].stamp_ns, "running", {"task": "reach"})
    watched = run(replay, tmp_path / "demos")
    assert len(watched.dataset) == 0
    assert "task 'reach' begins; only 'lift'" in watched.said[0]


def test_an_announcement_that_was_latched_long_ago_begins_nothing(driven: Driven, tmp_path: Path) -> None:
    replay = on_the_graph(driven)
    replay.events.insert(0, Told(replay.events[0].stamp_ns - 60 * 10**9, "running"))
    watched = run(replay, tmp_path / "demos")
    assert "already running" in watched.said[0]
    assert len(watched.dataset) == 1


def test_another_action_space_is_refused(driven: Driven, tmp_path: Path) -> None:
    replay = on_the_graph(driven)
    spec = ActionSpec("joint_delta", ("a",), ("rad",), (-1.0,), (1.0,))
    replay.events[0] = Told(replay.events[0].stamp_ns, "running", {"action_spec": spec.as_dict()})
    with pytest.raises(InputError, match="driven in joint_delta"):
        run(replay, tmp_path / "demos")


def test_a_task_whose_observations_no_topic_gives_is_refused(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "demos", robot="panda", task="reach")
    blind = PANDA.model_copy(update={"ros": PANDA.ros.model_copy(update={"poses": {}})})
    with pytest.raises(InputError, match="observes goal_position, and robot 'panda' names no topic"):
        Watcher(blind, make_task("reach"), dataset, Replay({}, [], VirtualClock()), VirtualClock())


@pytest.mark.parametrize(
    ("task", "robot"), [(name, robot) for name in known_tasks() for robot in make_task(name).robots]
)
def test_every_declared_robot_names_topics_for_all_that_its_tasks_observe(task: str, robot: str):
    require_topics(load_robot(robot), make_task(task))


def test_a_task_that_a_robots_file_has_no_topics_for_is_refused():
    with pytest.raises(
        InputError, match=r"Task 'drawer' observes .*object_opening, and robot 'two_joint' names no topic"
    ):
        require_topics(load_robot("two_joint"), make_task("drawer"))
