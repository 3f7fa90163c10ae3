"""The profiles in the documentation are sections that a robot's file may have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from understudy.envs.arms.robot import RosDescription

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "record-a-real-arm.md"
PROFILES = re.findall(r"^\*\*(\w+)[^`]*?`.*?```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("arm", "text"), PROFILES, ids=[arm for arm, _ in PROFILES])
def test_a_profile_is_read(arm: str, text: str) -> None:
    ros = RosDescription.model_validate(yaml.safe_load(text)["ros"])
    assert ros.command_topic.endswith("/joint_trajectory")
    (camera,) = ros.cameras.values()
    assert camera.is_compressed is (arm == "Franka")


def test_there_are_three() -> None:
    assert [arm for arm, _ in PROFILES] == ["Universal", "Franka", "xArm"]
