"""Bad input to every command: one sentence that says what to do, exit code 2, and nothing on disk has changed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from datasets_builders import make_episode, record
from deploy_support import write_tiny

from understudy.cli.main import main
from understudy.datasets.store import Dataset
from understudy.envs.arms.robot import ROBOTS

NEW = "{tmp}/new"
"""A place where nothing is yet, and where nothing may appear."""

ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    # a missing file
    "record, no robot file": (f"record reach --robot {{tmp}}/no.yaml --out {NEW}", ("no.yaml", "does not exist")),
    "record, no randomization": (
        f"record reach --randomize {{tmp}}/no.yaml --out {NEW}",
        ("no.yaml", "does not exist"),
    ),
    "info, no dataset": ("dataset info {tmp}/no", ("{tmp}/no", "understudy record --out")),
    "check, no dataset": ("dataset check {tmp}/no", ("{tmp}/no", "understudy record --out")),
    "drop, no dataset": ("dataset drop {tmp}/no x", ("{tmp}/no", "understudy record --out")),
    "restore, no dataset": ("dataset restore {tmp}/no x", ("{tmp}/no", "understudy record --out")),
    "repair, no dataset": ("dataset repair {tmp}/no", ("{tmp}/no", "understudy record --out")),
    "deploy, no skill": ("deploy {tmp}/no.skill --robot panda", ("no.skill", "understudy export")),
    "sim-arm, no robot file": ("sim-arm --robot {tmp}/no.yaml", ("no.yaml", "does not exist")),
    "train, no dataset": (f"train bc {{tmp}}/no --out {NEW}", ("{tmp}/no", "understudy record --out")),
    "gail, no dataset": (f"train gail {{tmp}}/no --out {NEW}", ("{tmp}/no", "understudy record --out")),
    "airl, no dataset": (f"train airl {{tmp}}/no --out {NEW}", ("{tmp}/no", "understudy record --out")),
    "finetune, no run": (
        f"finetune {{tmp}}/no --algo ppo --randomize default --out {NEW}",
        ("There is no run at {tmp}/no", "understudy train"),
    ),
    "evaluate, no run": ("evaluate {tmp}/no --task reach", ("There is no run at {tmp}/no", "understudy train")),
    "evaluate, no skill": ("evaluate {tmp}/no.skill --task reach", ("no.skill", "understudy export")),
    "export, no run": (f"export {{tmp}}/no --out {NEW}.skill", ("There is no run at {tmp}/no", "understudy train")),
    "plot, no run": (f"plot {{tmp}}/no --out {NEW}", ("There is no run at {tmp}/no", "understudy train")),
    # another robot or task than the data's
    "record, dataset of another robot": ("record reach --robot kuka_iiwa --out {tmp}/demos", ("panda", "kuka_iiwa")),
    "record, dataset of another task": ("record lift --out {tmp}/demos", ("'reach'", "'lift'", "another folder")),
    "record, robot without a gripper": (f"record lift --robot kuka_iiwa --out {NEW}", ("kuka_iiwa", "gripper")),
    "watch, robot without a topic": (f"record lift --watch --robot kuka_iiwa --out {NEW}", ("kuka_iiwa", "poses:")),
    "train, dataset of another robot": (
        f"train bc {{tmp}}/demos --robot kuka_iiwa --out {NEW}",
        ("panda", "kuka_iiwa"),
    ),
    "train, dataset of another task": (f"train bc {{tmp}}/demos --task lift --out {NEW}", ("'reach'", "'lift'")),
    "deploy, another robot": ("deploy {tmp}/tiny.skill --robot kuka_iiwa", ("panda", "kuka_iiwa", "joint")),
    "evaluate, another robot": ("evaluate {tmp}/tiny.skill --robot kuka_iiwa", ("panda", "kuka_iiwa", "joint")),
    # a corrupt file
    "train, corrupt episode": (f"train bc {{tmp}}/corrupt --out {NEW}", ("{broken}", "understudy dataset drop")),
    "info, corrupt index": ("dataset info {tmp}/headless", ("dataset.hdf5", "understudy dataset repair")),
    "check, corrupt index": ("dataset check {tmp}/headless", ("dataset.hdf5", "understudy dataset repair")),
    "record, corrupt index": ("record reach --out {tmp}/headless", ("dataset.hdf5", "understudy dataset repair")),
    "record, lost index": ("record reach --out {tmp}/lost", ("{tmp}/lost", "understudy dataset repair")),
    "deploy, text for a skill": ("deploy {tmp}/text.skill --robot panda", ("text.skill", "export it again")),
    "deploy, half a skill": ("deploy {tmp}/half.skill --robot panda", ("half.skill", "export it again")),
    "evaluate, half a skill": ("evaluate {tmp}/half.skill", ("half.skill", "export it again")),
    "evaluate, damaged run": ("evaluate {tmp}/run --task reach", ("config.json", "train it again")),
    "finetune, damaged run": (f"finetune {{tmp}}/run --out {NEW}", ("config.json", "train it again")),
    "export, damaged run": (f"export {{tmp}}/run --out {NEW}.skill", ("config.json", "train it again")),
    "plot, damaged run": (f"plot {{tmp}}/run --out {NEW}", ("config.json", "train it again")),
    # an unknown name
    "record, unknown task": (f"record raech --out {NEW}", ("Unknown task 'raech'", "did you mean 'reach'?")),
    "record, unknown robot": (f"record reach --robot pnada --out {NEW}", ("did you mean 'panda'?",)),
    "record, unknown preset": (f"record reach --randomize hrd --out {NEW}", ("did you mean 'hard'?",)),
    "record, a curriculum": (f"record reach --randomize curriculum --out {NEW}", ("belongs to understudy finetune",)),
    "sim-arm, a curriculum": ("sim-arm --randomize curriculum:hard", ("belongs to understudy finetune",)),
    "sim-arm, unknown task": ("sim-arm --task lfit", ("Unknown task 'lfit'", "did you mean 'lift'?")),
    "deploy, unknown robot": ("deploy {tmp}/tiny.skill --robot pnada", ("did you mean 'panda'?",)),
    "evaluate, another task": ("evaluate {tmp}/tiny.skill --task lfit", ("tiny.skill", "'lfit'")),
    "finetune, unknown algorithm": (f"finetune {{tmp}}/run --algo pop --out {NEW}", ("'pop'", "ppo")),
    "drop, unknown episode": ("dataset drop {tmp}/demos {good} nobody", ("Unknown episode 'nobody'", "{good}")),
    "drop, nothing named": ("dataset drop {tmp}/demos", ("at least one episode",)),
    "restore, unknown episode": ("dataset restore {tmp}/demos nobody", ("Unknown dropped episode 'nobody'",)),
    "restore, a path for an id": ("dataset restore {tmp}/demos ../episodes/{good}", ("Unknown dropped episode",)),
    # a YAML with an unknown key
    "record, unknown robot key": (f"record reach --robot {{tmp}}/key.yaml --out {NEW}", ("key.yaml", "'rate_hz'?")),
    "sim-arm, unknown robot key": ("sim-arm --robot {tmp}/key.yaml", ("key.yaml", "'rate_hz'?")),
    "deploy, unknown robot key": ("deploy {tmp}/tiny.skill --robot {tmp}/key.yaml", ("key.yaml", "'rate_hz'?")),
    "evaluate, unknown robot key": ("evaluate {tmp}/tiny.skill --robot {tmp}/key.yaml", ("key.yaml", "'rate_hz'?")),
    "record, unknown parameter": (
        f"record reach --randomize {{tmp}}/parameter.yaml --out {NEW}",
        ("parameter.yaml", "did you mean 'object_mass_scale'?"),
    ),
    "sim-arm, unknown parameter": ("sim-arm --randomize {tmp}/parameter.yaml", ("did you mean 'object_mass_scale'?",)),
    "robot, topic that ROS refuses": (f"record reach --robot {{tmp}}/topic.yaml --out {NEW}", ("ros.command_topic",)),
    # a place that cannot be written
    "record into a file": ("record reach --out {tmp}/file", ("{tmp}/file", "another folder")),
    "record below a file": ("record reach --out {tmp}/file/demos", ("{tmp}/file", "give another")),
    "train into a file": ("train bc {tmp}/demos --out {tmp}/file", ("{tmp}/file", "--out")),
    "picture below a file": ("dataset check {tmp}/demos --picture {tmp}/file/x.png", ("{tmp}/file", "give another")),
    "report into a folder": ("deploy {tmp}/tiny.skill --robot panda --out {tmp}/demos", ("--out", "folder")),
    # numbers and names that make no sense
    "record, no episodes": (f"record reach --episodes 0 --out {NEW}", ("--episodes", "at least 1")),
    "record, negative seed": (f"record reach --seed -1 --out {NEW}", ("--seed", "negative")),
    "record, no time": (f"record reach --max-seconds 0 --out {NEW}", ("--max-seconds", "positive")),
    "watch, negative time": (f"record reach --watch --max-seconds -1 --out {NEW}", ("--max-seconds", "positive")),
    "keyboard, no terminal": (f"record reach --device keyboard --out {NEW}", ("terminal",)),
    "train, negative seed": (f"train bc {{tmp}}/demos --seed -1 --out {NEW}", ("--seed", "negative")),
    "train, no updates": (f"train bc {{tmp}}/demos --updates 0 --out {NEW}", ("updates", "above 0")),
    "finetune, negative seed": (f"finetune {{tmp}}/run --seed -1 --out {NEW}", ("--seed", "negative")),
    "evaluate, negative seed": ("evaluate {tmp}/tiny.skill --seed -1", ("--seed", "negative")),
    "evaluate, no episodes": ("evaluate {tmp}/tiny.skill --episodes 0", ("at least 1 episode",)),
    "sim-arm, negative seed": ("sim-arm --seed -1", ("--seed", "negative")),
    "deploy, no episodes": ("deploy {tmp}/tiny.skill --robot panda --episodes 0", ("episodes", "at least 1")),
    "deploy, endless wait": ("deploy {tmp}/tiny.skill --robot panda --ready-s inf", ("ready_s", "positive")),
    "deploy, bad topic": ("deploy {tmp}/tiny.skill --robot panda --success-topic b!d", ("--success-topic", "'b!d'")),
    "deploy, bad service": ("deploy {tmp}/tiny.skill --robot panda --reset-service /", ("--reset-service", "'/'")),
}


def panda_dataset(path: Path) -> Dataset:
    """Two short episodes of reach, said to be of the panda."""
    dataset = Dataset.create(path, robot="panda", task="reach")
    for seed in range(2):
        record(dataset, make_episode(20, seed=seed, robot="panda"))
    return dataset


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A folder with one of everything that is good, and everything that is not; and the names in it."""
    tmp = tmp_path_factory.mktemp("bad input")
    for name in ("demos", "corrupt", "headless", "lost"):
        dataset = panda_dataset(tmp / name)
    good = next((tmp / "demos/episodes").iterdir()).stem
    broken = next((tmp / "corrupt/episodes").iterdir())
    broken.write_bytes(broken.read_bytes()[:3000])
    (tmp / "headless/dataset.hdf5").write_text("text")
    (dataset.path / "dataset.hdf5").unlink()
    write_tiny(tmp / "tiny.skill")
    (tmp / "half.skill").write_bytes((tmp / "tiny.skill").read_bytes()[:2000])
    (tmp / "text.skill").write_text("text")
    (tmp / "file").write_text("mine")
    (tmp / "run").mkdir()
    (tmp / "run/config.json").write_text('{"schema_version": 1, "leaner": "bc"}')
    panda = (ROBOTS / "panda.yaml").read_text().replace("kinematics: panda.urdf", f"kinematics: {ROBOTS}/panda.urdf")
    (tmp / "key.yaml").write_text(panda.replace("rate_hz:", "rate_hzz:"))
    (tmp / "topic.yaml").write_text(panda.replace("command_topic: /joint", "command_topic: /arm joint"))
    (tmp / "parameter.yaml").write_text("object_mas_scale: {uniform: [0.5, 2.0]}\n")
    return {"tmp": str(tmp), "good": good, "broken": str(broken)}


