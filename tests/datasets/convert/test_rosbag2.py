"""ROS 2 bags: there and back, rosbags' own reader on ours, clocks that stray, mappings, and files that are none."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets_builders import make_episode
from hypothesis import given, settings
from hypothesis import strategies as st
from peers_support import ROOT
from random_episodes import assert_same, episode_lists
from rosbag2_sample import write_rosbag2_sample
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from understudy.datasets.convert.bag_clock import Track, late, resets
from understudy.datasets.convert.bag_fields import frame_of, numbers_at
from understudy.datasets.convert.bag_mapping import as_text, load_mapping, mapping_from
from understudy.datasets.convert.bag_messages import Messages
from understudy.datasets.convert.rosbag2 import Rosbag2Export, Rosbag2Import, describe_bag, read, write
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError, InputError

MS = 1_000_000
STORE = get_typestore(Stores.ROS2_JAZZY)
MESSAGES = Messages("base", ("a", "b"))


class Recorder:
    """A bag written message by message."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sent: list[tuple[int, str, str, object]] = []

    def joints(self, stamp_ns: int, position: list[float], receive_ns: int | None = None, names=("a", "b")) -> None:
        message = MESSAGES.joints(stamp_ns, position=np.asarray(position))
        message.name[:] = list(names)
        self.add("/joint_states", Messages.JOINTS, message, stamp_ns if receive_ns is None else receive_ns)

    def command(self, receive_ns: int, values: list[float]) -> None:
        self.add("/arm/commands", Messages.NUMBERS, MESSAGES.numbers(np.asarray(values), ""), receive_ns)

    def add(self, topic: str, kind: str, message: object, receive_ns: int) -> None:
        self._sent.append((receive_ns, topic, kind, message))

    def save(self) -> Path:
        with Writer(self.path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            links = {}
            for receive_ns, topic, kind, message in sorted(self._sent, key=lambda each: each[0]):
                if topic not in links:
                    links[topic] = MESSAGES.connect(writer, topic, kind, latched=False)
                writer.write(links[topic], receive_ns, MESSAGES.packed(message, kind))
        return self.path


def mapping_file(folder: Path, **parts: object) -> Path:
    path = folder / "mapping.yaml"
    base = {"observations": {"joint_position": "/joint_states"}, "action": {"requested": "/arm/commands"}}
    path.write_text(yaml.safe_dump({**base, **parts}))
    return path


def steady(path: Path, count: int = 100, *, start_ns: int = 10**9, every_ns: int = 10 * MS) -> Recorder:
    """Joints and commands at 100 Hz whose values are the seconds since the start."""
    recorder = Recorder(path)
    for number in range(count):
        stamp = start_ns + number * every_ns
        recorder.joints(stamp, [number * every_ns * 1e-9, 1.0], receive_ns=stamp + MS)
        recorder.command(stamp, [number * every_ns * 1e-9, 2.0])
    return recorder


# --- there and back --------------------------------------------------------------------------------------------------


@settings(max_examples=7, deadline=None)
@given(episodes=episode_lists(), storage=st.sampled_from(["mcap", "sqlite3"]))
def test_what_we_write_comes_back_as_it_was(episodes, storage):
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset.create(Path(folder) / "source", robot="two_joint", task="reach")
        ids = [dataset.add(episode) for episode in episodes]
        losses = write(dataset, ids, Path(folder) / "bags", Rosbag2Export(storage=storage))
        foreign = read(Path(folder) / "bags", Rosbag2Import())
        assert (foreign.robot, foreign.task, foreign.count) == ("two_joint", "reach", len(episodes))
        moved = any("moved by 1 s" in loss for loss in losses)
        for ours, back in zip(episodes, foreign.episodes, strict=True):
            shift = int(back.tick_ns[0] - ours.tick_ns[0])
            assert (shift != 0) <= moved
            shifted = dataclasses.replace(ours, tick_ns=ours.tick_ns + shift)
            known = dataclasses.replace(back, ages_s={key: back.ages_s[key] for key in ours.ages_s})
            assert_same(shifted, known, besides=("states", "streams", "intervention"), age_atol_s=1e-6)
        assert any("Simulator states" in loss for loss in losses) == any(episode.states.size for episode in episodes)


def test_a_slow_camera_s_frames_are_written_once_and_true_to_their_time(tmp_path):
    episode = make_episode(12, images=True)
    seen = np.repeat(episode.observations["image_front"][:4], 3, axis=0)
    ages = np.tile([0.01, 0.06, 0.11], 4).astype(np.float32)
    episode = dataclasses.replace(
        episode,
        observations={**episode.observations, "image_front": seen},
        ages_s={**episode.ages_s, "image_front": ages},
    )
    dataset = Dataset.create(tmp_path / "source", robot="two_joint", task="reach")
    write(dataset, [dataset.add(episode)], tmp_path / "bags", Rosbag2Export())
    (bag,) = (tmp_path / "bags").iterdir()
    with Reader(bag) as reader:
        links = [link for link in reader.connections if link.topic == "/camera/front/image_raw"]
        frames = [STORE.deserialize_cdr(raw, link.msgtype) for link, _, raw in reader.messages(links)]
    assert len(frames) == 5  # four, and the last observation's
    stamps = [frame.header.stamp.sec * 10**9 + frame.header.stamp.nanosec for frame in frames[:4]]
    assert np.allclose(stamps, episode.tick_ns[::3] - 10 * MS, atol=10)
    (back,) = read(tmp_path / "bags", Rosbag2Import()).episodes
    assert np.array_equal(back.observations["image_front"], seen)
    assert np.allclose(back.ages_s["image_front"], ages, atol=1e-6)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_ros_user_finds_usual_topics(tmp_path, storage):
    dataset = Dataset.create(tmp_path / "source", robot="two_joint", task="reach")
    episode = make_episode(8, images=True)
    id = dataset.add(episode)
    write(dataset, [id], tmp_path / "bags", Rosbag2Export(storage=storage, joint_names=("shoulder", "elbow")))
    bag = tmp_path / "bags" / f"0000_{id}"
    described = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (described["version"], described["storage_identifier"]) == (9, storage)
    for topic in described["topics_with_message_count"]:
        for offered in topic["topic_metadata"]["offered_qos_profiles"]:
            latched = topic["topic_metadata"]["name"] in ("/understudy/episode", "/understudy/success")
            assert offered["durability"] == ("transient_local" if latched else "volatile")
            assert (offered["history"], offered["reliability"]) == ("keep_last", "reliable")
    with Reader(bag) as reader:
        kinds = {link.topic: link.msgtype for link in reader.connections}
        assert kinds["/joint_states"] == "sensor_msgs/msg/JointState"
        assert kinds["/goal_point"] == "geometry_msgs/msg/PointStamped"
        assert kinds["/camera/front/image_raw"] == "sensor_msgs/msg/Image"
        assert kinds["/understudy/sent_action"] == "std_msgs/msg/Float64MultiArray"
        marks = next(link for link in reader.connections if link.topic == "/understudy/episode")
        assert marks.ext.offered_qos_profiles[0].durability == QosDurability.TRANSIENT_LOCAL
        stamps = []
        for link, receive_ns, raw in reader.messages():
            message = STORE.deserialize_cdr(raw, link.msgtype)
            stamps.append(receive_ns)
            if link.topic == "/joint_states":
                assert message.name == ["shoulder", "elbow"]
                assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == receive_ns
        assert stamps == sorted(stamps)


def test_joint_names_must_be_as_many_as_joints(tmp_path):
    dataset = Dataset.create(tmp_path / "source", robot="two_joint", task="reach")
    id = dataset.add(make_episode(3))
    with pytest.raises(InputError, match="3 joint_names for 2 joints"):
        write(dataset, [id], tmp_path / "bags", Rosbag2Export(joint_names=("a", "b", "c")))
    assert not (tmp_path / "bags").exists()


# --- alignment -------------------------------------------------------------------------------------------------------


def test_each_tick_takes_the_latest_sample_by_header_at_or_before_it(tmp_path):
    bag = steady(tmp_path / "bag").save()
    foreign = read(bag, Rosbag2Import(mapping=mapping_file(tmp_path, rate_hz=30.0)))
    (episode,) = foreign.episodes
    ticks_s = (episode.tick_ns - 10**9) * 1e-9
    assert np.allclose(np.diff(ticks_s), 1 / 30, atol=1e-8)
    expected = np.floor(ticks_s / 0.01 + 1e-6) * 0.01
    assert np.allclose(episode.observations["joint_position"][:, 0], expected, atol=1e-6)
    assert np.allclose(episode.ages_s["joint_position"], ticks_s - expected, atol=1e-6)
    assert np.allclose(episode.requested[:, 0], expected, atol=1e-6)
    notes = " ".join(foreign.notes)
    assert "/arm/commands goes by the recorder's stamps" in notes
    assert "/joint_states goes by" not in notes


def test_late_messages_are_put_in_their_place(tmp_path):
    in_order = steady(tmp_path / "a").save()
    recorder = Recorder(tmp_path / "b")
    for number in range(100):
        stamp = 10**9 + number * 10 * MS
        delay = 25 * MS if number % 10 == 4 else MS
        recorder.joints(stamp, [number * 0.01, 1.0], receive_ns=stamp + delay)
        recorder.command(stamp, [number * 0.01, 2.0])
    mapping = mapping_file(tmp_path)
    foreign = read(recorder.save(), Rosbag2Import(mapping=mapping))
    assert any("/joint_states: 10 messages came late" in note for note in foreign.notes)
    (one,), (other,) = foreign.episodes, read(in_order, Rosbag2Import(mapping=mapping)).episodes
    assert np.array_equal(one.observations["joint_position"], other.observations["joint_position"])


def test_a_clock_that_was_set_back_ends_the_episode(tmp_path):
    recorder = steady(tmp_path / "bag", 100, start_ns=50 * 10**9)
    for number in range(100):  # the same second of the recorder's clock goes on; the headers' starts again
        receive = 51 * 10**9 + number * 10 * MS
        recorder.joints(2 * 10**9 + number * 10 * MS, [number * 0.01, 7.0], receive_ns=receive)
    foreign = read(recorder.save(), Rosbag2Import(mapping=mapping_file(tmp_path, action=None)))
    assert foreign.count == 2
    assert any("clock of /joint_states was set by -48.990 s after 100 messages" in note for note in foreign.notes)
    first, second = foreign.episodes
    assert set(first.observations["joint_position"][:, 1]) == {1.0}
    assert set(second.observations["joint_position"][:, 1]) == {7.0}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 400), min_size=12, max_size=60),
    st.integers(3, 8),
    st.sampled_from([-30_000, -2_000, 0, 2_000, 30_000]),
)
def test_a_reset_is_told_from_delays(delays_ms, place, jump_ms):
    """Delays of up to 0.4 s are none, whatever their order; a jump of seconds that stays is one, where it happened."""
    made = np.arange(len(delays_ms)) * 20 * MS + 10**11
    receive = made + np.asarray(delays_ms) * MS
    order = np.argsort(receive, kind="stable")
    stamps = made.copy()
    stamps[order[place:]] += jump_ms * MS
    track = Track("x", "/x", receive[order], stamps[order], 0)
    assert resets(track) == ((place,) if jump_ms else ())
    if not jump_ms:
        assert late(track.stamps_ns) == sum(
            any(order[row] < earlier for earlier in order[:row]) for row in range(len(order))
        )


