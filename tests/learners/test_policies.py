"""Policies as modules: their laws, their files, and running them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from learners_support import SPEC, ToyWorld

from understudy.errors import InputError
from understudy.learners.features import plan_features
from understudy.learners.policies import (
    ChunkMLP,
    ChunkMLPConfig,
    ResidualConfig,
    ResidualPolicy,
    RunPolicy,
    TorchPolicy,
    as_batch,
    load_policy,
    save_policy,
)

SHAPES = {key: value.shape for key, value in ToyWorld(0).observe().items()}


def make_clone(seed: int = 0, switches: tuple[int, ...] = (3,)) -> ChunkMLP:
    torch.manual_seed(seed)
    policy = ChunkMLP(plan_features(SHAPES, SPEC), SHAPES, SPEC, ChunkMLPConfig(hidden=(16,)), switches)
    policy.standardise.mean.normal_()
    return policy.eval()


def observations(count: int = 50) -> dict[str, torch.Tensor]:
    rows = [ToyWorld(seed).observe() for seed in range(count)]
    return {key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]}


def test_actions_lie_in_bounds_and_switches_at_their_ends() -> None:
    policy = make_clone()
    for weight in policy.head.parameters():
        weight.data *= 5
    actions = policy(observations()).detach()
    assert actions.shape == (50, 8, 4)
    assert actions.abs().max() <= 1.0
    assert set(actions[..., 3].unique().tolist()) <= {-1.0, 1.0}
    assert len(actions[..., 0].unique()) > 2


def test_the_policy_looks_only_at_what_its_features_need() -> None:
    assert set(make_clone().shapes) == {"tool_position", "object_position", "gripper_position"}


@pytest.mark.parametrize("kind", ["clone", "residual"])
def test_a_saved_policy_comes_back_the_same(tmp_path: Path, kind: str) -> None:
    policy = make_clone() if kind == "clone" else ResidualPolicy(make_clone(), ResidualConfig(0.2, (8,)))
    for parameter in policy.parameters():
        parameter.data += 0.01
    save_policy(policy, tmp_path)
    back = load_policy(tmp_path)
    assert type(back) is type(policy)
    assert (back.chunk, back.execute, back.action_spec) == (policy.chunk, policy.execute, policy.action_spec)
    torch.testing.assert_close(back(observations()), policy(observations()), rtol=0, atol=0)
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_an_untrained_residual_is_exactly_the_clone() -> None:
    clone = make_clone()
    residual = ResidualPolicy(clone, ResidualConfig())
    expected = clone(observations())[:, : clone.execute]
    torch.testing.assert_close(residual(observations()), expected, rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in residual.base.parameters())


def test_a_correction_is_bounded_by_its_scale() -> None:
    clone = make_clone(switches=())
    residual = ResidualPolicy(clone, ResidualConfig(scale=0.1))
    _, decided = residual.look(observations())
    moved = residual.corrected(decided, torch.full((50, 4), 100.0))
    assert (moved - decided).max() <= 0.1 + 1e-6
    assert moved.max() <= 1.0


def test_a_chunk_is_played_in_order_before_the_next_look() -> None:
    policy = TorchPolicy(make_clone())
    first, second = ToyWorld(1).observe(), ToyWorld(2).observe()
    chunk, other = policy.predict(first), policy.predict(second)
    played = [policy.act(first if k == 0 else second) for k in range(5)]
    np.testing.assert_array_equal(np.stack(played[:4]), chunk[:4])
    np.testing.assert_array_equal(played[4], other[0])
    policy.reset()
    np.testing.assert_array_equal(policy.act(first), chunk[0])


def test_the_factory_loads_the_run(tmp_path: Path) -> None:
    save_policy(make_clone(), tmp_path)
    made = RunPolicy(tmp_path)().predict(ToyWorld(0).observe())
    np.testing.assert_array_equal(made, TorchPolicy(make_clone()).predict(ToyWorld(0).observe()))


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"policy\.json does not exist"):
        load_policy(tmp_path)
    save_policy(make_clone(), tmp_path)
    written = json.loads((tmp_path / "policy.json").read_text())
    (tmp_path / "policy.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"policy\.safetensors: weights cannot be read"):
        load_policy(tmp_path)
    for change, words in (({"kind": "chunkmlp"}, "did you mean 'chunk_mlp'"), ({"schema_version": 9}, "version 9")):
        (tmp_path / "policy.json").write_text(json.dumps({**written, **change}))
        with pytest.raises(InputError, match=words):
            load_policy(tmp_path)
    (tmp_path / "policy.json").write_text("{")
    with pytest.raises(InputError, match=r"policy\.json: not a readable policy"):
        load_policy(tmp_path)


def test_weights_of_another_form_are_refused(tmp_path: Path) -> None:
    save_policy(make_clone(), tmp_path)
    written = json.loads((tmp_path / "policy.json").read_text())
    written["policy"]["hidden"] = [17]
    (tmp_path / "policy.json").write_text(json.dumps(written))
    with pytest.raises(InputError, match=r"policy\.safetensors"):
        load_policy(tmp_path)


def test_a_missing_observation_is_named() -> None:
    with pytest.raises(InputError, match=r"looks at \['object_position'\]"):
        as_batch({"tool_position": np.zeros(3)}, ("tool_position", "object_position"))


def test_impossible_forms_are_refused() -> None:
    with pytest.raises(InputError, match="chunk of 4 actions cannot have 5 played"):
        ChunkMLPConfig(chunk=4, execute=5)
    with pytest.raises(InputError, match=r"scale must lie in \(0, 1\]"):
        ResidualConfig(scale=0.0)
