"""One action from one observation: our runtime, bare ONNX Runtime on the same graph, and stable-baselines3's `predict`.

All three run in turns in one process, on one thread, on the same observation. The policy has the shape of a lift skill:
2x256 hidden units; with `execute` 1 every call is a look. Prints a table and writes JSON.

    python benchmarks/inference.py --out inference.json
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import gymnasium
import numpy as np
import onnxruntime
import torch
from gymnasium import spaces
from stable_baselines3 import PPO

from understudy.deploy.runtime import SkillPolicy
from understudy.deploy.skill import KeyStatistics, load_skill
from understudy.envs.arms.robot import load_robot
from understudy.envs.make import make_env
from understudy.learners.export import export_skill
from understudy.learners.features import plan_features
from understudy.learners.policies import ChunkMLP, ChunkMLPConfig, save_policy
from understudy.learners.runs import Run, RunConfig

ROUNDS, CALLS = 20, 500


class Flat(gymnasium.Env[np.ndarray, np.ndarray]):
    """Spaces of the same size as the skill's, for stable-baselines3; it is never stepped."""

    def __init__(self, size: int, actions: int) -> None:
        self.observation_space = spaces.Box(-10, 10, (size,), np.float32)
        self.action_space = spaces.Box(-1, 1, (actions,), np.float32)


def untrained_skill(folder: Path, observation: Mapping[str, np.ndarray]) -> Path:
    """A skill with random weights; speed does not depend on them."""
    spec = make_env("lift").spec_units
    shapes = {key: value.shape for key, value in observation.items()}
    policy = ChunkMLP(plan_features(shapes, spec), shapes, spec, ChunkMLPConfig(chunk=8, execute=1))
    config = RunConfig("bc", {}, 0, "panda", "lift", 20.0, spec, shapes, "none", "none", 0)
    run = Run.create(folder / "run", config)
    save_policy(policy, run.path)
    ones = {key: np.ones(shape) for key, shape in shapes.items()}
    run.write_statistics({key: KeyStatistics(one * 0, one, -one, one) for key, one in ones.items()})
    return export_skill(run.path, folder / "bench.skill", load_robot("panda"))


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    observation, _ = make_env("lift").reset(seed=0)
    with tempfile.TemporaryDirectory() as scratch:
        skill = load_skill(untrained_skill(Path(scratch), observation))
    ours = SkillPolicy(skill)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    bare = onnxruntime.InferenceSession(skill.onnx, options, providers=["CPUExecutionProvider"])
    feed = {field.key: observation[field.key][None].astype(np.float32) for field in skill.manifest.observations}
    peer = PPO("MlpPolicy", Flat(20, 7), policy_kwargs={"net_arch": [256, 256]}, device="cpu")
    flat = np.zeros(20, np.float32)
    calls: dict[str, Callable[[], object]] = {
        "understudy SkillPolicy.act": lambda: ours.act(observation),
        "bare ONNX Runtime": lambda: bare.run(None, feed),
        "stable-baselines3 predict": lambda: peer.predict(flat, deterministic=True),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            for _ in range(CALLS):
                begin = time.perf_counter_ns()
                call()
                times[name].append((time.perf_counter_ns() - begin) * 1e-3)
    rows = {name: {f"p{q}_us": float(np.percentile(values, q)) for q in (50, 99)} for name, values in times.items()}
    own = rows["understudy SkillPolicy.act"]["p50_us"]
    for name, row in rows.items():
        print(f"{name:28} p50 {row['p50_us']:7.1f} us  p99 {row['p99_us']:7.1f} us  {row['p50_us'] / own:6.2f} of ours")
    record = {"rows": rows, "calls": ROUNDS * CALLS, "seed": 0, "machine": platform.processor() or platform.machine()}
    if arguments.out:
        arguments.out.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
