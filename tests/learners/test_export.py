"""Export: the skill computes what torch does, and a graph that does not is never written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from learners_support import SPEC, ToyWorld, toy_episodes

from understudy.deploy.runtime import SkillPolicy
from understudy.deploy.skill import load_skill
from understudy.envs.arms.robot import load_robot
from understudy.errors import InputError, RobotMismatch, UnderstudyError
from understudy.learners.cloning import BCConfig, train_bc
from understudy.learners.evaluate import Evaluation, Outcome
from understudy.learners.export import TOLERANCE, check_graph, export_skill, to_onnx, to_torchscript
from understudy.learners.policies import ChunkMLP, ChunkPolicy, ResidualConfig, ResidualPolicy, TorchPolicy, save_policy
from understudy.learners.runs import Run, RunConfig, observation_statistics


@pytest.fixture(scope="module")
def clone() -> ChunkMLP:
    return train_bc(toy_episodes(4), BCConfig(updates=30, hidden=(32,), spins=2))


def residual_of(clone: ChunkMLP) -> ResidualPolicy:
    residual = ResidualPolicy(clone, ResidualConfig(0.3, (16,)))
    torch.manual_seed(0)
    for parameter in residual.actor.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return residual.eval()


def make_run(folder: Path, policy: ChunkPolicy) -> Path:
    episodes = toy_episodes(4)
    shapes = {key: values.shape[1:] for key, values in episodes[0].observations.items()}
    run = Run.create(folder, RunConfig("bc", {}, 0, "panda", "lift", 20.0, SPEC, shapes, "demos", "abc123", 4))
    run.write_statistics(observation_statistics(episodes))
    save_policy(policy, folder)
    run.add_evaluation(
        Evaluation("lift", "panda", "nominal", 9, (Outcome(9, True, 30, 1.0), Outcome(10, False, 40, 0.0)))
    )
    return folder


@pytest.mark.parametrize("kind", ["clone", "residual"])
def test_a_skill_plays_what_torch_plays(tmp_path: Path, clone: ChunkMLP, kind: str) -> None:
    policy = clone if kind == "clone" else residual_of(clone)
    path = export_skill(make_run(tmp_path / "run", policy), tmp_path / "toy.skill")
    skill, torch_policy = SkillPolicy(load_skill(path)), TorchPolicy(policy)
    for seed in range(20):
        world = ToyWorld(seed)
        skill.reset()
        torch_policy.reset()
        for _ in range(10):
            action = torch_policy.act(world.observe())
            np.testing.assert_allclose(skill.act(world.observe()), action, atol=TOLERANCE)
            world.step(SPEC.denormalise(action))
    assert skill.clipped == 0


def test_a_skill_says_what_it_was_made_from(tmp_path: Path, clone: ChunkMLP) -> None:
    manifest = load_skill(export_skill(make_run(tmp_path / "run", clone), tmp_path / "toy.skill")).manifest
    assert manifest.observation_keys == ("gripper_position", "object_position", "tool_position")
    assert (manifest.chunk, manifest.execute, manifest.horizon) == (8, 4, 160)
    assert (manifest.learner, manifest.dataset, manifest.name) == ("bc", "abc123", "toy")
    assert manifest.action_spec == SPEC
    measured = manifest.evaluations[0]
    assert (measured.suite, measured.successes, measured.episodes) == ("nominal", 1, 2)
    assert 0 < measured.low < 0.5 < measured.high < 1


def test_statistics_are_of_what_the_policy_looks_at(tmp_path: Path, clone: ChunkMLP) -> None:
    skill = load_skill(export_skill(make_run(tmp_path / "run", clone), tmp_path / "toy.skill"))
    assert set(skill.statistics) == set(skill.manifest.observation_keys)
    seen = SkillPolicy(skill)
    near, far = ToyWorld(0).observe(), ToyWorld(0).observe()
    far["tool_position"] = far["tool_position"] + 5.0
    assert seen.novelty(near).distance == 0.0  # type: ignore[union-attr]
    assert seen.novelty(far).key == "tool_position"  # type: ignore[union-attr]


def test_a_graph_that_differs_is_refused(clone: ChunkMLP) -> None:
    statistics = observation_statistics(toy_episodes(4))
    assert check_graph(clone, to_onnx(clone), statistics) <= TOLERANCE
    other = train_bc(toy_episodes(4), BCConfig(updates=30, hidden=(32,), spins=2, seed=1))
    with pytest.raises(UnderstudyError, match="differs from torch"):
        check_graph(clone, to_onnx(other), statistics)


def test_torchscript_is_the_same_policy(tmp_path: Path, clone: ChunkMLP) -> None:
    file = tmp_path / "policy.torchscript"
    file.write_bytes(to_torchscript(clone))
    loaded = torch.jit.load(file)  # type: ignore[no-untyped-call]
    observation = ToyWorld(5).observe()
    inputs = [torch.from_numpy(observation[key])[None] for key in clone.shapes]
    np.testing.assert_allclose(loaded(*inputs)[0].numpy(), TorchPolicy(clone).predict(observation), atol=1e-6)


def test_another_robot_is_refused(tmp_path: Path, clone: ChunkMLP) -> None:
    run = make_run(tmp_path / "run", clone)
    other = load_robot("panda").model_copy(update={"name": "other"})
    with pytest.raises(RobotMismatch, match="trained on robot 'panda', and 'other' was given"):
        export_skill(run, tmp_path / "toy.skill", other)
    assert not (tmp_path / "toy.skill").exists()


def test_a_run_without_a_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run at"):
        export_skill(tmp_path, tmp_path / "toy.skill")
