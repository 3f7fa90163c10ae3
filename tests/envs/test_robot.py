"""Robot files: the shipped ones load, and a wrong one is refused with a sentence that says what to change."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import ROBOTS, RobotDescription, known_robots, load_robot
from understudy.errors import InputError

PANDA: dict[str, Any] = yaml.safe_load((ROBOTS / "panda.yaml").read_text())
PANDA["urdf"] = PANDA["kinematics"] = str(ROBOTS / "panda.urdf")
SHIPPED = load_robot("panda")


def changed(*path: str | int, value: Any) -> dict[str, Any]:
    """The Panda's file with one entry set."""
    data = copy.deepcopy(PANDA)
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return data


def without(*path: str | int) -> dict[str, Any]:
    data = changed(*path, value=None)
    place = data
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return data


def load(tmp_path: Path, data: object) -> RobotDescription:
    file = tmp_path / "robot.yaml"
    file.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return load_robot(file)


@pytest.mark.parametrize("name", known_robots())
def test_a_shipped_robot_loads_and_stands_at_home_inside_its_workspace(name: str):
    robot = load_robot(name)
    assert robot.name == name or name.startswith(robot.name)
    assert np.all((robot.home > robot.joint_array("lower")) & (robot.home < robot.joint_array("upper")))
    tool = Kinematics(robot).tool_position(robot.home)
    assert np.all((tool > robot.workspace.low) & (tool < robot.workspace.high))
    assert robot.period_s * robot.rate_hz == pytest.approx(1.0)


def test_panda_and_kuka_are_shipped():
    assert {"panda", "kuka_iiwa"} <= set(known_robots())


def test_a_copy_of_a_shipped_file_is_the_same_robot(tmp_path: Path):
    robot, shipped = load(tmp_path, PANDA), load_robot("panda")
    assert robot.joints == shipped.joints
    assert robot.kinematics_path() == shipped.kinematics_path()
    assert robot.folder == tmp_path


