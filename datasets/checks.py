"""May I train on this? Every episode gets a verdict, ok, warn or fail, with reasons and numbers.

Owns what counts as a defect and from where on (`CheckConfig`). An episode is measured alone (`measure`), judged alone,
and then against the rest. Nothing is changed; dropping is the reader's decision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.episode import Episode
from understudy.datasets.schema import is_image
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError

Vector = NDArray[np.float64]
Level = Literal["ok", "warn", "fail"]
LEVELS: tuple[Level, ...] = ("ok", "warn", "fail")


@dataclass(frozen=True)
class CheckConfig:
    """From where on something is worth a word (warn) or must not be trained on (fail)."""

    rate_warn: float = 0.05
    rate_fail: float = 0.25
    """Difference between the median tick period and the declared one, as a share of it."""
    jitter_warn: float = 0.2
    jitter_fail: float = 0.6
    """95th percentile of |period - declared|, as a share of the declared period."""
    gap_periods: float = 2.5
    """A pause between ticks of more than this many periods is a gap."""
    gap_fail_s: float = 0.5
    """A gap longer than this fails."""
    age_warn_periods: float = 3.0
    age_fail_s: float = 1.0
    """Observations older than this at their tick."""
    still: float = 0.02
    """Motion below this share of the largest step counts as none."""
    idle_warn: float = 0.5
    idle_fail: float = 0.95
    """Share of ticks at which nothing was asked for and nothing moved."""
    frozen_s: float = 0.4
    """A joint channel that repeats its value exactly for this long while commands move is frozen."""
    frozen_image_s: float = 1.0
    """A camera that repeats its frame exactly for this long while the arm moves is frozen."""
    bound_warn: float = 0.25
    """Share of ticks at which a requested number lies at or beyond its bound."""
    altered_warn: float = 0.5
    """Share of ticks at which what was sent differs from what was requested by over a tenth of the range."""
    speed_fail_rad_s: float = 10.0
    """No joint of these arms moves that fast: the measurement jumped."""
    lag_warn_ticks: int = 4
    """The arm follows what was sent this late."""
    short_steps: int = 10
    outlier: float = 6.0
    """Robust standard deviations from the median of the dataset (of the logarithm of lengths and the like)."""
    start_outlier: float = 1.0
    """How far outside the others an episode may start, in widths of their range."""


@dataclass(frozen=True)
class Finding:
    """One reason: how bad, which check, and a sentence with numbers."""

    level: Level
    check: str
    text: str


@dataclass(frozen=True)
class Measures:
    """The numbers of one episode that the comparison with the rest, the table and the picture need."""

    steps: int
    duration_s: float
    success: bool | None
    return_: float
    period_s: float
    jitter: float
    worst_age_s: float
    idle: float
    at_bound: float
    altered: float
    lag_ticks: int | None
    """How many ticks after being sent motion is measured; None where it cannot be told."""
    jerk: float
    """Root mean square of the joints' jerk, rad/s^3; 0 where there are no joints."""
    path: float
    """Length of the measured motion, in ranges of its action."""
    start: tuple[float, ...]
    """The first observation's joints (rad), then goals and objects (m)."""
    joint_low: tuple[float, ...]
    joint_high: tuple[float, ...]
    randomized: bool
    """Whether physics were drawn for it."""
    signature: str
    """SHA-256 of the requested actions."""
    layout: str
    """Robot, task, action spec, rate and observation shapes as one text: equal within a dataset."""


@dataclass(frozen=True)
class EpisodeVerdict:
    """What is to be said of one episode."""

    id: str
    file: Path
    findings: tuple[Finding, ...]
    measures: Measures | None
    """None where the file cannot be read."""

    @property
    def level(self) -> Level:
        """The worst of its findings."""
        return max((finding.level for finding in self.findings), key=LEVELS.index, default="ok")


