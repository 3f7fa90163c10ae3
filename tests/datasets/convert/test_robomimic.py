"""robomimic's files: its own reader opens ours, ours come back whole, and its own become honest episodes."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from datasets_builders import make_dataset, make_episode, record
from hypothesis import HealthCheck, given, settings
from peers_support import run_in_peer

from tests.datasets.convert.convert_support import dataset_of, require_same, same_layout
from tests.datasets.convert.hdf5_samples import LENGTHS, robomimic_sample
from understudy.cli.main import main
from understudy.datasets.convert.robomimic import RobomimicExport, RobomimicImport, read, write
from understudy.datasets.episode import Episode
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError, InputError

_LOAD = """
import json, sys
import numpy as np
import robomimic.utils.obs_utils as ObsUtils
from robomimic.utils.dataset import SequenceDataset
kinds = {"low_dim": ["joint_position", "goal_position"], "rgb": ["image_front"]}
ObsUtils.initialize_obs_utils_with_obs_specs({"obs": kinds})
found = {}
for label, path, with_next, split in json.loads(sys.argv[1]):
    loaded = SequenceDataset(
        hdf5_path=path, obs_keys=("joint_position", "goal_position", "image_front"),
        dataset_keys=("actions", "rewards", "dones"), seq_length=4, load_next_obs=with_next, filter_by_attribute=split,
        hdf5_cache_mode="all" if with_next else None,
    )
    found[f"{label}/windows"] = len(loaded)
    found[f"{label}/window"] = loaded[3]["actions"]
    for index in range(loaded.n_demos):
        whole = loaded.get_trajectory_at_index(index) if not with_next else None
        if whole is None:
            uncached = SequenceDataset(hdf5_path=path, obs_keys=loaded.obs_keys, dataset_keys=loaded.dataset_keys,
                                       load_next_obs=True, filter_by_attribute=split)
            whole = uncached.get_trajectory_at_index(index)
        for name in ("actions", "rewards", "dones"):
            found[f"{label}/{whole['ep']}/{name}"] = whole[name]
        for group in ("obs", "next_obs"):
            for key, values in whole.get(group, {}).items():
                found[f"{label}/{whole['ep']}/{group}/{key}"] = values