def test_a_stall_is_no_reset():
    """Nothing arrives for 3 s, then all of it at once: headers go on as they should."""
    made = np.arange(400) * 10 * MS
    receive = np.where((made > 10**9) & (made < 4 * 10**9), 4 * 10**9 + np.arange(400), made)
    assert resets(Track("x", "/x", receive, made, 0)) == ()


def test_stamps_of_zero_go_by_receipt_and_it_is_said(tmp_path):
    recorder = Recorder(tmp_path / "bag")
    for number in range(50):
        recorder.joints(0, [number * 0.01, 1.0], receive_ns=10**9 + number * 10 * MS)
    foreign = read(recorder.save(), Rosbag2Import(mapping=mapping_file(tmp_path, action=None)))
    assert any("/joint_states goes by the recorder's stamps" in note for note in foreign.notes)
    (episode,) = foreign.episodes
    assert episode.tick_ns[0] == 10**9


def test_headers_on_another_clock_move_what_has_none(tmp_path):
    recorder = Recorder(tmp_path / "bag")
    for number in range(100):
        made = 10**9 + number * 10 * MS
        recorder.joints(made, [number * 0.01, 1.0], receive_ns=made + 10**18)
        recorder.command(made + 10**18, [number * 0.01, 2.0])
    foreign = read(recorder.save(), Rosbag2Import(mapping=mapping_file(tmp_path)))
    assert any("headers' clock is another one" in note for note in foreign.notes)
    (episode,) = foreign.episodes
    assert np.allclose(episode.requested[:, 0], episode.observations["joint_position"][:, 0])


