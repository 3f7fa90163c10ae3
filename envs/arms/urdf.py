"""A URDF as far as a robot's checks need it: links, joints and meshes, each with the line it stands on.

Reads; judges nothing (`robot_check.py` does). The format: wiki.ros.org/urdf/XML.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from understudy.envs.arms.findings import Finding, RobotFault

NO_INERTIA = (0.0,) * 6
MOVABLE = ("revolute", "continuous", "prismatic", "planar", "floating")
KINDS = (*MOVABLE, "fixed")
NUMBERS = {
    ("origin", "xyz"): 3,
    ("origin", "rpy"): 3,
    ("box", "size"): 3,
    ("cylinder", "radius"): 1,
    ("cylinder", "length"): 1,
    ("sphere", "radius"): 1,
    ("mesh", "scale"): 3,
}
"""(element, attribute) -> how many numbers it holds."""
SHAPES = ("box", "cylinder", "sphere", "capsule", "mesh", "plane")
"""What urdfdom or PyBullet take for a geometry."""
SIZED = ("box", "cylinder", "sphere")
"""Shapes that need every one of their `NUMBERS`."""


@dataclass(frozen=True)
class Link:
    """A rigid body."""

    name: str
    line: int
    mass: float | None
    """kg; None where it has no <inertial>."""
    inertia: tuple[float, ...] = NO_INERTIA
    """ixx, ixy, ixz, iyy, iyz, izz, kg m^2."""
    meshes: tuple[tuple[str, int], ...] = ()
    """File names as written, each with its line."""
    shapeless: tuple[int, ...] = ()
    """Lines of the <visual> and <collision> that have no shape, or one that there is not."""


@dataclass(frozen=True)
class Mimic:
    """A joint that is to follow another: position = multiplier * leader + offset."""

    leader: str
    multiplier: float
    offset: float
    line: int


@dataclass(frozen=True)
class Joint:
    """What connects two links. Limits are None where the file has none; numbers that are none are NaN."""

    name: str
    kind: str
    parent: str
    child: str
    line: int
    lower: float | None
    upper: float | None
    velocity: float | None
    effort: float | None
    mimic: Mimic | None
    axis: tuple[float, ...] = (1.0, 0.0, 0.0)
    """What it moves about or along, in its own frame."""
    begins: int = 0
    """The line of its first tag; `line` is that of its <limit> where it has one."""
    axis_text: str = ""
    """The axis as it is written."""

    @property
    def moves(self) -> bool:
        """Whether it is not fixed."""
        return self.kind in MOVABLE


@dataclass(frozen=True)
class Numbers:
    """An attribute that is to hold numbers, as it is written."""

    element: str
    attribute: str
    text: str
    line: int


@dataclass(frozen=True)
class Urdf:
    """A robot's description. Of links or joints of one name the last counts."""

    path: Path
    name: str
    links: dict[str, Link] = field(default_factory=dict)
    joints: dict[str, Joint] = field(default_factory=dict)
    names: tuple[tuple[str, str, int], ...] = ()
    """("link" or "joint", name, line) of every link and joint, in the file's order."""
    numbers: tuple[Numbers, ...] = ()

    @property
    def roots(self) -> list[str]:
        """The links that nothing carries: one, where all is well."""
        carried = {joint.child for joint in self.joints.values()}
        return [name for name in self.links if name not in carried]

    def carriers(self, link: str) -> list[Joint]:
        """The joints between a link and the root, the link's own first."""
        by_child = {joint.child: joint for joint in self.joints.values()}
        found = []
        while link in by_child:
            found.append(by_child[link])
            link = by_child[link].parent
        return found

    def rigid_with(self, link: str) -> list[Link]:
        """A link and everything that fixed joints attach to it."""
        found = [self.links[link]] if link in self.links else []
        for joint in self.joints.values():
            if joint.parent == link and not joint.moves:
                found += self.rigid_with(joint.child)
        return found

    def look_for(self, mesh: str) -> list[Path]:
        """Where a mesh is looked for: under the folder of this file and those above it, as PyBullet does."""
        plain = Path(mesh.removeprefix("package://").removeprefix("model://").removeprefix("file://"))
        if plain.is_absolute():
            return [plain]
        return [folder / plain for folder in self.path.resolve().parents]


