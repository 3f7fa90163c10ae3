"""Random episodes, and whether two are the same, for tests of formats."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from datasets_builders import make_episode
from hypothesis import strategies as st

from understudy.datasets.episode import Episode, Stream


@st.composite
def episode_lists(draw: Any, **changes: Any) -> list[Episode]:
    """One to three episodes that observe the same things, of any length, with or without what is optional."""
    images, states, streams = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    takeovers = draw(st.booleans())
    double = draw(st.booleans())
    success = draw(st.sampled_from([True, False, None]))
    first_tick = draw(st.sampled_from([0, 5, 10**9, 10**15]))
    found = []
    for number in range(draw(st.integers(1, 3))):
        steps = draw(st.integers(1, 9))
        episode = make_episode(steps, seed=draw(st.integers(0, 99)), images=images, success=success, **changes)
        rng = np.random.default_rng(number)
        extra: dict[str, Any] = {"gripper_position": rng.random((steps + 1, 1)).astype(np.float32)}
        extra["tool_position"] = rng.random((steps + 1, 3)).astype(np.float64 if double else np.float32)
        extra["tool_quaternion"] = rng.random((steps + 1, 4)).astype(np.float32)
        extra["other_torque"] = rng.random((steps + 1, 2)).astype(np.float32)
        ticks = first_tick + np.cumsum(rng.integers(40_000_000, 60_000_000, steps)).astype(np.int64)
        found.append(
            dataclasses.replace(
                episode,
                observations={**episode.observations, **{key: values[:-1] for key, values in extra.items()}},
                final_observation={**episode.final_observation, **{key: values[-1] for key, values in extra.items()}},
                tick_ns=ticks,
                states=rng.random((steps, 3)) if states else np.zeros((0, 0)),
                streams={"joint_position": Stream(ticks, rng.random((steps, 2)))} if streams else {},
                intervention=rng.random(steps) < 0.5 if takeovers else np.zeros(0, bool),
            )
        )
    return found


def assert_same(ours: Episode, back: Episode, *, besides: tuple[str, ...] = (), age_atol_s: float = 0.0) -> None:
    """Both hold the same, but for where they say they come from and the fields named in `besides`."""
    if "info" not in besides:
        assert dataclasses.replace(back.info, provenance=ours.info.provenance) == ours.info
    for name in ("requested", "sent", "measured", "rewards", "tick_ns"):
        if name not in besides:
            assert np.array_equal(getattr(back, name), getattr(ours, name)), name
    if "states" not in besides and ours.states.size + back.states.size:  # no states are (N, 0) once they were on disk
        assert np.array_equal(back.states, ours.states)
    if "intervention" not in besides:
        assert np.array_equal(back.intervention, ours.intervention)
    for name in ("observations", "final_observation"):
        mine, theirs = getattr(ours, name), getattr(back, name)
        assert set(theirs) == set(mine)
        for key, values in mine.items():
            if key not in besides:
                assert theirs[key].dtype == values.dtype, key
                assert np.array_equal(theirs[key], values), key
    assert set(back.ages_s) == set(ours.ages_s) or "ages_s" in besides
    for key, ages in ours.ages_s.items():
        assert np.allclose(back.ages_s[key], ages, rtol=0, atol=age_atol_s), key
    if "streams" not in besides:
        assert set(back.streams) == set(ours.streams)
        for key, stream in ours.streams.items():
            assert np.array_equal(back.streams[key].stamps_ns, stream.stamps_ns)
            assert np.array_equal(back.streams[key].values, stream.values)
