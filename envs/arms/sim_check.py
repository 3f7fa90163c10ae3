"""What of a robot only a simulator can tell: that its URDF loads, stands free at home, and grips as its file says."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pybullet
import pybullet_data

from understudy.envs.arms.findings import Finding
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.arms.yaml_lines import YamlLines
from understudy.errors import InputError

AGREEMENT_M = 1e-5
DEPTH_M = 0.005
"""Collision shapes are hulls of the links: neighbours may overlap by less than this."""
OPENING_SLACK_M = 0.005
OPENING_SLACK = 0.15
FAR_M = 1.0


def check_in_simulation(robot: RobotDescription, path: Path) -> list[Finding]:
    """Load a robot's URDF into PyBullet and look at it; its YAML file is at `path`.

    The URDF must have passed `check_full_urdf`: PyBullet ends the process over some that do not.
    """
    client = pybullet.connect(pybullet.DIRECT)
    try:
        pybullet.setAdditionalSearchPath(pybullet_data.getDataPath(), physicsClientId=client)
        with _no_prints():
            body = pybullet.loadURDF(str(robot.urdf_path()), useFixedBase=True, physicsClientId=client)
        return list(_Look(robot, YamlLines(path), client, body).findings())
    except (pybullet.error, InputError) as error:
        return [Finding("simulation", "error", str(robot.urdf_path()), f"PyBullet cannot load it ({error})", "mend it")]
    finally:
        pybullet.disconnect(client)


@contextlib.contextmanager
def _no_prints() -> Iterator[None]:
    """Nothing that C code prints reaches standard output, where a program may be reading JSON."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            yield
            ctypes.CDLL(None).fflush(None)
    finally:
        os.dup2(kept, 1)
        os.close(kept)


class _Look:
    """A robot standing in PyBullet."""

    def __init__(self, robot: RobotDescription, lines: YamlLines, client: int, body: int) -> None:
        self._robot, self._lines, self._client, self._body = robot, lines, client, body
        self._joints, self._links, self._parents = {}, {-1: "the base"}, {}
        for index in range(pybullet.getNumJoints(body, physicsClientId=client)):
            info = pybullet.getJointInfo(body, index, physicsClientId=client)
            self._joints[info[1].decode()] = index
            self._links[index] = info[12].decode()
            self._parents[index] = info[16]

    def findings(self) -> Iterator[Finding]:
        """Everything found."""
        missing = [name for name in self._listed() if name not in self._joints]
        if missing:
            yield Finding(
                "simulation", "error", str(self._robot.urdf_path()), f"it has no joints {missing}",
                "it and the `kinematics` file must have the same joints",
            )  # fmt: skip
            return
        self._stand(self._robot.home)
        yield from self._tool()
        yield from self._collisions()
        yield from self._grip()

    def _listed(self) -> list[str]:
        return [*self._robot.joint_names, *(self._robot.gripper.joints if self._robot.gripper else ())]

    def _stand(self, joints: np.ndarray, width: float | None = None) -> None:
        values = dict(zip(self._robot.joint_names, joints, strict=True))
        if self._robot.gripper is not None:
            fingers = self._robot.finger_positions(self._robot.gripper.width if width is None else width)
            values |= dict(zip(self._robot.gripper.joints, fingers, strict=True))
        for name, value in values.items():
            pybullet.resetJointState(self._body, self._joints[name], value, physicsClientId=self._client)
        pybullet.performCollisionDetection(physicsClientId=self._client)

    def _tool(self) -> Iterator[Finding]:
        """The tool, where both URDFs have it, must be at the same place in both."""
        index = next((index for index, name in self._links.items() if name == self._robot.tool_frame), None)
        if index is None or index < 0:
            return
        link = pybullet.getLinkState(self._body, index, computeForwardKinematics=True, physicsClientId=self._client)
        apart = float(np.linalg.norm(Kinematics(self._robot).tool_position(self._robot.home) - np.array(link[4])))
        if apart > AGREEMENT_M:
            yield Finding(
                "simulation", "error", self._lines.at("kinematics"),
                f"at home the tool is {apart:.4f} m away from where the full URDF has it",
                "the `kinematics` file must have the numbers of the full one",
            )  # fmt: skip

    def _collisions(self) -> Iterator[Finding]:
        """Links that are inside each other at home; neighbours and the links of one gripper may be."""
        hand = self._hand()
        for first, second in combinations(self._links, 2):
            if first in self._near(second) or second in self._near(first) or {first, second} <= hand:
                continue
            points = pybullet.getClosestPoints(self._body, self._body, 0.0, first, second, physicsClientId=self._client)
            depth = -min((point[8] for point in points), default=0.0)
            if depth > DEPTH_M:
                yield Finding(
                    "self-collision", "error", self._lines.at("joints"),
                    f"at home link {self._links[first]!r} is {depth:.3f} m inside {self._links[second]!r}",
                    "choose another `home`",
                )  # fmt: skip

    def _near(self, link: int) -> set[int]:
        """A link's ancestors up to the one from which a joint moves it, and what is fixed to that above."""
        near, moved = set(), False
        while link >= 0 and not (moved and self._moves(link)):
            moved = moved or self._moves(link)
            link = self._parents[link]
            near.add(link)
        return near

    def _moves(self, link: int) -> bool:
        return bool(pybullet.getJointInfo(self._body, link, physicsClientId=self._client)[2] != pybullet.JOINT_FIXED)

    def _hand(self) -> set[int]:
        """The finger links, what they hang on, and everything that hangs on that."""
        if self._robot.gripper is None:
            return set()
        fingers = {self._joints[name] for name in self._robot.gripper.joints}
        hand = fingers | {self._parents[finger] for finger in fingers}
        for link in self._links:
            if link >= 0 and self._parents[link] in hand:
                hand.add(link)
        return hand

    def _grip(self) -> Iterator[Finding]:
        """Between closed and open, the fingers must part by the width that the file states."""
        gripper = self._robot.gripper
        if gripper is None:
            return
        pairs = list(combinations([self._joints[name] for name in gripper.joints], 2))
        gaps = []
        for width in (0.0, gripper.width):
            self._stand(self._robot.home, width)
            gaps.append([self._gap(*pair) for pair in pairs])
        # the pads part most of all the pairs: what carries them moves less
        partings = [opened - closed for closed, opened in zip(*gaps, strict=True)] or [gripper.width]
        parted = max(partings)
        at = self._lines.at("gripper", "joints")
        if -min(partings) > parted:
            yield Finding(
                "fingers", "error", at,
                f"the fingers close by {-min(partings):.3f} m where the file says that they open",
                "swap [closed, open] of the finger joints",
            )  # fmt: skip
        elif abs(parted - gripper.width) > max(OPENING_SLACK_M, OPENING_SLACK * gripper.width):
            yield Finding(
                "fingers", "warning", self._lines.at("gripper", "width"),
                f"between closed and open the fingers part by {parted:.3f} m, and `width` says {gripper.width} m",
                "mend `width`, or [closed, open] of the finger joints",
            )  # fmt: skip

    def _gap(self, first: int, second: int) -> float:
        points = pybullet.getClosestPoints(self._body, self._body, FAR_M, first, second, physicsClientId=self._client)
        return min((float(point[8]) for point in points), default=0.0)
