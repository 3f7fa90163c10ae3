"""A dataset at a glance: lengths and outcomes, where episodes start, what the joints cover, and the verdicts.

Owns colours and layout; the numbers come from `checks.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.datasets.checks import LEVELS, EpisodeVerdict, Level, Measures, Report
from understudy.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"ok": "#3a7d5c", "warn": "#d99a2b", "fail": "#b8433d"}
INK, SOFT, PAPER = "#26302f", "#8b9794", "#fbfaf7"
FORMATS = (".png", ".svg", ".pdf")
_MAX_REASONS = 9


def draw_report(report: Report, path: Path, title: str) -> None:
    """Draw `report` into `path` (png, svg or pdf).

    Raises:
        InputError: another file ending.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"Pictures are written as {', '.join(FORMATS)}, and {path} ends otherwise.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7.6), dpi=120, facecolor=PAPER)
    FigureCanvasAgg(figure)
    lengths, starts, joints, verdicts = figure.subplots(2, 2).ravel()
    figure.subplots_adjust(left=0.06, right=0.975, top=0.86, bottom=0.08, hspace=0.36, wspace=0.16)
    _headline(figure, report, title)
    _draw_lengths(lengths, report)
    _draw_starts(starts, report)
    _draw_joints(joints, report)
    _draw_verdicts(verdicts, report)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor=PAPER)


def _headline(figure: Any, report: Report, title: str) -> None:
    verdict = "ready to train" if report.trainable else "not ready to train"
    colour = COLOURS["ok" if report.trainable else "fail"]
    figure.text(0.06, 0.94, title, fontsize=17, fontweight="bold", color=INK, va="center")
    figure.text(0.975, 0.94, verdict, fontsize=14, fontweight="bold", color=colour, va="center", ha="right")


def _prepare(axes: Axes, title: str) -> None:
    axes.set_facecolor(PAPER)
    axes.set_title(title, loc="left", fontsize=11, color=INK, pad=9)
    axes.tick_params(colors=SOFT, labelsize=8.5, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#d8d4ca")
    axes.grid(axis="y", color="#ebe7de", linewidth=0.8)
    axes.set_axisbelow(True)


def _measured(report: Report) -> list[tuple[int, EpisodeVerdict, Measures]]:
    return [(i, v, v.measures) for i, v in enumerate(report.episodes) if v.measures is not None]


def _draw_lengths(axes: Axes, report: Report) -> None:
    from matplotlib.ticker import MaxNLocator

    _prepare(axes, "Length of each episode (s); hollow: no success; x: unreadable")
    for index, verdict, measures in _measured(report):
        colour = COLOURS[verdict.level]
        face = colour if measures.success else PAPER
        axes.bar(index, measures.duration_s, width=0.78, color=face, edgecolor=colour, linewidth=1.0)
    for index, verdict in enumerate(report.episodes):
        if verdict.measures is None:
            axes.plot(index, 0.06, "x", color=COLOURS["fail"], markersize=7, markeredgewidth=2)
    axes.set_xlabel("episode", fontsize=9, color=SOFT)
    axes.set_xlim(-0.8, max(len(report.episodes), 1) - 0.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_starts(axes: Axes, report: Report) -> None:
    """The first goal or object as seen from above; without one, the first two joints."""
    rows = _measured(report)
    joints = max((len(measures.joint_low) for _, _, measures in rows), default=0)
    placed = [(v, m.start[joints : joints + 2]) for _, v, m in rows if len(m.start) >= joints + 2]
    if placed:
        _prepare(axes, "Where the object or goal starts, from above (x, y in m)")
        axes.set_aspect("equal", adjustable="datalim")
    else:
        placed = [(v, m.start[:2]) for _, v, m in rows if len(m.start) >= 2]
        _prepare(axes, "Where the first two joints start (rad)")
    axes.grid(color="#ebe7de", linewidth=0.8)
    for verdict, point in placed:
        colour = COLOURS[verdict.level]
        axes.plot(*point, "o", markersize=7, color=colour, alpha=0.75, markeredgecolor=PAPER, markeredgewidth=0.8)


def _draw_joints(axes: Axes, report: Report) -> None:
    _prepare(axes, "What each joint covers (rad): bar, all episodes; ticks, each one")
    rows = [measures for _, _, measures in _measured(report) if measures.joint_low]
    width = max((len(measures.joint_low) for measures in rows), default=0)
    rows = [measures for measures in rows if len(measures.joint_low) == width]
    if not rows:
        axes.text(0.5, 0.5, "no joint positions recorded", transform=axes.transAxes, ha="center", color=SOFT)
        return
    low = np.array([measures.joint_low for measures in rows])
    high = np.array([measures.joint_high for measures in rows])
    places = np.arange(1, width + 1)
    span = high.max(axis=0) - low.min(axis=0)
    axes.bar(places, span, bottom=low.min(axis=0), width=0.5, color="#cfdcd5", edgecolor="none")
    for ends in (low, high):
        xs = np.repeat(places, len(rows))
        axes.plot(xs, ends.T.ravel(), "_", color=COLOURS["ok"], markersize=13, alpha=0.45, markeredgewidth=1.0)
    axes.use_sticky_edges = False
    axes.margins(y=0.06)
    axes.set_xticks(places)
    axes.set_xlabel("joint", fontsize=9, color=SOFT)


def _draw_verdicts(axes: Axes, report: Report) -> None:
    _prepare(axes, "Verdicts")
    axes.set_axis_off()
    total = max(len(report.episodes), 1)
    left = 0.0
    for level in LEVELS:
        count = report.count(level)
        share = count / total
        axes.barh(0.93, share, left=left, height=0.09, color=COLOURS[level])
        if share > 0.03:
            words = f"{count} {level}" if share > 0.12 else str(count)
            axes.text(left + 0.012, 0.93, words, color="white", fontsize=9.5, va="center", fontweight="bold")
        left += share
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    lines = list(_reasons(report))
    for row, (reason, text) in enumerate(lines[:_MAX_REASONS]):
        axes.plot(0.012, 0.79 - row * 0.085, "s", color=COLOURS[reason], markersize=6)
        axes.text(0.035, 0.79 - row * 0.085, text, fontsize=8.8, color=INK, va="center")
    if len(lines) > _MAX_REASONS:
        axes.text(0.035, 0.02, f"and {len(lines) - _MAX_REASONS} more", fontsize=8.8, color=SOFT)
    if not lines:
        axes.text(0.012, 0.79, "Nothing to remark.", fontsize=9.5, color=SOFT, va="center")


def _reasons(report: Report) -> list[tuple[Level, str]]:
    """(level, line), what fails first, one line a kind of defect."""
    kinds: dict[tuple[Level, str], list[str]] = {}
    for index, verdict in enumerate(report.episodes):
        for finding in verdict.findings:
            kinds.setdefault((finding.level, finding.check), []).append(f"{index}")
    lines = [(finding.level, _shorten(f"dataset: {finding.text}")) for finding in report.findings]
    for (level, check), places in kinds.items():
        word = "episode" if len(places) == 1 else "episodes"
        listed = ", ".join(places[:12]) + (" ..." if len(places) > 12 else "")
        lines.append((level, f"{check}: {word} {listed}"))
    return sorted(lines, key=lambda line: -LEVELS.index(line[0]))


def _shorten(text: str, most: int = 84) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
