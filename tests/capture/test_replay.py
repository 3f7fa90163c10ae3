"""Recorded input asked for again: the same rows in the same order, from an episode or a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conformance.device import LIFT, NOW, PERIOD_S, VALUES, DeviceConformance

from understudy.capture.devices.device import neutral
from understudy.capture.devices.make import DeviceOptions, make_device
from understudy.capture.devices.replay import Recording, ReplayDevice, load_recordings, read_table
from understudy.capture.devices.scripted import ScriptedDevice
from understudy.capture.session import Session, SessionConfig
from understudy.datasets.store import Dataset
from understudy.envs.arms.clock import VirtualClock
from understudy.envs.arms.robot import load_robot
from understudy.envs.make import make_env
from understudy.errors import InputError

HEADER = ",".join(LIFT.labels)
ROWS = np.random.default_rng(2).uniform(-0.02, 0.02, (12, 7)) + np.array([0.0] * 6 + [0.04])


class TestReplay(DeviceConformance):
    @pytest.fixture
    def device(self) -> ReplayDevice:
        return ReplayDevice(LIFT, [Recording(ROWS, {}, "a test")])


def played(device: ReplayDevice, ticks: int) -> np.ndarray:
    device.start_pressed()
    return np.array([device.read(NOW).action for _ in range(ticks)])


def test_rows_come_back_exactly_and_then_stop_is_said_once() -> None:
    device = ReplayDevice(LIFT, [Recording(ROWS, {}, "a test")])
    device.reset(VALUES)
    assert np.array_equal(played(device, len(ROWS)), ROWS)
    after = [device.read(NOW) for _ in range(3)]
    assert [reading.events for reading in after] == [("stop",), (), ()]
    assert all(np.array_equal(reading.action, neutral(LIFT, NOW)) for reading in after)
    assert after[0].message == "a test is at its end."


def test_looks_between_takes_use_up_no_rows_and_ask_for_the_start_once() -> None:
    device = ReplayDevice(LIFT, [Recording(ROWS, {}, "a test")])
    device.reset(VALUES)
    events = [device.read(NOW).events for _ in range(5)]
    assert events == [("start",), (), (), (), ()]
    assert np.array_equal(played(device, 3), ROWS[:3])


def test_each_episode_takes_the_next_recording_and_begins_anew_after_the_last() -> None:
    device = ReplayDevice(LIFT, [Recording(ROWS[:2], {}, "one"), Recording(ROWS[2:4], {}, "two")])
    seen = []
    for _ in range(3):
        device.reset(VALUES)
        seen.append(played(device, 2))
    assert np.array_equal(seen, [ROWS[:2], ROWS[2:4], ROWS[:2]])


def test_a_recorded_loss_moves_nothing_until_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "input.csv"
    rows = [f"0.01,0,0,0,0,0,0.04,{event}" for event in ("success", "lost", "", "back start", "")]
    path.write_text("\n".join([f"{HEADER},event", *rows]))
    device = ReplayDevice(LIFT, [read_table(path, LIFT)])
    device.reset(VALUES)
    device.start_pressed()
    readings = [(bool(r.action[0] > 0), r.events, device.lost) for r in (device.read(NOW) for _ in range(5))]
    assert readings == [
        (True, ("success",), False), (False, ("lost",), True), (False, (), True), (True, ("back", "start"), False),
        (True, (), False),
    ]  # fmt: skip


def test_columns_may_come_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "input.csv"
    order = list(reversed(LIFT.labels))
    path.write_text("\n".join([",".join(order), "0.07,6,5,4,3,2,1"]))
    assert read_table(path, LIFT).actions.tolist() == [[1, 2, 3, 4, 5, 6, 0.07]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected one column for each of x, y, z"),
        ("x,y\n", "line 1: expected one column for each of"),
        (f"{HEADER},x\n", "line 1: expected one column for each of"),
        (f"{HEADER},evnt\n", "line 1: Unknown column 'evnt': did you mean 'event'"),
        (f"{HEADER}\n1,2\n", "line 2: expected 7 values, got 2"),
        (f"{HEADER}\n0,0,0,0,0,0,0\n0,0,0,zero,0,0,0\n", "line 3, roll: expected a number, got 'zero'"),
        (f"{HEADER}\n0,nan,0,0,0,0,0\n", "line 2, y: expected a finite number, got 'nan'"),
        (f"{HEADER},event\n0,0,0,0,0,0,0,strat\n", "line 2: Unknown event 'strat': did you mean 'start'"),
        (f"{HEADER}\n", "has no rows to replay"),
    ],
)
def test_tables_that_cannot_be_read_say_which_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "input.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_table(path, LIFT)


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.csv cannot be read as CSV"):
        read_table(tmp_path / "none.csv", LIFT)


def test_what_was_recorded_replays_to_the_same_episode(tmp_path: Path) -> None:
    """A scripted take of reach, replayed on the same start, ends with the same observations bit by bit."""
    env = make_env("reach", "panda")
    try:
        spec, robot = env.control.actions.spec, env.control.robot
        first = Dataset.create(tmp_path / "first", robot="panda", task="reach")
        scripted = ScriptedDevice("reach", robot, spec, np.random.default_rng(0))
        id = record(Session(env, scripted, first, SessionConfig(max_s=3.0)))
        device = make_device(
            "replay", spec=spec, robot=robot, clock=VirtualClock(), period_s=PERIOD_S,
            options=DeviceOptions(source=Path(f"{tmp_path / 'first'}:{id}")),
        )  # fmt: skip
        second = Dataset.create(tmp_path / "second", robot="panda", task="reach")
        again = record(Session(env, device, second, SessionConfig(max_s=3.0)))
        one, two = first.read(id), second.read(again)
        assert np.array_equal(one.requested, two.requested)
        assert all(np.array_equal(one.final_observation[key], two.final_observation[key]) for key in one.observations)
        with pytest.raises(InputError, match=r"was recorded in 'tool_delta' \(x, y, z\), and this task acts in"):
            load_recordings(tmp_path / "first", LIFT)
        with pytest.raises(InputError, match="Unknown episode of"):
            load_recordings(Path(f"{tmp_path / 'first'}:nobody"), spec)
    finally:
        env.close()


def record(session: Session) -> str:
    session.prepare(seed=5)
    session.start()
    begins = getattr(session.device, "start_pressed", None)
    if begins is not None:
        begins()
    while session.state == "recording":
        session.tick()
    return session.keep()


def test_a_source_must_be_given() -> None:
    with pytest.raises(InputError, match="--device replay needs --source"):
        make_device("replay", spec=LIFT, robot=load_robot("panda"), clock=VirtualClock(), period_s=PERIOD_S)
