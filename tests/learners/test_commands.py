"""The commands of the engineer's day, on a small recorded dataset: train, fine-tune, evaluate, export, plot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from understudy.cli.main import main
from understudy.envs.randomization import load_randomization


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demos") / "reach"
    assert main(["record", "reach", "--device", "scripted", "--episodes", "12", "--out", str(folder), "--json"]) == 0
    return folder


@pytest.fixture(scope="module")
def trained(demos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "bc"
    assert main(["train", "bc", str(demos), "--out", str(run), "--updates", "400", "--hidden", "64", "64"]) == 0
    return run


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert isinstance(answer, dict)
    return answer


def refuse(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


def test_from_demonstrations_to_a_skill(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = ask(capsys, "evaluate", trained, "--task", "reach", "--episodes", 8, "--workers", 1, "--json")
    assert measured["episodes"] == 8
    assert measured["successes"] >= 7  # type: ignore[operator]
    skill = tmp_path / "reach.skill"
    exported = ask(capsys, "export", trained, "--out", skill, "--json")
    assert exported["evaluations"][0]["successes"] == measured["successes"]  # type: ignore[index]
    again = ask(capsys, "evaluate", skill, "--episodes", 8, "--workers", 1, "--json")
    assert [row["success"] for row in again["outcomes"]] == [row["success"] for row in measured["outcomes"]]  # type: ignore[index, attr-defined]
    assert main(["plot", str(trained), "--out", str(tmp_path)]) == 0
    assert {"training.png", "success.png"} <= {file.name for file in tmp_path.iterdir()}


def test_fine_tuning_keeps_one_of_the_two_and_says_which(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "tuned"
    arguments = ["--steps", 512, "--round-decisions", 32, "--judge-episodes", 3, "--randomize", "mild", "--json"]
    answer = ask(capsys, "finetune", trained, "--algo", "ppo", "--out", run, *arguments)
    assert answer["kept"] in ("clone", "finetuned")
    kept = json.loads((run / "policy.json").read_text())["kind"]
    assert kept == {"clone": "chunk_mlp", "finetuned": "residual"}[str(answer["kept"])]
    assert json.loads((run / "candidate" / "policy.json").read_text())["kind"] == "residual"
    config = json.loads((run / "config.json").read_text())
    assert (config["learner"], config["parent"], config["options"]["randomize"]) == (
        "finetune-ppo",
        str(trained),
        "mild",
    )
    ranges, mild = load_randomization(str(run / "randomization.yaml")), load_randomization("mild")
    assert ranges is not None
    assert mild is not None
    assert ranges.distributions == mild.distributions
    exported = ask(capsys, "export", run, "--out", tmp_path / "tuned.skill", "--json")
    assert exported["learner"] == "finetune-ppo"


def test_adversarial_runs_are_runs_like_any_other(
    demos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--steps", 128, "--round-steps", 64, "--discriminator.updates", 2, "--discriminator.batch-size", 32]
    for learner in ("gail", "airl"):
        answer = ask(capsys, "train", learner, demos, "--out", tmp_path / learner, *sizes, "--json")
        assert answer["last"]["step"] == 128  # type: ignore[index]
        exported = ask(capsys, "export", tmp_path / learner, "--out", tmp_path / f"{learner}.skill", "--json")
        assert (exported["learner"], exported["chunk"]) == (learner, 1)


def test_what_does_not_fit_is_refused_in_words(
    demos: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert "'lift' was asked for" in refuse(capsys, "train", "bc", demos, "--out", out, "--task", "lift")
    assert "robot 'panda', and 'xarm6'" in refuse(capsys, "train", "gail", demos, "--out", out, "--robot", "xarm6")
    assert not out.exists()
    assert "exists and is not empty" in refuse(capsys, "train", "bc", demos, "--out", trained)
    assert "--task is 'lift'" in refuse(capsys, "evaluate", trained, "--task", "lift")
    assert "There is no run at" in refuse(capsys, "evaluate", tmp_path / "nowhere")
    assert "Unknown fine-tuning algorithm 'sac'" in refuse(capsys, "finetune", trained, "--algo", "sac", "--out", out)
    assert "Unknown randomization 'hrad': did you mean 'hard'" in refuse(
        capsys, "finetune", trained, "--randomize", "hrad", "--out", out
    )
    assert "ends in .skill" in refuse(capsys, "export", trained, "--out", tmp_path / "skill.zip")
