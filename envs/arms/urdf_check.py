"""What is wrong with a URDF by itself, each finding with line and remedy: names, the tree, numbers, masses, meshes.

What it says against a robot's YAML file is `robot_check.py`'s. PyBullet and urdfdom answer most of this with a
sentence of their own, or with wrong numbers, or by ending the process.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterator

import numpy as np

from understudy.envs.arms.findings import Finding
from understudy.envs.arms.urdf import KINDS, NUMBERS, SHAPES, SIZED, Joint, Link, Urdf
from understudy.errors import unknown_name

ROUNDING = 1e-6
LIMIT_ELEMENT = '<limit lower="..." upper="..." velocity="..." effort="..."/>'
SMALLEST_INERTIA_KG_M2 = 1e-12
TRIANGLE_SLACK = 0.01
"""Principal moments of a body satisfy a + b >= c; makers' rounded numbers break that by less than this share."""
EXAMPLES = {"xyz": "0 0 0.1", "rpy": "0 0 1.57", "size": "0.1 0.1 0.1", "scale": "0.001 0.001 0.001"}


def check_urdf(urdf: Urdf) -> list[Finding]:
    """Everything but shapes, which only simulation needs."""
    parts = (check_names, check_axes, check_tree, check_limits, check_numbers, check_masses)
    return [finding for part in parts for finding in part(urdf)]


def check_names(urdf: Urdf) -> Iterator[Finding]:
    """Links and joints without a name or with another's, kinds of joints that URDFs do not have, lost leaders."""
    first: dict[tuple[str, str], int] = {}
    for what, name, line in urdf.names:
        where = f"{urdf.path}:{line}"
        if not name:
            yield Finding("names", "error", where, f"a {what} without a name", f'write <{what} name="...">')
        elif (what, name) in first:
            told = f"{what} {name!r} is there already, at line {first[what, name]}"
            yield Finding("names", "error", where, told, "rename or remove one")
        else:
            first[what, name] = line
    for joint in urdf.joints.values():
        if joint.kind not in KINDS:
            told = (
                f"joint {joint.name!r} has the type {joint.kind!r}"
                if joint.kind
                else f"joint {joint.name!r} has no type"
            )
            yield Finding("names", "error", _at(urdf, joint), told, f"write one of {', '.join(KINDS)}")
        leader = joint.name if joint.mimic is None else joint.mimic.leader
        if joint.mimic is not None and (leader == joint.name or leader not in urdf.joints):
            problem = str(unknown_name("joint", leader, urdf.joints)).rstrip(".")
            yield Finding(
                "mimic", "error", f"{urdf.path}:{joint.mimic.line}",
                f"joint {joint.name!r} is to follow (mimic) {'itself' if leader == joint.name else 'none: ' + problem}",
                "name the joint that it follows, or take <mimic> out",
            )  # fmt: skip
        elif joint.mimic is not None and not math.isfinite(joint.mimic.multiplier + joint.mimic.offset):
            told = f"joint {joint.name!r}, <mimic>: its multiplier or its offset is not a number"
            yield Finding("mimic", "error", f"{urdf.path}:{joint.mimic.line}", told, "write finite numbers")


def check_tree(urdf: Urdf) -> Iterator[Finding]:
    """Joints that do not hang two links together, and links that do not all hang on one."""
    whole = True
    for joint in urdf.joints.values():
        for end, link in (("parent", joint.parent), ("child", joint.child)):
            if link in urdf.links:
                continue
            whole = False
            problem = str(unknown_name("link", link, urdf.links)).rstrip(".") if link else "it is not there"
            yield Finding(
                "tree", "error", _at(urdf, joint), f"joint {joint.name!r}, <{end}>: {problem}",
                f'write <{end} link="..."/> with the name of a link',
            )  # fmt: skip
    carried = Counter(joint.child for joint in urdf.joints.values())
    for joint in reversed(urdf.joints.values()):
        if carried[joint.child] > 1 and joint.child in urdf.links:
            carried[joint.child] -= 1
            whole = False
            yield Finding(
                "tree", "error", _at(urdf, joint),
                f"joint {joint.name!r} carries link {joint.child!r}, which another joint carries already",
                "a link hangs on one joint: name another child",
            )  # fmt: skip
    for link in urdf.roots[1:] if whole else ():
        line = next(line for what, name, line in urdf.names if (what, name) == ("link", link))
        yield Finding(
            "tree", "error", f"{urdf.path}:{line}",
            f"no joint carries link {link!r}, nor {urdf.roots[0]!r}: there are two bodies",
            f'join them, as with <joint type="fixed">, or take {link!r} out',
        )  # fmt: skip


def check_limits(urdf: Urdf, but: Container[str] = ()) -> Iterator[Finding]:
    """Joints that URDFs must limit and this one does not, or not by numbers; those named in `but` are let be."""
    for joint in urdf.joints.values():
        if joint.name in but:
            continue
        limits = (joint.lower, joint.upper, joint.velocity, joint.effort)
        where = f"{urdf.path}:{joint.line}"
        if any(limit is not None and not math.isfinite(limit) for limit in limits):
            told = f"joint {joint.name!r}: its limit in the URDF is not a number"
            yield Finding("joint limits", "error", where, told, "write finite numbers")
        elif joint.kind in ("revolute", "prismatic") and None in limits:
            yield Finding(
                "joint limits", "error", where,
                f"joint {joint.name!r} is not limited in the URDF, which makes it no valid one",
                f"give it {LIMIT_ELEMENT}, or make it fixed",
            )  # fmt: skip


