"""A deployment process around the arm of a few lines, in real time: `node_process.py SKILL MODE`.

MODE: run (until the time limit), silent (the arm stops speaking after 1 s), stall (the loop hangs for 2 s).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from deploy_support import TinyArm

from understudy.deploy.deployment import DeployConfig, deploy
from understudy.deploy.ros_node import DeployNode, StopSignals
from understudy.deploy.runner import SkillRunner, Tick
from understudy.deploy.skill import load_skill
from understudy.envs.arms.clock import MonotonicClock


class PatientNode(DeployNode):
    def wait_for_listener(self) -> None:
        """Discovery takes 0.6 s, and 3.7 s in one of ten cases: a test must not depend on it."""
        publishers = (self._states, self._episodes, self._requested, self._diagnostics)
        while not all(publisher.get_subscription_count() for publisher in publishers):
            time.sleep(0.02)
        time.sleep(0.2)


class StallingNode(PatientNode):
    def tell_tick(self, tick: Tick) -> None:
        super().tell_tick(tick)
        if tick.index == 40:
            time.sleep(2.0)


def main(path: Path, mode: str) -> int:
    arm = TinyArm()
    arm.clock = MonotonicClock()
    skill = load_skill(path)
    with StopSignals() as signals:
        node = (StallingNode if mode == "stall" else PatientNode)(skill.manifest, signals, "/task_done")
        node.wait_for_listener()
        if mode == "silent":
            arm.silent_after_ns = arm.clock.now_ns() + 1_000_000_000
        runner = SkillRunner(arm, skill)
        node.watch(runner, arm.hold)
        config = DeployConfig(success_topic="/task_done", reset_service="/reset" if mode == "reset" else None)
        report, problem = deploy(runner, arm.clock, node, config, print)
        node.close()
    print(f"sent {len(arm.sent)} holds {arm.holds} seed {[e.seed for e in report.episodes]}")
    return 0 if problem is None else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
