"""`dataset check` on what the built-in arm records: nothing is said of it, and what is planted in it is found."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets_defects as planted
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("pybullet")

from understudy.capture.devices.scripted import ScriptedDevice
from understudy.capture.session import Session, SessionConfig
from understudy.cli.main import main
from understudy.datasets.checking.checks import CheckConfig, Forward, Report, check_dataset, compared, judge
from understudy.datasets.episode import Episode
from understudy.datasets.store import Dataset
from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.robot import load_robot
from understudy.envs.arms.sim_arm import SimArm
from understudy.envs.tasks.lift import Lift

Spoil = Callable[[Episode], Episode]
VICTIM = 4

DEFECTS: dict[str, tuple[Spoil, str]] = {
    "rate": (planted.slower_ticks, "rate"),
    "rate of a half": (lambda e: planted.slower_ticks(e, first=0.5), "rate"),
    "lost rows": (planted.lost_rows, "rate"),
    "slow source": (lambda e: planted.older_samples(e, "joint_velocity"), "rate"),
    "idle stretch": (planted.idle_stretch, "idle"),
    "swapped positions": (lambda e: planted.swapped_positions(e, 1, 3), "columns"),
    "swapped readings": (lambda e: planted.swapped_readings(e, 2, 6), "columns"),
    "swapped actions": (planted.swapped_actions, "columns"),
    "requested beyond": (planted.requested_beyond, "limits"),
    "sent beyond": (planted.sent_beyond, "limits"),
    "late actions": (planted.actions_late, "alignment"),
    "early actions": (lambda e: planted.actions_late(e, -1), "alignment"),
    "shifted channel": (planted.measured_shifted, "alignment"),
    "late observations": (planted.observations_late, "alignment"),
    "jump": (lambda e: planted.joint_jump(e, 1, 10.0, 8), "jump"),
    **{f"offset {j}": (lambda e, j=j: planted.joint_offset(e, j), "offset") for j in range(7)},
    **{f"offset {j} down": (lambda e, j=j: planted.joint_offset(e, j, -10.0), "offset") for j in range(7)},
}
QUICK = ("rate of a half", "idle stretch", "swapped readings", "early actions", "offset 3")


@pytest.fixture(scope="module")
def lifts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scripted lifts, recorded by the command."""
    folder = tmp_path_factory.mktemp("recorded") / "lift"
    assert main(["record", "lift", "--episodes", "12", "--out", str(folder), "--json"]) == 0
    return folder


@functools.cache
def panda() -> Forward:
    from understudy.envs.arms.kinematics import Kinematics

    robot = load_robot("panda")
    return Forward(len(robot.joints), Kinematics(robot).tool_rows)


def check_with(folder: Path, path: Path, spoil: Spoil) -> tuple[Report, int]:
    """The recorded episodes with one of them spoilt (it comes last); the report, and where the spoilt one is."""
    shutil.copytree(folder, path)
    dataset = Dataset.open(path)
    victim = dataset.ids[VICTIM]
    episode = dataset.read(victim)
    dataset.drop(victim)
    dataset.add(spoil(episode))
    return check_dataset(dataset, forward=panda()), len(dataset) - 1


def require_found(folder: Path, path: Path, spoil: Spoil, check: str) -> None:
    report, place = check_with(folder, path, spoil)
    failing = [index for index, verdict in enumerate(report.episodes) if verdict.level == "fail"]
    assert failing == [place], [(i, report.episodes[i].findings) for i in failing]
    assert check in {finding.check for finding in report.episodes[place].findings if finding.level == "fail"}
    assert all(verdict.findings == () for verdict in report.episodes[:place])


def test_nothing_is_said_of_sound_recordings(lifts: Path) -> None:
    report = check_dataset(Dataset.open(lifts))
    assert [verdict.findings for verdict in report.episodes] == [()] * 12
    assert report.findings == ()


