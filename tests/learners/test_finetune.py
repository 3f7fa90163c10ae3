"""Fine-tuning: it starts at the clone, leaves it alone, and never returns something worse."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from understudy.envs.curriculum import Curriculum, CurriculumConfig
from understudy.envs.make import make_env
from understudy.envs.randomization import Distribution, Randomization, load_randomization
from understudy.envs.tasks.task import make_task
from understudy.errors import InputError
from understudy.learners import finetune as module
from understudy.learners.evaluate import Outcome, Setting, play_episode
from understudy.learners.features import plan_features
from understudy.learners.finetune import FinetuneConfig, ResidualEnv, finetune, judge
from understudy.learners.policies import ChunkMLP, ChunkMLPConfig, ResidualConfig, ResidualPolicy, TorchPolicy

SETTING = Setting("reach", "panda", load_randomization("mild"))
QUICK = FinetuneConfig(
    steps=128 * 4,
    round_decisions=32,
    environments=2,
    batch_size=32,
    epochs=2,
    critic_rounds=1,
    hidden=(16,),
    judge_episodes=3,
)


@pytest.fixture(scope="module")
def clone() -> ChunkMLP:
    """A policy for reach that goes towards the goal: not trained, but set so."""
    env = make_env("reach")
    shapes = {key: space.shape for key, space in env.observation_space.spaces.items()}
    spec = env.spec_units
    env.close()
    plan = plan_features(shapes, spec)
    policy = ChunkMLP(plan, shapes, spec, ChunkMLPConfig(chunk=8, execute=4, hidden=()))
    with torch.no_grad():
        layer = policy.head[0]
        layer.weight.zero_()
        layer.bias.zero_()
        for step in range(8):
            for axis in range(3):
                layer.weight[3 * step + axis, axis] = 5.0  # the first three features are goal - tool, m
    return policy.eval()


def test_without_a_correction_the_environment_plays_the_clone(clone: ChunkMLP) -> None:
    env = SETTING.make()
    expected = play_episode(env, TorchPolicy(clone), 7)
    residual = ResidualEnv(env, ResidualPolicy(clone, ResidualConfig()), "sparse", 0.97)
    residual.reset(seed=7)
    total, done = 0.0, False
    while not done:
        _, reward, terminated, truncated, info = residual.step(np.zeros(3, np.float32))
        total, done = total + reward, terminated or truncated
    assert expected.success
    assert Outcome(7, info["success"], info["episode_steps"], expected.return_) == expected
    assert total == 1.0
    env.close()


def test_a_correction_changes_what_is_played(clone: ChunkMLP) -> None:
    residual = ResidualEnv(SETTING.make(), ResidualPolicy(clone, ResidualConfig()), "sparse", 0.97)
    places = []
    for correction in (0.0, 1.0):
        residual.reset(seed=7)
        for _ in range(3):
            residual.step(np.array([0.0, 0.0, correction], np.float32))
        places.append(residual.env.aligned.values["tool_position"][2])
    # 12 periods of 0.3 of the largest step, 3 cm
    assert places[1] - places[0] > 0.03
    residual.close()


def test_the_shaped_reward_pays_only_for_progress(clone: ChunkMLP) -> None:
    residual = ResidualEnv(SETTING.make(), ResidualPolicy(clone, ResidualConfig()), "shaped", 1.0)
    residual.reset(seed=7)
    start = residual._score
    total, done = 0.0, False
    while not done:
        _, reward, terminated, truncated, _ = residual.step(np.zeros(3, np.float32))
        total, done = total + reward, terminated or truncated
    assert terminated
    # with no discount the shaping of a whole episode is what the start lacked, whatever way was taken
    assert total == pytest.approx(1.0 - start, abs=1e-5)
    residual.close()


def test_training_begins_at_the_clone_and_leaves_it_as_it_was(clone: ChunkMLP) -> None:
    before = {name: tensor.clone() for name, tensor in clone.state_dict().items()}
    rows: list[dict[str, float]] = []
    tuned = finetune(clone, SETTING, dataclasses.replace(QUICK, steps=4 * 32), rows.append)
    # only the critic has learned yet
    assert all(torch.count_nonzero(parameter) == 0 for parameter in tuned.actor[-1].parameters())
    tuned = finetune(clone, SETTING, QUICK, rows.append)
    assert torch.count_nonzero(tuned.actor[-1].weight) > 0  # type: ignore[arg-type]
    for name, tensor in clone.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert {"step", "reward", "episode_length", "success"} <= set(rows[-1])
    assert rows[-1]["step"] <= QUICK.steps


def test_the_same_seed_gives_the_same_result(clone: ChunkMLP) -> None:
    config = dataclasses.replace(QUICK, steps=256, critic_rounds=0)
    first, second = finetune(clone, SETTING, config), finetune(clone, SETTING, config)
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], tensor, rtol=0, atol=0)


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_number_of_processes(clone: ChunkMLP) -> None:
    config = dataclasses.replace(QUICK, steps=256, critic_rounds=0, environments=2)
    first, second = (finetune(clone, SETTING, dataclasses.replace(config, processes=count)) for count in (1, 2))
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], tensor, rtol=0, atol=0)
    with pytest.raises(InputError, match=r"from 1 to the number of environments \(2\), got 3"):
        dataclasses.replace(config, processes=3)


def test_a_curriculum_widens_while_a_policy_that_succeeds_trains(clone: ChunkMLP) -> None:
    outer = Randomization("outer", {"action_delay_s": Distribution("uniform", 0.0, 0.02)})
    curriculum = Curriculum(outer, CurriculumConfig(buffer=2, boundary_share=1.0, step=0.5))
    rows: list[dict[str, float]] = []
    setting = dataclasses.replace(SETTING, randomization=curriculum)
    tuned = finetune(clone, setting, QUICK, rows.append)
    assert rows[-1]["curriculum/width"] == curriculum.width > 0
    assert "curriculum/action_delay_s_high" in rows[-1]
    before = curriculum.state()
    judge(clone, tuned, setting, QUICK)
    assert curriculum.state() == before  # judged in the ranges that were reached, which then stay
    with pytest.raises(InputError, match="in one process; leave out --processes"):
        finetune(clone, setting, dataclasses.replace(QUICK, processes=2))


def test_the_better_one_is_kept(clone: ChunkMLP) -> None:
    tuned = ResidualPolicy(clone, ResidualConfig()).eval()
    kept, verdict = judge(clone, tuned, SETTING, QUICK)
    assert (kept, verdict.kept) == (clone, "clone")
    assert verdict.clone.outcomes == verdict.tuned.outcomes
    assert "Kept the clone" in verdict.sentence()
    spoiled = ResidualPolicy(clone, ResidualConfig(scale=1.0)).eval()
    spoiled.actor[-1].bias.data.fill_(1.0)  # type: ignore[union-attr, operator]
    kept, verdict = judge(clone, spoiled, SETTING, QUICK)
    assert verdict.tuned.successes < verdict.clone.successes
    assert kept is clone


def test_a_better_result_is_kept(clone: ChunkMLP) -> None:
    lazy = ChunkMLP(clone.features.plan, clone.shapes, clone.action_spec, clone.config)
    lazy.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in clone.state_dict().items()})
    lazy.standardise.std.fill_(1.0)
    helped = ResidualPolicy(lazy, ResidualConfig(scale=1.0, hidden=())).eval()
    helped.actor[-1].weight.data[:, :3] = 5.0 * torch.eye(3)  # type: ignore[union-attr, index]
    kept, verdict = judge(lazy.eval(), helped, SETTING, QUICK)
    assert (verdict.clone.successes, verdict.kept) == (0, "finetuned")
    assert kept is helped
    assert verdict.as_dict()["finetuned"]["successes"] == verdict.tuned.successes > 0


def test_held_out_seeds_are_apart_from_all_others() -> None:
    assert module.JUDGE_SEED > 10_000 + 100_000
    assert module.TRAIN_SEED > module.JUDGE_SEED + 100_000


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="Unknown fine-tuning algorithm 'sac'"):
        FinetuneConfig(algo="sac")
    with pytest.raises(InputError, match="Unknown reward 'dense'"):
        FinetuneConfig(reward="dense")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="steps must be at least 1"):
        FinetuneConfig(steps=0)
    assert make_task("reach").horizon == 50
