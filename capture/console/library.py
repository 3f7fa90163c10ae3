"""The dataset beside the session: its episodes, looked at, judged, dropped and brought back from the page.

An id that a page sends is compared with the dataset's own list before it names a file. Long work is the worker's.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from understudy.capture.console import worker
from understudy.datasets.episode import Summary, read_summary
from understudy.datasets.index import INDEX
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError, unknown_name

MOST_ROWS = 200
"""Episodes in one answer."""
FILMS_KEPT = 64
FILM_S, PLOT_S, CHECK_S = 60.0, 60.0, 600.0


class Library:
    """One dataset, for any thread."""

    def __init__(self, folder: Path, robot: str, jpeg_quality: int) -> None:
        """Args:
        folder: the dataset's.
        robot: its robot's YAML file, where it is not a shipped one; else empty.
        jpeg_quality: of filmstrips.

        Raises:
            DatasetError: there is no dataset.
        """
        self._dataset = Dataset.open(folder, recover=False)
        self._robot = robot
        self._quality = jpeg_quality
        self._worker = worker.Worker()
        self._lock = threading.Lock()
        self._summaries: dict[tuple[str, int], Summary] = {}
        self._films: OrderedDict[str, bytes] = OrderedDict()
        self._changes = 0

    def revision(self) -> str:
        """Changes whenever the list of episodes, or what is said of one, may have changed."""
        try:
            stamp = (self._dataset.path / INDEX).stat().st_mtime_ns
        except OSError:
            stamp = 0
        return f"{stamp}-{self._changes}"

    def rows(self, offset: int = 0) -> dict[str, Any]:
        """Episodes, the newest first, then the dropped ones of the same page; `MOST_ROWS` from `offset` on."""
        self._worker.warm_up()  # whoever reads the list looks at an episode next
        kept = list(reversed(self._dataset.ids))
        dropped = sorted(self._dataset.dropped, reverse=True)
        both = [(id, False) for id in kept] + [(id, True) for id in dropped]
        numbers = {id: len(kept) - place for place, id in enumerate(kept)}
        chosen = both[max(0, offset) : max(0, offset) + MOST_ROWS]
        return {
            "revision": self.revision(),
            "total": len(kept),
            "dropped": len(dropped),
            "offset": max(0, offset),
            "more": max(0, offset) + MOST_ROWS < len(both),
            "episodes": [{**self._row(id, gone), "number": numbers.get(id) if not gone else None}
                         for id, gone in chosen],
        }  # fmt: skip

    def film(self, id: str) -> bytes:
        """The filmstrip of an episode, JPEG.

        Raises:
            InputError: no such episode, or nothing to draw.
        """
        self._require_kept(id)
        with self._lock:
            found = self._films.get(id)
        if found is None:
            folder, robot = str(self._dataset.path), self._robot
            found = self._worker.run(worker.film, folder, id, robot, self._quality, timeout_s=FILM_S)
            with self._lock:
                self._films[id] = found
                if len(self._films) > FILMS_KEPT:
                    self._films.popitem(last=False)
        return found

    def plot(self, id: str) -> dict[str, Any]:
        """Curves of an episode; see `worker.plot`.

        Raises:
            InputError: no such episode.
        """
        self._require_kept(id)
        curves: dict[str, Any] = self._worker.run(worker.plot, str(self._dataset.path), id, timeout_s=PLOT_S)
        return curves

    def check(self) -> dict[str, Any]:
        """The report of `dataset check`, without paths of this machine."""
        report: dict[str, Any] = self._worker.run(worker.check, str(self._dataset.path), self._robot, timeout_s=CHECK_S)
        return {
            "trainable": report["trainable"],
            "counts": report["counts"],
            "findings": report["findings"],
            "episodes": [
                {"id": row["id"], "verdict": row["verdict"], "reasons": row["reasons"]} for row in report["episodes"]
            ],
        }

    def label(self, id: str, success: bool | None, note: str | None) -> str:
        """Judge an episode again; returns what happened.

        Raises:
            InputError: no such episode.
        """
        self._require_kept(id)
        self._dataset.relabel(id, success=success, note=note)
        self._changes += 1
        return f"{id} is marked: {_verdict(success)}."

    def drop(self, id: str) -> str:
        """Move an episode to the trash; returns what happened.

        Raises:
            InputError: no such episode.
        """
        self._require_kept(id)
        self._dataset.drop(id)
        self._changes += 1
        return f"{id} is in the trash; restore brings it back."

    def restore(self, id: str) -> str:
        """Bring a dropped episode back; returns what happened.

        Raises:
            InputError: no such episode in the trash.
        """
        if id not in self._dataset.dropped:
            raise unknown_name("dropped episode", id, self._dataset.dropped)
        self._dataset.restore(id)
        self._changes += 1
        return f"{id} is back."

    def close(self) -> None:
        """End the worker."""
        self._worker.close()

    def _require_kept(self, id: str) -> None:
        known = self._dataset.ids
        if id not in known:
            raise unknown_name("episode", id, known)

    def _row(self, id: str, gone: bool) -> dict[str, Any]:
        file = self._dataset.path / ("trash" if gone else "episodes") / f"{id}.hdf5"
        try:
            summary = self._summary(file)
        except (DatasetError, OSError) as error:
            return {"id": id, "dropped": gone, "error": str(error)}
        info = summary.info
        return {
            "id": id,
            "dropped": gone,
            "steps": summary.steps,
            "duration_s": round(summary.steps / info.rate_hz, 2),
            "success": info.success,
            "note": info.note,
            "operator": info.operator,
            "device": info.device,
            "created": info.created,
            "error": "",
        }

    def _summary(self, file: Path) -> Summary:
        """What a file says of itself, read once for each of its versions."""
        key = (str(file), file.stat().st_mtime_ns)
        with self._lock:
            found = self._summaries.get(key)
        if found is None:
            found = read_summary(file)
            with self._lock:
                self._summaries[key] = found
        return found


def _verdict(success: bool | None) -> str:
    return {True: "success", False: "no success", None: "not judged"}[success]
