"""The takes that a session has kept, and how the last of them is taken back and brought back."""

from __future__ import annotations

from functools import partial

from understudy.capture.unconfirmed import took_place
from understudy.datasets.store import Dataset
from understudy.errors import InputError


class KeptTakes:
    """A stack of ids; what is taken back lies in the dataset's trash until it is brought back or another is kept."""

    def __init__(self, dataset: Dataset) -> None:
        self.ids: list[str] = []
        """Kept in this session, the latest last."""
        self.undone: list[str] = []
        """Taken back, the latest last."""
        self.warning = ""
        """What is to be said of the latest `undo` or `redo`: it is done, and the disk did not confirm it."""
        self._dataset = dataset

    def add(self, id: str) -> None:
        """A take was kept; what was taken back before stays so."""
        self.ids.append(id)
        self.undone.clear()

    def undo(self) -> str:
        """Move the take kept last to the trash; returns its id. One that is gone from the dataset is passed over.

        Raises:
            InputError: nothing that was kept here is there any more.
            DatasetError, OSError: it could not be moved; it is still the last one kept.
        """
        self.warning = ""
        while self.ids:
            id = self.ids[-1]
            there = self._kept(id)
            if there:
                self.warning = took_place(partial(self._dataset.drop, id), partial(self._gone, id))
            self.ids.pop()  # once it is done: what fails is not forgotten
            if there:
                self.undone.append(id)
                return id
        raise InputError("There is nothing to undo: this session has kept no take yet, or they were dropped since.")

    def redo(self) -> str:
        """Bring back the take that was taken back last; returns its id.

        Raises:
            InputError: there is none in the trash any more.
            DatasetError, OSError: it could not be moved; it is still the last one taken back.
        """
        self.warning = ""
        while self.undone:
            id = self.undone[-1]
            there = id in self._dataset.dropped
            if there:
                self.warning = took_place(partial(self._dataset.restore, id), partial(self._kept, id))
            self.undone.pop()
            if there:
                self.ids.append(id)
                return id
        raise InputError("There is nothing to redo: no take was taken back since the last one was kept.")

    def _kept(self, id: str) -> bool:
        return id in self._dataset.ids

    def _gone(self, id: str) -> bool:
        return not self._kept(id)