@pytest.mark.parametrize("name", QUICK)
def test_what_is_planted_is_found(lifts: Path, tmp_path: Path, name: str) -> None:
    require_found(lifts, tmp_path / "lift", *DEFECTS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(DEFECTS) - set(QUICK)))
def test_everything_that_is_planted_is_found(lifts: Path, tmp_path: Path, name: str) -> None:
    require_found(lifts, tmp_path / "lift", *DEFECTS[name])


@pytest.mark.parametrize("change", [planted.relabelled, planted.restamped])
def test_a_copy_is_found(lifts: Path, tmp_path: Path, change: Spoil) -> None:
    shutil.copytree(lifts, tmp_path / "lift")
    dataset = Dataset.open(tmp_path / "lift")
    dataset.add(change(dataset.read(dataset.ids[VICTIM])))
    report = check_dataset(dataset)
    assert [verdict.level for verdict in report.episodes] == ["ok"] * 12 + ["fail"]
    assert dataset.ids[VICTIM] in report.episodes[12].findings[0].text


@pytest.mark.parametrize(
    ("joint", "degrees", "check"),
    [(0, 10.0, "reach"), (4, 10.0, "offset"), (5, 10.0, "offset"), (4, -10.0, "offset"), (6, 10.0, "offset")],
)
def test_an_offset_that_the_tool_pose_shares_is_found(
    lifts: Path, tmp_path: Path, joint: int, degrees: float, check: str
) -> None:
    """Incident: where the tool pose is computed from the same wrong joints, kinematics agree, and 10 degrees at joints
    4 to 6 only warned. The tool misses the cube, the start is not the reset's, or the cube lies askew in the grip.
    """

    def spoil(e: Episode) -> Episode:
        return with_tool_of_its_joints(planted.joint_offset(e, joint, degrees))

    require_found(lifts, tmp_path / "lift", spoil, check)


def test_a_last_joint_that_reads_off_is_found_by_what_it_grips(lifts: Path) -> None:
    """Incident: of sixteen lifts, with 10 degrees at joint 6 and a tool pose computed from it, one failed. A lift that
    held its cube by a corner may still only warn.
    """
    dataset, config = Dataset.open(lifts), CheckConfig()
    takes = {id: dataset.read(id) for id in dataset.ids}
    sound = [judge(id, Path("x"), take, config, 100) for id, take in takes.items()]
    levels = []
    for index, take in enumerate(takes.values()):
        for degrees in (-10.0, 10.0):
            wrong = with_tool_of_its_joints(planted.joint_offset(take, 6, degrees))
            spoilt = judge(sound[index].id, Path("x"), wrong, config, 100)
            verdicts = compared([*sound[:index], spoilt, *sound[index + 1 :]], config, panda())
            assert all(verdict.findings == () for verdict in verdicts if verdict.id != spoilt.id)
            levels.append(verdicts[index].level)
    assert set(levels) <= {"warn", "fail"}
    assert levels.count("fail") >= 0.9 * len(levels), levels


def with_tool_of_its_joints(e: Episode) -> Episode:
    rows = panda().tool(planted.whole(e, "joint_position").astype(np.float64))
    quaternion = Rotation.from_matrix(rows[:, 3:].reshape(-1, 3, 3)).as_quat()
    return planted.with_whole(e, tool_position=rows[:, :3], tool_quaternion=quaternion)


@pytest.mark.parametrize("rows", [slice(0, -1), slice(1, None)])
def test_a_copy_that_is_one_step_shorter_is_found(lifts: Path, tmp_path: Path, rows: slice) -> None:
    """Incident: it passed, since only episodes of one length were compared."""
    shutil.copytree(lifts, tmp_path / "lift")
    dataset = Dataset.open(tmp_path / "lift")
    episode = dataset.read(dataset.ids[VICTIM])
    dataset.add(planted.taken(episode, np.arange(len(episode))[rows]))
    report = check_dataset(dataset)
    assert [verdict.level for verdict in report.episodes] == ["ok"] * 12 + ["fail"]
    assert dataset.ids[VICTIM] in report.episodes[12].findings[0].text