def test_a_gap_is_refused_or_splits_and_is_reported(tmp_path):
    recorder = steady(tmp_path / "bag", 100)
    for number in range(100):
        stamp = 3 * 10**9 + number * 10 * MS
        recorder.joints(stamp, [3.0, 1.0])
        recorder.command(stamp, [3.0, 1.0])
    bag = recorder.save()
    with pytest.raises(
        DatasetError, match=r"/joint_states is 0\.2\d\d s old; at most 0\.250 s.*on_gap: split"
    ) as refused:
        read(bag, Rosbag2Import(mapping=mapping_file(tmp_path, max_age_s=0.25)))
    assert str(bag) in str(refused.value)
    foreign = read(bag, Rosbag2Import(mapping=mapping_file(tmp_path, on_gap="split")))
    assert foreign.count == 2
    assert any("/joint_states: 1 gaps, the longest of 1.010 s at 0.990 s" in note for note in foreign.notes)
    parted = read(bag, Rosbag2Import(mapping=mapping_file(tmp_path, episodes={"by": "gaps", "longer_than_s": 1.0})))
    assert [len(episode) for episode in parted.episodes] == [19, 19]


def test_a_flag_says_what_is_an_episode(tmp_path):
    recorder = steady(tmp_path / "bag", 200)
    for at_ms, on in ((0, False), (500, True), (900, False), (1200, True), (1600, False)):
        recorder.add("/recording", Messages.FLAG, MESSAGES.flag(on), 10**9 + at_ms * MS)
    recorder.add("/done", Messages.FLAG, MESSAGES.flag(True), 10**9 + 1500 * MS)
    split = {"by": "flag", "topic": "/recording"}
    mapping = mapping_file(tmp_path, episodes=split, success={"topic": "/done"})
    episodes = list(read(recorder.save(), Rosbag2Import(mapping=mapping)).episodes)
    assert [round(float(episode.requested[0, 0]), 3) for episode in episodes] == [0.5, 1.2]
    assert [len(episode) for episode in episodes] == [8, 8]
    assert [episode.info.success for episode in episodes] == [None, True]


