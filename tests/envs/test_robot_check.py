"""What is wrong with a robot's files is refused at load, with line and remedy; what is odd is said by doctor."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

from understudy.cli.doctor_robot import report_robot
from understudy.cli.main import main
from understudy.envs.arms import robot_examination
from understudy.envs.arms.arm import Command, Start
from understudy.envs.arms.dynamics import Dynamics
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import known_robots, load_robot
from understudy.envs.arms.robot_examination import examine_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.errors import InputError

INERTIAL = (
    '<inertial><origin xyz="0 0 0.1"/><mass value="1"/>'
    '<inertia ixx="0.01" ixy="0" ixz="0" iyy="0.01" iyz="0" izz="0.002"/></inertial>'
)
BOX = (
    '<collision><origin xyz="0 0 0.1"/><geometry><box size="0.04 0.04 0.16"/></geometry></collision>'
    '<visual><origin xyz="0 0 0.1"/><geometry><box size="0.04 0.04 0.16"/></geometry></visual>'
)
PAD = (
    '<inertial><mass value="0.05"/><inertia ixx="1e-5" ixy="0" ixz="0" iyy="1e-5" iyz="0" izz="1e-5"/></inertial>'
    '<collision><geometry><box size="0.02 0.01 0.04"/></geometry></collision>'
)
URDF = f"""<robot name="little">
<link name="base"/>
<joint name="turn" type="revolute"><parent link="base"/><child link="post"/><axis xyz="0 0 1"/>
<limit lower="-2" upper="2" velocity="2" effort="50"/></joint>
<link name="post">{INERTIAL}{BOX}</link>
<joint name="lift" type="revolute"><parent link="post"/><child link="arm"/><origin xyz="0 0 0.2"/><axis xyz="0 1 0"/>
<limit lower="-2" upper="2" velocity="2" effort="50"/></joint>
<link name="arm">{INERTIAL}{BOX}</link>
<joint name="bend" type="revolute"><parent link="arm"/><child link="hand"/><origin xyz="0 0 0.2"/><axis xyz="0 1 0"/>
<limit lower="-2" upper="2" velocity="2" effort="50"/></joint>
<link name="hand">{INERTIAL}{BOX}</link>
<joint name="left" type="prismatic"><parent link="hand"/><child link="left_pad"/><origin xyz="0 0.005 0.2"/>
<axis xyz="0 1 0"/><limit lower="0" upper="0.03" velocity="1" effort="20"/></joint>
<link name="left_pad">{PAD}</link>
<joint name="right" type="prismatic"><parent link="hand"/><child link="right_pad"/><origin xyz="0 -0.005 0.2"/>
<axis xyz="0 -1 0"/><limit lower="0" upper="0.03" velocity="1" effort="20"/><mimic joint="left"/></joint>
<link name="right_pad">{PAD}</link>
<joint name="tip" type="fixed"><parent link="hand"/><child link="tool"/><origin xyz="0 0 0.2"/></joint>
<link name="tool"/>
</robot>
"""
JOINT = "lower: -2, upper: 2, velocity: 2, acceleration: 8, jerk: 100, effort: 50"
YAML = f"""name: little
urdf: little.urdf
tool_frame: tool
joints:
  - {{name: turn, home: 0.0, {JOINT}}}
  - {{name: lift, home: 0.7, {JOINT}}}
  - {{name: bend, home: 0.9, {JOINT}}}
gripper:
  joints:
    left: [0.0, 0.03]
    right: [0.0, 0.03]
  width: 0.06
  speed: 0.1
  force: 20
