"""What every export owes: whole or not there, also on a full disk, and a draft that is nobody else's."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
from pathlib import Path

import pytest
from datasets_builders import make_dataset

from understudy.datasets.convert.importing import export_dataset
from understudy.datasets.convert.outgoing import fresh
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError

_HDF5_FORMATS = ("robomimic", "minari", "aloha")


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("outgoing") / "demos", 4, images=True)


@pytest.mark.parametrize("name", _HDF5_FORMATS)
@pytest.mark.parametrize("room", [50_000, 150_000, 250_000, 400_000])
def test_an_export_that_may_not_write_more_ends_in_a_sentence(
    demos: Dataset, tmp_path: Path, name: str, room: int
) -> None:
    """Incident: HDF5 met a full disk on closing the file: a RuntimeError, and once a SIGSEGV."""
    out = tmp_path / "made" / "out"
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        try:
            export_dataset(demos, demos.ids, name, out)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended == (errno.EFBIG if not out.exists() else 0)
    assert ended == 0 or not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", _HDF5_FORMATS)
def test_a_disk_that_fills_between_two_episodes_keeps_no_part_of_the_export(
    demos: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Incident: a failed export left a draft and an empty folder that the next one refused to overwrite."""
    looks = []

    def usage(folder: object) -> object:
        looks.append(folder)
        return shutil._ntuple_diskusage(1 << 40, 1 << 40, (1 << 40) if len(looks) < 3 else 100)  # type: ignore[attr-defined]

    with monkeypatch.context() as patch:
        patch.setattr("understudy.datasets.disk.shutil.disk_usage", usage)
        with pytest.raises(OSError, match="No space left"):
            export_dataset(demos, demos.ids, name, tmp_path / "out")
    assert len(looks) == 3
    assert not list(tmp_path.iterdir())
    export_dataset(demos, demos.ids, name, tmp_path / "out")


def test_two_exports_to_one_place_do_not_share_a_draft(tmp_path: Path) -> None:
    """Incident: both wrote to `.out.new`, and each removed what the other had written."""
    out = tmp_path / "out"
    second = contextlib.ExitStack()
    with contextlib.ExitStack() as first:
        slow, fast = first.enter_context(fresh(out)), second.enter_context(fresh(out))
        assert fast != slow
        slow.write_text("slow")
        fast.write_text("fast")
        second.close()
        assert slow.read_text() == "slow"
        with pytest.raises(DatasetError, match="made by someone else"):
            first.close()
    assert out.read_text() == "fast"
    assert list(tmp_path.iterdir()) == [out]
