"""The part of an episode in which the arm touches nothing: there it moves as it alone says.

Where a grip slips or an object is pressed onto the table, the least difference of the physics makes centimetres; before
that, commands and motors tell everything.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from understudy.datasets.episode import Episode
from understudy.envs.tasks.scene import SceneObject

NEAR_M = 0.05
"""A tool so close to an object may touch it: fingers are wider than the point between their tips."""
MOVED_M = 0.01
"""An object that is read this far from its start has been touched; less may be the reading's noise."""
CLOSED_M = 0.002
"""A gripper that has closed by so much may hold something."""
LEAST_ROWS = 10
"""A shorter beginning tells too little."""

Rows = NDArray[np.bool_]


def free_motion(episode: Episode, objects: Mapping[str, SceneObject]) -> Episode:
    """An episode up to where the arm comes near an object, closes its gripper, or an object moves.

    One that begins near an object counts up to the second or third of these; the whole one is kept where even that
    leaves next to nothing. Told by observations alone.

    Args:
        episode: as recorded.
        objects: of the task, by name.
    """
    touched = _touched(episode, objects)
    for told in (touched | _near(episode, objects), touched):
        rows = int(np.argmax(told)) if told.any() else len(episode)
        if rows >= LEAST_ROWS:
            return episode.first(rows)
    return episode


def _touched(episode: Episode, objects: Mapping[str, SceneObject]) -> Rows:
    """(N,) whether something had been touched by then."""
    told = np.zeros(len(episode), np.bool_)
    if "gripper_position" in episode.observations:
        opening = np.asarray(episode.observations["gripper_position"], np.float64)[:, 0]
        told |= np.maximum.accumulate(opening) - opening > CLOSED_M
    for name in objects:
        if f"{name}_position" in episode.observations:
            place = np.asarray(episode.observations[f"{name}_position"], np.float64)
            told |= np.linalg.norm(place - place[0], axis=1) > MOVED_M
    return told


def _near(episode: Episode, objects: Mapping[str, SceneObject]) -> Rows:
    """(N,) whether the tool is so close to an object that it may touch it."""
    told = np.zeros(len(episode), np.bool_)
    tool = episode.observations.get("tool_position")
    for name, thing in objects.items():
        place = episode.observations.get(f"{name}_position")
        if tool is not None and place is not None:
            told |= np.linalg.norm(np.asarray(tool, np.float64) - place, axis=1) < thing.radius_m + NEAR_M
    return told
