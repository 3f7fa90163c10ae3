"""Options that several commands share, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

from understudy.errors import InputError

__all__ = ["require_seed", "require_task"]


def require_seed(seed: int) -> None:
    """Refuse a seed that no generator takes, before anything is written.

    Raises:
        InputError: it is negative.
    """
    if seed < 0:
        raise InputError(f"--seed must not be negative, got {seed}.")


def require_task(asked: str | None, trained: str, source: Path) -> str:
    """The task that a run or skill is to be tried in: the one it was trained on.

    What was imported carries the name of a dataset, and no task's: then an id of Gymnasium's may be asked for.

    Raises:
        InputError: another one is asked for, or neither we nor Gymnasium know it.
    """
    from understudy.envs.foreign_env import is_foreign
    from understudy.envs.tasks.task import known_tasks

    known = trained in known_tasks() or is_foreign(trained)
    if asked is not None and not known and is_foreign(asked):
        return asked
    if asked not in (None, trained):
        raise InputError(f"{source} was trained on task {trained!r}, and --task is {asked!r}; they must agree.")
    if not known:
        raise InputError(
            f"{source} was trained on {trained!r}, which is no task of ours and no id that Gymnasium knows here. Say "
            "the id with --task, such as Pendulum-v1, or install the package that it is from; our tasks: "
            f"{', '.join(known_tasks())}."
        )
    return trained
