"""Every task is recorded by a command, and replay brings its episode back to the last bit: its outcome, its objects."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pybullet")

from understudy.cli.main import main
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import load_robot
from understudy.envs.replay import Replayer
from understudy.envs.tasks.task import known_tasks, make_task

QUICK = {"drawer", "push"}
"""A slide, and contact without a grip; what is gripped is much the same in all other tasks, which take longer."""
MARKED = [task if task in QUICK else pytest.param(task, marks=pytest.mark.slow) for task in known_tasks()]


@pytest.mark.parametrize("task", MARKED)
def test_a_recorded_episode_comes_back(task: str, tmp_path: Path):
    """A drawer once ended 5 mm off and a peg beside its hole: their starts were kept as rounded states alone."""
    folder = tmp_path / task
    assert main(["record", task, "--episodes", "1", "--out", str(folder), "--json"]) == 0
    (episode,) = Dataset.open(folder).episodes()
    assert set(make_task(task).observation_keys) <= set(episode.observations)
    with Replayer(load_robot("panda"), make_task(task)) as replayer:
        played = replayer.play(episode)
    assert played.compared_with == "simulator states"
    assert {deviation.name for deviation in played.deviations} == {
        "joint_position",
        "tool_position",
        *(f"{name}_position" for name in make_task(task).objects),
    }
    assert all(deviation.worst == 0.0 for deviation in played.deviations), played.deviations
    assert played.success_recorded
    assert played.success_replayed