def read_urdf(path: Path) -> Urdf:
    """Read a URDF.

    Raises:
        RobotFault: the file is not readable as XML, is no URDF, or has links that hang on themselves.
    """
    try:
        text = path.read_bytes()
        root, lines = _parse(text)
    except (expat.ExpatError, OSError, ValueError, LookupError) as error:
        line = f":{error.lineno}" if isinstance(error, expat.ExpatError) else ""
        raise _fault(f"{path}{line}", f"{path.name} is not readable as XML: {error}", "mend it there") from error
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _fault(str(path), "it is written in UTF-16, which no other reader of URDFs takes", "save it as UTF-8")
    _require_urdf(path, root, lines)
    links = {link.name: link for link in (_link(element, lines) for element in root.findall("link"))}
    joints = {joint.name: joint for joint in (_joint(element, lines) for element in root.findall("joint"))}
    names = tuple((one.tag, one.get("name", ""), lines[one]) for one in root if one.tag in ("link", "joint"))
    numbers = tuple(
        Numbers(tag, attribute, element.get(attribute, ""), lines[element])
        for part in root
        if part.tag in ("link", "joint")
        for tag, attribute in NUMBERS
        for element in part.iter(tag)
        if tag in SIZED or element.get(attribute) is not None
    )
    urdf = Urdf(path, root.get("name", path.stem), links, joints, names, numbers)
    above = {joint.child: joint for joint in joints.values() if joint.child}
    for link in links:
        seen, here = {link}, link
        while here in above and (here := above[here].parent) not in seen:
            seen.add(here)
        if here in above:
            raise _fault(
                str(path), f"link {link!r} hangs on itself",
                f"joints must form a tree: look at joint {above[link].name!r} at line {above[link].begins}",
            )  # fmt: skip
    return urdf


def _require_urdf(path: Path, root: Element, lines: dict[Element, int]) -> None:
    """Refuse other formats of XML, and templates that URDFs are made from."""
    macro = next((one for one in root.iter() if one.tag.startswith("xacro:")), None)
    if macro is not None:
        raise _fault(
            f"{path}:{lines[macro]}", f"<{macro.tag}> belongs to xacro, from which URDFs are made",
            f"make one: xacro {path.name} > made.urdf, and name that",
        )  # fmt: skip
    if root.tag != "robot":
        raise _fault(f"{path}:{lines[root]}", f"expected a URDF, <robot>, got <{root.tag}>", "convert it to URDF")


def _fault(where: str, message: str, remedy: str) -> RobotFault:
    finding = Finding("URDF", "error", where, message, remedy)
    return RobotFault(f"{finding}.", [finding])


def _parse(text: bytes) -> tuple[Element, dict[Element, int]]:
    """The tree and the line on which each element begins, which ElementTree alone forgets."""
    builder, lines = TreeBuilder(), {}
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        lines[builder.start(name, attributes)] = parser.CurrentLineNumber

    def refuse(*_: object) -> None:
        raise ValueError("it declares entities, which a URDF has no use for")

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.EntityDeclHandler = refuse
    parser.Parse(text, True)
    return builder.close(), lines


def _link(element: Element, lines: dict[Element, int]) -> Link:
    meshes = tuple((mesh.get("filename", ""), lines[mesh]) for mesh in _within(element, "mesh"))
    parts = [*element.findall("visual"), *element.findall("collision")]
    shapeless = tuple(
        lines[part] for part in parts if not any(part.find(f"geometry/{shape}") is not None for shape in SHAPES)
    )
    inertial = element.find("inertial")
    if inertial is None:
        return Link(element.get("name", ""), lines[element], None, meshes=meshes, shapeless=shapeless)
    mass, inertia = inertial.find("mass"), inertial.find("inertia")
    moments = ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")
    return Link(
        element.get("name", ""),
        lines[inertial],
        _number(mass, "value", 0.0),
        tuple(_number(inertia, moment, 0.0) or 0.0 for moment in moments),
        meshes,
        shapeless,
    )


def _joint(element: Element, lines: dict[Element, int]) -> Joint:
    limit, mimic, axis = element.find("limit"), element.find("mimic"), element.find("axis")
    kind = element.get("type", "")
    bounds = (None, None) if limit is None else (_number(limit, "lower", 0.0), _number(limit, "upper", 0.0))
    follows = None
    if mimic is not None:
        factor, offset = _number(mimic, "multiplier", 1.0), _number(mimic, "offset", 0.0)
        assert factor is not None
        assert offset is not None  # both have a default
        follows = Mimic(mimic.get("joint", ""), factor, offset, lines[mimic])
    return Joint(
        element.get("name", ""),
        kind,
        _end(element, "parent"),
        _end(element, "child"),
        lines[element if limit is None else limit],
        None if kind == "continuous" else bounds[0],
        None if kind == "continuous" else bounds[1],
        _number(limit, "velocity", None),
        _number(limit, "effort", None),
        follows,
        _axis(axis),
        lines[element],
        "" if axis is None else axis.get("xyz", ""),
    )


def _axis(element: Element | None) -> tuple[float, ...]:
    """Three numbers; not three, or NaN, where something else is written. The default is x."""
    if element is None:
        return (1.0, 0.0, 0.0)
    try:
        return tuple(float(word) for word in element.get("xyz", "").split())
    except ValueError:
        return (math.nan,) * 3


def _end(joint: Element, end: str) -> str:
    found = joint.find(end)
    return "" if found is None else found.get("link", "")


def _number(element: Element | None, name: str, default: float | None) -> float | None:
    """A number of an element; NaN where it is written and is none."""
    text = None if element is None else element.get(name)
    if text is None:
        return default
    try:
        return float(text)
    except ValueError:
        return math.nan


def _within(element: Element, tag: str) -> Iterator[Element]:
    for purpose in ("visual", "collision"):
        for part in element.findall(purpose):
            yield from part.iter(tag)
