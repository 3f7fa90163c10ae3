"""The last look at a policy's numbers: shape, finiteness, range; and how unfamiliar an observation is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploy_support import FIELDS, affine_onnx, manifest, statistics, write_tiny

from understudy.deploy.runtime import SkillPolicy
from understudy.deploy.skill import SkillManifest, load_skill, write_skill
from understudy.envs.policy import ObservationDict
from understudy.errors import InputError, PolicyFault


def observation(**changes: Any) -> ObservationDict:
    return {**{field.key: np.zeros(field.shape, np.float32) for field in FIELDS}, **changes}


def policy(folder: Path, bias: Any = 0.0, made: SkillManifest | None = None) -> SkillPolicy:
    return SkillPolicy(load_skill(write_tiny(folder / "p.skill", bias, made=made)))


def test_it_computes_what_the_graph_says(tmp_path: Path) -> None:
    made = manifest(chunk=3, execute=2)
    weight = np.random.default_rng(0).normal(size=(7, 8)) * 0.1
    joints = np.linspace(-1, 1, 7).astype(np.float32)
    path = write_skill(tmp_path / "w.skill", made, affine_onnx(made, np.zeros(8), weight), None, {})
    chunk = SkillPolicy(load_skill(path)).predict(observation(joint_position=joints))
    assert chunk.shape == (3, 8)
    assert chunk.dtype == np.float32
    np.testing.assert_allclose(chunk, np.tile(joints @ weight, (3, 1)), atol=1e-6)


def test_execute_of_a_chunk_is_played_before_the_next_look(tmp_path: Path) -> None:
    made = manifest(chunk=4, execute=3)
    weight = np.zeros((7, 8))
    weight[0] = 1.0
    path = write_skill(tmp_path / "w.skill", made, affine_onnx(made, np.zeros(8), weight), None, {})
    player = SkillPolicy(load_skill(path))
    values = [0.1, 0.2, 0.3, 0.4, 0.5]
    seen = [float(player.act(observation(joint_position=np.array([v] + [0] * 6)))[0]) for v in values]
    np.testing.assert_allclose(seen, [0.1, 0.1, 0.1, 0.4, 0.4], atol=1e-6)
    player.reset()
    assert float(player.act(observation(joint_position=np.full(7, 0.9)))[0]) == pytest.approx(0.9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_before_anything_can_be_sent(tmp_path: Path, bad: float) -> None:
    bias = np.zeros(8)
    bias[2] = bad
    with pytest.raises(PolicyFault, match=r"not finite for 'panda_joint3'; nothing of it is sent"):
        policy(tmp_path, bias)


def test_a_little_outside_is_clipped_and_counted(tmp_path: Path) -> None:
    tested = policy(tmp_path, 1.2)
    before = tested.clipped
    np.testing.assert_array_equal(tested.act(observation()), np.ones(8))
    assert tested.clipped == before + 1


def test_far_outside_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyFault, match=r"returned 50 where actions lie in \[-1, 1\]"):
        policy(tmp_path, 50.0)


def test_a_wrong_output_shape_is_refused_at_load(tmp_path: Path) -> None:
    made = manifest(chunk=3)
    path = write_skill(tmp_path / "s.skill", made, affine_onnx(manifest(chunk=2), np.zeros(8)), None, {})
    with pytest.raises(PolicyFault, match=r"returned shape \(1, 2, 8\); expected \(1, 3, 8\)"):
        SkillPolicy(load_skill(path))


def test_wrong_inputs_are_refused_at_load(tmp_path: Path) -> None:
    graph = affine_onnx(manifest(), np.zeros(8))
    fewer = manifest(observations=FIELDS[:1])
    path = write_skill(tmp_path / "s.skill", fewer, graph, None, {})
    with pytest.raises(InputError, match="takes an input 'gripper_position'; expected only joint_position"):
        SkillPolicy(load_skill(path))
    other = tuple(f.model_copy(update={"shape": (6,)}) if f.key == "joint_position" else f for f in FIELDS)
    path = write_skill(tmp_path / "t.skill", manifest(observations=other), graph, None, {})
    with pytest.raises(InputError, match=r"takes 'joint_position' as .*\[1, 7\]; expected .*\[1, 6\]"):
        SkillPolicy(load_skill(path))


@pytest.mark.parametrize("graph", [b"", b"not a graph", b"\x08\x08" * 50])
def test_what_is_no_graph_is_refused(tmp_path: Path, graph: bytes) -> None:
    path = write_skill(tmp_path / "s.skill", manifest(), graph, None, {})
    with pytest.raises(
        InputError, match=r"s\.skill: policy\.onnx cannot be loaded by onnxruntime .*; export the skill"
    ):
        SkillPolicy(load_skill(path))


def test_observations_must_be_there_and_have_their_shape(tmp_path: Path) -> None:
    tested = policy(tmp_path)
    with pytest.raises(InputError, match="needs 'joint_position', which the observation lacks"):
        tested.act({})
    with pytest.raises(InputError, match=r"'joint_position' has shape \(6,\); the skill was made with \(7,\)"):
        tested.act(observation(joint_position=np.zeros(6)))


def test_novelty_is_zero_inside_and_counts_deviations_outside(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "n.skill", statistics=statistics(-1.0, 1.0))
    tested = SkillPolicy(load_skill(path))
    inside = tested.novelty(observation(tool_position=np.array([1.0, -1.0, 0.3])))
    assert inside is not None
    assert inside.distance == 0.0
    outside = tested.novelty(observation(tool_position=np.array([0.0, -1.5, 0.3])))
    assert outside is not None
    assert (outside.key, outside.index) == ("tool_position", 1)
    assert outside.distance == pytest.approx(5.0)
    assert str(outside) == "tool_position[1] is 5.0 standard deviations outside the training range"


def test_without_statistics_there_is_no_novelty(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "n.skill", statistics={})
    assert SkillPolicy(load_skill(path)).novelty(observation()) is None
