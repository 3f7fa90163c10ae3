"""A process that damages a small recording in every way hypothesis thinks of, and has each damaged one read.

    fuzzing.py FORMAT CASES SEED

Every case is read in a forked child with bounds on memory and time, as the quarantine does, only without starting
Python anew. A case passes when the recording is read, or refused by an UnderstudyError that names a file of it. The
child may be ended by the C library it runs (a crash, a hang): for formats that are read in quarantine that is what the
quarantine is for, and it is counted; for our own files it fails. Any other exception fails. Prints {"cases", "read",
"refused", "crashed", "hung", "out of memory"}.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
os.environ["HDF5_PLUGIN_PRELOAD"] = "::"

import h5py
import numpy as np
from datasets_builders import make_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from understudy.datasets.convert.importing import FORMATS, format_named
from understudy.datasets.episode import read_episode
from understudy.datasets.seal import read_seal, write_seal
from understudy.datasets.store import Dataset
from understudy.errors import UnderstudyError

BATCH = 20
"""Cases that one child goes through."""
SECONDS = 10
MEMORY = 3 << 30
ODD_TEXTS = ["", "x", "../../../../etc/passwd", "/etc/passwd", "\0", "é" * 3000, "{" * 500, "%s{0}{chunk_index}", "nan"]
ODD_VALUES = [None, True, -1, 0, 1e308, float("nan"), 2**63, 10**30, [], {}, [[]], {"a": {}}, *ODD_TEXTS]


# --- what is read --------------------------------------------------------------------------------------------------


def read_dataset(path: Path) -> None:
    dataset = Dataset.open(path)
    dataset.splits()
    dataset.damaged()
    dataset.takes()
    for id in dataset.ids:
        dataset.read(id)


def read_foreign(name: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        chosen = format_named(name)
        module = chosen.loaded()
        for episode in module.read(path, getattr(module, chosen.import_config)()).episodes:
            len(episode)

    return read


def sample(name: str, folder: Path) -> Path:
    """A small sound recording of a format; made in a child, so that no library's threads are running here."""
    child = os.fork()
    if child == 0:
        try:
            if name in ("episode", "dataset"):
                dataset = make_dataset(folder / "sample", 2, images=True)
                dataset.name_split("train", dataset.ids[:1])
                made = dataset.path if name == "dataset" else dataset.file(dataset.ids[0])
            elif name in ("robomimic", "minari", "aloha"):
                from tests.datasets.convert import hdf5_samples

                made = getattr(hdf5_samples, f"{name}_sample")(folder)
            elif name == "lerobot":
                from lerobot_sample import write_lerobot_sample

                made = write_lerobot_sample(folder)
            else:
                from rosbag2_sample import write_rosbag2_sample

                bags = write_rosbag2_sample(folder, storage=name.removeprefix("rosbag2-"))
                made = sorted(path for path in bags.iterdir() if path.is_dir())[0]
            (folder / "made").write_text(str(made))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"no sample of {name}")
    return Path((folder / "made").read_text())


SUBJECTS: dict[str, Callable[[Path], None]] = {
    "episode": lambda path: len(read_episode(path)),
    "dataset": read_dataset,
    "robomimic": read_foreign("robomimic"),
    "minari": read_foreign("minari"),
    "aloha": read_foreign("aloha"),
    "lerobot": read_foreign("lerobot"),
    "rosbag2-mcap": read_foreign("rosbag2"),
    "rosbag2-sqlite3": read_foreign("rosbag2"),
}
OURS = {"episode", "dataset"}
_BAGS = ("rosbags.highlevel", "rosbags.typesys", "rosbags.rosbag2", "sqlite3", "PIL.Image")
HEAVY = {"lerobot": ("pandas", "pyarrow.parquet", "av", "PIL.Image"), "rosbag2-mcap": _BAGS, "rosbag2-sqlite3": _BAGS}


# --- how it is damaged ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Damage:
    """One change to one file: `kind`, where (a share of its length or of its parts), and with what."""

    file: int
    kind: str
    place: float
    number: int


BYTES = ("flip", "cut", "zero", "insert", "repeat")
FILES = ("delete", "empty", "folder", "link", "swap")
PARTS = ("part gone", "part odd", "part huge", "part linked", "part outside", "attribute", "part short", "part nan")
DAMAGE = st.builds(
    Damage,
    st.integers(0, 30),
    st.sampled_from((*BYTES * 3, *FILES, *PARTS * 3, *("value",) * 10)),
    st.floats(0, 0.9999),
    st.integers(0, 2**32 - 1),
)