def test_commands_can_be_the_ticks(tmp_path):
    bag = steady(tmp_path / "bag", 40, every_ns=50 * MS).save()
    (episode,) = read(bag, Rosbag2Import(mapping=mapping_file(tmp_path, ticks="/arm/commands"))).episodes
    assert np.array_equal(np.diff(episode.tick_ns), np.full(len(episode) - 1, 50 * MS))
    assert np.allclose(episode.requested[:, 0], np.arange(len(episode)) * 0.05)


def test_the_motion_is_the_action_where_none_is_named(tmp_path):
    bag = steady(tmp_path / "bag").save()
    foreign = read(bag, Rosbag2Import(mapping=mapping_file(tmp_path, action=None)))
    assert any("action is the joint position one tick later" in note for note in foreign.notes)
    (episode,) = foreign.episodes
    assert np.allclose(episode.requested[:-1], episode.observations["joint_position"][1:])
    assert episode.info.action_spec.name == "joint_position"
    assert episode.info.action_spec.labels == ("a", "b")


# --- fields ----------------------------------------------------------------------------------------------------------


def test_joints_go_by_name_in_any_order_and_units_are_converted(tmp_path):
    recorder = Recorder(tmp_path / "bag")
    for number in range(60):
        stamp = 10**9 + number * 10 * MS
        names = ("a", "b") if number % 2 else ("b", "a")
        recorder.joints(stamp, [180.0, 90.0] if number % 2 else [90.0, 180.0], names=names)
        recorder.joints(stamp + MS, [0.5, 0.5], names=("left_finger", "right_finger"))
    observations = {
        "joint_position": {"topic": "/joint_states", "joints": ["a", "b"], "units": "deg"},
        "gripper_position": {"topic": "/joint_states", "joints": "left_finger", "scale": 2.0, "offset": 0.1},
    }
    mapping = mapping_file(tmp_path, action=None, observations=observations)
    (episode,) = read(recorder.save(), Rosbag2Import(mapping=mapping)).episodes
    assert np.allclose(episode.observations["joint_position"], [np.pi, np.pi / 2])
    assert np.allclose(episode.observations["gripper_position"], 1.1)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 7),
    st.integers(1, 9),
    st.integers(0, 5),
    st.sampled_from(["rgb8", "bgr8", "mono8", "rgba8", "bgra8"]),
    st.integers(0, 2**31),
)
def test_frames_honour_step_and_encoding(height, width, padding, encoding, seed):
    channels = {"rgb8": 3, "bgr8": 3, "mono8": 1, "rgba8": 4, "bgra8": 4}[encoding]
    frame = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    rows = np.full((height, width * channels + padding), 77, np.uint8)
    for y in range(height):
        for x in range(width):
            red, green, blue = frame[y, x]
            if encoding == "mono8":
                frame[y, x] = red
            pixel = {"r": [red, green, blue, 9], "b": [blue, green, red, 9], "m": [red]}[encoding[0]][:channels]
            rows[y, x * channels : (x + 1) * channels] = pixel
    message = MESSAGES.image(1, "front", frame)
    message.encoding, message.step, message.data = encoding, rows.shape[1], rows.reshape(-1)
    assert np.array_equal(frame_of(message, Messages.IMAGE), frame)


