"""`dataset check`: sound data passes, and every planted defect is found, in the episode it was planted in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import datasets_defects as planted
import numpy as np
import pytest
from datasets_builders import SPEC, info, make_dataset, make_episode, with_stream, with_tool
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.datasets.checking.check_config import CheckConfig
from understudy.datasets.checking.checks import check_dataset, compared, judge
from understudy.datasets.checking.verdicts import EpisodeVerdict
from understudy.datasets.episode import Episode, write_episode
from understudy.datasets.store import Dataset
from understudy.errors import InputError

Spoil = Callable[[Episode], Episode]
COUNT = 8


def changed(episode: Episode, key: str, values: np.ndarray) -> Episode:
    return dataclasses.replace(episode, observations={**episode.observations, key: values})


def equipped(episode: Episode) -> Episode:
    """With everything that checks look at: cameras are there already."""
    return with_stream(with_tool(episode))


def sped_up(e: Episode) -> Episode:
    return dataclasses.replace(e, tick_ns=e.tick_ns // 2, streams={})


def jittering(e: Episode) -> Episode:
    rng = np.random.default_rng(0)
    return dataclasses.replace(e, tick_ns=e.tick_ns + rng.integers(-18_000_000, 18_000_000, len(e)))


def with_gap(e: Episode) -> Episode:
    late = np.where(np.arange(len(e)) > 30, 900_000_000, 0)
    return dataclasses.replace(e, tick_ns=e.tick_ns + late)


def stale(e: Episode) -> Episode:
    ages = np.full(len(e), 0.004, np.float32)
    ages[20:44] += np.arange(24) * 0.05
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
    joints = planted.whole(e, "joint_position").copy()
    joints[:, 1] = joints[0, 1]
    return planted.with_whole(e, joint_position=joints)


def black_camera(e: Episode) -> Episode:
    return changed(e, "image_front", np.zeros_like(e.observations["image_front"]))


def at_limits(e: Episode) -> Episode:
    return dataclasses.replace(e, requested=np.where(e.sent > 0, 0.1, -0.1))


def jumping(e: Episode) -> Episode:
    values = e.observations["joint_position"].copy()
    values[25:] += 1.5
    return changed(e, "joint_position", values)


def negative_ages(e: Episode) -> Episode:
    return dataclasses.replace(e, ages_s={**e.ages_s, "goal_position": np.full(len(e), -0.02, np.float32)})


def source_clock_reset(e: Episode) -> Episode:
    """From a tick on the samples of a source are stamped 0.8 s earlier, so they look older."""
    ages = e.ages_s["goal_position"].copy()
    ages[30:] += 0.8
    return dataclasses.replace(e, ages_s={**e.ages_s, "goal_position": ages})


def failed(e: Episode) -> Episode:
    return dataclasses.replace(e, info=info(success=False))


def other_rate(e: Episode) -> Episode:
    return dataclasses.replace(e, info=info(rate_hz=10.0), tick_ns=e.tick_ns * 2, streams={})


def other_spec(e: Episode) -> Episode:
    return dataclasses.replace(e, info=info(action_spec=dataclasses.replace(SPEC, high=(0.2, 0.2))))


def stream_elsewhere(e: Episode) -> Episode:
    stream = e.streams["joint_position"]
    away = dataclasses.replace(stream, stamps_ns=stream.stamps_ns + 3600 * 10**9)
    return dataclasses.replace(e, streams={"joint_position": away})


def same_actions(e: Episode) -> Episode:
    """The third episode's actions, played from another start."""
    third = make_episode(55 + 3 * 2, seed=2, images=True)
    elsewhere = planted.whole(third, "joint_position") + np.float32(0.05)
    return equipped(planted.with_whole(third, joint_position=elsewhere))


