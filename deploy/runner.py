"""Runs a skill on an arm: observe, decide, send through the Guard, wait; and stops well.

Owns the deployed loop, its reasons to stop, and what it reports. It is the same on the numpy arm (virtual time), in
simulation and on hardware: the arm brings its clock. Nothing here knows ROS.

Whatever ends an episode (success, time, operator, stale observation, arm or policy fault, an unfamiliar situation, a
bug), the arm is told to hold before `run` returns, again and again until it rests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.align import Aligned, Assembler
from understudy.deploy.runtime import Novelty, SkillPolicy
from understudy.deploy.skill import Skill, check_robot
from understudy.deploy.watchdog import Watchdog
from understudy.envs.arms.arm import Arm, Command, Observation, Start
from understudy.envs.arms.clock import Clock
from understudy.envs.arms.guard import Guard
from understudy.envs.arms.kinematics import Kinematics
from understudy.envs.arms.robot import RobotDescription
from understudy.envs.control import Control, max_ages
from understudy.envs.policy import Policy
from understudy.errors import (
    ArmFault,
    InputError,
    PolicyFault,
    RobotMismatch,
    StaleObservation,
    UnderstudyError,
)

Vector = NDArray[np.float64]
Values = Mapping[str, NDArray[Any]]

Ending = Literal["success", "time_limit", "stopped", "stale", "fault", "policy", "unfamiliar"]
NORMAL: tuple[Ending, ...] = ("success", "time_limit")
"""Endings after which the next episode may follow; every other one asks for a person."""

LOOP = "control loop"
"""Name of the loop itself among the watched sources."""
LOOP_LIMIT_PERIODS = 10


@dataclass(frozen=True)
class RunnerConfig:
    """How a skill is run. The defaults are the safe ones; the Guard cannot be switched off."""

    shadow: bool = False
    """Decide and report, but never send anything to the arm, not even a hold."""
    time_limit_s: float | None = None
    """An episode ends after this long; None: the task's own horizon."""
    max_novelty: float | None = 10.0
    """Hold when an observation lies this many training standard deviations outside the training range; None: only
    report it."""
    novelty_ticks: int = 3
    """On this many ticks in a row."""
    allow_narrower_limits: bool = False
    """Accept a robot whose limits are narrower than the skill's (the Guard will cut its motions)."""
    hold_s: float = 1.0
    """After an ending that is not normal, hold is repeated for this long; the arm may be hard to reach."""

    def __post_init__(self) -> None:
        for name in ("time_limit_s", "max_novelty", "hold_s"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise InputError(f"RunnerConfig: {name} must be a positive number, got {value}.")
        if self.novelty_ticks < 1:
            raise InputError(f"RunnerConfig: novelty_ticks must be at least 1, got {self.novelty_ticks}.")


@dataclass(frozen=True)
class Tick:
    """One decision, for whoever listens (publishers, recorders, tests)."""

    index: int
    aligned: Aligned
    requested: Vector
    """(A,) what the policy asked for, in the units of the action spec."""
    sent: Vector
    """(A,) what went to the arm after the Guard (in shadow mode: would have gone), same units."""
    command: Command
    novelty: Novelty | None


@dataclass(frozen=True)
class Spread:
    """Median and 99th percentile of a duration, ms."""

    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, durations_ns: list[int]) -> Spread | None:
        """None for no durations."""
        if not durations_ns:
            return None
        p50, p99 = np.percentile(np.array(durations_ns) * 1e-6, [50, 99])
        return cls(round(float(p50), 3), round(float(p99), 3))


@dataclass(frozen=True)
class Deviation:
    """Shadow mode: how far what the skill would have sent was from what the arm did."""

    joint_mean_rad: float
    joint_max_rad: float
    """Between the set point it would have sent and where the joints were one period later."""
    action_mean: Mapping[str, float]
    """Label -> mean absolute difference between the requested and the measured action, in the label's unit."""


@dataclass(frozen=True)
class Outcome:
    """How an episode went."""

    ending: Ending
    why: str
    """One sentence."""
    held: bool
    """The hold after it was accepted by the arm (in shadow mode none is sent, and this is False)."""
    steps: int
    duration_s: float
    """On the arm's clock."""
    overruns: Mapping[str, int]
    """Part of the loop -> ticks that came late because of it."""
    guard: Mapping[str, int]
    """What the Guard changed -> how often."""
    clipped: int
    """Looks in which the policy went beyond [-1, 1]."""
    work: Spread | None
    """Time spent deciding and sending, a tick."""
    period: Spread | None
    """Time between ticks."""
    novelty: Novelty | None
    """The most unusual observation."""
    deviation: Deviation | None = None
    """In shadow mode."""

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        return self.ending == "success"