@dataclass(frozen=True)
class Report:
    """What is to be said of a dataset."""

    path: Path
    episodes: tuple[EpisodeVerdict, ...]
    findings: tuple[Finding, ...] = field(default=())
    """About the dataset as a whole."""

    @property
    def trainable(self) -> bool:
        """Whether there are episodes and none of them, nor the whole, fails."""
        levels = [verdict.level for verdict in self.episodes] + [finding.level for finding in self.findings]
        return bool(self.episodes) and "fail" not in levels

    def count(self, level: Level) -> int:
        """How many episodes have this verdict."""
        return sum(verdict.level == level for verdict in self.episodes)


def check_dataset(
    dataset: Dataset, config: CheckConfig | None = None, progress: Callable[[int], None] | None = None
) -> Report:
    """Check every episode, alone and against the rest. `progress` is called with the count done."""
    config = config or CheckConfig()
    verdicts = []
    for index, id in enumerate(dataset.ids):
        verdicts.append(check_episode(dataset, id, config))
        if progress is not None:
            progress(index + 1)
    measured = {verdict.id: verdict.measures for verdict in verdicts if verdict.measures is not None}
    extra = _against_the_rest(measured, config)
    episodes = tuple(EpisodeVerdict(v.id, v.file, (*v.findings, *extra.get(v.id, ())), v.measures) for v in verdicts)
    return Report(dataset.path, episodes, tuple(_of_the_whole(dataset, measured)))


def check_episode(dataset: Dataset, id: str, config: CheckConfig) -> EpisodeVerdict:
    """Check one episode by itself; one that cannot be read is a verdict, not an error."""
    file = dataset.path / "episodes" / f"{id}.hdf5"
    try:
        episode = dataset.read(id)
    except DatasetError as error:
        return EpisodeVerdict(id, file, (Finding("fail", "readable", str(error)),), None)
    measures = measure(episode, config)
    findings = [finding for check in _CHECKS for finding in check(episode, measures, config)]
    return EpisodeVerdict(id, file, tuple(findings), measures)


# --- measuring ---------------------------------------------------------------------------------------------------


def measure(episode: Episode, config: CheckConfig) -> Measures:
    """All the numbers of one episode."""
    periods_s = _periods_s(episode)
    declared_s = 1.0 / episode.info.rate_hz
    joints = _whole(episode, "joint_position") if "joint_position" in episode.observations else np.zeros((2, 0))
    asked = motion(episode, episode.requested)
    moved = motion(episode, episode.measured)
    return Measures(
        steps=len(episode),
        duration_s=float(episode.tick_ns[-1] - episode.tick_ns[0]) * 1e-9 + declared_s,
        success=episode.info.success,
        return_=episode.return_,
        period_s=float(np.median(periods_s)) if len(periods_s) else declared_s,
        jitter=_percentile(np.abs(periods_s - declared_s) / declared_s, 95),
        worst_age_s=max((float(np.max(ages)) for ages in episode.ages_s.values()), default=0.0),
        idle=float(np.mean(np.all(np.abs(np.hstack([asked, moved])) < config.still, axis=1))),
        at_bound=float(np.mean(_at_bound(episode))),
        altered=float(np.mean(np.any(np.abs(asked - motion(episode, episode.sent)) > 0.2, axis=1))),
        lag_ticks=_lag(motion(episode, episode.sent), moved),
        jerk=_jerk(joints, declared_s),
        path=float(np.sum(np.linalg.norm(moved, axis=1))),
        start=_start(episode),
        joint_low=tuple(np.min(joints, axis=0).tolist()),
        joint_high=tuple(np.max(joints, axis=0).tolist()),
        randomized=bool(episode.info.randomization),
        signature=hashlib.sha256(np.ascontiguousarray(episode.requested).tobytes()).hexdigest(),
        layout=_layout(episode),
    )


def motion(episode: Episode, channel: Vector) -> Vector:
    """What a channel (N, A) moves, each number divided by its largest step: (N, M), the gripper left out.

    Positions are turned into steps; the first is zero.
    """
    spec = episode.info.action_spec
    index = [i for i, label in enumerate(spec.labels) if label != "gripper"]
    scale = np.maximum(np.abs(spec.low), np.abs(spec.high))[index]
    values = np.asarray(channel, np.float64)[:, index]
    if spec.name == "joint_position":
        # a step of a tenth of a radian is as large as those of joint_delta
        return np.diff(values, axis=0, prepend=values[:1]) / 0.1
    return np.asarray(values / scale)


