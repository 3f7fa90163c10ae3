"""A skill's policy, run by onnxruntime: observations in, checked actions out.

Owns inference and the last look at the policy's numbers before they can become motion. It touches no arm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from understudy.datasets.schema import is_image
from understudy.deploy.skill import KeyStatistics, ObservationField, Skill
from understudy.envs.policy import ChunkPlayer, ObservationDict
from understudy.errors import InputError, PolicyFault

MAX_OVERSHOOT = 10.0
"""A normalised action this far from zero comes from a broken graph: training actions end at 1."""
SMALLEST_SPREAD = 1e-3
"""A channel that hardly moved in training still has some noise (rad, m, rad/s): its spread counts as this much."""


@dataclass(frozen=True)
class Novelty:
    """How far the most unusual number of an observation lies outside what training saw."""

    key: str
    index: int
    """Which number of the (flattened) observation."""
    distance: float
    """Beyond the training range, in training standard deviations; 0 inside."""

    def __str__(self) -> str:
        return f"{self.key}[{self.index}] is {self.distance:.1f} standard deviations outside the training range"


class SkillPolicy:
    """`envs.policy.Policy` of a skill.

    Inference uses one thread: the control loop must not compete with itself on a small robot computer.
    """

    def __init__(self, skill: Skill) -> None:
        """Build the session and run it once on zeros, so that a graph that does not fit is refused now.

        Raises:
            InputError: the graph cannot be loaded, or its inputs or output are not what `skill.json` says.
        """
        self.skill = skill
        manifest = skill.manifest
        self._fields = {field.key: field for field in manifest.observations}
        self._chunk_shape = (1, manifest.chunk, manifest.action_spec.size)
        self._session = _open(skill)
        self._inputs = self._check_inputs()
        self._output = self._check_output()
        self._player = ChunkPlayer(self.predict, manifest.execute)
        self.clipped = 0
        """Looks whose chunk had values outside [-1, 1] and was clipped, as it is in training-time evaluation."""
        self.predict({key: np.zeros(field.shape, _dtype(key)) for key, field in self._fields.items()})

    def reset(self) -> None:
        """See `Policy`."""
        self._player.reset()

    def act(self, observation: ObservationDict) -> NDArray[np.float32]:
        """See `Policy`.

        Raises:
            PolicyFault: the policy's output has another shape, or is not finite, or is far outside [-1, 1].
            InputError: an observation is missing or has another shape than the skill says.
        """
        return self._player.act(observation)

    def predict(self, observation: ObservationDict) -> NDArray[np.float32]:
        """One look: the whole chunk (chunk, A) in [-1, 1]. Raises what `act` does."""
        feed = {key: self._feed(key, observation) for key in self._inputs}
        chunk = np.asarray(self._session.run([self._output], feed)[0])
        return self._checked(chunk)

    def _feed(self, key: str, observation: ObservationDict) -> NDArray[Any]:
        field = self._fields[key]
        if key not in observation:
            raise InputError(f"The policy needs {key!r}, which the observation lacks; it has {sorted(observation)}.")
        value = np.asarray(observation[key])
        if value.shape != field.shape:
            raise InputError(f"{key!r} has shape {value.shape}; the skill was made with {field.shape}.")
        return value.astype(_dtype(key), copy=False)[np.newaxis]

    def _checked(self, chunk: NDArray[Any]) -> NDArray[np.float32]:
        """Refuse what is no chunk of actions; clip what is a little outside, and count it."""
        if chunk.shape != self._chunk_shape:
            raise PolicyFault(f"The policy returned shape {chunk.shape}; expected {self._chunk_shape}.")
        largest = float(np.max(np.abs(chunk)))
        if not np.isfinite(largest):
            labels = self.skill.manifest.action_spec.labels
            wrong = labels[int(np.argwhere(~np.isfinite(chunk))[0][-1])]
            raise PolicyFault(f"The policy returned a value that is not finite for {wrong!r}; nothing of it is sent.")
        if largest > MAX_OVERSHOOT:
            raise PolicyFault(
                f"The policy returned {largest:.3g} where actions lie in [-1, 1]; nothing of it is sent. "
                "Export the skill again, with normalisation inside the graph."
            )
        if largest > 1.0:
            self.clipped += 1
        clipped: NDArray[np.float32] = np.clip(chunk[0], -1.0, 1.0).astype(np.float32, copy=False)
        return clipped

    def novelty(self, observation: ObservationDict) -> Novelty | None:
        """The most unusual number of an observation; None if the skill has no statistics."""
        worst: Novelty | None = None
        for key, statistics in self.skill.statistics.items():
            index, distance = _beyond(np.asarray(observation[key], np.float64), statistics)
            if worst is None or distance > worst.distance:
                worst = Novelty(key, index, distance)
        return worst

    def _check_inputs(self) -> tuple[str, ...]:
        """The graph's inputs, each an observation of the skill; it need not use all (exporters drop unused ones)."""
        names = []
        for node in self._session.get_inputs():
            if node.name not in self._fields:
                raise self._unfit(f"takes an input {node.name!r}", f"only {', '.join(self._fields)}")
            field = self._fields[node.name]
            kind = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}[_dtype(node.name).name]
            if node.type != kind or not _fits(node.shape, field):
                raise self._unfit(
                    f"takes {node.name!r} as {node.type} of shape {node.shape}", f"{kind} of shape {[1, *field.shape]}"
                )
            names.append(str(node.name))
        return tuple(names)

    def _check_output(self) -> str:
        outputs = self._session.get_outputs()
        if len(outputs) != 1 or outputs[0].type != "tensor(float)":
            raise self._unfit(
                f"returns {[(node.name, node.type) for node in outputs]}", "one output of type tensor(float)"
            )
        return str(outputs[0].name)

    def _unfit(self, got: str, expected: str) -> InputError:
        return InputError(
            f"{self.skill.path}: policy.onnx {got}; expected {expected}. Export the skill again with this version."
        )


def _open(skill: Skill) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(skill.onnx, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for each status, below no common one
        raise InputError(
            f"{skill.path}: policy.onnx cannot be loaded by onnxruntime {onnxruntime.__version__} "
            f"({' '.join(str(error).split())}); export the skill again, or update onnxruntime."
        ) from error


def _dtype(key: str) -> np.dtype[Any]:
    return np.dtype(np.uint8 if is_image(key) else np.float32)


def _fits(shape: list[int | str | None], field: ObservationField) -> bool:
    """Whether a graph's input shape (names stand for any size) takes (1, *field.shape)."""
    wanted = (1, *field.shape)
    return len(shape) == len(wanted) and all(
        not isinstance(got, int) or got == want for got, want in zip(shape, wanted, strict=True)
    )


def _beyond(value: NDArray[np.float64], statistics: KeyStatistics) -> tuple[int, float]:
    """(which number, how many standard deviations beyond the training range) for the worst number of a key."""
    outside = np.maximum(np.maximum(value - statistics.high, statistics.low - value), 0.0)
    distance = (outside / np.maximum(statistics.std, SMALLEST_SPREAD)).ravel()
    index = int(np.argmax(distance))
    return index, float(distance[index])
