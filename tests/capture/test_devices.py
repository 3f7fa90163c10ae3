"""What every device owes, and the keyboard on a real terminal (a pty)."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from understudy.capture.devices.device import Device, neutral
from understudy.capture.devices.keyboard import KeyboardConfig, KeyboardDevice
from understudy.capture.devices.scripted import ScriptedDevice
from understudy.datasets.align import Aligned
from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.clock import VirtualClock
from understudy.envs.arms.robot import load_robot
from understudy.errors import InputError

TWIST = ("x", "y", "z", "roll", "pitch", "yaw")
LIFT = ActionSpec(
    "tool_delta", (*TWIST, "gripper"), ("m",) * 3 + ("rad",) * 3 + ("m",),
    (-0.03,) * 3 + (-0.15,) * 3 + (0.0,), (0.03,) * 3 + (0.15,) * 3 + (0.08,),
)  # fmt: skip
VALUES = {
    "joint_position": np.zeros(7, np.float32),
    "gripper_position": np.array([0.06], np.float32),
    "tool_position": np.array([0.4, 0.1, 0.3], np.float32),
    "tool_quaternion": np.array([1.0, 0.0, 0.0, 0.0], np.float32),
    "object_position": np.array([0.5, 0.0, 0.02], np.float32),
    "object_quaternion": np.array([0.0, 0.0, 0.0, 1.0], np.float32),
    "goal_position": np.array([0.5, 0.0, 0.3], np.float32),
}
NOW = Aligned(0, VALUES, {})


class Terminal:
    """Both ends of a pty and a keyboard on it."""

    def __init__(self) -> None:
        self.person, self.tty = pty.openpty()
        self.before = termios.tcgetattr(self.tty)
        self.clock = VirtualClock()
        self.device = KeyboardDevice(LIFT, self.clock, KeyboardConfig(speed=0.5, hold_s=0.1, acceleration_s=0.0), self.tty)
        self.device.reset(VALUES)

    def type(self, keys: str) -> None:
        os.write(self.person, keys.encode())
        # a pty hands bytes over before write returns, but only once the line discipline has run
        self.wait_for(keys)

    def wait_for(self, keys: str) -> None:
        import select

        assert select.select([self.tty], [], [], 2.0)[0], keys

    def close(self) -> None:
        self.device.close()
        for descriptor in (self.person, self.tty):
            try:
                os.close(descriptor)
            except OSError:
                continue


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


@pytest.fixture(params=["scripted", "keyboard"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    if request.param == "scripted":
        yield ScriptedDevice("lift", load_robot("panda"), LIFT, np.random.default_rng(1))
        return
    terminal = Terminal()
    yield terminal.device
    terminal.close()


class TestEveryDevice:
    def test_answers_finite_actions_inside_the_bounds(self, device: Device) -> None:
        device.reset(VALUES)
        for _ in range(50):
            action = device.read(NOW).action
            assert action.shape == (LIFT.size,)
            assert action.dtype == np.float64
            assert np.all(np.isfinite(action))
            assert np.all((action >= LIFT.low) & (action <= LIFT.high))

    def test_does_not_keep_or_change_what_it_is_given(self, device: Device) -> None:
        before = {key: value.copy() for key, value in VALUES.items()}
        device.reset(VALUES)
        first = device.read(NOW).action
        first[:] = 1e9
        assert np.all(device.read(NOW).action <= LIFT.high)
        assert all(np.array_equal(VALUES[key], value) for key, value in before.items())

    def test_has_a_name_and_closes_twice(self, device: Device) -> None:
        assert device.name
        device.close()
        device.close()


def test_scripted_manner_follows_the_generator() -> None:
    def actions(seed: int) -> list[list[float]]:
        device = ScriptedDevice("lift", load_robot("panda"), LIFT, np.random.default_rng(seed))
        device.reset(VALUES)
        return [device.read(NOW).action.tolist() for _ in range(10)]

    assert actions(3) == actions(3)
    assert actions(3) != actions(4)


def test_neutral_moves_nothing() -> None:
    assert neutral(LIFT, NOW).tolist() == pytest.approx([0.0] * 6 + [0.06])
    joints = ActionSpec("joint_position", tuple("abcdefg"), ("rad",) * 7, (-3.0,) * 7, (3.0,) * 7)
    assert np.array_equal(neutral(joints, NOW), VALUES["joint_position"])


class TestKeyboard:
    @pytest.mark.parametrize(
        ("key", "label", "direction"),
        [("w", "x", 1), ("s", "x", -1), ("a", "y", 1), ("f", "z", -1), ("u", "roll", 1), ("l", "yaw", -1)],
    )
    def test_a_key_moves_its_axis_alone(self, terminal: Terminal, key: str, label: str, direction: int) -> None:
        terminal.type(key)
        action = terminal.device.read(NOW).action
        index = LIFT.labels.index(label)
        assert action[index] == pytest.approx(direction * 0.5 * LIFT.high[index])
        assert np.count_nonzero(np.delete(action[:6], index)) == 0

    def test_motion_lasts_while_the_key_is_held(self, terminal: Terminal) -> None:
        moving = []
        for tick in range(12):
            if tick < 6:
                terminal.type("w")  # the terminal repeats a held key
            moving.append(bool(terminal.device.read(NOW).action[0] > 0))
            terminal.clock.advance(0.05)
        assert moving == [True] * 8 + [False] * 4  # 0.1 s after the last character it stands still

    def test_space_toggles_the_gripper_and_it_stays(self, terminal: Terminal) -> None:
        terminal.type(" ")
        assert terminal.device.read(NOW).action[-1] == 0.0
        terminal.clock.advance(3.0)
        assert terminal.device.read(NOW).action[-1] == 0.0
        terminal.type(" ")
        assert terminal.device.read(NOW).action[-1] == pytest.approx(0.08)

    def test_events_come_in_order_and_once(self, terminal: Terminal) -> None:
        terminal.type("\rgnyz")
        assert terminal.device.read(NOW).events == ("start", "success", "drop", "keep", "undo")
        assert terminal.device.read(NOW).events == ()

    def test_reset_forgets_what_was_typed(self, terminal: Terminal) -> None:
        terminal.type("w\r")
        terminal.device.reset(VALUES)
        reading = terminal.device.read(NOW)
        assert reading.events == ()
        assert not np.any(reading.action[:6])

    def test_a_lost_terminal_stops_the_motion_and_says_so_once(self, terminal: Terminal) -> None:
        terminal.type("w")
        assert terminal.device.read(NOW).action[0] > 0
        os.close(terminal.person)  # the window was closed
        reading = terminal.device.read(NOW)
        assert reading.events == ("lost",)
        assert not np.any(reading.action[:6])
        assert terminal.device.read(NOW).events == ()

    def test_the_terminal_is_put_back(self, terminal: Terminal) -> None:
        assert termios.tcgetattr(terminal.tty) != terminal.before
        terminal.device.close()
        assert termios.tcgetattr(terminal.tty) == terminal.before

    def test_what_is_not_a_terminal_is_refused(self, tmp_path: Path) -> None:
        with (tmp_path / "file").open("w") as file, pytest.raises(InputError, match="needs a terminal"):
            KeyboardDevice(LIFT, VirtualClock(), descriptor=file.fileno())

    def test_spaces_that_keys_cannot_drive_are_refused(self, terminal: Terminal) -> None:
        joints = ActionSpec("joint_delta", ("a",), ("rad",), (-1.0,), (1.0,))
        with pytest.raises(InputError, match="drives the action space 'tool_delta'"):
            KeyboardDevice(joints, VirtualClock(), descriptor=terminal.tty)

    @pytest.mark.parametrize("speed", [0.0, 1.5, float("nan")])
    def test_speed_is_checked(self, speed: float) -> None:
        with pytest.raises(InputError, match="speed must be above 0"):
            KeyboardConfig(speed=speed)


DIES_WITHOUT_CLOSING = """
import sys
from understudy.capture.devices.keyboard import KeyboardDevice
from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.clock import MonotonicClock
device = KeyboardDevice(ActionSpec("tool_delta", ("x",), ("m",), (-1.0,), (1.0,)), MonotonicClock())
raise SystemExit("forgot to close")
"""


def test_the_terminal_is_put_back_also_when_nobody_closes() -> None:
    person, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    command = [sys.executable, "-c", DIES_WITHOUT_CLOSING]
    finished = subprocess.run(command, stdin=terminal, capture_output=True, text=True, check=False, timeout=60)
    assert "forgot to close" in finished.stderr
    assert termios.tcgetattr(terminal) == before
    os.close(person)
    os.close(terminal)
