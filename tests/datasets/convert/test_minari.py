"""Minari's datasets: the real Minari loads, iterates and samples ours, and its own become honest episodes."""

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
from peers_support import run_in_peer

from tests.datasets.convert.convert_support import dataset_of, require_same, same_layout
from tests.datasets.convert.hdf5_samples import LENGTHS, box, minari_sample
from understudy.datasets.convert.minari import MinariExport, MinariImport, read, write
from understudy.datasets.episode import Episode
from understudy.errors import DatasetError, InputError

_LOAD = """
import json, os, sys
os.environ["MINARI_DATASETS_PATH"] = sys.argv[1]
import minari
import numpy as np
assert list(minari.list_local_datasets()) == ["lab/reach-v3"], minari.list_local_datasets()
dataset = minari.load_dataset("lab/reach-v3")
dataset.set_seed(0)
found = {"total": np.array([dataset.total_episodes, dataset.total_steps]), "action_low": dataset.action_space.low}
for episode in dataset.iterate_episodes():
    assert dataset.action_space.contains(episode.actions[0])
    assert dataset.observation_space.contains({key: values[0] for key, values in episode.observations.items()})
    arrays = {"actions": episode.actions, "rewards": episode.rewards, "terminations": episode.terminations,
              "truncations": episode.truncations, "tick_ns": episode.infos["tick_ns"],
              "sent": episode.infos["action"]["sent"]}
    arrays |= {f"obs/{key}": values for key, values in episode.observations.items()}
    found |= {f"{episode.id}/{name}": values for name, values in arrays.items()}
found["sampled"] = np.array([len(episode) for episode in dataset.sample_episodes(2)])
kept = dataset.filter_episodes(lambda episode: episode.terminations[-1])
found["kept"] = np.array([episode.id for episode in kept.iterate_episodes()])
found["seeds"] = np.array([metadata["seed"] for metadata in dataset.storage.get_episode_metadata([0, 1, 2])])
np.savez(sys.argv[2], **found)
"""

_CREATE = """
import os, sys
os.environ["MINARI_DATASETS_PATH"] = sys.argv[1]
import warnings; warnings.simplefilter("ignore")
import minari
import numpy as np
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
rng = np.random.default_rng(0)
unit = spaces.Box(0, 1, (2, 2), np.float32)
grey = spaces.Box(0, 255, (33, 40), np.uint8)
cases = {
    "flat-v0": (spaces.Box(-np.inf, np.inf, (3,), np.float64), spaces.Box(-1, 1, (2,), np.float32), False),
    "choices-v0": (spaces.Discrete(5), spaces.Discrete(4, start=2), False),
    "many-v0": (spaces.Dict({"a": spaces.MultiBinary(3), "b": spaces.Dict({"c": unit})}),
                spaces.MultiDiscrete([3, 4]), False),
    "lab/jpeg-v1": (spaces.Dict({"front": spaces.Box(0, 255, (40, 48, 3), np.uint8), "grey": grey}),
                    spaces.Box(-1, 1, (2,), np.float32), True),
    "lab/exact-v1": (spaces.Dict({"front": spaces.Box(0, 255, (40, 48, 3), np.uint8)}),
                     spaces.Box(-1, 1, (2,), np.float32), False),
}
def stack(parts):
    if isinstance(parts[0], dict):
        return {key: stack([part[key] for part in parts]) for key in parts[0]}
    return np.stack(parts)
for name, (observed, action, jpeg) in cases.items():
    observed.seed(0), action.seed(0)
    buffers = []
    for steps in (4, 3):
        rows = [observed.sample() for _ in range(steps + 1)]
        buffers.append(EpisodeBuffer(
            observations=stack(rows), actions=np.stack([action.sample() for _ in range(steps)]),
            rewards=list(rng.normal(size=steps)), terminations=[False] * (steps - 1) + [True],
            truncations=[False] * steps, infos={"x": np.zeros(steps + 1)}, seed=steps,
        ))
    minari.create_dataset_from_buffers(
        name, buffers, observation_space=observed, action_space=action, jpeg_encoding=jpeg
    )
found = {}
def flat(prefix, value):
    if isinstance(value, dict):
        for key, inner in value.items():
            flat(f"{prefix}/{key}", inner)
    else:
        found[prefix] = value
for name in cases:
    for episode in minari.load_dataset(name).iterate_episodes():
        flat(f"{name}/{episode.id}/obs", episode.observations)
        flat(f"{name}/{episode.id}/actions", episode.actions)
        flat(f"{name}/{episode.id}/rewards", episode.rewards)
np.savez(sys.argv[2], **found)
"""


