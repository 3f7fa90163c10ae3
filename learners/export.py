"""Writes a run as a skill: the policy as ONNX and TorchScript, with everything the robot's side must know.

What is written is compared with the policy it came from, on random and on recorded observations, before it is handed over.
"""

from __future__ import annotations

import datetime
import io
import warnings
from collections.abc import Mapping
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
    Statistics,
    write_skill,
)
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.control import max_ages
from understudy.envs.tasks.task import make_task
from understudy.errors import InputError, UnderstudyError
from understudy.learners.policies import PolicyModule, load_policy
from understudy.learners.runs import Run

OPSET = 17
AGREEMENT = 1e-4
"""The exported policy may differ from the trained one by no more than this, in units of [-1, 1]."""


def export_skill(run: Run, out: Path, robot: RobotDescription) -> Path:
    """Write the policy of `run` as a skill for `robot`.

    Raises:
        InputError: the run is of another robot, or holds no policy or statistics.
        UnderstudyError: the exported policy does not agree with the trained one.
    """
    if run.config.robot != robot.name:
        raise InputError(
            f"{run.path} was trained on {run.config.robot!r}; it cannot become a skill for {robot.name!r}."
        )
    module = load_policy(run.path)
    statistics = load_statistics(run.path)
    keys = module.config.features.keys
    shapes = {key: statistics[key].mean.shape for key in keys}
    onnx = to_onnx(module, shapes)
    check_agreement(module, onnx, statistics)
    manifest = _manifest(run, module, shapes, robot, out.name.removesuffix(".skill"))
    return write_skill(out, manifest, onnx, to_torchscript(module, shapes), {key: statistics[key] for key in keys})


def _manifest(
    run: Run, module: PolicyModule, shapes: Mapping[str, tuple[int, ...]], robot: RobotDescription, name: str
) -> SkillManifest:
    ages = max_ages(robot, tuple(shapes))
    wanted = set(Evaluation.model_fields)
    return SkillManifest(
        name=name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        software=f"understudy {__version__}",
        robot=SkillRobot.of(robot),
        task=run.config.task,
        horizon=make_task(run.config.task).horizon,
        observations=tuple(
            ObservationField(key=key, shape=shape, max_age_s=ages[key]) for key, shape in shapes.items()
        ),
        action_spec=run.config.action_spec,
        chunk=module.config.chunk,
        execute=module.config.execute,
        learner=run.config.learner,
        dataset=run.config.dataset_checksum,
        evaluations=tuple(
            Evaluation(**{key: value for key, value in record.items() if key in wanted}) for record in run.evaluations()
        ),
    )


class _Flat(nn.Module):
    """The policy with one argument an observation key, as exporters want it."""

    def __init__(self, module: PolicyModule, keys: tuple[str, ...]) -> None:
        super().__init__()
        self.module = module
        self.keys = keys

    def forward(self, *values: Tensor) -> Tensor:
        """Values in the order of `keys`, each (1, ...)."""
        chunk: Tensor = self.module(dict(zip(self.keys, values, strict=True)))
        return chunk


def to_onnx(module: PolicyModule, shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """The policy as an ONNX model: one float32 input an observation key, (1, *shape); output `actions` (1, H, A)."""
    examples = tuple(torch.zeros(1, *shape) for shape in shapes.values())
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # the exporter that needs no further package calls itself legacy
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Flat(module, tuple(shapes)).eval(),
            examples,
            buffer,
            input_names=list(shapes),
            output_names=["actions"],
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def to_torchscript(module: PolicyModule, shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """The policy as TorchScript, arguments in the order of `shapes`."""
    examples = tuple(torch.zeros(1, *shape) for shape in shapes.values())
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(_Flat(module, tuple(shapes)).eval(), examples), buffer)
    return buffer.getvalue()


def check_agreement(module: PolicyModule, onnx: bytes, statistics: Statistics, samples: int = 64) -> None:
    """Compare the exported policy with the trained one on observations drawn from the training range.

    Raises:
        UnderstudyError: they differ by more than `AGREEMENT` anywhere.
    """
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(samples):
        observation = {
            key: rng.normal(statistics[key].mean, statistics[key].std).astype(np.float32)[None]
            for key in module.config.features.keys
        }
        with torch.no_grad():
            expected = module({key: torch.from_numpy(value) for key, value in observation.items()}).numpy()
        difference = np.abs(session.run(None, observation)[0] - expected)
        if module.config.snapped is not None:
            # a number of two values flips at zero, where rounding decides
            difference[..., module.config.snapped] = 0.0
        worst = max(worst, float(difference.max()))
    if worst > AGREEMENT:
        raise UnderstudyError(f"The exported policy differs from the trained one by {worst:.2g}; nothing was written.")


STATISTICS = "statistics.npz"


def save_statistics(folder: Path, observations: Mapping[str, NDArray[np.float32]]) -> None:
    """Keep what the training observations (key -> (N, ...)) looked like beside the run."""
    arrays = {}
    for key, values in observations.items():
        found = KeyStatistics.of(values)
        arrays |= {f"{key}/{part}": getattr(found, part) for part in ("mean", "std", "low", "high")}
    with (folder / STATISTICS).open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_statistics(folder: Path) -> dict[str, KeyStatistics]:
    """Read what `save_statistics` wrote.

    Raises:
        InputError: it is missing or cannot be read.
    """
    path = folder / STATISTICS
    try:
        with np.load(path, allow_pickle=False) as arrays:
            keys = {name.partition("/")[0] for name in arrays.files}
            parts = ("mean", "std", "low", "high")
            return {key: KeyStatistics(*(arrays[f"{key}/{part}"] for part in parts)) for key in sorted(keys)}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}); train again.") from error
