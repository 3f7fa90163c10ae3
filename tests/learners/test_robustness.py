"""Robustness: a parameter that breaks a policy is found, where it does; one that it cannot feel is flat."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learners_support import ExpertPolicy, Scripted
from matplotlib.figure import Figure
from PIL import Image

from understudy.datasets.schema import ActionSpec
from understudy.envs.arms.robot import load_robot
from understudy.envs.curriculum import load_randomizer
from understudy.envs.randomization import load_randomization
from understudy.errors import InputError
from understudy.learners.robustness import (
    Point,
    Robustness,
    RobustnessConfig,
    Sweep,
    measure_robustness,
    plan_sweep,
    summary,
)
from understudy.learners.robustness_picture import draw_robustness, draw_sweep
from understudy.learners.runs import Run, RunConfig
from understudy.learners.trained_ranges import TrainedRanges, keep_ranges, trained_ranges


@dataclass(frozen=True)
class CountedExpert:
    """Makes the scripted expert; leaves a file each time that it does."""

    folder: Path

    def __call__(self) -> Scripted:
        (self.folder / uuid.uuid4().hex).touch()
        return ExpertPolicy()()


@pytest.fixture(scope="module")
def ranges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A delay of more than a reach lasts, what a reach can hardly feel, and friction of an object that is not there."""
    path = tmp_path_factory.mktemp("ranges") / "wide.yaml"
    path.write_text(
        "action_delay_s: {uniform: [0.0, 1.9]}\n"
        "joint_damping_scale: {log_uniform: [0.5, 2.0]}\n"
        "object_friction_scale: {log_uniform: [0.5, 2.0]}\n"
    )
    return path


def test_what_breaks_a_policy_is_found_and_drawn(ranges: Path, tmp_path: Path) -> None:
    config = RobustnessConfig(values=3, episodes=3, ranges=str(ranges))
    told: list[int] = []
    found = measure_robustness(ExpertPolicy(), "reach", "panda", config, policy="expert", progress=told.append)
    assert told[-1] == plan_sweep("reach", load_robot("panda"), config).episodes == 3 * (1 + 2 + 2)
    delay, damping = found.sweeps
    assert [point.rate for point in damping.points] == [1.0, 1.0, 1.0]
    assert [point.value for point in delay.points] == pytest.approx([0.0, 0.95, 1.9])
    assert delay.points[0].rate == 1.0
    assert delay.worst.value == pytest.approx(0.95)  # and beyond
    assert delay.worst.rate == 0.0
    assert delay.trained == (0.0, pytest.approx(0.04))
    assert damping.logarithmic
    assert summary(found)[0]["parameter"] == "action_delay_s"
    assert summary(found)[0]["in the training range"] is False
    assert found.left_out == {"object_friction_scale": "the task has no object"}
    facts = json.loads(json.dumps(found.as_dict()))
    low, high = facts["sweeps"][0]["points"][0]["low"], facts["sweeps"][0]["points"][0]["high"]
    assert low < 1.0 <= high
    draw_robustness(found, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    with pytest.raises(InputError, match="Pictures are written as"):
        draw_robustness(found, tmp_path / "picture.txt")
    workers = tmp_path / "workers"
    workers.mkdir()
    again = measure_robustness(CountedExpert(workers), "reach", "panda", config, policy="expert", workers=2)
    assert again == found
    assert len(list(workers.iterdir())) == 2  # each value of each parameter had processes of its own once


def test_the_values_of_a_choice_have_ticks_and_no_line() -> None:
    points = (Point(0.0, 4, 4), Point(3.0, 4, 4), Point(5.0, 1, 4))
    axis = Figure().add_subplot()
    draw_sweep(axis, Sweep("object_texture", 0.0, False, True, (0.0, 4.0), points))
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "3", "5"]
    assert list(axis.get_xticks()) == [0, 1, 2]
    spaced = [line for line in axis.get_lines() if len(line.get_xdata()) == 3]
    assert [line.get_linestyle() for line in spaced] == ["None"]
    assert [(band.get_x(), band.get_width()) for band in axis.patches] == [(-0.5, 1.0), (0.5, 1.0)]


