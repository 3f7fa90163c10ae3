"""Layouts: which control of a pad moves what, in a YAML file that is read strictly.

    moves:
      x: {axis: left_y, reversed: true}                   # a stick
      z: {plus: right_trigger, minus: left_trigger}       # two triggers or buttons
    gripper: south                                        # press to close, press to open
    hold: left_shoulder                                   # for --hold-to-move
    events: {start: start, stop: back}                    # what an operator may ask of a session
    joy: {axes: {...}, buttons: {...}}                    # numbers in sensor_msgs/Joy; only for --device joy

What is wrong in a file is said with its line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from understudy.capture.devices.axes import Pressed
from understudy.capture.devices.device import PRESSABLE, Event
from understudy.capture.devices.pad import BUTTONS, STICK_AXES, TRIGGERS, PadState
from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.findings import RobotFault
from understudy.envs.arms.validation import problems
from understudy.envs.arms.yaml_lines import YamlLines
from understudy.errors import InputError, unknown_name

LAYOUTS = Path(__file__).parent / "layouts"
TWIST = ("x", "y", "z", "roll", "pitch", "yaw")
"""Labels that any layout may move, also on a task that uses only some of them."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _known(kind: str, name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        raise ValueError(str(unknown_name(kind, name, names)).rstrip("."))
    return name


class Move(_Strict):
    """What moves one number of the action: a stick, or two controls against each other."""

    axis: str | None = None
    reversed: bool = False
    """The stick's right or down is the negative direction."""
    plus: str | None = None
    minus: str | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Move:
        if (self.axis is None) == (self.plus is None and self.minus is None):
            raise ValueError("expected either `axis:` (a stick) or `plus:` and `minus:` (triggers, buttons); keep one")
        if self.reversed and self.axis is None:
            raise ValueError("`reversed:` is for a stick; swap `plus:` and `minus:`")
        if self.axis is not None:
            if self.axis in TRIGGERS:
                raise ValueError(f"a trigger moves one way only; write {{plus: {self.axis}, minus: another}}")
            _known("stick", self.axis, STICK_AXES)
        for control in (self.plus, self.minus):
            if control is not None:
                _known("control", control, TRIGGERS + BUTTONS)
        return self

    def controls(self) -> tuple[str, ...]:
        """What it reads."""
        return tuple(control for control in (self.axis, self.plus, self.minus) if control is not None)

    def deflection(self, state: PadState) -> float:
        """In [-1, 1]."""
        if self.axis is not None:
            return state.deflection(self.axis) * (-1.0 if self.reversed else 1.0)
        plus, minus = (0.0 if control is None else state.deflection(control) for control in (self.plus, self.minus))
        return plus - minus


class JoyAxis(_Strict):
    """Where a stick or a trigger is in the numbers of a Joy message."""

    number: Annotated[int, Field(ge=0, le=63)]
    released: float = 0.0
    """Value at rest."""
    full: float = 1.0
    """Value with the stick right or down, or with the trigger pressed."""

    @model_validator(mode="after")
    def _moves(self) -> JoyAxis:
        if self.released == self.full:
            raise ValueError(f"released and full are both {self.full}; they must differ")
        return self


class JoyButton(_Strict):
    """Where a button is in a Joy message: among the buttons, or as an axis that reaches `at`."""

    number: Annotated[int, Field(ge=0, le=63)] | None = None
    axis: Annotated[int, Field(ge=0, le=63)] | None = None
    at: float = 1.0

    @model_validator(mode="after")
    def _one_form(self) -> JoyButton:
        if (self.number is None) == (self.axis is None):
            raise ValueError("expected either `number:` (of a button) or `axis:` with `at:`; keep one")
        if self.axis is not None and abs(self.at) < 0.1:
            raise ValueError(f"`at:` is where the axis goes when pressed, got {self.at}; write 1.0 or -1.0")
        return self


class JoyNumbers(_Strict):
    """How a Joy message numbers the controls."""

    axes: dict[str, JoyAxis]
    buttons: dict[str, JoyButton]

    @field_validator("axes")
    @classmethod
    def _axes(cls, axes: dict[str, JoyAxis]) -> dict[str, JoyAxis]:
        for name in axes:
            _known("axis", name, STICK_AXES + TRIGGERS)
        return axes

    @field_validator("buttons")
    @classmethod
    def _buttons(cls, buttons: dict[str, JoyButton]) -> dict[str, JoyButton]:
        for name in buttons:
            _known("button", name, BUTTONS)
        return buttons


