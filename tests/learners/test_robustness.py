"""Robustness: a parameter that breaks a policy is found, where it does; one that it cannot feel is flat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from understudy.envs.experts.expert import make_expert
from understudy.envs.make import make_env
from understudy.errors import InputError
from understudy.learners.robustness import (
    Point,
    Robustness,
    RobustnessConfig,
    Sweep,
    draw_robustness,
    episodes_of,
    measure_robustness,
    summary,
)


class ReachingExpert:
    """The scripted expert of reach as a policy."""

    def __init__(self) -> None:
        self._expert = make_expert("reach")
        env = make_env("reach")
        self._spec = env.spec_units
        env.close()
        self._fresh = True

    def reset(self) -> None:
        self._fresh = True

    def act(self, observation: Any) -> NDArray[np.float32]:
        if self._fresh:
            self._expert.reset(observation)
            self._fresh = False
        return self._spec.normalise(self._expert.act(observation))


@pytest.fixture(scope="module")
def ranges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A delay of more than a reach lasts, and friction of an object that is not there."""
    path = tmp_path_factory.mktemp("ranges") / "wide.yaml"
    path.write_text("action_delay_s: {uniform: [0.0, 1.9]}\nobject_friction_scale: {log_uniform: [0.5, 2.0]}\n")
    return path


def test_what_breaks_a_policy_is_found_and_drawn(ranges: Path, tmp_path: Path) -> None:
    config = RobustnessConfig(values=3, episodes=3, ranges=str(ranges))
    told: list[int] = []
    found = measure_robustness(ReachingExpert, "reach", "panda", config, policy="expert", progress=told.append)
    assert told[-1] == episodes_of(config) == 3 * (1 + 2 + 2)
    delay, friction = found.sweeps
    assert [point.rate for point in friction.points] == [1.0, 1.0, 1.0]
    assert [point.value for point in delay.points] == pytest.approx([0.0, 0.95, 1.9])
    assert delay.points[0].rate == 1.0
    assert delay.worst.value == pytest.approx(0.95)  # and beyond
    assert delay.worst.rate == 0.0
    assert delay.trained == (0.0, pytest.approx(0.04))
    assert friction.logarithmic
    assert summary(found)[0]["parameter"] == "action_delay_s"
    assert summary(found)[0]["in the training range"] is False
    facts = json.loads(json.dumps(found.as_dict()))
    low, high = facts["sweeps"][0]["points"][0]["low"], facts["sweeps"][0]["points"][0]["high"]
    assert low < 1.0 <= high
    again = measure_robustness(ReachingExpert, "reach", "panda", config, policy="expert")
    assert again == found
    draw_robustness(found, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    with pytest.raises(InputError, match="Pictures are written as"):
        draw_robustness(found, tmp_path / "picture.txt")


@pytest.mark.parametrize("panels", [1, 3, 5, 11])
def test_panels_fill_the_picture(panels: int, tmp_path: Path) -> None:
    """Three left an empty quarter once."""
    config = RobustnessConfig(values=3, episodes=4)
    names = sorted(config.swept().distributions)[:panels]
    points = (Point(0.5, 1, 4), Point(1.0, 4, 4), Point(2.0, 3, 4))
    sweeps = tuple(Sweep(name, 1.0, False, None, points) for name in names)
    draw_robustness(Robustness("clone", "lift", "panda", sweeps), tmp_path / "picture.png")
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
    assert episodes_of(config) == 5 * 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"values": 1}, "at least 2 values and 1 episode"),
        ({"episodes": 0}, "at least 2 values and 1 episode"),
        ({"ranges": "none"}, "A sweep needs ranges"),
        ({"parameters": ("gravity",)}, "Unknown parameter of 'hard' 'gravity': did you mean 'gravity_m_s2'"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        RobustnessConfig(**options)
