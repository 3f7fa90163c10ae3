"""`understudy deploy`: run a skill on an arm over ROS 2, with the Guard between them."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from understudy.cli.signals import uninterrupted
from understudy.datasets.schema import is_image
from understudy.deploy.deployment import DeployConfig, deploy
from understudy.deploy.runner import RunnerConfig, SkillRunner
from understudy.deploy.saying import say
from understudy.deploy.skill import Skill, check_robot, load_skill
from understudy.envs.arms.robot import RobotDescription, load_robot
from understudy.errors import ArmFault, InputError

if TYPE_CHECKING:
    from understudy.deploy.report import DeploymentReport
    from understudy.deploy.ros_node import DeployNode, StopSignals
    from understudy.envs.arms.clock import Clock
    from understudy.envs.arms.ros_arm import RosArm

__all__ = ["Deploy"]

WAIT_SLICE_S = 0.5
"""Between looks whether somebody wants to stop, while waiting for the arm."""
DISCOVERY_S = 3.5
"""Others on the graph are found within this long (1.8 s at most of 12 with the shipped Fast DDS profile; by its default
each announces itself every 3 s); before that, nobody is known to be alone at the arm."""
RECORDER_SETTLE_S = 0.5
"""A recorder found by us may need this long to have found us too."""

_RUNNER = RunnerConfig()
_DEPLOY = DeployConfig()


@dataclass(frozen=True)
class Deploy:
    """Run a skill on an arm over ROS 2, with the Guard between them.

    Ctrl-C (or SIGTERM) stops the arm and then the program. Try --shadow first: it decides and reports what it would
    have sent, and sends nothing. Leaves with 0 when all episodes ran, 1 when something was amiss and the
    arm had to be held.

    Example:
        understudy deploy lift.skill --robot panda --shadow
        understudy deploy lift.skill --robot panda --episodes 20 --reset-service /sim_arm/reset \\
            --success-topic /sim_arm/success --out report.json
    """

    skill: tyro.conf.Positional[Path]
    """The skill's file."""
    robot: str
    """A shipped robot, or the path of a robot's YAML file."""
    shadow: bool = _RUNNER.shadow
    """Decide and report, but send nothing to the arm."""
    episodes: int = _DEPLOY.episodes
    """How many episodes to run."""
    reset_service: str | None = _DEPLOY.reset_service
    """std_srvs/Trigger that prepares the scene before each episode; by default the robot file's, if it has one."""
    success_topic: str | None = _DEPLOY.success_topic
    """std_msgs/Bool that says when the task is done; without it nobody judges."""
    time_limit_s: float | None = _RUNNER.time_limit_s
    """An episode ends after this long; by default the task's own horizon."""
    max_novelty: float | None = _RUNNER.max_novelty
    """Hold when an observation is this many standard deviations outside what training saw; None only reports it."""
    allow_narrower_limits: bool = _RUNNER.allow_narrower_limits
    """Accept a robot whose limits are narrower than the skill's; the Guard will cut its motions."""
    ready_s: float = _DEPLOY.ready_s
    """How long to wait for the arm's first observations, s."""
    recorded: bool = False
    """Begin only when a recorder watches (understudy record TASK --watch), so that it misses nothing."""
    out: Path | None = None
    """Write the report here, as JSON."""
    json: bool = False
    """Print the report as JSON instead of a table."""

    def run(self) -> int:
        robot = load_robot(self.robot)
        config = self._config(robot.ros.reset_service)
        skill = load_skill(self.skill)
        check_robot(skill.manifest, robot, allow_narrower_limits=self.allow_narrower_limits)
        self._require_writable()
        report, problem, code = _run_on_graph(skill, robot, config, self.recorded)
        self._show(report)
        if problem is not None:
            say(f"error: {problem}")
        return code

    def _require_writable(self) -> None:
        """Refuse a place where the report cannot be written before the arm moves, not after."""
        if self.out is None:
            return
        if self.out.is_dir():
            raise InputError(f"--out {self.out} is a folder; give the file that the report is written to.")
        self.out.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(self.out if self.out.exists() else self.out.parent, os.W_OK):
            raise InputError(f"--out {self.out} cannot be written; give another file.")

    def _config(self, reset_service: str | None) -> DeployConfig:
        runner = RunnerConfig(
            shadow=self.shadow,
            time_limit_s=self.time_limit_s,
            max_novelty=self.max_novelty,
            allow_narrower_limits=self.allow_narrower_limits,
        )
        return DeployConfig(
            self.episodes, self.reset_service or reset_service, self.success_topic, self.ready_s, runner
        )

    def _show(self, report: DeploymentReport) -> None:
        text = json.dumps(report.as_dict(), indent=2)
        if self.out is not None:
            self.out.write_text(text + "\n")
        if self.json:
            say(text, sys.stdout)
        elif report.episodes:
            say(report.table(), sys.stdout)


