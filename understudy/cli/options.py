"""Options that several commands share, and what is wrong with them."""

from __future__ import annotations

from understudy.errors import InputError

__all__ = ["require_seed"]


def require_seed(seed: int) -> None:
    """Refuse a seed that no generator takes, before anything is written.

    Raises:
        InputError: it is negative.
    """
    if seed < 0:
        raise InputError(f"--seed must not be negative, got {seed}.")
