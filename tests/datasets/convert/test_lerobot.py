"""LeRobot v3.0: there and back, the real LeRobot on ours and we on its, and files that are not what they say."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets_builders import make_episode
from hypothesis import given, settings
from lerobot_sample import write_lerobot_sample
from peers_support import ROOT, run_in_peer
from random_episodes import assert_same, episode_lists

from understudy.datasets.convert.lerobot import LeRobotExport, LeRobotImport, read, write
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError, InputError


def source_of(folder: Path) -> Dataset:
    return Dataset.open(folder / "source")


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def smooth_frames(steps: int) -> np.ndarray:
    """What a camera sees: slopes of light that move, not noise, which no video can hold."""
    row, column, time = np.mgrid[0:48, 0:64, 0:steps].astype(float)
    wave = 127 + 100 * np.sin(row / 20 + time / 5) * np.cos(column / 25)
    return np.stack([wave, 255 - wave, wave / 2 + 60], axis=-1).transpose(2, 0, 1, 3).astype(np.uint8)


# --- there and back --------------------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(episodes=episode_lists())
def test_what_we_write_comes_back_as_it_was(episodes):
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset.create(Path(folder) / "source", robot="two_joint", task="reach")
        ids = [dataset.add(episode) for episode in episodes]
        write(dataset, ids, Path(folder) / "out", LeRobotExport(images="frames"))
        foreign = read(Path(folder) / "out", LeRobotImport())
        assert (foreign.robot, foreign.task, foreign.count) == ("two_joint", "reach", len(episodes))
        assert foreign.notes == ()
        for ours, back in zip(episodes, foreign.episodes, strict=True):
            assert_same(ours, back)


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_video_loses_little_of_the_frames_and_nothing_else(tmp_path, codec):
    import dataclasses

    frames = smooth_frames(13)
    episode = make_episode(12, images=True)
    episode = dataclasses.replace(
        episode,
        observations={**episode.observations, "image_front": frames[:-1]},
        final_observation={**episode.final_observation, "image_front": frames[-1]},
    )
    dataset = Dataset.create(tmp_path / "source", robot="two_joint", task="reach")
    ids = [dataset.add(episode), dataset.add(dataclasses.replace(episode, rewards=episode.rewards + 1))]
    losses = write(dataset, ids, tmp_path / "out", LeRobotExport(codec=codec))
    assert any("lossy video" in loss for loss in losses)
    foreign = read(tmp_path / "out", LeRobotImport())
    assert any("lossy video" in note for note in foreign.notes)
    for back in foreign.episodes:
        assert_same(episode, back, besides=("image_front", "rewards"))
        error = np.mean((back.observations["image_front"].astype(float) - frames[:-1]) ** 2)
        assert 10 * np.log10(255**2 / error) > 32
        # A frame more or less would be as large an error as the motion between two.
        shifted = np.mean((back.observations["image_front"][1:].astype(float) - frames[:-2]) ** 2)
        assert error < shifted / 3


def test_an_odd_frame_cannot_be_video_and_leaves_nothing_behind(tmp_path):
    import dataclasses

    episode = make_episode(4, images=True)
    odd = {"image_front": np.zeros((4, 11, 16, 3), np.uint8)}
    episode = dataclasses.replace(
        episode,
        observations={**episode.observations, **odd},
        final_observation={**episode.final_observation, "image_front": np.zeros((11, 16, 3), np.uint8)},
    )
    dataset = Dataset.create(tmp_path / "source", robot="two_joint", task="reach")
    ids = [dataset.add(episode)]
    with pytest.raises(DatasetError, match=r"11x16 cannot become a video.*--images frames"):
        write(dataset, ids, tmp_path / "out", LeRobotExport())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_what_is_lost_is_said(tmp_path):
    dataset = Dataset.create(tmp_path / "source", robot="two_joint", task="reach")
    ids = [dataset.add(make_episode(5, success=None, rate_hz=12.5))]
    losses = " ".join(write(dataset, ids, tmp_path / "out", LeRobotExport()))
    for word in ("frame_index / fps", "understudy/episodes.parquet", "nobody has judged", "12.5"):
        assert word in losses


def test_without_our_extras_it_is_read_as_anybody_s(tmp_path):
    path = write_lerobot_sample(tmp_path)
    shutil.rmtree(path / "understudy")
    foreign = read(path, LeRobotImport(robot="arm", task="press", keys={"observation.state": "joint_position"}))
    assert (foreign.robot, foreign.task, foreign.count) == ("arm", "press", 3)
    notes = " ".join(foreign.notes)
    for word in ("Times were not recorded", "observation after the last action", "goal_position", "measured"):
        assert word in notes
    source = source_of(tmp_path)
    for id, back in zip(source.ids, foreign.episodes, strict=True):
        ours = source.read(id)
        assert np.array_equal(back.observations["joint_position"], ours.observations["joint_position"])
        assert np.array_equal(back.observations["other_goal_position"], ours.observations["goal_position"])
        assert np.array_equal(back.observations["image_front"], ours.observations["image_front"])
        assert np.array_equal(back.requested, ours.requested.astype(np.float32))
        assert np.all(np.abs(back.info.action_spec.denormalise(back.actions) - back.requested) < 1e-6)
        assert back.info.success is True
        assert back.tick_ns[1] == 50_000_000


# --- the real LeRobot ------------------------------------------------------------------------------------------------

OPEN = """
import io, sys
import numpy as np
from lerobot.datasets import lerobot_dataset as module
from lerobot.datasets.utils import dataset_to_policy_features
if sys.argv[3] == "video":
    # torchcodec, LeRobot's decoder, needs FFmpeg's libraries, which are not everywhere: PyAV takes its place, with
    # LeRobot's rule of the nearest frame and its tolerance.
    import av, torch
    def decode(path, timestamps, tolerance_s, backend=None):
        with av.open(str(path)) as file:
            decoded = list(file.decode(video=0))
        shown = [(float(frame.pts * frame.time_base), frame.to_ndarray(format="rgb24")) for frame in decoded]
        times = np.array([time for time, _ in shown])
        picks = [int(np.argmin(np.abs(times - wanted))) for wanted in timestamps]
        assert all(abs(times[pick] - wanted) < tolerance_s for pick, wanted in zip(picks, timestamps))
        return torch.from_numpy(np.stack([shown[pick][1] for pick in picks])).permute(0, 3, 1, 2).float() / 255
    module.decode_video_frames = decode