def test_the_real_minari_loads_iterates_and_samples_what_is_written(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 0)
    for seed, success in enumerate((True, False, None)):
        episode = make_episode(8 + seed, seed=seed, images=True, success=success, note="ö")
        dataset.add(dataclasses.replace(episode, info=dataclasses.replace(episode.info, seed=40 + seed)))
    episodes = list(dataset.episodes())
    losses = write(dataset, dataset.ids, tmp_path / "minari", MinariExport("lab/reach-v3"))
    assert any("Minari 0.5.4" in loss for loss in losses)
    run_in_peer("minari", _LOAD, str(tmp_path / "minari"), str(tmp_path / "found.npz"))
    found = np.load(tmp_path / "found.npz")
    assert found["total"].tolist() == [3, sum(map(len, episodes))]
    assert found["action_low"].tolist() == [-1.0, -1.0]
    assert set(found["sampled"]) <= {8, 9, 10}
    assert found["kept"].tolist() == [0]
    assert found["seeds"].tolist() == [40, 41, 42]
    for number, episode in enumerate(episodes):
        assert np.array_equal(found[f"{number}/actions"], episode.actions)
        assert np.array_equal(found[f"{number}/rewards"], episode.rewards)
        assert np.array_equal(found[f"{number}/sent"][:-1], episode.sent)
        assert np.array_equal(found[f"{number}/tick_ns"][:-1], episode.tick_ns)
        assert found[f"{number}/truncations"][-1] == (episode.info.success is not True)
        for key, values in episode.observations.items():
            after = np.concatenate([values, np.asarray(episode.final_observation[key])[None]])
            assert np.array_equal(found[f"{number}/obs/{key}"], after)


def test_what_the_real_minari_writes_is_imported(tmp_path: Path) -> None:
    run_in_peer("minari", _CREATE, str(tmp_path), str(tmp_path / "found.npz"))
    found = np.load(tmp_path / "found.npz")
    for name, keys in {
        "flat-v0": {"obs": "other_observation"},
        "choices-v0": {"obs": "other_observation"},
        "many-v0": {"obs/a": "other_a", "obs/b/c": "other_b_c"},
        "lab/jpeg-v1": {"obs/front": "image_front", "obs/grey": "other_grey"},
        "lab/exact-v1": {"obs/front": "image_front"},
    }.items():
        foreign = read(tmp_path / name, MinariImport(rate_hz=10.0))
        assert foreign.task == name
        assert any("JPEG" in note for note in foreign.notes) == ("jpeg" in name)
        for number, episode in enumerate(foreign.episodes):
            actions = found[f"{name}/{number}/actions"].reshape(len(episode), -1)
            assert np.array_equal(episode.requested, actions.astype(np.float64))
            assert np.array_equal(episode.rewards, found[f"{name}/{number}/rewards"].astype(np.float32))
            assert episode.info.seed == len(episode) == (4, 3)[number]
            assert set(episode.observations) == set(keys.values())
            for theirs, ours in keys.items():
                rows = found[f"{name}/{number}/{theirs}"]
                wanted = rows if ours.startswith("image") else rows.astype(np.float32)
                assert np.array_equal(episode.observations[ours], wanted[:-1])
                assert np.array_equal(episode.final_observation[ours], wanted[-1])
    spec = next(iter(read(tmp_path / "choices-v0", MinariImport()).episodes)).info.action_spec
    assert (spec.low, spec.high) == ((2.0,), (5.0,))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=same_layout)
