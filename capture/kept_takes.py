"""The takes that a session has kept, and how the last of them is taken back and brought back."""

from __future__ import annotations

from understudy.datasets.store import Dataset
from understudy.errors import InputError


class KeptTakes:
    """A stack of ids; what is taken back lies in the dataset's trash until it is brought back or another is kept."""

    def __init__(self, dataset: Dataset) -> None:
        self.ids: list[str] = []
        """Kept in this session, the latest last."""
        self.undone: list[str] = []
        """Taken back, the latest last."""
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
        while self.ids:
            id = self.ids[-1]
            there = id in self._dataset.ids
            if there:
                self._dataset.drop(id)
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
        while self.undone:
            id = self.undone[-1]
            there = id in self._dataset.dropped
            if there:
                self._dataset.restore(id)
            self.undone.pop()
            if there:
                self.ids.append(id)
                return id
        raise InputError("There is nothing to redo: no take was taken back since the last one was kept.")