dataset = module.LeRobotDataset("someone/something", root=sys.argv[1])
assert dataset.num_episodes == 3 and len(dataset) == dataset.meta.total_frames
columns = {}
for item in (dataset[row] for row in range(len(dataset))):
    assert item.pop("task") == "press the button"
    for name, value in item.items():
        columns.setdefault(name, []).append(value.numpy())
stats = {"stats/" + name: one["mean"] for name, one in dataset.meta.stats.items()}
policy = dataset_to_policy_features(dataset.meta.features)
assert sorted(name for name, feature in policy.items() if feature.type == "ACTION") == ["action"]
ahead = {"action": [0.0, 0.05, 0.1]}
windows = module.LeRobotDataset("someone/something", root=sys.argv[1], delta_timestamps=ahead)
assert tuple(windows[0]["action"].shape) == (3, 2)
assert windows[len(windows) - 1]["action_is_pad"].tolist() == [False, True, True]
np.savez(sys.argv[2], **{name: np.stack(values) for name, values in columns.items()}, **stats)
"""


@pytest.mark.parametrize("images", ["frames", pytest.param("video", marks=pytest.mark.slow)])
def test_lerobot_opens_what_we_wrote(tmp_path, images):
    import dataclasses

    dataset = Dataset.create(tmp_path / "source", robot="two_joint", task="reach")
    frames = smooth_frames(9)
    for number in range(3):
        episode = make_episode(6 + number, seed=number, images=True)
        seen = {**episode.observations, "image_front": frames[: 6 + number]}
        final = {**episode.final_observation, "image_front": frames[-1]}
        dataset.add(dataclasses.replace(episode, observations=seen, final_observation=final))
    config = LeRobotExport(images=images, instruction="press the button")
    write(dataset, dataset.ids, tmp_path / "out", config)
    run_in_peer("lerobot", OPEN, str(tmp_path / "out"), str(tmp_path / "seen.npz"), images)
    seen = np.load(tmp_path / "seen.npz")
    ours = [dataset.read(id) for id in dataset.ids]

    def joined(values):
        return np.concatenate(list(values))

    expected = {
        "observation.state": joined(e.observations["joint_position"] for e in ours),
        "observation.joint_velocity": joined(e.observations["joint_velocity"] for e in ours),
        "action": joined(e.requested for e in ours).astype(np.float32),
        "understudy.measured": joined(e.measured for e in ours).astype(np.float32),  # LeRobot's default float type
        "next.reward": joined(e.rewards for e in ours),
        "next.success": joined(np.arange(len(e)) == len(e) - 1 for e in ours),
        "understudy.tick_ns": joined(e.tick_ns for e in ours),
        "timestamp": joined(np.arange(len(e)) / 20 for e in ours).astype(np.float32),
        "episode_index": joined(np.full(len(e), number) for number, e in enumerate(ours)),
        "index": np.arange(sum(map(len, ours))),
    }
    for name, values in expected.items():
        assert np.array_equal(seen[name], values), name
    pictures = joined(e.observations["image_front"] for e in ours)
    shown = np.rint(seen["observation.images.front"].transpose(0, 2, 3, 1) * 255)
    if images == "frames":
        assert np.array_equal(shown, pictures)
    else:
        assert 10 * np.log10(255**2 / np.mean((shown - pictures) ** 2)) > 32
    assert np.allclose(seen["stats/action"], expected["action"].mean(axis=0), atol=1e-6)
    assert seen["stats/observation.images.front"].shape == (3, 1, 1)


RECORD = """
import sys
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
images = "video" if sys.argv[2] == "video" else "image"
features = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": ["shoulder", "elbow", "wrist"]},
    "observation.images.top": {"dtype": images, "shape": (48, 64, 3), "names": ["height", "width", "channels"]},
    "action": {"dtype": "float32", "shape": (3,), "names": ["shoulder", "elbow", "wrist"]},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "note": {"dtype": "string", "shape": (1,), "names": None},
}
options = {"robot_type": "so100", "use_videos": images == "video", "vcodec": "h264"}
made = LeRobotDataset.create("someone/something", 30, features, root=sys.argv[1], **options)
frames = np.load(sys.argv[3])
for episode in range(2):
    for step in range(7 + episode):
        made.add_frame({
            "observation.state": np.array([step, episode, 0.5], np.float32),
            "observation.images.top": frames[step],
            "action": np.array([step + 1, episode, -0.5], np.float32),
            "next.reward": np.array([step * 0.1], np.float32),
            "note": "hello",
            "task": f"task {episode}",
        })
    made.save_episode()
