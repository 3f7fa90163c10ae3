"""A take that a crash or a closed session left in `recording/`, in hand again to be kept or dropped."""

from __future__ import annotations

from understudy.datasets.disk import LiveLock
from understudy.datasets.episode import Episode, read_episode, read_summary
from understudy.datasets.schema import EpisodeInfo
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError, unknown_name


class LeftTake:
    """Stands where a recorder stands in a session, for a take whose steps are all there already."""

    def __init__(self, dataset: Dataset, id: str) -> None:
        """Take it up, so that no other recorder does.

        Raises:
            DatasetError: there is no such take, it is damaged, or another recorder has it.
        """
        if id not in (known := dataset.takes()):
            raise DatasetError(str(unknown_name("take in recording/", id, known)))
        self.path = dataset.take_file(id)
        self._dataset = dataset
        self._lock = LiveLock(self.path)
        if not self._lock.acquire():
            raise DatasetError(f"{self.path} is in another recorder's hands; close that one first.")
        try:
            summary = read_summary(self.path, verify=True)
        except DatasetError:
            self._lock.release()
            raise
        self.info: EpisodeInfo = summary.info
        self.steps = summary.steps

    def episode(self) -> Episode:
        """All of it.

        Raises:
            DatasetError: it cannot be read.
        """
        return read_episode(self.path, verify=False)

    @property
    def broken(self) -> bool:
        """Whether it can neither be kept nor dropped any more: its file is gone."""
        return not self.path.exists()

    def keep(self, info: EpisodeInfo) -> str:
        """Commit it under what is said of it now; returns its id. What fails may be tried again, or dropped.

        Raises:
            DatasetError: its file is gone or damaged.
            OSError: the disk fails; it is a take still.
        """
        # Before it is committed: an end in between leaves a take with its new label, and no episode with its old.
        self._dataset.relabel_take(self.path.stem, info)
        id = self._dataset.commit(self.path)
        self._lock.release()
        return id

    def drop(self, info: EpisodeInfo) -> None:
        """Move it to the trash.

        Raises:
            OSError: the disk fails; it is a take still.
        """
        self._dataset.discard(self.path.stem)
        self._lock.release()

    def leave(self) -> None:
        """Leave it where it is."""
        self._lock.release()
