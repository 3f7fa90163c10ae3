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


def test_it_tells_where_it_is_and_ends_with_what_there_is(tmp_path: Path) -> None:
    folder = tmp_path / "reach"
    command = subprocess.Popen(
        [sys.executable, "-m", "understudy", "console", "reach", "--out", str(folder), "--port", "0",
         "--countdown", "0", "--episodes", "1", "--operator", "ada"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert command.stderr is not None
        found = next(match for line in command.stderr if (match := re.search(r"http://127\.0\.0\.1:\d+/", line)))
        assert "Understudy console" in httpx.get(found[0]).text
        page = Page(found[0])
        while page.hear("view")["view"]["state"] != "ready":
            pass
        assert page.wish("start")["ok"]
        while page.hear("view")["view"]["steps"] < 10:
            page.say({"do": "input", "axes": {"x": 1.0}, "gripper": None, "moving": True})
        assert page.wish("stop")["ok"]
        assert page.wish("keep", "anyway")["ok"]
        while not page.hear("view")["view"]["finished"]:
            pass
        page.close()
        command.send_signal(signal.SIGINT)
        said, _ = command.communicate(timeout=30)
    finally:
        command.kill()
        command.wait()
    assert command.returncode == 0
    assert "1 episodes of reach on panda (1 new, 0 not kept). Next: understudy dataset check" in said
    dataset = Dataset.open(folder)
    info = dataset.summary(dataset.ids[0]).info
    assert (info.operator, info.device, info.task) == ("ada", "browser", "reach")


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
