"""`understudy train dagger` from end to end: a clone lifts, a scripted operator takes over, and what comes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from session_support import fake_stage

pytest.importorskip("pybullet")

from understudy.benchmarks.interventions import InterventionBench
from understudy.benchmarks.watchful_operator import WatchConfig, WatchfulOperator, record_takeovers
from understudy.capture.takeover import TakeoverDevice
from understudy.cli.main import main
from understudy.datasets.store import Dataset
from understudy.deploy.runtime import SkillPolicy
from understudy.deploy.skill import load_skill
from understudy.errors import InputError
from understudy.learners.policies import load_policy
from understudy.learners.runs import Run

TRAIN = ("--updates", "60", "--hidden", "32", "--spins", "2")


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert isinstance(answer, dict)
    return answer


def refuse(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`plain`: two demonstrations; `clone`, of them; `both`: the same, and two takeovers from the clone."""
    folder = tmp_path_factory.mktemp("dagger")
    record = ["record", "lift", "--device", "scripted", "--episodes", "2", "--out", str(folder / "plain"), "--json"]
    assert main(record) == 0
    assert main(["train", "bc", str(folder / "plain"), "--out", str(folder / "clone"), *TRAIN, "--json"]) == 0
    shutil.copytree(folder / "plain", folder / "both")
    found = record_takeovers(folder / "clone", folder / "both", count=2, seed=300, config=WatchConfig(slow=20))
    assert found["takeovers"] == 2
    return folder


def test_a_takeover_says_who_drove(folder: Path) -> None:
    dataset = Dataset.open(folder / "both")
    devices = [dataset.summary(id).info.device for id in dataset.ids]
    assert devices.count("scripted") == 2
    assert devices.count("policy and scripted") == len(devices) - 2
    for id, device in zip(dataset.ids, devices, strict=True):
        episode = dataset.read(id)
        assert np.any(episode.intervention) == (device != "scripted")
        assert episode.info.success