workspace: {{low: [0.05, -0.5, 0.0], high: [0.6, 0.5, 0.7]}}
"""


def write(folder: Path, urdf: str = URDF, text: str = YAML) -> Path:
    (folder / "little.urdf").write_text(urdf)
    (folder / "little.yaml").write_text(text)
    return folder / "little.yaml"


def swapped(text: str, old: str, new: str) -> str:
    assert text.count(old) >= 1
    return text.replace(old, new, 1)


@pytest.mark.parametrize("name", known_robots())
def test_shipped_robots_pass_every_check(name: str):
    examination = examine_robot(name)
    assert examination.healthy
    assert not examination.left_out
    # the maker's own numbers of one link are a little off
    assert [finding.check for finding in examination.findings] == (["inertia"] if name == "xarm6" else [])


def test_a_little_robot_passes_too(tmp_path: Path):
    examination = examine_robot(write(tmp_path))
    assert examination.findings == ()
    assert len(examination.checked) == 4
    SimArm(load_robot(tmp_path / "little.yaml")).close()


HAND = '</joint>\n<link name="hand"'
LIMIT = '<limit lower="-2" upper="2" velocity="2" effort="50"/>'
LINK = f'<link name="arm">{INERTIAL}'
REFUSED = {
    "no limit": (
        URDF.replace(LIMIT, "", 1), YAML,
        r"little\.urdf:3: joint 'turn' is not limited in the URDF; give it <limit lower=.*effort=",
    ),
    "continuous without limit": (
        URDF.replace('"turn" type="revolute"', '"turn" type="continuous"').replace(LIMIT, "", 1), YAML,
        r"little\.urdf:3: joint 'turn' is not limited in the URDF; give it <limit velocity=",
    ),
    "zero effort": (
        swapped(URDF, 'effort="50"', 'effort="0"'), YAML,
        r"little\.urdf:4: joint 'turn': its effort limit in the URDF is 0\.0, so it could never move",
    ),
    "zero velocity": (
        swapped(URDF, 'velocity="2"', 'velocity="0"'), YAML,
        r"little\.urdf:4: joint 'turn': its velocity limit in the URDF is 0\.0",
    ),
    "limit that is no number": (
        swapped(URDF, 'lower="-2"', 'lower="low"'), YAML,
        r"little\.urdf:4: joint 'turn': its limit in the URDF is not a number; write finite numbers",
    ),
    "empty range": (
        swapped(URDF, 'lower="-2" upper="2"', 'lower="0" upper="0"'), YAML,
        r"joint 'turn': the URDF's range \[0\.0, 0\.0\] rad is empty; write its lower limit below",
    ),
    "zero inertia": (
        swapped(URDF, LINK, LINK.replace("0.01", "0").replace("0.002", "0")), YAML,
        r"little\.urdf:8: link 'arm': its inertia is zero; write the one of its CAD model",
    ),
    "negative inertia": (
        swapped(URDF, LINK, LINK.replace('ixx="0.01"', 'ixx="-0.01"')), YAML,
        r"little\.urdf:8: link 'arm': its inertia is impossible: a principal moment is -0\.01 kg m\^2",
    ),
    "negative mass": (
        swapped(URDF, LINK, LINK.replace('mass value="1"', 'mass value="-1"')), YAML,
        r"little\.urdf:8: link 'arm': mass -1\.0 kg is negative",
    ),
    "zero mass": (
        swapped(URDF, LINK, LINK.replace('mass value="1"', 'mass value="0"')), YAML,
        r"little\.urdf:8: link 'arm', which joint 'lift' moves, has no mass; give it <inertial>",
    ),
    "one link without mass": (
        swapped(URDF, LINK, '<link name="arm">'), YAML,
        r"little\.urdf:8: link 'arm', which joint 'lift' moves, has no mass",
    ),
    "mass that is no number": (
        swapped(URDF, LINK, LINK.replace('mass value="1"', 'mass value="heavy"')), YAML,
        r"little\.urdf:8: link 'arm': mass or inertia is no",
    ),
    "undriven mimic": (
        URDF, swapped(YAML, "    right: [0.0, 0.03]\n", ""),
        r"little\.urdf:16: joint 'right' follows 'left' \(mimic\), and nothing drives it; "
        r"add `right: \[0, 0\.03\]` to `gripper\.joints`",
    ),
    "mimic as an arm joint": (
        swapped(URDF, LIMIT + HAND, LIMIT + '<mimic joint="lift"/>' + HAND), YAML,
        r"joint 'bend' follows 'lift' \(mimic\); list the joint",
    ),
    "tool frame": (
        URDF, swapped(YAML, "tool_frame: tool", "tool_frame: tol"),
        r"little\.yaml:3: tool_frame: Unknown link 'tol': did you mean 'tool'\?",
    ),
    "joint name": (
        URDF, swapped(YAML, "name: bend", "name: bent"),
        r"little\.yaml:7: joints: Unknown joint 'bent': did you mean 'bend'\?",
    ),
    "wider": (
        URDF, swapped(YAML, "lower: -2", "lower: -2.5"),
        r"little\.yaml:5: joint 'turn': limits \[-2\.5, 2\.0\] rad are wider than the URDF's \[-2\.0, 2\.0\] rad",
    ),
    "stronger": (
        URDF, swapped(YAML, "effort: 50", "effort: 60"),
        r"little\.yaml:5: joint 'turn': effort limit 60\.0 N m is above the URDF's 50\.0 N m; lower it",
    ),
    "finger too far": (
        URDF, swapped(YAML, "left: [0.0, 0.03]", "left: [0.0, 0.05]"),
        r"little\.yaml:10: finger joint 'left' goes from 0\.0 to 0\.05, and the URDF lets it go from 0\.0 to 0\.03",
    ),
    "fixed finger": (
        URDF, swapped(YAML, "left: [0.0, 0.03]", "tip: [0.0, 0.03]"),
        r"little\.yaml:10: finger joint 'tip' is fixed in the URDF; list one that moves",
    ),
    "unlisted and unlimited": (
        URDF.replace('name="tip" type="fixed"', 'name="tip" type="revolute"'), YAML,
        r"little\.urdf:18: joint 'tip' is not limited in the URDF, which makes it no valid one; give it <limit",
    ),
    "no axis": (
        swapped(URDF, '<axis xyz="0 1 0"/>', '<axis xyz="0 0 0"/>'), YAML,
        r"little\.urdf:7: joint 'lift' has no axis: expected three numbers that are not all 0, got \(0\.0, ",
    ),
    "an axis that is no numbers": (
        swapped(URDF, '<axis xyz="0 1 0"/>', '<axis xyz="up"/>'), YAML, r"little\.urdf:7: joint 'lift' has no axis",
    ),
    "a tool that nothing moves": (
        URDF, swapped(YAML, "tool_frame: tool", "tool_frame: base"),
        r"little\.yaml:3: tool_frame: no joint of the arm moves 'base'; name the link at the arm's end",
    ),
    "a ring of links": (
        swapped(URDF, '<parent link="base"/>', '<parent link="hand"/>'), YAML,
        r"little\.urdf: link '\w+' hangs on itself; joints must form a tree",
    ),
    "a link twice": (
        swapped(URDF, '<link name="tool"/>', '<link name="tool"/>\n<link name="arm"/>'), YAML,
        r"little\.urdf:20: link 'arm' is there already, at line 8; rename or remove one",
    ),
    "a joint twice": (
        swapped(URDF, 'name="bend"', 'name="lift"'), YAML,
        r"little\.urdf:9: joint 'lift' is there already, at line 6; rename or remove one",
    ),
    "a joint without a name": (
        swapped(URDF, 'joint name="bend"', "joint"), YAML,
        r'little\.urdf:9: a joint without a name; write <joint name="',
    ),
    "a kind that there is not": (
        swapped(URDF, '"bend" type="revolute"', '"bend" type="hinge"'), YAML,
        r"little\.urdf:9: joint 'bend' has the type 'hinge'; write one of revolute, continuous, prismatic",
    ),
    "a mimic of none": (
        swapped(URDF, 'mimic joint="left"', 'mimic joint="lefft"'), YAML,
        r"little\.urdf:16: joint 'right' is to follow \(mimic\) none: Unknown joint 'lefft': did you mean 'left'\?.*;",
    ),
    "a mimic of itself": (
        swapped(URDF, 'mimic joint="left"', 'mimic joint="right"'), YAML,
        r"little\.urdf:16: joint 'right' is to follow \(mimic\) itself; name the joint that it follows, or take",
    ),
    "an axis of two": (
        swapped(URDF, '<axis xyz="0 1 0"/>', '<axis xyz="0 1"/>'), YAML,
        r"little\.urdf:7: joint 'lift' has no axis: expected three numbers .* got '0 1'; write <axis xyz=\"0 0 1\"/>",
    ),
    "an axis of nothing": (
        swapped(URDF, '<axis xyz="0 1 0"/>', "<axis/>"), YAML,
        r"little\.urdf:7: joint 'lift' has no axis: .* got \(\);",
    ),
    "a finger without limit": (
        swapped(URDF, '<limit lower="0" upper="0.03" velocity="1" effort="20"/>', ""), YAML,
        r"little\.urdf:12: joint 'left' is not limited in the URDF, which makes it no valid one; give it <limit lower=",
    ),
    "a finger without effort": (
        swapped(URDF, ' velocity="1" effort="20"/>', "/>"), YAML,
        r"little\.urdf:13: joint 'left' is not limited in the",
    ),
    "a fixed joint of words": (
        swapped(URDF, '<child link="tool"/>', '<child link="tool"/><limit lower="a"/>'), YAML,
        r"little\.urdf:18: joint 'tip': its limit in the URDF is not a number; write finite numbers",
    ),
    "a mimic of words": (
        swapped(URDF, 'mimic joint="left"', 'mimic joint="left" multiplier="x"'), YAML,
        r"little\.urdf:16: joint 'right', <mimic>: its multiplier or its offset is not a number",
    ),
    "a box without size": (
        swapped(URDF, '<box size="0.04 0.04 0.16"/>', "<box/>"), YAML,
        r"little\.urdf:5: <box size>: expected 3 numbers with spaces between, got ''; write <box size=",
    ),
    "two roots": (
        swapped(URDF, '<link name="tool"/>', '<link name="tool"/>\n<link name="alone"/>'), YAML,
        r"little\.urdf:20: no joint carries link 'alone', nor 'base': there are two bodies; join them",
    ),
    "a parent that there is not": (
        swapped(URDF, 'parent link="arm"', 'parent link="arn"'), YAML,
        r"little\.urdf:9: joint 'bend', <parent>: Unknown link 'arn': did you mean 'arm'\?.*; write <parent link=",
    ),
    "no parent": (
        swapped(URDF, '<parent link="arm"/>', ""), YAML,
        r"little\.urdf:9: joint 'bend', <parent>: it is not there; write",
    ),
    "two parents": (
        swapped(URDF, 'child link="right_pad"', 'child link="left_pad"'), YAML,
        r"little\.urdf:15: joint 'right' carries link 'left_pad', which another joint carries already; a link hangs on",
    ),
    "a place of two": (
        swapped(URDF, 'origin xyz="0 0 0.2"', 'origin xyz="0 0"'), YAML,
        r"little\.urdf:6: <origin xyz>: expected 3 numbers with spaces between, got '0 0'; write <origin xyz=",
    ),
    "a turn of commas": (
        swapped(URDF, 'origin xyz="0 0 0.2"', 'origin rpy="0,0,1"'), YAML,
        r"little\.urdf:6: <origin rpy>: expected 3 numbers with spaces between, got '0,0,1'; write",
    ),
    "a size below zero": (
        swapped(URDF, 'box size="0.04', 'box size="-0.04'), YAML,
        r"little\.urdf:5: <box size>: a size must be above zero, got '-0\.04 0\.04 0\.16'",
    ),
    "another format": (
        "<sdf version='1.6'/>", YAML, r"little\.urdf:1: expected a URDF, <robot>, got <sdf>; convert it to URDF",
    ),
    "a template": (
        swapped(URDF, '<link name="base"/>', '<xacro:arm prefix="a"/>'), YAML,
        r"little\.urdf:2: <xacro:arm> belongs to xacro, .*; make one: xacro little\.urdf > made\.urdf, and name that",
    ),
    "half a file": (
        URDF[:900], YAML, r"little\.urdf:8: little\.urdf is not readable as XML: unclosed token.*; mend it",
    ),
    "a URDF that is not there": (
        URDF, swapped(YAML, "urdf: little.urdf", "urdf: litle.urdf"),
        r"little\.yaml:2: URDF 'litle\.urdf' was looked for at .*litle\.urdf and is not there; mend the path",
    ),
    "a key twice": (
        URDF, swapped(YAML, "gripper:", "tool_frame: hand\ngripper:"),
        r"little\.yaml:8: 'tool_frame' is there already, at line 3; keep one",
    ),
    "YAML with a tab": (
        URDF, swapped(YAML, "  width", "\twidth"), r"little\.yaml:12: not readable as YAML: .*; indent with spaces",
    ),
    "a number below its range": (
        URDF, swapped(YAML, "force: 20", "force: -20"),
        r"little\.yaml:14: gripper\.force: Input should be greater than 0 \(got -20\); raise it",
    ),
    "a number beyond sense": (
        URDF, swapped(YAML, "acceleration: 8", "acceleration: 1e300"),
        r"little\.yaml:5: joints\.0\.acceleration: Input should be less than or equal to 10000000 \(got .*\); lower it",
    ),
    "a number next to none": (
        URDF, swapped(YAML, "jerk: 100", "jerk: 1e-300"),
        r"little\.yaml:5: joints\.0\.jerk: Input should be greater than or equal to 0\.000001 \(got .*\); raise it",
    ),
    "a truth for a number": (
        URDF, swapped(YAML, "home: 0.7", "home: yes"),
        r"little\.yaml:6: joints\.1\.home: expected a number, got True; YAML takes yes, no, on and off for that",
    ),
    "a camera beyond sense": (
        URDF, YAML + "ros:\n  cameras:\n    front: {topic: /front, width: 1000000, height: 10}\n",
        r"little\.yaml:18: ros\.cameras\.front\.width: Input should be less than or equal to 8192 \(got 1000000\);",
    ),
    "no name": (URDF, swapped(YAML, "name: little", "name: ''"), r"little\.yaml:1: name: .*; write a text"),
    "a word for a number": (
        URDF, YAML + "rate_hz: fast\n",
        r"little\.yaml:16: rate_hz: Input should be a valid number.*'fast'\); write a number",
    ),
    "a number for a list": (
        URDF, swapped(YAML, "right: [0.0, 0.03]", "right: 0.03"),
        r"little\.yaml:11: gripper\.joints\.right: Input should be a valid tuple \(got 0\.03\); write a list",
    ),
    "too many numbers": (
        URDF, swapped(YAML, "low: [0.05,", "low: [0.05, 0.1,"),
        r"little\.yaml:15: workspace\.low: .*; write as many as",
    ),
    "home outside its limits": (
        URDF, swapped(YAML, "home: 0.7", "home: 7"),
        r"little\.yaml:6: joints\.1: joint 'lift': home 7\.0 rad lies outside its limits \[-2\.0, 2\.0\] rad; move it",
    ),
    "a missing number": (
        URDF, swapped(YAML, "jerk: 100, ", ""),
        r"little\.yaml:5: a key is left out; write it: joints\.0\.jerk is missing\.",
    ),
    "an unknown key": (
        URDF, swapped(YAML, "speed: 0.1", "spede: 0.1"),
        r"little\.yaml:13: gripper: Unknown key 'spede': did you mean 'speed'\?.*; rename it, or take it out",
    ),
    "a joint as a finger": (
        URDF, swapped(YAML, "left: [", "bend: ["), r"little\.yaml:8: gripper: joints \['bend'\] are listed both as",
    ),
    "entities": (
        '<!DOCTYPE robot [<!ENTITY a "b">]>' + URDF, YAML, r"little\.urdf is not readable as XML: it declares entities",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_refused_at_load_with_the_line_and_the_remedy(case: str, tmp_path: Path):
    urdf, text, sentence = REFUSED[case]
    file = write(tmp_path, urdf, text)
    with pytest.raises(InputError, match=sentence) as caught:
        load_robot(file)
    assert "\n" not in str(caught.value)


def test_the_first_error_says_how_many_more_there_are_and_doctor_lists_them(tmp_path: Path, capsys):
    text = YAML.replace("effort: 50", "effort: 60").replace("tool_frame: tool", "tool_frame: tol")
    file = write(tmp_path, URDF, text)
    with pytest.raises(InputError, match=r"Unknown link 'tol'.* \(3 more: understudy doctor --robot .*little\.yaml\)"):
        load_robot(file)
    assert report_robot(str(file), as_json=False) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("  !! ") for line in lines) == 4
    assert lines[-1] == "4 to mend."
    assert any("left out: reach, meshes, simulation: mend these first" in line for line in lines)


UNFIT = (
    "a finger without limit",
    "a mimic of words",
    "a link twice",
    "a mimic of none",
    "an axis of two",
    "two roots",
    "no parent",
    "a place of two",
    "a template",
)


@pytest.mark.parametrize("case", UNFIT)
def test_no_file_is_begun_from_a_urdf_that_is_none(case: str, tmp_path: Path):
    urdf, text, sentence = REFUSED[case]
    write(tmp_path, urdf, text)
    with pytest.raises(InputError, match=sentence) as caught:
        report_robot(str(tmp_path / "little.urdf"), as_json=False)
    assert "--robot" not in str(caught.value)


def test_no_file_is_begun_from_limits_that_are_none(tmp_path: Path):
    write(tmp_path, swapped(URDF, 'lower="-2" upper="2"', 'lower="2" upper="-2"'))
    with pytest.raises(
        InputError, match=r"little\.urdf:4: joint 'turn': its range \[2\.0, -2\.0\] rad is empty; write its"
    ):
        report_robot(str(tmp_path / "little.urdf"), as_json=False)


def test_limits_of_a_urdf_that_mean_none_make_a_file_that_loads(tmp_path: Path):
    boundless = 'lower="-1e16" upper="1e16" velocity="1e16" effort="1e16"'
    write(tmp_path, URDF.replace('lower="-2" upper="2" velocity="2" effort="50"', boundless))
    assert report_robot(str(tmp_path / "little.urdf"), as_json=False, write=tmp_path / "begun.yaml") == 0
    assert load_robot(tmp_path / "begun.yaml").joints[0].upper == 1e4


@pytest.mark.parametrize(
    "case", ["half a file", "a key twice", "a missing number", "a URDF that is not there", "two roots"]
)
def test_what_cannot_be_read_is_a_finding_too(case: str, tmp_path: Path, capsys):
    urdf, text, sentence = REFUSED[case]
    file = write(tmp_path, urdf, text)
    assert main(["doctor", "--robot", str(file), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["file"]) == (False, str(file))
    assert report["left_out"] == ["reach, meshes, simulation: mend these first"]
    assert report["robot"] == (None if case in ("a key twice", "a missing number") else "little")
    told = " | ".join(f"{one['where']}: {one['message']}; {one['remedy']}." for one in report["findings"])
    assert re.search(sentence, told)
    assert main(["doctor", "--robot", str(file)]) == 1
    printed = capsys.readouterr()
    assert re.search(sentence.removesuffix(r"\."), printed.out)
    assert printed.out.splitlines()[-1] == "1 to mend."
    assert printed.err == ""


def test_a_urdf_of_utf_16_is_refused(tmp_path: Path):
    file = write(tmp_path)
    (tmp_path / "little.urdf").write_bytes(URDF.encode("utf-16"))
    with pytest.raises(InputError, match=r"little\.urdf: it is written in UTF-16, .*; save it as UTF-8"):
        load_robot(file)


def test_json_is_not_for_beginning_a_file(tmp_path: Path):
    write(tmp_path)
    with pytest.raises(InputError, match=r"--json is for what is wrong with a robot's file, .* add --write FILE\.yaml"):
        report_robot(str(tmp_path / "little.urdf"), as_json=True)


def test_a_robot_without_masses_is_not_simulated(tmp_path: Path):
    robot = load_robot(write(tmp_path, URDF.replace(INERTIAL, "").replace(PAD, "")))
    with pytest.raises(
        InputError, match=r"little\.urdf: no link has a mass, and a simulation without masses means nothing"
    ):
        SimArm(robot)


def test_a_part_without_a_shape_is_refused_by_the_simulated_arm(tmp_path: Path):
    robot = load_robot(write(tmp_path, swapped(URDF, '<geometry><box size="0.04 0.04 0.16"/></geometry>', "")))
    with pytest.raises(InputError, match=r"little\.urdf:5: link 'post' has a part without a shape; write <geometry>"):
        SimArm(robot)


def test_frames_without_inertia_weigh_nothing_in_simulation(tmp_path: Path):
    """PyBullet takes a link without <inertial> for 1 kg: 2 N m more at the elbow of an arm of three links of 1 kg."""
    robot = load_robot(write(tmp_path))
    arm = SimArm(robot)
    arm.reset(Start(robot.home))
    arm.clock.sleep_until(arm.clock.now_ns() + 500_000_000)
    effort = arm.observe()["joint_effort"]
    arm.close()
    still = np.zeros(3)
    assert effort == pytest.approx(Dynamics(robot).torque(robot.home, still, still), abs=0.05)
    assert np.abs(effort).max() > 3.0


def test_links_without_a_shape_have_the_inertia_of_the_file(tmp_path: Path):
    """PyBullet takes inertia from shapes: without any, torques that the file's inertia asks for threw the arm about."""
    robot = load_robot(write(tmp_path, URDF.replace(BOX, "")))
    arm = SimArm(robot, actuation="torque")
    arm.reset(Start(robot.home))
    away = []
    for _ in range(25):
        arm.send(Command(robot.home))
        arm.clock.sleep_until(arm.clock.now_ns() + round(robot.period_s * 1e9))
        away.append(np.abs(arm.observe()["joint_position"] - robot.home).max())
    arm.close()
    assert max(away) < 0.02


