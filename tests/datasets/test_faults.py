"""No kill, full disk, read-only folder, damaged byte or rival loses a committed episode."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets_builders import make_dataset, make_episode
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.datasets.index import INDEX
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHANGES = ["commit", "add", "drop", "restore", "relabel", "split", "merge", "recover", "discard", "empty-trash"]


def in_a_process(program: str | Path, *arguments: object, timeout_s: float = 170) -> str:
    """Run a script, or the text of one, and return what it printed; its failed assertions fail the test."""
    command = [str(program)] if isinstance(program, Path) else ["-c", program]
    finished = subprocess.run(
        [sys.executable, *command, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"},
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


def kill_in_a_change(folder: Path, change: str, count: int, seed: int) -> None:
    said = json.loads(in_a_process(HERE / "faulty_changes.py", folder, change, count, seed))
    assert said["kills"] >= min(count, said["calls"]) // 2
    assert said["before"] > 0
    if change != "recover":  # which looking at it does anyway
        assert said["after"] > 0


@pytest.mark.parametrize("change", CHANGES)
def test_a_kill_between_two_steps_of_a_change_leaves_before_or_after(tmp_path: Path, change: str) -> None:
    kill_in_a_change(tmp_path, change, 4 if change == "recover" else 10, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_kills_all_over_a_change(tmp_path: Path, change: str) -> None:
    kill_in_a_change(tmp_path, change, 60 if change == "recover" else 200, seed=1)


# --- a disk that is full, a folder that cannot be written ---------------------------------------------------------

ON_A_FULL_DISK = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np
from datasets_builders import make_episode
from understudy.datasets import disk
from understudy.datasets.store import Dataset
from understudy.errors import UnderstudyError
path, room, hidden = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dataset = Dataset.open(path)
taken = dataset.takes()[0]
changes = {
    "add": lambda: dataset.add(make_episode(400, seed=5, images=True)),
    "commit": lambda: dataset.commit(dataset.take_file(taken)),
    "relabel": lambda: dataset.relabel(dataset.ids[0], success=False, note="x" * 5000),
    "split": lambda: dataset.split({"train": 0.5, "valid": 0.5}, np.random.default_rng(0)),
    "drop": lambda: dataset.drop(dataset.ids[1]),
    "seed": lambda: dataset.claim_seed(3),
}
for name, change in changes.items():
    child = os.fork()  # HDF5 may end the process when it cannot close a file: that is a kill like any other
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        if hidden == "unseen":  # as a quota is, which nobody can ask for beforehand
            disk.largest_file = lambda: float("inf")
        try:
            change()
        except (OSError, UnderstudyError, RuntimeError) as error:
            print(name, "refused", type(error).__name__, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize(
    ("room", "limit"), [(0, "unseen"), (1000, "unseen"), (9000, "unseen"), (20_000, "unseen"), (9000, "seen")]
)
def test_a_disk_that_fills_at_any_byte_loses_no_episode(tmp_path: Path, room: int, limit: str) -> None:
    dataset = make_dataset(tmp_path / "demos", 3)
    take = tmp_path / "take.hdf5"
    source = dataset.file(dataset.ids[0])
    shutil.copyfile(source, take)
    shutil.move(take, dataset.take_file("take"))
    before = {file.stem: file.read_bytes() for file in (dataset.path / "episodes").iterdir()}
    said = in_a_process(ON_A_FULL_DISK, dataset.path, room, limit)
    assert "refused" in said
    opened = Dataset.open(dataset.path)
    assert not opened.damaged()
    assert not opened.recovery.unreadable
    files = {file.stem: file.read_bytes() for file in dataset.path.glob("*/*.hdf5") if file.parent.name != "recording"}
    assert all(files[id] == content for id, content in before.items() if id in files)
    assert set(before) <= set(files)
    assert len(list(opened.episodes())) == len(opened)
    opened.add(make_episode(20, seed=77))


IN_A_FOLDER_OF_SOMEBODY_ELSE = """
import os, sys
import numpy as np
from datasets_builders import make_episode
from understudy.datasets.store import Dataset
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
dataset = Dataset.open(sys.argv[1])
print(len(dataset), sum(map(len, dataset.episodes())), len(dataset.select("steps > 0")), dataset.takes())
for change in (
    lambda: dataset.add(make_episode(20)),
    lambda: dataset.drop(dataset.ids[0]),
    lambda: dataset.relabel(dataset.ids[0], success=False),
    lambda: dataset.split({"train": 1.0}, np.random.default_rng(0)),
):
    try:
        change()
        print("changed")
    except OSError as error:
        print("refused", os.strerror(error.errno))
