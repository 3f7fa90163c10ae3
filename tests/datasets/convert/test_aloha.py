"""ALOHA's files: ACT's loader, restated, reads ours; ours come back but for what is said; its own are read honestly."""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from datasets_builders import make_dataset, make_episode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.datasets.convert.convert_support import dataset_of, require_same, same_layout
from tests.datasets.convert.hdf5_samples import LENGTHS, aloha_sample
from understudy.datasets.convert.aloha import AlohaExport, AlohaImport, read, write
from understudy.datasets.episode import Episode
from understudy.datasets.schema import CHANNELS, ActionSpec
from understudy.errors import DatasetError

_LOST = (
    "requested",
    "sent",
    "measured",
    "rewards",
    "tick_ns",
    "ages_s",
    "states",
    "streams",
    "final_observation",
    "intervention",
)

_OBSERVED = ("observations", "final_observation")


def act_item(
    folder: Path, number: int, start: int, cameras: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """What ACT's `EpisodicDataset.__getitem__` makes of one start: frames, qpos, padded actions, which are padding."""
    with h5py.File(folder / f"episode_{number}.hdf5", "r") as root:
        shape = root["/action"].shape
        qpos, qvel = root["/observations/qpos"][start], root["/observations/qvel"][start]
        frames = np.stack([root[f"/observations/images/{camera}"][start] for camera in cameras])
        first = start if root.attrs["sim"] else max(0, start - 1)
        action = root["/action"][first:]
    padded = np.zeros(shape, np.float32)
    padded[: len(action)] = action
    is_padding = np.arange(shape[0]) >= len(action)
    return frames, np.concatenate([qpos, qvel]), padded, is_padding


def act_statistics(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What ACT's `get_norm_stats` stacks: it needs every episode of one length, numbered from 0."""
    qpos, action = [], []
    for number in range(count):
        with h5py.File(folder / f"episode_{number}.hdf5", "r") as root:
            qpos.append(root["/observations/qpos"][()])
            action.append(root["/action"][()])
    return np.stack(qpos), np.stack(action)


def test_acts_loader_pairs_each_observation_with_the_action_decided_on_it(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 3, images=True)
    losses = write(dataset, dataset.ids, tmp_path / "aloha", AlohaExport(pad=True, channel="sent"))
    assert any("as long as the longest" in loss for loss in losses)
    qpos, action = act_statistics(tmp_path / "aloha", 3)
    assert qpos.shape == action.shape == (3, 61, 2)
    for number, episode in enumerate(dataset.episodes()):
        seen = episode.observations
        for start in (0, 1, len(episode) - 1):
            frames, arm, actions, is_padding = act_item(tmp_path / "aloha", number, start, ["front"])
            assert np.array_equal(frames[0], seen["image_front"][start])
            assert np.array_equal(arm, np.concatenate([seen["joint_position"][start], seen["joint_velocity"][start]]))
            assert np.array_equal(actions[: len(episode) - start], episode.sent[start:].astype(np.float32))
            assert not np.any(actions[len(episode) - start :])
            assert int(np.sum(~is_padding)) == 61 - start
        assert np.array_equal(qpos[number, len(episode) :], np.tile(seen["joint_position"][-1], (61 - len(episode), 1)))


def test_without_padding_lengths_stay_and_the_user_is_told(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 2, images=True)
    losses = write(dataset, dataset.ids, tmp_path / "aloha", AlohaExport())
    assert any("export with --pad" in loss for loss in losses)
    with pytest.raises(ValueError, match="same shape"):
        act_statistics(tmp_path / "aloha", 2)
    assert not any(
        "export with --pad" in loss for loss in write(dataset, dataset.ids[:1], tmp_path / "one", AlohaExport())
    )


@pytest.mark.parametrize(
    ("name", "moves"), [("joint_delta", True), ("joint_velocity", True), ("joint_position", False)]
)
def test_padding_stands_still(tmp_path: Path, name: str, moves: bool) -> None:
    spec = ActionSpec(name, ("a", "gripper"), ("rad", "m"), (-0.5, 0.0), (0.5, 0.1))
    content = [make_episode(steps, seed=steps, action_spec=spec) for steps in (4, 7)]
    dataset, ids = dataset_of(tmp_path / "demos", content)
    write(dataset, ids, tmp_path / "aloha", AlohaExport(pad=True))
    with h5py.File(tmp_path / "aloha/episode_0.hdf5") as file:
        rest = file["action"][4:]
    last = content[0].requested[-1].astype(np.float32)
    assert np.array_equal(rest, np.tile([0.0 if moves else last[0], last[1]], (3, 1)).astype(np.float32))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=same_layout, pad=st.booleans(), channel=st.sampled_from((None, *CHANNELS)))
def test_what_is_written_comes_back_but_for_what_is_said(content: list[Episode], pad: bool, channel: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset, ids = dataset_of(Path(folder) / "demos", content)
        losses = " ".join(write(dataset, ids, Path(folder) / "aloha", AlohaExport(pad=pad, channel=channel)))
        for said in (
            "Of the three action channels",
            "Stamps and ages",
            "Rewards",
            "after the last action",
            "checksums",
        ):
            assert said in losses
        assert ("native rate" in losses) == any(episode.streams for episode in content)
        assert ("states are left out" in losses) == any(episode.states.size for episode in content)
        foreign = read(Path(folder) / "aloha", AlohaImport())
        assert (foreign.robot, foreign.task, foreign.count) == ("two_joint", "reach", len(content))
        assert len(foreign.notes) == 1
        for found, wanted in zip(foreign.episodes, content, strict=True):
            require_same(found, wanted, without=_LOST)
            written = wanted.channel(channel or wanted.info.actions).astype(np.float32)
            assert np.array_equal(found.requested, written)
            assert np.array_equal(found.sent, written)


def test_a_dataset_without_joints_is_refused(tmp_path: Path) -> None:
    episode = make_episode(5)
    goals = {part: {"goal_position": getattr(episode, part)["goal_position"]} for part in _OBSERVED}
    dataset, ids = dataset_of(tmp_path / "demos", [dataclasses.replace(episode, ages_s={}, **goals)])
    with pytest.raises(DatasetError, match="no joint_position, which ALOHA calls qpos"):
        write(dataset, ids, tmp_path / "aloha", AlohaExport())
    assert not (tmp_path / "aloha").exists()


# --- ALOHA's own files -------------------------------------------------------------------------------------------


def test_fourteen_numbers_are_two_arms_and_two_grippers(tmp_path: Path) -> None:
    path = aloha_sample(tmp_path)
    foreign = read(path, AlohaImport())
    assert (foreign.robot, foreign.task, foreign.count) == ("aloha", "aloha_transfer", 3)
    for number, episode in enumerate(foreign.episodes):
        with h5py.File(path / f"episode_{number}.hdf5") as file:
            qpos = file["observations/qpos"][()].astype(np.float32)
            assert np.array_equal(episode.requested, file["action"][()])
            assert np.array_equal(episode.observations["image_cam_high"], file["observations/images/cam_high"][()])
        assert np.array_equal(episode.observations["joint_position"], qpos[:, [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]])
        assert np.array_equal(episode.observations["other_qpos_grippers"], qpos[:, [6, 13]])
        assert len(episode) == LENGTHS[number]
        assert episode.tick_ns[1] == 20_000_000
        assert episode.info.action_spec.labels[6:8] == ("left_gripper", "right_waist")
    for said in ("50 Hz, ALOHA's own", "measured", "no rewards", "shares of their opening", "effort", "unjudged"):
        assert any(re.search(said, note) for note in foreign.notes), said


def test_the_shift_of_hardware_recordings_is_said_and_done_when_asked(tmp_path: Path) -> None:
    path = aloha_sample(tmp_path, sim=False)
    plain, shifted = read(path, AlohaImport()), read(path, AlohaImport(shift=True))
    assert any("rows are as they were recorded" in note for note in plain.notes)
    assert any("observation t has action t - 1" in note for note in shifted.notes)
    for number, (before, after) in enumerate(zip(plain.episodes, shifted.episodes, strict=True)):
        for row in range(len(after)):
            _, _, actions, _ = act_item(path, number, row + 1, ["cam_high"])
            assert np.array_equal(after.requested[row].astype(np.float32), actions[0])
            key = "joint_position"
            assert np.array_equal(after.observations[key][row], before.observations[key][row + 1])
        assert len(after) == len(before) - 1


def test_simulated_recordings_are_never_shifted(tmp_path: Path) -> None:
    path = aloha_sample(tmp_path)
    for plain, shifted in zip(
        read(path, AlohaImport()).episodes, read(path, AlohaImport(shift=True)).episodes, strict=True
    ):
        require_same(shifted, plain)


def test_other_widths_keep_their_names_unless_the_user_knows_them(tmp_path: Path) -> None:
    path = tmp_path / "ur5"
    path.mkdir()
    with h5py.File(path / "episode_0.hdf5", "x") as file:
        for name, width in (("observations/qpos", 6), ("observations/qvel", 6), ("action", 6)):
            file.create_dataset(name, data=np.ones((3, width)))
    foreign = read(path, AlohaImport())
    episode = next(iter(foreign.episodes))
    assert set(episode.observations) == {"other_qpos", "other_qvel"}
    assert (episode.info.action_spec.low[0], episode.info.action_spec.high[0]) == (0.0, 2.0)
    assert any("(sim) is not said" in note for note in foreign.notes)
    config = AlohaImport(keys={"qpos": "joint_position"}, robot="ur5", task="pour", rate_hz=25.0)
    foreign = read(path, config)
    episode = next(iter(foreign.episodes))
    assert (foreign.robot, foreign.task, episode.info.rate_hz) == ("ur5", "pour", 25.0)
    assert set(episode.observations) == {"joint_position", "other_qvel"}


def _replace(name: str, **options: Any) -> Callable[[h5py.File], Any]:
    return lambda file: (file.__delitem__(name), file.create_dataset(name, **options))


_FRAMES = "observations/images/cam_high"
_BAD: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "no action": (lambda f: f.__delitem__("action"), "/action is not in the file"),
    "no observations": (lambda f: f.__delitem__("observations"), "/observations is not in the file"),
    "no qpos": (lambda f: f.__delitem__("observations/qpos"), "observations differs|qpos is not in the file"),
    "other camera": (lambda f: f.move(_FRAMES, "observations/images/cam_low"), "differs from that of episode_0.hdf5"),
    "narrow": (_replace("observations/qvel", data=np.zeros((4, 7))), "differs from that of episode_0.hdf5"),
    "flat": (_replace("observations/qpos", data=np.zeros(4)), "expected a row of numbers a step"),
    "action short": (_replace("action", data=np.zeros((2, 14))), "has shape"),
    "action empty": (_replace("action", data=np.zeros((0, 14))), "actions have shape"),
    "action texts": (_replace("action", data=np.full((4, 14), b"x")), "expected numbers"),
    "action NaN": (_replace("action", data=np.full((4, 14), np.nan)), "not finite at row 0"),
    "qpos NaN": (_replace("observations/qpos", data=np.full((4, 14), np.nan)), "not finite at row 0"),
    "huge": (_replace("action", shape=(10**12, 14), dtype="f4", chunks=(4, 14)), "a trap"),
    "objects": (_replace(_FRAMES, shape=(4,), dtype=h5py.vlen_dtype(np.uint8)), "objects, which are never unpickled"),
    "packed": (lambda f: f.attrs.__setitem__("compress", True), "packed as JPEG"),
    "sim": (lambda f: f.attrs.__setitem__("sim", "yes"), "Attribute 'sim' is 'yes'"),
    "soft link": (
        lambda f: (f.__delitem__("action"), f.__setitem__("action", h5py.SoftLink("/observations/qpos"))),
        "link to another place",
    ),
    "external": (
        lambda f: (f.__delitem__("action"), f.__setitem__("action", h5py.ExternalLink("/etc/passwd", "/"))),
        "link to another file",
    ),
}


@pytest.mark.parametrize("what", _BAD)
def test_bad_files_are_refused_in_one_sentence_that_names_the_file(tmp_path: Path, what: str) -> None:
    change, said = _BAD[what]
    path = aloha_sample(tmp_path)
    bad = path / "episode_1.hdf5"
    with h5py.File(bad, "r+") as file:
        change(file)
    with pytest.raises(DatasetError, match=said) as caught:
        list(read(path, AlohaImport()).episodes)
    assert str(bad) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("understudy_info", "{", "metadata cannot be read"),
        ("understudy_info", np.bytes_(b"\xff{}"), "utf-8"),
        ("understudy_schema_version", 99, "schema version 99"),
        ("understudy_widths", "[]", "expected an object"),
        ("understudy_widths", json.dumps({"joint_position": "x"}), "invalid literal"),
        ("understudy_steps", "x", "invalid literal"),
        ("understudy_steps", 0, "there are no rows"),
    ],
)
def test_our_own_files_with_bad_metadata_are_refused(tmp_path: Path, name: str, value: object, said: str) -> None:
    dataset = make_dataset(tmp_path / "demos", 1)
    write(dataset, dataset.ids, tmp_path / "aloha", AlohaExport())
    with h5py.File(tmp_path / "aloha/episode_0.hdf5", "r+") as file:
        file.attrs[name] = value
    with pytest.raises(DatasetError, match=said) as caught:
        list(read(tmp_path / "aloha", AlohaImport()).episodes)
    assert "episode_0.hdf5" in str(caught.value)


def test_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is no folder"):
        read(tmp_path / "nothing", AlohaImport())
    with pytest.raises(DatasetError, match=r"holds no episode_<number>\.hdf5"):
        read(tmp_path, AlohaImport())
    path = aloha_sample(tmp_path)
    (path / "episode_1.hdf5").rename(tmp_path / "elsewhere.hdf5")
    (path / "episode_1.hdf5").symlink_to(tmp_path / "elsewhere.hdf5")
    with pytest.raises(DatasetError, match=r"episode_1\.hdf5 is a link"):
        read(path, AlohaImport())