def test_the_run_is_one_like_any_other(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "dagger"
    answer = ask(capsys, "train", "dagger", folder / "both", "--from", folder / "clone", "--out", run, *TRAIN)
    assert (answer["demonstrations"], answer["takeovers"], answer["episodes"]) == (2, 2, 4)
    dataset = Dataset.open(folder / "both")
    episodes = [dataset.read(id) for id in dataset.ids]
    human = sum(int(e.intervention.sum()) for e in episodes)
    assert answer["human_steps"] == human > 0
    assert answer["policy_steps_left_out"] == sum(len(e) - e.intervention.sum() for e in episodes[2:])
    record = Run.open(run).config
    assert (record.learner, record.parent, record.episodes) == ("dagger", str(folder / "clone"), 4)
    assert record.options["intervention_share"] == 0.5
    assert record.options["hidden"] == [32]
    assert load_policy(run).describe() == load_policy(folder / "clone").describe()
    low = Run.open(folder / "clone").statistics()["tool_position"].low
    assert np.all(Run.open(run).statistics()["tool_position"].low <= low)
    measured = ask(capsys, "evaluate", run, "--task", "lift", "--episodes", 2, "--workers", 1)
    skill = tmp_path / "dagger.skill"
    exported = ask(capsys, "export", run, "--out", skill)
    assert (exported["learner"], measured["episodes"]) == ("dagger", 2)
    first = {key: values[0] for key, values in episodes[0].observations.items()}
    assert SkillPolicy(load_skill(skill)).act(first).shape == (7,)
    assert main(["plot", str(run), "--out", str(tmp_path)]) == 0


def test_without_json_it_says_what_it_learns_from(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["train", "dagger", str(folder / "both"), "--out", str(tmp_path / "run"), *TRAIN]) == 0
    said = capsys.readouterr().out
    assert "Learning from " in said
    assert "human steps in 2 takeovers; left out: " in said
    assert f"{tmp_path / 'run'}: dagger from 4 episodes" in said


def test_the_record_names_the_features_that_the_policy_has(folder: Path, tmp_path: Path) -> None:
    """Incident: the record named the default features, whatever those of the policy that was gone on from."""
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    lean = ("--features.no-directions", "--features.joint-velocity")
    assert main(["train", "bc", str(folder / "plain"), "--out", str(first), *lean, *TRAIN, "--json"]) == 0
    both = ("train", "dagger", str(folder / "both"), "--updates", "2", "--spins", "2", "--json")
    assert main([*both, "--from", str(first), "--out", str(second)]) == 0
    assert main([*both, "--from", str(second), "--out", str(third)]) == 0
    features = Run.open(first).config.options["features"]
    assert (features["directions"], features["joint_velocity"]) == (False, True)
    assert [Run.open(run).config.options["features"] for run in (second, third)] == [features] * 2


def test_going_on_says_what_the_validation_loss_is_of(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"The validation loss is also of demonstrations that {folder / 'clone'} may have been trained on."
    asked = ["train", "dagger", str(folder / "both"), "--updates", "2", "--spins", "2", "--out"]
    capsys.readouterr()
    assert main([*asked, str(tmp_path / "on"), "--from", str(folder / "clone")]) == 0
    assert words in capsys.readouterr().out
    assert main([*asked, str(tmp_path / "anew")]) == 0
    assert "validation loss" not in capsys.readouterr().out


def test_cloning_all_of_it_says_that_a_policy_is_imitated_too(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = Dataset.open(folder / "both")
    policys = sum(int((~dataset.read(id).intervention).sum()) for id in dataset.ids[2:])
    capsys.readouterr()
    assert main(["train", "bc", str(folder / "both"), "--out", str(tmp_path / "all"), *TRAIN]) == 0
    assert f"in 2 of 4 episodes a policy drove, and its {policys:,} steps are imitated too" in capsys.readouterr().err
    chosen = ["--where", "not ('policy and' in device)"]
    assert main(["train", "bc", str(folder / "both"), "--out", str(tmp_path / "some"), *chosen, *TRAIN]) == 0
    assert "imitated" not in capsys.readouterr().err


def test_what_does_not_fit_is_refused_before_a_folder_is_made(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    said = refuse(capsys, "train", "dagger", folder / "plain", "--out", out)
    assert "There is no intervention to learn from: in 2 episodes" in said
    assert "understudy train bc" in said
    both = ("train", "dagger", folder / "both", "--out", out)
    assert "There is no run at" in refuse(capsys, *both, "--from", tmp_path)
    assert "hidden (8,) was asked for" in refuse(capsys, *both, "--from", folder / "clone", "--hidden", 8)
    assert "share must lie in (0, 1), got 1.0" in refuse(capsys, *both, "--intervention-share", 1)
    other = tmp_path / "reach"
    shutil.copytree(folder / "clone", other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "task": "reach"}))
    assert "was trained on task 'reach', and" in refuse(capsys, *both, "--from", other)
    assert not out.exists()


class Answer:
    """A policy that keeps the tool still, and says what becomes of the gripper (1: open, -1: shut)."""

    def __init__(self) -> None:
        self.gripper = 1.0

    def reset(self) -> None:
        pass

    def act(self, observation: object) -> np.ndarray:
        return self.predict(observation)[0]

    def predict(self, observation: object) -> np.ndarray:
        return np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, self.gripper]], np.float32)


def test_the_scripted_operator_waits_takes_over_and_hands_back() -> None:
    stage, policy = fake_stage("lift"), Answer()
    stage.reset(seed=0)
    robot, spec = stage.control.robot, stage.control.actions.spec
    config = WatchConfig(far=1.5, patience=3, slow=9, trust=4)
    operator = WatchfulOperator(robot, spec, policy, np.random.default_rng(0), config)  # type: ignore[arg-type]
    device = TakeoverDevice(policy, operator, spec)
    assert stage.aligned is not None
    device.reset(stage.aligned.values)
    drove = []
    # the gripper is shut far from the cube, then as it should be; at last nothing is wrong but that it takes too long
    for gripper in [-1.0] * 6 + [1.0] * 14:
        policy.gripper = gripper
        device.read(stage.aligned)
        drove.append(device.intervening)
    waits, drives, alone, late = [False] * 2, [True] * 7, [False] * 9, [True] * 2
    assert drove == waits + drives + alone + late
    device.reset(stage.aligned.values)
    assert not device.intervening
    assert not operator.driving


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="counts of at least 1"):
        InterventionBench(takeovers=0)
    with pytest.raises(InputError, match="0 < far < 2"):
        WatchConfig(far=2.5)
