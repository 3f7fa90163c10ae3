"""A run keeps what made it, and says which file is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from datasets_builders import make_dataset
from learners_support import SPEC, toy_episode, toy_episodes

from understudy.deploy.skill import KeyStatistics
from understudy.errors import DatasetError, InputError
from understudy.learners.cloning import BCConfig
from understudy.learners.evaluate import Evaluation, Outcome
from understudy.learners.runs import (
    Choice,
    Run,
    RunConfig,
    joined_statistics,
    observation_statistics,
    read_demonstrations,
)

CONFIG = RunConfig("bc", {"updates": 3}, 0, "panda", "lift", 20.0, SPEC, {"tool_position": (3,)}, "demos", "abc", 12)
EVALUATION = Evaluation("lift", "panda", "nominal", 5, (Outcome(5, True, 40, 3.5), Outcome(6, False, 160, 1.0)))


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    run.log({"step": 1, "loss": 0.5})
    run.log({"step": 2, "loss": 0.25, "success": 1.0})
    run.add_evaluation(EVALUATION)
    run.write_statistics(observation_statistics(toy_episodes(2)))
    back = Run.open(tmp_path / "run")
    assert back.config == CONFIG
    assert back.metrics() == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "success": 1.0}]
    assert back.evaluations() == [EVALUATION]
    expected = np.concatenate([e.observations["tool_position"] for e in toy_episodes(2)])
    statistics = back.statistics()["tool_position"]
    np.testing.assert_allclose(statistics.mean, expected.mean(0), rtol=1e-6)
    np.testing.assert_array_equal(statistics.high, expected.max(0).astype(np.float64))


def test_a_new_evaluation_replaces_that_of_the_same_suite(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    hard = Evaluation("lift", "panda", "unseen", 5, EVALUATION.outcomes)
    better = Evaluation("lift", "panda", "nominal", 5, EVALUATION.outcomes[:1])
    for item in (EVALUATION, hard, better):
        run.add_evaluation(item)
    assert run.evaluations() == [hard, better]


def test_a_run_knows_its_dataset_settings_and_versions(tmp_path: Path) -> None:
    make_dataset(tmp_path / "demos", 3)
    found = read_demonstrations(tmp_path / "demos")
    dataset = found.dataset
    config = RunConfig.of("bc", BCConfig(seed=7), 7, found)
    assert (config.robot, config.task, config.episodes, config.rate_hz) == ("two_joint", "reach", 3, 20.0)
    assert config.dataset_checksum == dataset.checksum()
    assert config.options["features"]["directions"] is True
    assert {"understudy", "torch", "numpy"} <= set(config.versions)
    child = config.child("finetune-ppo", BCConfig(), 1, tmp_path / "runs/bc")
    assert (child.parent, child.dataset_checksum) == (str(tmp_path / "runs/bc"), config.dataset_checksum)
    Run.create(tmp_path / "run", child)
    assert Run.open(tmp_path / "run").config.observations == config.observations


def test_a_run_knows_which_demonstrations_were_chosen(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 4)
    dataset.name_split("train", dataset.ids[:3])
    dataset.relabel(dataset.ids[0], success=False)
    dataset.relabel(dataset.ids[1], operator="bob")
    found = read_demonstrations(tmp_path / "demos", Choice(where="operator == 'bob'", split="train"))
    assert found.ids == (dataset.ids[1],)
    config = RunConfig.of("bc", BCConfig(), 0, found)
    assert (config.where, config.split, config.episodes) == ("operator == 'bob'", "train", 1)
    assert config.dataset_checksum == dataset.checksum(dataset.ids[1:2]) != dataset.checksum()
    with pytest.raises(InputError, match="Unknown split 'valid'"):
        read_demonstrations(tmp_path / "demos", Choice(split="valid"))
    with pytest.raises(DatasetError, match=r"4 in all, 1 chosen, each of those judged a failure"):
        read_demonstrations(tmp_path / "demos", Choice(where="not success"))


def test_nothing_is_written_over(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", CONFIG)
    with pytest.raises(InputError, match="exists and is not empty"):
        Run.create(tmp_path / "run", CONFIG)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no run at .*config\.json does not exist"):
        Run.open(tmp_path / "nowhere")
    run = Run.create(tmp_path / "run", CONFIG)
    file = run.path / "config.json"
    for text, words in (("{", "Expecting"), ("[]", "list"), ('{"schema_version": 7}', "version 7")):
        file.write_text(text)
        with pytest.raises(InputError, match=rf"config\.json: not the configuration of a run \(.*{words}"):
            Run.open(run.path)
    (run.path / "metrics.jsonl").write_text('{"step": 1}\nnot json\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2"):
        run.metrics()
    (run.path / "evaluation.json").write_text('[{"task": "lift"}]')
    with pytest.raises(InputError, match=r"evaluation\.json: not readable"):
        run.evaluations()
    with pytest.raises(InputError, match=r"statistics\.npz"):
        run.statistics()
    (run.path / "statistics.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"statistics\.npz"):
        run.statistics()


def test_an_unknown_field_of_the_configuration_is_refused(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    data = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps({**data, "colour": "red"}))
    with pytest.raises(InputError, match="colour"):
        Run.open(run.path)


def test_demonstrations_of_another_task_or_robot_or_all_failed_are_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path / "demos", 2)
    with pytest.raises(DatasetError, match="task 'reach', and 'lift' was asked for"):
        read_demonstrations(tmp_path / "demos", Choice(task="lift"))
    with pytest.raises(DatasetError, match="robot 'two_joint', and 'panda' was asked for"):
        read_demonstrations(tmp_path / "demos", Choice("reach", "panda"))
    make_dataset(tmp_path / "failed", 2, success=False)
    with pytest.raises(DatasetError, match=r"no episode to learn from: 2 in all"):
        read_demonstrations(tmp_path / "failed")


def test_joined_statistics_are_those_of_as_much_of_both() -> None:
    rng = np.random.default_rng(0)
    before, since = rng.normal(0.0, 1.0, (50, 3)), rng.normal(2.0, 0.3, (50, 3))
    one = {"tool_position": KeyStatistics.of(before), "goal_position": KeyStatistics.of(before)}
    joined = joined_statistics(one, {"tool_position": KeyStatistics.of(since)})
    assert list(joined) == ["tool_position"]
    both = KeyStatistics.of(np.concatenate([before, since]))
    for name in ("mean", "std", "low", "high"):
        assert np.allclose(getattr(joined["tool_position"], name), getattr(both, name))


def test_statistics_are_of_the_steps_that_count() -> None:
    episode = toy_episode(0)
    steps = np.arange(len(episode)) < 5
    found = observation_statistics([episode, episode], [steps, np.zeros(len(episode), np.bool_)])
    assert np.array_equal(found["tool_position"].high, episode.observations["tool_position"][:5].max(0))
