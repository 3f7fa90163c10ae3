"""The rooms at the repository's root are one package, and shadow nobody.

Incident: with an `__init__.py` in ./datasets, everything run from the root imported it in place of Hugging
Face's `datasets`, which `imitation` needs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import understudy

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("datasets", "envs", "capture", "learners", "deploy")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def fresh(program: str, folder: Path = ROOT, **environment: str) -> Any:
    """Run a program that prints JSON in a new interpreter with `folder` first on sys.path."""
    finished = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", **environment},
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_from_the_root_datasets_is_hugging_faces_and_ours_is_ours() -> None:
    pytest.importorskip("datasets", reason="Hugging Face's datasets comes with the train extra")
    theirs, ours = fresh(
        "import json, datasets, understudy.datasets\n"
        "print(json.dumps([datasets.__file__, list(understudy.datasets.__path__)]))"
    )
    assert Path(theirs).parts[-3:-1] == ("site-packages", "datasets")
    assert [Path(path) for path in ours] == [ROOT / "datasets"]


def test_order_of_import_does_not_matter() -> None:
    pytest.importorskip("datasets", reason="Hugging Face's datasets comes with the train extra")
    theirs = fresh("import json, understudy.datasets, datasets\nprint(json.dumps(hasattr(datasets, 'load_dataset')))")
    assert theirs is True


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_have_no_init(room: str) -> None:
    assert [str(found.relative_to(ROOT)) for found in (ROOT / room).rglob("__init__.py")] == []


def test_every_folder_with_code_is_packed() -> None:
    """The list of packages is explicit: a new folder that is not added is missing from the wheel."""
    table: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
    packed = {table[package] for package in PROJECT["tool"]["setuptools"]["packages"]}
    with_code = {
        str(path.parent.relative_to(ROOT)) for top in (*ROOMS, "understudy") for path in (ROOT / top).rglob("*.py")
    }
    assert with_code - packed == set()
    assert set(table) == set(PROJECT["tool"]["setuptools"]["packages"])


def test_version_is_said_once() -> None:
    assert PROJECT["project"]["version"] == understudy.__version__


def test_every_requirement_is_pinned() -> None:
    pinned = {
        canonical(line.split("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)
    }
    asked = [
        Requirement(text)
        for texts in (
            PROJECT["project"]["dependencies"],
            *PROJECT["project"]["optional-dependencies"].values(),
        )
        for text in texts
    ]
    assert {canonical(one.name) for one in asked} - pinned == {"understudy"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.slow
def test_a_normal_install_has_everything(tmp_path: Path) -> None:
    source, installed = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    for top in (*ROOMS, "understudy"):
        shutil.copytree(ROOT / top, source / top, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.name in {"pyproject.toml", "LICENSE", "README.md"}:
            shutil.copy(path, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(installed), str(source)], check=True)

    wanted = {f"understudy/{path.relative_to(source)}" for room in ROOMS for path in (source / room).rglob("*.*")} | {
        str(path.relative_to(source)) for path in (source / "understudy").rglob("*.*")
    }
    found = {str(path.relative_to(installed)) for path in (installed / "understudy").rglob("*.*")}
    assert wanted - found == set()

    paths = fresh(
        "import json, understudy, understudy.datasets\n"
        "print(json.dumps([list(understudy.__path__), list(understudy.datasets.__path__)]))",
        tmp_path,
        PYTHONPATH=str(installed),
    )
    assert paths == [[str(installed / "understudy")], [str(installed / "understudy" / "datasets")]]
