"""Replay: a simulated episode comes back; what is wrong with one, or with the robot, is measured and told."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pybullet")

from understudy.cli.main import main
from understudy.datasets.episode import Episode
from understudy.datasets.store import Dataset
from understudy.envs.arms.arm import Start
from understudy.envs.arms.robot import load_robot
from understudy.envs.replay import ReplayConfig, Replayer
from understudy.envs.tasks.task import known_tasks, make_task
from understudy.errors import InputError


@pytest.fixture(scope="module")
def lifts(tmp_path_factory: pytest.TempPathFactory) -> list[Episode]:
    """Three scripted lifts."""
    folder = tmp_path_factory.mktemp("recorded") / "lift"
    assert main(["record", "lift", "--episodes", "3", "--out", str(folder), "--json"]) == 0
    return list(Dataset.open(folder).episodes())


@pytest.fixture(scope="module")
def again() -> Iterator[Replayer]:
    """Plays what was requested, through the Guard."""
    with Replayer(load_robot("panda"), make_task("lift"), ReplayConfig("requested")) as replayer:
        yield replayer


@pytest.fixture(scope="module")
def sender() -> Iterator[Replayer]:
    """Plays what was sent."""
    with Replayer(load_robot("panda"), make_task("lift"), ReplayConfig("sent")) as replayer:
        yield replayer


def test_what_was_requested_comes_back_to_the_last_bits(lifts: list[Episode], again: Replayer) -> None:
    for episode in lifts:
        played = again.play(episode)
        worst = {deviation.name: deviation.worst for deviation in played.deviations}
        # A cube whose orientation was one last bit off at the start was once millimetres off after the grasp.
        assert worst == dict.fromkeys(worst, 0.0)
        assert played.compared_with == "simulator states"
        assert played.success_replayed is True


def test_a_start_that_is_not_kept_or_is_not_where_the_episode_began_is_read_from_its_states(
    lifts: list[Episode], again: Replayer
) -> None:
    """As of an episode without one, or one whose first steps were cut off."""
    episode = lifts[0]
    elsewhere = episode.info.start | {"object_position": (0.6, 0.1, 0.02)}
    for start in ({}, elsewhere, {"joint_position": (0.0,)}):
        played = again.play(dataclasses.replace(episode, info=dataclasses.replace(episode.info, start=start)))
        assert max(deviation.worst for deviation in played.deviations) == 0.0
    unfit = episode.info.start | {"object_quaternion": (0.0, 1.0)}
    with pytest.raises(InputError, match="object_quaternion of a start must be 4 numbers"):
        again.play(dataclasses.replace(episode, info=dataclasses.replace(episode.info, start=unfit)))
    nameless = {"joint_position": episode.info.start["joint_position"], "object_position": (0.5, 0.0, 0.02)}
    with pytest.raises(InputError, match=r"this one lacks \['object_quaternion'\]"):
        again.play(dataclasses.replace(episode, info=dataclasses.replace(episode.info, start=nameless)))


@pytest.mark.parametrize("task", known_tasks())
def test_a_start_comes_back_from_its_numbers(task: str) -> None:
    start = make_task(task).start(load_robot("panda"), np.random.default_rng(5))
    again = Start.from_numbers(json.loads(json.dumps(start.numbers())), {"gravity_m_s2": 9.0})
    assert again.numbers() == start.numbers()
    assert set(again.objects) == set(start.objects)
    assert again.openings == start.openings
    assert again.physics == {"gravity_m_s2": 9.0}


def test_what_was_sent_brings_the_tool_back(lifts: list[Episode], sender: Replayer) -> None:
    """Six numbers do not say what seven joints do, so joints may differ where the tool does not."""
    for episode in lifts:
        played = sender.play(episode)
        worst = {deviation.name: deviation.worst for deviation in played.deviations}
        assert worst["tool_position"] < 1e-3
        assert worst["joint_position"] < 0.05
        assert played.within
        assert played.success_replayed is True


def test_randomized_episodes_come_back_with_their_noise(tmp_path: Path, again: Replayer) -> None:
    """The seed of noise, jitter and dropped readings was not kept once: such episodes could not be played again."""
    file, folder = tmp_path / "my.yaml", tmp_path / "lift"
    file.write_text(
        "observation_delay_s: {uniform: [0, 0.02]}\njoint_drop_chance: {uniform: [0, 0.1]}\n"
        "object_size_scale: {uniform: [0.9, 1.1]}\nobject_offset_x_m: {uniform: [-0.03, 0.03]}\n"
    )
    arguments = ["record", "lift", "--episodes", "2", "--out", str(folder), "--json", "--keep-failures"]
    assert main([*arguments, "--randomize", f"hard+{file}"]) == 0
    for episode in Dataset.open(folder).episodes():
        assert episode.info.randomization["noise_seed"] > 0
        assert max(deviation.worst for deviation in again.play(episode).deviations) == 0.0
        other = dict(episode.info.randomization) | {"noise_seed": 1.0}
        seen = again.play(dataclasses.replace(episode, info=dataclasses.replace(episode.info, randomization=other)))
        assert max(deviation.worst for deviation in seen.deviations) > 0.0


def test_order_does_not_matter(lifts: list[Episode], sender: Replayer) -> None:
    first = sender.play(lifts[0])
    sender.play(lifts[1])
    assert sender.play(lifts[0]) == first


def test_other_actions_are_told_from_where_on(lifts: list[Episode], sender: Replayer) -> None:
    episode = lifts[0]
    sent = episode.sent.copy()
    sent[20:, 0] += 0.01
    played = sender.play(dataclasses.replace(episode, sent=sent))
    tool = next(deviation for deviation in played.deviations if deviation.name == "tool_position")
    assert not played.within
    assert tool.beyond_step is not None
    assert 21 <= tool.beyond_step <= 24
    assert tool.worst > 0.05
    assert tool.rms <= tool.worst


def test_other_physics_are_told(lifts: list[Episode], again: Replayer) -> None:
    slippery = dataclasses.replace(lifts[0].info, randomization={"object_friction_scale": 0.01})
    played = again.play(dataclasses.replace(lifts[0], info=slippery))
    away = {deviation.name: deviation for deviation in played.deviations}
    assert away["object_position"].beyond_step is not None
    assert played.success_replayed is False


def test_without_simulator_states_observations_are_compared(lifts: list[Episode], sender: Replayer) -> None:
    """As for an episode from hardware."""
    plain = dataclasses.replace(lifts[0], states=np.zeros((0, 0)))
    played = sender.play(plain)
    assert played.compared_with == "observations"
    assert played.within
    held = {deviation.name: deviation.worst for deviation in played.deviations}
    exact = {deviation.name: deviation.worst for deviation in sender.play(lifts[0]).deviations}
    assert held["tool_position"] == pytest.approx(exact["tool_position"], abs=1e-4)


def test_what_does_not_fit_is_refused(lifts: list[Episode], sender: Replayer) -> None:
    episode = lifts[0]
    with pytest.raises(InputError, match="recorded on 'kuka_iiwa'; this robot is 'panda'"):
        sender.play(dataclasses.replace(episode, info=dataclasses.replace(episode.info, robot="kuka_iiwa")))
    spec = episode.info.action_spec
    wider = dataclasses.replace(spec, high=tuple(2 * bound for bound in spec.high))
    with pytest.raises(InputError, match="The high of the recorded 'tool_delta' actions are"):
        sender.play(dataclasses.replace(episode, info=dataclasses.replace(episode.info, action_spec=wider)))
    blind = {key: values for key, values in episode.observations.items() if key != "joint_position"}
    final = {key: values for key, values in episode.final_observation.items() if key != "joint_position"}
    with pytest.raises(InputError, match="Replay needs joint_position"):
        sender.play(dataclasses.replace(episode, observations=blind, final_observation=final))


def test_tolerances_are_checked() -> None:
    with pytest.raises(InputError, match="tool_tolerance_m must be a positive number, got nan"):
        ReplayConfig(tool_tolerance_m=float("nan"))
    with pytest.raises(InputError, match="channel to replay"):
        ReplayConfig("measured")  # type: ignore[arg-type]


@pytest.mark.slow
def test_reach_comes_back_too(tmp_path: Path) -> None:
    folder = tmp_path / "reach"
    assert main(["record", "reach", "--episodes", "5", "--out", str(folder), "--json"]) == 0
    with Replayer(load_robot("panda"), make_task("reach"), ReplayConfig("requested")) as replayer:
        for episode in Dataset.open(folder).episodes():
            assert max(deviation.worst for deviation in replayer.play(episode).deviations) < 1e-12