DEFECTS: dict[str, tuple[Spoil, str, str, str]] = {
    "fast": (sped_up, "fail", "rate", "40.0 Hz, declared 20 Hz"),
    "slow": (planted.slower_ticks, "fail", "rate", "ticks come at 14.0 Hz, declared 20 Hz"),
    "slow half": (lambda e: planted.slower_ticks(e, first=0.5), "fail", "rate", "14.0 Hz for a second or more"),
    "lost rows": (planted.lost_rows, "fail", "rate", "for a second or more"),
    "slow camera": (planted.slower_camera, "fail", "rate", "frames of image_front brings 0.7 new samples a tick"),
    "slow source": (lambda e: planted.older_samples(e, "goal_position"), "fail", "rate", "goal_position brings 0.7"),
    "slow stream": (
        lambda e: planted.slower_stream(e, "joint_position"),
        "fail",
        "rate",
        "stream joint_position",
    ),
    "slow half of a stream": (
        lambda e: planted.slower_stream(e, "joint_position", first=0.5),
        "fail",
        "rate",
        "stream joint_position",
    ),
    "jitter": (jittering, "warn", "jitter", "period varies"),
    "gap": (with_gap, "fail", "gap", "a gap of 0.95 s after step 30"),
    "stale": (stale, "fail", "stale", "goal_position is up to 1.15 s old"),
    "ages below zero": (negative_ages, "fail", "clock", "goal_position has a negative age"),
    "clock of a source": (
        source_clock_reset,
        "fail",
        "clock",
        "goal_position go back by 0.75 s after step 29",
    ),
    "clock of a stream": (
        lambda e: planted.stream_clock_reset(e, "joint_position"),
        "fail",
        "clock",
        "stamps of stream joint_position go back by 29.99 s",
    ),
    "other clock": (stream_elsewhere, "fail", "clock", "away from the ticks: another clock"),
    "idle": (idle, "fail", "idle", "100% of the ticks"),
    "idle stretch": (planted.idle_stretch, "fail", "idle", "nothing happens for 2.5 s from step 15 on"),
    "pause": (lambda e: planted.idle_stretch(e, 1.5), "warn", "idle", "nothing happens for 1.5 s"),
    "frozen": (frozen, "fail", "frozen", "joint_position repeats"),
    "dead joint": (dead_joint, "fail", "frozen", "joint 'b' is commanded and its reading never changes"),
    "frozen camera": (planted.frozen_camera, "fail", "frozen", "image_front shows one frame for 0.5 s from step 12 on"),
    "black camera": (black_camera, "fail", "frozen", "image_front is black"),
    "at its limits": (at_limits, "warn", "limits", "at or beyond a bound at 100%"),
    "altered": (at_limits, "warn", "altered", "differs from what was asked"),
    "requested beyond": (planted.requested_beyond, "fail", "limits", "requested action 'a' is 0.13 rad at step 10"),
    "sent beyond": (planted.sent_beyond, "fail", "limits", "sent action 'a' is 0.12 rad at step 12"),
    "jump": (jumping, "fail", "jump", "joint 0 jumps at step 24"),
    "small jump": (planted.joint_jump, "fail", "jump", "its velocity reading tells"),
    "offset": (planted.joint_offset, "fail", "offset", "joint 1 reads +10.0 deg off"),
    "offset of the first": (
        lambda e: planted.joint_offset(e, 0, -10.0),
        "fail",
        "offset",
        "joint 0 reads -10.0",
    ),
    "swapped positions": (planted.swapped_positions, "fail", "columns", "between joint_position and joint_velocity"),
    "swapped readings": (planted.swapped_readings, "fail", "columns", "of the measured action are each other's"),
    "swapped actions": (planted.swapped_actions, "fail", "columns", "'a' and 'b' have changed places"),
    "late actions": (planted.actions_late, "fail", "alignment", "1.0 ticks before it was sent"),
    "early actions": (
        lambda e: planted.actions_late(e, -1),
        "fail",
        "alignment",
        "1.0 ticks, in the other",
    ),
    "shifted channel": (planted.measured_shifted, "fail", "alignment", "off the observations' motion"),
    "late observations": (planted.observations_late, "fail", "alignment", "off the observations' motion"),
    "late requests": (
        lambda e: dataclasses.replace(e, requested=np.roll(e.requested, 1, axis=0)),
        "fail",
        "alignment",
        "1.0 ticks before they were requested",
    ),
    "failed": (failed, "warn", "success", "marked as failed"),
    "other rate": (other_rate, "fail", "layout", "10 Hz"),
    "other spec": (other_spec, "fail", "layout", "high=(0.2, 0.2)"),
    "long": (lambda e: equipped(make_episode(900, seed=99, images=True)), "warn", "outlier length", "900 steps"),
    "short": (lambda e: equipped(make_episode(6, seed=99, images=True)), "warn", "short", "6 steps only"),
    "same actions": (same_actions, "warn", "duplicate", "what came of them is not"),
}


