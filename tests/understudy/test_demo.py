"""The demo's own parts: what it refuses, how it fails, what it rounds, what it draws. CI runs the demo itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pybullet")

import matplotlib.pyplot as plt

from understudy.cli import demo, demo_report
from understudy.cli.main import main
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import load_robot
from understudy.envs.filmstrip import filmstrip
from understudy.envs.tasks.task import make_task
from understudy.errors import DatasetError


@pytest.fixture(scope="module")
def lift(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset of one scripted lift."""
    folder = tmp_path_factory.mktemp("demo") / "lift"
    assert main(["record", "lift", "--episodes", "1", "--out", str(folder), "--json"]) == 0
    return Dataset.open(folder)


def show(folder: Path) -> demo._Show:
    return demo._Show(folder, demo.SHORT)


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "is not empty; give another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_step_that_fails_names_the_command_the_log_and_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(demo.StepFailed, match="`understudy dataset info nowhere` ended with 2") as failed:
        show(tmp_path).command("dataset info nowhere")
    assert str(tmp_path / "logs" / "01_dataset_info.log") in str(failed.value)
    assert "There is no dataset at nowhere" in str(failed.value)


def test_a_background_command_that_dies_is_noticed(tmp_path: Path) -> None:
    with (
        pytest.raises(demo.StepFailed, match="ended with 2"),
        show(tmp_path).background("sim-arm --robot nobody", "ready", {}),
    ):
        pytest.fail("it never became ready")


@pytest.mark.parametrize(
    ("successes", "episodes", "rate"), [(199, 200, "99.5%"), (2, 3, "66.6%"), (1999, 2000, "99.9%"), (3, 3, "100.0%")]
)
def test_no_rate_is_rounded_up(tmp_path: Path, successes: int, episodes: int, rate: str) -> None:
    play = show(tmp_path)
    play.add("bc on lift", "nominal", successes, episodes, 0.0, 1.0)
    assert play.rows()[0]["rate"] == rate


def test_intervals_are_never_narrowed(tmp_path: Path) -> None:
    play = show(tmp_path)
    play.add("bc on lift", "nominal", 20, 20, 0.83887, 0.94477)
    assert play.rows()[0]["95% interval"] == "83.8% to 94.5%"


@pytest.mark.parametrize(
    ("rates", "told"),
    [
        ((89, 100, 20), "The clone succeeded in 89.0%, less than 90.0%"),
        ((95, 100, 17), "Over ROS 2 the skill succeeded in 85.0%, less than 90.0% of the 100.0%"),
    ],
)
def test_a_result_that_falls_short_fails_the_demo(tmp_path: Path, rates: tuple[int, int, int], told: str) -> None:
    play = demo._Show(tmp_path, demo.FULL)
    clone, simulated, over_ros = rates
    play.add("bc on lift", "nominal", clone, 100, 0.0, 1.0)
    play.add("skill on lift", "nominal", simulated, 100, 0.0, 1.0)
    play.add("skill on lift, ROS 2", "nominal", over_ros, 20, 0.0, 1.0)
    with pytest.raises(demo.StepFailed, match=told):
        play.require_success()
    good = demo._Show(tmp_path, demo.FULL)
    for what, successes, episodes in (("bc", 90, 100), ("skill", 100, 100), ("ROS 2", 18, 20)):
        good.add(what, "nominal", successes, episodes, 0.0, 1.0)
    good.require_success()


def test_filmstrip_shows_the_cube_rise(lift: Dataset) -> None:
    pictures = filmstrip(next(lift.episodes()), load_robot("panda"), make_task("lift"), frames=3, width=160, height=120)
    red = [np.argwhere((p[..., 0] > 150) & (p[..., 1] < 90) & (p[..., 2] < 90)) for p in pictures.astype(int)]
    first, last = red[0][:, 0].mean(), red[-1][:, 0].mean()
    assert last < first - 5, "the cube is no higher in the last picture"


def test_pictures_and_page(lift: Dataset, tmp_path: Path) -> None:
    measured = [demo_report.Measured("bc on lift", "nominal", 9, 10, 0.6, 0.98)]
    demo_report.draw_rates(measured, tmp_path / "rates.png")
    demo_report.draw_filmstrip(lift, tmp_path / "film.png")
    assert plt.imread(tmp_path / "film.png").shape[1] > 1000
    rows = [{"policy": "bc <on> lift", "rate": "90.0%"}]
    demo_report.write_report(tmp_path, rows, [("rates.png", "Rates."), ("film.png", "Film.")])
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "bc &lt;on&gt; lift" in page


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    empty = Dataset.create(tmp_path / "empty", robot="panda", task="lift")
    with pytest.raises(DatasetError, match="no successful episode to draw"):
        demo_report.draw_filmstrip(empty, tmp_path / "film.png")
