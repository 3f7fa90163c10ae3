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
from conformance.device import LIFT, NOW, VALUES, AxesConformance, DeviceConformance
from device_hands import Terminal, Typist

from understudy.capture.devices.device import Device, neutral
from understudy.capture.devices.keyboard import KeyboardConfig, KeyboardDevice
from understudy.capture.devices.scripted import ScriptedDevice
from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.clock import VirtualClock
from understudy.envs.arms.robot import load_robot
from understudy.errors import InputError


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


class TestScripted(DeviceConformance):
    @pytest.fixture
    def device(self) -> Device:
        return ScriptedDevice("lift", load_robot("panda"), LIFT, np.random.default_rng(1))


class TestKeyboardConformance(AxesConformance):
    @pytest.fixture
    def hand(self, terminal: Terminal) -> Typist:
        return Typist(terminal)


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
