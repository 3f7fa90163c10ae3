"""Devices by name: what is wrong is said before anything is opened, and nothing is imported that is not asked for."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conformance.device import LIFT, PERIOD_S

from understudy.capture.devices.make import (
    AUTOMATIC,
    DEVICES,
    UNCOMMANDED,
    USED,
    WATCHED,
    DeviceOptions,
    make_device,
    require_used,
)
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
        ({"silent_s": 0.0}, "silence after which a device is lost must be a positive number of seconds, got 0"),
        ({"silent_s": math.nan}, "silence after which a device is lost must be a positive number"),
    ],
)
def test_options_out_of_range_are_refused_where_they_are_written(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DeviceOptions(**options)  # type: ignore[arg-type]


CHOSEN: dict[str, Any] = {
    "dead_band": 0.2, "speed": 0.5, "acceleration_s": 0.1, "hold_to_move": True, "layout": "ps",
    "source": Path("a.csv"), "topic": "/other", "calibration": Path("leader.yaml"), "silent_s": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("setting", CHOSEN)
@pytest.mark.parametrize("name", [*DEVICES, WATCHED])
def test_a_setting_is_used_or_refused(name: str, setting: str) -> None:
    assert set(CHOSEN) == {field.name for field in dataclasses.fields(DeviceOptions)}
    options = DeviceOptions(**{setting: CHOSEN[setting]})
    if setting in USED[name]:
        require_used(name, options)
        return
    flag = "--" + setting.replace("_", "-")
    with pytest.raises(InputError, match=f"does not use {flag}; leave it out"):
        require_used(name, options)
    if name in DEVICES:
        with pytest.raises(InputError, match=f"--device {name} does not use {flag}"):
            made(name, **{setting: CHOSEN[setting]})


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "leader",
            ("hold_to_move",),
            r"--hold-to-move; .*A leader has no button to hold.*h \(terminal, page, pedal\) holds",
        ),
        (
            "leader",
            ("speed", "dead_band"),
            r"does not use --dead-band, --speed; .*robot file's limits.*It uses --topic, ",
        ),
        ("keyboard", ("hold_to_move",), "only while it is held, anyway. It uses --speed, --acceleration-s"),
        ("hand", ("hold_to_move", "speed"), "nothing moves but by your hand. It uses no setting of this kind"),
        ("spacemouse", ("layout",), "It uses --dead-band, --speed, --acceleration-s, --hold-to-move, --silent-s"),
        (WATCHED, ("speed",), "An arm that somebody else drives does not use --speed"),
    ],
)
def test_what_to_do_instead_is_said(name: str, settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        require_used(name, DeviceOptions(**{setting: CHOSEN[setting] for setting in settings}))


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