def test_frames_that_do_not_fit_are_refused():
    message = MESSAGES.image(1, "front", np.zeros((4, 5, 3), np.uint8))
    message.step = 14
    with pytest.raises(DatasetError, match="4x5 rgb8 with step 14 and 60 bytes; these do not fit"):
        frame_of(message, Messages.IMAGE)
    message.encoding = "16UC1"
    with pytest.raises(DatasetError, match="'16UC1' is not read; known encodings: rgb8"):
        frame_of(message, Messages.IMAGE)


def test_compressed_frames_are_unpacked():
    import io

    from PIL import Image

    frame = np.full((8, 10, 3), (200, 30, 90), np.uint8)
    packed = io.BytesIO()
    Image.fromarray(frame).save(packed, "PNG")
    kind = "sensor_msgs/msg/CompressedImage"
    header = MESSAGES.image(1, "front", frame).header
    message = STORE.types[kind](header, "png", np.frombuffer(packed.getvalue(), np.uint8))
    assert np.array_equal(frame_of(message, kind), frame)
    message.data = np.frombuffer(b"no picture", np.uint8)
    with pytest.raises(DatasetError, match=r"'png'.* is no readable JPEG or PNG"):
        frame_of(message, kind)


def test_paths_reach_numbers_and_nothing_else():
    pose = MESSAGES.pose(5, np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 0.0, 1.0]))
    assert numbers_at(pose, ["pose.position.y", "pose.orientation"], ()).tolist() == [2.0, 0.0, 0.0, 0.0, 1.0]
    with pytest.raises(DatasetError, match="Unknown field 'positon': did you mean 'position'"):
        numbers_at(pose, ["pose.positon"], ())
    with pytest.raises(InputError, match="no path of names"):
        numbers_at(pose, ["pose.__class__"], ())
    with pytest.raises(DatasetError, match="holds str; expected numbers"):
        numbers_at(pose, ["header.frame_id"], ())