CONFIG = CheckConfig()
ROWS = 120


def take(seed: int) -> Episode:
    """A sound episode with a camera, a tool pose and a stream."""
    return equipped(make_episode(55 + 3 * (seed % 5), seed=seed, images=True))


@pytest.fixture(scope="module")
def sound() -> list[EpisodeVerdict]:
    """Eight sound episodes, each judged by itself."""
    return [judge(f"e{seed}", Path(f"e{seed}.hdf5"), take(seed), CONFIG, ROWS) for seed in range(COUNT)]


def check_with(sound: list[EpisodeVerdict], spoilt: Episode) -> tuple[EpisodeVerdict, ...]:
    """The verdicts on the sound episodes, and on the spoilt one after them."""
    return compared([*sound, judge("spoilt", Path("spoilt.hdf5"), spoilt, CONFIG, ROWS)], CONFIG)


def test_sound_episodes_pass_without_a_word(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "demos", robot="two_joint", task="reach")
    for seed in range(COUNT):
        dataset.add(take(seed))
    report = check_dataset(dataset)
    assert [verdict.findings for verdict in report.episodes] == [()] * COUNT
    assert report.findings == ()
    assert report.trainable


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_an_arm_that_always_follows_late_is_no_defect(tmp_path: Path, lag: int) -> None:
    report = check_dataset(make_dataset(tmp_path / "demos", 6, lag=lag))
    assert report.trainable
    assert {verdict.measures.lag_ticks for verdict in report.episodes} == {lag}


@pytest.mark.parametrize("name", DEFECTS)
def test_planted_defects_are_found_and_nothing_else(sound: list[EpisodeVerdict], name: str) -> None:
    spoil, level, check, words = DEFECTS[name]
    *others, verdict = check_with(sound, spoil(equipped(make_episode(60, seed=50, images=True))))
    found = verdict.findings
    assert any(f.level == level and f.check == check and words in f.text for f in found), found
    assert verdict.level == level
    assert [other.findings for other in others] == [()] * COUNT


@pytest.mark.parametrize(
    "change", [lambda e: e, planted.relabelled, planted.restamped], ids=["exact", "label", "stamps"]
)
def test_duplicates_are_found(sound: list[EpisodeVerdict], change: Spoil) -> None:
    *others, verdict = check_with(sound, change(take(2)))
    assert [finding.check for finding in verdict.findings if finding.level == "fail"] == ["duplicate"]
    assert "its actions and observations are those of e2" in verdict.findings[0].text
    assert [other.findings for other in others] == [()] * COUNT


@pytest.mark.parametrize("rows", [slice(0, -1), slice(1, None), slice(20, None), slice(5, 40)])
def test_a_copy_that_was_cut_is_found(sound: list[EpisodeVerdict], rows: slice) -> None:
    """Incident: a copy without its first or last step passed, since only episodes of one length were compared."""
    whole = take(2)
    cut = planted.taken(whole, np.arange(len(whole))[rows])
    *others, verdict = check_with(sound, cut)
    told = [f.text for f in verdict.findings if (f.level, f.check) == ("fail", "duplicate")]
    assert len(told) == 1
    assert "are those of e2: a copy that was cut" in told[0]
    assert "duplicate" not in {finding.check for other in others for finding in other.findings}