def _nothing() -> None:
    """Do nothing."""


def _attempt(then: Callable[[], None]) -> Exception | None:
    """Do it; what it raised, if it did."""
    try:
        then()
    except Exception as error:
        return error
    return None


def _untold(failed: Exception | None) -> str:
    """What to add to an ending's reason where telling it failed; a bug in the telling is raised, now that it may be."""
    if failed is None:
        return ""
    if not isinstance(failed, OSError):
        raise failed
    return f" Telling so failed: {failed}."


class _ShadowArm:
    """Lets everything through to an arm but commands: for rehearsing on an arm that somebody else moves."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self.clock: Clock = arm.clock

    def describe(self) -> RobotDescription:
        return self._arm.describe()

    def observe(self) -> Observation:
        return self._arm.observe()

    def send(self, command: Command) -> Command:
        return command

    def hold(self) -> None:
        """Send nothing."""

    def reset(self, start: Start) -> Observation:
        return self._arm.observe()

    def close(self) -> None:
        """Leave the arm to whoever owns it."""


@dataclass
class _Episode:
    """What one episode has accumulated so far."""

    control: Control
    guard: Guard
    begun_ns: int | None = None
    ended_ns: int | None = None
    steps: int = 0
    unfamiliar: int = 0
    novelty: Novelty | None = None
    work_ns: list[int] = field(default_factory=list)
    period_ns: list[int] = field(default_factory=list)
    joint_errors: list[Vector] = field(default_factory=list)
    action_errors: list[Vector] = field(default_factory=list)


class SkillRunner:
    """Runs episodes of one skill on one arm."""

    def __init__(
        self,
        arm: Arm,
        skill: Skill,
        config: RunnerConfig | None = None,
        *,
        policy: Policy | None = None,
        stopwatch_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """Args:
        arm: the bare arm; the runner puts the Guard around it.
        skill: what to run.
        config: see `RunnerConfig`.
        policy: instead of the skill's own (tests, replays); it keeps the skill's action spec.
        stopwatch_ns: measures how long things take; decides nothing.

        Raises:
            RobotMismatch: the skill was made for another robot; names what differs.
            InputError: the skill's policy cannot be loaded.
        """
        self.config = config or RunnerConfig()
        self.manifest = skill.manifest
        self.robot = arm.describe()
        check_robot(self.manifest, self.robot, allow_narrower_limits=self.config.allow_narrower_limits)
        self._familiar = SkillPolicy(skill)
        self.policy: Policy = policy or self._familiar
        self.watchdog = Watchdog(arm.clock)
        self._arm = _ShadowArm(arm) if self.config.shadow else arm
        self._kinematics = Kinematics(self.robot)
        self._stopwatch_ns = stopwatch_ns
        self._check_actions(self._control(self._guard()))
        limit_s = self.config.time_limit_s or self.manifest.horizon / self.robot.rate_hz
        self._limit_ns = round((limit_s - self.robot.period_s / 2) * 1e9)

    def run(
        self,
        *,
        start: Start | None = None,
        judge: Callable[[Values], bool] = lambda values: False,
        should_stop: Callable[[], str | None] = lambda: None,
        listen: Callable[[Tick], None] = lambda tick: None,
        tell: Callable[[Ending, str], None] = lambda ending, why: None,
    ) -> Outcome:
        """Run one episode and leave the arm holding.

        Args:
            start: bring the arm there first; None: begin where it stands.
            judge: whether an observation means success.
            should_stop: asked every tick; a sentence stops the episode, None goes on.
            listen: told of every decision.
            tell: told why the episode has ended, after the first hold and before holding is repeated. What it raises
                ends no braking: an OSError (a terminal that is gone) is added to the reason, anything else comes up
                once the arm rests.
        """
        guard = self._guard()
        episode = _Episode(self._control(guard), guard)
        clipped = self._familiar.clipped
        try:
            ending, why = self._drive(episode, start, judge, should_stop, listen)
        except StaleObservation as error:
            ending, why = "stale", str(error)
        except ArmFault as error:
            ending, why = "fault", str(error)
        except PolicyFault as error:
            ending, why = "policy", str(error)
        except BaseException:
            self._hold(guard, normal=False)
            raise
        episode.ended_ns = guard.clock.now_ns()
        held, trouble = self._hold(guard, normal=ending in NORMAL, then=lambda: tell(ending, why))
        self.watchdog.forget(LOOP)
        return self._outcome(episode, ending, why + trouble, held, self._familiar.clipped - clipped)

    def not_ready(self, since_ns: int = 0) -> str | None:
        """Why an episode cannot begin now: something is missing, stale, or older than `since_ns`; None if it can."""
        control = self._control(self._guard())
        now_ns = self._arm.clock.now_ns()
        try:
            seen = control.observe(now_ns)
        except StaleObservation as error:
            return str(error)
        for key, age_s in seen.ages_s.items():
            if now_ns - round(age_s * 1e9) < since_ns:
                return f"{key!r} has not been received since the scene was reset."
        return None

    def _drive(
        self,
        episode: _Episode,
        start: Start | None,
        judge: Callable[[Values], bool],
        should_stop: Callable[[], str | None],
        listen: Callable[[Tick], None],
    ) -> tuple[Ending, str]:
        """The loop: returns why it ended, or raises."""
        control = episode.control
        self._watch()
        aligned = control.begin() if start is None else control.reset(start)
        episode.begun_ns = aligned.tick_ns
        self.policy.reset()
        before_ns = self._stopwatch_ns()
        while True:
            self._mark_alive(aligned)
            control.ticker.part("check")
            novelty = self._look(episode, aligned)
            ended = self._ending(episode, aligned, judge, should_stop)
            if ended is not None:
                return ended
            control.ticker.part("policy")
            requested = self._decide(aligned)
            control.ticker.part("send")
            where = control.state()
            sent, command = control.apply(requested)
            episode.steps += 1
            control.ticker.part("report")
            listen(Tick(episode.steps - 1, aligned, requested, sent, command, novelty))
            episode.work_ns.append(self._stopwatch_ns() - before_ns)
            aligned = control.wait()
            now_ns = self._stopwatch_ns()
            episode.period_ns.append(now_ns - before_ns)
            before_ns = now_ns
            if self.config.shadow:
                self._compare(episode, where, requested, command)

    def _decide(self, aligned: Aligned) -> Vector:
        """The policy's action (A,) in units. Checked here too, whoever made the policy: NaN must not reach the arm.

        Raises:
            PolicyFault: it is not A finite numbers.
        """
        spec = self.manifest.action_spec
        action = np.asarray(self.policy.act(aligned.values))
        if action.shape != (spec.size,) or not np.all(np.isfinite(action)):
            raise PolicyFault(
                f"The policy returned {action.tolist()}; expected {spec.size} finite numbers ({spec.name}). "
                "Nothing of it is sent."
            )
        return spec.denormalise(action)

    def _ending(
        self,
        episode: _Episode,
        aligned: Aligned,
        judge: Callable[[Values], bool],
        should_stop: Callable[[], str | None],
    ) -> tuple[Ending, str] | None:
        """Why the episode is over at this observation, most urgent first; None: it goes on."""
        asked = should_stop()
        if asked is not None:
            return "stopped", asked
        if judge(aligned.values):
            return "success", "The task is done."
        if episode.unfamiliar >= self.config.novelty_ticks:
            return "unfamiliar", f"{episode.novelty}; the skill was not trained for this."
        elapsed_ns = aligned.tick_ns - (episode.begun_ns or 0)
        if elapsed_ns >= self._limit_ns:
            return "time_limit", f"The task was not done within {elapsed_ns * 1e-9:.1f} s."
        return None

    def _look(self, episode: _Episode, aligned: Aligned) -> Novelty | None:
        """Measure how unfamiliar the observation is, and remember the worst."""
        novelty = self._familiar.novelty(aligned.values)
        if novelty is None:
            return None
        if episode.novelty is None or novelty.distance > episode.novelty.distance:
            episode.novelty = novelty
        limit = self.config.max_novelty
        episode.unfamiliar = episode.unfamiliar + 1 if limit is not None and novelty.distance > limit else 0
        return novelty

    def _compare(self, episode: _Episode, where: Command, requested: Vector, command: Command) -> None:
        """Shadow mode: what the arm did in this period, beside what the skill would have made it do."""
        state = episode.control.state()
        episode.joint_errors.append(np.abs(command.joint_position - state.joint_position))
        measured = episode.control.actions.encode(where, state)
        episode.action_errors.append(np.abs(requested - measured))

    def _hold(self, guard: Guard, *, normal: bool, then: Callable[[], None] = _nothing) -> tuple[bool, str]:
        """Hold once a period until the arm rests (at least `hold_s` after an ending that is not normal).

        Args:
            guard: of the episode.
            normal: whether the ending was.
            then: called once, after the first hold: stopping comes before talking.

        Returns (whether the last hold was accepted, what to add to the reason: if it was not, if telling failed).
        """
        if self.config.shadow:
            return False, _untold(_attempt(then))
        period_ns = round(self.robot.period_s * 1e9)
        now_ns = guard.clock.now_ns()
        end_ns = now_ns + round(self.config.hold_s * 1e9)
        held, trouble = False, ""
        failed: Exception | None = None
        while True:
            self._mark_loop()
            try:
                guard.hold()
                held, trouble = True, ""
            except UnderstudyError as error:
                held, trouble = False, f" Holding failed too: {error}"
            failed, then = failed or _attempt(then), _nothing
            if now_ns >= end_ns or (normal and held and guard.at_rest):
                return held, trouble + _untold(failed)
            guard.clock.sleep_until(now_ns + period_ns)
            now_ns = guard.clock.now_ns()

    def _guard(self) -> Guard:
        """A new Guard; in shadow mode somebody else moves the arm, which then follows no set point of ours."""
        return Guard(self._arm, kinematics=self._kinematics, follows=not self.config.shadow)

    def _control(self, guard: Guard) -> Control:
        """The tick of control, with the stricter of the skill's and the robot's age limits."""
        spec, keys = self.manifest.action_spec, self.manifest.observation_keys
        control = Control(guard, spec.name, keys, action_labels=spec.labels, kinematics=self._kinematics)
        control.assembler = Assembler(keys, self._age_limits())
        return control

    def _age_limits(self) -> dict[str, float]:
        limits = max_ages(self.robot, self.manifest.observation_keys)
        return {key: min(age, limits.get(key, age)) for key, age in self.manifest.max_age_s.items()}

    def _check_actions(self, control: Control) -> None:
        """Refuse an action space that cannot express what the skill may ask for."""
        skill, here = self.manifest.action_spec, control.actions.spec
        for i, label in enumerate(skill.labels):
            if skill.units[i] != here.units[i]:
                raise RobotMismatch(
                    f"Action {label!r} is in {skill.units[i]!r} in skill {self.manifest.name!r}, in "
                    f"{here.units[i]!r} on {self.robot.name!r}; export the skill again."
                )
            wider = skill.low[i] < here.low[i] - 1e-6 or skill.high[i] > here.high[i] + 1e-6
            if wider and not self.config.allow_narrower_limits:
                raise RobotMismatch(
                    f"Action {label!r} of skill {self.manifest.name!r} reaches [{skill.low[i]:g}, "
                    f"{skill.high[i]:g}] {skill.units[i]}; robot {self.robot.name!r} allows only "
                    f"[{here.low[i]:g}, {here.high[i]:g}]. Train for this robot, or allow narrower limits."
                )

    def _watch(self) -> None:
        """Expect every observation within its age limit, and the loop itself."""
        for key, limit_s in self._age_limits().items():
            self.watchdog.expect(key, limit_s)
        self._mark_loop()

    def _mark_alive(self, aligned: Aligned) -> None:
        for key, age_s in aligned.ages_s.items():
            self.watchdog.heard(key, aligned.tick_ns - round(age_s * 1e9))
        self._mark_loop()

    def _mark_loop(self) -> None:
        self.watchdog.expect(LOOP, LOOP_LIMIT_PERIODS * self.robot.period_s)
        self.watchdog.heard(LOOP)

    def _outcome(self, episode: _Episode, ending: Ending, why: str, held: bool, clipped: int) -> Outcome:
        begun_ns, ended_ns = episode.begun_ns, episode.ended_ns
        ran_ns = 0 if begun_ns is None or ended_ns is None else ended_ns - begun_ns
        return Outcome(
            ending=ending,
            why=why,
            held=held,
            steps=episode.steps,
            duration_s=round(ran_ns * 1e-9, 3),
            overruns=dict(episode.control.ticker.overruns),
            guard=dict(episode.guard.counts),
            clipped=clipped,
            work=Spread.of(episode.work_ns),
            period=Spread.of(episode.period_ns),
            novelty=episode.novelty,
            deviation=self._deviation(episode) if self.config.shadow and episode.joint_errors else None,
        )

    def _deviation(self, episode: _Episode) -> Deviation:
        joints = np.array(episode.joint_errors)
        actions = np.mean(episode.action_errors, axis=0)
        labels = self.manifest.action_spec.labels
        return Deviation(
            joint_mean_rad=round(float(joints.mean()), 5),
            joint_max_rad=round(float(joints.max()), 5),
            action_mean={label: round(float(a), 5) for label, a in zip(labels, actions, strict=True)},
        )