def check_numbers(urdf: Urdf) -> Iterator[Finding]:
    """Places, turns and sizes that are no numbers: PyBullet would take 0 for them."""
    for written in urdf.numbers:
        count = NUMBERS[written.element, written.attribute]
        where, name = f"{urdf.path}:{written.line}", f"<{written.element} {written.attribute}>"
        try:
            values = [float(word) for word in written.text.split()]
        except ValueError:
            values = []
        if len(values) != count or not all(map(math.isfinite, values)):
            expected = "a number" if count == 1 else f"{count} numbers with spaces between"
            example = EXAMPLES.get(written.attribute, "0.1")
            yield Finding(
                "numbers", "error", where, f"{name}: expected {expected}, got {written.text!r}",
                f'write <{written.element} {written.attribute}="{example}"/>',
            )  # fmt: skip
        elif written.element in SIZED and min(values) <= 0:
            yield Finding(
                "numbers", "error", where, f"{name}: a size must be above zero, got {written.text!r}", "mend it"
            )


def check_axes(urdf: Urdf) -> Iterator[Finding]:
    """Joints that move about or along nothing: kinematics would answer with numbers that are none."""
    for joint in urdf.joints.values():
        length = math.hypot(*joint.axis) if len(joint.axis) == 3 else math.nan
        if joint.moves and not (math.isfinite(length) and length > ROUNDING):
            got = repr(joint.axis_text) if joint.axis_text and not math.isfinite(length) else joint.axis
            yield Finding(
                "joint axis", "error", f"{urdf.path}:{joint.line}",
                f"joint {joint.name!r} has no axis: expected three numbers that are not all 0, got {got}",
                'write <axis xyz="0 0 1"/> or whatever it moves about',
            )  # fmt: skip


def check_masses(urdf: Urdf) -> Iterator[Finding]:
    """Masses that joints move: of a URDF without any nothing is asked, but then each must make sense."""
    if all(link.mass is None for link in urdf.links.values()):
        return
    for joint in urdf.joints.values():
        if not joint.moves:
            continue
        moved = urdf.rigid_with(joint.child)
        for link in moved:
            yield from _inertia(link, urdf)
        if moved and not any(link.mass for link in moved):
            yield Finding(
                "inertia", "error", f"{urdf.path}:{moved[0].line}",
                f"link {joint.child!r}, which joint {joint.name!r} moves, has no mass",
                "give it <inertial> with the mass and inertia of its CAD model",
            )  # fmt: skip


def check_any_mass(urdf: Urdf) -> Iterator[Finding]:
    """A URDF without masses: enough for kinematics, and PyBullet would take every link for 1 kg."""
    if all(link.mass is None for link in urdf.links.values()):
        yield Finding(
            "inertia", "error", str(urdf.path), "no link has a mass, and a simulation without masses means nothing",
            "give every link that moves <inertial> with the mass and inertia of its CAD model",
        )  # fmt: skip


def _inertia(link: Link, urdf: Urdf) -> Iterator[Finding]:
    """One link's mass and inertia; a link of no mass is a frame and may have any."""
    where = f"{urdf.path}:{link.line}"
    if link.mass is None or link.mass == 0:
        return
    if not (math.isfinite(link.mass) and all(math.isfinite(moment) for moment in link.inertia)):
        yield Finding(
            "inertia", "error", where, f"link {link.name!r}: mass or inertia is not a number", "write numbers"
        )
    elif link.mass < 0:
        yield Finding("inertia", "error", where, f"link {link.name!r}: mass {link.mass} kg is negative", "mend it")
    else:
        xx, xy, xz, yy, yz, zz = link.inertia
        small, middle, large = np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        if small < SMALLEST_INERTIA_KG_M2:
            what = "zero" if large < SMALLEST_INERTIA_KG_M2 else f"impossible: a principal moment is {small:.3g} kg m^2"
            yield Finding(
                "inertia", "error", where, f"link {link.name!r}: its inertia is {what}",
                "write the one of its CAD model, or of a box of its size",
            )  # fmt: skip
        elif small + middle < large * (1 - TRIANGLE_SLACK):
            yield Finding(
                "inertia", "warning", where,
                f"link {link.name!r}: no body has the principal moments {small:.3g}, {middle:.3g} and {large:.3g} "
                "kg m^2 (two add up to the third at least)", "check the numbers of its CAD model",
            )  # fmt: skip


def check_shapes(urdf: Urdf) -> Iterator[Finding]:
    """Parts without a shape, and meshes that are not where PyBullet looks for them."""
    for link in urdf.links.values():
        for line in link.shapeless:
            yield Finding(
                "shapes", "error", f"{urdf.path}:{line}", f"link {link.name!r} has a part without a shape",
                f"write <geometry> with one of {', '.join(SHAPES)} in it, or take the part out",
            )  # fmt: skip
        for mesh, line in link.meshes:
            places = urdf.look_for(mesh)
            if any(place.is_file() for place in places):
                continue
            remedy = "put the file there, or write its path relative to the URDF"
            if mesh.startswith("package://"):
                package = mesh.removeprefix("package://").split("/")[0]
                remedy = f"put the package's folder {package!r} beside the URDF or in a folder above it"
            yield Finding(
                "meshes", "error", f"{urdf.path}:{line}",
                f"link {link.name!r}: mesh {mesh!r} is missing, it was looked for at {places[0]}"
                + (" and in the folders above" if len(places) > 1 else ""), remedy,
            )  # fmt: skip


def _at(urdf: Urdf, joint: Joint) -> str:
    return f"{urdf.path}:{joint.begins}"