GRIPPED = dataclasses.replace(
    SPEC, labels=(*SPEC.labels, "gripper"), low=(*SPEC.low, 0.0), high=(*SPEC.high, 0.08), units=(*SPEC.units, "m")
)


def gripping(frames: Callable[[int], int]) -> Episode:
    """The arm rests, noise-free, and only its gripper closes; the camera shows frame `frames(step)` at every step."""
    e = make_episode(60, seed=3, images=True)
    grip = np.clip(0.08 - 0.004 * np.maximum(np.arange(60) - 15, 0), 0.0, 0.08)
    still = np.hstack([np.zeros((60, 2)), grip[:, None]])
    shown = e.observations["image_front"][[frames(step) for step in range(60)]]
    changed_info = dataclasses.replace(e.info, action_spec=GRIPPED)
    return dataclasses.replace(
        changed(e, "image_front", shown), info=changed_info, requested=still, sent=still, measured=still
    )


def test_a_camera_frozen_while_only_the_gripper_moves_is_found() -> None:
    """Incident: half a second of one frame passed, since only the arm's motion was counted."""
    sound = judge("e", Path("e"), gripping(lambda step: min(max(step, 15), 35)), CONFIG)
    assert "frozen" not in {finding.check for finding in sound.findings}
    frozen = judge(
        "e", Path("e"), gripping(lambda step: 20 if step in range(20, 31) else min(max(step, 15), 35)), CONFIG
    )
    told = [finding for finding in frozen.findings if finding.check == "frozen"]
    assert "image_front shows one frame for 0.6 s from step 20 on, while arm or gripper move" in told[0].text


def starting(joints: list[float], seed: int) -> Episode:
    """An episode whose joints start there; it has no tool pose that could tell an offset."""
    e = make_episode(60, seed=seed)
    moved = planted.whole(e, "joint_position")
    return planted.with_whole(e, joint_position=moved - moved[0] + np.array(joints))


def started(odd: list[float], spread: float, count: int = COUNT) -> list[str]:
    """What is said of an episode that starts at `odd` where `count` others start within `spread` of zero."""
    places = spread * (np.random.default_rng(4).permuted(np.linspace(-1, 1, count)[:, None].repeat(2, 1), axis=0))
    takes = [starting(place.tolist(), seed) for seed, place in enumerate(places)]
    verdicts = [judge(str(i), Path("x"), e, CONFIG) for i, e in enumerate([*takes, starting(odd, 50)])]
    *others, last = compared(verdicts, CONFIG)
    assert [other.findings for other in others] == [()] * count
    return [f"{f.level} {f.check}: {f.text}" for f in last.findings]


def test_an_offset_that_the_tool_pose_shares_shows_at_a_start_that_others_agree_on() -> None:
    """Incident: 10 degrees off at the wrist, with the tool pose computed from the same readings, only warned."""
    (told,) = started([0.0, 0.175], 0.02)
    assert told.startswith("fail offset: joint_position 1 is 0.175, in the others -0.020 to 0.020")
    assert "reads some +10 deg off" in told
    assert [t.split(":")[0] for t in started([0.17, 0.175], 0.02)] == ["warn outlier start"]  # both: it was moved
    assert [t.split(":")[0] for t in started([0.0, 0.16], 0.045)] == ["warn outlier start"]  # agree less closely
    assert started([0.0, 0.175], 0.15) == []


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(5, 9))
def test_few_sound_starts_are_rarely_remarked_on(seed: int, count: int) -> None:
    """Incident: with one of eight files unreadable a sound episode got `outlier start`: the range of few is narrow."""
    from understudy.datasets.checking.consistency import _by_chance, _outside_the_others

    rng = np.random.default_rng(seed)
    seen = 0
    for _ in range(40):
        starts = rng.uniform(-1, 1, (count, 10))
        limit = _by_chance(count - 1, 10)
        worst = [np.max(np.divide(*_outside_the_others(starts, index))) for index in range(count)]
        seen += max(worst) > limit
    assert seen <= 6  # of 40 datasets; without the allowance most of them


