"""`understudy dataset check|show|replay`, as typed."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import datasets_defects as planted
import matplotlib.pyplot as plt
import numpy as np
import pytest
from datasets_builders import make_dataset, make_episode
from PIL import Image

from understudy.cli.main import main
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError


class Terminal(io.StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def spoilt(tmp_path: Path) -> Dataset:
    """Five sound episodes and one whose actions are shifted."""
    dataset = make_dataset(tmp_path / "demos", 5)
    dataset.add(planted.actions_late(make_episode(60, seed=50)))
    return dataset


class TestCheck:
    def test_exit_codes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        dataset = make_dataset(tmp_path / "good", 3)
        assert main(["dataset", "check", str(dataset.path)]) == 0
        assert "May I train on this? yes" in capsys.readouterr().out
        damaged = dataset.file(dataset.ids[1])
        damaged.write_bytes(damaged.read_bytes()[:900])
        assert main(["dataset", "check", str(dataset.path)]) == 1
        assert damaged.stem in capsys.readouterr().out
        assert main(["dataset", "check", str(tmp_path / "none")]) == 2
        assert "There is no dataset at" in capsys.readouterr().err

    def test_json_and_picture(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        dataset = make_dataset(tmp_path / "demos", 4)
        picture = tmp_path / "demos.png"
        assert main(["dataset", "check", str(dataset.path), "--json", "--picture", str(picture)]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["trainable"] is True
        assert told["dropped"] == []
        assert [row["id"] for row in told["episodes"]] == list(dataset.ids)
        assert told["episodes"][0]["sources"]["joint_position"] == {"usual": 1.0, "slowest": 1.0, "unit": "a tick"}
        assert plt.imread(picture).shape[1] == 1600
        assert main(["dataset", "check", str(dataset.path), "--picture", str(tmp_path / "demos.gif")]) == 2
        assert "Pictures are written as" in capsys.readouterr().err

    def test_an_empty_dataset_is_not_trainable(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        Dataset.create(tmp_path / "demos", robot="two_joint", task="reach")
        assert main(["dataset", "check", str(tmp_path / "demos")]) == 1
        assert "holds no episodes" in capsys.readouterr().out

    @pytest.mark.parametrize(("answer", "left", "code"), [("y\n", 5, 0), ("n\n", 6, 1), ("", 6, 1)])
    def test_drop_asks_at_a_terminal(
        self,
        spoilt: Dataset,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        answer: str,
        left: int,
        code: int,
    ) -> None:
        bad = spoilt.ids[5]
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        assert main(["dataset", "check", str(spoilt.path), "--drop"]) == code
        assert "Move 1 of 6 episodes to the trash? [y/N]" in capsys.readouterr().err
        assert len(Dataset.open(spoilt.path)) == left
        assert spoilt.dropped == ((bad,) if left == 5 else ())

    def test_drop_refuses_where_nobody_can_answer(
        self, spoilt: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
        assert main(["dataset", "check", str(spoilt.path), "--drop"]) == 2
        assert "there is no terminal to ask at: add --yes" in capsys.readouterr().err
        monkeypatch.setattr("sys.stdin", Terminal("y\n"))
        assert main(["dataset", "check", str(spoilt.path), "--drop", "--json"]) == 2
        assert "--json leaves no room for a question" in capsys.readouterr().err
        assert main(["dataset", "check", str(spoilt.path), "--yes"]) == 2
        assert len(Dataset.open(spoilt.path)) == 6

    def test_drop_with_yes_moves_what_fails_and_can_be_undone(
        self, spoilt: Dataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bad = spoilt.ids[5]
        assert main(["dataset", "check", str(spoilt.path), "--drop", "--yes", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["dropped"] == [bad]
        assert bad not in Dataset.open(spoilt.path).ids
        assert main(["dataset", "check", str(spoilt.path), "--drop", "--yes"]) == 0
        assert main(["dataset", "restore", str(spoilt.path), bad]) == 0
        assert bad in Dataset.open(spoilt.path).ids

    def test_a_damaged_file_is_dropped_too(self, tmp_path: Path) -> None:
        dataset = make_dataset(tmp_path / "demos", 3)
        file = dataset.file(dataset.ids[1])
        file.write_bytes(file.read_bytes()[:5000])
        assert main(["dataset", "check", str(dataset.path), "--drop", "--yes"]) == 0
        assert len(Dataset.open(dataset.path)) == 2

    @pytest.mark.parametrize("name", ["x[/b]y", "w[bold]x"])
    def test_brackets_in_a_path_are_printed_as_they_are(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
    ) -> None:
        """Incident: `x[/b]y` ended in a MarkupError, and `w[bold]x` was advised to be checked as `wx`."""
        dataset = make_dataset(tmp_path / name, 5)
        dataset.add(planted.actions_late(make_episode(60, seed=50)))
        damaged = dataset.file(dataset.ids[0])
        damaged.write_bytes(damaged.read_bytes()[:900])
        assert main(["dataset", "check", str(dataset.path)]) == 1
        told = capsys.readouterr().out
        assert f"understudy dataset check '{dataset.path}' --drop" in told
        assert "".join(told.split()).count(name) >= 2  # the reason is folded

    def test_a_picture_that_cannot_be_is_told_before_the_work(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Incident: after a long check a wrong ending lost the verdicts, and a missing folder was made silently."""
        dataset = make_dataset(tmp_path / "demos", 2)
        monkeypatch.setattr("understudy.cli.dataset_look.check_dataset", None)
        for out, words in ((tmp_path / "demos.gif", "Pictures are written as"), (tmp_path / "no/er/a.png", "no/er")):
            assert main(["dataset", "check", str(dataset.path), "--picture", str(out)]) == 2
            assert words in capsys.readouterr().err
        assert not (tmp_path / "no").exists()

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
    @pytest.mark.parametrize("as_json", [False, True])
    def test_a_picture_that_fails_keeps_the_verdicts(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool
    ) -> None:
        """Incident: the picture was drawn first, and a full disk lost what the check had found."""
        dataset = make_dataset(tmp_path / "demos", 2)
        full = tmp_path / "full.png"
        full.symlink_to("/dev/full")
        arguments = ["dataset", "check", str(dataset.path), "--picture", str(full), *(["--json"] if as_json else [])]
        assert main(arguments) == 2
        told = capsys.readouterr()
        assert "cannot be written" in told.err
        assert json.loads(told.out)["trainable"] if as_json else "May I train on this? yes" in told.out

    def test_a_file_without_read_permission_is_never_dropped(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Incident: a sound file of another user was judged damaged, with the advice to drop it."""
        dataset = make_dataset(tmp_path / "demos", 3)
        closed = dataset.file(dataset.ids[1])
        closed.chmod(0)
        if os.access(closed, os.R_OK):  # a superuser may read everything: take that from this process
            access = os.access
            monkeypatch.setattr("os.access", lambda path, mode: Path(path) != closed and access(path, mode))
            read = Dataset.read

            def refused(self: Dataset, id: str, **rest: bool) -> object:
                if id == closed.stem:
                    raise DatasetError(f"{closed}: Permission denied")
                return read(self, id, **rest)

            monkeypatch.setattr(Dataset, "read", refused)
        assert main(["dataset", "check", str(dataset.path), "--drop", "--yes", "--json"]) == 1
        told = json.loads(capsys.readouterr().out)
        assert told["dropped"] == []
        assert "change its permissions" in told["episodes"][1]["reasons"][0]["text"]
        assert closed.exists()


class TestShow:
    def test_its_seconds_are_those_of_check(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Incident: `check` said 3.3 s and `show` 3.2 s of one episode, which left the last tick out."""
        from understudy.datasets.checking.measures import duration_s

        dataset = make_dataset(tmp_path / "demos", 1)
        out = tmp_path / "take.svg"
        monkeypatch.setitem(plt.rcParams, "svg.fonttype", "none")
        assert main(["dataset", "show", str(dataset.path), "0", "--out", str(out)]) == 0
        episode = dataset.read(dataset.ids[0])
        assert duration_s(episode) == pytest.approx(len(episode) / episode.info.rate_hz)
        assert f"{len(episode)} steps, {duration_s(episode):.1f} s" in out.read_text()

    def test_an_episode_by_id_and_by_number(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        dataset = make_dataset(tmp_path / "demos", 2, images=True)
        monkeypatch.chdir(tmp_path)
        id = dataset.ids[1]
        assert main(["dataset", "show", str(dataset.path), id]) == 0
        assert f"drawn into {id}.png" in capsys.readouterr().out
        by_id = plt.imread(tmp_path / f"{id}.png")
        assert by_id.shape[1] == 1600
        out = tmp_path / "take.png"
        assert main(["dataset", "show", str(dataset.path), "1", "--out", str(out)]) == 0
        assert (plt.imread(out) == by_id).all()
        assert main(["dataset", "show", str(dataset.path), "0", "--out", str(out)]) == 0
        assert plt.imread(out).shape == by_id.shape
        assert not (plt.imread(out) == by_id).all()

    def test_the_whole_dataset(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        dataset = make_dataset(tmp_path / "demos", 2)
        monkeypatch.chdir(tmp_path)
        assert main(["dataset", "show", str(dataset.path)]) == 0
        assert plt.imread(tmp_path / "demos.png").shape[:2] == (1000, 1600)

    def test_what_is_not_there_is_told(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        dataset = make_dataset(tmp_path / "demos", 2)
        assert main(["dataset", "show", str(dataset.path), "7"]) == 2
        assert "Unknown episode '7'" in capsys.readouterr().err
        assert main(["dataset", "show", str(dataset.path), "0", "--out", str(tmp_path / "take.jpg")]) == 2
        assert "Pictures are written as .png, .svg, .pdf" in capsys.readouterr().err


@pytest.fixture(scope="module")
def lifts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two scripted lifts."""
    pytest.importorskip("pybullet")
    folder = tmp_path_factory.mktemp("recorded") / "lift"
    assert main(["record", "lift", "--episodes", "2", "--out", str(folder), "--json"]) == 0
    return Dataset.open(folder)


def test_an_episode_becomes_a_video_of_the_arm(
    lifts: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frame by frame at the robot's rate; the cube, which is red, ends higher than it began."""
    out = tmp_path / "take.gif"
    assert main(["dataset", "show", str(lifts.path), "0", "--video", str(out)]) == 0
    length = len(lifts.read(lifts.ids[0]))
    assert f"{length + 1} frames written to {out}" in capsys.readouterr().out
    heights = []
    with Image.open(out) as gif:
        assert (gif.n_frames, gif.info["duration"]) == (length + 1, 50)
        for row in (0, length):
            gif.seek(row)
            red, green, _ = np.moveaxis(np.asarray(gif.convert("RGB")).astype(int), -1, 0)
            heights.append(np.argwhere((red > 110) & (green < 0.6 * red))[:, 0].mean())
    assert heights[1] < heights[0] - 10
    assert main(["dataset", "show", str(lifts.path), "--video", str(out)]) == 2
    assert "A video shows one episode; name it" in capsys.readouterr().err
    assert main(["dataset", "show", str(lifts.path), "0", "--video", "take.avi"]) == 2
    assert "must end in .mp4 or .gif" in capsys.readouterr().err


class TestReplay:
    def test_table_and_json(self, lifts: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["dataset", "replay", str(lifts.path)]) == 0
        told = capsys.readouterr().out
        assert "2 of 2 within the tolerances; the outcome was the recorded one in 2 of 2" in told
        assert "Played: requested; compared with simulator states" in told
        assert main(["dataset", "replay", str(lifts.path), "1", "--json", "--channel", "sent"]) == 0
        episodes = json.loads(capsys.readouterr().out)["episodes"]
        assert [episode["id"] for episode in episodes] == [lifts.ids[1]]
        assert [deviation["name"] for deviation in episodes[0]["deviations"]] == [
            "joint_position",
            "tool_position",
            "object_position",
        ]

    def test_what_strays_is_told_and_fails(self, lifts: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
        strict = ["--channel", "sent", "--joint-tolerance-rad", "0.0001"]
        assert main(["dataset", "replay", str(lifts.path), "--episodes", "1", *strict]) == 1
        assert "beyond from step" in capsys.readouterr().out

    def test_what_cannot_be_played_is_told(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        dataset = Dataset.create(tmp_path / "demos", robot="home_made", task="reach")
        dataset.add(make_episode(20, robot="home_made"))
        assert main(["dataset", "replay", str(dataset.path)]) == 2
        assert "Unknown robot 'home_made'" in capsys.readouterr().err
        foreign = Dataset.create(tmp_path / "foreign", robot="panda", task="reach")
        foreign.add(make_episode(20, robot="panda"))
        assert main(["dataset", "replay", str(foreign.path)]) == 1
        assert "not played" in capsys.readouterr().out
        assert main(["dataset", "replay", str(dataset.path), "--episodes", "0"]) == 2
        assert main(["dataset", "replay", str(dataset.path), "0", "--episodes", "1"]) == 2
        assert "not both" in capsys.readouterr().err
