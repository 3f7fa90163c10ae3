"""Stamps, images and numbers from messages; nothing here needs a graph."""

from __future__ import annotations

import array
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("rclpy")

from hypothesis import given
from hypothesis import strategies as st

from understudy.envs.arms.ros_common import (
    PROFILES,
    PROFILES_VARIABLES,
    Receipt,
    array_to_image,
    finite_array,
    image_to_array,
    require_domain,
    time_ns,
    to_time,
    use_shipped_profiles,
)
from understudy.errors import InputError

pytestmark = pytest.mark.ros

NOW = Receipt(monotonic_ns=5_000_000_000, wall_ns=1_800_000_000_000_000_000)


@pytest.mark.parametrize(
    ("wall_age_ns", "monotonic_age_ns"),
    [(0, 0), (3_000_000, 3_000_000), (-2_000_000, 0), (60_000_000_000, 60_000_000_000)],
    ids=["now", "3 ms ago", "from the future", "latched a minute ago"],
)
def test_a_stamp_keeps_its_age_on_the_monotonic_clock(wall_age_ns: int, monotonic_age_ns: int):
    assert NOW.stamp_ns(NOW.wall_ns - wall_age_ns) == NOW.monotonic_ns - monotonic_age_ns


def test_an_unset_stamp_is_the_time_of_receipt():
    assert NOW.stamp_ns(0) == NOW.monotonic_ns


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_times_survive_the_message(stamp_ns: int):
    assert time_ns(to_time(stamp_ns)) == stamp_ns


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_images_survive_the_message(height: int, width: int, seed: int):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    message = array_to_image(pixels, 12, "camera")
    assert (message.encoding, message.step, len(message.data)) == ("rgb8", 3 * width, 3 * width * height)
    read = image_to_array(message)
    assert np.array_equal(read, pixels)
    read[:] = 0  # what was read is not the message's own memory
    assert np.array_equal(image_to_array(message), pixels)


@pytest.mark.parametrize(
    ("encoding", "order"), [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("rgba8", [0, 1, 2, 3]), ("bgra8", [2, 1, 0, 3])]
)
@pytest.mark.parametrize("padding", [0, 5])
def test_encodings_and_padded_rows_are_honoured(encoding: str, order: list[int], padding: int):
    pixels = np.random.default_rng(1).integers(0, 256, (4, 6, 4), np.uint8)
    rows = np.concatenate([pixels[:, :, order].reshape(4, -1), np.full((4, padding), 77, np.uint8)], axis=1)
    message = array_to_image(np.zeros((4, 6, 3), np.uint8), 0, "")
    message.encoding, message.step = encoding, rows.shape[1]
    message.data = array.array("B", rows.tobytes())
    assert np.array_equal(image_to_array(message), pixels[:, :, :3])


def test_images_that_cannot_be_read_are_refused():
    message = array_to_image(np.zeros((4, 6, 3), np.uint8), 0, "")
    message.encoding = "16UC1"
    with pytest.raises(InputError, match="encoding is '16UC1'; expected one of rgb8"):
        image_to_array(message)
    message.encoding, message.height = "rgb8", 5
    with pytest.raises(InputError, match="72 bytes in rows of 18; 5 rows of 6 rgb8"):
        image_to_array(message)


@pytest.mark.parametrize(("values", "why"), [([1.0], "1 values; expected 2"), ([1.0, np.nan], "not finite")])
def test_numbers_are_checked(values: list[float], why: str):
    with pytest.raises(InputError, match=f"command has.*{why}"):
        finite_array(values, 2, "command")


@pytest.mark.parametrize("theirs", PROFILES_VARIABLES)
def test_the_shipped_profile_is_used_unless_the_user_has_one(theirs: str, monkeypatch: pytest.MonkeyPatch):
    for name in PROFILES_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(theirs, "mine.xml")
    use_shipped_profiles()
    assert [os.environ.get(name) for name in PROFILES_VARIABLES if name != theirs] == [None]
    monkeypatch.delenv(theirs)
    use_shipped_profiles()
    assert {os.environ[name] for name in PROFILES_VARIABLES} == {str(PROFILES)}
    for name in PROFILES_VARIABLES:
        monkeypatch.delenv(name)


def test_fast_dds_takes_the_shipped_profile():
    """Under the wrong variable, or with a mistake in it, it would be left aside: of 120 images 21 came then."""
    program = (
        "from pathlib import Path\n"
        "from understudy.envs.arms.ros_common import Graph\n"
        "before = set(Path('/dev/shm').iterdir())\n"
        "graph = Graph('probe')\n"
        "print(max(path.stat().st_size for path in set(Path('/dev/shm').iterdir()) - before))\n"
        "graph.close()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in PROFILES_VARIABLES}
    environment |= {"ROS_DOMAIN_ID": "58", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert int(finished.stdout) >= 16 * 2**20
    assert "Error" not in finished.stderr


def test_a_program_that_forgets_to_leave_the_graph_still_ends_well():
    """An interpreter that ended under the spinning thread aborted: "terminate called without an active exception"."""
    program = "from understudy.envs.arms.ros_common import Graph\ngraph = Graph('forgetful')\ngraph.start()\n"
    environment = {**os.environ, "ROS_DOMAIN_ID": "58", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize("domain", ["foo", "9999", "-1", "1.5", "٣"])
def test_a_domain_that_the_middleware_would_crash_on_is_refused(domain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    with pytest.raises(InputError, match=f"ROS_DOMAIN_ID must be a whole number from 0 to 232, got '{domain}'"):
        require_domain()


@pytest.mark.parametrize("domain", ["", "0", "232"])
def test_a_usable_domain_is_taken(domain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    require_domain()
