"""Joint states read from bytes are what rclpy reads; what is none is refused."""

from __future__ import annotations

import contextlib

import pytest

pytest.importorskip("rclpy")

from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState

from understudy.envs.arms.joint_bytes import JointStateBytes
from understudy.errors import InputError

pytestmark = pytest.mark.ros

names = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12), max_size=12)
numbers = st.lists(st.floats(allow_nan=False), max_size=12)


def message(frame: str, name: list[str], columns: tuple, seconds: int, nanoseconds: int) -> JointState:
    made = JointState(name=name, position=columns[0], velocity=columns[1], effort=columns[2])
    made.header.frame_id = frame
    made.header.stamp.sec, made.header.stamp.nanosec = seconds, nanoseconds
    return made


messages = st.builds(
    message,
    st.sampled_from(["", "base", "base_link"]),
    names,
    st.tuples(numbers, numbers, numbers),
    st.integers(0, 2**31 - 1),
    st.integers(0, 10**9 - 1),
)


@given(st.lists(messages, min_size=1, max_size=5))
def test_what_is_read_is_what_was_written(said: list[JointState]):
    reader = JointStateBytes()
    for wanted in [said[0], *said, *said]:  # names that stay and names that change
        read = reader.read(serialize_message(wanted))
        assert read.name == list(wanted.name)
        for field in ("position", "velocity", "effort"):
            assert getattr(read, field) == list(getattr(wanted, field))
        assert read.stamp_ns == wanted.header.stamp.sec * 10**9 + wanted.header.stamp.nanosec


@given(messages, st.data())
def test_a_cut_message_is_refused_and_the_next_is_read(wanted: JointState, data: st.DataObject):
    reader, whole = JointStateBytes(), serialize_message(wanted)
    reader.read(whole)
    cut = data.draw(st.integers(0, len(whole) - 8))  # more than the padding at its end
    with pytest.raises(InputError, match="no joint state"):
        reader.read(whole[:cut])
    assert reader.read(whole).position == list(wanted.position)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes):
    with contextlib.suppress(InputError):  # and nothing else
        assert len(JointStateBytes().read(b"\x00\x01\x00\x00" + data).name) < 200