# --- mappings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"rate": 20}, r"mapping\.yaml: Unknown key 'rate': did you mean 'rate_hz'"),
        ({"observations": {"joint_positon": "/x"}}, "Unknown observation key 'joint_positon': did you mean"),
        ({"observations": {"joint_position": {"topic": "/x", "unit": "deg"}}}, "'unit': did you mean 'units'"),
        ({"observations": {"joint_position": {"topic": "/x", "units": "degree"}}}, "Unknown unit 'degree'"),
        ({"observations": {"joint_position": {"field": "position"}}}, "'topic' is missing"),
        ({"observations": {}}, "names no observations"),
        ({"rate_hz": "fast"}, "expected a number, got 'fast'"),
        ({"rate_hz": 0}, "rate_hz is 0"),
        ({"episodes": {"by": "moon"}}, "Unknown way to split 'moon'"),
        ({"episodes": {"by": "flag"}}, "needs the topic"),
        ({"on_gap": "ignore"}, "Unknown on_gap 'ignore'"),
        ({"action": {"requested": {"topic": "/x", "field": "a..b"}}}, "no path of names"),
    ],
)
def test_a_wrong_mapping_says_where(tmp_path, parts, message):
    with pytest.raises(InputError, match=message):
        load_mapping(mapping_file(tmp_path, **parts))


def test_a_topic_that_is_not_there_is_named(tmp_path):
    bag = steady(tmp_path / "bag").save()
    mapping = mapping_file(tmp_path, observations={"joint_position": "/joint_state"})
    with pytest.raises(DatasetError, match="Unknown topic '/joint_state': did you mean '/joint_states'"):
        read(bag, Rosbag2Import(mapping=mapping))


def test_the_skeleton_is_what_happens_without_a_mapping(tmp_path):
    path = write_rosbag2_sample(tmp_path)
    (tmp_path / "mapping.yaml").write_text(describe_bag(path))
    assert as_text(load_mapping(tmp_path / "mapping.yaml")) in describe_bag(path)
    with_file = list(read(path, Rosbag2Import(mapping=tmp_path / "mapping.yaml")).episodes)
    without = list(read(path, Rosbag2Import()).episodes)
    assert len(without) == 3
    for one, other in zip(with_file, without, strict=True):
        assert_same(one, other)
    assert "#   /joint_states: sensor_msgs/msg/JointState, 7 messages, 19.7 Hz, header stamps" in describe_bag(path)


