"""Draws docs/images/task-<name>.png: a frame of each task, played by its expert; a goal is a ball of its tolerance.

python -m understudy.benchmarks.task_pictures --out docs/images
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from understudy.envs.arm_env import ArmEnv
from understudy.envs.arms.sim_render import View
from understudy.envs.experts.expert import make_expert
from understudy.envs.make import make_env
from understudy.envs.tasks.marks import goal_marks

VIEW = View(yaw_rad=-0.054, pitch_rad=-0.112, fov_scale=0.62)
SIZE, FINER = (560, 420), 3


@dataclass(frozen=True)
class Shot:
    """Which moment of which episode is shown."""

    robot: str
    seed: int
    share: float
    """How much of the episode has passed."""
    view: View = VIEW


SHOTS = {
    "reach": Shot("panda", 4, 0.5, View(fov_scale=0.9)),
    "push": Shot("panda", 5, 0.75),
    "lift": Shot("panda", 1, 0.95),
    "pick_place": Shot("xarm6", 6, 0.75),
    "stack": Shot("xarm6", 3, 0.72),
    "insert": Shot("panda", 4, 0.75),
    "drawer": Shot("panda", 4, 0.9),
}


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    out = parser.parse_args().out
    for task, shot in SHOTS.items():
        path = out / f"task-{task}.png"
        frame(task, shot).save(path, optimize=True)
        print(path)


def frame(task: str, shot: Shot) -> Image.Image:
    """The picture of one task."""
    env = make_env(task, shot.robot)
    try:
        steps = _play(env, shot, None)
        _play(env, shot, round(shot.share * steps))
        arm: Any = env.control.arm
        simulated = arm.inner
        simulated.renderer.set_view(shot.view)
        width, height = (FINER * side for side in SIZE)
        marks = goal_marks(env.task.goal, env.aligned.values if env.aligned else {})
        picture = Image.fromarray(simulated.renderer.draw("front", width, height, marks))
    finally:
        env.close()
    return picture.resize(SIZE, Image.Resampling.LANCZOS)


def _play(env: ArmEnv, shot: Shot, steps: int | None) -> int:
    """Play so many steps, or the whole episode, from its start; returns how many that were."""
    expert = make_expert(env.task.name, shot.robot)
    observation, _ = env.reset(seed=shot.seed)
    expert.reset(observation)
    done, played = False, 0
    while not done and played != steps:
        observation, _, terminated, truncated, _ = env.step_units(expert.act(observation))
        done, played = terminated or truncated, played + 1
    return played


if __name__ == "__main__":
    main()