"""


def test_a_read_only_folder_is_read_and_says_so_when_written_to(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 3)
    for folder in [dataset.path, *(path for path in dataset.path.iterdir() if path.is_dir())]:
        folder.chmod(0o555)
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    try:
        first, *rest = in_a_process(IN_A_FOLDER_OF_SOMEBODY_ELSE, dataset.path).splitlines()
    finally:
        for folder in dataset.path.rglob("*"):
            if folder.is_dir():
                folder.chmod(0o755)
        dataset.path.chmod(0o755)
    assert first == "3 174 3 ()"
    assert rest == ["refused Permission denied"] * 4


# --- damaged bytes --------------------------------------------------------------------------------------------------


KINDS = ("flip", "cut", "empty", "grow", "no seal", "another's seal")


@pytest.fixture(scope="module")
def four_episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("four") / "demos", 4).path


@given(
    damage=st.dictionaries(
        st.integers(0, 3),
        st.tuples(st.sampled_from(KINDS), st.floats(0, 0.999), st.integers(1, 255)),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=25, deadline=None)
def test_damage_is_named_file_by_file_and_the_rest_stays_readable(
    four_episodes: Path, damage: dict[int, tuple[str, float, int]]
) -> None:
    path = four_episodes.with_name("damaged")
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(four_episodes, path)
    dataset = Dataset.open(path)
    whole = {id: dataset.file(id).read_bytes() for id in dataset.ids}
    victims = {dataset.ids[number] for number in damage}
    for number, (kind, share, bits) in damage.items():
        id = dataset.ids[number]
        content = bytearray(whole[id])
        place = 4096 + int(share * (len(content) - 4096))
        if kind == "flip":
            content[place] ^= bits
        elif kind == "no seal":
            content[:4096] = bytes(4096)
        elif kind == "grow":
            content += b"x"
        elif kind == "another's seal":
            content[:4096] = whole[dataset.ids[(number + 1) % 4]][:4096]
        else:
            del content[place if kind == "cut" else 0 :]
        dataset.file(id).write_bytes(content)
    opened = Dataset.open(path)
    assert set(opened.damaged()) == victims
    for id in opened.ids:
        if id in victims:
            with pytest.raises(DatasetError, match=rf"{id}\.hdf5"):
                opened.read(id)
            opened.drop(id)
        else:
            assert len(opened.read(id)) > 0
    assert set(opened.ids) == set(whole) - victims
    assert not opened.damaged()


def test_a_damaged_index_is_named_and_made_again(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 3)
    ids, index = dataset.ids, tmp_path / "demos" / INDEX
    raw = index.read_bytes()
    rng = np.random.default_rng(0)
    for offset in sorted({0, 20, 4096, len(raw) - 1, *rng.integers(4096, len(raw), 30).tolist()}):
        index.write_bytes(raw[:offset] + bytes([raw[offset] ^ 0x5A]) + raw[offset + 1 :])
        with pytest.raises(DatasetError, match=r"dataset\.hdf5 .*damaged.*dataset repair"):
            Dataset.open(dataset.path)
        assert set(Dataset.rebuild(dataset.path).ids) == set(ids)
        assert len(list(Dataset.open(dataset.path).episodes())) == 3


# --- rivals -----------------------------------------------------------------------------------------------------------

A_RIVAL = """
import sys
from datasets_builders import make_episode, record
from understudy.datasets.store import Dataset
dataset = Dataset.open(sys.argv[1])
for number in range(int(sys.argv[3])):
    id = record(dataset, make_episode(12, seed=1000 * int(sys.argv[2]) + number, images=True))
    if number % 5 == 4:
        dataset.drop(id)
        dataset.restore(id)
    if number % 7 == 6:
        Dataset.open(sys.argv[1])  # which recovers: it must leave the others' work alone
"""


def test_recorders_side_by_side_and_a_reader_among_them(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 1)
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"}
    rivals = [
        subprocess.Popen([sys.executable, "-c", A_RIVAL, str(dataset.path), str(number), "15"], env=environment)
        for number in range(3)
    ]
    seen = 0
    while any(rival.poll() is None for rival in rivals):
        reader = Dataset.open(dataset.path, recover=False)
        for id in reader.ids[-3:]:
            if (dataset.path / "episodes" / f"{id}.hdf5").exists():  # another may just have dropped it
                try:
                    seen += len(reader.read(id)) > 0
                except DatasetError as error:
                    assert "missing" in str(error) or "does not exist" in str(error)  # noqa: PT017
    assert [rival.returncode for rival in rivals] == [0, 0, 0]
    opened = Dataset.open(dataset.path)
    assert len(opened) == 46
    assert len({opened.summary(id).content_checksum for id in opened.ids}) == 46
    assert not opened.damaged()
    assert not opened.takes()
    assert seen > 0


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_stands_in_the_place_of_the_lock_is_named_and_not_followed(tmp_path: Path, kind: str) -> None:
    dataset = make_dataset(tmp_path / "demos", 1)
    lock, outside = dataset.path / ".lock", tmp_path / "outside"
    lock.unlink()
    lock.mkdir() if kind == "folder" else lock.symlink_to(outside)
    with pytest.raises(DatasetError, match=rf"\.lock is a {kind}; expected a plain file"):
        Dataset.open(dataset.path)
    assert not outside.exists()


def test_lock_files_that_a_crash_left_need_nobody(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "demos", 1)
    for name in (".lock", "recording/20260101-000000-abcdef.lock", "recording/stray.lock"):
        (dataset.path / name).write_text("123")
    before = hashlib.sha256(dataset.file(dataset.ids[0]).read_bytes()).hexdigest()
    opened = Dataset.open(dataset.path)
    opened.add(make_episode(10, seed=3))
    assert len(opened) == 2
    assert not list((dataset.path / "recording").iterdir())
    assert hashlib.sha256(opened.file(opened.ids[0]).read_bytes()).hexdigest() == before
