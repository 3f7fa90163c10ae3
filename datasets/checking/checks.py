"""May I train on this? Every episode gets a verdict, ok, warn or fail, with reasons and numbers.

One pass: each episode is read, measured (`measures.py`) and judged by itself (`defects_in_time.py`,
`defects_in_motion.py`), let go, and at the end the measures are judged against each other (`consistency.py`,
`tool_fit.py`, `grip.py`). Nothing is changed; dropping is the reader's decision.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from understudy.datasets.checking.check_config import CheckConfig
from understudy.datasets.checking.consistency import against_the_rest
from understudy.datasets.checking.defects_in_motion import MOTION_CHECKS
from understudy.datasets.checking.defects_in_time import TIME_CHECKS
from understudy.datasets.checking.measures import Measures, measure
from understudy.datasets.checking.tool_fit import Forward
from understudy.datasets.checking.verdicts import CLOSED, LEVELS, EpisodeVerdict, Finding, Level, Report, as_dict
from understudy.datasets.episode import Episode
from understudy.datasets.store import Dataset
from understudy.errors import DatasetError

__all__ = [
    "LEVELS",
    "CheckConfig",
    "EpisodeVerdict",
    "Finding",
    "Forward",
    "Level",
    "Measures",
    "Report",
    "as_dict",
    "check_dataset",
    "compared",
    "judge",
]

_ROWS = 1200
"""Rows of a whole dataset from which the joints' relation to the tool pose is learned."""


def check_dataset(
    dataset: Dataset,
    config: CheckConfig | None = None,
    progress: Callable[[int], None] | None = None,
    forward: Forward | None = None,
) -> Report:
    """Check every episode, alone and against the rest.

    Args:
        dataset: what to check.
        config: the thresholds.
        progress: called with the count of episodes done.
        forward: the robot's forward kinematics, where they are known; else they are learned from the episodes.
    """
    config = config or CheckConfig()
    ids = dataset.ids
    rows = max(24, min(160, _ROWS // max(len(ids), 1)))
    verdicts = []
    for index, id in enumerate(ids):
        file = dataset.path / "episodes" / f"{id}.hdf5"
        try:
            verdicts.append(judge(id, file, dataset.read(id), config, rows))
        except DatasetError as error:  # a file that cannot be read is a verdict, not an error
            verdicts.append(EpisodeVerdict(id, file, (_unreadable(file, error),), None))
        if progress is not None:
            progress(index + 1)
    episodes = compared(verdicts, config, forward)
    measured = {verdict.id: verdict.measures for verdict in episodes if verdict.measures is not None}
    return Report(dataset.path, episodes, tuple(_of_the_whole(dataset, measured)))


def _unreadable(file: Path, error: DatasetError) -> Finding:
    """Why a file could not be judged: it is damaged, or sound for all we know and closed to us."""
    if file.exists() and not os.access(file, os.R_OK):
        text = f"{file} may not be read by this user, and may be sound: change its permissions (chmod u+r)"
        return Finding("fail", CLOSED, text)
    return Finding("fail", "readable", str(error))


def judge(id: str, file: Path, episode: Episode, config: CheckConfig, rows: int = 32) -> EpisodeVerdict:
    """The verdict on one episode by itself.

    Args:
        id: its id.
        file: where it lies.
        episode: what is in it.
        config: the thresholds.
        rows: how many of its rows are kept to compare joints and tool pose with other episodes'.
    """
    measures = measure(episode, config, rows)
    checks = (*TIME_CHECKS, *MOTION_CHECKS)
    findings = tuple(finding for check in checks for finding in check(episode, measures, config))
    return EpisodeVerdict(id, file, findings, measures)


def compared(
    verdicts: Sequence[EpisodeVerdict], config: CheckConfig, forward: Forward | None = None
) -> tuple[EpisodeVerdict, ...]:
    """The verdicts with what only the other episodes of the dataset can tell."""
    measured = {verdict.id: verdict.measures for verdict in verdicts if verdict.measures is not None}
    extra = against_the_rest(measured, config, forward)
    return tuple(EpisodeVerdict(v.id, v.file, (*v.findings, *extra.get(v.id, ())), v.measures) for v in verdicts)


def _of_the_whole(dataset: Dataset, measured: Mapping[str, Measures]) -> Iterator[Finding]:
    if not dataset.ids:
        yield Finding("fail", "empty", "the dataset holds no episodes")
    for id, reason in dataset.recovery.unreadable.items():
        yield Finding("warn", "recording", f"the take {id} cannot be recovered: {reason}")
    takes = dataset.takes()
    if takes:
        yield Finding("warn", "recording", f"{len(takes)} takes wait for a decision: understudy dataset repair")
    known = [measures.success for measures in measured.values() if measures.success is not None]
    if known and not any(known):
        yield Finding("fail", "success", "no episode is marked as a success")