np.savez(sys.argv[2], **found)
"""


def test_the_real_robomimic_reads_the_export_and_the_index_alike(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 3, images=True)
    dataset.split({"train": 0.67, "valid": 0.33}, np.random.default_rng(0))
    write(dataset, dataset.ids, tmp_path / "out.hdf5", RobomimicExport())
    out, index = str(tmp_path / "out.hdf5"), str(dataset.path / "dataset.hdf5")
    asked = [("out", out, True, None), ("index", index, False, None), ("train", out, True, "train")]
    run_in_peer("robomimic", _LOAD, json.dumps(asked), str(tmp_path / "found.npz"))
    found = np.load(tmp_path / "found.npz")
    episodes = list(dataset.episodes())
    for label in ("out", "index"):
        assert int(found[f"{label}/windows"]) == sum(map(len, episodes))
        assert np.array_equal(found[f"{label}/window"], episodes[0].actions[3:7])
        for number, episode in enumerate(episodes):
            place = f"{label}/demo_{number}"
            assert np.array_equal(found[f"{place}/actions"], episode.actions)
            assert np.array_equal(found[f"{place}/rewards"], episode.rewards)
            assert np.array_equal(found[f"{place}/dones"], np.eye(1, len(episode), len(episode) - 1)[0])
            for key in ("joint_position", "goal_position", "image_front"):
                assert np.array_equal(found[f"{place}/obs/{key}"], episode.observations[key])
    train = {dataset.ids.index(id) for id in dataset.splits()["train"]}
    assert train == {int(name.split("_")[1].split("/")[0]) for name in found if name.startswith("train/demo")}
    for number, episode in enumerate(episodes):
        for key, values in episode.observations.items():
            if key != "joint_velocity":
                after = np.concatenate([values[1:], np.asarray(episode.final_observation[key])[None]])
                assert np.array_equal(found[f"out/demo_{number}/next_obs/{key}"], after)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=same_layout)
def test_what_is_written_comes_back_whole(content: list[Episode]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset, ids = dataset_of(Path(folder) / "demos", content)
        write(dataset, ids, Path(folder) / "out.hdf5", RobomimicExport())
        foreign = read(Path(folder) / "out.hdf5", RobomimicImport())
        assert (foreign.robot, foreign.task, foreign.count, foreign.notes) == ("two_joint", "reach", len(content), ())
        for found, wanted in zip(foreign.episodes, content, strict=True):
            require_same(found, wanted)


def test_the_chosen_episodes_are_written_in_the_order_asked_for(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 3)
    chosen = (dataset.ids[2], dataset.ids[0])
    losses = write(dataset, chosen, tmp_path / "out.hdf5", RobomimicExport(next_obs=False))
    assert any("load_next_obs=False" in loss for loss in losses)
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert [file[f"data/demo_{number}"].attrs["id"] for number in range(2)] == list(chosen)
        assert file["data"].attrs["total"] == sum(dataset.summary(id).steps for id in chosen)
        assert json.loads(file["data"].attrs["env_args"])["env_name"] == "reach"
        assert "next_obs" not in file["data/demo_0"]
    assert [len(episode) for episode in read(tmp_path / "out.hdf5", RobomimicImport()).episodes] == [61, 55]


def test_nothing_is_left_behind_when_an_episode_is_damaged(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 2)
    damaged = dataset.file(dataset.ids[1])
    content = bytearray(damaged.read_bytes())
    content[-40] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(DatasetError, match=damaged.name):
        write(dataset, dataset.ids, tmp_path / "out.hdf5", RobomimicExport())
    assert [path.name for path in tmp_path.iterdir()] == ["demos"]


def test_an_export_never_overwrites_and_wants_one_layout(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 1)
    with pytest.raises(DatasetError, match="no episodes to export"):
        write(dataset, (), tmp_path / "out.hdf5", RobomimicExport())
    (tmp_path / "out.hdf5").write_text("mine")
    with pytest.raises(DatasetError, match="exists; choose another name"):
        write(dataset, dataset.ids, tmp_path / "out.hdf5", RobomimicExport())
    assert (tmp_path / "out.hdf5").read_text() == "mine"
    record(dataset, make_episode(20, images=True))
    with pytest.raises(DatasetError, match="observes other things"):
        write(dataset, dataset.ids, tmp_path / "other.hdf5", RobomimicExport())


# --- robomimic's own files ---------------------------------------------------------------------------------------


def test_robosuite_numbers_become_our_words_and_what_is_missing_is_said(tmp_path: Path) -> None:
    path = robomimic_sample(tmp_path)
    foreign = read(path, RobomimicImport())
    assert (foreign.robot, foreign.task, foreign.count) == ("Panda", "Lift", 3)
    episodes = list(foreign.episodes)
    with h5py.File(path) as file:
        for number, episode in enumerate(episodes):
            demo = file[f"data/demo_{number}"]
            assert np.array_equal(episode.requested, demo["actions"][()])
            assert np.array_equal(episode.actions, demo["actions"][()].astype(np.float32))
            assert np.array_equal(episode.states, demo["states"][()])
            seen = episode.observations
            assert np.array_equal(seen["joint_position"], demo["obs/robot0_joint_pos"][()].astype(np.float32))
            assert np.array_equal(seen["tool_quaternion"], demo["obs/robot0_eef_quat"][()].astype(np.float32))
            assert np.array_equal(seen["image_agentview"], demo["obs/agentview_image"][()])
            fingers = demo["obs/robot0_gripper_qpos"][()]
            assert np.allclose(seen["gripper_position"], np.abs(fingers).sum(axis=1, keepdims=True))
            last = demo["next_obs/object"][-1].astype(np.float32)
            assert np.array_equal(episode.final_observation["other_object"], last)
            assert np.array_equal(np.diff(episode.tick_ns), np.full(LENGTHS[number] - 1, 50_000_000))
            assert episode.info.success is None
            assert episode.info.provenance == f"robomimic file low_dim.hdf5, demo_{number}"
    assert episodes[0].info.action_spec.labels == ("x", "y", "z", "rx", "ry", "rz", "gripper")
    for said in ("control_freq", "measured", "world frame", "two fingers", "other_\\*.*object", "model_file"):
        assert any(re.search(said, note) for note in foreign.notes), said


@pytest.mark.parametrize(
    ("changes", "robot", "key"),
    [
        ({"robots": ["Sawyer"]}, "Sawyer", "other_robot0_gripper_qpos"),
        ({"robots": "Panda"}, "Panda", "gripper_position"),
        ({"gripper_types": "RethinkGripper"}, "Panda", "other_robot0_gripper_qpos"),
        ({"robots": ["Panda", "Panda"]}, "Panda+Panda", "other_robot0_gripper_qpos"),
    ],
)
def test_a_gripper_becomes_an_opening_only_where_that_is_certain(
    tmp_path: Path, changes: dict[str, object], robot: str, key: str
) -> None:
    foreign = read(robomimic_sample(tmp_path, **changes), RobomimicImport())
    assert foreign.robot == robot
    assert key in next(iter(foreign.episodes)).observations


def test_fingers_that_the_user_names_are_kept_as_they_are(tmp_path: Path) -> None:
    path = robomimic_sample(tmp_path)
    foreign = read(path, RobomimicImport(keys={"robot0_gripper_qpos": "gripper_position"}))
    with h5py.File(path) as file:
        fingers = file["data/demo_0/obs/robot0_gripper_qpos"][()].astype(np.float32)
    assert np.array_equal(next(iter(foreign.episodes)).observations["gripper_position"], fingers)
    assert not any("fingers" in note for note in foreign.notes)


def test_without_next_obs_the_last_observation_repeats_and_that_is_said(tmp_path: Path) -> None:
    foreign = read(robomimic_sample(tmp_path, next_obs=False), RobomimicImport())
    for episode in foreign.episodes:
        for key, values in episode.observations.items():
            assert np.array_equal(episode.final_observation[key], values[-1])
    assert any("the last observation repeats" in note for note in foreign.notes)


def test_the_user_may_say_what_the_file_does_not(tmp_path: Path) -> None:
    path = robomimic_sample(tmp_path, control_freq=None, controller_configs=None)
    assert any("a guess" in note for note in read(path, RobomimicImport()).notes)
    config = RobomimicImport(rate_hz=40.0, robot="panda", keys={"object": "object_position"})
    foreign = read(path, config)
    episode = next(iter(foreign.episodes))
    assert (foreign.robot, episode.info.rate_hz, episode.tick_ns[1]) == ("panda", 40.0, 25_000_000)
    assert episode.info.action_spec.labels[0] == "action_0"
    assert {"object_position", "gripper_position"} <= set(episode.observations)
    with pytest.raises(DatasetError, match="renames \\['nothing'\\]"):
        read(path, RobomimicImport(keys={"nothing": "object_position"}))
    with pytest.raises(InputError, match="Unknown observation key 'speed'"):
        RobomimicImport(keys={"object": "speed"})
    with pytest.raises(InputError, match="rate_hz is -1"):
        RobomimicImport(rate_hz=-1)


def test_actions_beyond_their_range_widen_the_bounds(tmp_path: Path) -> None:
    path = robomimic_sample(tmp_path)
    with h5py.File(path, "r+") as file:
        file["data/demo_1/actions"][2, 3] = 4.0
    foreign = read(path, RobomimicImport())
    first, second, _ = foreign.episodes
    assert first.info.action_spec == second.info.action_spec
    assert second.info.action_spec.high[3] == 4.0
    assert any("outside [-1, 1]" in note for note in foreign.notes)


Change = Callable[[h5py.File], None]


def _replace(name: str, **options: object) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **options)

    return change


def _attribute(owner: str, name: str, value: object) -> Change:
    return lambda file: file[owner].attrs.__setitem__(name, value)


def _delete(name: str) -> Change:
    return lambda file: file.__delitem__(name)


def _link(name: str, link: object) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = link

    return change


_OBJECTS = {"shape": (5,), "dtype": h5py.special_dtype(vlen=np.uint8)}
_BAD: dict[str, tuple[Change, str]] = {
    "no data": (_delete("data"), "/data is not in the file"),
    "no demos": (lambda f: [f["data"].__delitem__(n) for n in list(f["data"])], "no demos"),
    "odd demo": (lambda f: f.move("data/demo_1", "data/trial"), "/data/trial is no demo"),
    "no env_args": (lambda f: f["data"].attrs.__delitem__("env_args"), "no attribute 'env_args'"),
    "env_args no JSON": (_attribute("data", "env_args", "{"), "env_args is not readable JSON"),
    "env_args deep": (_attribute("data", "env_args", "[" * 50_000), "env_args is not readable JSON"),
    "env_args a list": (_attribute("data", "env_args", "[]"), "expected an object"),
    "env_args a number": (_attribute("data", "env_args", 3), "expected a text"),
    "env_args not UTF-8": (_attribute("data", "env_args", np.bytes_(b"\xff\xfe{}")), "utf-8"),
    "rate": (_attribute("data", "env_args", '{"env_kwargs": {"control_freq": 1e9}}'), "expected 0.01 to 10000"),
    "no actions": (_delete("data/demo_1/actions"), "demo_1/actions is not in the file"),
    "actions a group": (
        lambda f: (f.__delitem__("data/demo_1/actions"), f.create_group("data/demo_1/actions")),
        "group",
    ),
    "actions flat": (_replace("data/demo_1/actions", data=np.zeros(4)), "expected 2 dimensions"),
    "actions narrow": (_replace("data/demo_1/actions", data=np.zeros((4, 6))), "expected \\(steps, 7\\)"),
    "actions NaN": (_replace("data/demo_1/actions", data=np.full((4, 7), np.nan)), "not finite at row 0"),
    "actions texts": (_replace("data/demo_1/actions", data=np.full((4, 7), b"x")), "expected numbers"),
    "actions objects": (_replace("data/demo_1/actions", **_OBJECTS), "objects, which are never unpickled"),
    "actions huge": (_replace("data/demo_1/actions", shape=(10**12, 7), dtype="f8", chunks=(4, 7)), "a trap"),
    "actions empty": (_replace("data/demo_1/actions", data=np.zeros((0, 7))), "actions have shape"),
    "no obs": (_delete("data/demo_1/obs"), "demo_1/obs is not in the file"),
    "other obs": (_delete("data/demo_1/obs/object"), "other names than"),
    "obs short": (_replace("data/demo_1/obs/object", data=np.zeros((3, 10))), "demo_1: .*other_object|next_obs/object"),
    "obs NaN": (_replace("data/demo_1/obs/object", data=np.full((4, 10), np.inf)), "not finite"),
    "obs scalar": (_replace("data/demo_0/obs/object", data=3.0), "a row for each step"),
    "obs too large": (_replace("data/demo_1/obs/object", data=np.full((4, 10), 1e300)), "not finite"),
    "frames of floats": (_replace("data/demo_1/obs/agentview_image", data=np.zeros((4, 12, 16, 3))), "must be uint8"),
    "next_obs short": (_replace("data/demo_1/next_obs/object", data=np.zeros((2, 10))), "next_obs/object has shape"),
    "rewards short": (_replace("data/demo_1/rewards", data=np.zeros(3)), "rewards has shape \\(3,\\)"),
    "states short": (_replace("data/demo_1/states", data=np.zeros((3, 9))), "states has shape"),
    "soft link": (_link("data/demo_1/actions", h5py.SoftLink("/data/demo_0/actions")), "link to another place"),
    "external link": (_link("data/demo_1", h5py.ExternalLink("/etc/passwd", "/")), "link to another file"),
}


@pytest.mark.parametrize("what", _BAD)
def test_bad_files_are_refused_in_one_sentence_that_names_the_file(tmp_path: Path, what: str) -> None:
    change, said = _BAD[what]
    path = robomimic_sample(tmp_path)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(DatasetError, match=said) as caught:
        list(read(path, RobomimicImport()).episodes)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_our_own_index_is_refused_because_its_episodes_lie_elsewhere(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 1)
    with pytest.raises(DatasetError, match="link to another file"):
        read(dataset.path / "dataset.hdf5", RobomimicImport())
    with pytest.raises(DatasetError, match="does not exist; expected a robomimic file"):
        read(tmp_path / "nothing.hdf5", RobomimicImport())
    (tmp_path / "text.hdf5").write_text("no HDF5")
    with pytest.raises(DatasetError, match="not a readable robomimic file"):
        read(tmp_path / "text.hdf5", RobomimicImport())


def test_an_unknown_version_of_our_own_files_is_named(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 1)
    write(dataset, dataset.ids, tmp_path / "out.hdf5", RobomimicExport())
    with h5py.File(tmp_path / "out.hdf5", "r+") as file:
        file["data/demo_0"].attrs["schema_version"] = 99
    with pytest.raises(DatasetError, match="schema version 99"):
        read(tmp_path / "out.hdf5", RobomimicImport())


def test_an_imported_episode_lives_on_as_one_of_ours(tmp_path: Path) -> None:
    foreign = read(robomimic_sample(tmp_path), RobomimicImport())
    dataset = Dataset.create(tmp_path / "demos", robot=foreign.robot, task=foreign.task)
    imported = list(foreign.episodes)
    ids = [dataset.add(episode) for episode in imported]
    write(dataset, ids, tmp_path / "out.hdf5", RobomimicExport())
    for found, wanted in zip(read(tmp_path / "out.hdf5", RobomimicImport()).episodes, imported, strict=True):
        require_same(found, wanted)


def test_a_dataset_that_is_packed_and_unpacked_is_the_same_with_its_splits(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 4, images=True)
    dataset.name_split("train", (dataset.ids[2], dataset.ids[0]))
    assert main(["dataset", "pack", str(dataset.path), "--out", str(tmp_path / "packed.hdf5")]) == 0
    back = tmp_path / "back"
    assert main(["dataset", "import", str(tmp_path / "packed.hdf5"), "--out", str(back), "robomimic"]) == 0
    unpacked = Dataset.open(back)
    originals = {id: dataset.summary(id) for id in dataset.ids}
    copies = {id: unpacked.summary(id) for id in unpacked.ids}
    assert [s.checksum for s in copies.values()] == [s.checksum for s in originals.values()]
    assert [unpacked.ids.index(id) for id in unpacked.splits()["train"]] == [2, 0]
