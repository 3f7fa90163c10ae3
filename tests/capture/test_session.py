"""The session: one path for a script and a person, no transition that is not on the diagram, no take lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.capture.devices.device import DeviceReading, Event, neutral
from understudy.capture.devices.scripted import ScriptedDevice
from understudy.capture.session import POSSIBLE, Session, SessionConfig
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec
from understudy.datasets.store import Dataset
from understudy.envs.arm_env import ArmEnv
from understudy.envs.make import make_env
from understudy.errors import ArmFault, DatasetError, InputError, RecordingError


@pytest.fixture(scope="module")
def env() -> Iterator[ArmEnv]:
    made = make_env("reach", "panda")
    yield made
    made.close()


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.create(tmp_path / "demos", robot="panda", task="reach")


class Puppet:
    """A device that does as the test says: actions for each tick, and what is pressed next."""

    name = "puppet"

    def __init__(self, spec: ActionSpec) -> None:
        self.spec = spec
        self.pressed: list[Event] = []
        self.asked: list[np.ndarray] = []
        self.action: np.ndarray | None = None
        self.closed = 0

    def reset(self, observation: Mapping[str, Any]) -> None:
        self.asked.clear()

    def read(self, aligned: Aligned) -> DeviceReading:
        events, self.pressed = tuple(self.pressed), []
        action = neutral(self.spec, aligned) if self.action is None else self.action
        self.asked.append(action.copy())
        return DeviceReading(action, events)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def puppet(env: ArmEnv) -> Puppet:
    return Puppet(env.control.actions.spec)


@pytest.fixture
def session(env: ArmEnv, puppet: Puppet, dataset: Dataset) -> Session:
    return Session(env, puppet, dataset, SessionConfig(operator="ada", max_s=1.0))


def record(session: Session, ticks: int) -> None:
    session.prepare(seed=1)
    session.start()
    for _ in range(ticks):
        session.tick()


def test_scripted_episode_is_recorded_and_replays(env: ArmEnv, dataset: Dataset) -> None:
    """The recorded actions, stepped again from the same seed, give the recorded observations."""
    device = ScriptedDevice("reach", env.control.robot, env.control.actions.spec, np.random.default_rng(0))
    session = Session(env, device, dataset, SessionConfig(operator="scripted", max_s=3.0))
    session.prepare(seed=3)
    session.start()
    while session.state == "recording":
        last = session.tick()
    assert last.stopped == "success"
    episode = dataset.read(session.keep())
    assert episode.info.success is True
    assert (episode.info.seed, episode.info.device, episode.info.operator) == (3, "scripted", "scripted")
    assert np.all(np.diff(episode.tick_ns) == 50_000_000)
    assert episode.states.shape[0] == len(episode)
    assert np.array_equal(episode.sent.shape, episode.requested.shape)

    env.reset(seed=3)
    env.aligned = env.control.begin()
    for k in range(len(episode)):
        for key, values in episode.observations.items():
            assert np.array_equal(env.aligned.values[key], values[k]), (key, k)
        _, reward, _, _, details = env.step_units(episode.requested[k])
        assert reward == pytest.approx(float(episode.rewards[k]), abs=1e-6)
        assert np.array_equal(details["sent"], episode.sent[k])
        assert np.array_equal(details["measured"], episode.measured[k])
    for key, value in episode.final_observation.items():
        assert np.array_equal(env.aligned.values[key], value)


def test_what_the_operator_asked_is_stored_as_it_was_pauses_included(
    session: Session, puppet: Puppet, dataset: Dataset
) -> None:
    session.prepare(seed=1)
    session.start()
    rng = np.random.default_rng(5)
    for k in range(12):
        puppet.action = np.zeros(3) if 4 <= k < 9 else rng.uniform(-0.02, 0.02, 3)
        session.tick()
    session.stop()
    episode = dataset.read(session.keep())
    assert np.array_equal(episode.requested, np.array(puppet.asked))
    assert np.all(episode.requested[4:9] == 0.0)


def test_stops_by_itself_after_the_time(session: Session) -> None:
    session.prepare(seed=1)
    session.start()
    ticks = []
    while session.state == "recording":
        ticks.append(session.tick())
    assert len(ticks) == session.steps == 20
    assert [tick.stopped for tick in ticks] == [""] * 19 + ["time"]


@pytest.mark.parametrize(("event", "reason"), [("stop", "operator"), ("quit", "operator"), ("lost", "device lost")])
def test_stops_when_the_operator_says_so_or_is_gone(
    session: Session, puppet: Puppet, event: Event, reason: str
) -> None:
    record(session, 3)
    puppet.pressed = [event]
    assert session.tick().stopped == reason
    assert session.state == "review"


@pytest.mark.parametrize(("event", "verdict"), [("success", True), ("failure", False)])
def test_the_verdict_of_the_operator_stands_above_the_tasks(
    session: Session, puppet: Puppet, dataset: Dataset, event: Event, verdict: bool
) -> None:
    record(session, 3)
    puppet.pressed = [event]
    session.tick()
    assert session.success is verdict
    session.note("by hand")
    info = dataset.read(session.keep()).info
    assert (info.success, info.note) == (verdict, "by hand")


def test_a_dropped_take_is_in_the_trash_and_can_be_restored(session: Session, dataset: Dataset) -> None:
    record(session, 5)
    session.stop()
    session.drop()
    assert session.state == "idle"
    assert len(dataset) == 0
    (id,) = dataset.dropped
    dataset.restore(id)
    assert len(dataset.read(id)) == 5


def test_undo_takes_back_the_last_kept(session: Session, dataset: Dataset) -> None:
    for _ in range(2):
        record(session, 4)
        session.stop()
        session.keep()
    first, second = dataset.ids
    assert session.undo() == second
    assert dataset.ids == (first,)
    assert session.undo() == first
    with pytest.raises(InputError, match="nothing to undo"):
        session.undo()


def test_closing_in_the_middle_leaves_a_recoverable_take(session: Session, dataset: Dataset, puppet: Puppet) -> None:
    record(session, 7)
    session.close()
    assert puppet.closed == 1
    opened = Dataset.open(dataset.path)
    (id,) = opened.recovery.takes
    assert len(opened.read(opened.commit(opened.take_file(id)))) == 7


def advance_to(session: Session, state: str) -> None:
    if state == "idle":
        return
    session.prepare(seed=1)
    if state == "ready":
        return
    session.start()
    session.tick()
    if state == "review":
        session.stop()


WISHES: dict[str, Any] = {
    "prepare": lambda s: s.prepare(seed=1),
    "start": lambda s: s.start(),
    "tick": lambda s: s.tick(),
    "stop": lambda s: s.stop(),
    "keep": lambda s: s.keep(),
    "drop": lambda s: s.drop(),
    "undo": lambda s: s.undo(),
    "mark": lambda s: s.mark(True),
    "note": lambda s: s.note("x"),
}


@pytest.mark.parametrize("state", ["idle", "ready", "recording", "review"])
def test_everything_off_the_diagram_is_refused_with_what_is_possible(session: Session, state: str) -> None:
    advance_to(session, state)
    possible = POSSIBLE[state]  # type: ignore[index]
    for wish, ask in WISHES.items():
        if wish in possible:
            continue
        with pytest.raises(
            InputError, match=f"Cannot {wish} while the session is {state}; possible now: {possible[0]}"
        ):
            ask(session)
        assert session.state == state
    session.close()


class Breaking:
    """The environment, until a tick at which the arm or the disk fails."""

    def __init__(self, env: ArmEnv, at: int, error: Exception) -> None:
        self._env, self._left, self._error = env, at, error
        self.task, self.control = env.task, env.control

    @property
    def aligned(self) -> Aligned | None:
        return self._env.aligned

    @aligned.setter
    def aligned(self, value: Aligned) -> None:
        self._env.aligned = value

    def reset(self, **options: Any) -> Any:
        return self._env.reset(**options)

    def step_units(self, requested: np.ndarray) -> Any:
        self._left -= 1
        if self._left < 0:
            raise self._error
        return self._env.step_units(requested)


def test_an_arm_that_faults_leaves_the_take_in_review(env: ArmEnv, puppet: Puppet, dataset: Dataset) -> None:
    stage = Breaking(env, 6, ArmFault("The arm does not answer."))
    session = Session(stage, puppet, dataset, SessionConfig())
    record(session, 6)
    with pytest.raises(ArmFault):
        session.tick()
    assert session.state == "review"
    episode = dataset.read(session.keep())
    assert len(episode) == 6
    assert "The arm does not answer" in episode.info.note


def test_a_disk_that_fails_ends_the_take_and_says_so(env: ArmEnv, puppet: Puppet, dataset: Dataset) -> None:
    session = Session(Breaking(env, 6, RecordingError("disk full")), puppet, dataset, SessionConfig())
    record(session, 6)
    with pytest.raises(RecordingError, match="disk full"):
        session.tick()
    assert session.state == "idle"
    assert len(Dataset.open(dataset.path).recovery.takes) == 1


def test_a_dataset_of_another_task_is_refused(env: ArmEnv, puppet: Puppet, tmp_path: Path) -> None:
    other = Dataset.create(tmp_path / "lift", robot="panda", task="lift")
    with pytest.raises(DatasetError, match="task 'lift', and 'reach'"):
        Session(env, puppet, other, SessionConfig())


def test_a_take_without_a_step_cannot_be_kept(session: Session, dataset: Dataset) -> None:
    session.prepare(seed=1)
    session.start()
    session.stop()
    with pytest.raises(DatasetError, match="before its first step"):
        session.keep()
    assert session.state == "idle"
    assert len(Dataset.open(dataset.path)) == 0
