"""How many threads torch uses while small networks are trained: one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread inside, as before outside.

    A layer of 256 is done before a second thread has woken up; where other processes are at work, waiting for it made
    cloning nine times slower.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
