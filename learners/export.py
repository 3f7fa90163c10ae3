"""From a run to a skill: the policy as ONNX and TorchScript, checked against torch before it is written.

Owns tracing and the check. The file itself is `deploy/skill.py`'s.
"""

from __future__ import annotations

import datetime
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from understudy import __version__
from understudy.deploy.skill import (
    Evaluation,
    KeyStatistics,
    ObservationField,
    SkillManifest,
    SkillRobot,
    write_skill,
)
from understudy.envs.arms.robot import RobotDescription, load_robot
from understudy.envs.control import max_ages
from understudy.envs.foreign_env import is_foreign
from understudy.envs.tasks.task import make_task
from understudy.errors import InputError, RobotMismatch, UnderstudyError
from understudy.learners import evaluate
from understudy.learners.policies import ChunkPolicy, load_policy
from understudy.learners.runs import Run

OUTPUT = "actions"
OPSET = 17
TOLERANCE = 1e-5
"""Largest difference between torch and the exported graph, normalised action units."""
CHECKS = 200
"""Observations the graph is compared on."""


class Graph(nn.Module):
    """A policy with its observations as positional inputs, in the order of `keys`: what tracing needs."""

    def __init__(self, policy: ChunkPolicy) -> None:
        super().__init__()
        self.policy = policy
        self.keys = tuple(policy.shapes)

    def forward(self, *observations: Tensor) -> Tensor:
        """Observations, each (1, *shape), to actions (1, chunk, A)."""
        actions: Tensor = self.policy(dict(zip(self.keys, observations, strict=True)))
        return actions


def export_skill(
    run_folder: str | Path,
    out: str | Path,
    robot: RobotDescription | None = None,
    evaluations: Sequence[evaluate.Evaluation] | None = None,
) -> Path:
    """Write the policy of a run as a skill.

    Args:
        run_folder: of a finished run.
        out: the skill's file, ending in .skill.
        robot: what it was trained on; None loads it by the run's name for it.
        evaluations: what was measured of it; None takes the run's own.

    Raises:
        InputError: no readable run there, one of a task without an arm, or `out` is no name for a skill.
        RobotMismatch: the robot is not the one the run was trained on.
        UnderstudyError: the exported graph does not compute what torch does.
    """
    run, policy = Run.open(run_folder), load_policy(run_folder)
    if is_foreign(run.config.task):
        raise InputError(
            f"{run.path} was trained in {run.config.task!r}, which has no arm; a skill is for an arm's deployment. "
            "Run it from Python: understudy.learners.policies.RunPolicy."
        )
    robot = robot or load_robot(run.config.robot)
    if robot.name != run.config.robot:
        raise RobotMismatch(
            f"{run.path} was trained on robot {run.config.robot!r}, and {robot.name!r} was given; "
            f"export it for {run.config.robot!r}."
        )
    statistics = {key: entry for key, entry in run.statistics().items() if key in policy.shapes}
    onnx, torchscript = to_onnx(policy), to_torchscript(policy)
    check_graph(policy, onnx, statistics)
    measured = run.evaluations() if evaluations is None else list(evaluations)
    manifest = _manifest(run, policy, robot, _name(Path(out)), measured)
    return write_skill(out, manifest, onnx, torchscript, statistics)


def to_onnx(policy: ChunkPolicy) -> bytes:
    """The whole policy as one ONNX graph: an input a key, (1, *shape) float32, and the output `actions`."""
    graph = Graph(policy).eval()
    buffer = io.BytesIO()
    with _quiet():
        # the exporter by tracing: the newer one needs a further package and gives the same graph here
        torch.onnx.export(
            graph,
            _examples(policy),
            buffer,  # type: ignore[arg-type]
            input_names=list(graph.keys),
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def to_torchscript(policy: ChunkPolicy) -> bytes:
    """The same as TorchScript; its arguments are the observations in the order of the keys."""
    buffer = io.BytesIO()
    with _quiet(), torch.no_grad():
        traced = torch.jit.trace(Graph(policy).eval(), _examples(policy))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, buffer)
    return buffer.getvalue()


def check_graph(policy: ChunkPolicy, onnx: bytes, statistics: Mapping[str, KeyStatistics]) -> float:
    """Run the graph and torch on observations like those of training; returns the largest difference.

    Raises:
        UnderstudyError: they differ by more than `TOLERANCE`.
    """
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    taken = {node.name for node in session.get_inputs()}
    worst = 0.0
    for observation in _observations_like(policy, statistics, np.random.default_rng(0)):
        with torch.inference_mode():
            expected = policy({key: torch.from_numpy(value) for key, value in observation.items()}).numpy()
        actual = session.run([OUTPUT], {key: value for key, value in observation.items() if key in taken})[0]
        worst = max(worst, float(np.max(np.abs(actual - expected))))
    if not worst <= TOLERANCE:
        raise UnderstudyError(
            f"The exported graph differs from torch by {worst:.2g} (at most {TOLERANCE:g} is accepted) on observations "
            f"like those of training, so it was not written; torch {torch.__version__}, onnxruntime "
            f"{onnxruntime.__version__}."
        )
    return worst


def _observations_like(
    policy: ChunkPolicy, statistics: Mapping[str, KeyStatistics], rng: np.random.Generator
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Draws over twice the training range of every number (1, *shape), quaternions of length one."""
    for _ in range(CHECKS):
        observation = {}
        for key, shape in policy.shapes.items():
            entry = statistics[key]
            spread = np.maximum(entry.high - entry.low, 1e-2)
            value = rng.uniform(entry.low - spread / 2, entry.high + spread / 2, shape)
            if key.endswith("_quaternion"):
                value = rng.normal(size=shape)
                value /= np.linalg.norm(value)
            observation[key] = value[None].astype(np.float32)
        yield observation


def _examples(policy: ChunkPolicy) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(1, *shape) for shape in policy.shapes.values())


def _manifest(
    run: Run, policy: ChunkPolicy, robot: RobotDescription, name: str, evaluations: Sequence[evaluate.Evaluation]
) -> SkillManifest:
    ages = max_ages(robot, tuple(policy.shapes))
    fields = tuple(ObservationField(key=key, shape=shape, max_age_s=ages[key]) for key, shape in policy.shapes.items())
    return SkillManifest(
        name=name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        software=f"understudy {__version__}",
        robot=SkillRobot.of(robot),
        task=run.config.task,
        horizon=make_task(run.config.task).horizon,
        observations=fields,
        action_spec=policy.action_spec,
        chunk=policy.chunk,
        execute=policy.execute,
        learner=run.config.learner,
        dataset=run.config.dataset_checksum,
        evaluations=tuple(_measured(item) for item in evaluations),
    )


def _measured(item: evaluate.Evaluation) -> Evaluation:
    low, high = item.interval
    return Evaluation(
        suite=item.suite,
        task=item.task,
        episodes=item.episodes,
        successes=item.successes,
        low=low,
        high=high,
        seed=item.seed,
    )


def _name(out: Path) -> str:
    """The file's name as a skill's name, which allows letters, digits, '_', '.' and '-'."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", out.stem).lstrip("_.-")[:100] or "skill"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's notices that tracing has a successor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
