"""`dataset check`: sound data passes, and every planted defect is found, in the episode it was planted in."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from datasets_builders import SPEC, info, make_dataset, make_episode, record

from understudy.cli.main import main
from understudy.datasets.checks import Report, check_dataset
from understudy.datasets.episode import Episode, checksum
from understudy.datasets.store import Dataset


def changed(episode: Episode, key: str, values: np.ndarray) -> Episode:
    return dataclasses.replace(episode, observations={**episode.observations, key: values})


def sped_up(e: Episode) -> Episode:
    return dataclasses.replace(e, tick_ns=e.tick_ns // 2)


def jittering(e: Episode) -> Episode:
    rng = np.random.default_rng(0)
    return dataclasses.replace(e, tick_ns=e.tick_ns + rng.integers(-18_000_000, 18_000_000, len(e)))


def with_gap(e: Episode) -> Episode:
    late = np.where(np.arange(len(e)) > 30, 900_000_000, 0)
    return dataclasses.replace(e, tick_ns=e.tick_ns + late)


def stale(e: Episode) -> Episode:
    ages = np.full(len(e), 0.004, np.float32)
    ages[20:24] = 1.4
    return dataclasses.replace(e, ages_s={**e.ages_s, "goal_position": ages})


def idle(e: Episode) -> Episode:
    still = np.zeros_like(e.sent)
    position = np.repeat(e.observations["joint_position"][:1], len(e), axis=0)
    return dataclasses.replace(changed(e, "joint_position", position), requested=still, sent=still, measured=still)


def frozen(e: Episode) -> Episode:
    values = e.observations["joint_position"].copy()
    values[15:35] = values[15]
    return changed(e, "joint_position", values)


def dead_joint(e: Episode) -> Episode:
    values = e.observations["joint_position"].copy()
    values[:, 1] = values[0, 1]
    final = {
        **e.final_observation,
        "joint_position": np.array([e.final_observation["joint_position"][0], values[0, 1]]),
    }
    return dataclasses.replace(changed(e, "joint_position", values), final_observation=final)


def frozen_image(e: Episode) -> Episode:
    values = e.observations["image_front"].copy()
    values[10:45] = values[10]
    return changed(e, "image_front", values)


def black_image(e: Episode) -> Episode:
    return changed(e, "image_front", np.zeros_like(e.observations["image_front"]))


def at_limits(e: Episode) -> Episode:
    return dataclasses.replace(e, requested=np.where(e.sent > 0, 0.13, -0.13))


def jumping(e: Episode) -> Episode:
    values = e.observations["joint_position"].copy()
    values[25:] += 1.5
    return changed(e, "joint_position", values)


def sent_late(e: Episode) -> Episode:
    return dataclasses.replace(e, sent=np.roll(e.sent, 1, axis=0))


def sent_early(e: Episode) -> Episode:
    return dataclasses.replace(e, sent=np.roll(e.sent, -1, axis=0))


def measured_shifted(e: Episode) -> Episode:
    return dataclasses.replace(e, measured=np.roll(e.measured, 1, axis=0))


def failed(e: Episode) -> Episode:
    return dataclasses.replace(e, info=info(success=False))


def other_rate(e: Episode) -> Episode:
    return dataclasses.replace(e, info=info(rate_hz=10.0), tick_ns=e.tick_ns * 2)


def other_spec(e: Episode) -> Episode:
    return dataclasses.replace(e, info=info(action_spec=dataclasses.replace(SPEC, high=(0.2, 0.2))))


DEFECTS: list[tuple[Callable[[Episode], Episode], str, str, str]] = [
    (sped_up, "fail", "rate", "40.0 Hz, declared 20 Hz"),
    (jittering, "warn", "jitter", "period varies"),
    (with_gap, "fail", "gap", "0.95 s after step 30"),
    (stale, "fail", "stale", "goal_position is up to 1.40 s old"),
    (idle, "fail", "idle", "100% of the ticks"),
    (frozen, "fail", "frozen", "joint_position repeats"),
    (dead_joint, "fail", "frozen", "joint 'b' is commanded and its reading never changes"),
    (frozen_image, "fail", "frozen", "image_front shows one frame for"),
    (black_image, "fail", "frozen", "image_front is black"),
    (at_limits, "warn", "limits", "at or beyond a bound at 100%"),
    (at_limits, "warn", "altered", "differs from what was asked"),
    (jumping, "fail", "jump", "joint 0 jumps at step 24"),
    (sent_late, "fail", "alignment", "before it was sent"),
    (sent_early, "fail", "alignment", "by 1 ticks, in the other episodes by 0"),
    (measured_shifted, "fail", "alignment", "off the observations' motion"),
    (failed, "warn", "success", "marked as failed"),
    (other_rate, "fail", "layout", "10 Hz"),
    (other_spec, "fail", "layout", "high=(0.2, 0.2)"),
    (lambda e: make_episode(700, seed=99, images=True), "warn", "outlier length", "700 steps"),
    (lambda e: make_episode(6, seed=99, images=True), "warn", "short", "6 steps only"),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight sound episodes."""
    return make_dataset(tmp_path_factory.mktemp("sound") / "demos", 8, images=True).path


