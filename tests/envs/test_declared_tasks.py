"""Every pair of task and robot that is declared owes what every task owes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conformance.task import TaskConformance

from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.robot import known_robots
from understudy.envs.make import make_env
from understudy.envs.tasks.task import known_tasks, make_task

PAIRS = [(task, robot) for task in known_tasks() for robot in make_task(task).robots]


class TestEveryDeclaredPair(TaskConformance):
    @pytest.fixture(scope="class", params=PAIRS, ids="-".join)
    @classmethod
    def env(cls, request: pytest.FixtureRequest) -> Iterator[ArmEnv]:
        env = make_env(*request.param)
        yield env
        env.close()


def test_only_shipped_robots_are_declared_and_each_has_a_task():
    declared = {robot for _, robot in PAIRS}
    assert declared == set(known_robots())
    assert {task for task, robot in PAIRS if robot == "panda"} == set(known_tasks())
    assert {task for task, robot in PAIRS if robot == "kuka_iiwa"} == {"push", "reach"}