def test_what_is_written_comes_back_but_for_streams(content: list[Episode]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset, ids = dataset_of(Path(folder) / "demos", content)
        losses = write(dataset, ids, Path(folder) / "minari", MinariExport())
        assert any("joints" in loss for loss in losses) == any(episode.streams for episode in content)
        foreign = read(Path(folder) / "minari/understudy/reach-v0", MinariImport())
        assert (foreign.robot, foreign.task, foreign.count, foreign.notes) == ("two_joint", "reach", len(content), ())
        for found, wanted in zip(foreign.episodes, content, strict=True):
            require_same(found, wanted, without=("streams",))


def test_a_dataset_of_minari_becomes_honest_episodes(tmp_path: Path) -> None:
    path = minari_sample(tmp_path)
    foreign = read(path, MinariImport(robot="panda", keys={"proprio": "goal_position"}))
    assert (foreign.robot, foreign.task, foreign.count) == ("panda", "lab/push-v2", 3)
    episodes = list(foreign.episodes)
    assert [len(episode) for episode in episodes] == list(LENGTHS)
    assert set(episodes[0].observations) == {"goal_position", "image_camera_front"}
    assert episodes[0].info.action_spec.low == (-2.0, -2.0)
    for said in ("20 Hz, a guess", "measured", "terminations", "rounded", "unjudged"):
        assert any(re.search(said, note) for note in foreign.notes), said
    assert [len(episode) for episode in read(path / "data", MinariImport()).episodes] == list(LENGTHS)


@pytest.mark.parametrize("name", ["lift", "lift-v", "../lift-v0", "/lift-v0", "a//b-v0", "lift-v0/", ".hidden-v0"])
def test_names_that_minari_would_not_read_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="as in lab/lift-v0"):
        MinariExport(name)


def test_an_export_never_overwrites(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 1)
    write(dataset, dataset.ids, tmp_path / "minari", MinariExport("lab/reach-v0"))
    with pytest.raises(DatasetError, match="reach-v0 exists"):
        write(dataset, dataset.ids, tmp_path / "minari", MinariExport("lab/reach-v0"))
    write(dataset, dataset.ids, tmp_path / "minari", MinariExport("lab/reach-v1"))
    assert sorted(path.name for path in (tmp_path / "minari/lab").iterdir()) == [
        "namespace_metadata.json", "reach-v0", "reach-v1",
    ]  # fmt: skip


# --- bad input ---------------------------------------------------------------------------------------------------


def _space(place: str, space: object) -> Callable[[dict[str, Any]], None]:
    return lambda metadata: metadata.__setitem__(place, space if isinstance(space, str) else json.dumps(space))


_TRAP = {"type": "Box", "dtype": "float64", "shape": [10**9], "low": 0, "high": 1}
_BAD_METADATA: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "arrow": (lambda m: m.__setitem__("data_format", "arrow"), "data_format is 'arrow'; only hdf5 is read"),
    "no space": (lambda m: m.pop("action_space"), "action_space is missing"),
    "no name": (lambda m: m.pop("dataset_id"), "dataset_id is missing"),
    "name a number": (lambda m: m.__setitem__("dataset_id", 3), "dataset_id is int"),
    "more episodes": (lambda m: m.__setitem__("total_episodes", 4), "holds 3 episodes and metadata.json says 4"),
    "texts": (_space("observation_space", {"type": "Text", "max_length": 3}), "'Text', which is not read"),
    "tuple": (_space("action_space", {"type": "Tuple", "subspaces": []}), "'Tuple', which is not read"),
    "dict of actions": (_space("action_space", {"type": "Dict", "subspaces": {}}), "'Dict', which is not read"),
    "graph": (
        _space("observation_space", {"type": "Dict", "subspaces": {"a": {"type": "Graph"}}}),
        "observation_space: a",
    ),
    "deep": (_space("observation_space", '{"subspaces":' * 5000), "not readable JSON"),
    "trap": (_space("observation_space", _TRAP), "no readable Box"),
    "objects": (_space("observation_space", {**box((1,), "float32", 0, 1), "dtype": "O"}), "expected numbers"),
    "flags": (_space("action_space", {"type": "MultiBinary", "n": 10**12}), "no readable MultiBinary"),
    "wide actions": (_space("action_space", box((3,), "float32", -1, 1)), "its space says"),
    "other observations": (_space("observation_space", box((3,), "float32", -1, 1)), "observations is a group"),
    "path": (
        _space("observation_space", {"type": "Dict", "subspaces": {"../x": box((1,), "float32", 0, 1)}}),
        "no readable",
    ),
}


@pytest.mark.parametrize("what", _BAD_METADATA)
def test_bad_metadata_is_refused_in_one_sentence_that_names_the_file(tmp_path: Path, what: str) -> None:
    change, said = _BAD_METADATA[what]
    path = minari_sample(tmp_path)
    file = path / "data" / "metadata.json"
    metadata = json.loads(file.read_text())
    change(metadata)
    file.write_text(json.dumps(metadata))
    with pytest.raises(DatasetError, match=said) as caught:
        list(read(path, MinariImport()).episodes)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


