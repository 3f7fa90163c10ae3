"""The engineer's commands in environments of others, from a recording to a fine-tuned run."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest
from foreign_support import Balance
from gymnasium import spaces

from tests.datasets.convert.hdf5_samples import box
from understudy.cli.main import main
from understudy.datasets.convert.minari import MinariImport, read
from understudy.datasets.store import Dataset
from understudy.envs.foreign_env import NO_ROBOT, ForeignEnv
from understudy.envs.foreign_recording import record_policy
from understudy.envs.randomization import load_randomization
from understudy.errors import InputError
from understudy.learners.evaluate import Setting, evaluate

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "gymnasium.md"
FORM = ["--hidden", "128", "128", "--chunk", "1", "--execute", "1", "--input-noise", "0.03", "--learning-rate", "0.003"]


class Swing:
    """Swings the pendulum up by its energy, and holds it there; smooth, so that little data shows it."""

    def reset(self) -> None:
        pass

    def act(self, observation):
        cos, sin, speed = observation["other_observation"]
        if cos > 0.85:
            torque = -10.0 * sin - 2.0 * speed
        elif abs(speed) < 0.05:
            torque = 1.0
        else:
            lacking = 1.0 - cos - speed**2 / 30.0
            torque = 2.0 * np.clip(4.0 * speed, -1.0, 1.0) * np.clip(6.0 * lacking, -1.0, 1.0)
        return np.array([torque / 2.0], np.float32)


class Chance:
    """Any torque."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def reset(self) -> None:
        pass

    def act(self, observation):
        return self._rng.uniform(-1.0, 1.0, 1).astype(np.float32)


class Towards:
    """Solves what has a goal to go to: straight there."""

    def __init__(self, size: int) -> None:
        self._size = size

    def reset(self) -> None:
        pass

    def act(self, observation):
        way = 10.0 * (observation["other_desired_goal"] - observation["other_achieved_goal"])
        return np.resize(np.append(np.clip(way, -1.0, 1.0), 0.0), self._size).astype(np.float32)


class Goals(gymnasium.Env):
    """A point to be moved to a goal, with gymnasium-robotics' observations, reward and `info`."""

    action_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    _place = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    observation_space = spaces.Dict({"observation": _place, "achieved_goal": _place, "desired_goal": _place})

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._at, self._goal = self.np_random.uniform(-0.3, 0.3, (2, 3))
        return self._seen(), {}

    def step(self, action):
        self._at = self._at + 0.03 * np.asarray(action, np.float64)
        near = bool(np.linalg.norm(self._at - self._goal) < 0.05)
        return self._seen(), float(near) - 1.0, False, False, {"is_success": np.float32(near)}

    def _seen(self):
        return {"observation": self._at.copy(), "achieved_goal": self._at.copy(), "desired_goal": self._goal.copy()}


@pytest.fixture
def goals() -> Iterator[None]:
    gymnasium.register("tests/Goals-v0", Goals, max_episode_steps=50)
    yield
    gymnasium.registry.pop("tests/Goals-v0")


def record(folder: Path, id: str, policy: Swing | Balance | Towards, episodes: int) -> Path:
    env = ForeignEnv(id)
    dataset = Dataset.create(folder, robot=NO_ROBOT, task=id)
    for seed in range(episodes):
        dataset.add(record_policy(env, policy, seed))
    env.close()
    return folder


def as_minari_writes(dataset: Dataset, path: Path) -> Path:
    """The same episodes as a Minari dataset that somebody collected in Pendulum-v1."""
    (path / "data").mkdir(parents=True)
    with h5py.File(path / "data" / "main_data.hdf5", "x", track_order=True) as file:
        for number, episode in enumerate(dataset.episodes()):
            group = file.create_group(f"episode_{number}")
            group.attrs.update({"id": number, "total_steps": len(episode)})
            key = "other_observation"
            states = np.concatenate([episode.observations[key], episode.final_observation[key][None]])
            group.create_dataset("observations", data=states)
            group.create_dataset("actions", data=episode.sent.astype(np.float32))
            group.create_dataset("rewards", data=episode.rewards)
    metadata = {
        "total_episodes": len(dataset),
        "data_format": "hdf5",
        "observation_space": json.dumps(box((3,), "float32", -8.0, 8.0)),
        "action_space": json.dumps(box((1,), "float32", -2.0, 2.0)),
        "dataset_id": "pendulum/swing-v0",
    }
    (path / "data" / "metadata.json").write_text(json.dumps(metadata))
    return path


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    answer = json.loads(shown.out)
    assert isinstance(answer, dict)
    return answer


