"""Identification: hidden parameters come back within their intervals; what motion does not show is said."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from datasets_builders import make_episode

pytest.importorskip("cma")

from understudy.cli.main import main
from understudy.datasets.episode import Episode
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import load_robot
from understudy.envs.distributions import Distribution
from understudy.envs.free_motion import CLOSED_M, MOVED_M, NEAR_M, free_motion
from understudy.envs.identification import Fit, FittedParameter, IdentifyConfig, identify, split_episodes
from understudy.envs.identification_search import SEARCHED, Errors, from_unit, to_unit
from understudy.envs.parameters import PARAMETERS
from understudy.envs.randomization import load_randomization
from understudy.envs.tasks.scene import box
from understudy.envs.tasks.task import make_task
from understudy.errors import InputError

HIDDEN = {"motor_gain_scale": 0.5, "action_delay_s": 0.06}


def record(folder: Path, task: str, episodes: int, hidden: dict[str, float]) -> Path:
    """Episodes of an arm with hidden parameters, which the dataset then does not tell, as hardware would not."""
    file = folder / "hidden.yaml"
    file.write_text("".join(f"{name}: {{choice: [{value}]}}\n" for name, value in hidden.items()))
    arguments = ["record", task, "--episodes", str(episodes), "--randomize", str(file), "--keep-failures", "--json"]
    assert main([*arguments, "--out", str(folder / "known")]) == 0
    known = Dataset.open(folder / "known")
    blind = Dataset.create(folder / "blind", robot=known.robot, task=known.task)
    for episode in known.episodes():
        info = dataclasses.replace(episode.info, randomization={})
        blind.add(dataclasses.replace(episode, info=info, states=np.zeros((0, 0))))
    return folder / "blind"


@pytest.fixture(scope="module")
def reaches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("reach"), "reach", 4, HIDDEN)


def within(one: FittedParameter, hidden: float) -> bool:
    return one.low <= hidden <= one.high


@pytest.mark.timeout(400)
def test_hidden_motors_and_delay_are_found_and_an_absent_object_is_not_told(
    reaches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fitted.yaml"
    names = [*HIDDEN, "object_mass_scale"]
    arguments = ["identify", str(reaches), "--parameters", ",".join(names), "--evaluations", "30", "--out", str(out)]
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    fitted = {row["name"]: FittedParameter(**row) for row in facts["parameters"]}
    assert fitted["motor_gain_scale"].value == pytest.approx(0.5, rel=0.1)
    assert fitted["action_delay_s"].value == pytest.approx(0.06, abs=1 / 240)
    for name, value in HIDDEN.items():
        assert fitted[name].told
        assert within(fitted[name], value)
    assert not fitted["object_mass_scale"].told
    before, after = facts["held_out_nominal"], facts["held_out_fitted"]
    assert after["tool_m"] < 0.05 * before["tool_m"]
    assert after["joint_rad"] < 0.05 * before["joint_rad"]
    assert before["object_m"] is None
    written = load_randomization(str(out)).distributions
    assert written["motor_gain_scale"].shape == "log_uniform"
    assert written["motor_gain_scale"].bounds == pytest.approx(
        (fitted["motor_gain_scale"].low, fitted["motor_gain_scale"].high)
    )
    assert written["object_mass_scale"] == load_randomization("default").distributions["object_mass_scale"]
    assert "but the data cannot tell" in out.read_text()


@pytest.mark.timeout(400)
def test_the_arm_is_told_by_what_comes_before_a_touch(tmp_path: Path) -> None:
    """Lifts whose object slips: what it then does to the arm does not pull at gain and friction."""
    hidden = HIDDEN | {"joint_friction_nm": 1.0}
    slippery = {"object_friction_scale": 0.25, "gripper_strength_scale": 0.1}
    episodes = list(Dataset.open(record(tmp_path, "lift", 3, hidden | slippery)).episodes())
    task = make_task("lift")
    begun = [free_motion(episode, task.objects) for episode in episodes]
    for whole, part in zip(episodes, begun, strict=True):
        assert 10 <= len(part) < 0.5 * len(whole)
        tool, cube = (part.observations[f"{name}_position"] for name in ("tool", "object"))
        assert np.min(np.linalg.norm(tool - cube, axis=1)) > 0.05
        assert np.ptp(cube, axis=0) == pytest.approx(0.0, abs=1e-4)
    fit = identify(load_robot("panda"), task, episodes, IdentifyConfig(tuple(hidden), evaluations=20))
    for name, value in hidden.items():
        assert fit.values[name] == pytest.approx(value, rel=0.1)
    assert all(within(one, hidden[one.name]) for one in fit.parameters)


def test_free_motion_ends_where_something_may_be_touched() -> None:
    """The tool comes down onto a cube that stands still, row by row 20 mm nearer."""
    plain = make_episode(20)
    things = {"object": box((0.02, 0.02, 0.02), 0.1)}
    down = np.linspace([0.0, 0.0, 0.38], [0.0, 0.0, 0.0], 20)
    still = np.zeros((20, 3))

    def rows(**seen: np.ndarray) -> int:
        observations = {**plain.observations, "tool_position": down, "object_position": still, **seen}
        last = {key: values[-1] for key, values in observations.items()}
        return len(free_motion(dataclasses.replace(plain, observations=observations, final_observation=last), things))

    reach = things["object"].radius_m + NEAR_M
    assert rows() == int(np.argmax(down[:, 2] < reach)) == 15
    far = still + np.array([5.0, 0.0, 0.0])
    assert rows(object_position=far) == 20  # never near it
    moved = far.copy()
    moved[12:, 1] += 2 * MOVED_M
    assert rows(object_position=moved) == 12
    closing = np.full((20, 1), 0.08)
    closing[13:] -= 2 * CLOSED_M
    assert rows(gripper_position=closing) == 13
    assert rows(object_position=far, gripper_position=closing[::-1].copy()) == 20  # it opens
    beside = still + np.array([0.0, 0.0, 0.38])
    assert rows(object_position=beside, gripper_position=closing) == 13  # near it from the start
    early = far.copy()
    early[3:, 1] += 2 * MOVED_M
    assert rows(object_position=early) == 20  # next to nothing would be left


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_five_hidden_parameters_of_arm_and_object_are_found(tmp_path: Path) -> None:
    """Lifts of a slippery cube with weak, slow, stiff joints: the object's friction shows where it slips."""
    hidden = HIDDEN | {"joint_friction_nm": 1.0, "object_friction_scale": 0.25, "gripper_strength_scale": 0.1}
    episodes = list(Dataset.open(record(tmp_path, "lift", 8, hidden)).episodes())
    config = IdentifyConfig(tuple(hidden), evaluations=300)
    fit = identify(load_robot("panda"), make_task("lift"), episodes, config)
    assert fit.held_out_fitted.tool_m < 0.1 * fit.held_out_nominal.tool_m
    values = fit.values
    assert values["motor_gain_scale"] == pytest.approx(0.5, rel=0.1)
    assert values["action_delay_s"] == pytest.approx(0.06, abs=0.005)
    assert values["joint_friction_nm"] == pytest.approx(1.0, abs=0.5)
    for one in fit.parameters:
        assert within(one, hidden[one.name]) or not one.told


