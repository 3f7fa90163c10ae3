"""The demo's pictures that need several rooms at once, and `report.html` that shows everything on one page."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from understudy import __version__
from understudy.datasets.episode import GROUP, Episode
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import load_robot
from understudy.envs.filmstrip import filmstrip
from understudy.envs.tasks.task import make_task
from understudy.errors import DatasetError

FRAMES = 6
MARGIN_IN = 0.2
PHYSICS_COLOURS = {"nominal": "#0072B2", "randomized": "#D55E00", "unseen": "#CC79A7"}


@dataclass(frozen=True)
class Measured:
    """A success rate as a command reported it, with its 95% Wilson interval [low, high]."""

    what: str
    suite: str
    successes: int
    episodes: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """Share of successes."""
        return self.successes / self.episodes


def draw_rates(measured: Sequence[Measured], out: Path) -> None:
    """Each measured rate as a bar with its interval, coloured by the physics it met."""
    layout = ConstrainedLayoutEngine(w_pad=MARGIN_IN, h_pad=MARGIN_IN)  # names of runs reached to the very edge
    figure, axis = plt.subplots(figsize=(9, 0.5 * len(measured) + 1.2), layout=layout)
    for place, m in enumerate(measured):
        axis.barh(place, m.rate, 0.7, color=PHYSICS_COLOURS[m.suite], alpha=0.85)
        spread = [[m.rate - m.low], [m.high - m.rate]]
        axis.errorbar(m.rate, place, xerr=spread, color="black", capsize=4, linewidth=1.2)
        axis.text(1.02, place, f"{m.successes}/{m.episodes}", va="center", fontsize=10)
    axis.set_yticks(range(len(measured)), [f"{m.what}, {m.suite}" for m in measured])
    axis.invert_yaxis()
    axis.set_xlim(0, 1.15)
    axis.set_xticks(np.linspace(0, 1, 6))
    axis.set_xlabel("share of episodes that succeeded")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def draw_filmstrip(dataset: Dataset, out: Path) -> None:
    """The first successful episode of a dataset as a row of pictures."""
    episode = _first_success(dataset)
    pictures = filmstrip(episode, load_robot(dataset.robot), make_task(dataset.task), frames=FRAMES)
    seconds = np.linspace(0.0, len(episode) / episode.info.rate_hz, FRAMES)
    figure, axes = plt.subplots(1, FRAMES, figsize=(2.4 * FRAMES, 2.1), constrained_layout=True)
    for axis, picture, second in zip(axes, pictures, seconds, strict=True):
        axis.imshow(picture)
        axis.set_title(f"{second:.1f} s", fontsize=10)
        axis.axis("off")
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _first_success(dataset: Dataset) -> Episode:
    for episode in dataset.episodes():
        if episode.info.success:
            return episode
    raise DatasetError(f"{dataset.path} has no successful episode to draw.")


def draw_commanded_against_measured(dataset: Dataset, out: Path) -> None:
    """Each joint's commanded set point and measured position over one episode, at the rate they crossed the graph."""
    names = load_robot(dataset.robot).joint_names
    commanded, measured = _joint_streams(dataset)
    begin = commanded[0][0]
    rows = (len(names) + 3) // 4
    figure, axes = plt.subplots(rows, 4, figsize=(12, 2.4 * rows), sharex=True, constrained_layout=True)
    for index, axis in enumerate(axes.flat):
        if index >= len(names):
            axis.axis("off")
            continue
        for (stamps, values), colour, label in (
            (measured, "#0072B2", "measured"),
            (commanded, "#D55E00", "commanded"),
        ):
            style = {"drawstyle": "steps-post", "linewidth": 1.2} if label == "commanded" else {"linewidth": 2.0}
            axis.plot((stamps - begin) * 1e-9, values[:, index], color=colour, label=label, **style)
        axis.set_title(names[index], fontsize=9)
        axis.grid(alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_ylabel("rad")
    for axis in axes[-1]:
        axis.set_xlabel("s")
    axes.flat[0].legend(fontsize=8)
    figure.savefig(out, dpi=110)
    plt.close(figure)


Stream = tuple[NDArray[np.int64], NDArray[Any]]


def _joint_streams(dataset: Dataset) -> tuple[Stream, Stream]:
    """(stamps, values) of what was commanded and what was measured in the first episode."""
    path = dataset.path / "episodes" / f"{dataset.ids[0]}.hdf5"
    with h5py.File(path, "r") as file:
        streams = file[GROUP]["streams"]
        commanded, measured = (
            (streams[name]["stamp"][()], streams[name]["value"][()]) for name in ("command", "joint_position")
        )
    return commanded, measured


def write_report(out: Path, rows: Sequence[Mapping[str, str]], pictures: Iterable[tuple[str, str]]) -> None:
    """Write `report.html`: a table and the pictures, in one file that can be sent to somebody.

    Args:
        out: the demo's folder.
        rows: of the table, column -> text.
        pictures: (file below `out`, caption).
    """
    columns = list(rows[0])
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(row[column])}</td>" for column in columns) + "</tr>" for row in rows
    )
    figures = "".join(_figure(out / name, caption) for name, caption in pictures)
    (out / "report.html").write_text(_PAGE.format(version=__version__, head=head, body=body, figures=figures))


def _figure(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>\n'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Understudy demo</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; }}
  body {{ max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
  h1 {{ font-size: 1.7rem; margin-bottom: 0.2rem; }}
  h2 {{ font-size: 1.2rem; margin-top: 2.2rem; }}
  table {{ border-collapse: collapse; width: 100%; }}
  th, td {{ text-align: left; padding: 0.45rem 0.8rem; border-bottom: 1px solid #d8dee4; }}
  th {{ background: #f3f5f7; }}
  td:nth-child(n+3), th:nth-child(n+3) {{ text-align: right; font-variant-numeric: tabular-nums; }}
  figure {{ margin: 1.6rem 0; }}
  img {{ max-width: 100%; height: auto; border: 1px solid #d8dee4; border-radius: 4px; }}
  figcaption {{ color: #57606a; font-size: 0.95rem; }}
</style>
</head>
<body>
<h1>From demonstrations to an arm on ROS 2</h1>
<p>Written by <code>understudy demo</code>, version {version}. Success on seeds that nothing was trained on, with 95%
Wilson intervals. Every command that was run, and its output, is in <code>logs/</code>.</p>
<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>
<h2>Pictures</h2>
{figures}
</body>
</html>
"""