def apply(damage: Damage, root: Path) -> None:
    """Damage a file below `root` (or `root` itself); one that does not lend itself to it is left as it is."""
    files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]
    files = [file for file in files if file.is_file() and not file.is_symlink()]
    if not files:
        return
    if damage.kind == "value":
        texts = [file for file in files if file.suffix in (".json", ".yaml")]
        if texts:
            odd_value(texts[damage.file % len(texts)], damage)
        return
    file = files[damage.file % len(files)]
    if damage.kind in BYTES:
        file.write_bytes(damaged_bytes(file.read_bytes(), damage))
    elif damage.kind in FILES:
        damaged_file(file, files, damage)
    elif file.read_bytes()[:8] == b"\x89HDF\r\n\x1a\n" or file.read_bytes()[:10] == b"understudy":
        damaged_parts(file, damage)


def damaged_bytes(raw: bytes, damage: Damage) -> bytes:
    content = bytearray(raw)
    at = int(damage.place * len(content))
    length = damage.number % 64 + 1
    if damage.kind == "flip" and content:
        content[at] ^= damage.number % 255 + 1
    elif damage.kind == "cut":
        del content[at:]
    elif damage.kind == "zero":
        content[at : at + length] = bytes(len(content[at : at + length]))
    elif damage.kind == "insert":
        content[at:at] = np.random.default_rng(damage.number).bytes(length)
    elif damage.kind == "repeat":
        content[at:at] = content[at : at + length]
    return bytes(content)


def damaged_file(file: Path, files: list[Path], damage: Damage) -> None:
    other = files[damage.number % len(files)].read_bytes()
    file.unlink()
    if damage.kind == "empty":
        file.touch()
    elif damage.kind == "folder":
        file.mkdir()
    elif damage.kind == "link":
        file.symlink_to("/etc/passwd")
    elif damage.kind == "swap":
        file.write_bytes(other)


def odd_value(file: Path, damage: Damage) -> None:
    """Put something odd in the place of one value, name or text of a JSON or YAML file."""
    try:
        data = json.loads(file.read_text())
    except (ValueError, RecursionError):
        lines = file.read_text(errors="replace").splitlines() or [""]
        at = int(damage.place * len(lines))
        lines[at] = lines[at].partition(":")[0] + f": {ODD_VALUES[damage.number % len(ODD_VALUES)]!r}"
        file.write_text("\n".join(lines), errors="replace")
        return
    places = list(places_in(data))
    if places:
        holder, name = places[int(damage.place * len(places))]
        if damage.number % 7 == 0:
            del holder[name]
        else:
            holder[name] = ODD_VALUES[damage.number % len(ODD_VALUES)]
        file.write_text(json.dumps(data))


def places_in(data: Any) -> Iterator[tuple[Any, Any]]:
    for name in list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield data, name
        yield from places_in(data[name])


def damaged_parts(path: Path, damage: Damage) -> None:
    """Change the structure of an HDF5 file, as another program would write it; ours is sealed again."""
    sealed = path.read_bytes()[:10] == b"understudy"
    facts = read_facts(path) if sealed else None
    try:
        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            if not names:
                return
            name = names[int(damage.place * len(names))]
            change_part(file, name, damage)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):
        return  # an earlier damage went deeper
    if facts is not None:
        write_seal(path, *facts)


def read_facts(path: Path) -> tuple[Any, int] | None:
    try:
        seal = read_seal(path)
    except UnderstudyError:
        return None
    return seal.facts, seal.block


def change_part(file: h5py.File, name: str, damage: Damage) -> None:
    rng = np.random.default_rng(damage.number)
    part = file[name]
    odd: list[Any] = [
        np.zeros(0), np.zeros((3, 3), np.complex64), np.float64(np.nan), b"bytes", "text", np.array([b"a", b"b"]),
        np.full(1000, 1e300), np.zeros((2, 2, 2, 2)), np.arange(5, dtype=np.uint8), np.void(b"object"),
        np.zeros(3, [("a", "f4")]), np.full((5, 2), np.inf), np.full(5, -(2**63)), h5py.Empty("f4"),
    ]  # fmt: skip
    if damage.kind == "attribute":
        holder = part if len(part.attrs) else file
        if len(holder.attrs):
            key = sorted(holder.attrs)[damage.number % len(holder.attrs)]
            values = [*ODD_TEXTS, 0, -1, np.nan, 2**62, np.zeros(4), h5py.Empty("f4"), '{"env_name": []}', "[[[[", "{}"]
            holder.attrs[key] = values[damage.number % len(values)]
        return
    shape = part.shape if isinstance(part, h5py.Dataset) else None
    values = part[()] if shape and part.nbytes < 1 << 20 else None  # an earlier damage may have made it huge
    del file[name]
    if damage.kind == "part odd":
        file[name] = odd[damage.number % len(odd)]
    elif damage.kind == "part huge":
        file.create_dataset(name, (10 ** (damage.number % 12 + 1), 3), "f4", chunks=(100, 3))
    elif damage.kind == "part linked":
        file[name] = h5py.SoftLink(["/", "/nowhere", f"/{name}"][damage.number % 3])
    elif damage.kind == "part outside":
        file[name] = h5py.ExternalLink(["/etc/passwd", "../sample", path_of_itself(file)][damage.number % 3], "/")
    elif damage.kind == "part short" and values is not None:
        file[name] = values[: rng.integers(0, len(values) + 1)]
    elif damage.kind == "part nan" and values is not None and values.dtype.kind == "f" and values.size:
        flat = values.reshape(-1)
        flat[rng.integers(0, flat.size)] = rng.choice([np.nan, np.inf, -np.inf, 1e300])
        file[name] = values