def check_with(sound: Path, path: Path, spoilt: Episode) -> Report:
    """The sound episodes and the spoilt one after them."""
    shutil.copytree(sound, path)
    dataset = Dataset.open(path)
    record(dataset, spoilt)
    return check_dataset(dataset)


def test_sound_episodes_pass_without_a_word(sound: Path) -> None:
    report = check_dataset(Dataset.open(sound))
    assert [verdict.findings for verdict in report.episodes] == [()] * 8
    assert report.findings == ()
    assert report.trainable


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_an_arm_that_always_follows_late_is_no_defect(tmp_path: Path, lag: int) -> None:
    report = check_dataset(make_dataset(tmp_path / "demos", 6, lag=lag))
    assert report.trainable
    assert {verdict.measures.lag_ticks for verdict in report.episodes} == {lag}


@pytest.mark.parametrize(
    ("spoil", "level", "check", "words"), DEFECTS, ids=[f"{d[2]}-{i}" for i, d in enumerate(DEFECTS)]
)
def test_planted_defects_are_found(
    sound: Path, tmp_path: Path, spoil: Callable[[Episode], Episode], level: str, check: str, words: str
) -> None:
    report = check_with(sound, tmp_path / "demos", spoil(make_episode(60, seed=50, images=True)))
    planted = report.episodes[8]
    assert any(f.level == level and f.check == check and words in f.text for f in planted.findings), planted.findings
    assert report.trainable == (planted.level != "fail")
    others = [verdict for index, verdict in enumerate(report.episodes) if index != 8]
    assert [verdict.findings for verdict in others] == [()] * 8


def test_duplicates_are_found(sound: Path, tmp_path: Path) -> None:
    report = check_with(sound, tmp_path / "demos", make_episode(55 + 3 * 2, seed=2, images=True))
    assert [finding.check for finding in report.episodes[8].findings] == ["duplicate"]
    assert report.episodes[2].id in report.episodes[8].findings[0].text


def test_an_episode_that_starts_elsewhere_is_found(sound: Path, tmp_path: Path) -> None:
    far = make_episode(60, seed=50, images=True)
    goal = far.observations["goal_position"] + np.float32(9.0)
    report = check_with(sound, tmp_path / "demos", changed(far, "goal_position", goal))
    assert any(finding.check == "outlier start" for finding in report.episodes[8].findings)


def test_nan_in_a_file_is_found_and_named(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 5)
    file = dataset.file(dataset.ids[2])
    with h5py.File(file, "r+") as opened:
        opened["episode/obs/joint_velocity"][7, 0] = np.nan
        opened["episode"].attrs["checksum"] = checksum(opened["episode"])
    report = check_dataset(dataset)
    finding = report.episodes[2].findings[0]
    assert (finding.level, finding.check) == ("fail", "readable")
    assert "obs/joint_velocity has a value that is not finite at row 7" in finding.text
    assert str(file) in finding.text
    assert not report.trainable


class TestCommand:
    def test_exit_codes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        dataset = make_dataset(tmp_path / "good", 3)
        assert main(["dataset", "check", str(dataset.path)]) == 0
        assert "May I train on this? yes" in capsys.readouterr().out
        damaged = dataset.file(dataset.ids[1])
        damaged.write_bytes(damaged.read_bytes()[:900])
        assert main(["dataset", "check", str(dataset.path)]) == 1
        assert damaged.stem in capsys.readouterr().out
        assert main(["dataset", "check", str(tmp_path / "none")]) == 2
        assert "There is no dataset at" in capsys.readouterr().err

    def test_json_and_picture(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        dataset = make_dataset(tmp_path / "demos", 4)
        picture = tmp_path / "demos.png"
        assert main(["dataset", "check", str(dataset.path), "--json", "--picture", str(picture)]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["trainable"] is True
        assert [row["id"] for row in told["episodes"]] == list(dataset.ids)
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert main(["dataset", "check", str(dataset.path), "--picture", str(tmp_path / "demos.gif")]) == 2
        assert "Pictures are written as" in capsys.readouterr().err

    def test_an_empty_dataset_is_not_trainable(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        Dataset.create(tmp_path / "demos", robot="two_joint", task="reach")
        assert main(["dataset", "check", str(tmp_path / "demos")]) == 1
        assert "holds no episodes" in capsys.readouterr().out

    def test_info(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        dataset = make_dataset(tmp_path / "demos", 3)
        assert main(["dataset", "info", str(dataset.path), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["episodes"], facts["robot"], facts["outcomes"]) == (3, "two_joint", {"success": 3})
        assert facts["checksum"] == dataset.checksum()
        assert main(["dataset", "info", str(dataset.path)]) == 0
        assert dataset.checksum() in capsys.readouterr().out.replace("\n", "").replace(" ", "")

    def test_drop_restore_repair(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        dataset = make_dataset(tmp_path / "demos", 3)
        path, id = str(dataset.path), dataset.ids[0]
        assert main(["dataset", "drop", path, id]) == 0
        assert main(["dataset", "drop", path, id]) == 2
        assert main(["dataset", "restore", path, id]) == 0
        (dataset.path / "dataset.hdf5").unlink()
        assert main(["dataset", "repair", path]) == 0
        assert "index made again" in capsys.readouterr().out
        assert len(Dataset.open(dataset.path)) == 3