class Layout(_Strict):
    """What each control of a pad does; `load_layout` is the way to get one."""

    moves: dict[str, Move]
    """Label of the action -> what moves it."""
    gripper: str | None = None
    """Button: the gripper goes to the other end of its travel."""
    hold: str | None = None
    """Button that must be held with `hold_to_move`."""
    events: dict[str, str] = {}
    """What is asked of the session -> button."""
    printed: dict[str, str] = {}
    """Button -> what is printed on it, for the help."""
    joy: JoyNumbers | None = None

    @field_validator("moves")
    @classmethod
    def _some(cls, moves: dict[str, Move]) -> dict[str, Move]:
        if not moves:
            raise ValueError("nothing moves; write at least one entry, such as `x: {axis: left_y, reversed: true}`")
        return moves

    @field_validator("gripper", "hold")
    @classmethod
    def _is_button(cls, name: str | None) -> str | None:
        return None if name is None else _known("button", name, BUTTONS)

    @field_validator("events")
    @classmethod
    def _events(cls, events: dict[str, str]) -> dict[str, str]:
        for event, button in events.items():
            _known("event", event, PRESSABLE)
            _known("button", button, BUTTONS)
        return events

    @model_validator(mode="after")
    def _used_once(self) -> Layout:
        users: dict[str, str] = {}
        for control, user in self._uses():
            if control in users:
                raise ValueError(f"{control!r} is used for {users[control]} and for {user}; give one of them another")
            users[control] = user
        return self

    def _uses(self) -> Iterator[tuple[str, str]]:
        for label, move in self.moves.items():
            yield from ((control, label) for control in move.controls())
        for user, button in (("gripper", self.gripper), ("hold", self.hold), *self.events.items()):
            if button is not None:
                yield button, user

    @property
    def sticks(self) -> tuple[tuple[str, ...], ...]:
        """Labels that one stick moves together."""
        by_stick: dict[str, list[str]] = {}
        for label, move in self.moves.items():
            if move.axis is not None:
                by_stick.setdefault(move.axis.partition("_")[0], []).append(label)
        return tuple(map(tuple, by_stick.values()))

    def read(self, state: PadState) -> Pressed:
        """What a pad in this state asks for."""
        by_button: dict[str, Event] = {self.events[event]: event for event in PRESSABLE if event in self.events}
        return Pressed(
            axes={label: move.deflection(state) for label, move in self.moves.items()},
            events=tuple(by_button[button] for button in state.pressed if button in by_button),
            held=self.hold is not None and self.hold in state.down,
            toggled=0 if self.gripper is None else state.pressed.count(self.gripper),
        )

    def help(self) -> str:
        """Two lines for the operator: what moves what, and what is asked by which button."""

        def name(control: str) -> str:
            return self.printed.get(control, control.replace("_", " "))

        moves = []
        for label, move in self.moves.items():
            moves.append(f"{label} {'/'.join(map(name, move.controls()))}")
        others = [f"{user} {name(button)}" for button, user in self._uses() if user not in self.moves]
        return f"move  {'   '.join(moves)}\ntake  {'   '.join(others)}"


def known_layouts() -> list[str]:
    """Names of the layouts that come with Understudy."""
    return sorted(path.stem for path in LAYOUTS.glob("*.yaml"))


def load_layout(source: str | Path, spec: ActionSpec, *, hold_to_move: bool = False, joy: bool = False) -> Layout:
    """Read a layout by its shipped name ("xbox") or from a YAML file, and check it against what it must drive.

    Args:
        source: name or file.
        spec: the action space; the layout must move at least one of its numbers.
        hold_to_move: a hold button is needed.
        joy: the numbers of a Joy message are needed.

    Raises:
        InputError: no such name or file, not YAML, unknown or missing keys, a control used twice, or something that
            is needed is not in it; says the line and what to do.
    """
    path = _file(source)
    lines = _lines(path)
    if not isinstance(lines.data, dict):
        raise InputError(f"{path}: expected a mapping with `moves:`, as the shipped layouts have.")
    layout = _validated(lines)
    labels = tuple(label for label in spec.labels if label != "gripper")
    for label in layout.moves:
        if label not in TWIST and label not in labels:
            told = unknown_name("number of an action", label, dict.fromkeys(TWIST + labels))
            raise InputError(f"{lines.at('moves', label)}: {told}")
    if not set(labels) & set(layout.moves):
        raise InputError(
            f"{lines.at('moves')}: moves {', '.join(layout.moves)}, and this task's actions are {', '.join(labels)}; "
            "write a layout that moves these."
        )
    if hold_to_move and layout.hold is None:
        raise InputError(f"{path}: --hold-to-move needs a hold button; write `hold: left_shoulder` in it.")
    if joy and layout.joy is None:
        raise InputError(
            f"{path}: --device joy needs `joy:`, the numbers of the controls; write it as the shipped ones do."
        )
    return layout


def _file(source: str | Path) -> Path:
    if str(source).endswith((".yaml", ".yml")):
        path = Path(source)
        if not path.is_file():
            raise InputError(f"Layout file {path} does not exist.")
        return path
    if str(source) not in known_layouts():
        raise unknown_name("layout", str(source), [*known_layouts(), "path/to/layout.yaml"])
    return LAYOUTS / f"{source}.yaml"


def _lines(path: Path) -> YamlLines:
    try:
        return YamlLines(path)
    except RobotFault as error:
        raise InputError(f"{error.findings[0]}.") from error


def _validated(lines: YamlLines) -> Layout:
    data: Any = lines.data
    try:
        return Layout.model_validate(data)
    except ValidationError as error:
        found = sorted(problems(error, Layout), key=lambda problem: problem.missing)
        first = found[0]
        remedy = f"; {first.remedy}" if first.remedy and first.remedy not in first.sentence else ""
        more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
        raise InputError(f"{lines.at(*first.at)}: {first.sentence}{remedy}.{more}") from error
