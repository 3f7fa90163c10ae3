"""Episodes of a skill, one after the other: wait until the arm speaks, reset the scene, run, judge, report.

Owns the order of these and when to give up. It talks to the graph through `Front` (`ros_node.py` is the real one), so
that it runs in tests on virtual time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from understudy import __version__
from understudy.deploy.report import DeploymentReport, EpisodeReport
from understudy.deploy.runner import NORMAL, Ending, Outcome, RunnerConfig, SkillRunner, Tick
from understudy.deploy.skill import SkillManifest
from understudy.envs.arms.clock import Clock
from understudy.envs.arms.robot import require_ros_name
from understudy.errors import ArmFault, InputError

SETTLE_S = 0.1
"""Samples younger than this after a reset may still have been on their way from before it."""
POLL_S = 0.02
GOES_ON: tuple[Ending, ...] = (*NORMAL, "unfamiliar")
"""Endings after which a reset scene may be tried again: the skill failed, the machine did not."""


@dataclass(frozen=True)
class DeployConfig:
    """How many episodes, how they are reset and judged."""

    episodes: int = 1
    """How many episodes to run."""
    reset_service: str | None = None
    """std_srvs/Trigger that prepares the scene before each episode; its message may be JSON with a "seed"."""
    success_topic: str | None = None
    """std_msgs/Bool (transient local) that says when the task is done; without it nobody judges."""
    ready_s: float = 15.0
    """How long to wait for the arm's first observations, and for the resetting service."""
    runner: RunnerConfig = field(default_factory=RunnerConfig)

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise InputError(f"Deploy: episodes must be at least 1, got {self.episodes}.")
        if self.episodes > 1 and self.reset_service is None:
            raise InputError(
                f"Deploy: {self.episodes} episodes need --reset-service, which prepares the scene between them; "
                "or run one episode at a time."
            )
        require_ros_name(self.reset_service, "--reset-service")
        require_ros_name(self.success_topic, "--success-topic")
        if not (math.isfinite(self.ready_s) and self.ready_s > 0):
            raise InputError(f"Deploy: ready_s must be a positive number of seconds, got {self.ready_s}.")


class Front(Protocol):
    """What a deployment tells the world, and asks of it."""

    def stop_asked(self) -> str | None:
        """Why to stop now, or None."""

    def reset_scene(self, service: str, timeout_s: float) -> int | None:
        """Prepare the scene and return the seed it told, if any. Raises ArmFault when it cannot."""

    def forget_success(self) -> None:
        """An episode begins: what was said of success before counts no more."""

    def success(self) -> bool:
        """Whether the task was said to be done since `forget_success`."""

    def tell_state(self, text: str) -> None:
        """ready, running, or holding: why."""

    def tell_episode(self, state: str, episode: int, success: bool | None, seed: int | None) -> None:
        """An episode is running or has ended."""

    def tell_tick(self, tick: Tick) -> None:
        """A decision was made."""


class Stopped(Exception):
    """Somebody asked to stop while nothing was running."""


def deploy(
    runner: SkillRunner, clock: Clock, front: Front, config: DeployConfig, say: Callable[[str], object]
) -> tuple[DeploymentReport, str | None]:
    """Run all episodes, or as many as go.

    Args:
        runner: of the skill, on the arm.
        clock: the arm's.
        front: the graph.
        config: how many, reset and judged how.
        say: takes a line for the person at the terminal.

    Returns:
        The report, and why it ended early (None if it did not).
    """
    done: list[EpisodeReport] = []
    problem: str | None = None
    try:
        for number in range(config.episodes):
            episode = _one_episode(runner, clock, front, config, number)
            done.append(episode)
            say(_line(episode))
            if episode.outcome.ending not in GOES_ON:
                problem = episode.outcome.why
                break
            if episode.outcome.ending in NORMAL:
                front.tell_state("ready")
    except ArmFault as error:
        problem = str(error)
        front.tell_state(f"holding: {problem}")
    except Stopped as stop:
        problem = str(stop)
        front.tell_state(f"holding: {problem}")
    return _report(runner.manifest, runner, config, done), problem


def _one_episode(runner: SkillRunner, clock: Clock, front: Front, config: DeployConfig, number: int) -> EpisodeReport:
    asked = front.stop_asked()
    if asked is not None:
        raise Stopped(asked)
    _wait_until_ready(runner, clock, front, config.ready_s, since_ns=0)
    seed = None
    if config.reset_service is not None and not config.runner.shadow:
        seed = front.reset_scene(config.reset_service, config.ready_s)
        _wait_until_ready(runner, clock, front, config.ready_s, clock.now_ns() + round(SETTLE_S * 1e9))
    front.forget_success()
    front.tell_episode("running", number, None, seed)
    front.tell_state("running")
    outcome = runner.run(
        judge=lambda values: config.success_topic is not None and front.success(),
        should_stop=front.stop_asked,
        listen=front.tell_tick,
        tell=lambda ending, why: None if ending in NORMAL else front.tell_state(f"holding: {why}"),
    )
    success = _verdict(outcome, config.success_topic is not None)
    front.tell_episode("ended", number, success, seed)
    return EpisodeReport(number, seed, success, outcome)


def _verdict(outcome: Outcome, judged: bool) -> bool | None:
    """Success, failure of the skill, or None where nobody judged or the machine (not the skill) gave up."""
    if not judged or outcome.ending in ("stopped", "stale", "fault"):
        return None
    return outcome.success


def _wait_until_ready(runner: SkillRunner, clock: Clock, front: Front, timeout_s: float, since_ns: int) -> None:
    """Wait until every observation of the skill is there and fresh.

    Raises:
        ArmFault: it took too long; names what is missing.
        Stopped: somebody asked to stop.
    """
    end_ns = clock.now_ns() + round(timeout_s * 1e9)
    while (why := runner.not_ready(since_ns)) is not None:
        asked = front.stop_asked()
        if asked is not None:
            raise Stopped(asked)
        if clock.now_ns() >= end_ns:
            raise ArmFault(
                f"The arm is not ready after {timeout_s:.0f} s: {why} Is the driver running, on the same ROS_DOMAIN_ID?"
            )
        clock.sleep_until(clock.now_ns() + round(POLL_S * 1e9))


def _line(episode: EpisodeReport) -> str:
    seed = "" if episode.seed is None else f" (seed {episode.seed})"
    outcome = episode.outcome
    return f"episode {episode.episode}{seed}: {outcome.ending} after {outcome.duration_s:.1f} s. {outcome.why}"


def _report(
    manifest: SkillManifest, runner: SkillRunner, config: DeployConfig, done: list[EpisodeReport]
) -> DeploymentReport:
    return DeploymentReport(
        skill=manifest.name,
        robot=runner.robot.name,
        task=manifest.task,
        shadow=config.runner.shadow,
        software=__version__,
        episodes=tuple(done),
    )
