"""`understudy console` as a person starts and ends it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from console_support import Page

from understudy.cli.main import main
from understudy.datasets.store import Dataset


class Command:
    """The console as a person starts it, with every limit as it is by default."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "understudy", "console", "reach", "--out", str(folder), "--port", "0",
             "--countdown", "0", "--operator", "ada", *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        found = (re.search(r"http://127\.0\.0\.1:\d+/", line) for line in self.process.stderr)
        self.url = next(match for match in found if match)[0]

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> tuple[str, str]:
        """Ctrl-C; what it says at the end, on both streams."""
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=60)


def record(page: Page) -> None:
    """Begin a take, and drive for ten steps."""
    while page.hear("view")["view"]["state"] != "ready":
        pass
    assert page.wish("start")["ok"]
    while page.hear("view")["view"]["steps"] < 10:
        page.say({"do": "input", "axes": {"x": 1.0}, "gripper": None, "moving": True})


def test_it_tells_where_it_is_and_ends_with_what_there_is(tmp_path: Path) -> None:
    folder = tmp_path / "reach"
    with Command(folder, "--episodes", "1") as command:
        assert "Understudy console" in httpx.get(command.url).text
        page = Page(command.url)
        record(page)
        assert page.wish("stop")["ok"]
        assert page.wish("keep", "anyway")["ok"]
        while not page.hear("view")["view"]["finished"]:
            pass
        page.close()
        said, _ = command.end()
    assert command.process.returncode == 0
    assert "1 episodes of reach on panda (1 new, 0 not kept). Next: understudy dataset check" in said
    dataset = Dataset.open(folder)
    info = dataset.summary(dataset.ids[0]).info
    assert (info.operator, info.device, info.task) == ("ada", "browser", "reach")
    with Command(folder, "--episodes", "1") as command:  # incident: a dataset that was full could not be looked at
        page = Page(command.url)
        view = page.hear("view")["view"]
        assert (view["finished"], view["state"], view["episodes"]) == (True, "idle", 1)
        assert [row["id"] for row in httpx.get(f"{command.url}api/episodes").json()["episodes"]] == list(dataset.ids)
        page.close()
        said, _ = command.end()
    assert command.process.returncode == 0
    assert "1 episodes of reach on panda (0 new, 0 not kept). Next" in said


def test_a_take_that_is_in_hand_at_the_end_waits_and_is_said_to(tmp_path: Path) -> None:
    """Incident: Ctrl-C in mid-take told that the take had been dropped, and of none that waits."""
    folder = tmp_path / "reach"
    with Command(folder, "--episodes", "5") as command:
        page = Page(command.url)
        record(page)
        said, told = command.end()
        page.close()
    assert "the take waits to be reviewed; the dataset holds 0 of 5" in told
    assert "dropped" not in told
    assert f"0 episodes of reach on panda (0 new, 0 not kept, 1 takes wait in {folder / 'recording'})" in said
    assert len(Dataset.open(folder).takes()) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "99999"], "between 0 and 65535"),
        (["--token", "short"], "at least 16"),
        (["--speed", "2"], "above 0 and at most 1"),
        (["--episodes", "0"], "at least 1"),
        (["--device", "scripted"], "needs no page: understudy record lift --device scripted"),
        (["--watch"], "--arm watched"),
        (["--countdown", "-1"], "at least 0"),
        (["--max-seconds", "nan"], "positive number of seconds"),
    ],
)
def test_wrong_options_are_told_before_anything_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main(["console", "lift", "--out", str(tmp_path / "lift"), *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "lift").exists()
