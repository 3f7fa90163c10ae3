"""The example of docs/how-to/add-a-task.md runs as it is written, and its task keeps the laws of a task."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-task.md"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    """What the page's example defines."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {"__name__": "topple"}
    exec(compile(code.group(1), str(PAGE), "exec"), names)
    return names


def test_the_example_topples_every_domino(example: dict[str, Any]):
    assert [trial.success for trial in example["trials"]] == [True] * 5
    told = re.search(r"It prints `(.*)`", PAGE.read_text())
    assert told is not None
    assert told.group(1) == f"toppled {len(example['trials'])} of 5"


def test_what_the_example_earns_grows_towards_success(example: dict[str, Any]):
    for trial in example["trials"]:
        assert trial.rewards[-1] == 1.0
        assert trial.rewards[0] < 0.5


def test_the_example_takes_the_steps_of_its_page(example: dict[str, Any]):
    """Its horizon is long enough, and its domino does not fall by itself."""
    assert all(5 < len(trial.actions) < example["task"].horizon for trial in example["trials"])