_EPISODE = "episode_1/"
_BAD_FILE: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "odd group": (lambda f: f.create_group("notes"), "/notes is no episode"),
    "no actions": (lambda f: f.__delitem__(_EPISODE + "actions"), "actions is not in the file"),
    "no rewards": (lambda f: f.__delitem__(_EPISODE + "rewards"), "rewards is not in the file"),
    "NaN": (lambda f: f[_EPISODE + "actions"].__setitem__(0, np.nan), "not finite at row 0"),
    "inf": (lambda f: f[_EPISODE + "observations/proprio"].__setitem__(0, np.inf), "other_proprio .*not finite"),
    "short": (lambda f: f[_EPISODE + "observations/proprio"].resize(3, axis=0), "other_proprio has shape"),
    "empty": (lambda f: f[_EPISODE + "observations/proprio"].resize(0, axis=0), "has no rows"),
    "no steps": (lambda f: f[_EPISODE + "actions"].resize(0, axis=0), "actions have shape"),
    "seed": (lambda f: f[_EPISODE[:-1]].attrs.__setitem__("seed", "x"), "seed is 'x'"),
    "huge": (lambda f: f[_EPISODE + "rewards"].resize(10**12, axis=0), "a trap"),
    "link": (
        lambda f: f.__setitem__("episode_3", h5py.ExternalLink("/etc/passwd", "/")),
        "link to another file|4 episodes",
    ),
    "objects": (
        lambda f: (
            f.__delitem__(_EPISODE + "rewards"),
            f.create_dataset(_EPISODE + "rewards", (4,), h5py.special_dtype(vlen=np.uint8)),
        ),
        "objects, which are never unpickled",
    ),
}


@pytest.mark.parametrize("what", _BAD_FILE)
def test_bad_files_are_refused_in_one_sentence_that_names_the_file(tmp_path: Path, what: str) -> None:
    change, said = _BAD_FILE[what]
    path = minari_sample(tmp_path)
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        change(file)
    with pytest.raises(DatasetError, match=said) as caught:
        list(read(path, MinariImport()).episodes)
    assert str(path / "data" / "main_data.hdf5") in str(caught.value)
    assert "\n" not in str(caught.value)


def _packed_sample(folder: Path, frames: list[bytes]) -> Path:
    """The sample with one camera of 40 x 48 whose frames are these bytes, in every episode."""
    path = minari_sample(folder)
    file = path / "data" / "metadata.json"
    space = {"type": "Dict", "subspaces": {"front": box((40, 48, 3), "uint8", 0, 255)}}
    file.write_text(json.dumps({**json.loads(file.read_text()), "observation_space": json.dumps(space)}))
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as opened:
        for number, steps in enumerate(LENGTHS):
            del opened[f"episode_{number}/observations"]
            stored = opened.create_dataset(
                f"episode_{number}/observations/front", (steps + 1,), h5py.vlen_dtype(np.uint8), chunks=True
            )
            for row in range(steps + 1):
                stored[row] = np.frombuffer(frames[row % len(frames)], np.uint8)
    return path


def test_packed_frames_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="frame 0 is no readable JPEG"):
        list(read(_packed_sample(tmp_path, [b"GIF89a" + bytes(6000)]), MinariImport()).episodes)


def test_packed_frames_that_claim_too_much_are_refused(tmp_path: Path) -> None:
    path = _packed_sample(tmp_path, [b"x"])
    file = path / "data" / "metadata.json"
    metadata = json.loads(file.read_text())
    metadata["observation_space"] = json.dumps(
        {"type": "Dict", "subspaces": {"front": box((300, 300, 3), "uint8", 0, 255)}}
    )
    file.write_text(json.dumps(metadata))
    with pytest.raises(DatasetError, match="damaged or a trap"):
        list(read(path, MinariImport()).episodes)


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    path = minari_sample(tmp_path)
    for name in ("main_data.hdf5", "metadata.json"):
        file = path / "data" / name
        moved = file.rename(tmp_path / name)
        file.symlink_to(moved)
        with pytest.raises(DatasetError, match=f"{name} is a link"):
            read(path, MinariImport())
        file.unlink()
        with pytest.raises(DatasetError, match=f"{name} does not exist"):
            read(path, MinariImport())
        moved.rename(file)
    (path / "data" / "metadata.json").write_bytes(b'{"dataset_id": "\xff"}')
    with pytest.raises(DatasetError, match=r"metadata.json is not a readable text"):
        read(path, MinariImport())
