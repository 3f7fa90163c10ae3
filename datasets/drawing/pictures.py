"""A dataset at a glance: lengths and outcomes, where episodes start, what the joints cover, and the verdicts.

Owns the layout; the numbers come from `checking/checks.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from understudy.datasets.checking.measures import Measures
from understudy.datasets.checking.verdicts import LEVELS, EpisodeVerdict, Level, Report
from understudy.datasets.drawing.picture_style import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    PAPER,
    RED,
    SOFT,
    new_figure,
    prepare,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"ok": BLUE, "warn": ORANGE, "fail": RED}
MARKERS = {"ok": "o", "warn": "^", "fail": "X"}
HATCHES = {"ok": "", "warn": "///", "fail": "xxx"}
_MAX_REASONS = 12
_HEIGHT_PX = 1000
_FEW_BARS = 60
"""From so many episodes on the bars are drawn without outlines, which would be all one saw."""


def draw_report(report: Report, path: Path, title: str) -> None:
    """Draw `report` into `path` (png, svg or pdf).

    Raises:
        InputError: another file ending.
    """
    figure = new_figure(_HEIGHT_PX, path)
    lengths, starts, joints, verdicts = figure.subplots(2, 2).ravel()
    figure.subplots_adjust(left=0.05, right=0.98, top=0.87, bottom=0.07, hspace=0.32, wspace=0.12)
    _headline(figure, report, title)
    _draw_lengths(lengths, report)
    _draw_starts(starts, report)
    _draw_joints(joints, report)
    _draw_verdicts(verdicts, report)
    save(figure, path)


def _headline(figure: Figure, report: Report, title: str) -> None:
    verdict = "ready to train" if report.trainable else "not ready to train"
    colour = COLOURS["ok" if report.trainable else "fail"]
    figure.text(0.05, 0.955, title, fontsize=18, fontweight="bold", color=INK, va="center")
    figure.text(0.98, 0.955, verdict, fontsize=15, fontweight="bold", color=colour, va="center", ha="right")
    known = [measures for _, _, measures in _measured(report)]
    if known:
        judged = [measures.success for measures in known if measures.success is not None]
        lengths = np.array([measures.duration_s for measures in known])
        steps = sum(measures.steps for measures in known)
        facts = f"{steps} steps, {lengths.sum():.0f} s; {lengths.min():.1f} to {lengths.max():.1f} s each"
        success = f"{sum(judged)} of {len(judged)} judged a success" if judged else "none judged"
        figure.text(0.05, 0.922, f"{facts}   |   {success}", fontsize=11.5, color=SOFT, va="center")


def _measured(report: Report) -> list[tuple[int, EpisodeVerdict, Measures]]:
    return [(i, v, v.measures) for i, v in enumerate(report.episodes) if v.measures is not None]


def _draw_lengths(axes: Axes, report: Report) -> None:
    from matplotlib.ticker import MaxNLocator

    prepare(axes, "Length of each episode (s); hollow: no success; x: unreadable")
    many = len(report.episodes) > _FEW_BARS
    for level in LEVELS:
        for success in (True, False):
            chosen = [row for row in _measured(report) if row[1].level == level and bool(row[2].success) == success]
            rows = [(index, measures.duration_s) for index, _, measures in chosen]
            if not rows:
                continue
            places, lengths = zip(*rows, strict=True)
            face = COLOURS[level] if success else PAPER
            axes.bar(
                places,
                lengths,
                width=1.0 if many else 0.78,
                color=face,
                edgecolor="none" if many and success else (PAPER if success and HATCHES[level] else COLOURS[level]),
                hatch=HATCHES[level],
                linewidth=0.0 if many else 1.0,
            )
    for index, verdict in enumerate(report.episodes):
        if verdict.measures is None:
            axes.plot(index, 0.06, "x", color=COLOURS["fail"], markersize=7, markeredgewidth=2)
    axes.set_xlabel("episode", fontsize=10, color=SOFT)
    axes.set_xlim(-0.8, max(len(report.episodes), 1) - 0.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_starts(axes: Axes, report: Report) -> None:
    """The first goal or object as seen from above; without one, the first two joints."""
    rows = _measured(report)
    joints = max((len(measures.joint_low) for _, _, measures in rows), default=0)
    placed = [(v, m.start[joints : joints + 2]) for _, v, m in rows if len(m.start) >= joints + 2]
    if placed:
        prepare(axes, "Where the object or goal starts, from above (x, y in m)")
        axes.set_aspect("equal", adjustable="datalim")
    else:
        placed = [(v, m.start[:2]) for _, v, m in rows if len(m.start) >= 2]
        prepare(axes, "Where the first two joints start (rad)")
    axes.grid(color=FAINT, linewidth=0.8)
    for level in LEVELS:
        points = np.array([point for verdict, point in placed if verdict.level == level])
        if len(points):
            axes.plot(
                *points.T,
                MARKERS[level],
                linestyle="none",
                markersize=9,
                color=COLOURS[level],
                alpha=0.8,
                markeredgecolor=PAPER,
                label=level,
            )
    if placed:
        axes.legend(loc="upper right", fontsize=9.5, frameon=True, facecolor="white", edgecolor="none", framealpha=0.8)
    else:
        axes.text(0.5, 0.5, "no start states recorded", transform=axes.transAxes, ha="center", color=SOFT)


def _draw_joints(axes: Axes, report: Report) -> None:
    prepare(axes, "What each joint covers (rad): bar, all episodes; dark beside it, starts; ticks, each one")
    rows = [measures for _, _, measures in _measured(report) if measures.joint_low]
    width = max((len(measures.joint_low) for measures in rows), default=0)
    rows = [measures for measures in rows if len(measures.joint_low) == width]
    if not rows:
        axes.text(0.5, 0.5, "no joint positions recorded", transform=axes.transAxes, ha="center", color=SOFT)
        return
    low = np.array([measures.joint_low for measures in rows])
    high = np.array([measures.joint_high for measures in rows])
    starts = np.array([measures.start[:width] for measures in rows])
    places = np.arange(width)
    axes.bar(places, high.max(axis=0) - low.min(axis=0), bottom=low.min(axis=0), width=0.56, color="#cddbe6")
    spread = np.maximum(np.ptp(starts, axis=0), 0.01)
    axes.bar(places + 0.36, spread, bottom=starts.min(axis=0), width=0.1, color=INK)
    for ends in (low, high):
        xs = np.repeat(places, len(rows))
        axes.plot(xs, ends.T.ravel(), "_", color=BLUE, markersize=22, alpha=0.45, markeredgewidth=1.0)
    axes.use_sticky_edges = False
    axes.margins(y=0.06)
    axes.set_xticks(places)
    axes.set_xlabel("joint", fontsize=10, color=SOFT)


def _draw_verdicts(axes: Axes, report: Report) -> None:
    prepare(axes, "Verdicts")
    axes.set_axis_off()
    total = max(len(report.episodes), 1)
    left = 0.0
    for level in LEVELS:
        count = report.count(level)
        share = count / total
        axes.barh(0.94, share, left=left, height=0.08, color=COLOURS[level], hatch=HATCHES[level], edgecolor=PAPER)
        if share > 0.03:
            words = f"{count} {level}" if share > 0.12 else str(count)
            box = {"boxstyle": "square,pad=0.2", "facecolor": COLOURS[level], "edgecolor": "none"}
            axes.text(left + 0.014, 0.94, words, color="white", fontsize=10, va="center", fontweight="bold", bbox=box)
        left += share
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    lines = list(_reasons(report))
    for row, (level, text) in enumerate(lines[:_MAX_REASONS]):
        place = 0.83 - row * 0.068
        axes.plot(0.012, place, MARKERS[level], color=COLOURS[level], markersize=7, clip_on=False)
        axes.text(0.035, place, text, fontsize=10, color=INK, va="center")
    if len(lines) > _MAX_REASONS:
        axes.text(0.035, 0.0, f"and {len(lines) - _MAX_REASONS} more", fontsize=10, color=SOFT)
    if not lines:
        axes.text(0.012, 0.83, "Nothing to remark.", fontsize=10.5, color=SOFT, va="center")


def _reasons(report: Report) -> list[tuple[Level, str]]:
    """(level, line), what fails first: the reason itself where one episode has it, else one line a kind of defect."""
    kinds: dict[tuple[Level, str], list[tuple[int, str]]] = {}
    for index, verdict in enumerate(report.episodes):
        for finding in verdict.findings:
            kinds.setdefault((finding.level, finding.check), []).append((index, finding.text))
    lines = [(finding.level, _shorten(f"dataset: {finding.text}")) for finding in report.findings]
    for (level, check), places in kinds.items():
        if len(places) == 1:
            lines.append((level, _shorten(f"{places[0][0]}  {check}: {places[0][1]}")))
            continue
        listed = ", ".join(str(index) for index, _ in places[:12]) + (" ..." if len(places) > 12 else "")
        lines.append((level, f"{check}: episodes {listed}"))
    return sorted(lines, key=lambda line: -LEVELS.index(line[0]))


def _shorten(text: str, most: int = 90) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
