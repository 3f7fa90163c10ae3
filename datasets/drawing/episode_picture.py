"""One episode at a glance: cameras, joints, every number of the action in its three channels, rewards, ages.

Owns the layout; nothing is judged here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.checking.measures import duration_s
from understudy.datasets.drawing.picture_style import (
    BLUE,
    CYCLE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    SOFT,
    STYLES,
    WIDTH_PX,
    new_figure,
    prepare,
    save,
)
from understudy.datasets.episode import Episode
from understudy.datasets.schema import is_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
FRAMES = 8
_HEAD_PX, _PANEL_PX, _STRIP_PX, _FOOT_PX = 96, 240, 170, 40
_CHANNELS = (("requested", ORANGE, "--", 1.8), ("sent", BLUE, "-", 1.5), ("measured", GREEN, ":", 2.2))

Vector = NDArray[Any]


def draw_episode(episode: Episode, path: Path, title: str) -> None:
    """Draw `episode` into `path` (png, svg or pdf), 1600 pixels wide.

    Raises:
        InputError: another file ending.
    """
    cameras = [key for key in sorted(episode.observations) if is_image(key)]
    panels = 4 + episode.info.action_spec.size
    rows = -(-panels // COLUMNS)
    height = _HEAD_PX + _STRIP_PX * len(cameras) + _PANEL_PX * rows + _FOOT_PX
    figure = new_figure(height, path)
    _headline(figure, episode, title, height)
    top = _HEAD_PX
    for key in cameras:
        _draw_strip(figure, episode, key, top, height)
        top += _STRIP_PX
    grid = figure.add_gridspec(
        rows,
        COLUMNS,
        left=0.06,
        right=0.985,
        top=1 - (top + 30) / height,
        bottom=(_FOOT_PX + 14) / height,
        hspace=0.42,
        wspace=0.27,
    )
    axes = [figure.add_subplot(grid[index // COLUMNS, index % COLUMNS]) for index in range(panels)]
    time_s = (episode.tick_ns - episode.tick_ns[0]) * 1e-9
    _draw_joints(axes[0], episode, time_s)
    _draw_places(axes[1], episode, time_s)
    _draw_reward(axes[2], episode, time_s)
    _draw_ages(axes[3], episode, time_s)
    for index, panel in enumerate(axes[4:]):
        _draw_number(panel, episode, time_s, index)
    for panel in axes:
        panel.set_xlim(0.0, max(float(time_s[-1]), 1e-3))
    for panel in axes[-COLUMNS:]:
        panel.set_xlabel("s", fontsize=10, color=SOFT, labelpad=1)
    save(figure, path)


def _headline(figure: Figure, episode: Episode, title: str, height: float) -> None:
    info = episode.info
    verdict = {True: "success", False: "no success", None: "not judged"}[info.success]
    facts = [
        f"{info.task} on {info.robot}",
        f"{len(episode)} steps, {duration_s(episode):.1f} s at {info.rate_hz:g} Hz",
        verdict,
    ]
    facts += [f"{info.operator} by {info.device}", f"{info.action_spec.name}, trains on {info.actions}"]
    facts += [f"seed {info.seed}"] if info.seed is not None else []
    facts += [f"{len(info.randomization)} physics drawn"] if info.randomization else []
    facts += [info.note] if info.note else []
    figure.text(0.06, 1 - 30 / height, title, fontsize=18, fontweight="bold", color=INK, va="center")
    line = "   |   ".join(facts)
    figure.text(
        0.06, 1 - 60 / height, line if len(line) < 190 else line[:189] + "…", fontsize=11.5, color=SOFT, va="center"
    )


def _draw_strip(figure: Figure, episode: Episode, key: str, top: float, height: float) -> None:
    """Frames of a camera, evenly spaced, with the second they belong to."""
    frames = episode.observations[key]
    rows = np.unique(np.linspace(0, len(frames) - 1, FRAMES).round().astype(int))
    left, width, gap = 0.06, 0.925, 0.006
    each = (width - gap * (FRAMES - 1)) / FRAMES
    figure.text(left, 1 - (top + 8) / height, key, fontsize=11.5, color=INK, va="center")
    tall = min((_STRIP_PX - 32) / height, each * WIDTH_PX / height * frames.shape[1] / frames.shape[2])
    for place, row in enumerate(rows):
        axes = figure.add_axes((left + place * (each + gap), 1 - (top + 20) / height - tall, each, tall))
        axes.imshow(frames[row])
        axes.set_axis_off()
        seconds = float(episode.tick_ns[row] - episode.tick_ns[0]) * 1e-9
        label = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        axes.text(0.03, 0.95, f"{seconds:.1f} s", transform=axes.transAxes, fontsize=9, va="top", bbox=label)


def _legend(axes: Axes, columns: int = 4) -> None:
    axes.legend(
        fontsize=8.2,
        ncols=columns,
        loc="upper left",
        bbox_to_anchor=(0.0, 1.0),
        frameon=True,
        framealpha=0.75,
        edgecolor="none",
        facecolor="white",
        handlelength=1.7,
        columnspacing=0.7,
        borderpad=0.15,
        labelspacing=0.2,
        labelcolor=INK,
    )
    low, high = axes.get_ylim()
    rows = -(-len(axes.get_legend_handles_labels()[0]) // columns)
    axes.set_ylim(low, high + (high - low) * 0.13 * rows)  # the legend covers no line


def _empty(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color=SOFT, fontsize=10)
    axes.set_yticks([])


def _draw_lines(axes: Axes, time_s: Vector, named: list[tuple[str, Vector]]) -> None:
    for index, (name, values) in enumerate(named):
        colour, style = CYCLE[index % len(CYCLE)], STYLES[index % len(STYLES)]
        axes.plot(time_s, values, color=colour, linestyle=style, linewidth=1.5, label=name)


def _draw_joints(axes: Axes, episode: Episode, time_s: Vector) -> None:
    prepare(axes, "Joint positions (rad)")
    if "joint_position" not in episode.observations:
        _empty(axes, "not recorded")
        return
    joints = episode.observations["joint_position"]
    _draw_lines(axes, time_s, [(str(index), joints[:, index]) for index in range(joints.shape[1])])
    _legend(axes, 7)


def _draw_places(axes: Axes, episode: Episode, time_s: Vector) -> None:
    """Where the tool is, and the first thing that lies or is aimed at: colour tells the axis, style the thing."""
    prepare(axes, "Tool (line), object or goal (dashes): m")
    names = ["tool_position"]
    names += [key for key in sorted(episode.observations) if key.startswith(("object", "goal")) and "_pos" in key][:1]
    drawn = False
    for key, style, width in zip(names, ("-", "--"), (1.6, 1.4), strict=False):
        values = episode.observations.get(key)
        if values is None or values.shape[1:] != (3,):
            continue
        for axis, colour in zip(range(3), (BLUE, ORANGE, GREEN), strict=True):
            label = "xyz"[axis] if not drawn else None
            axes.plot(time_s, values[:, axis], color=colour, linestyle=style, linewidth=width, label=label)
        drawn = True
    if drawn:
        _legend(axes, 3)
    else:
        _empty(axes, "not recorded")


def _draw_reward(axes: Axes, episode: Episode, time_s: Vector) -> None:
    prepare(axes, f"Reward of each step; sum {episode.return_:.1f}")
    axes.fill_between(time_s, 0.0, episode.rewards, step="mid", color=FAINT)
    axes.plot(time_s, episode.rewards, color=INK, linewidth=1.4, drawstyle="steps-mid")


def _draw_ages(axes: Axes, episode: Episode, time_s: Vector) -> None:
    """Ages, those that are the same drawn once."""
    prepare(axes, "Age of observations at their tick (ms)")
    groups: dict[bytes, list[str]] = {}
    for key, ages in sorted(episode.ages_s.items()):
        groups.setdefault(np.asarray(ages, np.float32).tobytes(), []).append(key)
    if not groups:
        _empty(axes, "not recorded")
        return
    named = []
    for keys in groups.values():
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        named.append((f"{keys[0]}{more}", np.asarray(episode.ages_s[keys[0]], np.float64) * 1e3))
    _draw_lines(axes, time_s, named)
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), max(1.0, axes.get_ylim()[1]))
    _legend(axes, 2)


def _draw_number(axes: Axes, episode: Episode, time_s: Vector, index: int) -> None:
    """One number of the action in its three channels, with its bounds where they are near."""
    spec = episode.info.action_spec
    label, unit = spec.labels[index], spec.units[index]
    prepare(axes, f"Action: {label} ({unit})")
    for name, colour, style, width in _CHANNELS:
        values = episode.channel(name)[:, index]  # type: ignore[arg-type]
        axes.plot(time_s, values, color=colour, linestyle=style, linewidth=width, label=name)
    if label == "gripper" and "gripper_position" in episode.observations:
        opening = episode.observations["gripper_position"][:, 0]
        axes.plot(time_s, opening, color=INK, linewidth=0.9, linestyle=(0, (1, 3)), label="observed")
    low, high = axes.get_ylim()
    for bound in (spec.low[index], spec.high[index]):
        if low - (high - low) < bound < high + (high - low):
            axes.axhline(bound, color="#b9b3a4", linewidth=1.0, linestyle=(0, (6, 3)), zorder=0)
    axes.locator_params(axis="y", nbins=6)
    _legend(axes, 3)