def test_each_copy_but_the_first_is_a_duplicate(sound: list[EpisodeVerdict]) -> None:
    copies = [judge(f"copy{i}", Path("x"), planted.restamped(take(2)), CONFIG, ROWS) for i in range(3)]
    levels = {verdict.id: verdict.level for verdict in compared([*sound, *copies], CONFIG)}
    assert {id for id, level in levels.items() if level == "fail"} == {"copy0", "copy1", "copy2"}


def test_columns_swapped_in_all_episodes_are_found(tmp_path: Path) -> None:
    """Velocities disagree with positions in each of them, whatever the others say."""
    dataset = Dataset.create(tmp_path / "demos", robot="two_joint", task="reach")
    for seed in range(5):
        dataset.add(planted.swapped_positions(make_episode(60, seed=seed)))
    report = check_dataset(dataset)
    assert all("columns" in {finding.check for finding in verdict.findings} for verdict in report.episodes)


def test_a_channel_shifted_in_all_episodes_is_found(tmp_path: Path) -> None:
    """An effect before its cause is impossible, in one episode and in all."""
    dataset = Dataset.create(tmp_path / "demos", robot="two_joint", task="reach")
    for seed in range(5):
        dataset.add(planted.actions_late(make_episode(60, seed=seed)))
    report = check_dataset(dataset)
    assert all("alignment" in {finding.check for finding in verdict.findings} for verdict in report.episodes)


def one_channel(e: Episode, lag: int) -> Episode:
    """As imported from a tool that keeps joint targets and nothing else of the actions; the arm follows late."""
    joints = planted.whole(e, "joint_position")[1:].astype(np.float64)
    targets = np.concatenate([joints[lag:], np.repeat(joints[-1:], lag, axis=0)]) + np.deg2rad(4.0)
    spec = dataclasses.replace(SPEC, name="joint_position", low=(-9.0, -9.0), high=(9.0, 9.0))
    absolute = dataclasses.replace(e.info, action_spec=spec)
    return dataclasses.replace(e, info=absolute, requested=targets, sent=targets, measured=targets)


def test_what_was_never_measured_is_not_held_against_an_import(tmp_path: Path) -> None:
    """Its arm sags and follows two ticks late, in every episode; one that does not is odd."""
    takes = [one_channel(make_episode(60 + seed, seed=seed), 2) for seed in range(COUNT)]
    judged = [judge(f"e{i}", Path("x"), e, CONFIG, ROWS) for i, e in enumerate(takes)]
    assert [verdict.findings for verdict in compared(judged, CONFIG)] == [()] * COUNT
    odd = judge("odd", Path("x"), one_channel(make_episode(70, seed=50), 1), CONFIG, ROWS)
    assert [f.check for f in compared([*judged, odd], CONFIG)[-1].findings] == ["alignment"]


def test_a_delay_that_was_drawn_is_no_shift(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "demos", robot="two_joint", task="reach")
    for seed in range(7):
        late = seed % 3
        drawn = {"action_delay_s": late * 0.05}
        dataset.add(make_episode(60 + seed, seed=seed, lag=late, randomization=drawn))
    assert check_dataset(dataset).trainable
    dataset.add(planted.actions_late(make_episode(80, seed=9, lag=2, randomization={"action_delay_s": 0.1})))
    assert [f.check for f in check_dataset(dataset).episodes[7].findings if f.level == "fail"] == ["alignment"]


def test_an_episode_that_starts_elsewhere_is_found(sound: list[EpisodeVerdict]) -> None:
    far = equipped(make_episode(60, seed=50, images=True))
    goal = far.observations["goal_position"] + np.float32(9.0)
    verdict = check_with(sound, changed(far, "goal_position", goal))[-1]
    told = [finding.text for finding in verdict.findings if finding.check == "outlier start"]
    assert "goal_position" in told[0]