def test_usual_topics_of_other_robots_are_guessed(tmp_path):
    recorder = steady(tmp_path / "bag")
    turn = np.array([0.0, 0.0, 0.0, 1.0])
    for number in range(100):
        stamp = 10**9 + number * 10 * MS
        recorder.add("/ee_pose", Messages.POSE, MESSAGES.pose(stamp, np.ones(3) * number, turn), stamp)
        recorder.add("/cup", Messages.POSE, MESSAGES.pose(stamp, np.zeros(3), turn), stamp)
        if number % 10 == 0:
            frame = np.full((4, 6, 3), number, np.uint8)
            recorder.add("/wrist_cam/color/image_raw", Messages.IMAGE, MESSAGES.image(stamp, "wrist", frame), stamp)
    foreign = read(recorder.save(), Rosbag2Import(robot="ur5e", task="pour", rate_hz=10.0))
    (episode,) = foreign.episodes
    assert (episode.info.robot, episode.info.task, episode.info.rate_hz) == ("ur5e", "pour", 10.0)
    assert set(episode.observations) == {
        *("joint_position", "tool_position", "tool_quaternion"),
        *("object_cup_position", "object_cup_quaternion", "image_wrist_cam"),
    }
    assert np.array_equal(episode.observations["image_wrist_cam"][:, 0, 0, 0], np.arange(len(episode)) * 10)
    assert np.allclose(episode.observations["tool_position"][:, 0], np.arange(len(episode)) * 10)


def test_a_mapping_is_the_same_after_writing_it_down(tmp_path):
    mapping = mapping_from(
        {
            "robot": "arm",
            "rate_hz": 12.5,
            "observations": {"joint_position": {"topic": "/j", "joints": ["a", "b"], "units": "deg", "max_age_s": 1}},
            "action": {"requested": "/c", "low": [-1, -1], "high": [1, 1], "name": "joint_delta"},
            "episodes": {"by": "gaps", "longer_than_s": 3},
            "success": "/done",
        }
    )
    (tmp_path / "m.yaml").write_text(as_text(mapping))
    assert load_mapping(tmp_path / "m.yaml") == mapping


