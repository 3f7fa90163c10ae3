"""Draws docs/images/task-<name>.png: a frame of each task, played by its expert; a goal is a ring around its tolerance.

python -m understudy.benchmarks.task_pictures --out docs/images
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from understudy.envs.arms.sim_render import CAMERAS, View
from understudy.envs.experts.expert import make_expert
from understudy.envs.make import make_env

VIEW = View(yaw_rad=-0.054, pitch_rad=-0.112, fov_scale=0.62)
SIZE, FINER = (560, 420), 3
GREEN = (30, 150, 60)


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
        goal = _play(env, shot, round(shot.share * steps))
        arm: Any = env.control.arm
        simulated = arm.inner
        simulated.renderer.set_view(shot.view)
        width, height = (FINER * side for side in SIZE)
        picture = Image.fromarray(simulated.renderer.draw("front", width, height))
    finally:
        env.close()
    if goal is not None:
        tolerance = env.task.goal.tolerance_m if env.task.goal else 0.0
        _ring(picture, shot.view, np.asarray(goal, np.float64), tolerance)
    return picture.resize(SIZE, Image.Resampling.LANCZOS)


def _play(env: Any, shot: Shot, steps: int | None) -> Any:
    """Play `steps` steps and return the goal there, or the whole episode and return how many steps it took."""
    expert = make_expert(env.task.name, shot.robot)
    observation, _ = env.reset(seed=shot.seed)
    expert.reset(observation)
    done, played = False, 0
    while not done and played != steps:
        observation, _, terminated, truncated, _ = env.step_units(expert.act(observation))
        done, played = terminated or truncated, played + 1
    return played if steps is None else observation.get("goal_position")


def _ring(picture: Image.Image, view: View, centre: NDArray[np.float64], radius: float) -> None:
    """A sphere's outline, as the camera would see it."""
    eye, target, fov_deg = view.stand(CAMERAS["front"])
    ahead = np.subtract(target, eye) / np.linalg.norm(np.subtract(target, eye))
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    up = np.cross(right, ahead)
    away = centre - eye
    scale = picture.height / 2 / np.tan(np.radians(fov_deg) / 2) / float(away @ ahead)
    x, y = picture.width / 2 + scale * float(away @ right), picture.height / 2 - scale * float(away @ up)
    size = scale * radius
    draw = ImageDraw.Draw(picture)
    draw.ellipse((x - size, y - size, x + size, y + size), outline=GREEN, width=2 * FINER)
    draw.ellipse((x - 3 * FINER, y - 3 * FINER, x + 3 * FINER, y + 3 * FINER), fill=GREEN)


if __name__ == "__main__":
    main()