def refuse(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("demos") / "pendulum", "Pendulum-v1", Swing(), 12)


@pytest.fixture(scope="module")
def trained(demos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "pendulum"
    assert main(["train", "bc", str(demos), "--out", str(run), "--updates", "800", *FORM]) == 0
    return run


def test_an_episode_holds_what_happened(demos: Path) -> None:
    dataset = Dataset.open(demos)
    episode = dataset.read(dataset.ids[3])
    assert (episode.info.task, episode.info.robot, episode.info.seed) == ("Pendulum-v1", NO_ROBOT, 3)
    assert episode.info.success is None  # Pendulum-v1 tells nothing of it
    env = gymnasium.make("Pendulum-v1")
    state, _ = env.reset(seed=3)
    for row in range(len(episode)):
        assert np.array_equal(episode.observations["other_observation"][row], state)
        state, reward, _, truncated, _ = env.step(episode.sent[row].astype(np.float32))
        assert episode.rewards[row] == np.float32(reward)
    assert truncated
    assert np.array_equal(episode.final_observation["other_observation"], state)


def test_a_clone_of_the_pendulum_does_far_better_than_chance(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = ask(capsys, "evaluate", trained, "--task", "Pendulum-v1", "--episodes", 20, "--workers", 1, "--json")
    chance = evaluate(Chance, "Pendulum-v1", NO_ROBOT, episodes=20)
    assert measured["successes"] == 0
    cloned = [row["return_"] for row in measured["outcomes"]]  # type: ignore[attr-defined]
    assert np.mean(cloned) > chance.mean_return + 300  # about -450 against -1100
    better = sum(mine > other.return_ for mine, other in zip(cloned, chance.outcomes, strict=True))
    assert better >= 15  # of 20: by luck once in 50
    capsys.readouterr()
    assert main(["evaluate", str(trained), "--episodes", "1", "--workers", "1"]) == 0
    assert "go by the return" in capsys.readouterr().out


def test_fine_tuning_learns_from_the_environment_and_judges_by_its_return(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--steps", 768, "--round-decisions", 128, "--judge-episodes", 3, "--critic-rounds", 1]
    answer = ask(capsys, "finetune", trained, "--out", tmp_path / "tuned", *sizes, "--json")
    verdict = answer["verdict"]
    assert isinstance(verdict, dict)
    assert verdict["judged_by"] == "return"
    clone, tuned = verdict["clone"]["mean_return"], verdict["finetuned"]["mean_return"]
    assert clone != tuned
    assert answer["kept"] == ("finetuned" if tuned > clone else "clone")
    rows = [json.loads(line) for line in (tmp_path / "tuned" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 768
    assert rows[-1]["objective"] == pytest.approx(rows[-1]["reward"], rel=1e-4)  # paid what the environment pays
    assert json.loads((tmp_path / "tuned" / "config.json").read_text())["options"]["randomize"] == "none"


def test_choices_are_cloned_as_preferences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = record(tmp_path / "demos", "CartPole-v1", Balance(), 6)
    dataset = Dataset.open(folder)
    assert {info.success for info in dataset.infos().values()} == {True}
    ask(capsys, "train", "bc", folder, "--out", tmp_path / "run", "--updates", 300, *FORM, "--json")
    assert json.loads((tmp_path / "run" / "policy.json").read_text())["policy"]["switches"] == []
    measured = ask(capsys, "evaluate", tmp_path / "run", "--episodes", 5, "--workers", 1, "--json")
    assert measured["successes"] >= 4  # type: ignore[operator]


@pytest.mark.usefixtures("goals")
@pytest.mark.parametrize("id", ["tests/Goals-v0", "FetchReach-v2"])
def test_environments_with_goals_are_cloned_evaluated_and_fine_tuned(
    id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if id == "FetchReach-v2":
        pytest.importorskip("gymnasium_robotics", reason="the real FetchReach-v2 needs gymnasium-robotics and mujoco")
    folder = record(tmp_path / "demos", id, Towards(ForeignEnv(id).action_space.shape[0]), 40)
    assert {info.success for info in Dataset.open(folder).infos().values()} == {True}
    ask(capsys, "train", "bc", folder, "--out", tmp_path / "run", "--updates", 600, *FORM, "--json")
    looks = json.loads((tmp_path / "run" / "policy.json").read_text())
    assert "other_desired_goal" in json.dumps(looks)
    measured = ask(capsys, "evaluate", tmp_path / "run", "--episodes", 10, "--workers", 1, "--json")
    assert measured["successes"] >= 7  # type: ignore[operator]
    sizes = ["--steps", 512, "--round-decisions", 128, "--judge-episodes", 5, "--critic-rounds", 1]
    answer = ask(capsys, "finetune", tmp_path / "run", "--out", tmp_path / "tuned", *sizes, "--json")
    assert answer["verdict"]["judged_by"] == "success"  # type: ignore[index]
    assert answer["verdict"]["clone"]["successes"] >= 3  # type: ignore[index]


def test_what_was_imported_under_another_name_is_told_its_id(
    demos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read(as_minari_writes(Dataset.open(demos), tmp_path / "minari"), MinariImport())
    dataset = Dataset.create(tmp_path / "demos", robot=found.robot, task=found.task)
    for episode in found.episodes:
        dataset.add(episode)
    assert dataset.task == "pendulum/swing-v0"
    run = tmp_path / "run"
    ask(capsys, "train", "bc", dataset.path, "--out", run, "--updates", 100, *FORM, "--json")
    measured = ask(capsys, "evaluate", run, "--task", "Pendulum-v1", "--episodes", 2, "--workers", 1, "--json")
    assert (measured["task"], measured["robot"], measured["episodes"]) == ("Pendulum-v1", NO_ROBOT, 2)
    assert "Say the id with --task" in refuse(capsys, "evaluate", run)
    assert "the policy looks at {'other_observation': (3,)}" in refuse(
        capsys, "evaluate", run, "--task", "MountainCarContinuous-v0"
    )


def test_what_needs_an_arm_says_so_and_leaves_nothing_behind(
    demos: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    said = refuse(capsys, "record", "Pendulum-v1", "--out", out)
    assert "no script of ours solves it" in said
    assert "foreign_recording.record_policy" in said
    for learner in ("gail", "airl"):
        assert "acts in our own tasks only" in refuse(capsys, "train", learner, demos, "--out", out)
    assert "has physics of its own" in refuse(capsys, "finetune", trained, "--randomize", "mild", "--out", out)
    assert "has physics of its own" in refuse(capsys, "evaluate", trained, "--suite", "unseen", "--workers", 1)
    assert "cannot be varied" in refuse(capsys, "evaluate", trained, "--robustness", tmp_path / "curve.png")
    assert "has no robot; leave out --robot" in refuse(capsys, "evaluate", trained, "--robot", "panda")
    assert "they must agree" in refuse(capsys, "evaluate", trained, "--task", "CartPole-v1")
    assert "Replay is made in our own simulator" in refuse(capsys, "dataset", "replay", demos)
    assert "A video is made in our" in refuse(capsys, "dataset", "show", demos, 0, "--video", tmp_path / "take.gif")
    assert "which has no arm" in refuse(capsys, "export", trained, "--out", tmp_path / "pendulum.skill")
    assert list(tmp_path.iterdir()) == []


def test_a_policy_of_another_world_is_refused() -> None:
    pendulum, car = ForeignEnv("Pendulum-v1"), ForeignEnv("MountainCarContinuous-v0")
    pendulum.require_fit(pendulum.action_spec, {"other_observation": (3,)})
    with pytest.raises(InputError, match=r"'Pendulum-v1' observes .*\(3,\).*looks at .*\(2,\)"):
        pendulum.require_fit(pendulum.action_spec, {"other_observation": (2,)})
    with pytest.raises(InputError, match=r"takes actions from \[-2.0\] to \[2.0\].*from \[-1.0\] to \[1.0\]"):
        pendulum.require_fit(car.action_spec, {"other_observation": (3,)})
    with pytest.raises(InputError, match="has physics of its own"):
        Setting("Pendulum-v1", NO_ROBOT, load_randomization("mild"))


def test_the_page_runs_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shown,) = re.findall(r"## Environments of others\n(.*?)\n## ", PAGE.read_text(), flags=re.DOTALL)
    (program,) = re.findall(r"```python\n(.*?)```", shown, flags=re.DOTALL)
    (commands,) = re.findall(r"```sh\n(.*?)```", shown, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(program, {"__name__": "page"})
    train, measure, finetune = (shlex.split(line)[1:] for line in commands.splitlines())
    assert main(train) == 0
    measured = ask(capsys, *measure, "--workers", 1, "--json")
    assert measured["successes"] >= 18  # type: ignore[operator]
    smaller = ["--steps", "1200", "--round-decisions", "128", "--judge-episodes", "4", "--json"]
    verdict = ask(capsys, *finetune, *smaller)["verdict"]
    assert verdict["judged_by"] == "success"  # type: ignore[index]
    assert verdict["clone"]["successes"] >= 3  # type: ignore[index]
