"""The dataset beside the session: lists, pictures and curves from plain episodes, without a server."""

from __future__ import annotations

import io
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from datasets_builders import make_dataset, make_episode
from PIL import Image

from understudy.capture.console import library, worker
from understudy.capture.console.library import Library
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError, InputError, UnderstudyError


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Library]:
    make_dataset(tmp_path / "reach", 3)
    made = Library(tmp_path / "reach", "", 80)
    yield made
    made.close()


class TestRows:
    def test_the_newest_come_first_and_the_dropped_last(self, opened: Library, tmp_path: Path) -> None:
        dataset = Dataset.open(tmp_path / "reach")
        first, second, third = dataset.ids
        opened.drop(second)
        told = opened.rows()
        assert [(row["id"], row["dropped"], row["number"]) for row in told["episodes"]] == [
            (third, False, 2), (first, False, 1), (second, True, None),
        ]  # fmt: skip
        assert (told["total"], told["dropped"], told["more"]) == (2, 1, False)

    def test_every_change_changes_the_revision(self, opened: Library, tmp_path: Path) -> None:
        id = Dataset.open(tmp_path / "reach").ids[0]
        seen = [opened.revision()]
        opened.label(id, None, None)
        seen.append(opened.revision())
        opened.drop(id)
        seen.append(opened.revision())
        opened.restore(id)
        seen.append(opened.revision())
        Dataset.open(tmp_path / "reach").add(make_episode(seed=9))  # another recorder
        seen.append(opened.revision())
        assert len(set(seen)) == 5

    def test_what_was_said_of_an_episode_is_never_the_old_word(self, opened: Library, tmp_path: Path) -> None:
        id = Dataset.open(tmp_path / "reach").ids[0]
        for verdict in (True, False, None, True):
            opened.label(id, verdict, f"now {verdict}")
            row = next(row for row in opened.rows()["episodes"] if row["id"] == id)
            assert (row["success"], row["note"]) == (verdict, f"now {verdict}")

    def test_a_damaged_file_is_a_row_with_the_reason(self, opened: Library, tmp_path: Path) -> None:
        id = Dataset.open(tmp_path / "reach").ids[1]
        file = tmp_path / "reach" / "episodes" / f"{id}.hdf5"
        file.write_bytes(b"x" * file.stat().st_size)
        row = next(row for row in opened.rows()["episodes"] if row["id"] == id)
        assert row["error"]

    def test_many_are_told_in_pages(self, opened: Library, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(library, "MOST_ROWS", 2)
        first, second = opened.rows(), opened.rows(2)
        assert (len(first["episodes"]), first["more"]) == (2, True)
        assert (len(second["episodes"]), second["more"]) == (1, False)
        assert opened.rows(-5)["offset"] == 0
        assert opened.rows(10**9)["episodes"] == []

    @pytest.mark.parametrize("what", ["drop", "restore", "film", "plot"])
    def test_only_what_is_listed_is_touched(self, opened: Library, what: str) -> None:
        for id in ("../reach", "", "nothing", "a/b", "\0"):
            with pytest.raises(InputError, match="Unknown"):
                getattr(opened, what)(id)

    def test_there_must_be_a_dataset(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="nowhere"):
            Library(tmp_path / "nowhere", "", 80)


class TestPictures:
    def test_recorded_frames_are_the_filmstrip(self, tmp_path: Path) -> None:
        dataset = Dataset.create(tmp_path / "reach", robot="two_joint", task="reach")
        id = dataset.add(make_episode(images=True))
        strip = Image.open(io.BytesIO(worker.film(str(dataset.path), id, "", 90)))
        assert strip.size == (worker.FRAMES * 320, 240)
        first = dataset.read(id).observations["image_front"][0]
        shown = np.asarray(strip.crop((0, 0, 320, 240)).resize((16, 12)), np.float64)
        assert np.corrcoef(shown.ravel(), first.astype(np.float64).ravel())[0, 1] > 0.8

    def test_curves_are_the_recorded_numbers(self, opened: Library, tmp_path: Path) -> None:
        dataset = Dataset.open(tmp_path / "reach")
        curves = worker.plot(str(dataset.path), dataset.ids[0])
        episode = dataset.read(dataset.ids[0])
        assert [panel["title"] for panel in curves["panels"]] == ["joints"]
        assert curves["panels"][0]["lines"]["joint 2"] == pytest.approx(
            episode.observations["joint_position"][:, 1], abs=1e-5
        )
        assert curves["time_s"] == pytest.approx(np.arange(len(episode)) * 0.05)

    def test_a_long_episode_is_thinned(self, tmp_path: Path) -> None:
        dataset = Dataset.create(tmp_path / "reach", robot="two_joint", task="reach")
        id = dataset.add(make_episode(steps=3000))
        curves = worker.plot(str(dataset.path), id)
        assert len(curves["time_s"]) == worker.POINTS
        assert curves["time_s"][-1] == pytest.approx(2999 * 0.05)


class TestWorker:
    def test_what_a_function_says_is_told_here(self, tmp_path: Path) -> None:
        made = worker.Worker()
        try:
            with pytest.raises(DatasetError, match="nowhere"):
                made.run(worker.plot, str(tmp_path / "nowhere"), "x", timeout_s=60.0)
            with pytest.raises(UnderstudyError, match=r"longer than 0\.2 s"):
                made.run(time.sleep, 30.0, timeout_s=0.2)
            assert made.run(abs, -3, timeout_s=60.0) == 3
        finally:
            made.close()
        assert not any(child.is_alive() for child in multiprocessing.active_children() if "Pool" in child.name)
