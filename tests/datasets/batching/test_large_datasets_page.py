"""The page about large datasets runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from datasets_builders import make_dataset

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "train-from-large-datasets.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = make_dataset(tmp_path / "demos" / "lift", 3, images=True)
    make_dataset(tmp_path / "demos" / "lift-corrections", 1, images=True)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), names)  # the page is ours
    assert (dataset.path / "statistics.json").exists()
    windows, batches, tensors = names["windows"], names["batches"], names["tensors"]
    assert windows.observations["image_front"].shape[1:] == (2, 12, 16, 3)
    assert windows.actions.shape[1:] == (16, 2)
    drawn = np.concatenate([batch.episode for batch in batches.epoch()])
    assert abs(np.count_nonzero(drawn == 3) - len(drawn) / 2) <= 1
    assert tensors.actions.shape[1:] == (16, 2)
