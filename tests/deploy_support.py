"""Tiny real skills (ONNX made by hand, no torch) and an arm of a few lines, for the tests of deploy/."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from understudy.datasets.schema import is_image
from understudy.deploy.skill import KeyStatistics, ObservationField, SkillManifest, SkillRobot, write_skill
from understudy.envs.arms.actions import make_action_space
from understudy.envs.arms.arm import Command, Observation, Start
from understudy.envs.arms.clock import VirtualClock
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import RobotDescription, load_robot
from understudy.errors import ArmFault

PANDA = load_robot("panda")
FIELDS = (
    ObservationField(key="joint_position", shape=(7,), max_age_s=0.25),
    ObservationField(key="gripper_position", shape=(1,), max_age_s=0.25),
    ObservationField(key="tool_position", shape=(3,), max_age_s=0.25),
)


def manifest(robot: RobotDescription = PANDA, space: str = "joint_delta", **changes: Any) -> SkillManifest:
    fields: dict[str, Any] = {
        "name": "tiny",
        "created": "2026-01-01T00:00:00",
        "software": "test",
        "robot": SkillRobot.of(robot),
        "task": "lift",
        "horizon": 40,
        "observations": FIELDS,
        "action_spec": make_action_space(space, robot, Kinematics(robot)).spec,
        "chunk": 2,
        "execute": 2,
        "learner": "by hand",
        "dataset": "none",
    }
    return SkillManifest(**{**fields, **changes})


def affine_onnx(made: SkillManifest, bias: NDArray[Any], weight: NDArray[Any] | None = None) -> bytes:
    """Chunks of `bias` (A,) + joint_position @ `weight` (J, A), the same action at every place of the chunk."""
    size, chunk = made.action_spec.size, made.chunk
    joints = next(field.shape[0] for field in made.observations if field.key == "joint_position")
    weight = np.zeros((joints, size)) if weight is None else weight
    constants = {
        "weight": np.tile(weight, chunk).astype(np.float32),
        "bias": np.tile(bias, chunk).astype(np.float32),
        "shape": np.array([1, chunk, size], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["joint_position", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["actions"]),
    ]
    inputs = [
        helper.make_tensor_value_info(
            field.key, TensorProto.UINT8 if is_image(field.key) else TensorProto.FLOAT, [1, *field.shape]
        )
        for field in made.observations
    ]
    output = helper.make_tensor_value_info("actions", TensorProto.FLOAT, [1, chunk, size])
    graph = helper.make_graph(
        nodes, "tiny", inputs, [output], [numpy_helper.from_array(value, name) for name, value in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def statistics(low: float = -4.0, high: float = 4.0) -> dict[str, KeyStatistics]:
    """Wide enough for anything an arm does, unless told otherwise."""
    made = {}
    for field in FIELDS:
        ones = np.ones(field.shape)
        made[field.key] = KeyStatistics(0 * ones, 0.1 * ones, low * ones, high * ones)
    return made


def write_tiny(path: Path, bias: Any = 0.0, *, made: SkillManifest | None = None, **of: Any) -> Path:
    """A skill that always asks for `bias` (a number for all, or (A,)), normalised."""
    made = made or manifest()
    onnx_bytes = affine_onnx(made, np.broadcast_to(np.asarray(bias, float), (made.action_spec.size,)))
    return write_skill(path, made, onnx_bytes, None, of.get("statistics", statistics()))


class TinyArm:
    """Follows commands exactly one period later, on virtual time, with the faults tests ask for."""

    def __init__(self, robot: RobotDescription = PANDA) -> None:
        self.clock = VirtualClock(1_000_000_000)
        self.robot = robot
        self.joints = robot.home
        self.width = 0.08
        self.sent: list[Command] = []
        self.holds = 0
        self.silent_after_ns: int | None = None
        self.nan_after_ns: int | None = None
        self.fault_after_ns: int | None = None

    def describe(self) -> RobotDescription:
        return self.robot

    def observe(self) -> Observation:
        now = self.clock.now_ns()
        stamp = now if self.silent_after_ns is None else min(now, self.silent_after_ns)
        joints = self.joints.copy()
        if self.nan_after_ns is not None and now > self.nan_after_ns:
            joints[3] = np.nan
        values = {"joint_position": joints, "gripper_position": np.array([self.width])}
        return Observation(values, dict.fromkeys(values, stamp))

    def send(self, command: Command) -> Command:
        if self.fault_after_ns is not None and self.clock.now_ns() > self.fault_after_ns:
            raise ArmFault("Joint 2 reported an over-current; clear the fault on the arm.")
        self.sent.append(dataclasses.replace(command, joint_position=command.joint_position.copy()))
        self.joints = command.joint_position.copy()
        if command.gripper_position is not None:
            self.width = command.gripper_position
        return command

    def hold(self) -> None:
        self.holds += 1

    def reset(self, start: Start) -> Observation:
        self.joints = np.array(start.joint_position)
        return self.observe()

    def close(self) -> None:
        pass