def path_of_itself(file: h5py.File) -> str:
    return str(file.filename)


# --- a batch of cases ------------------------------------------------------------------------------------------------

CODES = {"read": b"r", "refused": b"x", "out of memory": b"m", "wrong": b"w"}
NAMES = {code: name for name, code in CODES.items()}


def outcomes_of(
    read: Callable[[Path], None], pristine: Path, cases: list[list[Damage]], folder: Path
) -> list[tuple[str, str]]:
    """What became of each case, ("read" | "refused" | "crashed" | "hung" | "out of memory" | "wrong", what it said).

    A bounded child goes through them; where it dies of one, another goes on behind it.
    """
    found: list[tuple[str, str]] = []
    while len(found) < len(cases):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            go_through(read, pristine, cases[len(found) :], folder, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as told:
            found += [(NAMES[line[:1]], json.loads(line[1:])) for line in told.read().splitlines()]
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            ended = os.WTERMSIG(status)
            found.append(("hung" if ended == signal.SIGALRM else "crashed", f"signal {ended}"))
    return found


def go_through(
    read: Callable[[Path], None], pristine: Path, cases: list[list[Damage]], folder: Path, writing: int
) -> None:
    """In the child: damage and read one case after the other, and tell each outcome."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        work = folder / "work" / pristine.name
        for damages in cases:
            shutil.rmtree(work.parent, ignore_errors=True)
            work.parent.mkdir()
            (shutil.copytree if pristine.is_dir() else shutil.copyfile)(pristine, work)
            for damage in damages:
                if work.exists():
                    apply(damage, work)
            signal.alarm(SECONDS)
            outcome, said = outcome_of(read, work)
            signal.alarm(0)
            os.write(writing, CODES[outcome] + json.dumps(said).encode() + b"\n")
    except BaseException:
        os.write(writing, b"w" + json.dumps(f"the fuzzer failed: {traceback.format_exc()[-3000:]}").encode() + b"\n")
    finally:
        os._exit(0)


def outcome_of(read: Callable[[Path], None], path: Path) -> tuple[str, str]:
    """Read once."""
    try:
        read(path)
    except UnderstudyError as error:
        named = str(path) in str(error) or path.name in str(error)
        return ("refused", "") if named else ("wrong", f"names no file: {error}")
    except MemoryError:
        return "out of memory", ""
    except BaseException:
        return "wrong", traceback.format_exc()[-3000:]
    return "read", ""


def main(name: str, cases: int, seed: int) -> None:
    counts: Counter[str] = Counter()
    resource.setrlimit(resource.RLIMIT_AS, (2 * MEMORY, 2 * MEMORY))
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as scratch:
        folder = Path(scratch)
        pristine = sample(name, folder)
        for format in FORMATS:
            if name.startswith(format):
                format_named(format).loaded()
        for module in HEAVY.get(name, ()):  # imported before the forks, which are then cheap
            importlib.import_module(module)
        assert outcomes_of(SUBJECTS[name], pristine, [[]], folder) == [("read", "")]
        allowed = ("read", "refused") if name in OURS else ("read", "refused", "crashed", "hung", "out of memory")

        @settings(
            max_examples=-(-cases // BATCH), deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(batch=st.lists(st.lists(DAMAGE, min_size=1, max_size=3), min_size=BATCH, max_size=BATCH))
        def go(batch: list[list[Damage]]) -> None:
            found = outcomes_of(SUBJECTS[name], pristine, batch, folder)
            counts["cases"] += len(batch)
            counts.update(outcome for outcome, _ in found)
            wrong = [(damages, *told) for damages, told in zip(batch, found, strict=True) if told[0] not in allowed]
            assert not wrong, "\n".join(f"{damages}: {outcome}: {said}" for damages, outcome, said in wrong[:1])

        seeded(seed)(go)()
    print(json.dumps(dict(counts)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