made.finalize()
"""


@pytest.mark.parametrize("images", ["frames", pytest.param("video", marks=pytest.mark.slow)])
def test_what_lerobot_recorded_is_read(tmp_path, images):
    frames = smooth_frames(8)
    np.save(tmp_path / "frames.npy", frames)
    run_in_peer("lerobot", RECORD, str(tmp_path / "theirs"), images, str(tmp_path / "frames.npy"))
    foreign = read(tmp_path / "theirs", LeRobotImport())
    assert (foreign.robot, foreign.task, foreign.count) == ("so100", "several tasks", 2)
    assert any("note" in note and "Left out" in note for note in foreign.notes)
    for number, episode in enumerate(foreign.episodes):
        steps = 7 + number
        assert len(episode) == steps
        assert np.array_equal(episode.observations["other_state"][:, 0], np.arange(steps))
        assert np.array_equal(episode.requested[:, 0], np.arange(steps) + 1)
        assert np.allclose(episode.rewards, np.arange(steps) * 0.1)
        assert episode.info.action_spec.labels == ("shoulder", "elbow", "wrist")
        assert (episode.info.note, episode.info.rate_hz, episode.info.success) == (f"task {number}", 30.0, None)
        seen = episode.observations["image_top"].astype(float)
        if images == "frames":
            assert np.array_equal(seen, frames[:steps])
        else:
            assert 10 * np.log10(255**2 / np.mean((seen - frames[:steps]) ** 2)) > 28


def test_the_page_s_example_runs(tmp_path):
    page = (ROOT / "docs/how-to/open-in-other-tools.md").read_text()
    section = page[page.index("## LeRobot") :]
    (program,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    write_lerobot_sample(tmp_path).rename(tmp_path / "reach_exact")
    printed = run_in_peer("lerobot", f"import os, sys; os.chdir(sys.argv[1])\n{program}", str(tmp_path))
    assert printed.split("\n")[0] == "3 21 torch.Size([2]) torch.Size([2])"


# --- files that are not what they say --------------------------------------------------------------------------------


def test_other_versions_are_refused_by_name(tmp_path):
    path = write_lerobot_sample(tmp_path)
    edit_json(path / "meta/info.json", codebase_version="v2.1")
    with pytest.raises(DatasetError, match=r"info\.json: this is LeRobot v2\.1, and v3\.0 is read.*v21_to_v30"):
        read(path, LeRobotImport())


@pytest.mark.parametrize(
    "template",
    [
        "../secret/file-{file_index:03d}.parquet",
        "/etc/passwd",
        "data/{chunk_index.__class__}",
        "data/{chunk_index:999999999d}",
        "data/./x",
        "data/{video_key!r}",
    ],
)
def test_paths_out_of_the_dataset_are_refused(tmp_path, template):
    path = write_lerobot_sample(tmp_path)
    edit_json(path / "meta/info.json", data_path=template)
    with pytest.raises(DatasetError, match="path template"):
        read(path, LeRobotImport())


@pytest.mark.parametrize("name", ["data/chunk-000/file-000.parquet", "meta/tasks.parquet", "data/chunk-000"])
def test_links_are_refused(tmp_path, name):
    path = write_lerobot_sample(tmp_path)
    (path / name).rename(tmp_path / "elsewhere")
    (path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="is a link; expected the file itself"):
        list(read(path, LeRobotImport()).episodes)


@pytest.mark.parametrize("name", ["data/chunk-000/file-000.parquet", "understudy/episodes.parquet"])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_a_file_cut_short_is_named(tmp_path, name, part):
    path = write_lerobot_sample(tmp_path)
    whole = (path / name).read_bytes()
    (path / name).write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(DatasetError, match=f"{Path(name).name}"):
        list(read(path, LeRobotImport()).episodes)


def test_a_cut_video_is_named(tmp_path):
    path = write_lerobot_sample(tmp_path, images="video")
    video = next(path.glob("videos/**/*.mp4"))
    video.write_bytes(video.read_bytes()[:200])
    with pytest.raises(DatasetError, match=r"file-000\.mp4: not a readable video"):
        list(read(path, LeRobotImport()).episodes)


def test_a_playlist_in_place_of_a_video_is_not_followed(tmp_path):
    path = write_lerobot_sample(tmp_path, images="video")
    video = next(path.glob("videos/**/*.mp4"))
    other = video.with_name("other.mp4")
    video.rename(other)
    video.write_text(f"ffconcat version 1.0\nfile '{other.name}'\n")
    with pytest.raises(DatasetError, match="not a readable video"):
        list(read(path, LeRobotImport()).episodes)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"codebase_version": "v3.0"}', "\x00", '{"codebase_version": "v3.0", "fps": NaN}']
)
def test_an_info_that_is_none_is_named(tmp_path, text):
    path = write_lerobot_sample(tmp_path)
    (path / "meta/info.json").write_text(text)
    with pytest.raises(DatasetError, match=r"info\.json"):
        read(path, LeRobotImport())


def test_one_flipped_bit_of_the_steps_is_found(tmp_path):
    path = write_lerobot_sample(tmp_path)
    data = path / "data/chunk-000/file-000.parquet"
    column = pq.ParquetFile(data).metadata.row_group(1).column(0)
    whole = bytearray(data.read_bytes())
    whole[column.data_page_offset + column.total_compressed_size - 2] ^= 4
    data.write_bytes(whole)
    with pytest.raises(DatasetError, match=r"file-000\.parquet: not a readable table"):
        list(read(path, LeRobotImport()).episodes)


def test_rows_of_another_episode_are_refused(tmp_path):
    path = write_lerobot_sample(tmp_path)
    table = pq.read_table(path / "data/chunk-000/file-000.parquet")
    moved = table.set_column(table.schema.get_field_index("episode_index"), "episode_index", pa.array([7] * len(table)))
    pq.write_table(moved, path / "data/chunk-000/file-000.parquet")
    with pytest.raises(DatasetError, match="rows of episode 0 are marked as of episode 7"):
        list(read(path, LeRobotImport()).episodes)


def test_more_rows_than_bytes_can_hold_are_refused(tmp_path):
    path = write_lerobot_sample(tmp_path)
    rows = 3_000_000
    table = pa.table(
        {
            "task_index": pa.array(np.zeros(rows, np.int64)),
            "task": pa.array(["x"]).take(pa.array(np.zeros(rows, np.int64))),
        }
    )
    pq.write_table(table, path / "meta/tasks.parquet")
    with pytest.raises(DatasetError, match=r"tasks\.parquet claims 3000000 rows"):
        read(path, LeRobotImport())


def test_extras_of_other_episodes_are_refused(tmp_path):
    path = write_lerobot_sample(tmp_path)
    table = pq.ParquetFile(path / "understudy/episodes.parquet").read_row_group(0)
    pq.write_table(table, path / "understudy/episodes.parquet")
    with pytest.raises(DatasetError, match=r"extras of 1 episodes beside 3.*remove the folder understudy/"):
        list(read(path, LeRobotImport()).episodes)


def test_an_episode_too_large_for_memory_is_refused(tmp_path):
    path = write_lerobot_sample(tmp_path)
    with pytest.raises(DatasetError, match=r"would take .* raise max_episode_bytes"):
        read(path, LeRobotImport(max_episode_bytes=1000))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "gif"}, "expected 'video' or 'frames'"),
        ({"codec": "mjpeg"}, "expected 'h264' or 'av1'"),
        ({"quality": 99}, "expected 0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        LeRobotExport(**options)


def test_a_rename_of_nothing_is_refused(tmp_path):
    path = write_lerobot_sample(tmp_path)
    shutil.rmtree(path / "understudy")
    with pytest.raises(DatasetError, match=r"observation\.stat"):
        read(path, LeRobotImport(keys={"observation.stat": "joint_position"}))
    with pytest.raises(DatasetError, match="cannot stand for each other"):
        read(path, LeRobotImport(keys={"observation.state": "image_front2"}))
