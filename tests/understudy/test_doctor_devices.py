"""`understudy doctor` on devices: what can be used here, and what each of the others lacks."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from understudy.capture.devices.make import DEVICES
from understudy.cli.doctor import Check, run_probe
from understudy.cli.doctor_devices import GROUP, check_devices


def answering(detail: str, state: str = "ok"):
    return lambda module: Check("devices", f"{module} works", state, detail, "Install it again" * (state != "ok"))


def found(dev: Path, probe=None) -> dict[str, Check]:
    return {check.name: check for check in check_devices(probe or answering("SDL 2; none is plugged in"), dev)}


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    (tmp_path / "input").mkdir()
    for name in ("input/event0", "hidraw0", "uinput"):
        (tmp_path / name).touch()
    return tmp_path


def test_every_device_is_told_of(dev: Path) -> None:
    checks = found(dev)
    assert set(DEVICES) <= set(checks)
    assert {check.group for check in checks.values()} == {GROUP}


def test_what_is_plugged_in_is_named(dev: Path) -> None:
    assert found(dev, answering("SDL 2.28.4; Xbox Pad"))["gamepad"] == Check(
        GROUP, "gamepad", "ok", "SDL 2.28.4; Xbox Pad"
    )
    note = found(dev)["gamepad"]
    assert (note.state, note.detail, note.remedy) == ("note", "SDL 2; none is plugged in", "")


def test_a_container_without_devices_is_told_how_to_share_them(tmp_path: Path) -> None:
    checks = found(tmp_path)
    assert checks["gamepad"].detail.endswith(f"{tmp_path}/input is not there")
    assert "docker run --device /dev/input" in checks["gamepad"].remedy
    assert "docker run --device /dev/hidraw0" in checks["spacemouse"].remedy
    assert checks["/dev/uinput"].detail.startswith("not there")


def test_devices_that_may_not_be_read_need_a_right(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # as for a user who is not root
    checks = found(dev)
    assert "group `input`" in checks["gamepad"].remedy
    assert "udev rule" in checks["spacemouse"].remedy
    assert checks["/dev/uinput"].detail.startswith("not writable")


def test_a_missing_package_names_its_extra_and_a_broken_one_is_broken(
    dev: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = found(dev, answering("exit code -11", "broken"))["gamepad"]
    assert (broken.state, broken.detail) == ("broken", "exit code -11")
    find = importlib.util.find_spec
    gone = ("pygame", "hidraw", "rclpy", "fastapi")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in gone else find(name))
    checks = found(dev)
    remedies = {name: (checks[name].state, checks[name].remedy) for name in ("gamepad", "spacemouse", "joy", "browser")}
    assert remedies == {
        "gamepad": ("missing", "pip install 'understudy[devices]'"),
        "spacemouse": ("missing", "pip install 'understudy[devices]'"),
        "joy": ("missing", "pip install 'understudy[ros]'"),
        "browser": ("missing", "pip install 'understudy[console]'"),
    }


@pytest.mark.parametrize(("module", "words"), [("pygame", "SDL 2"), ("hidraw", "hidapi 0")])
def test_the_libraries_are_asked_for_real(module: str, words: str) -> None:
    pytest.importorskip(module)
    check = run_probe(module)
    assert (check.group, check.state) == ("devices", "ok")
    assert words in check.detail