def _run_on_graph(
    skill: Skill, robot: RobotDescription, config: DeployConfig, recorded: bool
) -> tuple[DeploymentReport, str | None, int]:
    """Run the deployment on ROS 2 and leave the graph: hold (done by then), arm, node."""
    with uninterrupted():
        from understudy.deploy.ros_node import DeployNode, StopSignals
        from understudy.envs.arms.ros_arm import RosArm

    keys = skill.manifest.observation_keys
    cameras = tuple(key.removeprefix("image_") for key in keys if is_image(key))
    with StopSignals() as signals:
        node = DeployNode(skill.manifest, signals, config.success_topic)
        arm = RosArm(robot, cameras=cameras)
        try:
            runner = SkillRunner(arm, skill, config.runner)
            node.watch(runner, arm.hold)
            _wait_for_arm(arm, node, keys, signals, config)
            if recorded:
                _wait_for_recorder(node, arm.clock, signals, config.ready_s)
            report, problem = deploy(runner, arm.clock, node, config, say)
        finally:
            arm.close()
            node.close()
        code = 130 if signals.why is not None else int(problem is not None)
        return report, problem, code


def _wait_for_recorder(node: DeployNode, clock: Clock, signals: StopSignals, timeout_s: float) -> None:
    """Wait until somebody records what the node tells, or until somebody stops it.

    Raises:
        InputError: nobody did within `timeout_s`.
    """
    end_ns = clock.now_ns() + round(timeout_s * 1e9)
    while signals.why is None and not node.recorded:
        if clock.now_ns() >= end_ns:
            raise InputError(
                f"Nobody has recorded for {timeout_s:g} s: start `understudy record TASK --watch`, or leave "
                "--recorded out."
            )
        clock.sleep_until(clock.now_ns() + round(WAIT_SLICE_S * 1e9))
    clock.sleep_until(clock.now_ns() + round(RECORDER_SETTLE_S * 1e9))


def _wait_for_arm(
    arm: RosArm, node: DeployNode, keys: tuple[str, ...], signals: StopSignals, config: DeployConfig
) -> None:
    """Wait for the arm's first observations and for all who take part, or until somebody stops it.

    Raises:
        ArmFault: it took too long; names the topics and what is the matter with them.
    """
    sensed = tuple(key for key in keys if not key.startswith("tool_"))
    joined_ns = arm.clock.now_ns()
    end_ns = joined_ns + round(config.ready_s * 1e9)
    while signals.why is None:
        late = arm.clock.now_ns() >= end_ns
        try:
            arm.wait_until_ready(sensed, WAIT_SLICE_S)
        except ArmFault:
            if late:
                raise
            continue
        problem = _not_ready(arm, node, config)
        if problem is None and arm.clock.now_ns() >= joined_ns + round(DISCOVERY_S * 1e9):
            return
        if late and problem is not None:
            raise ArmFault(problem)
        arm.clock.sleep_until(arm.clock.now_ns() + round(WAIT_SLICE_S * 1e9 / 10))


def _not_ready(arm: RosArm, node: DeployNode, config: DeployConfig) -> str | None:
    """Who is missing, or one too many, on the graph; None when the skill may begin."""
    if node.unjudged is not None:
        return f"{node.unjudged}: correct --success-topic, or leave it out."
    if config.runner.shadow:
        return None
    topic = arm.describe().ros.command_topic
    if not arm.listened_to:
        return (
            f"Nobody has listened on {topic} for {config.ready_s:g} s: start and activate the arm's controller, "
            "or correct `ros.command_topic` in the robot's file."
        )
    if arm.rivals:
        return f"The arm is commanded already: {', '.join(arm.rivals)}; stop it first, or use --shadow."
    return None
