"""The physics that a run was trained in: kept in its folder, and told to whoever marks them in a picture."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.envs.curriculum import Curriculum
from understudy.envs.randomization import Randomization, load_randomization
from understudy.envs.randomization_file import write_distributions
from understudy.errors import InputError
from understudy.learners.runs import Run

RANDOMIZATION = "randomization.yaml"
UNTOLD = "default"
"""Ranges that are marked where a run or a skill does not tell its own."""


@dataclass(frozen=True)
class TrainedRanges:
    """Where the ranges are read, and what they are called."""

    source: str
    """As for `load_randomization`."""
    words: str
    """For a legend."""


def keep_ranges(run: Run, trained_in: Randomization | Curriculum | None) -> None:
    """Write the ranges into the run's folder: a file that was named may change, and a curriculum's are its own."""
    if trained_in is None:
        return
    fixed = trained_in.randomization() if isinstance(trained_in, Curriculum) else trained_in
    comment = f"What the run was fine-tuned in: {trained_in.name}."
    write_distributions(run.path / RANDOMIZATION, fixed.distributions, {"": comment})


def trained_ranges(run: Run | None) -> TrainedRanges:
    """What a run's folder tells about its training ranges; of a skill, which is None here, nothing is known."""
    if run is None:
        return _untold("a skill tells no ranges")
    named = run.config.options.get("randomize")
    if not isinstance(named, str):
        return _untold("the run tells no ranges of its own")
    if named == "none":
        return TrainedRanges("none", "none, it was fine-tuned in nominal physics")
    words = f"what it was fine-tuned in, {named!r}"
    kept = run.path / RANDOMIZATION
    if kept.is_file():
        return TrainedRanges(str(kept), words)
    try:
        load_randomization(named)
    except InputError:  # an older run's: a file that is gone, or a curriculum, which only its end could tell
        return _untold(f"the run did not keep {named!r}, which it was fine-tuned in")
    return TrainedRanges(named, words)


def _untold(why: str) -> TrainedRanges:
    return TrainedRanges(UNTOLD, f"preset {UNTOLD!r}, as {why}")
