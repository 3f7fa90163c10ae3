"""`understudy bench env`: the hand-written loop is a fair one, and a run in little gives whole tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from peers_support import peer_python

from understudy.benchmarks.environment import SAME_RAD, EnvironmentBench
from understudy.benchmarks.hand_loop import HandLoop, farthest, record
from understudy.cli.main import main
from understudy.envs.arms.sim_arm import SOLVER_RESIDUAL
from understudy.envs.make import make_env


def test_the_hand_written_loop_moves_and_observes_as_the_environment_does() -> None:
    env = make_env("lift", fixed_horizon=True)
    loop = HandLoop(env, solver_residual=SOLVER_RESIDUAL)
    rng = np.random.default_rng(3)
    actions = [rng.uniform(-0.5, 0.5, 7).astype(np.float32) for _ in range(30)]
    start, commands, seen = record(env, 3, actions)
    assert np.abs(seen[-1]["joint_position"] - start.joint_position).max() > 0.02  # it did move
    assert farthest(loop, start, commands, seen) < SAME_RAD
    assert farthest(loop, start, commands[::-1], seen) > 100 * SAME_RAD  # and other commands would have been noticed
    loop.reset(start)
    for command in commands:
        observed = loop.step(command)
    assert set(observed) == set(seen[-1])
    for key, value in observed.items():
        assert value == pytest.approx(seen[-1][key], abs=1e-5), key
    loop.close()
    env.close()


def test_what_is_missing_or_makes_no_sense_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", "env", "--peer", str(tmp_path / "python")]) == 2
    assert "make .peers/panda_gym/.installed" in capsys.readouterr().err
    assert main(["bench", "env", "--processes", "0"]) == 2
    assert "processes must be above 0" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_benchmark_in_little() -> None:
    bench = EnvironmentBench(peer_python("panda_gym"), rounds=2, seconds=0.05, environments=4, processes=2)
    tables = bench.run()
    assert all(row["median"] > 0 and row["least"] <= row["median"] <= row["most"] for row in tables["rates"])
    assert len(tables["rates"]) == 11
    ratios = {row["beside"]: row["aim, at least"] for row in tables["ratios, turn by turn"]}
    assert ratios["panda-gym, steps"] == 1.4
    assert ratios["4 in 1 process: 4 in 2 processes"] == 1.8
    assert len(tables["reset and memory"]) == 2