MESH = '<visual><geometry><mesh filename="{}"/></geometry></visual>'


@pytest.mark.parametrize(
    ("written", "remedy"),
    [
        ("meshes/arm.stl", r"put the file there, or write its path relative"),
        ("package://little_description/arm.stl", r"put the package's folder 'little_description' beside the URDF"),
    ],
)
def test_a_missing_mesh_is_refused_by_the_simulated_arm_with_the_path_looked_for(
    written: str, remedy: str, tmp_path: Path
):
    file = write(tmp_path, swapped(URDF, LINK, LINK + MESH.format(written)))
    robot = load_robot(file)  # the robot side needs no meshes
    looked_for = written.removeprefix("package://")
    with pytest.raises(
        InputError, match=rf"little\.urdf:8: link 'arm': mesh '{written}' is missing.*{looked_for}.*{remedy}"
    ):
        SimArm(robot)
    assert not examine_robot(file).healthy
    place = tmp_path / looked_for
    place.parent.mkdir()
    place.write_text("solid arm\nendsolid arm\n")
    assert not [finding for finding in examine_robot(file).findings if finding.check == "meshes"]


def test_faults_of_the_full_urdf_are_refused_by_the_simulated_arm(tmp_path: Path):
    write(tmp_path)
    (tmp_path / "full.urdf").write_text(swapped(URDF, LINK, LINK.replace('mass value="1"', 'mass value="-1"')))
    file = write(tmp_path, URDF, swapped(YAML, "urdf: little.urdf", "urdf: full.urdf\nkinematics: little.urdf"))
    with pytest.raises(InputError, match=r"full\.urdf:8: link 'arm': mass -1\.0 kg is negative"):
        SimArm(load_robot(file))