def test_the_same_seed_gives_the_same_fit(reaches: Path) -> None:
    episodes = list(Dataset.open(reaches).episodes())[:3]
    config = IdentifyConfig(("action_delay_s",), evaluations=10)
    first, second = (identify(load_robot("panda"), make_task("reach"), episodes, config) for _ in range(2))
    assert first == second


def test_held_out_episodes_are_apart_from_those_of_the_fit(reaches: Path) -> None:
    episodes: list[Episode] = list(Dataset.open(reaches).episodes())
    train, held_out = split_episodes(episodes, IdentifyConfig(held_out=0.5))
    assert len(train) == len(held_out) == 2
    assert {one.info.seed for one in train}.isdisjoint(one.info.seed for one in held_out)
    with pytest.raises(InputError, match=r"at least 3 episodes \(2 to fit, 1 held out\), got 2"):
        split_episodes(episodes[:2], IdentifyConfig())


def test_the_box_searched_holds_nominal_and_stays_legal() -> None:
    for name, (low, high) in SEARCHED.items():
        parameter = PARAMETERS[name]
        assert parameter.allows(low)
        assert parameter.allows(high)
        assert low <= parameter.nominal <= high
        for value in (low, parameter.nominal, high):
            assert from_unit(name, to_unit(name, value)) == pytest.approx(value)


def test_what_is_not_told_keeps_its_usual_range() -> None:
    told = FittedParameter("motor_gain_scale", 1.0, 0.5, 0.45, 0.55, True, False)
    dark = dataclasses.replace(told, name="object_rolling_friction", told=False)
    errors = Errors(0.0, 0.0, None, 0.0)
    fit = Fit((told, dark), (), errors, errors, errors, errors, 2, 1, 10, True)
    assert fit.distributions()["motor_gain_scale"] == Distribution("log_uniform", 0.45, 0.55)
    assert fit.distributions()["object_rolling_friction"].bounds == (1.0, 1.0)  # as built: `default` has none


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parameters": ("motor_gain",)}, "Unknown parameter to fit 'motor_gain': did you mean 'motor_gain_scale'"),
        (
            {"parameters": ("joint_noise_rad",)},
            "Motion does not tell 'joint_noise_rad'; what can be fitted: obj",
        ),
        ({"parameters": ()}, "needs parameters to fit, of: object_mass_scale"),
        ({"parameters": ("gravity_m_s2",) * 2}, "Name each parameter once"),
        ({"held_out": 1.0}, "held_out must be a share between 0 and 1"),
        ({"evaluations": 5}, "evaluations must be at least 10"),
    ],
)
def test_settings_are_checked(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        IdentifyConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "{tmp}/no/fitted.yaml"], "the folder .* does not exist"),
        (["--out", "{tmp}/fitted.txt"], "a randomization file ends in .yaml"),
        (["--out", "{tmp}/mine.yaml"], "mine.yaml exists; give another --out, or remove it first"),
        (["--out", "{tmp}/fitted.yaml", "--task", "lift"], "is of task 'reach', and --task is 'lift'"),
        (["--out", "{tmp}/fitted.yaml", "--episodes", "2"], "--episodes must be at least 3"),
        (["--out", "{tmp}/fitted.yaml", "--channel", "measured"], "channel to replay"),
    ],
)
def test_bad_options_are_refused(
    options: list[str], words: str, reaches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text("gravity_m_s2: {uniform: [9.8, 9.82]}\n")
    assert main(["identify", str(reaches), *(part.format(tmp=tmp_path) for part in options)]) == 2
    assert (tmp_path / "mine.yaml").read_text() == "gravity_m_s2: {uniform: [9.8, 9.82]}\n"
    assert re.search(words, capsys.readouterr().err)