def test_a_texture_is_swept_value_by_value(tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text("object_mass_scale: {choice: [0.5, 1, 3]}\n")
    plan = plan_sweep("lift", load_robot("panda"), RobustnessConfig(ranges=str(tmp_path / "few.yaml"), episodes=5))
    assert (plan.values, plan.episodes) == ({"object_mass_scale": (0.5, 3.0)}, 15)


@pytest.mark.parametrize("panels", [1, 3, 5, 11])
def test_panels_fill_the_picture(panels: int, tmp_path: Path) -> None:
    """Three left an empty quarter once."""
    config = RobustnessConfig(values=3, episodes=4)
    names = sorted(config.swept().distributions)[:panels]
    points = (Point(0.5, 1, 4), Point(1.0, 4, 4), Point(2.0, 3, 4))
    sweeps = tuple(Sweep(name, 1.0, False, False, None, points) for name in names)
    draw_robustness(Robustness("clone", "lift", "panda", "none", sweeps, {}), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        drawn = np.asarray(picture.convert("L")) < 235
    lower = drawn[80:]
    for row in np.array_split(lower, -(-panels // 4)):
        columns = np.flatnonzero(row.any(axis=0))
        widest_gap = int(np.max(np.diff(columns)))
        assert columns[0] < 60
        assert columns[-1] > 0.97 * row.shape[1]
        assert widest_gap < 80


def test_one_parameter_can_be_asked_for(ranges: Path) -> None:
    config = RobustnessConfig(values=2, episodes=5, ranges=str(ranges), parameters=("object_friction_scale",))
    assert plan_sweep("lift", load_robot("panda"), config).episodes == 5 * 3
    with pytest.raises(InputError, match="no difference to 'reach' on 'panda': the task has no object"):
        plan_sweep("reach", load_robot("panda"), config)


def test_ranges_that_the_task_cannot_feel_are_no_sweep() -> None:
    with pytest.raises(InputError, match="Nothing that 'looks' varies makes a difference to 'reach' on 'panda'"):
        plan_sweep("reach", load_robot("panda"), RobustnessConfig(ranges="looks"))


@pytest.mark.parametrize(("randomize", "high"), [("hard", 0.064), ("wide.yaml", 1.9), ("curriculum:hard", 0.0)])
def test_a_run_tells_what_it_was_trained_in(randomize: str, high: float, ranges: Path, tmp_path: Path) -> None:
    named = str(ranges) if randomize == "wide.yaml" else randomize
    run = a_run(tmp_path / "run", named)
    keep_ranges(run, load_randomizer(named))
    found = trained_ranges(run)
    kept = load_randomization(found.source)
    assert kept is not None
    assert kept.distributions["action_delay_s"].bounds == (0.0, pytest.approx(high))
    assert found.words == f"what it was fine-tuned in, {named!r}"


def test_where_a_run_tells_nothing_the_preset_is_named(tmp_path: Path) -> None:
    assert trained_ranges(None) == TrainedRanges("default", "preset 'default', as a skill tells no ranges")
    clone = a_run(tmp_path / "clone")
    assert trained_ranges(clone) == TrainedRanges("default", "preset 'default', as the run tells no ranges of its own")
    assert trained_ranges(a_run(tmp_path / "old", "hard")).source == "hard"
    assert trained_ranges(a_run(tmp_path / "built", "none")).source == "none"
    gone = trained_ranges(a_run(tmp_path / "gone", "gone.yaml"))
    assert gone == TrainedRanges(
        "default", "preset 'default', as the run did not keep 'gone.yaml', which it was fine-tuned in"
    )


def a_run(path: Path, randomize: str | None = None) -> Run:
    """The folder of a run, fine-tuned where `randomize` is told."""
    options = {} if randomize is None else {"randomize": randomize}
    spec = ActionSpec("tool_delta", ("x",), ("m",), (-1.0,), (1.0,))
    return Run.create(path, RunConfig("bc", options, 0, "panda", "reach", 20.0, spec, {}, "demos", "", 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"values": 1}, "at least 2 values and 1 episode"),
        ({"episodes": 0}, "at least 2 values and 1 episode"),
        ({"ranges": "none"}, "A sweep needs ranges"),
        ({"trained": "haard"}, "Unknown randomization 'haard': did you mean 'hard'"),
        ({"parameters": ("gravity",)}, "Unknown parameter of 'hard' 'gravity': did you mean 'gravity_m_s2'"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        RobustnessConfig(**options)
