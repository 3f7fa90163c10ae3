"""How our pictures of data look: paper and ink, and colours that colour-blind eyes tell apart (after Okabe and Ito).

Wherever a colour means something, a line style, marker or hatch means it too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, FAINT, PAPER = "#26302f", "#6f7b78", "#e4e0d6", "#fbfaf7"
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
CYCLE = (BLUE, ORANGE, GREEN, "#cc79a7", RED, "#56b4e9", "#5a5a5a", "#b5a000")
STYLES: tuple[str | tuple[int, tuple[int, ...]], ...] = (
    "-",
    "--",
    "-.",
    (0, (1, 1)),
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (7, 2)),
    (0, (3, 1, 1, 1)),
    (0, (2, 2)),
)
"""Line i of a panel has colour and style i of these."""
FORMATS = (".png", ".svg", ".pdf")
WIDTH_PX, DPI = 1600, 100


def require_place(path: Path) -> None:
    """Whether a picture may be written to `path`, to be asked before the work that it would show.

    Raises:
        InputError: the ending of `path` is none of `FORMATS`, it is a folder, or its folder is missing or may not be
            written to.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"Pictures are written as {', '.join(FORMATS)}, and {path} ends otherwise.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected the name of a picture to write.")
    if not path.parent.is_dir():
        raise InputError(
            f"The folder {path.parent} of the picture {path.name} does not exist; make it first, or give another path."
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{path} may not be written; change its permissions, or name another place.")


def new_figure(height_px: float, path: Path) -> Figure:
    """A figure `WIDTH_PX` wide that will be saved to `path`.

    Raises:
        InputError: see `require_place`.
    """
    require_place(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_PX / DPI, height_px / DPI), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write the picture.

    Raises:
        InputError: it cannot be written, a full disk for one.
    """
    try:
        figure.savefig(path, facecolor=PAPER)
    except OSError as error:
        raise InputError(f"The picture {path} cannot be written: {error}.") from error


def prepare(axes: Axes, title: str) -> None:
    """Paper, a title at the left, a light grid, and no more lines than needed."""
    axes.set_facecolor(PAPER)
    axes.set_title(title, loc="left", fontsize=11.5, color=INK, pad=7)
    axes.tick_params(colors=SOFT, labelsize=10, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#cfcabd")
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
