"""The command line: tables without heavy imports, exit codes, and errors as one sentence."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest

import understudy
from understudy.cli import main as cli
from understudy.errors import InputError, StaleObservation

ROOT = Path(__file__).resolve().parents[2]


def in_a_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "understudy", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


@pytest.fixture
def fake_command(monkeypatch: pytest.MonkeyPatch) -> type:
    """A command `fake --outcome NAME` that ends in each way a command can end."""

    @dataclass(frozen=True)
    class Fake:
        """Fake.

        Example:
            understudy fake --outcome done
        """

        outcome: str = "done"

        def run(self) -> int:
            if self.outcome == "failed":
                raise StaleObservation("The camera is silent.")
            if self.outcome == "bad-input":
                raise InputError("There is no such folder.")
            if self.outcome == "no-torch":
                raise ModuleNotFoundError("No module named 'torch'", name="torch")
            if self.outcome == "no-idea":
                raise ModuleNotFoundError("No module named 'nobody'", name="nobody")
            if self.outcome == "stopped":
                raise KeyboardInterrupt
            return {"done": 0, "half": 1}[self.outcome]

    module = types.ModuleType("fake_command")
    module.Fake = Fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_command", module)
    monkeypatch.setitem(cli.COMMANDS, ("fake",), cli.Command("fake_command", "Fake", "a fake"))
    return Fake


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    printed = capsys.readouterr().out
    for key in cli.COMMANDS:
        assert f"  {key[0]}" in printed
    assert "dataset info|check" in printed


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom understudy.cli.main import main\nmain(['--help']); main(['dataset', '--help'])\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"numpy", "torch", "pybullet", "h5py", "rclpy", "gymnasium", "matplotlib", "pydantic", "tyro"}
    assert heavy & set(finished.stderr.split()) == set()


def test_group_help_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dataset", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "usage: understudy dataset COMMAND" in printed
    assert "may I train on this?" in printed
    assert "gail" not in printed


@pytest.mark.parametrize("arguments", [[], ["dataset"]])
def test_no_command_is_bad_input(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert "usage: understudy" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"understudy {understudy.__version__}\n"


def test_unknown_command_suggests(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["docter"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: Unknown command 'docter': did you mean 'doctor'? Known commands: bench,")
    assert printed.count("\n") == 1


def test_unknown_command_of_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dataset", "chek"]) == 2
    assert "Unknown dataset command 'chek': did you mean 'check'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("outcome", "code", "sentence"),
    [
        ("done", 0, ""),
        ("half", 1, ""),
        ("failed", 1, "error: The camera is silent.\n"),
        ("bad-input", 2, "error: There is no such folder.\n"),
        (
            "no-torch",
            2,
            "error: This needs torch, which is not installed: pip install 'understudy[train]'.\n",
        ),
        ("stopped", 130, "stopped\n"),
    ],
)
@pytest.mark.usefixtures("fake_command")
def test_how_a_command_ends(
    outcome: str,
    code: int,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)
    assert cli.main(["fake", "--outcome", outcome]) == code
    assert capsys.readouterr().err == sentence


@pytest.mark.usefixtures("fake_command")
def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "1")
    assert cli.main(["fake", "--outcome", "failed"]) == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert printed.endswith("error: The camera is silent.\n")


@pytest.mark.usefixtures("fake_command")
def test_a_missing_module_of_nobody_is_a_bug_and_not_hidden() -> None:
    with pytest.raises(ModuleNotFoundError, match="nobody"):
        cli.main(["fake", "--outcome", "no-idea"])


@pytest.mark.usefixtures("fake_command")
def test_wrong_options_are_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fake", "--outcom", "done"]) == 2
    assert "--outcome" in capsys.readouterr().err


@pytest.mark.usefixtures("fake_command")
def test_help_of_a_command_shows_its_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fake", "--help"]) == 0
    assert "understudy fake --outcome done" in capsys.readouterr().out


@pytest.mark.parametrize("key", list(cli.COMMANDS), ids=" ".join)
def test_every_command_keeps_the_contract(key: tuple[str, ...]) -> None:
    command = cli.COMMANDS[key].load()
    assert dataclasses.is_dataclass(command)
    assert command.__dataclass_params__.frozen
    assert callable(command.run)
    assert "Example:\n" in (command.__doc__ or "")
    assert f"understudy {' '.join(key)}" in (command.__doc__ or "")


def test_missing_extra_in_a_real_process() -> None:
    """An import that fails deep inside a command comes out as one sentence and exit code 2."""
    program = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'pybullet':\n"
        "            raise ModuleNotFoundError('No module named pybullet', name='pybullet')\n"
        "sys.meta_path.insert(0, Block())\n"
        "import types\n"
        "from understudy.cli import main as cli\n"
        "class Command(cli.Command):\n"
        "    def load(self):\n"
        "        import pybullet\n"
        "cli.COMMANDS[('record',)] = Command('', '', '')\n"
        "sys.exit(cli.main(['record']))\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stderr == ("error: This needs pybullet, which is not installed: pip install 'understudy[sim]'.\n")


@pytest.mark.parametrize("bootstrapped", [True, False], ids=["in the re-executed Python", "with the re-execution"])
def test_exit_codes_survive_the_ros_wheels(bootstrapped: bool) -> None:
    """The ROS wheels re-execute Python at start-up; the shell sees the code of the second Python."""
    environment = {"_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1" if bootstrapped else ""}
    assert in_a_process("--version", **environment).returncode == 0
    wrong = in_a_process("docter", **environment)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr
