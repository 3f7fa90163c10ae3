"""Devices by name: what is wrong is said before anything is opened, and nothing is imported that is not asked for."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conformance.device import LIFT, PERIOD_S

from understudy.capture.devices.make import AUTOMATIC, DEVICES, UNCOMMANDED, DeviceOptions, make_device
from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.clock import VirtualClock
from understudy.envs.arms.robot import load_robot
from understudy.errors import InputError, MissingExtra

PANDA = load_robot("panda")
PLACES = ActionSpec("joint_position", PANDA.joint_names, ("rad",) * 7, (-3.0,) * 7, (3.0,) * 7)


def made(name: str, spec: ActionSpec = LIFT, period_s: float = PERIOD_S, **options: Any) -> Any:
    clock = VirtualClock()
    return make_device(
        name, spec=spec, robot=PANDA, clock=clock, period_s=period_s, task="lift", options=DeviceOptions(**options)
    )


def test_every_device_has_one_name() -> None:
    assert set(DEVICES) == {
        "scripted", "keyboard", "browser", "gamepad", "spacemouse", "joy", "leader", "hand", "replay",
    }  # fmt: skip
    assert {*AUTOMATIC, *UNCOMMANDED} <= set(DEVICES)
    for name in ("scripted", "browser", "hand"):  # those that need nothing plugged in
        device = made(name)
        assert device.name == name
        device.close()


def test_a_name_that_no_device_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"Unknown device 'gampad': did you mean 'gamepad'\? Known devices: browser, "):
        made("gampad")


@pytest.mark.parametrize("period_s", [0.0, -0.05, math.nan, math.inf])
@pytest.mark.parametrize("name", ["hand", "browser"])
def test_a_period_is_a_positive_number(name: str, period_s: float) -> None:
    with pytest.raises(InputError, match="period of a device must be a positive number of seconds"):
        made(name, period_s=period_s)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dead_band": -0.1}, "Dead band must be"),
        ({"speed": 2.0}, "Device speed must be"),
        ({"acceleration_s": math.inf}, "Acceleration must take"),
    ],
)
def test_options_out_of_range_are_refused_where_they_are_written(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DeviceOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["browser", "gamepad", "spacemouse", "joy"])
def test_axes_do_not_drive_a_space_of_places(name: str) -> None:
    with pytest.raises(InputError, match="this task uses 'joint_position'; choose another device"):
        made(name, PLACES)


@pytest.mark.parametrize(
    ("name", "module", "package"), [("gamepad", "pygame", "pygame"), ("spacemouse", "hidraw", "hidapi")]
)
def test_a_missing_package_names_the_extra(
    name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MissingExtra, match=rf"needs {package}, which is not installed: pip install 'understudy\[devices\]'"
    ):
        made(name)


def test_a_calibration_is_read_before_anything_joins_the_graph(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml does not exist; make it with: understudy calibrate-leader"):
        made("leader", calibration=tmp_path / "none.yaml")
    with pytest.raises(InputError, match="Unknown layout 'xbx': did you mean 'xbox'"):
        made("joy", layout="xbx")


IMPORTS = """
import importlib, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.py")):
    importlib.import_module(f"understudy.capture.devices.{path.stem}")
print(*sorted({"pygame", "hidraw", "rclpy", "sensor_msgs", "pybullet", "torch", "fastapi"} & set(sys.modules)))
"""


def test_no_device_imports_what_it_does_not_need_before_it_is_made() -> None:
    folder = Path(__file__).parents[2] / "capture" / "devices"
    command = [sys.executable, "-c", IMPORTS, str(folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.split() == []
