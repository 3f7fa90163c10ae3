"""Layouts: the shipped ones fit, and what is wrong with one's own is said with its line and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance.device import LIFT

from understudy.capture.devices.layout import TWIST, known_layouts, load_layout
from understudy.capture.devices.pad import PadState
from understudy.datasets.schema import ActionSpec
from understudy.errors import InputError


@pytest.mark.parametrize("name", ["ps", "xbox"])
def test_a_shipped_layout_moves_everything_and_asks_for_a_whole_session(name: str) -> None:
    assert name in known_layouts()
    layout = load_layout(name, LIFT, hold_to_move=True, joy=True)
    assert set(layout.moves) == set(TWIST)
    assert {"start", "stop", "success", "failure", "keep", "drop", "undo"} <= set(layout.events)
    assert layout.gripper == "south"
    assert "start" in layout.help()
    assert len(layout.help().splitlines()) == 2


def test_numbers_that_one_stick_moves_share_its_dead_band() -> None:
    assert set(map(frozenset, load_layout("xbox", LIFT).sticks)) == {
        frozenset({"x", "y"}),
        frozenset({"pitch", "yaw"}),
    }


def test_a_shipped_layout_drives_a_task_that_uses_only_some_numbers() -> None:
    reach = ActionSpec("tool_delta", ("x", "y"), ("m",) * 2, (-0.03,) * 2, (0.03,) * 2)
    assert load_layout("xbox", reach).read(PadState({"left_y": -1.0})).axes["x"] == 1.0


def test_joints_may_be_moved_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "joints.yaml"
    path.write_text("moves:\n  elbow: {axis: left_y}\nevents: {start: start}\n")
    spec = ActionSpec("joint_delta", ("shoulder", "elbow"), ("rad",) * 2, (-0.1,) * 2, (0.1,) * 2)
    read = load_layout(path, spec).read(PadState({"left_y": 0.5}, frozenset(), ("start", "south")))
    assert (read.axes, read.events, read.toggled, read.held) == ({"elbow": 0.5}, ("start",), 0, False)
    with pytest.raises(InputError, match=r"moves x, y, z, .* this task's actions are shoulder, elbow; write a layout"):
        load_layout("xbox", spec)


WRONG = [
    ("", "expected a mapping with `moves:`"),
    ("moves: {}\n", "mine.yaml:1: moves: nothing moves; write at least one entry"),
    ("gripper: south\n", "mine.yaml:1: moves is missing"),
    ("moves:\n  x: {axis: left_y}\n  y: {axis: leftx}\n", r"mine.yaml:3: moves.y: Unknown stick 'leftx': did you mean"),
    ("moves:\n  x: {axis: left_trigger}\n", r"mine.yaml:2: moves.x: a trigger moves one way only; write \{plus"),
    ("moves:\n  x: {axis: left_y, plus: south}\n", "mine.yaml:2: moves.x: expected either `axis:` .* keep one"),
    ("moves:\n  x: {}\n", "mine.yaml:2: moves.x: expected either `axis:`"),
    ("moves:\n  x: {plus: south, reversed: true}\n", "mine.yaml:2: moves.x: `reversed:` is for a stick; swap"),
    ("moves:\n  x: {plus: cross}\n", "mine.yaml:2: moves.x: Unknown control 'cross'"),
    ("moves:\n  jaw: {axis: left_y}\n", "mine.yaml:2: Unknown number of an action 'jaw': did you mean 'yaw'"),
    ("moves:\n  x: {axis: left_y}\ngriper: south\n", "mine.yaml:3: Unknown key 'griper': did you mean 'gripper'"),
    ("moves:\n  x: {axis: left_y}\ngripper: left_y\n", "mine.yaml:3: gripper: Unknown button 'left_y'"),
    ("moves:\n  x: {axis: left_y}\nevents:\n  begin: start\n", "mine.yaml:3: events: Unknown event 'begin'"),
    ("moves:\n  x: {axis: left_y}\nevents:\n  lost: start\n", "mine.yaml:3: events: Unknown event 'lost'"),
    (
        "moves:\n  x: {axis: left_y}\ngripper: south\nevents:\n  start: south\n",
        "'south' is used for gripper and for start; give one of them another",
    ),
    ("moves:\n  x: {axis: left_y}\n  x: {axis: left_x}\n", "mine.yaml:3: 'x' is there already, at line 2; keep one"),
    ("moves: [\n", "mine.yaml:2: not readable as YAML"),
    (
        "moves:\n  x: {axis: left_y}\njoy:\n  axes:\n    left_y: {number: 1, full: 0.0}\n  buttons: {}\n",
        "mine.yaml:5: joy.axes.left_y: released and full are both 0.0; they must differ",
    ),
    (
        "moves:\n  x: {axis: left_y}\njoy:\n  axes: {}\n  buttons:\n    south: {number: 1, axis: 2}\n",
        "mine.yaml:6: joy.buttons.south: expected either `number:`",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_is_said_with_its_line_and_a_remedy(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_layout(path, LIFT)


def test_hold_to_move_needs_a_hold_button(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("moves:\n  x: {axis: left_y}\n")
    with pytest.raises(InputError, match="--hold-to-move needs a hold button; write `hold: left_shoulder`"):
        load_layout(path, LIFT, hold_to_move=True)


def test_names_and_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Unknown layout 'xobx': did you mean 'xbox'"):
        load_layout("xobx", LIFT)
    with pytest.raises(InputError, match=r"Layout file .*none.yaml does not exist"):
        load_layout(tmp_path / "none.yaml", LIFT)
