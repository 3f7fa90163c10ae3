"""The gate: is the session fit to record a take, is this one going well, and is it worth keeping?

Before a take: every source is alive at its rate, the arm is at the start, the disk has room. During: sources that stop,
ticks that come late, samples that are lost, limits that are hit. After: the checks of `dataset check` on the take in
review, alone and against those kept in this session. What it finds are `Finding`s; whether a take is recorded or kept
in spite of a failure is the operator's word, and the loop's to ask for.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from understudy.capture.movers import PAGED, holder
from understudy.capture.session import Session
from understudy.capture.session_view import Finding, StreamLight
from understudy.datasets.checking.check_config import CheckConfig
from understudy.datasets.checking.checks import EpisodeVerdict, compared, judge
from understudy.datasets.checking.measures import Measures
from understudy.datasets.disk import RESERVE_BYTES
from understudy.envs.tasks.free import Free
from understudy.errors import DatasetError, InputError

Lights = Callable[[], tuple[StreamLight, ...]]
COMPARED = 50
"""Takes kept in this session that the next is compared with."""
FEW_STEPS = 20
"""Shares are told of no fewer steps than this."""


@dataclass(frozen=True)
class GateConfig:
    """What the gate lets through."""

    disk_minutes: float = 5.0
    """The disk must have room for this much recording, min."""
    start_rad: float = 0.1
    """No joint may be further than this from where the episode is meant to start."""
    late_share: float = 0.02
    """Share of the ticks that may come late before it is said."""
    limit_share: float = 0.1
    """Share of the steps at which the Guard may refuse a place, an effort or a number before it is said."""
    motion_share: float = 0.7
    """Share of the steps at which the Guard may slow down what was asked before it is said; some is usual."""
    check: CheckConfig = field(default_factory=CheckConfig)
    """Thresholds of the checks after a take."""

    def __post_init__(self) -> None:
        for name in ("disk_minutes", "start_rad"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"The gate's {name} must be a positive number, got {getattr(self, name)}.")
        for name in ("late_share", "limit_share", "motion_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"The gate's {name} must be between 0 and 1, got {getattr(self, name)}.")


@dataclass
class _Counts:
    """What had been counted when a take began."""

    limits: Counter[str]
    late: Counter[str]
    lost: dict[str, int]


class Gate:
    """Looks at a session; changes nothing. Used by the session's thread."""

    def __init__(self, session: Session, lights: Lights, config: GateConfig | None = None) -> None:
        """Args:
        session: what is recorded.
        lights: how its sources are doing.
        config: thresholds.
        """
        self._session = session
        self._lights = lights
        self._config = config or GateConfig()
        self._bytes_per_s: float | None = None
        self._begun = _Counts(Counter(), Counter(), {})
        self._during: dict[str, Finding] = {}
        self._verdicts: dict[str, EpisodeVerdict] = {}
        self._last: EpisodeVerdict | None = None

    # before

    def before(self) -> tuple[Finding, ...]:
        """What speaks against recording now; for `ready`."""
        return (*self._device(), *self._sources("before"), *self._start(), *self._doubts("before"), *self._disk())

    def _device(self) -> list[Finding]:
        if not getattr(self._session.device, "lost", False):
            return []
        name = holder(self._session.device.name)
        says = self._session.device_says or "bring it back"
        # a page is often opened a moment later, and a take that no page attends ends by itself
        return [Finding("warning" if name == PAGED else "failure", "before", f"the {name} does not answer: {says}")]

    def _doubts(self, where: Literal["before", "after"]) -> list[Finding]:
        """What the stage says against taking what it records at its word."""
        doubts: Callable[[], list[str]] = getattr(self._session.stage, f"doubts_{where}", list)
        return [Finding("failure", where, text) for text in doubts()]

    def _sources(self, where: Literal["before", "during"]) -> list[Finding]:
        found = []
        for light in self._lights():
            if light.state != "alive":
                severity: Literal["warning", "failure"] = "warning" if light.state == "slow" else "failure"
                found.append(
                    Finding(severity, where, f"{light.name} is {light.state}: {light.why or 'no reason known'}")
                )
        return found

    def _start(self) -> list[Finding]:
        if getattr(self._session.stage, "starts_anywhere", False):
            return []
        wanted, aligned = self._session.wanted, self._session.stage.aligned
        if wanted is None or aligned is None or "joint_position" not in aligned.values:
            return []
        away = np.abs(np.asarray(aligned.values["joint_position"], np.float64) - wanted.joint_position)
        worst = int(np.argmax(away))
        if away[worst] <= self._config.start_rad:
            return []
        name = self._session.stage.control.robot.joint_names[worst]
        if isinstance(self._session.stage.task, Free):
            return [
                Finding(
                    "warning",
                    "before",
                    f"the arm starts away from home: joint {worst} ({name!r}) is {away[worst]:.2f} rad off; the task "
                    f"{self._session.stage.task.name!r} says of no start, so that any is right that you mean",
                )
            ]
        return [
            Finding(
                "failure",
                "before",
                f"the arm is not at the start: joint {worst} ({name!r}) is {away[worst]:.2f} rad away, at most "
                f"{self._config.start_rad:g} rad is allowed; bring it there",
            )
        ]

    def _disk(self) -> list[Finding]:
        folder, rate = self._session.dataset.path, self.bytes_per_s()
        # a take that ends is copied once into its final form
        needed = rate * (60.0 * self._config.disk_minutes + self._session.config.max_s) + RESERVE_BYTES
        free = shutil.disk_usage(folder).free
        if free >= needed:
            return []
        return [
            Finding(
                "failure",
                "before",
                f"the disk of {folder} has {free / 1e6:.0f} MB left, room for "
                f"{max(0.0, free - RESERVE_BYTES) / rate / 60.0:.1f} min at {rate / 1e6:.2f} MB/s; "
                f"{self._config.disk_minutes:g} min are wanted. Free some space",
            )
        ]

    def bytes_per_s(self) -> float:
        """What this session writes: as measured on its last take, else as its first observation says (B/s).

        Frames that a camera's every one is kept of lie in a file of their own, and come at the camera's rate.
        """
        frames: Callable[[], float] = getattr(self._session.stage, "frame_bytes_per_s", float)
        return frames() + self._step_bytes_per_s()

    def _step_bytes_per_s(self) -> float:
        if self._bytes_per_s is not None:
            return self._bytes_per_s
        aligned, control = self._session.stage.aligned, self._session.stage.control
        seen = 0 if aligned is None else sum(value.nbytes for value in aligned.values.values())
        numbers = 8 * (3 * control.actions.spec.size + 8)
        return float((seen + numbers) * control.robot.rate_hz)

    # during

    def begin(self) -> None:
        """A take begins."""
        self._remarks()  # what happened before it is not the take's fault
        self._begun = self._counted()
        self._during.clear()
        self._last = None

    def during(self) -> tuple[Finding, ...]:
        """What has been wrong with the take in hand so far; what was once found stays."""
        for finding in self._sources("during"):
            self._during.setdefault(finding.text.partition(":")[0], finding)
        now, steps = self._counted(), self._session.steps
        self._say("late", self._late(now.late - self._begun.late, steps))
        self._say("limits", self._limits(now.limits - self._begun.limits, steps))
        for text in self._remarks():
            self._during[text.partition(":")[0]] = Finding("warning", "during", text)
        for name, lost in now.lost.items():
            if (more := lost - self._begun.lost.get(name, 0)) > 0:
                self._during[f"{name} lost"] = Finding("warning", "during", f"{name} lost {more} samples")
        return tuple(self._during.values())

    def broke(self, why: str) -> None:
        """A fault has ended the take; what is the matter with its sources just then belongs to it."""
        self.during()
        self._during["fault"] = Finding("failure", "during", f"a fault ended the take: {why}")

    def _remarks(self) -> list[str]:
        """What the stage has to say of its topics since it was asked last; a simulated one has none."""
        remarks: Callable[[], list[str]] = getattr(self._session.stage, "remarks", list)
        return remarks()

    def _say(self, what: str, text: str) -> None:
        """A share of the steps may be large at first, and small in the end."""
        self._during.pop(what, None)
        if text:
            self._during[what] = Finding("warning", "during", text)

    def _late(self, late: Counter[str], steps: int) -> str:
        if late.total() <= self._config.late_share * max(steps, FEW_STEPS):
            return ""
        return f"{late.total()} of {steps} ticks came late (mostly: {late.most_common(1)[0][0]})"

    def _limits(self, hit: Counter[str], steps: int) -> str:
        slowed, refused, counted = hit["motion"], hit.total() - hit["motion"], max(steps, FEW_STEPS)
        if refused <= self._config.limit_share * counted and slowed <= self._config.motion_share * counted:
            return ""
        return f"limits were hit in {steps} steps: {', '.join(f'{name} {n}' for name, n in hit.most_common())}"

    def _counted(self) -> _Counts:
        control = self._session.stage.control
        guard: Any = control.arm
        limits = getattr(guard, "counts", Counter())
        lost = {light.name: light.lost for light in self._lights()}
        return _Counts(Counter(limits), Counter(control.ticker.overruns), lost)

    # after

    def after(self) -> tuple[Finding, ...]:
        """What is to be said of the take in review, what was found while it was recorded included."""
        info = self._session.take_info
        try:
            episode = self._session.take()
        except DatasetError as error:
            return (Finding("failure", "after", str(error)),)
        if episode is None or info is None:
            return (*self._during.values(), Finding("failure", "after", "the take has no steps"))
        self._measure_rate(episode.tick_ns[-1] - episode.tick_ns[0])
        path = self._session.dataset.path
        alone = judge("this take", path, episode, self._config.check)
        # The tool pose was computed from the joints as it was recorded: that they belong together needs no proof.
        self._last = dataclasses.replace(alone, measures=_without_kinematic(alone.measures))
        verdict = compared([*self._verdicts.values(), self._last], self._config.check)[-1]
        said = [
            Finding("failure" if finding.level == "fail" else "warning", "after", finding.text)
            for finding in verdict.findings
            if finding.check != "success"  # the operator sees that, and may have said so
        ]
        return (*self._during.values(), *self._doubts("after"), *said)

    def kept(self, id: str) -> None:
        """The take in review was kept under this id; the next ones are compared with it."""
        if self._last is not None and self._last.measures is not None:
            self._verdicts[id] = EpisodeVerdict(id, self._last.file, (), self._last.measures)
            for oldest in list(self._verdicts)[: -COMPARED or None]:
                del self._verdicts[oldest]

    def _measure_rate(self, span_ns: int) -> None:
        path = self._session.take_path
        if path is not None and path.exists() and span_ns > 1e9:
            self._bytes_per_s = max(1.0, path.stat().st_size / (span_ns * 1e-9))


def _without_kinematic(measures: Measures | None) -> Measures | None:
    return None if measures is None else dataclasses.replace(measures, kinematic=None)


def failures(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    """The texts of those that are failures."""
    return tuple(finding.text for finding in findings if finding.severity == "failure")