JOINT = "panda_joint4"
BAD = {
    "unknown key": (changed("rate", value=20), r"Unknown key 'rate': did you mean 'rate_hz'\? Known keys: .*workspace"),
    "our own key": (changed("folder", value="/tmp"), r"Unknown key 'folder'"),
    "unknown joint key": (
        changed("joints", 3, "vleocity", value=1.0),
        r"joints\.3: Unknown key 'vleocity': did you mean 'velocity'\?",
    ),
    "unknown ros key": (
        changed("ros", "joint_states", "topc", value="/x"),
        r"ros\.joint_states: Unknown key 'topc': did you mean 'topic'\?",
    ),
    "unknown camera key": (
        changed("ros", "cameras", "front", "hieght", value=1),
        r"ros\.cameras\.front: Unknown key 'hieght': did you mean 'height'\?",
    ),
    "missing field": (without("tool_frame"), r"tool_frame is missing\."),
    "missing joint field": (without("joints", 2, "jerk"), r"joints\.2\.jerk is missing\."),
    "reversed limits": (
        changed("joints", 3, value={**PANDA["joints"][3], "lower": 0.0, "upper": -3.0}),
        rf"joint '{JOINT}': lower limit 0\.0 rad is not below upper -3\.0 rad",
    ),
    "home outside": (
        changed("joints", 3, "home", value=0.5),
        rf"joint '{JOINT}': home 0\.5 rad lies outside its limits \[-3\.1416, 0\.0\] rad",
    ),
    "wider than the URDF": (
        changed("joints", 3, "lower", value=-3.3),
        rf"joint '{JOINT}': limits \[-3\.3, 0\.0\] rad are wider than the URDF's \[-3\.1416, 0\.0\] rad; narrow",
    ),
    "faster than the URDF": (
        changed("joints", 3, "velocity", value=9.0),
        rf"joint '{JOINT}': velocity limit 9\.0 rad/s is above the URDF's 2\.175 rad/s",
    ),
    "unknown tool frame": (
        changed("tool_frame", value="panda_hnd"),
        r"Unknown link 'panda_hnd': did you mean 'panda_hand'",
    ),
    "unknown joint": (
        changed("joints", 0, "name", value="panda_jiont1"),
        r"Unknown joint 'panda_jiont1': did you mean",
    ),
    "unknown finger": (
        changed("gripper", "joints", value={"finger": [0.0, 0.04]}),
        r"Unknown joint 'finger'",
    ),
    "fixed joint": (changed("joints", 0, "name", value="panda_joint8"), r"'panda_joint8' is fixed in the URDF"),
    "joint twice": (changed("joints", 0, "name", value="panda_joint2"), r"joint names must be distinct"),
    "no joints": (changed("joints", value=[]), r"joint names must be distinct and at least one"),
    "arm joint as finger": (
        changed("gripper", "joints", value={"panda_joint1": [0.0, 1.0]}),
        r"\['panda_joint1'\] are listed both as arm joints and as finger joints",
    ),
    "finger that stays": (
        changed("gripper", "joints", "panda_finger_joint1", value=[0.04, 0.04]),
        r"'panda_finger_joint1' is at 0\.04 both closed and open",
    ),
    "no fingers": (changed("gripper", "joints", value={}), r"a gripper needs at least one finger joint"),
    "workspace reversed": (
        changed("workspace", "low", value=[0.9, 0.0, 0.0]),
        r"workspace low .* must lie below high .* on every axis",
    ),
    "not a number": (changed("joints", 0, "jerk", value="fast"), r"joints\.0\.jerk: .*valid number.*\(got 'fast'\)"),
    "not finite": (changed("joints", 0, "home", value=float("nan")), r"joints\.0\.home: .*finite"),
    "negative": (changed("joints", 0, "effort", value=-1.0), r"joints\.0\.effort: .*greater than 0"),
    "rate of zero": (changed("rate_hz", value=0), r"rate_hz: .*greater than or equal to 1"),
    "missing urdf": (
        changed("kinematics", value="nowhere.urdf"),
        r"URDF 'nowhere\.urdf' was looked for at .*not there",
    ),
    "missing package": (
        changed("kinematics", value="no_such_package:a.urdf"),
        r"lies in the Python package 'no_such_package', which is not installed",
    ),
    "missing in package": (
        changed("kinematics", value="pybullet_data:no.urdf"),
        r"URDF 'pybullet_data:no\.urdf' was looked for at .*not there",
    ),
    "odd packages": (changed("kinematics", value="a.b.c:x"), r"Python package 'a\.b\.c', which is not installed"),
    "no package": (changed("kinematics", value=":x"), r"Python package '', which is not installed"),
    "a list": ([1, 2], r"expected a mapping of robot fields, got list"),
    "nothing": ("", r"expected a mapping of robot fields, got NoneType"),
    "not YAML": ("joints: [", r"not readable as YAML: while parsing"),
    "not a date": ("name: 2026-13-45", r"not readable as YAML: month must be in 1\.\.12"),
    "too deep": ("[" * 3000, r"not readable as YAML"),
    "python object": (
        "a: !!python/object/apply:os.getcwd []",
        r"not readable as YAML: could not determine a constructor",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_its_name_and_what_is_wrong(case: str, tmp_path: Path):
    data, sentence = BAD[case]
    with pytest.raises(InputError, match=sentence) as caught:
        load(tmp_path, data)
    assert "\n" not in str(caught.value)
    if "kinematics" not in case and not case.startswith(
        ("missing urdf", "missing p", "missing in", "odd", "no package")
    ):
        assert str(tmp_path / "robot.yaml") in str(caught.value)


def test_bytes_that_are_not_text_are_refused(tmp_path: Path):
    (tmp_path / "robot.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(InputError, match="not readable as YAML"):
        load_robot(tmp_path / "robot.yaml")


@pytest.mark.parametrize("source", ["pnada", "robot.urdf", ""])
def test_an_unknown_robot_lists_those_there_are(source: str):
    with pytest.raises(InputError, match=rf"Unknown robot '{source}'.*Known robots: .*panda"):
        load_robot(source)


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"Robot file nowhere/robot\.yaml does not exist"):
        load_robot("nowhere/robot.yaml")


@pytest.mark.parametrize(
    ("urdf", "sentence"),
    [
        ("this is not xml", "is not readable as XML"),
        ("<robot name='a'><joint name='j' type='revolute'/></robot>", "Unknown link 'tool'"),
        (
            "<robot name='a'><link name='tool'/><joint name='j' type='prismatic'/></robot>",
            "joint 'j' is prismatic in the URDF; an arm's joints must be revolute or continuous",
        ),
        (
            "<robot name='a'><link name='tool'/><joint name='j' type='revolute'><limit lower='low'/></joint></robot>",
            "joint 'j': its limit in the URDF is not a number",
        ),
    ],
)
def test_a_bad_urdf_is_refused(urdf: str, sentence: str, tmp_path: Path):
    (tmp_path / "arm.urdf").write_text(urdf)
    joint = dict.fromkeys(("velocity", "acceleration", "jerk", "effort", "upper"), 1.0)
    data = {
        "name": "one",
        "urdf": "arm.urdf",
        "tool_frame": "tool",
        "joints": [{"name": "j", "home": 0.0, "lower": -1.0, **joint}],
        "workspace": {"low": [0, 0, 0], "high": [1, 1, 1]},
    }
    with pytest.raises(InputError, match=sentence):
        load(tmp_path, data)


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["panda", "panda_joint1", "pybullet_data:x", "/", "..", str(ROBOTS)])
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*PANDA, "lower", "low", "topic", "joints"]) | leaves, inner, max_size=4)
    ),
    max_leaves=12,
)


def _places(data: object, above: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [place for key, value in items for place in [(*above, key), *_places(value, (*above, key))]]


@given(place=st.sampled_from(_places(PANDA)), value=trees)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_one_wrong_entry_gives_a_robot_or_an_input_error(place: tuple[str | int, ...], value: Any, tmp_path: Path):
    try:
        robot = load(tmp_path, changed(*place, value=value))
    except InputError as error:
        assert str(tmp_path) in str(error) or "URDF" in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert np.all(np.isfinite(robot.home))
        assert np.isfinite(robot.period_s)


@given(text=st.text(max_size=60) | trees.map(yaml.safe_dump))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_at_all_gives_an_input_error(text: str, tmp_path: Path):
    with pytest.raises(InputError):
        load(tmp_path, text)


@given(width=st.floats(-0.1, 0.2))
def test_finger_positions_and_width_undo_each_other(width: float):
    robot = SHIPPED
    clipped = min(max(width, 0.0), 0.08)
    assert robot.gripper_width(robot.finger_positions(width)) == pytest.approx(clipped, abs=1e-12)


def test_a_robot_without_gripper_says_so():
    with pytest.raises(InputError, match=r"Robot 'kuka_iiwa' has no gripper, and this needs one; add `gripper:`"):
        load_robot("kuka_iiwa").require_gripper()