@pytest.mark.parametrize("known", [True, False], ids=["kinematics known", "learned"])
def test_parallel_joints_that_changed_places_are_told(lifts: Path, known: bool) -> None:
    """Incident: joints 0 and 2, both near zero and about nearly one axis, changed places without a word in six of eight
    lifts. Known kinematics tell each; learned ones tell some, and no sound one may be blamed.
    """
    told = []
    dataset = Dataset.open(lifts)
    config = CheckConfig()
    takes = [dataset.read(id) for id in dataset.ids]
    judged = [judge(id, Path("x"), take, config, 100) for id, take in zip(dataset.ids, takes, strict=True)]
    for index, take in enumerate(takes):
        spoilt = judge(judged[index].id, Path("x"), planted.swapped_readings(take, 0, 2), config, 100)
        forward = panda() if known else None
        verdicts = compared([*judged[:index], spoilt, *judged[index + 1 :]], config, forward)
        blamed = {v.id: f.level for v in verdicts for f in v.findings if f.check == "columns"}
        assert set(blamed) <= {spoilt.id}
        told.append(blamed.get(spoilt.id, "ok"))
    if known:
        assert told == ["fail"] * len(takes)
    else:
        assert set(told) > {"ok"}, told


class _LiftSeen(Lift):
    """A lift with a camera among its observations."""

    observation_keys = (*Lift.observation_keys, "image_front")


@pytest.mark.slow
def test_cameras_of_the_built_in_arm(tmp_path: Path) -> None:
    """Frames rendered while recording: sound as they are; frozen for half a second, or slower by 30%, they fail."""
    robot = load_robot("panda")
    env = ArmEnv(Guard(SimArm(robot, Lift.objects, cameras=("front",))), _LiftSeen())
    dataset = Dataset.create(tmp_path / "seen", robot="panda", task="lift")
    device = ScriptedDevice("lift", env.control.robot, env.control.actions.spec, None)
    session = Session(env, device, dataset, SessionConfig(operator="scripted", max_s=8.0))
    for seed in range(6):
        device.reseed(np.random.default_rng([seed, 1]))
        session.prepare(seed=seed)
        session.start()
        while session.state == "recording":
            session.tick()
        session.keep()
    session.close()
    env.close()
    report = check_dataset(dataset)
    assert [verdict.findings for verdict in report.episodes] == [()] * 6
    for index, (spoil, check) in enumerate(((planted.frozen_camera, "frozen"), (planted.slower_camera, "rate"))):
        require_found(dataset.path, tmp_path / f"spoilt{index}", spoil, check)


@pytest.mark.slow
@pytest.mark.parametrize("randomize", ["default", "hard"])
def test_nothing_fails_where_physics_are_drawn(tmp_path: Path, randomize: str) -> None:
    folder = tmp_path / "lift"
    arguments = ["record", "lift", "--episodes", "12", "--randomize", randomize, "--out", str(folder), "--json"]
    assert main(arguments) == 0
    report = check_dataset(Dataset.open(folder))
    assert report.count("fail") == 0
    assert report.count("warn") <= 1


def test_measures_are_of_the_episode_as_it_is(lifts: Path) -> None:
    """Slower stamps change the rates and nothing else."""
    from understudy.datasets.checking.measures import measure

    episode = next(Dataset.open(lifts).episodes())
    usual, slow = (measure(e, CheckConfig()) for e in (episode, planted.slower_ticks(episode)))
    assert slow.period_s == pytest.approx(usual.period_s / 0.7, rel=1e-3)
    assert slow.slowest_hz == pytest.approx(0.7 * usual.slowest_hz, rel=1e-3)
    same = ("steps", "idle", "pause_s", "lag", "asked_lag", "path", "jerk", "start", "reach_m")
    assert dataclasses.asdict(slow)["lag"] == dataclasses.asdict(usual)["lag"]
    assert [getattr(slow, name) for name in same] == [getattr(usual, name) for name in same]