def _periods_s(episode: Episode) -> Vector:
    return np.diff(episode.tick_ns).astype(np.float64) * 1e-9


def _whole(episode: Episode, key: str) -> Vector:
    """An observation with its final row: (N + 1, ...)."""
    return np.concatenate([episode.observations[key], episode.final_observation[key][None]]).astype(np.float64)


def _at_bound(episode: Episode) -> NDArray[np.bool_]:
    """(N,) whether any number but the gripper's lies at or beyond its bound."""
    spec = episode.info.action_spec
    index = [i for i, label in enumerate(spec.labels) if label != "gripper"]
    low, high = np.asarray(spec.low)[index], np.asarray(spec.high)[index]
    asked = episode.requested[:, index]
    slack = 1e-6 * (high - low)
    return np.asarray(np.any((asked <= low + slack) | (asked >= high - slack), axis=1))


def _lag(sent: Vector, moved: Vector, most: int = 6) -> int | None:
    """Ticks by which `moved` follows `sent`: the shift with the smallest difference, if it is clearly the smallest."""
    if len(sent) < 4 * most or float(np.std(sent)) < 0.01:
        return None
    middle = slice(most, len(sent) - most)
    shifts = range(-most, most + 1)
    errors = np.array([np.mean((sent[middle] - moved[middle.start + s : middle.stop + s]) ** 2) for s in shifts])
    best = int(np.argmin(errors))
    beside = np.delete(errors, best)
    return shifts[best] if errors[best] < 0.9 * float(np.min(beside)) else None


def _jerk(joints: Vector, period_s: float) -> float:
    if len(joints) < 4 or joints.shape[1] == 0:
        return 0.0
    return float(np.sqrt(np.mean((np.diff(joints, n=3, axis=0) / period_s**3) ** 2)))


def _start(episode: Episode) -> tuple[float, ...]:
    keys = [key for key in ("joint_position",) if key in episode.observations]
    keys += sorted(
        key for key in episode.observations if key.startswith(("goal_", "object_")) and key.endswith("_position")
    )
    return tuple(float(number) for key in keys for number in np.ravel(episode.observations[key][0]))


def _layout(episode: Episode) -> str:
    info = episode.info
    shapes = {key: np.shape(value) for key, value in sorted(episode.final_observation.items())}
    return f"robot {info.robot}, task {info.task}, {info.rate_hz:g} Hz, {info.actions} {info.action_spec}, {shapes}"


