"""The take in memory is what was added, however long it is."""

from __future__ import annotations

import numpy as np
import pytest
from datasets_builders import make_episode

from understudy.capture.recorder import Motion
from understudy.capture.take_memory import PACKED, TakeMemory
from understudy.datasets.align import Aligned


@pytest.mark.parametrize("steps", [1, PACKED - 1, PACKED, 2 * PACKED + 3])
def test_a_take_is_what_was_added(steps: int) -> None:
    source = make_episode(steps)

    def seen(row: int) -> Aligned:
        values = {key: (rows[row] if row < steps else source.final_observation[key]) for key, rows in rows_of.items()}
        ages = {key: float(source.ages_s[key][min(row, steps - 1)]) for key in rows_of}
        return Aligned(int(source.tick_ns[0]) + 50_000_000 * row, values, ages)

    rows_of = source.observations
    memory = TakeMemory(seen(0))
    assert memory.episode(source.info) is None
    for row in range(steps):
        motion = Motion(source.requested[row], source.sent[row], source.measured[row])
        memory.add(seen(row), motion, float(source.rewards[row]), seen(row + 1))
    take = memory.episode(source.info)
    assert take is not None
    assert np.array_equal(take.tick_ns, source.tick_ns)
    for key, values in source.observations.items():
        assert np.array_equal(take.observations[key], values)
        assert np.array_equal(take.final_observation[key], source.final_observation[key])
        assert np.allclose(take.ages_s[key], source.ages_s[key])
    for name in ("requested", "sent", "measured", "rewards"):
        assert np.array_equal(getattr(take, name), getattr(source, name)), name
