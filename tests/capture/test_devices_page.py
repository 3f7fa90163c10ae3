"""The page of the devices says what the code does: every device, its settings, and its limits; and pages lead to it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from understudy.capture.devices.browser import BrowserConfig
from understudy.capture.devices.joy import MAX_AGE_S
from understudy.capture.devices.leader import LeaderConfig
from understudy.capture.devices.make import DEVICES, USED
from understudy.capture.devices.spacemouse import SILENT_S

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "reference" / "devices.md").read_text()
TESTED, SETTINGS, LOST = (PAGE.partition(f"## {title}")[2].partition("\n## ")[0] for title in (
    "Tested on what", "Settings", "When it is lost"
))  # fmt: skip


def rows(section: str) -> dict[str, list[str]]:
    """Device -> the cells beside it; a row may be of several devices."""
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        found.update({name: cells[1:] for name in re.findall(r"`([a-z]+)`", cells[0]) if line.startswith("|")})
    return found


def test_each_says_what_it_was_tested_on() -> None:
    assert set(rows(TESTED)) == set(DEVICES)
    assert all(len(cells) == 2 and all(cells) for cells in rows(TESTED).values())


@pytest.mark.parametrize("device", DEVICES)
def test_its_settings_are_the_ones_that_it_uses(device: str) -> None:
    header = next(line for line in SETTINGS.splitlines() if line.startswith("| device"))
    columns = [re.findall(r"--([a-z-]+)", cell) for cell in header.strip("|").split("|")[1:]]
    told: set[str] = set()
    for flags, cell in zip(columns, rows(SETTINGS)[device], strict=True):
        told |= {flag.replace("-", "_") for flag in flags if cell.startswith("yes")}
        told |= {flag.replace("-", "_") for flag in re.findall(r"`--([a-z-]+)`", cell)}
    assert told == set(USED[device])


def test_the_limits_are_the_defaults() -> None:
    lost = {name: cells[0] for name, cells in rows(LOST).items()}
    page, leader = BrowserConfig(), LeaderConfig()
    assert set(lost) == set(DEVICES) - {"scripted", "replay"}
    assert f"for {page.lost_s:g} s" in lost["browser"]
    assert f"over {page.release_s:g} s late" in lost["browser"]
    assert f"for {SILENT_S:g} s (`--silent-s`)" in lost["spacemouse"]
    assert f"for {MAX_AGE_S:g} s (`--silent-s`)" in lost["joy"]
    assert f"for {leader.max_age_s:g} s (`--silent-s`)" in lost["leader"]
    assert f"faster than {leader.max_speed_rad_s:g} rad/s" in lost["leader"]


@pytest.mark.parametrize(
    "page",
    ["README.md", "how-to/gamepad.md", "how-to/leader-follower.md", "how-to/hand-guiding.md",
     "how-to/drive-a-session.md", "tutorials/operator.md"],
)  # fmt: skip
def test_it_is_linked(page: str) -> None:
    (link,) = re.findall(r"\(([./a-z]*reference/devices\.md)\)", (DOCS / page).read_text())
    assert ((DOCS / page).parent / link).resolve() == DOCS / "reference" / "devices.md"