ODD = {
    "a tool half way": (
        URDF, swapped(YAML, "tool_frame: tool", "tool_frame: arm"), "tool frame",
        r"little\.yaml:3: tool_frame: 'arm' is not moved by bend of the arm; name the link at the arm's end",
    ),
    "impossible triangle": (
        swapped(URDF, LINK, LINK.replace('izz="0.002"', 'izz="0.04"')), YAML, "inertia",
        r"little\.urdf:8: link 'arm': no body has the principal moments 0\.01, 0\.01 and 0\.04",
    ),
    "unlisted joint": (
        URDF.replace('name="tip" type="fixed"', 'name="tip" type="continuous"').replace(
            '<link name="tool"/>', f'<link name="tool">{PAD}</link>'
        ), YAML, "other joints", r"little\.urdf:18: joint 'tip' moves and the robot's file does not list it",
    ),
    "mimic driven otherwise": (
        URDF, swapped(YAML, "right: [0.0, 0.03]", "right: [0.0, 0.02]"), "mimic",
        r"'right' goes from 0\.0 to 0\.02, and following 'left' it would go from 0 to 0\.03; write `right: \[0, 0",
    ),
    "home outside": (
        URDF, swapped(YAML, "home: 0.7", "home: -0.7").replace("home: 0.9", "home: -0.9"), "workspace",
        r"little\.yaml:15: at home the tool is at \[-.*outside the workspace; widen the workspace, or choose another",
    ),
    "out of reach": (
        URDF, swapped(YAML, "low: [0.05, -0.5, 0.0], high: [0.6, 0.5, 0.7]", "low: [2, 2, 2], high: [3, 3, 3]"),
        "workspace", r"0 bring the tool into the workspace; it reaches .* move the workspace",
    ),
    "weak": (
        URDF, YAML.replace("effort: 50", "effort: 2"), "efforts",
        r"little\.yaml:6: joint 'lift' needs \d+\.\d N m to hold the arm still at home, and its limit is 2\.0 N m",
    ),
    "no masses": (
        URDF.replace(INERTIAL, "").replace(PAD, ""), YAML, "efforts",
        r"does not give every moving link a mass, so the Guard cannot keep efforts within limits; add <inertial>",
    ),
    "degrees": (
        swapped(URDF, 'lower="-2" upper="2"', 'lower="-114" upper="114"'),
        swapped(YAML, "lower: -2, upper: 2", "lower: -114, upper: 114"), "joint limits",
        r"little\.yaml:5: joint 'turn': limits \[-114\.0, 114\.0\] rad are more than three turns; write radians, not",
    ),
    "self-collision": (
        swapped(URDF, f"{HAND}>{INERTIAL}{BOX}", f"{HAND}>{INERTIAL}{BOX.replace('0.04 0.04 0.16', '0.12 0.04 0.4')}"),
        YAML.replace("home: 0.7", "home: 2.0").replace("home: 0.9", "home: 2.0"), "self-collision",
        r"little\.yaml:4: at home link '\w+' is 0\.\d+ m inside '\w+'; choose another `home`",
    ),
    "wrong way round": (
        URDF, YAML.replace("[0.0, 0.03]", "[0.03, 0.0]"), "fingers",
        r"little\.yaml:9: the fingers close by 0\.060 m where the file says that they open; swap \[closed, open\]",
    ),
    "width": (
        URDF, swapped(YAML, "width: 0.06", "width: 0.12"), "fingers",
        r"little\.yaml:12: between closed and open the fingers part by 0\.060 m, and `width` says 0\.12 m; mend",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_what_is_odd_is_said(case: str, tmp_path: Path):
    urdf, text, check, sentence = ODD[case]
    findings = examine_robot(write(tmp_path, urdf, text)).findings
    told = [str(finding) for finding in findings if finding.check == check]
    assert told
    with pytest.raises(InputError, match=sentence):
        raise InputError(" | ".join(told))


def test_without_a_simulator_the_checks_left_out_are_named(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(
        robot_examination.importlib.util, "find_spec", lambda name: None if name == "pybullet" else importlib.util
    )
    assert report_robot(str(write(tmp_path)), as_json=False) == 0
    assert "left out: simulation (self-collision, fingers): needs PyBullet, pip install" in capsys.readouterr().out


def test_the_machine_readable_report_has_every_finding(tmp_path: Path, capsys):
    file = write(tmp_path, URDF, YAML.replace("effort: 50", "effort: 2"))
    assert report_robot(str(file), as_json=True) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["robot"], report["file"], report["left_out"]) == (False, "little", str(file), [])
    assert {"efforts"} == {finding["check"] for finding in report["findings"]}
    assert all(finding["where"] and finding["remedy"] for finding in report["findings"])


@pytest.mark.parametrize("name", known_robots())
def test_a_file_begun_from_a_shipped_robots_urdf_has_its_joints_and_loads(name: str, tmp_path: Path):
    shipped = load_robot(name)
    report_robot(str(shipped.urdf_path()), as_json=True, write=tmp_path / "drafted.yaml")
    drafted = load_robot(tmp_path / "drafted.yaml")
    assert drafted.joint_names == shipped.joint_names
    assert np.all(drafted.joint_array("lower") <= shipped.joint_array("lower"))
    assert np.all(drafted.joint_array("upper") >= shipped.joint_array("upper"))
    assert np.all(drafted.joint_array("effort") >= shipped.joint_array("effort"))
    mine, theirs = (set(robot.gripper.joints) if robot.gripper else set() for robot in (drafted, shipped))
    assert mine == theirs
    tool = Kinematics(drafted).tool_position(drafted.home)
    assert np.all((tool > drafted.workspace.low) & (tool < drafted.workspace.high))
    arm = SimArm(drafted)
    arm.reset(Start(drafted.home))
    arm.close()


def test_a_file_begun_from_the_little_robot_is_right_but_for_its_numbers(tmp_path: Path, capsys):
    write(tmp_path)
    assert report_robot(str(tmp_path / "little.urdf"), as_json=False) == 0
    printed = capsys.readouterr().out
    assert "gripper:" in printed
    assert report_robot(str(tmp_path / "little.urdf"), as_json=False, write=tmp_path / "begun.yaml") == 0
    begun = load_robot(tmp_path / "begun.yaml")
    assert (begun.urdf, begun.tool_frame) == ("little.urdf", "tool")
    assert begun.gripper is not None
    assert begun.gripper.joints == {"left": (0.0, 0.03), "right": (0.0, 0.03)}
    assert (begun.gripper.width, begun.gripper.coupled) == (0.06, True)


@pytest.mark.parametrize(
    ("robot", "out", "sentence"),
    [
        ("little.urdf", "little.yaml", r"there is such a file already"),
        ("little.urdf", "little.txt", r"a robot file's name must end in \.yaml"),
        ("little.urdf", "no/where.yaml", r"the folder .* does not exist"),
        ("nothing.urdf", "new.yaml", r"URDF .*nothing\.urdf does not exist"),
        ("little.yaml", "new.yaml", r"--write makes a robot file from a URDF; --robot .* is none"),
        ("still.urdf", "new.yaml", r"has no joint that turns, is limited and is free; nothing can be an arm here"),
    ],
)
def test_a_file_is_not_begun_where_it_cannot_be(robot: str, out: str, sentence: str, tmp_path: Path):
    write(tmp_path)
    (tmp_path / "still.urdf").write_text("<robot name='still'><link name='rock'/></robot>")
    with pytest.raises(InputError, match=sentence):
        report_robot(str(tmp_path / robot), as_json=False, write=tmp_path / out)
    assert (tmp_path / "little.yaml").read_text() == YAML
    assert not (tmp_path / "new.yaml").exists()


def test_doctor_of_a_robot_that_is_not_there_is_bad_input():
    with pytest.raises(InputError, match="Unknown robot 'pnada': did you mean 'panda'"):
        report_robot("pnada", as_json=True)
