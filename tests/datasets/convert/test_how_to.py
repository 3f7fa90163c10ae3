"""What docs/how-to/open-in-other-tools.md shows runs as it stands, in the tools it is about."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from datasets_builders import make_dataset
from peers_support import ROOT, run_in_peer

from understudy.datasets.convert.minari import MinariExport, write

_PAGE = (ROOT / "docs/how-to/open-in-other-tools.md").read_text()


@pytest.mark.parametrize(("peer", "said"), [("robomimic", r"174 \(10, 2\)"), ("minari", r"2 \(61, 2\) \(62, 2\)")])
def test_the_example_runs(tmp_path: Path, peer: str, said: str) -> None:
    section = re.split(r"^## ", _PAGE, flags=re.MULTILINE)
    (shown,) = (part for part in section if part.lower().startswith(peer))
    (program,) = re.findall(r"```python\n(.*?)```", shown, flags=re.DOTALL)
    dataset = make_dataset(tmp_path / "demos/reach", 3, images=True)
    write(dataset, dataset.ids, tmp_path / "minari", MinariExport("lab/reach-v0"))
    printed = run_in_peer(peer, f"import os, sys; os.chdir(sys.argv[1])\n{program}", str(tmp_path))
    assert re.search(said, printed), printed