def test_the_page_s_mapping_is_one():
    page = (ROOT / "docs/how-to/import-a-bag.md").read_text()
    (shown,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    mapping = mapping_from(yaml.safe_load(shown))
    assert mapping.observations["gripper_position"].joints == ("left_finger",)
    assert mapping.episodes.by == "flag"


# --- files that are none ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.7])
def test_a_bag_cut_short_is_named(tmp_path, storage, part):
    path = write_rosbag2_sample(tmp_path, storage=storage)
    bag = sorted(path.iterdir())[0]
    data = next(bag.glob("*.mcap" if storage == "mcap" else "*.db3"))
    whole = data.read_bytes()
    data.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(DatasetError, match=bag.name):
        list(read(path, Rosbag2Import()).episodes)


@pytest.mark.parametrize("text", ["", "[]", "{", "rosbag2_bagfile_information: 3", "\x00"])
def test_metadata_that_is_none_is_named(tmp_path, text):
    bag = sorted(write_rosbag2_sample(tmp_path).iterdir())[0]
    (bag / "metadata.yaml").write_text(text)
    with pytest.raises(DatasetError, match=bag.name):
        read(bag, Rosbag2Import())


def test_metadata_cannot_lead_out_of_the_bag(tmp_path):
    path = write_rosbag2_sample(tmp_path)
    first, second, _ = sorted(path.iterdir())
    text = (first / "metadata.yaml").read_text()
    data = next(second.glob("*.mcap"))
    (first / "metadata.yaml").write_text(text.replace(next(first.glob("*.mcap")).name, f"../{second.name}/{data.name}"))
    with pytest.raises(DatasetError, match="files are missing"):
        read(first, Rosbag2Import())


def test_links_are_refused(tmp_path):
    bag = sorted(write_rosbag2_sample(tmp_path).iterdir())[0]
    data = next(bag.glob("*.mcap"))
    data.rename(tmp_path / "elsewhere.mcap")
    data.symlink_to(tmp_path / "elsewhere.mcap")
    with pytest.raises(DatasetError, match="is a link"):
        read(bag, Rosbag2Import())


def test_what_is_no_bag_is_said(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(DatasetError, match=r"is no bag: it has no metadata\.yaml.*ros2 bag reindex"):
        read(tmp_path / "folder", Rosbag2Import())
    with pytest.raises(DatasetError, match="does not exist"):
        read(tmp_path / "nothing", Rosbag2Import())


def test_bags_of_nothing_usual_list_what_they_have(tmp_path):
    recorder = Recorder(tmp_path / "bag")
    recorder.add("/rosout_text", Messages.TEXT, MESSAGES.text("hello"), 10**9)
    with pytest.raises(DatasetError, match=r"none of its topics.*/rosout_text \(std_msgs/msg/String\)"):
        read(recorder.save(), Rosbag2Import())


# --- what a user did not mean ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["_0.mcap", "_0.db3", "_0.mcap.zstd"])
def test_a_bag_whose_recording_was_killed_is_named_and_not_passed_over(tmp_path, ending):
    """Incident: of a folder of bags, the one that a killed `ros2 bag record` left was missing without a word."""
    bags = tmp_path / "bags"
    bags.mkdir()
    steady(bags / "monday").save()
    (bags / "tuesday").mkdir()
    (bags / "tuesday" / f"tuesday{ending}").write_bytes(b"cut off")
    (bags / "notes").mkdir()
    (bags / "notes" / "readme.txt").write_text("no bag")
    foreign = read(bags, Rosbag2Import(mapping=mapping_file(tmp_path)))
    assert foreign.count == 1
    (note,) = [note for note in foreign.notes if "was left out. It is" in note]
    assert str(bags / "tuesday") in note
    assert "no metadata.yaml" in note
    assert f"`ros2 bag reindex {bags / 'tuesday'}`" in note


def test_a_folder_of_nothing_but_killed_recordings_says_what_to_do(tmp_path):
    (tmp_path / "tuesday").mkdir()
    (tmp_path / "tuesday" / "tuesday_0.mcap").write_bytes(b"cut off")
    with pytest.raises(DatasetError, match=r"is no bag.*`ros2 bag reindex tuesday`"):
        read(tmp_path, Rosbag2Import())


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    """Incident: a bag of another user's, which may not be listed, was missing without a word."""
    steady(tmp_path / "monday").save()
    (tmp_path / "private").mkdir()
    listed = Path.iterdir

    def iterdir(path):  # the tests may run as root, whom no folder refuses
        if path.name == "private":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    foreign = read(tmp_path, Rosbag2Import())
    assert any(
        "private was left out. It is a folder that cannot be read (Permission denied)" in n for n in foreign.notes
    )


@pytest.mark.parametrize(
    ("joints", "said"),
    [
        (["a", "elbwo"], r"/joint_states, for 'joint_position'.*elbwo.*a.*elbow"),
        (["nothing_like_it"], r"nothing_like_it.*a.*elbow"),
    ],
)
def test_a_joint_that_no_message_has_is_named_with_those_there_are(tmp_path, joints, said):
    """Incident: a slip in a joint's name was reported as a topic without messages."""
    recorder = Recorder(tmp_path / "bag")
    for number in range(40):
        recorder.joints(10**9 + number * 10 * MS, [0.0, 1.0], names=("a", "elbow"))
    mapping = mapping_file(
        tmp_path, observations={"joint_position": {"topic": "/joint_states", "joints": joints}}, action=None
    )
    with pytest.raises(DatasetError, match=said):
        read(recorder.save(), Rosbag2Import(mapping=mapping))


def test_joints_that_come_in_several_messages_are_not_called_missing(tmp_path):
    recorder = Recorder(tmp_path / "bag")
    for number in range(40):
        recorder.joints(10**9 + number * 10 * MS, [0.0, 1.0], names=(("a", "b"), ("c", "d"))[number % 2])
    source = {"topic": "/joint_states", "joints": ["a", "c"]}
    mapping = mapping_file(tmp_path, observations={"joint_position": source}, action=None)
    with pytest.raises(DatasetError, match="no message with all of the joints a, c"):
        read(recorder.save(), Rosbag2Import(mapping=mapping))