def test_a_slow_camera_that_all_have_is_no_defect(tmp_path: Path) -> None:
    """A camera at half the control rate shows every frame twice."""
    dataset = Dataset.create(tmp_path / "demos", robot="two_joint", task="reach")
    for seed in range(6):
        episode = make_episode(60 + seed, seed=seed, images=True)
        halved = episode.observations["image_front"][np.arange(len(episode)) // 2 * 2]
        dataset.add(changed(episode, "image_front", halved))
    report = check_dataset(dataset)
    assert [verdict.findings for verdict in report.episodes] == [()] * 6


def test_nan_in_a_file_is_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign writer stored it, with a seal that is right."""
    dataset = make_dataset(tmp_path / "demos", 5)
    file = dataset.file(dataset.ids[2])
    good = dataset.read(dataset.ids[2])
    file.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(Episode, "__post_init__", lambda self: None)
        velocity = good.observations["joint_velocity"].copy()
        velocity[7, 0] = np.nan
        write_episode(file, changed(good, "joint_velocity", velocity))
    report = check_dataset(dataset)
    finding = report.episodes[2].findings[0]
    assert (finding.level, finding.check) == ("fail", "readable")
    assert "obs/joint_velocity has a value that is not finite at row 7" in finding.text
    assert str(file) in finding.text
    assert report.failing == (dataset.ids[2],)


def test_ticks_that_go_back_are_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(tmp_path / "demos", 5)
    file = dataset.file(dataset.ids[2])
    good = dataset.read(dataset.ids[2])
    file.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(Episode, "__post_init__", lambda self: None)
        ticks = good.tick_ns.copy()
        ticks[20:] -= 5 * 10**9
        write_episode(file, dataclasses.replace(good, tick_ns=ticks))
    finding = check_dataset(dataset).episodes[2].findings[0]
    assert (finding.level, finding.check) == ("fail", "readable")
    assert "row 20 does not come after row 19" in finding.text


def test_damage_is_found_and_the_rest_is_judged(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 5)
    file = dataset.file(dataset.ids[1])
    content = bytearray(file.read_bytes())
    content[-100] ^= 0xFF
    file.write_bytes(bytes(content))
    report = check_dataset(dataset)
    assert [verdict.level for verdict in report.episodes] == ["ok", "fail", "ok", "ok", "ok"]
    assert str(file) in report.episodes[1].findings[0].text


@settings(max_examples=25, deadline=None)
@given(joint=st.integers(0, 1), degrees=st.floats(6.0, 35.0), sign=st.sampled_from([-1, 1]), which=st.integers(0, 6))
def test_any_offset_is_found_where_it_is(joint: int, degrees: float, sign: int, which: int) -> None:
    """Whatever its size and wherever the arm starts: the joint and the degrees are named."""
    from understudy.datasets.checking.measures import measure
    from understudy.datasets.checking.tool_fit import tool_misfits

    config = CheckConfig()
    episodes = [with_tool(make_episode(60, seed=seed)) for seed in range(7)]
    episodes[which] = planted.joint_offset(episodes[which], joint, sign * degrees)
    rows = {str(i): measure(e, config).kinematic for i, e in enumerate(episodes)}
    found = dict(tool_misfits({id: row for id, row in rows.items() if row is not None}, config))
    assert set(found) == {str(which)}
    assert f"joint {joint} reads {sign * degrees:+.1f} deg off" in found[str(which)].text


def test_thresholds_are_checked() -> None:
    with pytest.raises(InputError, match=r"'rate_warn' is 0\.5, above the 0\.25 of 'rate_fail'"):
        CheckConfig(rate_warn=0.5)
    with pytest.raises(InputError, match="'frozen_s' must be a positive number, got -1"):
        CheckConfig(frozen_s=-1.0)
