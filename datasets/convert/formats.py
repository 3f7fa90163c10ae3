"""What every format owes: reading gives episodes one at a time, writing says what the other format cannot hold.

A format is a module of its own beside this one with two functions,

    read(path, config) -> Foreign            episodes of another tool's files, lazily
    write(dataset, ids, out, config) -> losses   our episodes as another tool's files

and a frozen dataclass of options for each. Nothing is dropped or made up in silence: both ways name it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from understudy.datasets.episode import Episode


@dataclass(frozen=True)
class Foreign:
    """Another tool's recording, open for reading."""

    robot: str
    task: str
    count: int
    """How many episodes there are."""
    episodes: Iterator[Episode]
    """One in memory at a time; raises DatasetError, naming the file, on the first that cannot be read."""
    notes: tuple[str, ...]
    """A sentence for each thing that was not there and what stands in its place, and for each that is left out."""
    splits: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Split name -> numbers of its episodes, counted from 0 in the order they come."""
