"""Pictures hold what was logged."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from learners_support import SPEC

from understudy.errors import InputError
from understudy.learners import plots
from understudy.learners.evaluate import Evaluation, Outcome
from understudy.learners.plots import labels, plot_runs
from understudy.learners.runs import Run, RunConfig


def make_run(folder: Path, task: str, rows: list[dict[str, float]], successes: int | None) -> Path:
    run = Run.create(folder, RunConfig("bc", {}, 0, "panda", task, 20.0, SPEC, {}, "demos", "abc", 4))
    for row in rows:
        run.log(row)
    if successes is not None:
        outcomes = tuple(Outcome(i, i < successes, 30, 1.0) for i in range(10))
        run.add_evaluation(Evaluation(task, "panda", "nominal", 0, outcomes))
    return folder


LOSSES = [{"step": 100 * k, "loss": 1 / k} for k in range(1, 5)]
REWARDS = [{"step": 500 * k, "reward": k, "episode_length": 50, "success": k / 5} for k in range(1, 5)]


def test_every_task_has_a_row_and_every_run_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bc = make_run(tmp_path / "bc", "lift", LOSSES, 9)
    gail = make_run(tmp_path / "gail", "reach", REWARDS, None)
    figures = []
    monkeypatch.setattr(plots.plt, "close", figures.append)
    files = plot_runs([bc, gail], tmp_path / "pictures")
    assert [file.name for file in files] == ["training.png", "success.png"]
    assert all(file.stat().st_size > 5_000 for file in files)
    axes = {axis.get_title(): axis for axis in figures[0].axes if axis.get_title()}
    assert list(axes["reach: reward of an episode"].lines[0].get_ydata()) == [1, 2, 3, 4]
    assert len(axes["lift: loss"].lines) == 1
    # cloning does not act while it learns: what it was measured at is drawn as a level
    assert axes["lift: success while training"].lines[0].get_ydata()[0] == 0.9
    bars = figures[1].axes[0]
    assert bars.patches[0].get_height() == pytest.approx(0.9)
    assert any("9/10" in text.get_text() for text in bars.texts)
    for figure in figures:
        plt.figure(figure.number)
    plt.close("all")


def test_names_tell_runs_apart(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / parent / "bc", "lift", LOSSES, None) for parent in ("a", "b")]
    assert labels([Run.open(path) for path in paths]) == ["a/bc", "b/bc"]


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run to plot"):
        plot_runs([], tmp_path)
    empty = make_run(tmp_path / "empty", "lift", [], None)
    with pytest.raises(InputError, match="Nothing was logged or evaluated yet"):
        plot_runs([empty], tmp_path / "pictures")
