"""The deployed loop on virtual time: it stops for every reason, says which, and leaves the arm at rest."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploy_support import PANDA, TinyArm, affine_onnx, manifest, statistics, write_tiny

from understudy.deploy.runner import LOOP, Outcome, RunnerConfig, SkillRunner, Tick
from understudy.deploy.runtime import SkillPolicy
from understudy.deploy.skill import load_skill, write_skill
from understudy.envs.arms.arm import Command, Observation, Start
from understudy.envs.control import Control
from understudy.envs.policy import ObservationDict
from understudy.errors import InputError, RobotMismatch

SECOND = 1_000_000_000
STEP = np.array([0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
"""Normalised: joint 2 moves on, the gripper stays open."""


class Saboteur:
    """Acts like `STEP` until `after` actions, then returns something else."""

    def __init__(self, after: int, value: float) -> None:
        self.count, self.after, self.value = 0, after, value

    def reset(self) -> None:
        self.count = 0

    def act(self, observation: ObservationDict) -> np.ndarray[Any, Any]:
        self.count += 1
        return np.where(self.count > self.after, self.value, STEP).astype(np.float32)


def runner(folder: Path, arm: TinyArm, config: RunnerConfig | None = None, **of: Any) -> SkillRunner:
    path = write_tiny(folder / "tiny.skill", of.pop("bias", STEP), **of)
    return SkillRunner(arm, load_skill(path), config)


def at_rest(arm: TinyArm) -> bool:
    """The last two commands are the same place, or nothing was ever sent."""
    if len(arm.sent) < 2:
        return not arm.sent
    return bool(np.allclose(arm.sent[-1].joint_position, arm.sent[-2].joint_position, atol=1e-6))


def ended(outcome: Outcome, ending: str, arm: TinyArm) -> None:
    assert outcome.ending == ending, outcome.why
    assert at_rest(arm)


# how it ends


def test_the_time_limit_is_the_tasks_horizon(tmp_path: Path) -> None:
    arm = TinyArm()
    outcome = runner(tmp_path, arm).run()
    ended(outcome, "time_limit", arm)
    assert outcome.steps == manifest().horizon
    assert outcome.duration_s == pytest.approx(manifest().horizon / PANDA.rate_hz)
    assert outcome.why == "The task was not done within 2.0 s."
    assert outcome.held
    assert not outcome.success
    assert arm.joints[1] > PANDA.home[1] + 0.3  # it did move


def test_the_time_limit_can_be_set(tmp_path: Path) -> None:
    outcome = runner(tmp_path, TinyArm(), RunnerConfig(time_limit_s=0.5)).run()
    assert (outcome.ending, outcome.steps) == ("time_limit", 10)


def test_success_ends_it(tmp_path: Path) -> None:
    arm = TinyArm()
    target = PANDA.home[1] + 0.2
    outcome = runner(tmp_path, arm).run(judge=lambda values: values["joint_position"][1] > target)
    ended(outcome, "success", arm)
    assert outcome.success
    assert outcome.steps < manifest().horizon


def test_the_operator_stops_it(tmp_path: Path) -> None:
    arm = TinyArm()
    stop_ns = arm.clock.now_ns() + SECOND // 2
    tested = runner(tmp_path, arm)
    outcome = tested.run(should_stop=lambda: "Stopped by hand." if arm.clock.now_ns() >= stop_ns else None)
    ended(outcome, "stopped", arm)
    assert outcome.why == "Stopped by hand."
    assert outcome.steps == 10


def test_stopping_comes_before_success(tmp_path: Path) -> None:
    outcome = runner(tmp_path, TinyArm()).run(judge=lambda values: True, should_stop=lambda: "Stop.")
    assert outcome.ending == "stopped"


def test_a_stale_observation_holds_within_its_age_limit(tmp_path: Path) -> None:
    arm = TinyArm()
    silent_ns = arm.silent_after_ns = arm.clock.now_ns() + SECOND // 2
    times: list[int] = []
    outcome = runner(tmp_path, arm).run(listen=lambda tick: times.append(arm.clock.now_ns()))
    ended(outcome, "stale", arm)
    assert "is 0.300 s old at the tick; at most 0.250 s is allowed" in outcome.why
    assert max(times) - silent_ns <= 0.25 * SECOND
    assert outcome.held


def test_hold_is_repeated_after_an_ending_that_is_not_normal(tmp_path: Path) -> None:
    arm = TinyArm()
    arm.silent_after_ns = arm.clock.now_ns() + SECOND // 2
    tested = runner(tmp_path, arm, RunnerConfig(hold_s=1.0))
    steps = tested.run().steps
    assert len(arm.sent) - steps == 21  # once a period for a second, both ends counted


def test_an_observation_that_is_not_finite_holds(tmp_path: Path) -> None:
    arm = TinyArm()
    arm.nan_after_ns = arm.clock.now_ns() + SECOND // 2
    outcome = runner(tmp_path, arm).run()
    ended(outcome, "stale", arm)
    assert "'joint_position' has a value that is not finite" in outcome.why
    assert all(np.isfinite(command.joint_position).all() for command in arm.sent)


def test_an_arm_without_observations_is_never_commanded(tmp_path: Path) -> None:
    arm = TinyArm()
    arm.observe = lambda: Observation({}, {})  # type: ignore[method-assign]
    outcome = runner(tmp_path, arm, RunnerConfig(hold_s=0.5)).run()
    assert (outcome.ending, arm.sent, outcome.steps) == ("stale", [], 0)
    assert "No 'joint_position' has been received" in outcome.why
    assert arm.holds == 11


def test_a_fault_of_the_arm_is_told_and_holding_goes_on_trying(tmp_path: Path) -> None:
    arm = TinyArm()
    arm.fault_after_ns = arm.clock.now_ns() + SECOND // 2
    outcome = runner(tmp_path, arm).run()
    assert outcome.ending == "fault"
    assert outcome.why.count("over-current") == 2
    assert "Holding failed too:" in outcome.why
    assert not outcome.held


def test_a_policy_that_returns_nan_moves_nothing_more(tmp_path: Path) -> None:
    arm = TinyArm()
    path = write_tiny(tmp_path / "tiny.skill", STEP)
    outcome = SkillRunner(arm, load_skill(path), policy=Saboteur(5, np.nan)).run()
    assert all(np.isfinite(command.joint_position).all() for command in arm.sent)
    ended(outcome, "policy", arm)
    assert "expected 8 finite numbers" in outcome.why
    assert outcome.steps == 5


def test_the_first_command_may_not_jump(tmp_path: Path) -> None:
    arm = TinyArm()
    made = manifest(space="joint_position")
    far = made.action_spec.normalise(np.append(PANDA.home + 0.8 * np.eye(7)[1], 0.08))
    outcome = runner(tmp_path, arm, RunnerConfig(hold_s=0.2), made=made, bias=far).run()
    assert outcome.ending == "fault"
    assert "first command asks joint 1 ('panda_joint2')" in outcome.why
    assert arm.sent == []
    assert arm.holds > 0


def test_unfamiliar_observations_hold(tmp_path: Path) -> None:
    arm = TinyArm()
    wide = statistics()
    high = wide["joint_position"].high.copy()
    high[1] = PANDA.home[1] + 0.1
    narrow = {
        **wide,
        "joint_position": wide["joint_position"].__class__(0 * high, 0 * high + 0.01, -4 + 0 * high, high),
    }
    outcome = runner(tmp_path, arm, RunnerConfig(max_novelty=5.0), statistics=narrow).run()
    ended(outcome, "unfamiliar", arm)
    assert "joint_position[1] is" in outcome.why
    only_reported = runner(tmp_path, TinyArm(), RunnerConfig(max_novelty=None), statistics=narrow).run()
    assert only_reported.ending == "time_limit"
    assert only_reported.novelty is not None
    assert only_reported.novelty.distance > 5.0


def test_a_bug_in_a_listener_still_leaves_the_arm_holding(tmp_path: Path) -> None:
    arm = TinyArm()

    def broken(tick: Tick) -> None:
        if tick.index == 5:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        runner(tmp_path, arm).run(listen=broken)
    assert len(arm.sent) > 6
    assert at_rest(arm)


def swinging(folder: Path, arm: TinyArm) -> SkillRunner:
    """A skill that turns the last joint at nine tenths of its speed."""
    return SkillRunner(arm, load_skill(write_tiny(folder / "swing.skill", [0, 0, 0, 0, 0, 0, 0.9, 1.0])))


def stop_after(ticks: int) -> Callable[[], str | None]:
    asked = itertools.count()
    return lambda: "Stopped by SIGHUP." if next(asked) >= ticks else None


def test_a_terminal_that_is_gone_ends_no_braking(tmp_path: Path) -> None:
    """Telling a closed terminal once ended the hold loop: the last set points went at 1.8 rad/s, then nothing."""
    arm = TinyArm()

    def gone(ending: str, why: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    outcome = swinging(tmp_path, arm).run(should_stop=stop_after(8), tell=gone)
    ended(outcome, "stopped", arm)
    assert outcome.held
    assert outcome.why == "Stopped by SIGHUP. Telling so failed: [Errno 5] Input/output error."
    turned = np.array([command.joint_position[6] for command in arm.sent])
    assert np.max(np.diff(turned)) > 1.0 * PANDA.period_s


def test_a_bug_in_the_telling_comes_up_once_the_arm_rests(tmp_path: Path) -> None:
    arm = TinyArm()

    def broken(ending: str, why: str) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        swinging(tmp_path, arm).run(should_stop=stop_after(8), tell=broken)
    assert at_rest(arm)


class StuckArm(TinyArm):
    """Stands for a real arm that takes commands, and stays where it is from `stuck_after_ns` on."""

    hardware = True

    def __init__(self, stuck_after_s: float) -> None:
        super().__init__(PANDA.model_copy(update={"following_error_rad": 0.2}))
        self.stuck_after_ns = self.clock.now_ns() + round(stuck_after_s * SECOND)

    def send(self, command: Command) -> Command:
        stood = self.joints
        super().send(command)
        if self.clock.now_ns() > self.stuck_after_ns:
            self.joints = stood
        return command


def test_an_arm_that_does_not_follow_ends_it_and_is_held_where_it_is(tmp_path: Path) -> None:
    arm = StuckArm(0.5)
    outcome = runner(tmp_path, arm).run()
    ended(outcome, "fault", arm)
    assert outcome.why.startswith("Joint 1 ('panda_joint2') lags 0.2")
    assert outcome.held
    assert outcome.guard["following"] == 1
    assert np.max(np.abs(arm.sent[-1].joint_position - arm.joints)) < 1e-6
    ahead = max(np.max(np.abs(command.joint_position - arm.joints)) for command in arm.sent[11:])
    assert ahead < 0.2 + PANDA.joints[1].velocity * PANDA.period_s


# shadow mode


def test_shadow_mode_does_not_mind_that_the_arm_follows_somebody_else(tmp_path: Path) -> None:
    assert runner(tmp_path, StuckArm(-1.0), RunnerConfig(shadow=True)).run().ending == "time_limit"


def test_shadow_mode_sends_nothing_and_says_what_it_would_have(tmp_path: Path) -> None:
    arm = TinyArm()
    ticks: list[Tick] = []
    outcome = runner(tmp_path, arm, RunnerConfig(shadow=True)).run(start=Start(PANDA.home + 0.1), listen=ticks.append)
    assert outcome.ending == "time_limit"
    assert arm.sent == []
    assert arm.holds == 0
    np.testing.assert_array_equal(arm.joints, PANDA.home)
    assert not outcome.held
    assert ticks[-1].command.joint_position[1] > PANDA.home[1] + 0.05
    assert outcome.deviation is not None
    assert outcome.deviation.joint_max_rad > 0.05
    asked = float(ticks[0].requested[1])
    assert outcome.deviation.action_mean["panda_joint2"] == pytest.approx(asked, abs=1e-4)


def test_shadow_mode_sends_nothing_on_faults_either(tmp_path: Path) -> None:
    arm = TinyArm()
    arm.silent_after_ns = arm.clock.now_ns() + SECOND // 2
    assert runner(tmp_path, arm, RunnerConfig(shadow=True)).run().ending == "stale"
    assert arm.sent == []
    assert arm.holds == 0


# the rest


def test_the_guard_is_always_on_and_counted(tmp_path: Path) -> None:
    arm = TinyArm()
    outcome = runner(tmp_path, arm, RunnerConfig(time_limit_s=4.0), bias=np.array([0, 1.0, 0, 0, 0, 0, 0, 1])).run()
    path = np.array([command.joint_position for command in arm.sent])
    speed = np.abs(np.diff(path, axis=0)).max(0) * PANDA.rate_hz
    assert np.all(speed <= PANDA.joint_array("velocity") + 1e-6)
    assert np.all(path <= PANDA.joint_array("upper"))
    assert sum(outcome.guard.values()) > 0


def test_every_episode_begins_afresh(tmp_path: Path) -> None:
    arm = TinyArm()
    tested = runner(tmp_path, arm)
    first = tested.run(start=Start(PANDA.home))
    begin = len(arm.sent)
    second = tested.run(start=Start(PANDA.home))
    assert (first.steps, first.guard) == (second.steps, second.guard)
    np.testing.assert_array_equal(arm.sent[0].joint_position, arm.sent[begin].joint_position)


def test_a_slow_part_is_counted_and_named(tmp_path: Path) -> None:
    arm = TinyArm()
    tested = runner(tmp_path, arm)

    def slow(tick: Tick) -> None:
        if tick.index in (3, 7):
            arm.clock.advance(0.12)

    assert tested.run(listen=slow).overruns == {"report": 2}


def test_the_watchdog_knows_every_source(tmp_path: Path) -> None:
    arm = TinyArm()
    tested = runner(tmp_path, arm)
    late: list[str] = []
    known: set[str] = set()

    def ask(tick: Tick) -> None:
        late.extend(source.name for source in tested.watchdog.late())
        known.update(source.name for source in tested.watchdog.sources())

    tested.run(listen=ask)
    assert late == []
    assert known == {"joint_position", "gripper_position", "tool_position", LOOP}
    arm.clock.advance(1.0)
    assert {source.name for source in tested.watchdog.late()} == known - {LOOP}  # no loop is running


def test_a_stalled_loop_is_late_while_it_runs(tmp_path: Path) -> None:
    arm = TinyArm()
    tested = runner(tmp_path, arm)
    late: list[str] = []

    def stall(tick: Tick) -> None:
        if tick.index == 3:
            arm.clock.advance(0.6)
            late.extend(source.name for source in tested.watchdog.late())

    tested.run(listen=stall)
    assert LOOP in late


def test_why_it_ended_is_told_after_the_first_hold_and_before_the_others(tmp_path: Path) -> None:
    arm = TinyArm()
    arm.silent_after_ns = arm.clock.now_ns() + SECOND // 2
    told: list[tuple[str, int]] = []
    steps = runner(tmp_path, arm).run(tell=lambda ending, why: told.append((ending, len(arm.sent)))).steps
    assert told == [("stale", steps + 1)]


def test_readiness_says_what_is_missing_stale_or_from_before_the_reset(tmp_path: Path) -> None:
    arm = TinyArm()
    tested = runner(tmp_path, arm)
    assert tested.not_ready() is None
    assert tested.not_ready(since_ns=arm.clock.now_ns()) is None
    after = tested.not_ready(since_ns=arm.clock.now_ns() + 1)
    assert after == "'joint_position' has not been received since the scene was reset."
    arm.silent_after_ns = arm.clock.now_ns()
    arm.clock.advance(1.0)
    assert "'joint_position' is 1.000 s old" in str(tested.not_ready())
    assert arm.sent == []


def test_durations_are_measured_on_the_stopwatch(tmp_path: Path) -> None:
    arm = TinyArm()
    path = write_tiny(tmp_path / "tiny.skill", STEP)
    outcome = SkillRunner(arm, load_skill(path), stopwatch_ns=arm.clock.now_ns).run(
        listen=lambda tick: arm.clock.advance(0.01)
    )
    assert outcome.work is not None
    assert outcome.period is not None
    assert outcome.work.p50_ms == pytest.approx(10.0)
    assert outcome.period.p99_ms == pytest.approx(50.0)


def test_another_robot_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    arm = TinyArm(PANDA.model_copy(update={"rate_hz": 50.0}))
    with pytest.raises(RobotMismatch, match="control rate 20 Hz in the skill, 50 Hz on the robot"):
        runner(tmp_path, arm)
    assert arm.sent == []


def test_actions_beyond_this_robots_are_refused(tmp_path: Path) -> None:
    spec = manifest().action_spec
    wider = spec.__class__(spec.name, spec.labels, spec.units, tuple(2 * x for x in spec.low), spec.high)
    with pytest.raises(RobotMismatch, match=r"Action 'panda_joint1' of skill 'tiny' reaches"):
        runner(tmp_path, TinyArm(), made=manifest(action_spec=wider))


@pytest.mark.parametrize(
    "wrong", [{"time_limit_s": 0.0}, {"max_novelty": -1.0}, {"hold_s": float("nan")}, {"novelty_ticks": 0}]
)
def test_wrong_configurations(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        RunnerConfig(**wrong)


# one observation path


class Replay(TinyArm):
    """Shows recorded raw samples, each with its recorded stamp, whatever it is told to do."""

    def __init__(self, raw: list[Observation]) -> None:
        super().__init__()
        self.raw, self.begin_ns = raw, self.clock.now_ns()

    def observe(self) -> Observation:
        return self.raw[round((self.clock.now_ns() - self.begin_ns) * 1e-9 * PANDA.rate_hz)]


def test_a_replayed_episode_gives_the_recorded_observations(tmp_path: Path) -> None:
    """Parity: what was recorded through `Control` comes out of the deployed path bit by bit, ages included."""
    arm, rng = TinyArm(), np.random.default_rng(4)
    keys = manifest().observation_keys
    control = Control(arm, "joint_delta", keys)
    raw: list[Observation] = []
    live = arm.observe

    def delayed() -> Observation:
        """Samples are up to 90 ms old, as from a driver."""
        seen = live()
        old = {key: stamp - int(rng.integers(0, 90_000_000)) for key, stamp in seen.stamps_ns.items()}
        raw.append(Observation(seen.values, old))
        return raw[-1]

    arm.observe = delayed  # type: ignore[method-assign]
    recorded = [control.begin()]
    for _ in range(39):
        control.apply(rng.uniform(control.actions.spec.low, control.actions.spec.high))
        recorded.append(control.wait())
    ticks: list[Tick] = []
    replay = Replay([*raw, raw[-1]])
    runner(tmp_path, replay, RunnerConfig(shadow=True, time_limit_s=2.0)).run(listen=ticks.append)
    assert len(ticks) == len(recorded) == 40
    for tick, before in zip(ticks, recorded, strict=True):
        assert tick.aligned.ages_s == before.ages_s
        for key in keys:
            np.testing.assert_array_equal(tick.aligned.values[key], before.values[key])


def test_in_simulation_the_deployed_loop_is_the_training_loop(tmp_path: Path) -> None:
    """The same skill from the same start: `ArmEnv` (training) and `SkillRunner` (deployed) see the same, bit by bit."""
    pytest.importorskip("pybullet")
    from understudy.envs.arm_env import ArmEnv
    from understudy.envs.arms.guard import Guard
    from understudy.envs.arms.sim_arm import SimArm
    from understudy.envs.tasks.task import make_task

    task = make_task("lift")
    made = manifest(space="tool_delta", horizon=task.horizon, chunk=1, execute=1)
    weight = np.random.default_rng(2).normal(size=(7, 7)) * 0.2
    bias = np.array([0.1, 0.2, -0.5, 0, 0, 0.3, 0.2])
    path = write_skill(tmp_path / "sim.skill", made, affine_onnx(made, bias, weight), None, {})
    skill = load_skill(path)
    start = task.start(PANDA, np.random.default_rng(7))

    env = ArmEnv(Guard(SimArm(PANDA, task.objects)), task)
    policy = SkillPolicy(skill)
    seen, _ = env.reset(options={"start": start})
    trained = []
    for _ in range(task.horizon):
        trained.append(seen)
        seen, _, _, _, _ = env.step(policy.act(seen))
    env.close()

    arm = SimArm(PANDA, task.objects)
    ticks: list[Tick] = []
    outcome = SkillRunner(arm, skill).run(start=start, listen=ticks.append)
    arm.close()
    assert outcome.ending == "time_limit"
    assert len(ticks) == len(trained) == task.horizon
    for tick, before in zip(ticks, trained, strict=True):
        for key in made.observation_keys:
            np.testing.assert_array_equal(tick.aligned.values[key], before[key])
    travelled = np.ptp([tick.aligned.values["tool_position"] for tick in ticks], axis=0)
    assert travelled.max() > 0.05
