"""The order of a deployment on virtual time: ready, reset, run, judge, report; and when it gives up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploy_support import PANDA, TinyArm, statistics, write_tiny

from understudy.deploy.deployment import DeployConfig, deploy
from understudy.deploy.report import DeploymentReport
from understudy.deploy.runner import RunnerConfig, SkillRunner, Tick
from understudy.deploy.skill import KeyStatistics, load_skill
from understudy.errors import ArmFault, InputError

STEP = np.array([0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])


class Desk:
    """A Front that remembers what it was told; the scene is reset by putting the arm home."""

    def __init__(self, arm: TinyArm) -> None:
        self.arm = arm
        self.stop: str | None = None
        self.stop_at_tick: int | None = None
        self.done_at_rad = np.inf
        self.resets = 0
        self.refuse_reset = False
        self.told: list[Any] = []
        self.ticks: list[Tick] = []

    def stop_asked(self) -> str | None:
        return self.stop

    def reset_scene(self, service: str, timeout_s: float) -> int | None:
        if self.refuse_reset:
            raise ArmFault(f"The service {service} was not there within {timeout_s:.0f} s; is its node running?")
        self.arm.joints = PANDA.home
        self.resets += 1
        return 100 + self.resets

    def forget_success(self) -> None:
        pass

    def success(self) -> bool:
        return bool(self.arm.joints[1] > self.done_at_rad)

    def tell_state(self, text: str) -> None:
        self.told.append(text)

    def tell_episode(self, state: str, episode: int, success: bool | None, seed: int | None) -> None:
        self.told.append((state, episode, success, seed))

    def tell_tick(self, tick: Tick) -> None:
        self.ticks.append(tick)
        if len(self.ticks) == self.stop_at_tick:
            self.stop = "Stopped by SIGINT."


def run(folder: Path, arm: TinyArm, desk: Desk, config: DeployConfig, **of: Any) -> tuple[DeploymentReport, str | None]:
    runner = SkillRunner(arm, load_skill(write_tiny(folder / "tiny.skill", STEP, **of)), config.runner)
    return deploy(runner, arm.clock, desk, config, desk.told.append)


def many(episodes: int = 3, **of: Any) -> DeployConfig:
    return DeployConfig(episodes, "/reset", "/success", **of)


def test_every_episode_is_reset_run_and_judged(tmp_path: Path) -> None:
    arm = TinyArm()
    desk = Desk(arm)
    desk.done_at_rad = PANDA.home[1] + 0.3
    report, problem = run(tmp_path, arm, desk, many())
    assert problem is None
    assert [(e.episode, e.seed, e.success) for e in report.episodes] == [(0, 101, True), (1, 102, True), (2, 103, True)]
    assert [told for told in desk.told if isinstance(told, tuple)][:2] == [
        ("running", 0, None, 101),
        ("ended", 0, True, 101),
    ]
    assert desk.told[1] == "running"
    assert desk.told[-1] == "ready"
    assert len(desk.ticks) == sum(e.outcome.steps for e in report.episodes)


def test_not_done_in_time_is_a_failure(tmp_path: Path) -> None:
    arm = TinyArm()
    report, problem = run(tmp_path, arm, Desk(arm), many(2))
    assert problem is None
    assert [e.success for e in report.episodes] == [False, False]
    assert "0 of 2 succeeded, 0.0% (95% interval 0.0% to 65.8%, Wilson)" in report.table()


def test_without_a_judge_nothing_is_claimed(tmp_path: Path) -> None:
    arm = TinyArm()
    desk = Desk(arm)
    desk.done_at_rad = -np.inf
    report, _ = run(tmp_path, arm, desk, DeployConfig())
    assert report.episodes[0].success is None
    assert desk.resets == 0
    assert "nobody judged success (--success-topic does)" in report.table()


def test_it_gives_up_when_the_arm_does(tmp_path: Path) -> None:
    arm = TinyArm()
    arm.silent_after_ns = arm.clock.now_ns() + 3_000_000_000
    desk = Desk(arm)
    report, problem = run(tmp_path, arm, desk, many(5))
    assert problem is not None
    assert "'joint_position' is" in problem
    assert [e.success for e in report.episodes] == [False, None]
    assert desk.told.count(f"holding: {problem}") == 1
    assert ("ended", 1, None, 102) in desk.told


def test_an_unfamiliar_scene_is_the_skills_failure_and_the_next_is_tried(tmp_path: Path) -> None:
    arm = TinyArm()
    ones = np.ones(7)
    narrow = {**statistics(), "joint_position": KeyStatistics(0 * ones, 0.01 * ones, -4 * ones, PANDA.home + 0.1)}
    report, problem = run(tmp_path, arm, Desk(arm), many(2), statistics=narrow)
    assert problem is None
    assert [(e.outcome.ending, e.success) for e in report.episodes] == [("unfamiliar", False)] * 2


def test_it_waits_for_the_arm_and_then_says_what_is_missing(tmp_path: Path) -> None:
    arm = TinyArm()
    arm.silent_after_ns = 0
    desk = Desk(arm)
    report, problem = run(tmp_path, arm, desk, DeployConfig(ready_s=5.0))
    assert report.episodes == ()
    assert problem is not None
    assert problem.startswith("The arm is not ready after 5 s: 'joint_position' is ")
    assert problem.endswith("Is the driver running, on the same ROS_DOMAIN_ID?")
    assert desk.told == [f"holding: {problem}"]


def test_a_reset_that_fails_ends_it(tmp_path: Path) -> None:
    arm = TinyArm()
    desk = Desk(arm)
    desk.refuse_reset = True
    report, problem = run(tmp_path, arm, desk, many())
    assert (report.episodes, arm.sent) == ((), [])
    assert problem == "The service /reset was not there within 15 s; is its node running?"


def test_stopping_while_waiting(tmp_path: Path) -> None:
    arm = TinyArm()
    arm.silent_after_ns = 0
    desk = Desk(arm)
    desk.stop = "Stopped by SIGINT."
    assert run(tmp_path, arm, desk, many())[1] == "Stopped by SIGINT."


def test_stopping_while_running_leaves_out_the_verdict(tmp_path: Path) -> None:
    arm = TinyArm()
    desk = Desk(arm)
    desk.stop_at_tick = 7
    report, problem = run(tmp_path, arm, desk, many())
    assert problem == "Stopped by SIGINT."
    assert [e.success for e in report.episodes] == [None]


def test_shadow_mode_does_not_touch_the_scene(tmp_path: Path) -> None:
    arm = TinyArm()
    desk = Desk(arm)
    report, _ = run(tmp_path, arm, desk, many(2, runner=RunnerConfig(shadow=True)))
    assert (desk.resets, arm.sent, len(report.episodes)) == (0, [], 2)
    assert "shadow mode: nothing was sent" in report.table()


def test_the_report_is_json(tmp_path: Path) -> None:
    arm = TinyArm()
    desk = Desk(arm)
    desk.done_at_rad = PANDA.home[1] + 0.3
    data = json.loads(json.dumps(run(tmp_path, arm, desk, many())[0].as_dict()))
    assert (data["successes"], data["judged"]) == (3, 3)
    assert data["success_rate_low"] == pytest.approx(0.438, abs=1e-3)
    assert data["episodes"][0]["outcome"]["ending"] == "success"
    assert set(data["episodes"][0]["outcome"]["work"]) == {"p50_ms", "p99_ms"}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"episodes": 0}, "at least 1, got 0"),
        ({"episodes": 2}, "2 episodes need --reset-service"),
        ({"ready_s": 0.0}, "ready_s must be a positive number"),
    ],
)
def test_wrong_configurations(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        DeployConfig(**wrong)
