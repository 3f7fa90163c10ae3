"""Which devices can drive an arm from this machine, and what each of the others lacks: an extra, a right, a plug.

Looks at files in /dev and asks the libraries in processes of their own (`probes.py`); nothing is opened for long.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from understudy.cli.doctor import Check
from understudy.errors import EXTRA_OF_MODULE

__all__ = ["check_devices"]

GROUP = "recording devices"
DEV = Path("/dev")
EASY = {
    "scripted": ("pybullet", "solves tasks in simulation by itself"),
    "replay": ("h5py", "asks again for what was recorded"),
    "browser": ("fastapi", "keys, pads, touch and game pads in the web page"),
    "joy": ("rclpy", "joysticks over ROS 2 (sensor_msgs/Joy)"),
    "leader": ("rclpy", "another arm's joint states over ROS 2; see understudy calibrate-leader"),
    "hand": ("rclpy", "a real arm in gravity compensation or freedrive, guided by hand"),
}
"""Device -> (what it needs, what it does)."""


def check_devices(probe: Callable[[str], Check], dev: Path = DEV) -> list[Check]:
    """Every device by name: ok, or a note or `missing` with what to do.

    Args:
        probe: uses a library for real in another process (`doctor.run_probe`).
        dev: the machine's device files.
    """
    checks = [_easy(name, module, what) for name, (module, what) in EASY.items()]
    terminal = sys.stdin is not None and sys.stdin.isatty()
    what = "keys of the terminal" if terminal else "keys of a terminal; standard input is none just now"
    checks.insert(0, Check(GROUP, "keyboard", "ok" if terminal else "note", what))
    rights = "Add your user to the group `input` (sudo usermod -aG input $USER), and log in again."
    files = sorted((dev / "input").glob("event*"))
    checks.append(_plugged("gamepad", "pygame", probe, _unreadable(files, dev / "input", rights, "input")))
    rule = "Write the udev rule that `record --device spacemouse` prints when it is refused."
    nodes = sorted(dev.glob("hidraw*"))
    checks.append(_plugged("spacemouse", "hidraw", probe, _unreadable(nodes, dev / "hidraw*", rule, "hidraw0")))
    uinput = dev / "uinput"
    usable = os.access(uinput, os.W_OK)
    state = "can be made" if usable else "not writable" if uinput.exists() else "not there"
    checks.append(Check(GROUP, "/dev/uinput", "ok" if usable else "note", f"{state}; only for made-up game pads"))
    return checks


def _easy(name: str, module: str, what: str) -> Check:
    if importlib.util.find_spec(module) is not None:
        return Check(GROUP, name, "ok", what)
    return Check(
        GROUP, name, "missing", f"needs {module}", f"pip install 'understudy[{EXTRA_OF_MODULE.get(module, 'all')}]'"
    )


def _plugged(name: str, module: str, probe: Callable[[str], Check], hindered: tuple[str, str]) -> Check:
    """A device with a plug: its library must work, its files be readable, and something be plugged in."""
    if importlib.util.find_spec(module) is None:
        return Check(GROUP, name, "missing", f"needs {module}", "pip install 'understudy[devices]'")
    tried = probe(module)
    if tried.state != "ok":
        return Check(GROUP, name, "broken", tried.detail, tried.remedy)
    found = not tried.detail.endswith("none is plugged in")
    if found:
        return Check(GROUP, name, "ok", tried.detail)
    why, remedy = hindered
    return Check(GROUP, name, "note", f"{tried.detail}{f'; {why}' if why else ''}", remedy)


def _unreadable(files: Sequence[Path], place: Path, remedy: str, share: str) -> tuple[str, str]:
    """(why devices there cannot be read, what to do); empty texts when they can."""
    if not files:
        return f"{place} is not there", f"In a container, share the machine's devices: docker run --device /dev/{share}"
    if not any(os.access(path, os.R_OK) for path in files):
        return f"no device in {place} may be read by this user", remedy
    return "", ""
