"""The picture of a policy's robustness: one panel a parameter, the least robust first."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.drawing.picture_style import BLUE, INK, RED, SOFT, new_figure, prepare, save
from understudy.envs.parameters import PARAMETERS
from understudy.learners.robustness import Robustness, Sweep

COLUMNS = 4
BAND = "#e9e2cc"


def draw_robustness(found: Robustness, path: Path) -> None:
    """One panel a parameter, the least robust first.

    Raises:
        InputError: the picture may not be written there.
    """
    sweeps = sorted(found.sweeps, key=lambda sweep: (sweep.worst.rate, sweep.parameter))
    rows = _rows(len(sweeps))
    figure = new_figure(110 + 235 * len(rows), path)
    grid = figure.add_gridspec(len(rows), 1, hspace=0.55)
    left = iter(sweeps)
    for row, count in enumerate(rows):
        cells = grid[row, 0].subgridspec(1, count, wspace=0.08)
        for column in range(count):
            axis = figure.add_subplot(cells[0, column])
            draw_sweep(axis, next(left))
            axis.tick_params(labelleft=column == 0)
    episodes = sweeps[0].points[0].episodes if sweeps else 0
    head = f"{found.policy or 'policy'} at {found.task} on {found.robot}: success against each parameter alone"
    legend = (
        f"{episodes} episodes a point, 95% intervals. Dashed: nominal. Square: below half. "
        f"Band: training range ({found.trained})."
    )
    height_px = figure.get_size_inches()[1] * figure.dpi
    figure.text(0.012, 1 - 30 / height_px, head, fontsize=15, color=INK)
    figure.text(0.012, 1 - 54 / height_px, legend, fontsize=11, color=SOFT)
    figure.subplots_adjust(left=0.035, right=0.99, top=1 - 95 / height_px, bottom=35 / height_px)
    save(figure, path)


def _rows(panels: int) -> list[int]:
    """How many panels stand in each row: no more than `COLUMNS`, and one more or less than in any other row."""
    rows = math.ceil(panels / COLUMNS)
    return [panels // rows + (row < panels % rows) for row in range(rows)]


def draw_sweep(axis: Any, sweep: Sweep) -> None:
    """One panel: success, its interval, the nominal value, the training range."""
    unit = PARAMETERS[sweep.parameter].unit
    prepare(axis, sweep.parameter if unit == "1" else f"{sweep.parameter} [{unit}]")
    places = np.arange(len(sweep.points)) if sweep.choice else np.array([point.value for point in sweep.points])
    _draw_marks(axis, sweep, places)
    rates = np.array([point.rate for point in sweep.points])
    lows, highs = np.array([point.interval for point in sweep.points]).T
    axis.vlines(places, lows, highs, color=BLUE, linewidth=2.0, alpha=0.45)
    # between the values of a choice there is nothing that a line could stand for
    axis.plot(places, rates, color=BLUE, marker="o", markersize=4, linewidth=1.6, linestyle="" if sweep.choice else "-")
    broken = rates < 0.5
    axis.plot(places[broken], rates[broken], color=RED, marker="s", markersize=7, linestyle="none")
    if sweep.choice:
        axis.set_xticks(places, [f"{point.value:.3g}" for point in sweep.points])
        axis.set_xlim(-0.6, len(places) - 0.4)
    elif sweep.logarithmic:
        axis.set_xscale("log")
        ticks = places[0], sweep.nominal, places[-1]
        axis.set_xticks(ticks, [f"{value:.2g}" for value in ticks])
        axis.set_xticks([], minor=True)
    else:
        axis.locator_params(axis="x", nbins=4)  # more labels of small numbers run into each other
    axis.set_ylim(-0.04, 1.04)
    axis.set_yticks([0.0, 0.5, 1.0], ["0%", "50%", "100%"])


def _draw_marks(axis: Any, sweep: Sweep, places: NDArray[Any]) -> None:
    """The nominal value, and where training drew from."""
    nominal = next(at for at, point in zip(places, sweep.points, strict=True) if point.value == sweep.nominal)
    axis.axvline(nominal, color=SOFT, linestyle="--", linewidth=1.2)
    if sweep.trained is None:
        return
    low, high = sweep.trained
    if not sweep.choice:
        axis.axvspan(low, high, color=BAND, zorder=0)
        return
    for at, point in zip(places, sweep.points, strict=True):
        if low <= point.value <= high:
            axis.axvspan(at - 0.5, at + 0.5, color=BAND, zorder=0)