def _percentile(values: Vector, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else 0.0


# --- one episode by itself ---------------------------------------------------------------------------------------


def _graded(value: float, warn: float, fail: float) -> Level | None:
    if value > fail:
        return "fail"
    return "warn" if value > warn else None


def _timing(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    declared_s = 1.0 / episode.info.rate_hz
    off = abs(measures.period_s - declared_s) / declared_s
    if level := _graded(off, config.rate_warn, config.rate_fail):
        yield Finding(
            level, "rate", f"ticks come at {1 / measures.period_s:.1f} Hz, declared {episode.info.rate_hz:g} Hz"
        )
    if level := _graded(measures.jitter, config.jitter_warn, config.jitter_fail):
        yield Finding(level, "jitter", f"the tick period varies by {measures.jitter:.0%} (95th percentile)")
    periods_s = _periods_s(episode)
    gaps = np.flatnonzero(periods_s > config.gap_periods * declared_s)
    if len(gaps):
        worst = int(gaps[np.argmax(periods_s[gaps])])
        level = "fail" if periods_s[worst] > config.gap_fail_s else "warn"
        yield Finding(level, "gap", f"{len(gaps)} gaps, the longest {periods_s[worst]:.2f} s after step {worst}")


def _staleness(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    warn_s = config.age_warn_periods / episode.info.rate_hz
    for key, ages in episode.ages_s.items():
        worst = int(np.argmax(ages))
        if level := _graded(float(ages[worst]), warn_s, max(warn_s, config.age_fail_s)):
            share = float(np.mean(ages > warn_s))
            text = f"{key} is up to {ages[worst]:.2f} s old (step {worst}), late at {share:.0%} of the ticks"
            yield Finding(level, "stale", text)


def _idleness(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    if level := _graded(measures.idle, config.idle_warn, config.idle_fail):
        yield Finding(level, "idle", f"nothing happens at {measures.idle:.0%} of the ticks")
    if len(episode) < config.short_steps:
        yield Finding("warn", "short", f"{len(episode)} steps only")
    if episode.info.success is False:
        yield Finding("warn", "success", "marked as failed")


def _frozen_joints(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    sent = motion(episode, episode.sent)
    moving = np.any(np.abs(sent) > 2 * config.still, axis=1)
    needed = max(3, round(config.frozen_s * episode.info.rate_hz))
    for key in ("joint_position", "joint_velocity", "tool_position"):
        if key not in episode.observations:
            continue
        same = np.all(np.diff(_whole(episode, key), axis=0) == 0.0, axis=1)
        start, length = _longest_run(same & moving)
        if length >= needed:
            text = f"{key} repeats its value for {length} ticks from step {start} while commands move"
            yield Finding("fail", "frozen", text)
    yield from _dead_joints(episode, config)


def _dead_joints(episode: Episode, config: CheckConfig) -> Iterator[Finding]:
    """A single joint whose reading never changes at all while its own command does (joint spaces only)."""
    spec = episode.info.action_spec
    if "joint_position" not in episode.observations or not spec.name.startswith("joint_"):
        return
    joints = _whole(episode, "joint_position")
    sent = motion(episode, episode.sent)
    if joints.shape[1] != sent.shape[1]:
        return
    for index in range(joints.shape[1]):
        commanded = float(np.max(np.abs(sent[:, index]))) > 2 * config.still
        if len(episode) > 2 and commanded and np.all(joints[:, index] == joints[0, index]):
            text = f"joint {spec.labels[index]!r} is commanded and its reading never changes"
            yield Finding("fail", "frozen", text)


def _frozen_images(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    moving = np.any(np.abs(motion(episode, episode.measured)) > 2 * config.still, axis=1)[:-1]
    needed = max(3, round(config.frozen_image_s * episode.info.rate_hz))
    for key, frames in episode.observations.items():
        if not is_image(key):
            continue
        if not np.any(frames):
            yield Finding("fail", "frozen", f"{key} is black throughout")
            continue
        same = np.array([np.array_equal(frames[k], frames[k + 1]) for k in range(len(frames) - 1)], bool)
        start, length = _longest_run(same & moving)
        if length >= needed:
            yield Finding(
                "fail", "frozen", f"{key} shows one frame for {length} ticks from step {start} while the arm moves"
            )


def _longest_run(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """Start and length of the longest run of True."""
    best, start, length = 0, 0, 0
    for index, flag in enumerate(flags):
        length = length + 1 if flag else 0
        if length > best:
            best, start = length, index - length + 1
    return start, best


def _limits(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    if measures.at_bound > config.bound_warn:
        text = f"what was asked for lies at or beyond a bound at {measures.at_bound:.0%} of the ticks"
        yield Finding("warn", "limits", text)
    if measures.altered > config.altered_warn:
        yield Finding(
            "warn", "altered", f"what was sent differs from what was asked for at {measures.altered:.0%} of the ticks"
        )


def _jumps(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    if "joint_position" not in episode.observations:
        return
    speed = np.abs(np.diff(_whole(episode, "joint_position"), axis=0)) * episode.info.rate_hz
    if speed.size and float(np.max(speed)) > config.speed_fail_rad_s:
        row, joint = np.unravel_index(int(np.argmax(speed)), speed.shape)
        yield Finding(
            "fail", "jump", f"joint {joint} jumps at step {row}: {speed[row, joint]:.1f} rad/s between two ticks"
        )


def _alignment(episode: Episode, measures: Measures, config: CheckConfig) -> Iterator[Finding]:
    """Effects follow causes, and the measured channel is what the observations say."""
    lag = measures.lag_ticks
    if lag is not None and lag < 0:
        yield Finding("fail", "alignment", f"motion is measured {-lag} ticks before it was sent: rows are shifted")
    if lag is not None and lag >= config.lag_warn_ticks:
        yield Finding("warn", "alignment", f"motion follows what was sent {lag} ticks late")
    shift = _observed_shift(episode)
    if shift:
        yield Finding("fail", "alignment", f"the measured channel is {shift:+d} ticks off the observations' motion")


def _observed_shift(episode: Episode) -> int | None:
    """Ticks between the measured channel and the motion in the observations; None where it cannot be told."""
    spec = episode.info.action_spec
    if spec.name == "tool_delta" and "tool_position" in episode.observations:
        axes = [label for label in ("x", "y", "z") if label in spec.labels]
        seen = np.diff(_whole(episode, "tool_position"), axis=0)[:, ["xyz".index(axis) for axis in axes]]
        channel = episode.measured[:, [spec.labels.index(axis) for axis in axes]]
    elif spec.name == "joint_delta" and "joint_position" in episode.observations:
        seen = np.diff(_whole(episode, "joint_position"), axis=0)
        channel = episode.measured[:, : seen.shape[1]]
    else:
        return None
    if channel.shape != seen.shape or channel.size == 0:
        return None
    scale = max(float(np.max(np.abs(seen))), 1e-6)
    return _lag(channel / scale, seen / scale, most=3)


_Check = Callable[[Episode, Measures, CheckConfig], Iterator[Finding]]
_CHECKS: tuple[_Check, ...] = (
    _timing,
    _staleness,
    _idleness,
    _frozen_joints,
    _frozen_images,
    _limits,
    _jumps,
    _alignment,
)


# --- against the rest --------------------------------------------------------------------------------------------


def _against_the_rest(measured: Mapping[str, Measures], config: CheckConfig) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {id: [] for id in measured}
    for id, finding in (*_duplicates(measured), *_odd_layouts(measured)):
        found[id].append(finding)
    if len(measured) >= 5:
        for id, finding in (*_odd_lags(measured), *_outliers(measured, config)):
            found[id].append(finding)
    return found


def _duplicates(measured: Mapping[str, Measures]) -> Iterator[tuple[str, Finding]]:
    first: dict[str, str] = {}
    for id, measures in measured.items():
        other = first.setdefault(measures.signature, id)
        if other != id:
            yield id, Finding("fail", "duplicate", f"its actions are those of {other}; drop one of them")


def _odd_layouts(measured: Mapping[str, Measures]) -> Iterator[tuple[str, Finding]]:
    if not measured:
        return
    layouts = [measures.layout for measures in measured.values()]
    usual = max(set(layouts), key=layouts.count)
    for id, measures in measured.items():
        if measures.layout != usual:
            yield id, Finding("fail", "layout", f"recorded as {measures.layout}; the others as {usual}")


def _odd_lags(measured: Mapping[str, Measures]) -> Iterator[tuple[str, Finding]]:
    """An episode whose arm follows later or earlier than all the others': one of its channels is shifted.

    Physics drawn for each episode can delay an arm too, so there it is a warning only.
    """
    lags = {id: measures.lag_ticks for id, measures in measured.items() if measures.lag_ticks is not None}
    usual = float(np.median(list(lags.values()))) if lags else 0.0
    odd = {id: lag for id, lag in lags.items() if lag != usual}
    if len(lags) < 5 or len(odd) > 0.1 * len(lags) + 1:
        return
    for id, lag in odd.items():
        if lag >= 0:  # a negative lag has been reported by itself
            text = f"motion follows what was sent by {lag} ticks, in the other episodes by {usual:g}"
            yield id, Finding("warn" if measured[id].randomized else "fail", "alignment", text)


def _outliers(measured: Mapping[str, Measures], config: CheckConfig) -> Iterator[tuple[str, Finding]]:
    ids = list(measured)
    quantities: dict[str, tuple[str, list[float]]] = {
        "length": ("{value:.0f} steps, usually {usual:.0f}", [m.steps for m in measured.values()]),
        "path": ("moves {value:.1f} ranges, usually {usual:.1f}", [m.path for m in measured.values()]),
        "jerk": ("jerk is {value:.3g} rad/s^3, usually {usual:.3g}", [m.jerk for m in measured.values()]),
    }
    for name, (text, values) in quantities.items():
        scores = robust_scores(np.log(np.maximum(np.asarray(values, np.float64), 1e-9))[:, None], floor=0.15)
        usual = float(np.median(values))
        for id, value, score in zip(ids, values, scores[:, 0], strict=True):
            if score > config.outlier:
                yield id, Finding("warn", f"outlier {name}", text.format(value=value, usual=usual))
    yield from _odd_starts(measured, config)


def _odd_starts(measured: Mapping[str, Measures], config: CheckConfig) -> Iterator[tuple[str, Finding]]:
    if len({len(measures.start) for measures in measured.values()}) != 1:
        return  # another layout, reported as such
    starts = np.array([measures.start for measures in measured.values()])
    for index, id in enumerate(measured):
        outside = _outside_the_others(starts, index)
        if outside.size and float(np.max(outside)) > config.start_outlier:
            text = f"number {int(np.argmax(outside))} of its start state is {np.max(outside):.1f} times as far out"
            yield id, Finding("warn", "outlier start", f"starts elsewhere: {text} as the others spread")


def _outside_the_others(values: Vector, index: int, floor: float = 0.03) -> Vector:
    """(D,) how far row `index` lies outside the range of the other rows, in widths of that range (at least `floor`)."""
    others = np.delete(values, index, axis=0)
    low, high = others.min(axis=0), others.max(axis=0)
    distance = np.maximum(low - values[index], values[index] - high)
    return np.asarray(np.maximum(distance, 0.0) / np.maximum(high - low, floor))


def robust_scores(values: Vector, floor: float) -> Vector:
    """(N, D) distance from the median in robust standard deviations, each at least `floor`."""
    centre = np.median(values, axis=0)
    spread = 1.4826 * np.median(np.abs(values - centre), axis=0)
    return np.asarray(np.abs(values - centre) / np.maximum(spread, floor))


def _of_the_whole(dataset: Dataset, measured: Mapping[str, Measures]) -> Iterator[Finding]:
    if not dataset.ids:
        yield Finding("fail", "empty", "the dataset holds no episodes")
    for id, reason in dataset.recovery.unreadable.items():
        yield Finding("warn", "recording", f"the take {id} cannot be recovered: {reason}")
    takes = dataset.takes()
    if takes:
        yield Finding("warn", "recording", f"{len(takes)} takes wait for a decision: understudy dataset repair")
    known = [measures.success for measures in measured.values() if measures.success is not None]
    if known and not any(known):
        yield Finding("fail", "success", "no episode is marked as a success")


def as_dict(report: Report) -> dict[str, Any]:
    """A report as plain data for JSON."""
    return {
        "path": str(report.path),
        "trainable": report.trainable,
        "counts": {level: report.count(level) for level in LEVELS},
        "findings": [_finding_dict(finding) for finding in report.findings],
        "episodes": [
            {
                "id": verdict.id,
                "file": str(verdict.file),
                "verdict": verdict.level,
                "reasons": [_finding_dict(finding) for finding in verdict.findings],
                **({} if verdict.measures is None else _measures_dict(verdict.measures)),
            }
            for verdict in report.episodes
        ],
    }


def _finding_dict(finding: Finding) -> dict[str, str]:
    return {"level": finding.level, "check": finding.check, "text": finding.text}


def _measures_dict(measures: Measures) -> dict[str, Any]:
    names = ("steps", "duration_s", "success", "period_s", "jitter", "worst_age_s", "idle", "at_bound", "altered")
    return {
        **{name: getattr(measures, name) for name in names},
        "return": measures.return_,
        "lag_ticks": measures.lag_ticks,
        "jerk": measures.jerk,
    }
