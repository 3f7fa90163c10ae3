"""Pictures of runs: what was logged over training, and success rates with their intervals.

Owns figures only; the numbers are the runs'. Colours are Okabe and Ito's, told apart by colour-blind readers, and every
line also has a style of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from understudy.errors import InputError
from understudy.learners.runs import Run

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
PANELS: Mapping[str, str] = {
    "reward": "reward of an episode",
    "episode_length": "episode length (steps)",
    "success": "success while training",
    "loss": "loss",
    "discriminator_accuracy": "discriminator accuracy",
}
"""Metric -> title, in the order of the panels."""
TRAINING, SUCCESS = "training.png", "success.png"


def plot_runs(paths: Sequence[str | Path], out: str | Path) -> list[Path]:
    """Draw `training.png` (reward, episode length and what else was logged) and, where something was evaluated,
    `success.png`; returns the files.

    Raises:
        InputError: no run was given, or one cannot be read.
    """
    if not paths:
        raise InputError("There is no run to plot; give the folder of at least one.")
    runs = [Run.open(path) for path in paths]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    if any(run.metrics() for run in runs):
        files.append(draw_training(runs, folder / TRAINING))
    if any(run.evaluations() for run in runs):
        files.append(draw_success(runs, folder / SUCCESS))
    if not files:
        raise InputError(f"Nothing was logged or evaluated yet in {', '.join(str(run.path) for run in runs)}.")
    return files


def draw_training(runs: Sequence[Run], out: Path) -> Path:
    """One row a task (rewards of different tasks do not compare), one column a metric, one line a run."""
    tasks = list(dict.fromkeys(run.config.task for run in runs))
    names = dict(zip(runs, labels(runs), strict=True))
    logged = {run: run.metrics() for run in runs}
    panels = [name for name in PANELS if any(name in row for rows in logged.values() for row in rows)]
    size = (3.4 * len(panels), 2.9 * len(tasks))
    figure, grid = plt.subplots(len(tasks), len(panels), figsize=size, squeeze=False, constrained_layout=True)
    for row, task in zip(grid, tasks, strict=True):
        for axis, panel in zip(row, panels, strict=True):
            for number, run in enumerate(runs):
                if run.config.task == task:
                    _draw_curve(axis, logged[run], panel, names[run], number)
                    _draw_level(axis, run, panel, names[run], number, bool(logged[run]))
            _finish(axis, panel, task)
    figure.savefig(out, dpi=120)
    plt.close(figure)
    return out


def _draw_curve(axis: Axes, rows: Sequence[Mapping[str, float]], panel: str, name: str, number: int) -> None:
    points = np.array([(row["step"], row[panel]) for row in rows if panel in row])
    if len(points):
        style = {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number % len(STYLES)]}
        axis.plot(points[:, 0], points[:, 1], label=name, linewidth=1.8, **style)  # type: ignore[arg-type]


def _draw_level(axis: Axes, run: Run, panel: str, name: str, number: int, logged: bool) -> None:
    """A run that learned without acting has no reward over training; what it was later measured at is a level."""
    if not logged or any(panel in row for row in run.metrics()):
        return
    for measured in run.evaluations():
        levels = {"reward": measured.mean_return, "episode_length": measured.mean_steps, "success": measured.rate}
        if panel in levels and measured.suite == "nominal":
            colour = COLOURS[number % len(COLOURS)]
            axis.axhline(levels[panel], color=colour, linewidth=1.2, alpha=0.7, label=f"{name}, evaluated")


def _finish(axis: Axes, panel: str, task: str) -> None:
    if not axis.has_data():
        axis.set_axis_off()
        return
    axis.set_title(f"{task}: {PANELS[panel]}", fontsize=10)
    axis.set_xlabel("gradient step" if panel == "loss" else "step", fontsize=9)
    if panel == "success":
        axis.set_ylim(-0.03, 1.03)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.grid(alpha=0.3)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8)


def draw_success(runs: Sequence[Run], out: Path) -> Path:
    """Success rates with 95% Wilson intervals: one group of bars a task and suite, one bar a run."""
    names = dict(zip(runs, labels(runs), strict=True))
    measured = [(run, item) for run in runs for item in run.evaluations()]
    groups = list(dict.fromkeys((item.task, item.suite) for _, item in sorted(measured, key=_group_order)))
    figure, axis = plt.subplots(figsize=(max(4.5, 1.1 * len(measured) + 2.0), 3.8), constrained_layout=True)
    place, ticks, drawn = 0.0, [], set()
    for group in groups:
        members = [(run, item) for run, item in measured if (item.task, item.suite) == group]
        for offset, (run, item) in enumerate(members):
            colour = COLOURS[runs.index(run) % len(COLOURS)]
            low, high = item.interval
            label = None if run in drawn else names[run]
            axis.bar(place + offset, item.rate, 0.8, color=colour, alpha=0.85, label=label)
            errors = [[item.rate - low], [high - item.rate]]
            axis.errorbar(place + offset, item.rate, yerr=errors, color="black", capsize=4, linewidth=1.2)
            axis.text(place + offset, high + 0.02, f"{item.successes}/{item.episodes}", ha="center", fontsize=9)
            drawn.add(run)
        ticks.append(place + (len(members) - 1) / 2)
        place += len(members) + 0.8
    axis.set_xticks(ticks, [f"{task}\n{suite}" for task, suite in groups])
    axis.set_ylim(0.0, 1.12)
    axis.set_yticks(np.linspace(0, 1, 6))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_ylabel("success, 95% Wilson interval")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    figure.savefig(out, dpi=120)
    plt.close(figure)
    return out


def _group_order(entry: tuple[Run, object]) -> str:
    return entry[0].config.task


def labels(runs: Sequence[Run]) -> list[str]:
    """Short names of runs: their folders', with what tells equal ones apart in front."""
    names = [run.path.resolve().name for run in runs]
    if len(set(names)) == len(names):
        return names
    return [f"{run.path.resolve().parent.name}/{name}" for run, name in zip(runs, names, strict=True)]