def contents(folder: str) -> dict[str, str]:
    """Every file and folder below, with what is in it."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in Path(folder).rglob("*")
    }


@pytest.mark.parametrize("row", ROWS)
def test_one_sentence_and_nothing_changed(row: str, place: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    line, words = ROWS[row]
    before = contents(place["tmp"])
    assert main([part.format(**place) for part in line.split()]) == 2
    told = capsys.readouterr().err
    assert told.count("error: ") == 1
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert "Traceback" not in told
    for word in words:
        assert word.format(**place) in told
    assert contents(place["tmp"]) == before


WITHOUT_EXTRAS = """
import contextlib, io, json, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "pybullet", "gymnasium", "rclpy", "onnxruntime"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
from understudy.cli.main import main

answers = []
for line in json.loads(sys.argv[1]):
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        code = main(line.split())
    answers.append((code, told.getvalue()))
print(json.dumps(answers))
"""


def test_a_missing_extra_is_named(place: dict[str, str]) -> None:
    lines = {
        f"record reach --out {NEW}": "sim",
        f"record reach --watch --out {NEW}": "ros",
        "sim-arm": "sim",
        f"train bc {{tmp}}/demos --out {NEW}": "sim",
        f"finetune {{tmp}}/run --out {NEW}": "sim",
        f"export {{tmp}}/run --out {NEW}.skill": "robot",
        "deploy {tmp}/tiny.skill --robot panda": "robot",
    }
    before = contents(place["tmp"])
    asked = json.dumps([line.format(**{**place, "tmp": "place"}) for line in lines])
    finished = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, asked], capture_output=True, text=True, check=True, cwd=place["tmp"]
    )
    for extra, (code, told) in zip(lines.values(), json.loads(finished.stdout), strict=True):
        assert code == 2
        assert told.startswith("error: This needs ")
        assert told.endswith(f"pip install 'understudy[{extra}]'.\n")
        assert told.count("\n") == 1
    assert contents(place["tmp"]) == before
