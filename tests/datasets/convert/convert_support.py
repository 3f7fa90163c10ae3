"""Episodes of every kind, datasets made of them, and what "the same episode" means."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from understudy.datasets.episode import Episode, Stream
from understudy.datasets.schema import CHANNELS, ActionSpec, EpisodeInfo
from understudy.datasets.store import Dataset

FRAME = (5, 7, 3)
_TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, object]:
    """What the episodes of one dataset have in common."""
    joints = draw(st.integers(1, 3))
    optional: dict[str, tuple[int, ...]] = {
        "joint_velocity": (joints,),
        "joint_effort": (joints,),
        "gripper_position": (1,),
        "goal_position": (3,),
        "other_grid": (2, 3),
        "image_front": FRAME,
        "image_wrist": FRAME,
    }
    chosen = draw(st.sets(st.sampled_from(sorted(optional))))
    shapes = {"joint_position": (joints,), **{key: optional[key] for key in sorted(chosen)}}
    name = draw(st.sampled_from(("joint_delta", "joint_position", "tool_delta")))
    spec = ActionSpec(name, ("a", "gripper"), ("rad", "m"), (-0.5, 0.0), (0.5, 0.1))
    return {"shapes": shapes, "spec": spec, "states": draw(st.booleans()), "streams": draw(st.booleans())}


@st.composite
def episodes(draw: st.DrawFn, layout: dict[str, object]) -> Episode:
    """One episode of a layout: any length, any metadata, requests beyond the bounds, uneven stamps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = draw(st.integers(1, 6))
    shapes, spec = layout["shapes"], layout["spec"]
    assert isinstance(shapes, dict)
    assert isinstance(spec, ActionSpec)
    rows = {
        key: rng.integers(0, 256, (steps + 1, *shape), dtype=np.uint8)
        if key.startswith("image_")
        else rng.normal(size=(steps + 1, *shape)).astype(np.float32)
        for key, shape in shapes.items()
    }
    return Episode(
        info=EpisodeInfo(
            robot="two_joint",
            task="reach",
            action_spec=spec,
            rate_hz=draw(st.sampled_from((10.0, 20.0, 50.0))),
            actions=draw(st.sampled_from(CHANNELS)),
            operator=draw(_TEXTS),
            success=draw(st.sampled_from((None, True, False))),
            note=draw(_TEXTS),
            seed=draw(st.none() | st.integers(0, 2**31)),
            randomization={"mass": 1.5} if draw(st.booleans()) else {},
        ),
        observations={key: values[:-1] for key, values in rows.items()},
        final_observation={key: values[-1] for key, values in rows.items()},
        requested=rng.normal(size=(steps, 2)),
        sent=rng.normal(size=(steps, 2)),
        measured=rng.normal(size=(steps, 2)),
        rewards=rng.normal(size=steps).astype(np.float32),
        tick_ns=np.cumsum(rng.integers(1, 10**8, steps)),
        ages_s={key: rng.uniform(0, 0.1, steps).astype(np.float32) for key in list(rows)[:2]},
        states=rng.normal(size=(steps, 4)) if layout["states"] else np.zeros((0, 0)),
        streams={"joints": Stream(np.arange(9), rng.normal(size=(9, 2)))} if layout["streams"] else {},
        intervention=rng.random(steps) < 0.5 if layout["streams"] else np.zeros(0, bool),
    )


same_layout = layouts().flatmap(lambda layout: st.lists(episodes(layout), min_size=1, max_size=3))
"""Episodes that fit into one dataset of any tool."""


def dataset_of(path: Path, content: Iterable[Episode]) -> tuple[Dataset, tuple[str, ...]]:
    """A dataset of these episodes, and their ids in the same order."""
    dataset = Dataset.create(path, robot="two_joint", task="reach", env_kwargs={"gravity": 9.81})
    return dataset, tuple(dataset.add(episode) for episode in content)


def require_same(found: Episode, wanted: Episode, without: Collection[str] = ()) -> None:
    """Assert that two episodes are equal in type, shape and value of every array, and in metadata.

    `without` names fields that are not compared.
    """
    for field in dataclasses.fields(Episode):
        if field.name in without:
            continue
        mine, theirs = getattr(found, field.name), getattr(wanted, field.name)
        if field.name == "info":
            assert mine == theirs
        elif field.name == "streams":
            assert set(mine) == set(theirs)
            for name, stream in mine.items():
                _require_equal(name, stream.stamps_ns, theirs[name].stamps_ns)
                _require_equal(name, stream.values, theirs[name].values)
        elif isinstance(theirs, np.ndarray):
            if theirs.size or mine.size:
                _require_equal(field.name, mine, theirs)
        else:
            assert set(mine) == set(theirs), field.name
            for key in theirs:
                _require_equal(f"{field.name}/{key}", mine[key], theirs[key])


def _require_equal(name: str, found: np.ndarray, wanted: np.ndarray) -> None:
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), name
    assert np.array_equal(found, wanted), name
